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
		Privacy:    Privacy{Keys: []KeyFile{{"8"}}},
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
	want := "cluster.tls.key=1 kafka.sasl.password=2 privacy.keys[0].file=8 delta.s3.secret_key=4 " +
		"delta.s3.tls.key=3 clickhouse.password=5 encryption.keys[0].file=6 encryption.keys[1].file=7"
	if got := strings.Join(files, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var secrets []string
	for _, s := range c.Secrets() {
		secrets = append(secrets, s.Key+"="+s.Secret.Env+s.Secret.File)
	}
	want = "kafka.sasl.password=2 delta.s3.access_key=X delta.s3.secret_key=4 clickhouse.password=5"
	if got := strings.Join(secrets, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A password in clear is told for each way in which one goes to another host, and for no other.
func TestPasswordsInClear(t *testing.T) {
	with := SecretValue("secret")
	kafka := func(mechanism string, tls *TLS, brokers ...string) Config {
		return Config{Kafka: Kafka{Brokers: brokers, TLS: tls,
			SASL: &SASL{Mechanism: mechanism, User: "u", Password: with}}}
	}
	click := func(password Secret, tls *TLS, address string) Config {
		return Config{ClickHouse: &ClickHouse{Address: address, Password: password, TLS: tls}}
	}
	lake := func(s S3) Config { return Config{Delta: &Delta{S3: &s}} }
	for _, row := range []struct {
		c    Config
		want string
	}{
		{Config{}, ""},
		{Config{Kafka: Kafka{Brokers: []string{"k:9092"}}}, ""},
		{kafka("plain", nil, "k:9092"), "kafka.sasl: the password of u goes to k:9092 unencrypted: set kafka.tls"},
		{kafka("plain", nil, "localhost:1", "10.0.0.1:2", "k:3"), "kafka.sasl: the password of u goes to 10.0.0.1:2 "},
		{kafka("plain", nil, "localhost:1", "127.0.0.2:2", "[::1]:3"), ""},
		{kafka("plain", &TLS{}, "k:9092"), ""},
		{kafka("scram-sha-256", nil, "k:9092"), ""},
		{kafka("oauthbearer", nil, "k:9092"), "kafka.sasl: a token goes to k:9092 unencrypted"},
		{kafka("oauthbearer", &TLS{}, "k:9092"), ""},
		{click(with, nil, "ch:9000"), "clickhouse.password: it goes to ch:9000 unencrypted: set clickhouse.tls"},
		{click(Secret{File: "x"}, nil, "[2001:db8::1]:9000"), "clickhouse.password: "},
		{click(with, nil, "LOCALHOST:9000"), ""},
		{click(with, &TLS{}, "ch:9000"), ""},
		{click(Secret{}, nil, "ch:9000"), ""},
		{lake(S3{Endpoint: "http://s3:1", Credentials: "static", AccessKey: with, SecretKey: with}), ""},
		{lake(S3{Endpoint: "http://s3:1", Credentials: "static", SessionToken: with}),
			"delta.s3.endpoint: session tokens go to s3:1 unencrypted"},
		{lake(S3{Endpoint: "http://s3:1", Credentials: "chain"}), "delta.s3.endpoint: session tokens go to s3:1 "},
		{lake(S3{Endpoint: "http://127.0.0.1:1", Credentials: "chain"}), ""},
		{lake(S3{Endpoint: "https://s3:1", Credentials: "web_identity", STSEndpoint: "https://sts"}), ""},
		{lake(S3{Endpoint: "https://s3:1", Credentials: "web_identity", STSEndpoint: "http://sts"}),
			"delta.s3.sts_endpoint: keys come from sts unencrypted"},
	} {
		got := ""
		for _, c := range row.c.PasswordsInClear() {
			got += c.Key + ": " + c.Text
		}
		if !strings.HasPrefix(got, row.want) || (got == "") != (row.want == "") || strings.Contains(got, "secret") {
			t.Errorf("%q, want %q", got, row.want)
		}
	}
	for address, want := range map[string]bool{"localhost:1": true, "localhost": true, "127.0.0.1": true, "::1": true,
		"[::1]": true, "[::1]:80": true, "[::ffff:127.0.0.1]:1": true, "": false, ":9000": false, "0.0.0.0:1": false,
		"localhost.example:1": false, "127.0.0.1.example:1": false, "10.0.0.1:1": false, "[::]:1": false} {
		if Loopback(address) != want {
			t.Errorf("%q: %v, want %v", address, !want, want)
		}
	}
}
