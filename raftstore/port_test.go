package raftstore

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"
)

// stuck is a connection that says nothing, from an address.
type stuck struct {
	net.Conn
	from   string
	closed bool
}

func (s *stuck) RemoteAddr() net.Addr { return nodeAddr(s.from) }
func (s *stuck) Close() error         { s.closed = true; return nil }

// Who says nothing takes the places of nobody but those like him: of his address first, then of other strangers;
// members have their own.
func TestPlaces(t *testing.T) {
	gaveWay := 0
	o := &Options{Shards: 2, Nodes: []Peer{{"a", "10.0.0.1:1"}, {"b", "[::ffff:10.0.0.2]:1"}, {"c", "c.example:1"}}}
	p := newPlaces(o, func() { gaveWay++ })
	enter := func(n int, from string) (list []*stuck, at []*place) {
		for i := range n {
			s := &stuck{from: fmt.Sprintf(from, i)}
			list, at = append(list, s), append(at, p.enter(s))
		}
		return list, at
	}
	closed := func(list []*stuck) (n int) {
		for _, s := range list {
			if s.closed {
				n++
			}
		}
		return n
	}
	members, places := enter(memberPlaces+2*peerPlacesPerShard, "10.0.0.2:%d")
	one, _ := enter(100, "192.0.2.1:%d")
	if n := closed(one); n != 100-placesPerAddress || !one[0].closed || one[99].closed {
		t.Errorf("of one address %d gave way", n)
	}
	other, _ := enter(1000, "[2001:db8::%x]:1")
	if closed(one) != 100 || closed(other) != 1000-strangerPlaces || closed(members) != 0 {
		t.Errorf("gave way: %d of one address, %d others, %d members", closed(one), closed(other), closed(members))
	}
	if gaveWay != closed(one)+closed(other) {
		t.Errorf("%d are counted", gaveWay)
	}
	// Behind the handshake a peer has its own.
	for _, at := range places {
		if !p.known(at, "b") {
			t.Error("it gave way")
		}
	}
	if n := closed(members); n != len(members)-(peerPlaces+2*peerPlacesPerShard) || !members[0].closed {
		t.Errorf("%d of a peer's gave way", n)
	}
	if p.known(places[0], "b") {
		t.Error("a place is had by one that gave way")
	}
	// An address at which a member has shown itself is a member's.
	p.proven(nodeAddr("192.0.2.9:77"))
	late, _ := enter(placesPerAddress+1, "192.0.2.9:%d")
	enter(1000, "[2001:db8:1::%x]:1")
	if n := closed(late); n != 0 {
		t.Errorf("%d of a proven address gave way", n)
	}
	for i := range 1000 {
		p.proven(nodeAddr(fmt.Sprintf("[2001:db8:2::%x]:1", i)))
	}
	if len(p.members) != keptAddresses {
		t.Errorf("%d addresses are kept", len(p.members))
	}
	back, _ := enter(1, "10.0.0.1:%d")
	enter(1000, "[2001:db8:3::%x]:1")
	if back[0].closed {
		t.Error("a configured address is forgotten")
	}
}

// Strangers who connect and say nothing do not keep a member from coming back.
func TestSilentStrangers(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.secure(newAuthority(t))
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.stop(2)
	for i := range 200 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", c.peers[i%2].Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	c.start(2)
	c.ready(2)
	c.put(0, 10)
	c.agree(0, c.all()...)
	c.eventually("they are counted", func() bool { return c.counted(0, "refused", whyTooMany) > 0 })
}

// Who speaks no TLS may be a node without it, and is told from who speaks it falsely.
func TestPlainIsNotFalse(t *testing.T) {
	o := &Options{Name: "a", Nodes: []Peer{{"a", "x:1"}, {"b", "x:2"}, {"c", "x:3"}}, Shards: 1,
		Security: newAuthority(t).names(t, "a", "deckle://test/node/a", time.Hour), Timings: patient,
		Logger: slog.New(slog.DiscardHandler)}
	n := newNetwork(o)
	defer n.close()
	ours, theirs := net.Pipe()
	hello := make([]byte, 1<<14)
	go func() {
		_ = tls.Client(theirs, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context())
	}()
	k, err := ours.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	hello = hello[:k]
	_ = ours.Close()
	for _, row := range []struct {
		name string
		says []byte
		why  string
	}{
		{"a header", header{kindControl, 0, "a"}.append(nil), whyPlain},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), whyPlain},
		{"a beginning, twice", append(bytes.Clone(hello), hello...), whyHandshake},
		{"a beginning, and another version", append(bytes.Clone(hello), 22, 3, 0, 0, 1, 0), whyHandshake},
	} {
		var said string
		n.refused = func(why, _ string, _ error) { said = why }
		ours, theirs := net.Pipe()
		go func() {
			_, _ = ours.Write(row.says)
		}()
		go func() {
			_, _ = io.Copy(io.Discard, ours)
		}()
		n.greet(n.track(theirs, true), func(header, string, net.Conn) (byte, func()) { return answerNotMe, nil })
		_ = ours.Close()
		if said != row.why {
			t.Errorf("%s: %q, want %q", row.name, said, row.why)
		}
	}
}

// FuzzPort sends anything to the port: without a certificate, or behind the handshake of a member. It is closed or
// answered within the timeout; nothing gets through without a certificate, and nothing under another node's name.
func FuzzPort(f *testing.F) {
	h := header{kindRaft, 3, "a-0123456789abcdef"}.append(nil)
	for _, member := range []bool{false, true} {
		f.Add(member, h)
		f.Add(member, append(header{kindControl, 0, "a"}.append(nil), 0, 0, 0, 2, '{', '}'))
		f.Add(member, h[:9])
		f.Add(member, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		f.Add(member, []byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0})
		f.Add(member, []byte{0x16, 3, 1, 0x40, 0})
		f.Add(member, []byte{})
	}
	a := newAuthority(f)
	o := &Options{
		Name: "a", Nodes: []Peer{{"a", "x:1"}, {"b", "x:2"}, {"c", "x:3"}}, Shards: 1,
		Security: a.names(f, "a", "deckle://test/node/a", time.Hour), Logger: slog.New(slog.DiscardHandler),
		Timings: Timings{Transport: 10 * time.Second},
	}
	o.Timings.complete()
	client := a.names(f, "b", "deckle://test/node/b", time.Hour).Client("a")
	n := newNetwork(o)
	f.Cleanup(n.close)
	f.Fuzz(func(t *testing.T, member bool, b []byte) {
		ours, theirs := net.Pipe()
		in := n.track(theirs, true)
		var got []header
		met := make(chan struct{})
		go func() {
			defer close(met)
			n.greet(in, func(h header, peer string, c net.Conn) (byte, func()) {
				if peer != "b" {
					t.Errorf("%q comes from %q", b, peer)
				}
				got = append(got, h)
				return answerOK, func() { _ = c.Close() }
			})
		}()
		_ = ours.SetDeadline(time.Now().Add(10 * time.Second))
		c := ours
		if member {
			tc := tls.Client(ours, client)
			if err := tc.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			c = tc
		}
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			_, _ = c.Write(b)
			_ = ours.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		}()
		_, _ = io.Copy(io.Discard, c)
		_ = ours.Close()
		<-wrote
		<-met
		want, err := readHeader(bytes.NewReader(b))
		if through := member && err == nil; through != (len(got) == 1) || through && got[0] != want {
			t.Fatalf("%q, of a member: %v: %+v has come through, it is %+v, %v", b, member, got, want, err)
		}
	})
}
