package raftstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"
)

// authority signs certificates of nodes on 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// node returns a configuration with a certificate of its own, which trusts what trust signed.
func (a *authority) node(t *testing.T, trust *authority) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      trust.pool, ClientCAs: trust.pool,
	}
}

func TestMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	c := newCluster(t, 3, 2, nil)
	c.tune = func(_ int, o *Options) { o.TLS = ours.node(t, ours) }
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for shard := range uint32(2) {
		c.put(shard, 300<<10)
		c.agree(shard, c.all()...)
	}
	h := header{kindControl, 0, "a"}
	for name, cfg := range map[string]*tls.Config{
		"ours":           ours.node(t, ours),
		"theirs":         theirs.node(t, ours), // a foreign certificate
		"no certificate": {RootCAs: ours.pool},
		"plain":          nil,
	} {
		o := c.nodes[1].store.opts
		o.TLS = cfg
		if name != "plain" { // each connection is dialled with what is present then, whatever there was at the start
			o.TLS, o.DialTLS = theirs.node(t, theirs), func() *tls.Config { return cfg }
		}
		n := newNetwork(&o)
		conn, err := n.dial(context.Background(), c.peers[0].Addr, h)
		if ok := name == "ours"; (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
		if conn != nil {
			_ = conn.Close()
		}
		n.close()
	}
}
