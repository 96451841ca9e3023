package node

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"deckle/node/config"
	"deckle/node/nodetest"
	model "deckle/sim/testworld/clickhouse"
	"deckle/sim/testworld/objects"
	"deckle/state"
)

// keyedLake is an object store that takes requests of one access key, which may change.
type keyedLake struct {
	objects.S3
	key atomic.Value
}

// ServeHTTP implements http.Handler.
func (l *keyedLake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.Header.Get("Authorization"), "Credential="+l.key.Load().(string)+"/") {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("<Error><Code>InvalidAccessKeyId</Code></Error>"))
		return
	}
	l.S3.ServeHTTP(w, r)
}

// Passwords and keys change at the services, and then in the files of a node that runs. From the first moment on the
// services take the former ones no more: what goes on afterwards has the new ones, and no restart was needed.
func TestPasswordsChangeUnderANode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(password string) {
		t.Helper()
		for _, name := range []string{"kafka", "s3-access", "s3-secret", "clickhouse"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(name+password+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := func(name string) config.Secret { return config.Secret{File: filepath.Join(dir, name)} }
	write("-one")

	r := newRestartable(t)
	r.password = "kafka-one"
	r.up()
	click := model.New(model.Options{User: "u", Password: "clickhouse-one"})
	t.Cleanup(click.Close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() { _ = click.Serve(ln) }()
	lake := &keyedLake{S3: objects.S3{Bucket: "lake"}}
	lake.key.Store("s3-access-one")
	srv := httptest.NewServer(lake)
	t.Cleanup(srv.Close)

	c := newCluster(t, r.Broker, 1, func(cfg *config.Config) {
		cfg.Kafka.SASL = &config.SASL{Mechanism: "plain", User: "u", Password: file("kafka")}
		cfg.Delta = &config.Delta{RevisionInterval: 200 * time.Millisecond, S3: &config.S3{Endpoint: srv.URL,
			Bucket: "lake", AccessKey: file("s3-access"), SecretKey: file("s3-secret")}}
		cfg.ClickHouse = &config.ClickHouse{Address: ln.Addr().String(), User: "u", Password: file("clickhouse")}
	})
	c.brokers, c.realSinks = r.ListenAddrs(), true
	n := c.start(0)
	written := func(events int64) {
		t.Helper()
		nodetest.Until(t, "applied", func() bool { return c.sum(applied) == events })
		nodetest.Until(t, "written by every sink", c.allAcked(state.SinkEvents, state.SinkSessions,
			state.SinkRevisions, state.SinkClickHouse, state.SinkDeadLetter))
		nodetest.Until(t, "nothing fails", func() bool {
			_, _, s := c.leader(0)
			return len(s.Failing)+len(s.Stopped) == 0
		})
	}
	r.some("s", 0, 10)
	written(10)

	r.down()
	r.password = "kafka-two"
	click.SetPassword("clickhouse-two")
	lake.key.Store("s3-access-two")
	r.up()
	r.some("s", 10, 10)
	// This broker refuses by ending the connection. A real one says why.
	nodetest.Until(t, "the broker refuses the former password", func() bool {
		_, _, s := c.leader(0)
		return s.Failing["source"] != ""
	})
	if n := c.sum(applied); n != 10 {
		t.Errorf("%d events were read with the former password", n)
	}
	renewed := n.files.renewed()
	write("-two")
	n.files.files.Look()
	select {
	case <-renewed: // sinks in their pauses wake
	default:
		t.Error("no shard is told that files have changed")
	}
	written(20)

	// The sinks alone, while the source goes on.
	click.SetPassword("clickhouse-three")
	lake.key.Store("s3-access-three")
	r.some("s", 20, 10)
	nodetest.Until(t, "ClickHouse refuses the former password", func() bool {
		_, _, s := c.leader(0)
		why := s.Failing["clickhouse"] + s.Stopped["clickhouse"]
		if strings.Contains(why, "clickhouse-") {
			t.Fatalf("a password is shown: %s", why)
		}
		return strings.Contains(why, "uthentication failed")
	})
	for name, password := range map[string]string{"s3-access": "s3-access-three", "s3-secret": "s3-secret-three",
		"clickhouse": "clickhouse-three"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.files.files.Look()
	written(30)
}
