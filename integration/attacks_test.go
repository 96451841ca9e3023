package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"deckle/integration/services"
	"deckle/trust/pki"
)

// stranger is where attacks come from: an address of this machine that is none of the nodes'.
var stranger = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}

// endsWithin is how long a node may keep a connection that gets nowhere: its transport timeout (1.5 s), and what a busy
// machine needs.
const endsWithin = 10 * time.Second

// attack is somebody at a node's Raft port.
type attack struct {
	name string
	cert *tls.Certificate // nil: none
	tune func(*tls.Config)
	tls  bool
	says []byte // what is said behind the handshake, or without one
	why  string // of deckle_raft_connections_refused_total; "": the connection just ends
}

// attackPorts does to the nodes' Raft ports whatever somebody can do who reaches them, with every certificate but the
// right one. None is answered, each ends in time and is counted. Whether it has changed anything, the comparison with
// the truth says at the end of the test.
func attackPorts(t *testing.T, ctx context.Context, cl *services.Cluster) {
	now := time.Now()
	ours, err := authority(filepath.Join(filepath.Dir(filepath.Dir(cl.Nodes[0].Config)), "pki"))
	must(t, err)
	theirs, err := pki.NewCA(ours.Cluster(), now, 10)
	must(t, err)
	pair := func(cert, key []byte, err error) *tls.Certificate {
		must(t, err)
		c, err := tls.X509KeyPair(cert, key)
		must(t, err)
		return &c
	}
	node := func(ca *pki.CA, cluster, name string, since time.Time) *tls.Certificate {
		return pair(ca.Node(cluster, name, []string{"127.0.0.1"}, since, 1))
	}
	name := ours.Cluster()
	to, other, third := cl.Nodes[0], cl.Nodes[1], cl.Nodes[2]
	hello := say(to.Name, other.Name)
	server := to.Name + "-0123456789abcdef"
	raft := append([]byte("DKL1\x01\x00\x00\x00\x00"), append([]byte{byte(len(server))}, server...)...)
	var began []byte // of a connection with TLS
	record(func(c net.Conn) { _ = tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) }, &began)
	if len(began) < 100 {
		t.Fatalf("a handshake begins with %d bytes", len(began))
	}
	old := func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }
	for _, a := range []attack{
		{name: "hello without TLS", says: hello, why: "plain"},
		{name: "Raft without TLS", says: raft, why: "plain"},
		{name: "HTTP", says: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), why: "plain"},
		{name: "zeros", says: make([]byte, 1000), why: "plain"},
		{name: "silence"},
		{name: "a handshake that is not whole", says: began[:len(began)/2]},
		{name: "a handshake that is broken", says: append(bytes.Clone(began[:60]), make([]byte, len(began)-60)...),
			why: "handshake"},
		{name: "a beginning of a handshake, twice", says: append(bytes.Clone(began), began...), why: "handshake"},
		{name: "no certificate", tls: true, says: hello, why: "handshake"},
		{name: "another CA of the same name", tls: true, cert: node(theirs, name, other.Name, now), says: hello,
			why: "handshake"},
		{name: "expired", tls: true, cert: node(ours, name, other.Name, now.AddDate(0, 0, -2)), says: hello,
			why: "handshake"},
		{name: "not valid yet", tls: true, cert: node(ours, name, other.Name, now.Add(time.Hour)), says: hello,
			why: "handshake"},
		{name: "TLS 1.2", tls: true, cert: node(ours, name, other.Name, now), tune: old, says: hello, why: "handshake"},
		{name: "a client of the CA", tls: true, cert: pair(ours.Client(name, other.Name, now, 1)), says: hello,
			why: "no_node"},
		{name: "another cluster", tls: true, cert: node(ours, "staging", other.Name, now), says: hello,
			why: "other_cluster"},
		{name: "a node that is not configured", tls: true, cert: node(ours, name, "node-4", now), says: hello,
			why: "no_node"},
		{name: "its own name", tls: true, cert: node(ours, name, to.Name, now), says: hello, why: "own_name"},
	} {
		had := counted(t, ctx, to, "deckle_raft_connections_refused_total", a.why)
		answer, err := a.make(ctx, to)
		if len(answer) > 0 || err != nil {
			t.Errorf("%s: answered %q, %v", a.name, answer, err)
		}
		if a.why == "" {
			continue
		}
		if n := counted(t, ctx, to, "deckle_raft_connections_refused_total", a.why); n <= had {
			t.Errorf("%s: is not counted as %s: %v before, %v after", a.name, a.why, had, n)
		}
	}

	// Another node's certificate is that node's: it is heard, in its own name alone.
	a := attack{tls: true, cert: node(ours, name, third.Name, now), says: hello}
	had := counted(t, ctx, to, "deckle_raft_requests_refused_total", "sender")
	if answer, err := a.make(ctx, to); err != nil || !strings.Contains(string(answer), "(sender)") {
		t.Errorf("%s as %s: %q, %v", third.Name, other.Name, answer, err)
	}
	if n := counted(t, ctx, to, "deckle_raft_requests_refused_total", "sender"); n <= had {
		t.Errorf("%s as %s is not counted", third.Name, other.Name)
	}
	a.says = say(to.Name, third.Name)
	if answer, err := a.make(ctx, to); err != nil || !strings.Contains(string(answer), `"ServerID":"`+to.Name) {
		t.Errorf("%s as itself: %q, %v: nothing here is proven", third.Name, answer, err)
	}
}

// slowStrangers hold connections to every node that say nothing, or one byte of a handshake from time to time, until
// ctx ends. They come again when they are closed.
func slowStrangers(ctx context.Context, cl *services.Cluster) {
	const each = 100
	var began []byte
	record(func(c net.Conn) { _ = tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) }, &began)
	for _, n := range cl.Nodes {
		for i := range each {
			go func() {
				from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i))} // each from an address of its own
				for ctx.Err() == nil {
					c, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, "tcp", n.Raft)
					for b := 0; err == nil && ctx.Err() == nil; b++ {
						if i%2 == 0 && b < len(began) {
							_, _ = c.Write(began[b : b+1])
						}
						_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
						if _, err = c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
							err = nil
						}
					}
					if c != nil {
						_ = c.Close()
					}
					select { // it was closed, or refused by a node that is down
					case <-time.After(time.Second):
					case <-ctx.Done():
					}
				}
			}()
		}
	}
}

// make makes the attack and returns what a node has answered. It is an error if the node has not ended the connection
// in time.
func (a *attack) make(ctx context.Context, to *services.Node) (answer []byte, err error) {
	c, err := (&net.Dialer{LocalAddr: stranger}).DialContext(ctx, "tcp", to.Raft)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(endsWithin))
	if a.tls {
		conf := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
		if a.cert != nil { // whatever CAs the node names
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return a.cert, nil
			}
		}
		if a.tune != nil {
			a.tune(conf)
		}
		c = tls.Client(c, conf)
	}
	_, _ = c.Write(a.says) // a node may have ended it before
	b := make([]byte, 1<<16)
	for {
		n, err := c.Read(b)
		answer = append(answer, b[:n]...)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return answer, fmt.Errorf("the connection is still there after %s", endsWithin)
		case err != nil && !a.tls && len(answer) > 0 && (answer[0] == 0x15 || answer[0] == 0x16):
			return nil, nil // a handshake or an alert of TLS, which says nothing
		case err != nil:
			return answer, nil
		}
	}
}

// say is a control request in a node's name to another, as raftstore/wire.go has it.
func say(to, from string) []byte {
	b := append([]byte("DKL1\x02\x00\x00\x00\x00"), byte(len(to)))
	b = append(b, to...)
	body := fmt.Appendf(nil, `{"Op":"hello","From":"%s-"}`, from)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
}

// record runs somebody who speaks first, and keeps the first bytes.
func record(speak func(net.Conn), first *[]byte) {
	ours, theirs := net.Pipe()
	go func() {
		b := make([]byte, 1<<14)
		n, _ := ours.Read(b)
		*first = b[:n]
		_ = ours.Close()
	}()
	speak(theirs)
}

// authority reads the CA in a folder.
func authority(dir string) (*pki.CA, error) {
	bundle, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, "ca-key.pem"))
	if err != nil {
		return nil, err
	}
	return pki.ReadCA(bundle, key)
}

// counted returns the sum of a node's metric over all labels but why.
func counted(t *testing.T, ctx context.Context, n *services.Node, metric, why string) (sum float64) {
	t.Helper()
	text, err := n.Read(ctx, "/metrics")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(name, metric+"{") && strings.Contains(name, fmt.Sprintf("why=%q", why)) {
			v, err := strconv.ParseFloat(value, 64)
			must(t, err)
			sum += v
		}
	}
	return sum
}
