package pki

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The lines for openssl in docs/operations.md are executed as they stand there, and what they make is taken for a node,
// with the same fields as ours.
func TestOpensslLines(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl on this machine")
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	f := &Folder{Dir: t.TempDir(), Now: time.Now}
	blocks := 0
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(m[1], "openssl") {
			continue
		}
		blocks++
		cmd := exec.Command("sh", "-e", "-c", m[1])
		cmd.Dir = f.Dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s\n%s", err, m[1], out)
		}
	}
	if blocks != 2 {
		t.Fatalf("%d blocks of openssl lines", blocks)
	}
	ca, node := f.certs(t, "ca.pem")[0], f.certs(t, "a.pem")[0]
	g := newFolder(t)
	if _, err := g.Node(Leaf{Name: "a", Hosts: []string{"node-a.example", "10.0.0.1"}, Days: 365}); err != nil {
		t.Fatal(err)
	}
	ourCA, ourNode := g.certs(t, "ca.pem")[0], g.certs(t, "a.pem")[0]
	if ca.KeyUsage != ourCA.KeyUsage || ca.MaxPathLen != 0 || !ca.MaxPathLenZero || !ca.IsCA ||
		ca.SignatureAlgorithm != ourCA.SignatureAlgorithm || (&CA{Cert: ca}).Cluster() != "main" {
		t.Errorf("the CA differs from ours: %+v", ca)
	}
	if node.KeyUsage != ourNode.KeyUsage || !slices.Equal(node.ExtKeyUsage, ourNode.ExtKeyUsage) ||
		node.SignatureAlgorithm != ourNode.SignatureAlgorithm ||
		!slices.Equal(namesOf(node, rawURIs(node)), namesOf(ourNode, rawURIs(ourNode))) {
		t.Errorf("the node's differs from ours: %+v", node)
	}
	for _, name := range []string{"ca-key.pem", "a-key.pem", "a.pem"} {
		if info, err := os.Stat(f.path(name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	// And a node meets it; b is made by our commands, with the CA that openssl has made.
	if _, err := f.Node(Leaf{Name: "b", Days: 10}); err != nil {
		t.Fatal(err)
	}
	server, client := handshake(t, f, "a", "b")
	nodes := []Node{{Name: "a"}, {Name: "b"}}
	if got, err := (&Names{Cluster: "main", Self: "b", Nodes: nodes}).Peer(client.PeerCertificates[0]); got != "a" {
		t.Errorf("b sees %q, %v", got, err)
	}
	if got, err := (&Names{Cluster: "main", Self: "a", Nodes: nodes}).Peer(server.PeerCertificates[0]); got != "b" {
		t.Errorf("a sees %q, %v", got, err)
	}
}
