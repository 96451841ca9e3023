package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// san encodes names as the extension does; a name is "URI:…", "DNS:…", "IP:…" or "email:…".
func san(t testing.TB, names ...string) []byte {
	t.Helper()
	tags := map[string]int{"email": 1, "DNS": 2, "URI": 6, "IP": 7}
	var list []asn1.RawValue
	for _, n := range names {
		kind, text, _ := strings.Cut(n, ":")
		b := []byte(text)
		if kind == "IP" {
			b = net.ParseIP(text)
			if v4 := net.ParseIP(text).To4(); v4 != nil {
				b = v4
			}
		}
		list = append(list, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tags[kind], Bytes: b})
	}
	der, err := asn1.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var testKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// certificate makes a certificate whose names are the bytes given; the error is that of x509, which refuses some.
func certificate(t testing.TB, names []byte) (*x509.Certificate, error) {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(time.Hour),
		Subject: pkix.Name{CommonName: "a"}} // which must count for nothing
	if len(names) > 0 {
		tmpl.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAltName, Value: names}}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &testKey().PublicKey, testKey())
	if err != nil {
		t.Fatal(err)
	}
	return x509.ParseCertificate(der)
}

// The names of the leaf alone decide, byte by byte. Each row that is refused is somebody who would have got in with a
// looser rule.
func TestWhoACertificateIs(t *testing.T) {
	byURI := &Names{Cluster: "main", Self: "b", Nodes: []Node{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
	byHost := &Names{Cluster: "main", Self: "b", Nodes: []Node{{"a", "a.example"}, {"b", "10.0.0.2"},
		{"c", "spiffe://corp/deckle/c"}}}
	mixed := &Names{Cluster: "main", Self: "b", Nodes: []Node{{"a", "a.example"}, {Name: "b"}, {Name: "c"}}}
	for _, row := range []struct {
		names *Names
		san   []string
		want  string // the node, or "" and why
		why   Why
	}{
		{byURI, []string{"URI:deckle://main/node/a"}, "a", ""},
		{byURI, []string{"DNS:c.example", "IP:10.0.0.3", "URI:deckle://main/node/c"}, "c", ""},
		// A URI of another scheme is nobody's name.
		{byURI, []string{"URI:https://other.example/x", "URI:deckle://main/node/a"}, "a", ""},
		{byURI, []string{"URI:deckle://main/node/b"}, "", OwnName},
		{byURI, nil, "", NoName}, // the common name is a
		{byURI, []string{"DNS:a", "email:a@main"}, "", NoName},
		{byURI, []string{"URI:deckle://main/node/a", "URI:deckle://main/node/a"}, "", NoName},
		{byURI, []string{"URI:deckle://main/node/a", "URI:deckle://main/node/c"}, "", NoName},
		{byURI, []string{"URI:deckle://main/node/a", "URI:DECKLE://other/node/a"}, "", NoName},
		{byURI, []string{"URI:deckle://main/node/a", "URI:deckle:node/c"}, "", NoName},
		{byURI, []string{"URI:deckle://other/node/a"}, "", OtherCluster},
		{byURI, []string{"URI:deckle://main2/node/a"}, "", OtherCluster},
		{byURI, []string{"URI:deckle://main.evil/node/a"}, "", OtherCluster},
		{byURI, []string{"URI:deckle://MAIN/node/a"}, "", OtherCluster},
		{byURI, []string{"URI:DECKLE://main/node/a"}, "", OtherCluster},
		{byURI, []string{"URI:deckle://main:7946/node/a"}, "", OtherCluster},
		{byURI, []string{"URI:deckle://x@main/node/a"}, "", OtherCluster},
		{byURI, []string{"URI:deckle://main/client/a"}, "", NoNode},
		{byURI, []string{"URI:deckle://main/node/A"}, "", NoNode},
		{byURI, []string{"URI:deckle://main/node/%61"}, "", NoNode},
		{byURI, []string{"URI:deckle://main/node/a/"}, "", NoNode},
		{byURI, []string{"URI:deckle://main/node/a?x"}, "", NoNode},
		{byURI, []string{"URI:deckle://main/node/a#"}, "", NoNode},
		{byURI, []string{"URI:deckle://main/./node/a"}, "", NoNode},
		{byURI, []string{"URI:deckle://main//node/a"}, "", NoNode},
		{byURI, []string{"URI:deckle://main/node/"}, "", NoNode},
		{byURI, []string{"URI:deckle://main/node/d"}, "", NoNode},

		{byHost, []string{"DNS:a.example"}, "a", ""},
		{byHost, []string{"DNS:A.EXAMPLE", "DNS:x"}, "a", ""},
		{byHost, []string{"URI:spiffe://corp/deckle/c"}, "c", ""},
		{byHost, []string{"IP:10.0.0.2"}, "", OwnName},
		{byHost, []string{"IP:::ffff:10.0.0.2"}, "", OwnName},
		{byHost, []string{"DNS:*.example"}, "", NoName},
		{byHost, []string{"DNS:a.example."}, "", NoName},
		{byHost, []string{"email:x@a.example"}, "", NoName},
		{byHost, []string{"URI:https://a.example"}, "", NoName},
		{byHost, []string{"DNS:10.0.0.2"}, "", NoName},
		{byHost, []string{"URI:SPIFFE://corp/deckle/c"}, "", NoName},
		{byHost, []string{"DNS:a.example", "URI:spiffe://corp/deckle/c"}, "", NoNode}, // two nodes
		{byHost, []string{"DNS:a.example", "IP:10.0.0.2"}, "", NoNode},
		{byHost, []string{"URI:deckle://main/node/a"}, "", NoNode}, // a is known by another name

		{mixed, []string{"DNS:a.example", "URI:deckle://main/node/a"}, "a", ""}, // as certs node makes it
		{mixed, []string{"DNS:a.example", "URI:deckle://main/node/c"}, "", NoNode},
		{mixed, []string{"DNS:x.example", "URI:deckle://main/node/c"}, "c", ""},
	} {
		// x509 refuses an IP address of 16 bytes that is one of 4 by no rule; san writes it as 4 bytes.
		cert, err := certificate(t, san(t, row.san...))
		if err != nil {
			t.Fatalf("%q: %v", row.san, err)
		}
		got, err := row.names.Peer(cert)
		var r *Refusal
		if got != row.want || (err == nil) != (row.want != "") ||
			err != nil && (!errors.As(err, &r) || r.Why != row.why) {
			t.Errorf("%q: %q, %v; want %q, %s", row.san, got, err, row.want, row.why)
		}
	}
}

// A node's own certificate is looked at by the rules of the others.
func TestOwn(t *testing.T) {
	names := &Names{Cluster: "main", Self: "b", Nodes: []Node{{Name: "a"}, {Name: "b"}}}
	for uri, why := range map[string]Why{"deckle://main/node/b": "", "deckle://main/node/a": WrongNode,
		"deckle://x/node/b": OtherCluster, "deckle://main/client/b": NoNode} {
		cert, err := certificate(t, san(t, "URI:"+uri))
		if err != nil {
			t.Fatal(err)
		}
		var r *Refusal
		if err := names.Own(cert); (err == nil) != (why == "") || err != nil && (!errors.As(err, &r) || r.Why != why) {
			t.Errorf("%s: %v, want %s", uri, err, why)
		}
	}
	if got := names.Want("a"); got != "deckle://main/node/a" {
		t.Error(got)
	}
}

// A stranger chooses the names of a certificate, and they go to the log: nothing in them may be taken for its own
// lines.
func TestNamesOfStrangersAreQuoted(t *testing.T) {
	cert, err := certificate(t, san(t, "DNS:x\n{\"level\":\"ERROR\"}", "email:\x1b[2Ja@b",
		"URI:urn:"+strings.Repeat("y", 1<<10)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&Names{Cluster: "main"}).Peer(cert)
	if text := err.Error(); strings.ContainsAny(text, "\n\x1b") || len(text) > 400 {
		t.Errorf("%q", text)
	}
}

func TestCheckNames(t *testing.T) {
	for name, good := range map[string]bool{"main": true, "a.b-1": true, strings.Repeat("a", 63): true,
		"": false, strings.Repeat("a", 64): false, "Main": false, "a_b": false, "a..b": false, ".a": false, "a-": false,
		"a/b": false, "ä": false} {
		if err := CheckCluster(name); (err == nil) != good {
			t.Errorf("cluster %q: %v", name, err)
		}
	}
	for name, good := range map[string]bool{"a.example": true, "10.0.0.1": true, "fd00::1": true, "spiffe://x/y": true,
		"": false, "*.example": false, "a.example:7946": false, "a b": false, "ä.example": false, "x@y": false,
		"\u212a.example": false, // the sign for kelvin, which folds to k
	} {
		if err := CheckCertificateName(name); (err == nil) != good {
			t.Errorf("certificate %q: %v", name, err)
		}
	}
}
