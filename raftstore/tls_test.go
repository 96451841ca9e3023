package raftstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// authority signs certificates of nodes on 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
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

// A cluster with TLS does what it does without: entries of several requests, a lost disk.
func TestClusterWithTLS(t *testing.T) {
	c := newCluster(t, 3, 2, nil)
	c.secure(newAuthority(t))
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for shard := range uint32(2) {
		c.put(shard, 300<<10)
		c.agree(shard, c.all()...)
	}
	c.wipe(0) // it would found a cluster, had the others none
	c.start(0)
	c.ready(0)
	for shard := range uint32(2) {
		c.put(shard, 10)
		c.agree(shard, c.all()...)
	}
}
