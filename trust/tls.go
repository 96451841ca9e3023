package trust

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Block says which files make a side of a TLS connection.
type Block struct {
	Roots      string // PEM file of any number of CAs; "": the system's
	Cert, Key  string // PEM files of this side's certificate, its chain behind it, and of its key; "": none
	ServerName string // the name that a server must have; "": the host that is dialled
	Unverified bool   // a client does not verify the server
	MinVersion uint16 // default tls.VersionTLS12
}

// Material is what a Block's files have at the moment. Its methods are safe for concurrent use.
type Material struct {
	block Block
	now   func() time.Time

	mu      sync.Mutex
	roots   []*x509.Certificate // nil: the system's
	pool    *x509.CertPool
	cert    *tls.Certificate // nil: none
	client  *tls.Config
	changed []func()
}

// TLS reads the files of a block, now and whenever one has changed. key is that of the block in the configuration, for
// example "kafka.tls"; the files are known by key.ca and key.cert. Asked for the same key and block again it returns
// the same Material.
func (f *Files) TLS(key string, b Block) (*Material, error) {
	if (b.Cert == "") != (b.Key == "") {
		return nil, fmt.Errorf("%s: a certificate and its key come together", key)
	}
	f.looking.Lock()
	defer f.looking.Unlock()
	if m := f.materials[key]; m != nil && m.block == b {
		return m, nil
	}
	m := &Material{block: b, now: f.now}
	var files []*watched
	if b.Roots != "" {
		files = append(files, &watched{key: key + ".ca", paths: []string{b.Roots}, take: m.takeRoots})
	}
	if b.Cert != "" {
		files = append(files, &watched{key: key + ".cert", paths: []string{b.Cert, b.Key}, take: m.takePair})
	}
	if err := f.addLocked(files...); err != nil {
		return nil, err
	}
	f.materials[key] = m
	return m, nil
}

func (m *Material) takeRoots(contents [][]byte) (*expiry, error) {
	certs, err := parseBundle(contents[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.block.Roots, err)
	}
	pool := x509.NewCertPool()
	e := &expiry{}
	for _, c := range certs {
		pool.AddCert(c)
		e.ends = append(e.ends, c.NotAfter)
	}
	m.put(func() { m.roots, m.pool = certs, pool })
	return e, nil
}

func (m *Material) takePair(contents [][]byte) (*expiry, error) {
	cert, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", m.block.Cert, m.block.Key, err)
	}
	e := &expiry{all: true}
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.block.Cert, err)
		}
		e.ends = append(e.ends, c.NotAfter)
	}
	m.put(func() { m.cert = &cert })
	return e, nil
}

// put changes what is in use, and tells whoever wants to know.
func (m *Material) put(change func()) {
	m.mu.Lock()
	change()
	m.client = nil
	tell := slices.Clone(m.changed)
	m.mu.Unlock()
	for _, f := range tell {
		f()
	}
}

// Changed has f called after another CA bundle, certificate or key has come into use. f must not wait.
func (m *Material) Changed(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = append(m.changed, f)
}

// Client returns the configuration of a connection to a server. It is the same until a file has changed, and is not to
// be changed: ask anew for each connection, and Clone it where the host's name is to be set.
func (m *Material) Client() *tls.Config {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.client == nil {
		m.client = &tls.Config{MinVersion: m.minVersion(), ServerName: m.block.ServerName, RootCAs: m.pool, Time: m.now,
			InsecureSkipVerify: m.block.Unverified} //nolint:gosec // the operator's explicit choice, a condition
		if m.cert != nil {
			m.client.Certificates = []tls.Certificate{*m.cert}
		}
	}
	return m.client
}

// Server returns the configuration of a listener, for as long as it listens: each connection gets what is in use when
// it comes. Clients are asked for a certificate as ask says, which is verified against the block's CAs; check, if set,
// is called after that (VerifyConnection). A server that speaks HTTP/2 sets NextProtos of what is returned.
func (m *Material) Server(ask tls.ClientAuthType, check func(tls.ConnectionState) error) *tls.Config {
	c := m.server(ask, check)
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := m.server(ask, check)
		now.NextProtos = c.NextProtos
		return now, nil
	}
	return c
}

func (m *Material) server(ask tls.ClientAuthType, check func(tls.ConnectionState) error) *tls.Config {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &tls.Config{MinVersion: m.minVersion(), ClientAuth: ask, ClientCAs: m.pool, VerifyConnection: check,
		Time: m.now, SessionTicketsDisabled: true}
	if m.cert != nil {
		c.Certificates = []tls.Certificate{*m.cert}
	}
	return c
}

func (m *Material) minVersion() uint16 { return max(m.block.MinVersion, tls.VersionTLS12) }

// Leaf returns this side's certificate, nil if it has none.
func (m *Material) Leaf() *x509.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cert == nil {
		return nil
	}
	return m.cert.Leaf
}

// VerifyOwn verifies this side's certificate against the block's own CAs, for each use: what fails here is refused by
// every other side that has the same CAs.
func (m *Material) VerifyOwn(uses ...x509.ExtKeyUsage) error {
	m.mu.Lock()
	cert, pool, now := m.cert, m.pool, m.now()
	m.mu.Unlock()
	if cert == nil {
		return errors.New("there is no certificate")
	}
	chain := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain.AddCert(c)
	}
	for _, use := range uses {
		_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: chain, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{use}})
		if err != nil {
			return err
		}
	}
	return nil
}

// parseBundle returns the certificates of a PEM text. What else is in it, and certificates that Go cannot read (bundles
// of systems have some), are passed over. A block that begins and does not end is an error: somebody is writing the
// file.
func parseBundle(text []byte) (certs []*x509.Certificate, err error) {
	rest := text
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, c)
		}
	}
	switch {
	case bytes.Contains(rest, []byte("-----BEGIN CERTIFICATE-----")):
		return nil, errors.New("its last certificate is cut off")
	case len(certs) == 0:
		return nil, errors.New("holds no PEM certificate")
	}
	return certs, nil
}

// expiry is when the certificates of a file end.
type expiry struct {
	ends []time.Time
	// all says that all of them are needed: a certificate and its chain. Of a bundle of CAs any one may do: those that
	// have expired already do not count, as long as one has not.
	all bool
}

// at returns when what is in use of the file expires, as seen at a time. The zero time is that of a file without
// certificates.
func (e *expiry) at(now time.Time) (first time.Time) {
	if e == nil {
		return first
	}
	for _, end := range e.ends {
		if (e.all || !end.Before(now)) && (first.IsZero() || end.Before(first)) {
			first = end
		}
	}
	if first.IsZero() && len(e.ends) > 0 { // all CAs have expired
		first = slices.MaxFunc(e.ends, time.Time.Compare)
	}
	return first
}
