package clickhouse_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	model "deckle/sim/testworld/clickhouse"
	"deckle/sinks/clickhouse"
)

// A connection is made with the password and the TLS configuration of that moment, and one that is idle is not used
// again once either has changed: what was taken away counts at once. As long as nothing changes connections are kept.
func TestPasswordOfTheMoment(t *testing.T) {
	pair := httptest.NewTLSServer(nil) // for its certificate, which is its own CA
	pair.Close()
	srv := model.New(model.Options{User: "u", Password: "right"})
	defer srv.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: pair.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { _ = srv.Serve(ln) }()
	known := x509.NewCertPool()
	known.AddCert(pair.Certificate())
	good, other := &tls.Config{RootCAs: known}, &tls.Config{RootCAs: x509.NewCertPool()}
	password, present := "right", good
	var dials atomic.Int32
	opts := modelOptions(srv)
	opts.Address, opts.User, opts.ReadTimeout = ln.Addr().String(), "u", time.Minute
	opts.Password, opts.TLS = func() string { return password }, func() *tls.Config { return present }
	opts.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	s := clickhouse.New(opts)
	defer s.Close()
	ask := func(what, want string, anew bool) {
		t.Helper()
		before := dials.Load()
		err := s.EnsureSchema(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if (dials.Load() > before) != anew {
			t.Errorf("%s: %d connections were made", what, dials.Load()-before)
		}
	}
	ask("at the start", "", true)
	ask("nothing has changed", "", false)
	password = "wrong"
	ask("another password", "uthentication failed", true)
	password = "right"
	ask("the former one", "", true)
	present = other
	ask("an unknown CA", "certificate", true)
	present = good
	ask("the former one", "", true)
	ask("nothing has changed since", "", false)
}
