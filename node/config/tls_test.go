package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"math/big"
	"strings"
	"testing"
	"time"
)

// pemPair returns a certificate that is its own CA, and its key.
func pemPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"node.example"}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder})
}

func TestTLSConfig(t *testing.T) {
	cert, key := pemPair(t)
	files := map[string][]byte{"ca": cert, "cert": cert, "key": key, "junk": []byte("junk")}
	read := func(path string) ([]byte, error) {
		if b, ok := files[path]; ok {
			return b, nil
		}
		return nil, fs.ErrNotExist
	}
	if c, err := (*TLS)(nil).Client(read); c != nil || err != nil {
		t.Errorf("no block: %v, %v", c, err)
	}
	good := &TLS{CA: "ca", Cert: "cert", Key: "key", ServerName: "node.example"}
	c, err := good.Client(read)
	if err != nil || c.MinVersion != tls.VersionTLS12 || c.RootCAs == nil || len(c.Certificates) != 1 ||
		c.InsecureSkipVerify || c.ClientAuth != tls.NoClientCert {
		t.Fatalf("%+v, %v", c, err)
	}
	m, err := good.Mutual(read)
	if err != nil || m.ClientAuth != tls.RequireAndVerifyClientCert || m.ClientCAs == nil {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, bad := range []struct {
		c    TLS
		want string
	}{
		{TLS{CA: "none"}, "tls ca"}, {TLS{CA: "junk"}, "holds no PEM certificate"},
		{TLS{Cert: "none", Key: "key"}, "tls cert"},
		{TLS{Cert: "cert", Key: "none"}, "tls key"}, {TLS{Cert: "cert", Key: "junk"}, "tls cert cert and key junk"},
	} {
		if _, err := bad.c.Mutual(read); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%+v: %v", bad.c, err)
		}
	}
}
