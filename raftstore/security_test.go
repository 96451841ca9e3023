package raftstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// named is a Security whose certificates name nodes by a URI, as package trust/pki has them.
type named struct {
	self string

	mu      sync.Mutex
	cert    tls.Certificate
	pool    *x509.CertPool
	changed []func()
}

func (s *named) config() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: s.pool, ClientCAs: s.pool, ClientAuth: tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled: true,
	}
	if s.cert.Certificate != nil {
		c.Certificates = []tls.Certificate{s.cert}
	}
	return c
}

func (s *named) Server() *tls.Config { return s.config() }

func (s *named) Client(string) *tls.Config {
	c := s.config()
	c.InsecureSkipVerify = true // the node is demanded, and not the host
	c.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := s.verify(state, x509.ExtKeyUsageServerAuth)
		return err
	}
	return c
}

func (s *named) verify(state tls.ConnectionState, use x509.ExtKeyUsage) (until time.Time, err error) {
	s.mu.Lock()
	pool := s.pool
	s.mu.Unlock()
	chains, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{use}})
	if err != nil {
		return until, err
	}
	until = chains[0][0].NotAfter
	for _, c := range chains[0] {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return until, nil
}

func (s *named) Verify(state tls.ConnectionState) (time.Time, error) {
	return s.verify(state, x509.ExtKeyUsageAny)
}

func (s *named) Peer(state tls.ConnectionState) (node, why, text string) {
	uris := state.PeerCertificates[0].URIs
	if len(uris) != 1 {
		return "", "no_name", fmt.Sprint(uris)
	}
	text = uris[0].String()
	node, ok := strings.CutPrefix(text, "deckle://test/node/")
	switch {
	case uris[0].Host != "test":
		return "", "other_cluster", text
	case !ok || len(node) != 1 || node > "c":
		return "", "no_node", text
	case node == s.self:
		return "", "own_name", text
	}
	return node, "", ""
}

func (s *named) Changed(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = append(s.changed, f)
}

// trust puts other CAs into use.
func (s *named) trust(pool *x509.CertPool) {
	s.mu.Lock()
	s.pool = pool
	tell := s.changed
	s.mu.Unlock()
	for _, f := range tell {
		f()
	}
}

func pools(as ...*authority) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, a := range as {
		pool.AddCert(a.cert)
	}
	return pool
}

// names returns the Security of a node that has a certificate of a and trusts a. The certificate ends after a while and
// has a URI, or none.
func (a *authority) names(t testing.TB, self, uri string, lasts time.Duration) *named {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "a"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		tmpl.URIs = []*url.URL{u}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &named{self: self, pool: a.pool, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
}

// secure gives every node of a cluster a certificate of its own, and returns them.
func (c *cluster) secure(a *authority) []*named {
	var all []*named
	for _, p := range c.peers {
		all = append(all, a.names(c.t, p.Name, "deckle://test/node/"+p.Name, time.Hour))
	}
	tune := c.tune
	c.tune = func(i int, o *Options) {
		if tune != nil {
			tune(i, o)
		}
		o.Security = all[i]
	}
	return all
}

func (c *cluster) counted(i int, of string, why string) float64 {
	met := c.nodes[i].store.met
	vec := met.conns
	if of == "ended" {
		vec = met.ended
	}
	var m dto.Metric
	if err := vec.WithLabelValues(why).Write(&m); err != nil {
		c.t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// with gives a wire a certificate.
func (w *wire) with(s Security) *wire {
	w.net.sec = s
	return w
}

// With certificates a stranger needs a node's own to say anything, and then says it as that node: its certificate alone
// decides who it is.
func TestStrangersWithCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	c := newCluster(t, 3, 1, calm)
	c.secure(ours)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.agree(0, c.all()...)
	before := c.nodes[0].store.Status().Groups[0].Term
	to := c.leader(0)
	other := (to + 1) % 3
	self := c.peers[to].Name
	member := as(string(c.nodes[other].store.self.serverID()), c.peers[other].Addr)
	uri := func(node string) string { return "deckle://test/node/" + node }
	foreign := theirs.names(t, "x", uri(c.peers[other].Name), time.Hour)
	foreign.pool = ours.pool // it would talk to us
	for _, s := range []struct {
		name string
		sec  Security
		why  string
	}{
		{"no TLS", nil, whyPlain},
		{"no certificate", &named{self: "x", pool: ours.pool}, whyHandshake},
		{"another CA's", foreign, whyHandshake},
		{"one that has ended", ours.names(t, "x", uri(c.peers[other].Name), -time.Minute), whyHandshake},
		{"one without a name", ours.names(t, "x", "", time.Hour), "no_name"},
		{"a client's of the CA", ours.names(t, "x", "deckle://test/client/prometheus", time.Hour), "no_node"},
		{"another cluster's", ours.names(t, "x", "deckle://prod/node/"+c.peers[other].Name, time.Hour),
			"other_cluster"},
		{"a node's that is not configured", ours.names(t, "x", uri("d"), time.Hour), "no_node"},
		{"its own", ours.names(t, "x", uri(self), time.Hour), "own_name"},
	} {
		had := c.counted(to, "refused", s.why)
		for _, f := range forgeries {
			w := c.wireTo(to).with(s.sec)
			if err := f.send(w, member, before+jump, c.end(to)); err == nil {
				t.Errorf("%s with %s certificate is taken", f.name, s.name)
			}
			w.close()
		}
		if _, err := c.wireTo(to).with(s.sec).ask(self, &request{Op: opHello, From: string(member.ID)}); err == nil {
			t.Errorf("a control request with %s certificate is answered", s.name)
		}
		c.eventually(fmt.Sprintf("%s: connections are counted as %s", s.name, s.why), func() bool {
			return c.counted(to, "refused", s.why)-had >= float64(len(forgeries)+1)
		})
	}
	// A node's own certificate, in another's name.
	third := ours.names(t, "x", uri(c.peers[(to+2)%3].Name), time.Hour)
	for _, f := range forgeries {
		err := f.send(c.wireTo(to).with(third), member, before+jump, c.end(to))
		if err == nil || !strings.Contains(err.Error(), "("+whySender+")") {
			t.Errorf("%s with another node's certificate: %v", f.name, err)
		}
	}
	_, err := c.wireTo(to).with(third).ask(self, &request{Op: opHello, From: string(member.ID)})
	if err == nil || !strings.Contains(err.Error(), "("+whySender+")") {
		t.Errorf("hello with another node's certificate: %v", err)
	}
	if got := c.refusals(to, "0", whySender); got != float64(len(forgeries)) {
		t.Errorf("%v requests are counted", got)
	}
	// The status names who did it.
	told := c.nodes[to].store.Status().Refused
	if s := fmt.Sprint(told); !strings.Contains(s, "127.0.0.1") || !strings.Contains(s, c.peers[(to+2)%3].Name) {
		t.Errorf("told of: %s", s)
	}
	c.unharmed(before, 1)
	// With the right one in the right name it is a member.
	right := c.wireTo(to).with(ours.names(t, "x", uri(c.peers[other].Name), time.Hour))
	if _, err := right.ask(self, &request{Op: opHello, From: string(member.ID)}); err != nil {
		t.Error(err)
	}
	if err := forgeries[3].send(right, member, before+1, c.end(to)); err != nil { // a pre-vote
		t.Error(err)
	}
	c.put(0, 10)
	c.agree(0, c.all()...)
	c.alive(c.all()...)
}

// In the other direction: whoever listens at a member's address must have that member's certificate.
func TestFalseListener(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	s := ours.names(t, "a", "deckle://test/node/a", time.Hour)
	o := &Options{Name: "a", Nodes: []Peer{{"a", "x:1"}, {"b", "x:2"}, {"c", "x:3"}}, Shards: 1, Security: s,
		Timings: patient, Logger: slog.New(slog.DiscardHandler)}
	n := newNetwork(o)
	defer n.close()
	const cut = "cut"
	count := map[string]int{}
	n.refused = func(why, _ string, _ error) { count[why]++ }
	want := map[string]int{}
	for _, l := range []struct {
		name string
		sec  Security
		why  string
	}{
		{"the member", ours.names(t, "b", "deckle://test/node/b", time.Hour), ""},
		{"another member", ours.names(t, "c", "deckle://test/node/c", time.Hour), whyWrongNode},
		{"this node's own certificate", ours.names(t, "a", "deckle://test/node/a", time.Hour), "own_name"},
		{"a client", ours.names(t, "b", "deckle://test/client/b", time.Hour), "no_node"},
		{"another cluster", ours.names(t, "b", "deckle://prod/node/b", time.Hour), "other_cluster"},
		{"another CA", theirs.names(t, "b", "deckle://test/node/b", time.Hour), whyHandshake},
		{"no TLS", nil, cut}, // it does not say so
	} {
		m := newFalseMember(t, l.sec)
		for _, h := range []header{{kindRaft, 0, "b-0123456789abcdef"}, {kindControl, 0, "b"}} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			c, err := n.dial(ctx, m.addr(), h)
			cancel()
			if (err == nil) != (l.why == "") {
				t.Errorf("%s: %v", l.name, err)
			}
			if c != nil {
				_ = c.Close()
			}
			if l.why != "" && l.why != cut {
				want[l.why]++
			}
		}
	}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", count, want)
	}
}

// A connection ends when the certificate of its other end does, and when the CA of that certificate is taken away; the
// nodes then find each other again by themselves.
func TestConnectionsEnd(t *testing.T) {
	former, next := newAuthority(t), newAuthority(t)
	c := newCluster(t, 3, 1, nil)
	all := c.secure(former)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	// Both CAs, new certificates, and then only the new one: entries go on at each step.
	for _, s := range all {
		s.trust(pools(former, next))
	}
	c.put(0, 10)
	for i, s := range all {
		n := next.names(t, c.peers[i].Name, "deckle://test/node/"+c.peers[i].Name, time.Hour)
		s.mu.Lock()
		s.cert = n.cert
		s.mu.Unlock()
	}
	c.put(0, 10)
	stale := c.wireTo(0).with(former.names(t, "x", "deckle://test/node/b", time.Hour))
	stale.net.sec.(*named).pool = pools(former, next)
	conn, err := stale.net.dial(t.Context(), c.peers[0].Addr, header{kindControl, 0, "a"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		s.trust(pools(next))
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a connection of the former CA goes on: %v", err)
	}
	if c.counted(0, "ended", whyUntrusted) == 0 {
		t.Error("it is not counted")
	}
	if c, err := stale.net.dial(t.Context(), c.peers[0].Addr, header{kindControl, 0, "a"}); err == nil {
		_, err = c.Read(make([]byte, 1))
		t.Errorf("a certificate of the former CA is taken: %v", err)
	}
	c.put(0, 10)
	c.agree(0, c.all()...)
	// A certificate that ends soon.
	brief := c.wireTo(0).with(next.names(t, "x", "deckle://test/node/b", 4*time.Second))
	conn, err = brief.net.dial(t.Context(), c.peers[0].Addr,
		header{kindRaft, 0, string(c.nodes[0].store.self.serverID())})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("it is answered")
	}
	c.eventually("its end is counted", func() bool { return c.counted(0, "ended", whyExpired) > 0 })
	c.put(0, 10)
	c.agree(0, c.all()...)
	c.alive(c.all()...)
}
