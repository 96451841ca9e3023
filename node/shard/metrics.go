package shard

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/event"
)

// Metrics are the figures that the shards of a node count while they lead. Status gives the rest.
type Metrics struct {
	records, bytes, nulls, duplicates *prometheus.CounterVec // by shard
	rejects                           *prometheus.CounterVec // by reason
	unfit                             *prometheus.CounterVec // by field
	decode                            prometheus.Histogram   // seconds per entry
	entryEvents, entryBytes           prometheus.Histogram
	commit                            prometheus.Histogram // seconds from Propose to the result
	resyncs                           *prometheus.CounterVec
	cuts                              *prometheus.CounterVec
	flush                             *prometheus.HistogramVec // seconds, by sink
	retries                           *prometheus.CounterVec   // by sink, "source", "partition N"
	sourceErrors                      *prometheus.CounterVec   // by kind
	groupCommits                      *prometheus.CounterVec   // by result
	horizonForced                     *prometheus.CounterVec
	unread                            *prometheus.GaugeVec
	keysLooked                        *prometheus.CounterVec
	keysPlaced                        *prometheus.CounterVec // by shard, partitioner
	sessionsLooked, sessionsElsewhere *prometheus.CounterVec
	turns                             *prometheus.CounterVec // by how
	commits                           *prometheus.GaugeVec   // seconds since 1970, by sink
	sinkErrors                        *prometheus.CounterVec // by sink, class
}

// sinkLed has the errors of a sink that is written from now on begin at 0, so that the first one is an increase.
func (m *Metrics) sinkLed(sink string) {
	for _, class := range classes() {
		m.sinkErrors.WithLabelValues(sink, class)
	}
}

// sinkFailed counts an error of a sink.
func (m *Metrics) sinkFailed(sink string, err error) {
	m.sinkErrors.WithLabelValues(sink, classOf(err)).Inc()
}

// Turn counts a turn, by how it came: "asked" or "own".
func (m *Metrics) Turn(how string) { m.turns.WithLabelValues(how).Inc() }

// NewMetrics registers the figures.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	shard := []string{"shard"}
	var err error
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		err = errors.Join(err, reg.Register(c))
		return c
	}
	hist := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		err = errors.Join(err, reg.Register(h))
		return h
	}
	m := &Metrics{
		records:    vec("deckle_source_records_total", "Records read from Kafka by this leader.", shard...),
		bytes:      vec("deckle_source_bytes_total", "Bytes of record values read from Kafka.", shard...),
		nulls:      vec("deckle_source_nulls_total", "Records without a value, skipped.", shard...),
		duplicates: vec("deckle_source_duplicates_total", "Records whose event had been counted before.", shard...),
		rejects: vec("deckle_source_rejects_total", "Records that became dead letters when they were read.",
			"reason"),
		unfit: vec("deckle_source_privacy_dropped_total",
			"Values that a rule of rules.privacy could not change by its action, and dropped.", "field"),
		decode: hist("deckle_source_decode_seconds", "Time to decode one entry's records.",
			prometheus.ExponentialBuckets(1e-4, 2, 14)),
		entryEvents: hist("deckle_shard_entry_events", "Events per entry.", prometheus.ExponentialBuckets(1, 4, 8)),
		entryBytes:  hist("deckle_shard_entry_bytes", "Bytes per entry.", prometheus.ExponentialBuckets(256, 4, 8)),
		commit: hist("deckle_shard_commit_seconds", "Time from proposing an entry to its result.",
			prometheus.ExponentialBuckets(5e-4, 2, 15)),
		resyncs: vec("deckle_shard_resyncs_total", "Times that intake began again from the applied offsets.",
			shard...),
		cuts: vec("deckle_shard_epochs_total", "Epochs closed by this leader.", shard...),
		retries: vec("deckle_node_retries_total",
			"Failed attempts of a sink, of the source or of a partition, that are repeated.", "part"),
		sourceErrors: vec("deckle_source_errors_total", "Errors that Kafka's client reported for a partition.", "kind"),
		groupCommits: vec("deckle_source_group_commits_total", "Commits of the advisory group offsets.", "result"),
		horizonForced: vec("deckle_shard_horizon_forced_total",
			"Times that disk pressure made the leader force the horizon up.", shard...),
		keysLooked: vec("deckle_source_keys_looked_total",
			"Records whose partition was compared with where the usual partitioners put their key.", shard...),
		keysPlaced: vec("deckle_source_keys_placed_total",
			"Records of deckle_source_keys_looked_total that are where this partitioner puts their key.",
			"shard", "partitioner"),
		turns: vec("deckle_turns_total",
			"Moments at which this node cut its shards: asked for by the leader of shard 0, or its own.", "how"),
		sinkErrors: vec("deckle_sink_errors_total",
			"Failed attempts to open or write a sink by class: stopped (a person is needed), row (one row is "+
				"refused), unreadable (Kafka does not give a record again), timeout, network, disk, answer "+
				"(everything else).",
			"sink", "class"),
		commits: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "deckle_sink_commit_timestamp_seconds",
			Help: "When this node last wrote a plan of the sink and had it acknowledged, as leader of any shard."},
			[]string{"sink"}),
		sessionsLooked: vec("deckle_shard_sessions_looked_total", "Sessions that were looked up in the other shards.",
			shard...),
		sessionsElsewhere: vec("deckle_shard_sessions_elsewhere_total",
			"Sessions that were looked up and found in another shard, too: they are counted in both.", shard...),
		flush: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "deckle_sink_flush_seconds",
			Help: "Time of one successful write of a plan.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)},
			[]string{"sink"}),
		unread: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "deckle_source_unread_partitions",
			Help: "Partitions that were added to the topic; nobody reads them before `deckle partitions add`."}, shard),
	}
	if err = errors.Join(err, reg.Register(m.flush), reg.Register(m.unread), reg.Register(m.commits)); err != nil {
		return nil, err
	}
	for _, r := range event.Reasons() {
		m.rejects.WithLabelValues(r.String())
	}
	return m, nil
}
