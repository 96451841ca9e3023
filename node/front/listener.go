package front

import (
	"net"
	"net/netip"
	"sync"
)

// Limits bound the connections of a listener.
type Limits struct {
	Connections int // of everybody together
	PerAddress  int // of one client (see Client); 0: as many as of everybody
	// Whole, if set, says of which addresses all connections may come: those of proxies.
	Whole func(netip.Addr) bool
	// Refused, if set, is told of each connection that is closed for a limit: "connections" or "address_connections".
	Refused func(why string)
}

// Limit returns ln with limits: Accept closes what is beyond them, and goes on to the next connection.
func Limit(ln net.Listener, l Limits) *Listener {
	if l.PerAddress <= 0 {
		l.PerAddress = l.Connections
	}
	return &Listener{Listener: ln, limits: l, of: map[netip.Addr]int{}}
}

// Listener is a net.Listener with limits.
type Listener struct {
	net.Listener
	limits Limits

	mu   sync.Mutex
	open int
	of   map[netip.Addr]int // open connections by client
}

// Open returns how many connections are open.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := AddressOf(c.RemoteAddr().String())
		client := Client(addr)
		why := l.take(addr, client)
		if why == "" {
			return &conn{Conn: c, free: sync.OnceFunc(func() { l.free(client) })}, nil
		}
		_ = c.Close()
		if l.limits.Refused != nil {
			l.limits.Refused(why)
		}
	}
}

// take counts a connection, or says which limit it is beyond.
func (l *Listener) take(addr, client netip.Addr) (why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.limits.Connections:
		return "connections"
	case l.of[client] >= l.limits.PerAddress && (l.limits.Whole == nil || !l.limits.Whole(addr)):
		return "address_connections"
	}
	l.open++
	l.of[client]++
	return ""
}

func (l *Listener) free(client netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.of[client]--; l.of[client] <= 0 {
		delete(l.of, client)
	}
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	free func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.free()
	return err
}

// AddressOf returns the address of "host:port", without a zone and IPv4 as IPv4; the zero Addr if there is none.
func AddressOf(hostport string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// Client returns what counts as one client: an IPv4 address, or the first 64 bits of an IPv6 address, since whoever has
// one address there has them all.
func Client(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
