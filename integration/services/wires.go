package services

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"deckle/trust/pki"
)

// Authority is a CA of the tests' own, which the services have their certificates of. What belongs to the tests
// (simulator, readers, watchers) reaches the services by doors without TLS; the nodes have no way but TLS.
type Authority struct {
	ca     *pki.CA
	bundle string
}

// NewAuthority makes a CA in a folder.
func NewAuthority(dir string) (*Authority, error) {
	ca, err := pki.NewCA("services", time.Now(), 365)
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	text, _, err := ca.PEM()
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	a := &Authority{ca: ca, bundle: filepath.Join(dir, "services-ca.pem")}
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(a.bundle, text, 0o600)); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return a, nil
}

// Account is the way that the nodes have to a service: an address with TLS, and who they are there.
type Account struct {
	Addr, User string
	CA         string // the file with the CA of the service's certificate

	mu       sync.Mutex
	password string
}

// Password is the present one.
func (a *Account) Password() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.password
}

func (a *Account) set(password string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.password = password
}

// account is one at a port that is free.
func (a *Authority) account(user, password string) (*Account, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	return &Account{Addr: fmt.Sprintf("127.0.0.1:%d", port), User: user, CA: a.bundle, password: password}, nil
}

// server writes a certificate for 127.0.0.1 and its key into files.
func (a *Authority) server(name, certFile, keyFile string) error {
	cert, key, err := a.ca.Node("services", name, []string{"127.0.0.1", "localhost"}, time.Now(), 300)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(certFile), 0o700), os.WriteFile(certFile, cert, 0o600),
			os.WriteFile(keyFile, key, 0o600))
	}
	if err != nil {
		return fmt.Errorf("services: a certificate for %s: %w", name, err)
	}
	return nil
}

// client trusts the CA alone.
func (a *Authority) client() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.ca.Cert)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// door is a listener without TLS, through which what belongs to the tests reaches a service that has nothing but TLS.
type door struct {
	addr string
	ln   net.Listener
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil when the door is shut
}

func (a *Authority) openDoor(target string) (*door, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	d := &door{addr: ln.Addr().String(), ln: ln, conns: map[net.Conn]bool{}}
	conf := a.client()
	d.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // it is shut
			}
			d.wg.Go(func() { d.relay(c, target, conf) })
		}
	})
	return d, nil
}

func (d *door) relay(c net.Conn, target string, conf *tls.Config) {
	defer d.forget(c)
	if !d.keep(c) {
		return
	}
	s, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", target, conf)
	if err != nil {
		return // the service is down: so is what is behind the door
	}
	defer d.forget(s)
	if !d.keep(s) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, s)
		d.forget(c)
	})
	_, _ = io.Copy(s, c)
	_ = s.CloseWrite()
	back.Wait()
}

func (d *door) keep(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		return false
	}
	d.conns[c] = true
	return true
}

func (d *door) forget(c net.Conn) {
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
	_ = c.Close()
}

// shut ends the door and every connection through it.
func (d *door) shut() {
	_ = d.ln.Close()
	d.mu.Lock()
	for c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
	d.mu.Unlock()
	d.wg.Wait()
}

// plainPassword is that of services without an Authority.
const plainPassword = "deckle-secret"

func newPassword() string { return "secret-" + rand.Text() }

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, fmt.Errorf("services: %w", err)
	}
	return host, port, nil
}

// replaceFile writes a file that nobody ever reads in part.
func replaceFile(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
