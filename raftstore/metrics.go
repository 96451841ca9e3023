package raftstore

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the histograms and counters that the groups feed, and the gauges that are computed from the groups'
// status when they are collected.
type metrics struct {
	groups  func() []GroupStatus
	latency *prometheus.HistogramVec
	stored  *prometheus.HistogramVec
	changes *prometheus.CounterVec
	install *prometheus.CounterVec
	refused *prometheus.CounterVec
	// requests and answers are those that were refused because they cannot be what they say (refusals.go).
	requests, answers *prometheus.CounterVec
	// conns are the connections that were refused, ended those whose certificate has ceased to hold.
	conns, ended *prometheus.CounterVec

	gauges  []groupGauge
	rejoins prometheus.Counter
}

type groupGauge struct {
	desc *prometheus.Desc
	get  func(*GroupStatus) float64
}

// groupMetrics are those of one group.
type groupMetrics struct {
	latency prometheus.Observer
	stored  prometheus.Observer
	changes prometheus.Counter
	install prometheus.Counter
	refused prometheus.Counter
}

func newMetrics(groups func() []GroupStatus) *metrics {
	shard := []string{"shard"}
	buckets := prometheus.ExponentialBuckets(0.0005, 2, 15)
	m := &metrics{
		groups: groups,
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "deckle_raft_commit_latency_seconds",
			Help: "From Propose to applied on the leader.", Buckets: buckets}, shard),
		stored: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "deckle_raft_store_log_seconds",
			Help: "Time of a StoreLogs, fsync included.", Buckets: buckets}, shard),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_raft_leadership_changes_total",
			Help: "Leaderships won and lost by this node."}, shard),
		install: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_raft_snapshots_installed_total",
			Help: "Snapshots received and swapped in."}, shard),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_raft_appends_refused_total",
			Help: "Appends with entries that were refused because the disk of the node is full, or a held group has " +
				"made its log too long."}, shard),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_raft_requests_refused_total",
			Help: "Requests that were refused because of who sends them, or for their term; those about no shard " +
				"have an empty one."}, []string{"shard", "why"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_raft_answers_refused_total",
			Help: "Answers of other nodes that were refused because of who sends them, or for their term."},
			[]string{"shard", "why"}),
		conns: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_raft_connections_refused_total",
			Help: "Connections between the nodes that were refused, incoming and outgoing."}, []string{"why"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_raft_connections_ended_total",
			Help: "Connections between the nodes that were ended because the other end's certificate holds no more."},
			[]string{"why"}),
		rejoins: prometheus.NewCounter(prometheus.CounterOpts{Name: "deckle_raft_rejoins_total",
			Help: "Data folders emptied to rejoin with a new incarnation."}),
	}
	add := func(name, help string, get func(*GroupStatus) float64) {
		m.gauges = append(m.gauges, groupGauge{prometheus.NewDesc("deckle_raft_"+name, help, shard, nil), get})
	}
	index := func(name, help string, get func(*GroupStatus) uint64) {
		add(name, help, func(g *GroupStatus) float64 { return float64(get(g)) })
	}
	index("term", "Current term.", func(g *GroupStatus) uint64 { return g.Term })
	add("leader", "1 where this node leads.", func(g *GroupStatus) float64 {
		if g.IsLeader {
			return 1
		}
		return 0
	})
	index("commit_index", "Last index known to be committed.", func(g *GroupStatus) uint64 { return g.CommitIndex })
	index("applied_index", "Last index applied.", func(g *GroupStatus) uint64 { return g.AppliedIndex })
	index("durable_index", "Last index that the state machine has on disk.",
		func(g *GroupStatus) uint64 { return g.DurableIndex })
	index("marker_index", "Index of the last snapshot marker.", func(g *GroupStatus) uint64 { return g.MarkerIndex })
	index("first_index", "First index of the log.", func(g *GroupStatus) uint64 { return g.FirstIndex })
	index("last_index", "Last index of the log.", func(g *GroupStatus) uint64 { return g.LastIndex })
	index("level", "Level of the group: which formats it writes.",
		func(g *GroupStatus) uint64 { return uint64(g.Level) })
	index("held_index", "First entry that this binary cannot read yet, and from which on nothing is applied; 0: none.",
		func(g *GroupStatus) uint64 { return g.HeldIndex })
	add("log_bytes", "Length of the group's part of the log.",
		func(g *GroupStatus) float64 { return float64(g.LogBytes) })
	return m
}

func (m *metrics) group(shard uint32) *groupMetrics {
	l := strconv.FormatUint(uint64(shard), 10)
	return &groupMetrics{
		latency: m.latency.WithLabelValues(l), stored: m.stored.WithLabelValues(l),
		changes: m.changes.WithLabelValues(l), install: m.install.WithLabelValues(l),
		refused: m.refused.WithLabelValues(l),
	}
}

func (g *groupMetrics) observeStore(d time.Duration) { g.stored.Observe(d.Seconds()) }

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.latency, m.stored, m.changes, m.install, m.refused, m.requests, m.answers,
		m.conns, m.ended, m.rejoins, m}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				r.Unregister(done)
			}
			return fmt.Errorf("raftstore: register metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.collectors() {
		r.Unregister(c)
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range m.gauges {
		ch <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, st := range m.groups() {
		for _, g := range m.gauges {
			shard := strconv.FormatUint(uint64(st.Shard), 10)
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.get(&st), shard)
		}
	}
}
