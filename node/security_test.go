package node

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"deckle/node/config"
	"deckle/raftstore"
	"deckle/trust/pki"
)

// securityOf returns how node a or b secures its connections by a block.
func securityOf(t *testing.T, self string, block *config.TLS, now time.Time, nodes ...config.Node) (raftstore.Security,
	func(), error) {
	t.Helper()
	cfg := &config.Config{Node: self, Cluster: config.Cluster{Name: "deckle", Nodes: nodes, TLS: block}}
	if nodes == nil {
		cfg.Cluster.Nodes = []config.Node{{Name: "a"}, {Name: "b"}}
	}
	deps := Deps{Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler)}
	deps.complete()
	files := openFiles(cfg, &deps)
	s, err := clusterSecurity(cfg, files)
	return s, files.Look, err
}

// meet makes a handshake, and returns what each end says of it and whom it sees.
func meet(t *testing.T, client, server *tls.Config) (c, s tls.ConnectionState, cErr, sErr error) {
	t.Helper()
	ours, theirs := net.Pipe()
	_, _ = ours.SetDeadline(time.Now().Add(10*time.Second)), theirs.SetDeadline(time.Now().Add(10*time.Second))
	in, out := tls.Server(theirs, server), tls.Client(ours, client)
	done := make(chan error, 1)
	go func() {
		err := in.HandshakeContext(t.Context())
		if err == nil {
			_, err = in.Write([]byte{1}) // so that the client learns what the server says of its certificate
		}
		_ = theirs.Close()
		done <- err
	}()
	cErr = out.HandshakeContext(t.Context())
	if cErr == nil {
		_, cErr = out.Read(make([]byte, 1))
	}
	_ = ours.Close()
	sErr = <-done
	return out.ConnectionState(), in.ConnectionState(), cErr, sErr
}

// Each end verifies the other by its CAs and its purpose, whatever address was dialled, and knows it by its names.
func TestClusterSecurity(t *testing.T) {
	f, other := certificates(t, 100, "a", "b"), certificates(t, 100, "a", "b")
	if _, err := f.Client(pki.Leaf{Name: "web", Days: 100}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a, _, err := securityOf(t, "a", blockOf(f, "a"), now)
	if err != nil {
		t.Fatal(err)
	}
	named := blockOf(f, "a")
	named.ServerName = "node-b.example"
	strict, _, err := securityOf(t, "a", named, now)
	if err != nil {
		t.Fatal(err)
	}
	pair := func(f *pki.Folder, name string) *tls.Config {
		block := blockOf(f, name)
		cert, err := tls.LoadX509KeyPair(block.Cert, block.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{
			Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12,
			// Whatever CAs the server names: Go would show none of another one.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		}
	}
	old := pair(f, "b")
	old.MaxVersion = tls.VersionTLS12
	for what, row := range map[string]struct {
		s     raftstore.Security
		other *tls.Config
		why   string // of the end that refuses: a part of its error or the label of its refusal; "" for b
	}{
		"b":            {a, pair(f, "b"), ""},
		"another CA's": {a, pair(other, "b"), "certificate signed by unknown authority"},
		"a client":     {a, pair(f, "web"), "no_node"},
		"itself":       {a, pair(f, "a"), "own_name"},
		"TLS 1.2":      {a, old, "version"},
	} {
		judge := func(state tls.ConnectionState, err error) string {
			if err != nil {
				return err.Error()
			}
			node, why, _ := row.s.Peer(state)
			if (node == "b") != (why == "") || node != "b" && node != "" {
				t.Errorf("%s is node %q, %q", what, node, why)
			}
			if until, err := row.s.Verify(state); why == "" && (err != nil || !until.After(now.AddDate(0, 0, 99)) ||
				until.After(now.AddDate(0, 0, 101))) {
				t.Errorf("%s holds until %v, %v", what, until, err)
			}
			return why
		}
		_, seen, _, err := meet(t, row.other, row.s.Server())
		incoming := judge(seen, err)
		seen, _, err, _ = meet(t, row.s.Client("b"), row.other)
		outgoing := judge(seen, err)
		want := row.why
		if what == "a client" {
			want = "incompatible key usage" // it is no server's
		}
		if !strings.Contains(incoming, row.why) || !strings.Contains(outgoing, want) ||
			(row.why == "") != (incoming == "") || (want == "") != (outgoing == "") {
			t.Errorf("%s comes in: %q; is dialled: %q; want %q, %q", what, incoming, outgoing, row.why, want)
		}
	}
	if _, _, err, _ := meet(t, strict.Client("b"), pair(f, "b")); err == nil ||
		!strings.Contains(err.Error(), "node-b.example") {
		t.Errorf("server_name is not demanded: %v", err)
	}
	nobody := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	if _, _, _, err := meet(t, nobody, a.Server()); err == nil {
		t.Error("nobody is let in")
	}
	if _, why, _ := a.Peer(tls.ConnectionState{}); why != "no_name" {
		t.Errorf("no certificate: %q", why)
	}
	if _, err := a.Verify(tls.ConnectionState{}); err == nil {
		t.Error("no certificate holds")
	}
}

// What holds today does not when its time is over or when the CA is taken away, and whoever wants to know is told.
func TestClusterSecurityEnds(t *testing.T) {
	f := certificates(t, 100, "a", "b")
	a, look, err := securityOf(t, "a", blockOf(f, "a"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := securityOf(t, "b", blockOf(f, "b"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	seen, _, err, _ := meet(t, a.Client("b"), b.Server())
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	a.Changed(func() { told++ })
	if _, err := f.Rotate(3650); err != nil {
		t.Fatal(err)
	}
	look()
	if _, err := a.Verify(seen); err != nil || told == 0 {
		t.Errorf("with both CAs: %v, told %d times", err, told)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := f.Node(pki.Leaf{Name: name, Days: 100, Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	look()
	if _, err := a.Verify(seen); err == nil {
		t.Error("a certificate of the former CA holds")
	}
	// Its own certificate has expired: the others would refuse it, so it does not start.
	for days, want := range map[int]bool{99: true, 101: false} {
		_, _, err := securityOf(t, "a", blockOf(f, "a"), time.Now().AddDate(0, 0, days))
		if (err == nil) != want {
			t.Errorf("after %d days: %v", days, err)
		}
	}
	// Nor with another's; a single node has no others.
	var no *pki.Refusal
	if _, _, err := securityOf(t, "b", blockOf(f, "a"), time.Now()); !errors.As(err, &no) || no.Why != pki.WrongNode {
		t.Errorf("with another's certificate: %v", err)
	}
	if _, _, err := securityOf(t, "b", blockOf(f, "a"), time.Now(), config.Node{Name: "b"}); err != nil {
		t.Errorf("a single node: %v", err)
	}
}
