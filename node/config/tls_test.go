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
	for _, bad := range []struct {
		c    TLS
		want string
	}{
		{TLS{CA: "none"}, "tls ca"}, {TLS{CA: "junk"}, "holds no PEM certificate"},
		{TLS{Cert: "none", Key: "key"}, "tls cert"},
		{TLS{Cert: "cert", Key: "none"}, "tls key"}, {TLS{Cert: "cert", Key: "junk"}, "tls cert cert and key junk"},
	} {
		if _, err := bad.c.Client(read); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%+v: %v", bad.c, err)
		}
	}
}

// Every block of TLS and every secret in a file is found, wherever a later key has one.
func TestBlocksOfFiles(t *testing.T) {
	c := Config{
		Cluster:    Cluster{TLS: &TLS{Key: "1"}},
		Kafka:      Kafka{TLS: &TLS{CA: "x"}, SASL: &SASL{Password: Secret{File: "2"}}},
		Delta:      &Delta{S3: &S3{TLS: &TLS{Key: "3"}, AccessKey: Secret{Env: "X"}, SecretKey: Secret{File: "4"}}},
		ClickHouse: &ClickHouse{Password: Secret{File: "5"}, TLS: &TLS{}},
		Encryption: &Encryption{Keys: []KeyFile{{"6"}, {"7"}}},
	}
	var blocks []string
	for _, b := range c.TLSBlocks() {
		blocks = append(blocks, b.Key)
	}
	if got, want := strings.Join(blocks, " "), "cluster.tls kafka.tls delta.s3.tls clickhouse.tls"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var files []string
	for _, f := range c.SecretFiles() {
		files = append(files, f.Key+"="+f.Path)
	}
	want := "cluster.tls.key=1 kafka.sasl.password=2 delta.s3.secret_key=4 delta.s3.tls.key=3 clickhouse.password=5 " +
		"encryption.keys[0].file=6 encryption.keys[1].file=7"
	if got := strings.Join(files, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
