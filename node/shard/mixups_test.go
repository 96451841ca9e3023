package shard

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/nodetest"
	model "deckle/sim/testworld/clickhouse"
	"deckle/sim/testworld/objects"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta/store"
)

// certificate makes one for a host that is its own CA.
func certificate(t *testing.T, host string, from, to time.Time) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, NotBefore: from,
		NotAfter: to, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature |
			x509.KeyUsageCertSign}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

// side is what one end of a wire has.
type side struct {
	tls            *tls.Config // nil: none
	user, password string      // "": no authentication
	http           bool        // another protocol answers
}

// answering listens, and answers whatever comes with a text and the end of the connection.
func answering(t *testing.T, text string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1<<10))
			_, _ = c.Write([]byte(text))
			_ = c.Close()
		}
	}()
	return ln
}

// wires connect to a service that has one side with the other, and return the error.
var wires = map[string]func(t *testing.T, service, ours side, cfg *config.Config) error{
	"source": func(t *testing.T, service, ours side, cfg *config.Config) error {
		opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, nodetest.Topic)}
		if service.tls != nil {
			opts = append(opts, kfake.TLS(service.tls))
		}
		if service.user != "" {
			opts = append(opts, kfake.EnableSASL(), kfake.Superuser("PLAIN", service.user, service.password))
		}
		if service.tls == nil && ours.tls != nil { // a broker ends what is no request; the double waits for its end
			ln := answering(t, "")
			defer ln.Close()
			cfg.Kafka.Brokers = []string{ln.Addr().String()}
		} else {
			fake, err := kfake.NewCluster(opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer fake.Close()
			cfg.Kafka.Brokers = fake.ListenAddrs()
		}
		cfg.Kafka.Topic = nodetest.Topic
		secure := kafka.Secure{TLS: func() *tls.Config { return ours.tls }}
		if ours.tls != nil {
			cfg.Kafka.TLS = &config.TLS{CA: "ca.pem"}
		}
		if ours.user != "" {
			cfg.Kafka.SASL = &config.SASL{Mechanism: "plain", User: ours.user}
			secure.Password = func() string { return ours.password }
		}
		cl, err := kafka.Open(&cfg.Kafka, "test", secure, slog.New(slog.DiscardHandler),
			[]kgo.Opt{kgo.RequestRetries(0)})
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		_, err = cl.Describe(nodetest.Context(t))
		return err
	},
	"clickhouse": func(t *testing.T, service, ours side, cfg *config.Config) error {
		ln := answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n")
		defer func() { ln.Close() }()
		if !service.http {
			_ = ln.Close()
			var err error
			if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			if service.tls != nil {
				ln = tls.NewListener(ln, service.tls)
			}
			srv := model.New(model.Options{User: service.user, Password: service.password})
			defer srv.Close()
			go func() { _ = srv.Serve(ln) }()
		}
		cfg.ClickHouse = &config.ClickHouse{Address: ln.Addr().String()}
		o := clickhouse.Options{Address: ln.Addr().String(), Database: "d", ClusterID: "c", Pipeline: "p",
			User: ours.user, Password: func() string { return ours.password }, ReadTimeout: time.Minute}
		if ours.tls != nil {
			cfg.ClickHouse.TLS, o.TLS = &config.TLS{CA: "ca.pem"}, func() *tls.Config { return ours.tls }
		}
		s := clickhouse.New(o)
		defer s.Close()
		return s.EnsureSchema(nodetest.Context(t))
	},
	"sessions": func(t *testing.T, service, ours side, cfg *config.Config) error {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("Authorization"), "Credential="+service.user) {
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write([]byte("<Error><Code>InvalidAccessKeyId</Code></Error>"))
				return
			}
			(&objects.S3{Bucket: "lake"}).ServeHTTP(w, r)
		}))
		srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		if srv.TLS = service.tls; service.tls != nil {
			srv.StartTLS()
		} else {
			srv.Start()
		}
		defer srv.Close()
		scheme := map[bool]string{false: "http://", true: "https://"}[ours.tls != nil]
		o := store.S3Options{Endpoint: scheme + srv.Listener.Addr().String(), Bucket: "lake", MaxRetries: 1,
			Credentials: store.StaticCredentials(ours.user+"-", "secret")}
		cfg.Delta = &config.Delta{S3: &config.S3{}}
		if ours.tls != nil {
			cfg.Delta.S3.TLS, o.TLS = &config.TLS{CA: "ca.pem"}, func() *tls.Config { return ours.tls }
		}
		s, err := store.NewS3(o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
		defer cancel()
		return s.List(ctx, "", "", func(store.Info) error { return nil })
	},
}

// On each wire, each way to mix things up gives a text that names the key and what it should be.
func TestMixups(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	now := time.Now()
	good, ca := certificate(t, "127.0.0.1", now.Add(-day), now.Add(day))
	_, otherCA := certificate(t, "127.0.0.1", now.Add(-day), now.Add(day))
	elsewhere, elsewhereCA := certificate(t, "broker.example", now.Add(-day), now.Add(day))
	expired, expiredCA := certificate(t, "127.0.0.1", now.Add(-2*day), now.Add(-day))
	early, earlyCA := certificate(t, "127.0.0.1", now.Add(day), now.Add(2*day))
	mutual := good.Clone()
	mutual.ClientAuth, mutual.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 // 1.3 refuses later, by chance
	knows := func(pool *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: pool} }
	for _, row := range []struct {
		what          string
		service, ours side
		want          map[string]string // by wire; "": it works
	}{
		{"as it should be", side{tls: good, user: "u", password: "p"}, side{tls: knows(ca), user: "u", password: "p"},
			map[string]string{"source": "", "clickhouse": "", "sessions": ""}},
		{"another CA", side{tls: good}, side{tls: knows(otherCA)},
			map[string]string{"source": "kafka.tls.ca does not have", "clickhouse": "clickhouse.tls.ca does not have",
				"sessions": "delta.s3.tls.ca does not have"}},
		{"another host", side{tls: elsewhere}, side{tls: knows(elsewhereCA)},
			map[string]string{"source": "kafka.tls.server_name", "clickhouse": "clickhouse.tls.server_name",
				"sessions": "delta.s3.tls.server_name"}},
		{"expired", side{tls: expired}, side{tls: knows(expiredCA)},
			map[string]string{"source": "has expired at 20", "clickhouse": "has expired at 20",
				"sessions": "has expired at 20"}},
		{"not yet valid", side{tls: early}, side{tls: knows(earlyCA)},
			map[string]string{"source": "not valid before 20", "clickhouse": "not valid before 20",
				"sessions": "not valid before 20"}},
		{"no certificate of ours", side{tls: mutual}, side{tls: knows(ca)},
			map[string]string{"source": "kafka.tls.cert", "clickhouse": "clickhouse.tls.cert",
				"sessions": "delta.s3.tls.cert"}},
		{"TLS to none", side{}, side{tls: knows(ca)},
			map[string]string{"source": "take kafka.tls away", "clickhouse": "take clickhouse.tls away",
				"sessions": "delta.s3.endpoint does not speak TLS"}},
		{"none to TLS", side{tls: good}, side{},
			map[string]string{"source": "kafka.tls", "clickhouse": "set clickhouse.tls", "sessions": "write https://"}},
		{"a wrong password", side{user: "u", password: "p"}, side{user: "u", password: "q"},
			map[string]string{"clickhouse": "clickhouse.password"}},
		{"another account", side{user: "u", password: "p"}, side{user: "v", password: "p"},
			map[string]string{"clickhouse": "clickhouse.user", "sessions": "access_key"}},
		{"no password", side{user: "u", password: "p"}, side{}, map[string]string{"source": "kafka.sasl"}},
		{"another protocol", side{http: true}, side{},
			map[string]string{"clickhouse": "the port of the native protocol"}},
		{"another protocol, in TLS", side{http: true}, side{tls: knows(ca)},
			map[string]string{"clickhouse": "take clickhouse.tls away"}},
	} {
		for wire, want := range row.want {
			t.Run(row.what+"/"+wire, func(t *testing.T) {
				cfg := &config.Config{}
				err := wires[wire](t, row.service, row.ours, cfg)
				got := hint(cfg, wire, err, now)
				if (err == nil) != (want == "") || !strings.Contains(got, want) {
					t.Errorf("%q (%v), want %q", got, err, want)
				}
			})
		}
	}
}

// What a broker says of authentication, which the double of it does not, and a store of keys.
func TestMixupsByCode(t *testing.T) {
	cfg := &config.Config{Delta: &config.Delta{S3: &config.S3{}}}
	for _, row := range []struct {
		part part
		err  error
		want string
	}{
		{"source", kerr.SaslAuthenticationFailed, "what kafka.sasl has"},
		{"deadletter", kerr.SaslAuthenticationFailed, "what kafka.sasl has"},
		{"partition 3", kerr.UnsupportedSaslMechanism, "kafka.sasl.mechanism"},
		{"source", kerr.IllegalSaslState, "take kafka.sasl away"},
		{"source", kerr.NotLeaderForPartition, ""},
		{"source", io.EOF, ""},
		{"sessions", kerr.SaslAuthenticationFailed, ""},
		{"events", errors.New("The request signature we calculated does not match"), "delta.s3.secret_key"},
		{"events", errors.New("503 SlowDown"), ""},
		{"events", errors.New("store: put a: Access Denied."), "right s3:PutObject: see deploy/rights/s3-policy.json"},
		{"events", errors.New("store: get a: Access Denied."), "right s3:GetObject (or s3:ListBucket"},
		{"events", errors.New("store: list a: Access Denied."), "right s3:ListBucket:"},
		{"events", errors.New("store: delete a: Access Denied."), "right s3:DeleteObject:"},
		{"events", errors.New("store: put a: The provided token has expired."), "renew delta.s3.session_token"},
		{"events", errors.New("store: put a: The provided token is malformed or otherwise invalid."),
			"delta.s3.session_token does not belong"},
		{"events", errors.New("store: put a: store: no S3 keys (delta.s3.credentials): web_identity: Access Denied."),
			"delta.s3.role_arn"},
		{"events", errors.New("store: put a: store: no S3 keys (delta.s3.credentials): assume_role: User: x is not " +
			"authorized to perform: sts:AssumeRole on resource: y"), "trust policy"},
		{"events", errors.New("store: put a: store: no S3 keys (delta.s3.credentials): web_identity: The web " +
			"identity token that was passed is expired"), "delta.s3.token_file"},
		{"events", errors.New("store: put a: store: no S3 keys (delta.s3.credentials): instance: 503"), ""},
		{"clickhouse", errors.New("uthentication failed"), ""}, // there is none
		{"source", nil, ""},
	} {
		err := row.err
		if err != nil {
			err = fmt.Errorf("kafka: %w", err)
		}
		got := hint(cfg, row.part, err, time.Now())
		if !strings.Contains(got, row.want) || (got == "") != (row.want == "") {
			t.Errorf("%s, %v: %q, want %q", row.part, row.err, got, row.want)
		}
	}
}
