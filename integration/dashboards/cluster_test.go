package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"deckle/node"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sim/testworld/clickhouse"
	"deckle/state"
)

// exposition is what a registry shows at /metrics.
func exposition(t *testing.T, reg *prometheus.Registry) []byte {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// Three nodes write to every sink; each expression of an alert or a panel has a value over their scrapes, and no alert
// is by its metric alone one that could never fire.
func TestExpressionsHaveValues(t *testing.T) {
	const nodes = 3
	broker := nodetest.NewBroker(t, nodes)
	click := clickhouse.New(clickhouse.Options{})
	dir := t.TempDir()
	base := config.Config{
		Cluster: config.Cluster{Shards: nodes, Insecure: true},
		Kafka:   config.Kafka{Brokers: broker.ListenAddrs(), Topic: nodetest.Topic, Keyed: "yes"},
		Flush:   config.Flush{Interval: time.Second},
		Delta:   &config.Delta{Path: dir + "/delta", RevisionInterval: time.Second},
		HTTP:    config.HTTP{Listen: "127.0.0.1:0"},
		Limits:  config.Limits{DiskBytes: 1 << 30},
	}
	base.ClickHouse = &config.ClickHouse{Address: "clickhouse:9000"}
	listeners := make([]net.Listener, nodes)
	for i := range nodes {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i] = ln
		base.Cluster.Nodes = append(base.Cluster.Nodes, config.Node{Name: string(rune('a' + i)),
			Address: ln.Addr().String()})
	}
	regs := make([]*prometheus.Registry, nodes)
	all := make([]*node.Node, nodes)
	for i := range nodes {
		cfg := base
		delta, ch := *base.Delta, *base.ClickHouse
		cfg.Delta, cfg.ClickHouse = &delta, &ch
		cfg.Node = base.Cluster.Nodes[i].Name
		cfg.DataDir = fmt.Sprintf("%s/%s", dir, cfg.Node)
		if err := cfg.Complete(); err != nil {
			t.Fatal(err)
		}
		regs[i] = prometheus.NewRegistry()
		regs[i].MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "deckle_build_info",
				ConstLabels: prometheus.Labels{"version": "1", "revision": "", "goversion": ""}},
				func() float64 { return 1 }))
		n, err := node.Open(nodetest.Context(t), &cfg, node.Deps{Logger: nodetest.Log(t), Registerer: regs[i],
			RaftListener: listeners[i], ClickHouseDial: click.Dial})
		if err != nil {
			t.Fatal(err)
		}
		all[i] = n
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*nodetest.Patience)
			defer cancel()
			if err := n.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for p := range int32(nodes) {
		for i := range 20 {
			broker.Produce(nodetest.Record(p, fmt.Sprint("s-", p), i))
		}
	}
	nodetest.Until(t, "every node hears the others", func() bool {
		for _, n := range all {
			st := n.Status()
			for _, m := range st.Members {
				if m.Node != st.Node && m.Clock == nil {
					return false
				}
			}
			if st.CanLoseOne == nil || len(st.Members) != nodes {
				return false
			}
		}
		return true
	})
	nodetest.Until(t, "what was produced is applied", func() bool {
		applied := 0
		for _, n := range all {
			for _, s := range n.Status().Shards {
				if s.IsLeader && s.State.Applied == 20 && s.Lag.Records != nil {
					applied++
				}
			}
		}
		return applied == nodes
	})
	nodetest.Until(t, "every sink of every shard has it", func() bool {
		led := 0
		for _, n := range all {
			st := n.Status()
			for i := range st.Shards {
				s := &st.Shards[i]
				if !s.IsLeader {
					continue
				}
				for _, sink := range []state.SinkID{state.SinkEvents, state.SinkSessions, state.SinkClickHouse} {
					if s.State.Sinks[sink].Acked == 0 || s.Visible[sink.String()].Count == 0 {
						return false
					}
				}
				led++
			}
		}
		return led == nodes
	})
	// The figures of a moment of load would be those of five minutes.
	nodetest.Until(t, "all is well", func() bool {
		for _, n := range all {
			if st := n.Status(); st.CanLoseOne == nil || !*st.CanLoseOne {
				return false
			}
		}
		return true
	})
	m := newMemory()
	start := time.Now().Add(-5 * time.Minute)
	scrapes := make([][]byte, nodes)
	for i := range nodes {
		r := httptest.NewRequest(http.MethodGet, "/livez", nil)
		r.Host = "localhost"
		all[i].Handler().ServeHTTP(httptest.NewRecorder(), r)
		scrapes[i] = exposition(t, regs[i])
	}
	for at := start; !at.After(start.Add(5 * time.Minute)); at = at.Add(15 * time.Second) {
		for i := range nodes {
			m.scrape(t, scrapes[i], fmt.Sprint("node-", i), at)
		}
	}
	e := newEngine(t)
	now := start.Add(5 * time.Minute)
	for name, query := range queries() {
		if name == "alert DeckleSinkSilent" { // nothing comes in between equal scrapes
			query = "time() - max by (sink) (deckle_sink_commit_timestamp_seconds)"
		}
		if len(evaluate(t, e, m, query, now)) == 0 {
			t.Errorf("%s: nothing at %s", name, query)
		}
	}
	if v := evaluate(t, e, m, "deckle_peer_up == 1", now); len(v) != nodes*(nodes-1) {
		t.Errorf("%d nodes are heard by others, want %d", len(v), nodes*(nodes-1))
	}
	for _, a := range alerts() {
		if got := evaluate(t, e, m, a.expr(), now); len(got) > 0 && a.section != "insecure" {
			t.Errorf("%s would fire in a cluster that is well: %v", a.name, got)
		}
	}
}
