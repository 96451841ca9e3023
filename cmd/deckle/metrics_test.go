package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"deckle"
	"deckle/node"
)

// recorder is a Registerer that writes down what is registered.
type recorder struct {
	prometheus.Registerer
	mu   sync.Mutex
	rows map[string]metricRow // by name
}

type metricRow struct{ labels, help string }

const metricsPage = "../../docs/metrics.md"

var (
	described  = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "([^"]*)", .*variableLabels: \{([^}]*)\}`)
	documented = regexp.MustCompile("(?m)^\\| `(deckle_[a-z0-9_]+)` \\| ([a-z, ]*)\\|")
)

func (r *recorder) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.Describe(descs)
	}()
	r.mu.Lock()
	for d := range descs {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			panic(d.String())
		}
		r.rows[m[1]] = metricRow{labels: m[3], help: m[2]}
	}
	r.mu.Unlock()
	return r.Registerer.Register(c)
}

// MustRegister implements prometheus.Registerer; promauto calls it.
func (r *recorder) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

func (r *recorder) has(prefix string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.rows {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// TestMetricsPage compares the table of docs/metrics.md, word for word, with what a node with every sink registers.
// DECKLE_WRITE_DOCS=1 writes the table anew.
func TestMetricsPage(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "web_clicks"))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raft := ln.Addr().String()
	_ = ln.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "deckle.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, `
node: a
data_dir: %s/data
cluster: {nodes: [{name: a, address: %q}]}
kafka: {brokers: [%q]}
delta: {path: %s/delta}
clickhouse: {address: "127.0.0.1:1"}
`, dir, raft, fake.ListenAddrs()[0], dir), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{Registerer: prometheus.NewRegistry(), rows: map[string]metricRow{}}
	if err := rec.Register(newBuildInfo(deckle.Build())); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n, err := node.Open(ctx, cfg, node.Deps{Logger: slog.New(slog.DiscardHandler), Registerer: rec})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	for _, sink := range []string{"deckle_delta_commits_", "deckle_clickhouse_", "deckle_deadletter_"} {
		for !rec.has(sink) { // a sink is opened once its shard is led
			if ctx.Err() != nil {
				t.Fatalf("no metric %s… within %v", sink, patience)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range documented.FindAllStringSubmatch(string(page), -1) { // a sink registers one after the other
		for !rec.has(m[1]) && ctx.Err() == nil && os.Getenv("DECKLE_WRITE_DOCS") == "" {
			time.Sleep(10 * time.Millisecond)
		}
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	head, _, _ := strings.Cut(string(page), "\n| `deckle_")
	head += "\n"
	want := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(rec.rows)) {
		row := rec.rows[name]
		labels := strings.ReplaceAll(row.labels, ",", ", ")
		want[name] = labels
		head += fmt.Sprintf("| `%s` | %s | %s |\n", name, labels, row.help)
	}
	if os.Getenv("DECKLE_WRITE_DOCS") != "" {
		if err := os.WriteFile(metricsPage, []byte(head), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got := map[string]string{}
	for _, m := range documented.FindAllStringSubmatch(string(page), -1) {
		got[m[1]] = strings.TrimSpace(m[2])
	}
	for name, labels := range want {
		if l, ok := got[name]; !ok || l != labels {
			t.Errorf("%s with labels %q: %s has %q (listed: %v)", name, labels, metricsPage, l, ok)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is in %s, and nobody registers it", name, metricsPage)
		}
	}
	if head != string(page) && !t.Failed() {
		t.Errorf("a help text of %s is not that of the code; DECKLE_WRITE_DOCS=1 go test ./cmd/deckle -run %s writes "+
			"it", metricsPage, t.Name())
	}
}
