package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func newFolder(t *testing.T) *Folder {
	t.Helper()
	f := &Folder{Dir: filepath.Join(t.TempDir(), "pki"), Now: func() time.Time { return now }}
	if _, err := f.Init("main", 3650, false); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *Folder) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(f.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f *Folder) certs(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	certs, err := ParseCertificates(f.read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// What is made is what the page promises, field by field: another library judges it one day.
func TestProfile(t *testing.T) {
	f := newFolder(t)
	if _, err := f.Node(Leaf{Name: "a", Hosts: []string{"a.example", "10.0.0.1", "fd00::1"}, Days: 365}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Client(Leaf{Name: "prometheus", Days: 30}); err != nil {
		t.Fatal(err)
	}
	ca, node, client := f.certs(t, "ca.pem")[0], f.certs(t, "a.pem")[0], f.certs(t, "prometheus.pem")[0]
	if !ca.IsCA || !ca.MaxPathLenZero || ca.MaxPathLen != 0 || ca.KeyUsage != x509.KeyUsageCertSign ||
		!ca.NotAfter.Equal(now.AddDate(0, 0, 3650)) || (&CA{Cert: ca}).Cluster() != "main" {
		t.Errorf("CA: %+v", ca)
	}
	for _, c := range []*x509.Certificate{ca, node, client} {
		key, ok := c.PublicKey.(*ecdsa.PublicKey)
		if !ok || key.Curve != elliptic.P256() || c.SignatureAlgorithm != x509.ECDSAWithSHA256 ||
			c.SerialNumber.BitLen() < 120 || c.SerialNumber.BitLen() > 128 ||
			!c.NotBefore.Equal(now.Add(-5*time.Minute)) {
			t.Errorf("%s: %v, serial of %d bits, not before %s", c.Subject, c.SignatureAlgorithm,
				c.SerialNumber.BitLen(), c.NotBefore)
		}
	}
	if node.IsCA || node.KeyUsage != x509.KeyUsageDigitalSignature ||
		!slices.Equal(node.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) ||
		!slices.Equal(rawURIs(node), []string{"deckle://main/node/a"}) ||
		!slices.Equal(node.DNSNames, []string{"a.example"}) || len(node.IPAddresses) != 2 ||
		!node.NotAfter.Equal(now.AddDate(0, 0, 365)) {
		t.Errorf("node: %+v", node)
	}
	if client.KeyUsage != x509.KeyUsageDigitalSignature ||
		!slices.Equal(client.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) ||
		!slices.Equal(rawURIs(client), []string{"deckle://main/client/prometheus"}) || len(client.DNSNames) > 0 {
		t.Errorf("client: %+v", client)
	}
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(f.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	if len(entries) != 6 {
		t.Errorf("files: %v", entries)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	// A client's certificate is no node's, although the CA is the same.
	if err := VerifyNode([]*x509.Certificate{client}, []*x509.Certificate{ca}, now); err == nil {
		t.Error("a client's certificate verifies as a server's")
	}
	if err := VerifyNode([]*x509.Certificate{node}, []*x509.Certificate{ca}, now); err != nil {
		t.Error(err)
	}
}

// Two nodes meet by TLS 1.3, each sees who the other is, and an address is a route, not a name.
func TestHandshake(t *testing.T) {
	f := newFolder(t)
	for _, n := range []string{"a", "b"} {
		if _, err := f.Node(Leaf{Name: n, Days: 1}); err != nil {
			t.Fatal(err)
		}
	}
	nodes := []Node{{Name: "a"}, {Name: "b"}}
	server, client := handshake(t, f, "a", "b")
	if got, err := (&Names{Cluster: "main", Self: "a", Nodes: nodes}).Peer(server.PeerCertificates[0]); got != "b" {
		t.Errorf("the server sees %q, %v", got, err)
	}
	if got, err := (&Names{Cluster: "main", Self: "b", Nodes: nodes}).Peer(client.PeerCertificates[0]); got != "a" {
		t.Errorf("the client sees %q, %v", got, err)
	}
}

// handshake connects two holders of certificates in a folder, whose chains are verified by today's rules.
func handshake(t *testing.T, f *Folder, server, client string) (ofServer, ofClient tls.ConnectionState) {
	t.Helper()
	config := func(name string) *tls.Config {
		cert, err := tls.X509KeyPair(f.read(t, name+".pem"), f.read(t, name+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(f.read(t, "ca.pem"))
		return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool,
			ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13, Time: f.now,
			InsecureSkipVerify: true,
			VerifyConnection: func(s tls.ConnectionState) error {
				return VerifyNode(s.PeerCertificates, f.certs(t, "ca.pem"), f.now())
			}}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s, c := tls.Server(a, config(server)), tls.Client(b, config(client))
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return s.ConnectionState(), c.ConnectionState()
}

// Nothing is overwritten unasked, and what is asked for replaces only its own kind and name: "a-key" is a fine name for
// a node, whose certificate lies where the key of node a does.
func TestNothingIsOverwritten(t *testing.T) {
	f := newFolder(t)
	day := func(name string) Leaf { return Leaf{Name: name, Days: 1} }
	force := func(name string) Leaf { return Leaf{Name: name, Days: 1, Force: true} }
	if _, err := f.Node(day("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Node(day("x-key")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Client(day("web")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere/else", f.path("s.pem")); err != nil {
		t.Fatal(err)
	}
	all := func() string {
		var b bytes.Buffer
		entries, _ := os.ReadDir(f.Dir)
		for _, e := range entries {
			b.WriteString(e.Name())
			if text, err := os.ReadFile(f.path(e.Name())); err == nil {
				b.Write(text)
			}
		}
		return b.String()
	}
	before := all()
	for what, try := range map[string]func() ([]string, error){
		"init":                   func() ([]string, error) { return f.Init("main", 10, false) },
		"node a":                 func() ([]string, error) { return f.Node(day("a")) },
		"client a":               func() ([]string, error) { return f.Client(day("a")) },
		"client a, forced":       func() ([]string, error) { return f.Client(force("a")) },
		"node web, forced":       func() ([]string, error) { return f.Node(force("web")) },
		"node ca":                func() ([]string, error) { return f.Node(day("ca")) },
		"node ca, forced":        func() ([]string, error) { return f.Node(force("ca")) },
		"node a-key, forced":     func() ([]string, error) { return f.Node(force("a-key")) },
		"node x, forced":         func() ([]string, error) { return f.Node(force("x")) },
		"over a link to nothing": func() ([]string, error) { return f.Node(force("s")) },
	} {
		if files, err := try(); !errors.Is(err, ErrExists) {
			t.Errorf("%s: %v, %v", what, files, err)
		}
		if all() != before {
			t.Fatalf("%s changed the folder", what)
		}
	}
	if _, err := f.Node(force("a")); err != nil || all() == before {
		t.Errorf("the same again, forced: %v", err)
	}
	if left, _ := filepath.Glob(f.path("*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Two commands at the same moment: one of them makes the file, the other is refused.
func TestLinkNotRename(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pem")
	if err := writeFile(path, []byte("first"), false); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(path, []byte("second"), false); !errors.Is(err, ErrExists) {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "first" {
		t.Errorf("%q", b)
	}
}

func TestLeafIsRefused(t *testing.T) {
	f := newFolder(t)
	for what, l := range map[string]Leaf{
		"name":    {Name: "a/b", Days: 1},
		"dots":    {Name: "..", Days: 1},
		"cluster": {Name: "a", Days: 1, Cluster: "other"},
		"days":    {Name: "a", Days: 0},
		"longer":  {Name: "a", Days: 3651},
		"host":    {Name: "a", Days: 1, Hosts: []string{"a.example:7946"}},
		"star":    {Name: "a", Days: 1, Hosts: []string{"*.example"}},
	} {
		if files, err := f.Node(l); err == nil {
			t.Errorf("%s: %v", what, files)
		}
	}
	if _, err := (&Folder{Dir: t.TempDir()}).Node(Leaf{Name: "a", Days: 1}); err == nil ||
		!strings.Contains(err.Error(), "deckle certs init") {
		t.Errorf("without a CA: %v", err)
	}
}

// A rotation from its beginning to its end: at every moment what is in use verifies against what is distributed.
func TestRotate(t *testing.T) {
	f := newFolder(t)
	if _, err := f.Node(Leaf{Name: "a", Days: 365}); err != nil {
		t.Fatal(err)
	}
	first := f.certs(t, "ca.pem")
	if _, err := f.Finish(); err == nil || !strings.Contains(err.Error(), "no rotation") {
		t.Errorf("nothing to finish: %v", err)
	}
	if _, err := f.Rotate(3650); err != nil {
		t.Fatal(err)
	}
	both, old := f.certs(t, "ca.pem"), f.certs(t, "a.pem")
	if len(both) != 2 || !both[1].Equal(first[0]) {
		t.Fatalf("the bundle: %v", both)
	}
	if err := VerifyNode(old, both, now); err != nil {
		t.Errorf("the certificate of before is no longer taken: %v", err)
	}
	if _, err := f.Rotate(3650); err == nil || !strings.Contains(err.Error(), "--finish") {
		t.Errorf("a second rotation: %v", err)
	}
	if _, err := f.Init("main", 10, true); err == nil {
		t.Error("init in a rotation")
	}
	if _, err := f.Finish(); err == nil || !strings.Contains(err.Error(), "a.pem") {
		t.Errorf("finish while a has the old CA: %v", err)
	}
	if _, err := f.Node(Leaf{Name: "a", Days: 365, Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := VerifyNode(f.certs(t, "a.pem"), both[:1], now); err != nil {
		t.Errorf("the new certificate is not of the new CA: %v", err)
	}
	if _, err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	if last := f.certs(t, "ca.pem"); len(last) != 1 || !last[0].Equal(both[0]) || VerifyNode(old, last, now) == nil {
		t.Errorf("after the end: %v", last)
	}
	if _, err := f.Rotate(3650); err != nil {
		t.Errorf("the next rotation: %v", err)
	}
}

// Invariant 3: a crash between any two writes of a rotation leaves a folder that signs for what is trusted, and finish
// brings it back to one authority.
func TestRotateCrashes(t *testing.T) {
	f := newFolder(t)
	before := map[string][]byte{"ca.pem": f.read(t, "ca.pem"), "ca-key.pem": f.read(t, "ca-key.pem")}
	if _, err := f.Rotate(100); err != nil {
		t.Fatal(err)
	}
	after := map[string][]byte{}
	order := []string{"ca-key.old.pem", "ca.pem", "ca-key.pem"}
	for _, name := range order {
		after[name] = f.read(t, name)
	}
	for done := range order {
		g := &Folder{Dir: t.TempDir(), Now: f.Now}
		for name, text := range before {
			if err := os.WriteFile(g.path(name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range order[:done+1] {
			if err := os.WriteFile(g.path(name), after[name], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.Node(Leaf{Name: "a", Days: 1}); err != nil {
			t.Errorf("after %d writes nothing can be signed: %v", done+1, err)
			continue
		}
		if err := VerifyNode(g.certs(t, "a.pem"), g.certs(t, "ca.pem"), now); err != nil {
			t.Errorf("after %d writes: %v", done+1, err)
		}
		if _, err := g.Finish(); err != nil {
			t.Errorf("after %d writes: %v", done+1, err)
		}
		last := g.certs(t, "ca.pem")
		if err := VerifyNode(g.certs(t, "a.pem"), last, now); err != nil || len(last) != 1 {
			t.Errorf("after %d writes and the end: %v", done+1, err)
		}
		if _, err := g.Rotate(100); err != nil {
			t.Errorf("after %d writes and the end, the next: %v", done+1, err)
		}
	}
}

func TestShow(t *testing.T) {
	f := newFolder(t)
	if _, err := f.Node(Leaf{Name: "a", Hosts: []string{"a.example"}, Days: 365}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Client(Leaf{Name: "web", Days: 365}); err != nil {
		t.Fatal(err)
	}
	other := newFolder(t)
	for _, row := range []struct {
		file    string
		bundle  *Folder
		names   *Names
		at      time.Time
		takenAs string
		refused string
	}{
		{"a.pem", f, nil, now, "a", ""},
		{"a.pem", f, &Names{Cluster: "main", Nodes: []Node{{Name: "a"}}}, now, "a", ""},
		{"a.pem", f, &Names{Cluster: "main", Nodes: []Node{{"b", "a.example"}}}, now, "b", ""},
		{"a.pem", f, &Names{Cluster: "other", Nodes: []Node{{Name: "a"}}}, now, "", `"other"`},
		{"a.pem", other, nil, now, "", "unknown authority"},
		{"a.pem", f, nil, now.AddDate(1, 0, 1), "", "expired"},
		{"web.pem", f, nil, now, "", "incompatible key usage"},
		{"ca.pem", f, nil, now, "", ""},
	} {
		got, err := Show(row.file, f.read(t, row.file), row.bundle.read(t, "ca.pem"), row.names, row.at)
		if err != nil || len(got) != 1 || got[0].TakenAs != row.takenAs ||
			(got[0].Refused == "") != (row.refused == "") || !strings.Contains(got[0].Refused, row.refused) {
			t.Errorf("%s: %+v, %v", row.file, got, err)
		}
	}
	if _, err := Show("x", []byte("junk"), nil, nil, now); err == nil {
		t.Error("junk is shown")
	}
}
