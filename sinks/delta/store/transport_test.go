package store_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"deckle/sinks/delta/store"
)

// A CA that is replaced while the store is open counts from the next request on, also against a connection that is
// open: it is not used any more. As long as nothing changes connections are kept.
func TestS3TakesAnotherCA(t *testing.T) {
	var connections atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<Error><Code>NoSuchKey</Code></Error>"))
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	srv.StartTLS()
	defer srv.Close()
	known := x509.NewCertPool()
	known.AddCert(srv.Certificate())
	good, wrong := &tls.Config{RootCAs: known}, &tls.Config{RootCAs: x509.NewCertPool()}
	var present atomic.Pointer[tls.Config]
	present.Store(wrong)
	s, err := store.NewS3(store.S3Options{Endpoint: srv.URL, Bucket: "lake", MaxRetries: 1,
		Credentials: store.StaticCredentials("a", "secretsecret"), TLS: func() *tls.Config { return present.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := s.Get(ctx, "x")
		return err
	}
	if err := ask(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown CA: %v", err)
	}
	present.Store(good)
	for range 3 {
		if err := ask(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the right CA: %v", err)
		}
	}
	if n := connections.Load(); n > 2 {
		t.Errorf("%d connections, although nothing has changed", n)
	}
	present.Store(wrong)
	if err := ask(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a CA that was taken away: %v", err)
	}
}
