package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Client returns the TLS configuration of a connection to a service, as the files are now: at least TLS 1.2, the CA of
// the file instead of the system's if one is given, and this side's certificate if one is given. It is for commands
// that end soon; a node reads its files anew (package trust). readFile is os.ReadFile outside tests. A nil receiver
// gives nil: no TLS.
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

// TLSBlock is a block of TLS and the key under which it stands, e.g. "kafka.tls".
type TLSBlock struct {
	Key string
	TLS *TLS
}

// TLSBlocks returns the TLS blocks that the configuration has.
func (c *Config) TLSBlocks() (blocks []TLSBlock) {
	walk(reflect.ValueOf(c), "", func(key string, v any) {
		if t, ok := v.(*TLS); ok {
			blocks = append(blocks, TLSBlock{key, t})
		}
	})
	return blocks
}

// KeyedSecret is a secret and the key under which it stands, e.g. "kafka.sasl.password".
type KeyedSecret struct {
	Key    string
	Secret Secret
}

// Secrets returns the secrets that the configuration has.
func (c *Config) Secrets() (secrets []KeyedSecret) {
	walk(reflect.ValueOf(c), "", func(key string, v any) {
		if s, ok := v.(*Secret); ok && s.IsSet() {
			secrets = append(secrets, KeyedSecret{key, *s})
		}
	})
	return secrets
}

// InClear is a connection on which a password can be read, by its key in the configuration; Text says what to do.
type InClear struct{ Key, Text string }

// PasswordsInClear returns the connections to other hosts that carry a password, or what stands for one, unencrypted.
// SCRAM sends none, and S3 signs with the secret key without sending it.
func (c *Config) PasswordsInClear() (found []InClear) {
	if k := &c.Kafka; k.SASL != nil && k.TLS == nil {
		what := map[string]string{"plain": "the password of " + k.SASL.User, "oauthbearer": "a token"}[k.SASL.Mechanism]
		i := slices.IndexFunc(k.Brokers, func(b string) bool { return !Loopback(b) })
		if what != "" && i >= 0 {
			found = append(found, InClear{"kafka.sasl", what + " goes to " + k.Brokers[i] +
				" unencrypted: set kafka.tls, or a mechanism that sends nothing of the kind (scram-sha-512)"})
		}
	}
	if ch := c.ClickHouse; ch != nil && ch.Password.IsSet() && ch.TLS == nil && !Loopback(ch.Address) {
		found = append(found, InClear{"clickhouse.password", "it goes to " + ch.Address +
			" unencrypted: set clickhouse.tls, and the server's port for TLS"})
	}
	return append(found, c.Delta.inClear()...)
}

// inClear is PasswordsInClear for S3: tokens are sent along.
func (d *Delta) inClear() (found []InClear) {
	if d == nil || d.S3 == nil {
		return nil
	}
	s := d.S3
	tokens := s.SessionToken.IsSet() || s.Credentials != "static"
	if host, plain := strings.CutPrefix(s.Endpoint, "http://"); plain && tokens && !Loopback(host) {
		found = append(found, InClear{"delta.s3.endpoint",
			"session tokens go to " + host + " unencrypted: write https://, or use keys without one"})
	}
	if host, plain := strings.CutPrefix(s.STSEndpoint, "http://"); plain && !Loopback(host) {
		found = append(found, InClear{"delta.s3.sts_endpoint",
			"keys come from " + host + " unencrypted: write https://"})
	}
	return found
}

// SecretFile is a file with a secret and the key that names it, e.g. "kafka.sasl.password".
type SecretFile struct{ Key, Path string }

// SecretFiles returns the files whose content nobody else should read: secrets, keys of TLS blocks and of the data
// folder, and tokens of HTTP, of which no secret can be computed, but to which nobody may add one.
func (c *Config) SecretFiles() (files []SecretFile) {
	walk(reflect.ValueOf(c), "", func(key string, v any) {
		switch v := v.(type) {
		case *TLS:
			if v.Key != "" {
				files = append(files, SecretFile{key + ".key", v.Key})
			}
		case *Secret:
			if v.File != "" {
				files = append(files, SecretFile{key, v.File})
			}
		case *Encryption:
			for i, f := range v.Keys {
				files = append(files, SecretFile{fmt.Sprintf("%s.keys[%d].file", key, i), f.File})
			}
		case *HTTPAuth:
			if v.Tokens != "" {
				files = append(files, SecretFile{key + ".tokens", v.Tokens})
			}
		case *Kerberos:
			if v.Keytab != "" {
				files = append(files, SecretFile{key + ".keytab", v.Keytab})
			}
		case *OAuth:
			if v.TokenFile != "" {
				files = append(files, SecretFile{key + ".token_file", v.TokenFile})
			}
		case *Privacy:
			for i, f := range v.Keys {
				files = append(files, SecretFile{fmt.Sprintf("%s.keys[%d].file", key, i), f.File})
			}
		}
	})
	return files
}

// walk calls f with a pointer to every block below v that the configuration has, and with its key.
func walk(v reflect.Value, key string, f func(key string, block any)) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return
	}
	f(key, v.Addr().Interface())
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() {
			walk(v.Field(i), strings.TrimPrefix(key+"."+v.Type().Field(i).Tag.Get("yaml"), "."), f)
		}
	}
}
