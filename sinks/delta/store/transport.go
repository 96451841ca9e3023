package store

import (
	"crypto/tls"
	"net/http"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
)

// transport carries requests over connections with the present TLS configuration: when there is another one (a file of
// a CA or certificate has changed), a new http.Transport takes the place of the one before, whose requests end.
type transport struct {
	secure bool
	tls    func() *tls.Config // nil: the system's roots
	wait   time.Duration      // for an answer's header

	mu   sync.Mutex
	now  *http.Transport
	made *tls.Config // for which now was made
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	now, err := t.present()
	if err != nil {
		return nil, err
	}
	return now.RoundTrip(r)
}

func (t *transport) present() (*http.Transport, error) {
	var c *tls.Config
	if t.tls != nil {
		c = t.tls()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != nil && t.made == c {
		return t.now, nil
	}
	next, err := minio.DefaultTransport(t.secure)
	if err != nil {
		return nil, err
	}
	if c != nil {
		next.TLSClientConfig = c.Clone()
	}
	next.ResponseHeaderTimeout = t.wait
	if t.now != nil {
		t.now.CloseIdleConnections()
	}
	t.now, t.made = next, c
	return next, nil
}

// close drops idle connections.
func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != nil {
		t.now.CloseIdleConnections()
	}
}
