package node

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"deckle/node/config"
	"deckle/node/nodetest"
)

// addressLog is a log from which a test learns the address of the page.
type addressLog struct {
	slog.Handler
	url chan string
}

func (a addressLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(attr slog.Attr) bool {
		if attr.Key == "http" {
			a.url <- attr.Value.String()
		}
		return true
	})
	return nil
}

func (a addressLog) Enabled(context.Context, slog.Level) bool { return true }
func (a addressLog) WithAttrs([]slog.Attr) slog.Handler       { return a }
func (a addressLog) WithGroup(string) slog.Handler            { return a }

// TestRun is "deckle run" on one node: it gets ready, says so over HTTP, and ends in order with its context.
func TestRun(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "web_clicks"))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	raft, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := &config.Config{
		Node: "a", DataDir: filepath.Join(dir, "a"), HTTP: config.HTTP{Listen: "127.0.0.1:0"},
		Cluster: config.Cluster{Nodes: []config.Node{{Name: "a", Address: raft.Addr().String()}}},
		Kafka:   config.Kafka{Brokers: fake.ListenAddrs(), Keyed: "yes"},
		Delta:   &config.Delta{Path: filepath.Join(dir, "delta")},
	}
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	urls, done := make(chan string, 1), make(chan error, 1)
	reg := prometheus.NewRegistry()
	go func() {
		done <- Run(ctx, cfg, Deps{Logger: slog.New(addressLog{url: urls}), RaftListener: raft, Registerer: reg})
	}()
	var url string
	select {
	case url = <-urls:
	case err := <-done:
		t.Fatalf("ended before it ran: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: nodetest.Patience}
	deadline := time.Now().Add(nodetest.Patience)
	for code := 0; code != http.StatusOK; {
		resp, err := client.Get(url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		code = resp.StatusCode
		_ = resp.Body.Close()
		if time.Now().After(deadline) {
			t.Fatalf("not ready after %v: %d", nodetest.Patience, code)
		}
		<-time.After(20 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("an orderly end gave %v", err)
	}
}

func TestRunSaysWhichPortIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := &config.Config{HTTP: config.HTTP{Listen: ln.Addr().String()}}
	if err := Run(t.Context(), cfg, Deps{Logger: slog.New(slog.DiscardHandler)}); err == nil ||
		!strings.Contains(err.Error(), "http.listen") {
		t.Errorf("%v", err)
	}
}
