package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// Client returns the TLS configuration of a connection to a service: at least TLS 1.2, the CA of the file instead of
// the system's if one is given, and this node's certificate if one is given. readFile is os.ReadFile outside tests.
// A nil receiver gives nil: no TLS.
func (c *TLS) Client(readFile func(string) ([]byte, error)) (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	t := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // the operator's explicit choice, reported at start
	}
	if c.CA != "" {
		pool, err := readPool(c.CA, readFile)
		if err != nil {
			return nil, err
		}
		t.RootCAs = pool
	}
	if c.Cert != "" {
		cert, err := readKeyPair(c.Cert, c.Key, readFile)
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return t, nil
}

// Mutual returns the configuration of connections between nodes: both ends present a certificate of the CA.
func (c *TLS) Mutual(readFile func(string) ([]byte, error)) (*tls.Config, error) {
	t, err := c.Client(readFile)
	if err != nil || t == nil {
		return nil, err
	}
	t.ClientCAs = t.RootCAs
	t.ClientAuth = tls.RequireAndVerifyClientCert
	return t, nil
}

func readPool(path string, readFile func(string) ([]byte, error)) (*x509.CertPool, error) {
	pem, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("tls ca: %w", err)
	}
	if pem, err = withoutMark(pem); err != nil {
		return nil, fmt.Errorf("tls ca: %s: %w", path, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls ca: %s holds no PEM certificate", path)
	}
	return pool, nil
}

func readKeyPair(certPath, keyPath string, readFile func(string) ([]byte, error)) (tls.Certificate, error) {
	certPEM, err := readFile(certPath)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls cert: %w", err)
	}
	keyPEM, err := readFile(keyPath)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls key: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls cert %s and key %s: %w", certPath, keyPath, err)
	}
	return cert, nil
}

// UnverifiedTLS names the TLS blocks that do not verify the certificate of the other end, e.g. "kafka.tls".
func (c *Config) UnverifiedTLS() []string {
	var out []string
	add := func(key string, t *TLS) {
		if t != nil && t.InsecureSkipVerify {
			out = append(out, key)
		}
	}
	add("cluster.tls", c.Cluster.TLS)
	add("kafka.tls", c.Kafka.TLS)
	if c.Delta != nil && c.Delta.S3 != nil {
		add("delta.s3.tls", c.Delta.S3.TLS)
	}
	if c.ClickHouse != nil {
		add("clickhouse.tls", c.ClickHouse.TLS)
	}
	return out
}
