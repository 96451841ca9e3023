package front

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// queue is a listener whose connections a test makes up, each with an address of its own.
type queue chan net.Conn

func (q queue) Accept() (net.Conn, error) {
	c, ok := <-q
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (q queue) Close() error   { return nil }
func (q queue) Addr() net.Addr { return nil }

type from struct {
	net.Conn
	addr   string
	closed chan struct{}
}

func (f *from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }
func (f *from) Close() error         { close(f.closed); return nil }

// Strangers hold a bounded number of descriptors, and one stranger a part of them: what is beyond is closed, and the
// next one is taken. Without that, idle connections alone end a node.
func TestLimit(t *testing.T) {
	q := make(queue, 100)
	var mu sync.Mutex
	var refused []string
	l := Limit(q, Limits{Connections: 5, PerAddress: 2,
		Whole: func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.9") },
		Refused: func(why string) {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, why)
		}})
	var conns []*from
	send := func(addr string) {
		c := &from{addr: addr, closed: make(chan struct{})}
		conns = append(conns, c)
		q <- c
	}
	// Two of one address, a third is refused. An IPv6 client is its network. A proxy may have all that are left.
	for _, a := range []string{"10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "[2001:db8::1]:1", "[2001:db8::2]:1",
		"[2001:db8::3]:1", "10.0.0.9:1", "10.0.0.9:2"} {
		send(a)
	}
	var taken []net.Conn
	for range 5 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, c)
	}
	if l.Open() != 5 || taken[4].RemoteAddr().String() != "10.0.0.9:1" {
		t.Fatalf("%d open, the last is %v", l.Open(), taken[4].RemoteAddr())
	}
	next := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		next <- c
	}()
	<-conns[7].closed // the second of the proxy: nobody may have more than all
	_ = taken[0].Close()
	_ = taken[1].Close()
	send("10.0.0.9:3")
	if c := <-next; c.RemoteAddr().String() != "10.0.0.9:3" || l.Open() != 4 {
		t.Errorf("%v, %d open", c.RemoteAddr(), l.Open())
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(refused, " "); got != "address_connections address_connections connections" {
		t.Errorf("refused for %s", got)
	}
	for i, c := range conns {
		open := true
		select {
		case <-c.closed:
			open = false
		case <-time.After(time.Millisecond):
		}
		if want := i == 3 || i == 4 || i == 6 || i == 8; open != want {
			t.Errorf("connection %d of %s: open %v", i, c.addr, open)
		}
	}
	close(q)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// net/http closes some connections twice. A limit that counted both would let ever more in.
func TestClosedTwice(t *testing.T) {
	q := make(queue, 2)
	l := Limit(q, Limits{Connections: 1})
	a, b := net.Pipe()
	defer b.Close()
	q <- a
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	_ = c.Close()
	if l.Open() != 0 {
		t.Errorf("%d open", l.Open())
	}
}

func TestClient(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1", "[::ffff:10.0.0.1]:80": "10.0.0.1", "[fe80::1%eth0]:80": "fe80::",
		"[2001:db8:1:2:3::4]:80": "2001:db8:1:2::", "nonsense": "invalid IP", "": "invalid IP",
	} {
		if got := Client(AddressOf(in)).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
