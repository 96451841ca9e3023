package clickhouse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Each connection is dialled with the TLS configuration of that moment: a CA that has changed counts from the next one
// on. The server ends what comes after the handshake.
func TestTLSOfTheMoment(t *testing.T) {
	srv := httptest.NewTLSServer(nil) // for its certificate, which is its own CA
	defer srv.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: srv.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	known := x509.NewCertPool()
	known.AddCert(srv.Certificate())
	present := &tls.Config{RootCAs: x509.NewCertPool()}
	p := newPool(Options{Address: ln.Addr().String(), MaxConns: 1, TLS: func() *tls.Config { return present },
		DialTimeout: time.Minute, ReadTimeout: time.Minute, Dial: (&net.Dialer{}).DialContext})
	dial := func() string {
		_, err := p.dial(context.Background())
		if err == nil {
			t.Fatal("the server has answered")
		}
		return err.Error()
	}
	if err := dial(); !strings.Contains(err, "TLS: ") || !strings.Contains(err, "certificate") {
		t.Errorf("an unknown CA: %s", err)
	}
	present = &tls.Config{RootCAs: known}
	if err := dial(); strings.Contains(err, "TLS: ") {
		t.Errorf("the right CA: %s", err)
	}
	if present.ServerName != "" {
		t.Error("the configuration was changed")
	}
}
