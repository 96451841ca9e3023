package kafka

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/config"
	"deckle/node/nodetest"
)

// Each connection proves itself with the password of that moment: one that was wrong, or has been changed on the
// broker, is mended without another client.
func TestKafkaPasswordOfTheMoment(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, nodetest.Topic), kfake.EnableSASL(),
			kfake.Superuser(strings.ToUpper(mechanism), "u", "right"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fake.Close)
		var password atomic.Value
		password.Store("wrong")
		cfg := &config.Kafka{Brokers: fake.ListenAddrs(), Topic: nodetest.Topic,
			SASL: &config.SASL{Mechanism: mechanism, User: "u", Password: config.SecretValue("of the start")}}
		cl, err := Open(cfg, "test", Secure{Password: func() string { return password.Load().(string) }},
			slog.New(slog.DiscardHandler), []kgo.Opt{kgo.RequestRetries(1)})
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
			defer cancel()
			_, err := cl.Describe(ctx)
			return err
		}
		if err := ask(); err == nil {
			t.Errorf("%s: a wrong password is taken", mechanism)
		}
		password.Store("right")
		if err := ask(); err != nil {
			t.Errorf("%s: the right one: %v", mechanism, err)
		}
	}
}

// A broker that takes no connection without TLS and no request without SASL is reached with the keys of the
// configuration, and not without them.
func TestKafkaTLSAndSASL(t *testing.T) {
	t.Parallel()
	// The certificate that the standard library keeps for tests is its own CA and bears the name example.com.
	server := httptest.NewTLSServer(nil)
	server.Close()
	pair := server.TLS.Certificates[0]
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, nodetest.Topic), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "p", "secret p"), kfake.Superuser("SCRAM-SHA-256", "s2", "secret s2"),
		kfake.Superuser("SCRAM-SHA-512", "s5", "secret s5"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)

	trusted := &config.TLS{CA: ca, ServerName: "example.com"}
	ask := func(block *config.TLS, sasl *config.SASL) error {
		cfg := &config.Kafka{Brokers: fake.ListenAddrs(), Topic: nodetest.Topic, TLS: block, SASL: sasl}
		present, err := block.Client(os.ReadFile)
		if err != nil {
			return err
		}
		secure := Secure{TLS: func() *tls.Config { return present }}
		if sasl != nil {
			secure.Password = sasl.Password.Value
		}
		// Without retries: the test need not wait for a refusal.
		cl, err := Open(cfg, "test", secure, slog.New(slog.DiscardHandler), []kgo.Opt{kgo.RequestRetries(1)})
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
		defer cancel()
		info, err := cl.Describe(ctx)
		if err == nil && info.Partitions != 3 {
			t.Errorf("%d partitions", info.Partitions)
		}
		return err
	}
	sasl := func(mechanism, user, password string) *config.SASL {
		return &config.SASL{Mechanism: mechanism, User: user, Password: config.SecretValue(password)}
	}
	// A block without its files must never become a plain connection.
	if _, err := Open(&config.Kafka{TLS: trusted}, "test", Secure{}, slog.New(slog.DiscardHandler), nil); err == nil {
		t.Error("TLS is left out")
	}
	if _, err := Open(&config.Kafka{SASL: sasl("plain", "p", "")}, "test", Secure{}, slog.New(slog.DiscardHandler),
		nil); err == nil {
		t.Error("the password is left out")
	}
	for _, c := range []struct {
		name string
		tls  *config.TLS
		sasl *config.SASL
		want string // in the error; "" for none, " " for any: kfake ends the connection
	}{
		{"plain", trusted, sasl("plain", "p", "secret p"), ""},
		{"scram-sha-256", trusted, sasl("scram-sha-256", "s2", "secret s2"), ""},
		{"scram-sha-512", trusted, sasl("scram-sha-512", "s5", "secret s5"), ""},
		{"insecure", &config.TLS{InsecureSkipVerify: true}, sasl("plain", "p", "secret p"), ""},
		{"wrong password", trusted, sasl("plain", "p", "wrong"), " "},
		{"wrong scram password", trusted, sasl("scram-sha-256", "s2", "wrong"), " "},
		{"the user of another mechanism", trusted, sasl("scram-sha-512", "s2", "secret s2"), " "},
		{"no SASL", trusted, nil, " "},
		{"no TLS", nil, sasl("plain", "p", "secret p"), " "},
		{"another name in the certificate", &config.TLS{CA: ca, ServerName: "other.example"},
			sasl("plain", "p", "secret p"), "certificate"},
		{"an unknown CA", &config.TLS{ServerName: "example.com"}, sasl("plain", "p", "secret p"), "certificate"},
		{"no such file", &config.TLS{CA: ca + ".none"}, nil, "tls ca"},
		{"unknown mechanism", trusted, sasl("ntlm", "p", "secret p"), "ntlm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			err := ask(c.tls, c.sasl)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q, after %v", err, c.want, time.Since(began))
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}
