package pki

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
)

// FuzzNames gives a certificate any bytes as its names. Whoever passes for a node has that node's name in those bytes,
// whole, and a further name of another node makes it nobody.
func FuzzNames(f *testing.F) {
	for _, names := range [][]string{nil, {"URI:deckle://main/node/a"}, {"DNS:b.example", "URI:deckle://main/node/a"},
		{"IP:10.0.0.3"}, {"IP:10.0.0.3", "URI:deckle://main/node/d"}, {"URI:spiffe://x/d"}, {"email:a@b"},
		{"URI:deckle://main/node/%61"}, {"URI:DECKLE:x", "URI:deckle://main/node/a"}} {
		f.Add(san(f, names...))
	}
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Add([]byte{0x30, 3, 0xa6, 1, 0x30})
	names := &Names{Cluster: "main", Self: "self", Nodes: []Node{{Name: "a"}, {"b", "b.example"}, {"c", "10.0.0.3"},
		{"d", "spiffe://x/d"}, {Name: "self"}}}
	f.Fuzz(func(t *testing.T, data []byte) {
		cert, err := certificate(t, data)
		if err != nil {
			return
		}
		node, err := names.Peer(cert)
		if err != nil {
			var r *Refusal
			if node != "" || !errors.As(err, &r) || r.Why == "" || strings.ContainsAny(r.Text, "\n\r\x1b") {
				t.Fatalf("%q, %v", node, err)
			}
			return
		}
		var has []byte
		switch node {
		case "a":
			has = []byte("deckle://main/node/a")
		case "b":
			has = []byte("b.example")
			data = bytes.ToLower(data)
		case "c":
			has = net.IPv4(10, 0, 0, 3).To4()
		case "d":
			has = []byte("spiffe://x/d")
		default:
			t.Fatalf("%q is no other node", node)
		}
		if !bytes.Contains(data, has) {
			t.Fatalf("taken for %s without its name: %q", node, data)
		}
		if _, err := Show("x", encodeCertificate(cert.Raw), nil, names, now); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzReadCA reads anything as a bundle and a key.
func FuzzReadCA(f *testing.F) {
	ca, err := NewCA("main", now, 10)
	if err != nil {
		f.Fatal(err)
	}
	cert, key, err := ca.PEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cert, key)
	f.Add(append(cert, cert...), append([]byte("# x\n"), key...))
	f.Add(key, cert)
	f.Fuzz(func(t *testing.T, bundle, key []byte) {
		ca, err := ReadCA(bundle, key)
		if err == nil && (ca.Cert == nil || !ca.Cert.IsCA) {
			t.Fatalf("%+v", ca)
		}
	})
}
