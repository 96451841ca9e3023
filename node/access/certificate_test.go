package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}, nil)
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// sign makes a certificate that is valid around testNow, signed by parent or by itself.
func (a *authority) sign(c *x509.Certificate, parent *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	c.NotBefore, c.NotAfter = testNow.Add(-time.Hour), testNow.Add(time.Hour)
	signer, by := c, key
	if parent != nil {
		signer, by = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, signer, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// leaf makes a client's certificate with names: URIs have a colon, addresses an at sign.
func (a *authority) leaf(use x509.ExtKeyUsage, names ...string) *x509.Certificate {
	a.t.Helper()
	c := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{use}, Subject: pkix.Name{CommonName: "common.example"}}
	for _, n := range names {
		switch {
		case strings.Contains(n, ":"):
			u, err := url.Parse(n)
			if err != nil {
				a.t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		case strings.Contains(n, "@"):
			c.EmailAddresses = append(c.EmailAddresses, n)
		default:
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	cert, _ := a.sign(c, a)
	return cert
}

// A certificate counts if a CA of clients has signed it for clients and it has exactly one name that is known here.
// Neither the common name, which anybody may choose, nor what a node shows as a server is enough.
func TestCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	const client, server = x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	now := testNow
	var pool *x509.CertPool
	a := New(Options{Now: func() time.Time { return now }, Tokens: true, Certificates: &Certificates{
		Pool: func() *x509.CertPool { return pool },
		Roles: []Named{{"deckle://main/client/prometheus", Viewer}, {"ops.example", Operator}, {"a@example", Analyst},
			{"common.example", Admin}, {"*.example", Admin}},
	}})
	ask := func(c *x509.Certificate, header ...string) (*Principal, error) {
		r := with(header...)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
		return a.Identify(r, From{Secure: true})
	}
	good := ca.leaf(client, "deckle://main/client/prometheus")
	if _, err := ask(good); err == nil {
		t.Error("a certificate counts without any CA")
	}
	pool = ca.pool()
	for name, c := range map[string]struct {
		cert *x509.Certificate
		who  string // "" for an error
		role Role
	}{
		"URI":             {good, "cert:deckle://main/client/prometheus", Viewer},
		"DNS":             {ca.leaf(client, "OPS.example"), "cert:ops.example", Operator},
		"e-mail":          {ca.leaf(client, "a@example", "else.example"), "cert:a@example", Analyst},
		"another CA's":    {other.leaf(client, "ops.example"), "", 0},
		"for servers":     {ca.leaf(server, "ops.example"), "", 0},
		"no name":         {ca.leaf(client, "deckle://main/node/a"), "", 0},
		"common name":     {ca.leaf(client), "", 0},
		"two names":       {ca.leaf(client, "ops.example", "a@example"), "", 0},
		"wildcard":        {ca.leaf(client, "*.example"), "", 0},
		"longer URI":      {ca.leaf(client, "deckle://main/client/prometheus2"), "", 0},
		"of a path below": {ca.leaf(client, "deckle://main/client/prometheus/x"), "", 0},
	} {
		p, err := ask(c.cert)
		if (err == nil) != (c.who != "") || err == nil && (p.Who != c.who || p.Role != c.role || p.Held()) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	// The first that is shown counts, also if it is wrong and the next would be good.
	tok, secret := newToken(t, Admin)
	text, _ := FormatTokens([]*Token{tok})
	if err := a.SetTokens(text); err != nil {
		t.Fatal(err)
	}
	if p, err := ask(good, "Authorization", "Bearer "+secret); err != nil || p.Role != Viewer {
		t.Errorf("certificate and token: %+v, %v", p, err)
	}
	if p, err := ask(other.leaf(client, "ops.example"), "Authorization", "Bearer "+secret); err == nil {
		t.Errorf("a wrong certificate and a token: %+v", p)
	}
	now = testNow.Add(2 * time.Hour)
	if _, err := ask(good); err == nil {
		t.Error("an expired certificate counts")
	}
	now, pool = testNow, other.pool()
	if _, err := ask(good); err == nil {
		t.Error("a certificate of a CA that was taken away counts")
	}
	if _, err := a.Identify(&http.Request{Header: http.Header{}}, From{}); err == nil {
		t.Error("nothing counts")
	}
}
