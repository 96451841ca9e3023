package node

import (
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/cipherfs"
	"deckle/event"
	"deckle/node/shard"
	"deckle/node/status"
)

// metrics are the figures of the node as a whole. The shards, raftstore, wal and the Pebble stores have their own.
type metrics struct {
	diskBytes, freeBytes prometheus.Gauge
	reserveBytes         prometheus.Gauge
	layer                atomic.Pointer[cipherfs.FS] // nil without encryption
}

func newMetrics(reg prometheus.Registerer, read *rereadFS) (*metrics, error) {
	m := &metrics{
		diskBytes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "deckle_node_disk_bytes",
			Help: "Bytes in the data folder."}),
		freeBytes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "deckle_node_disk_free_bytes",
			Help: "Bytes free on its file system."}),
	}
	m.reserveBytes = prometheus.NewGauge(prometheus.GaugeOpts{Name: "deckle_node_disk_reserve_bytes",
		Help: "Bytes of the reserve file; 0 while it is given up because the disk is full, and where there is none."})
	unauthentic := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "deckle_encryption_unauthentic_total",
		Help: "Reads of bytes in the data folder that were not what was sealed, and read as zeros."}, func() float64 {
		if l := m.layer.Load(); l != nil {
			return float64(l.Unauthentic())
		}
		return 0
	})
	again := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "deckle_node_disk_reads_again_total",
		Help: "Reads of the data folder that gave EIO, and went well when they were made again."},
		func() float64 { return float64(read.again.Load()) })
	return m, errors.Join(reg.Register(m.diskBytes), reg.Register(m.freeBytes), reg.Register(m.reserveBytes),
		reg.Register(unauthentic), reg.Register(again))
}

// statusCollector turns Node.Status and the latency histograms into metrics whenever they are collected.
type statusCollector struct {
	status func() status.Node
	shards func() []*shard.Shard
}

var (
	descReady   = prometheus.NewDesc("deckle_node_ready", "1 when /readyz says so.", nil, nil)
	descVisible = prometheus.NewDesc("deckle_sink_visible_seconds",
		"Time from a record's Kafka timestamp to its visibility in the sink.", []string{"shard", "sink"}, nil)
	descState = map[string]*prometheus.Desc{}
	shardDims = []string{"shard"}
	sinkDims  = []string{"shard", "sink"}
)

func shardDesc(name, help string, labels []string) *prometheus.Desc {
	d := prometheus.NewDesc(name, help, labels, nil)
	descState[name] = d
	return d
}

var (
	descLeader = shardDesc("deckle_shard_leader", "1 on the shard's leader.", shardDims)
	descLag    = shardDesc("deckle_source_lag_records",
		"Committed records in Kafka not applied yet, unread partitions included (leader; absent while not known).",
		shardDims)
	descLagSeconds = shardDesc("deckle_source_lag_seconds",
		"Age of the last applied record while there is lag (leader; absent while not known).", shardDims)
	descLagUnknown = shardDesc("deckle_source_lag_unknown_partitions",
		"Partitions whose lag is not known (leader).", shardDims)
	descHeld = shardDesc("deckle_source_open_transaction_records",
		"Records behind an open transaction of another producer, beside the lag (leader; absent while not known).",
		shardDims)
	descPaused = shardDesc("deckle_shard_paused", "1 while intake rests, by reason (leader).",
		[]string{"shard", "reason"})
	descStopped = shardDesc("deckle_shard_stopped", "1 for each part that waits for an operator (leader).",
		[]string{"shard", "part"})
	descFailing = shardDesc("deckle_shard_failing", "1 for each part that is being retried (leader).",
		[]string{"shard", "part"})
	descIndex   = shardDesc("deckle_state_applied_index", "Last applied index.", shardDims)
	descDurable = shardDesc("deckle_state_durable_index", "Index of the last durable checkpoint.", shardDims)
	descClock   = shardDesc("deckle_state_clock_seconds",
		"The former name of deckle_state_clock_timestamp_seconds; it goes with the release after this one.", shardDims)
	descHorizon = shardDesc("deckle_state_horizon_seconds",
		"The former name of deckle_state_horizon_timestamp_seconds; it goes with the release after this one.",
		shardDims)
	descClockTime = shardDesc("deckle_state_clock_timestamp_seconds",
		"The shard's clock, event time in seconds since 1970; absent while it has none.", shardDims)
	descHorizonTime = shardDesc("deckle_state_horizon_timestamp_seconds",
		"The shard's horizon, event time in seconds since 1970; absent while it has none.", shardDims)
	descClosed = shardDesc("deckle_state_closed_epoch", "Last closed epoch.", shardDims)
	descAcked  = shardDesc("deckle_sink_acked_epoch", "Last epoch that is visible and durable in the sink.",
		sinkDims)
	descBehind     = shardDesc("deckle_sink_behind_epochs", "Closed epochs that the sink does not have yet.", sinkDims)
	descApplied    = shardDesc("deckle_state_applied_events_total", "Events and session ends that count.", shardDims)
	descDuplicates = shardDesc("deckle_state_duplicates_total", "Duplicate events.", shardDims)
	descGaps       = shardDesc("deckle_state_gaps_total", "Ranges of offsets that an operator has given up.",
		shardDims)
	descSkipped = shardDesc("deckle_state_skipped_offsets_total", "Offsets that an operator has given up.",
		shardDims)
	descEventGaps = shardDesc("deckle_state_event_gaps_total",
		"Ranges of offsets whose raw events an operator has given up.", shardDims)
	descSkippedEvents = shardDesc("deckle_state_skipped_event_offsets_total",
		"Offsets whose raw events an operator has given up.", shardDims)
	descLetters   = shardDesc("deckle_state_dead_letters_total", "Dead letters.", []string{"shard", "reason"})
	descShortened = shardDesc("deckle_state_shortened_total",
		"What the caps of sessions have cut: `engagement_metrics` left out of page events, records refused because "+
			"their `session` is full by bytes.", []string{"shard", "what"})
	descFalseTimes = shardDesc("deckle_state_kafka_times_false_total",
		"Records whose Kafka timestamp is missing or cannot be true (level 2).", shardDims)
	descZeroed = shardDesc("deckle_state_values_zeroed_total",
		"Values of `engagement_metrics` that are no number and count as 0 (level 2).", []string{"shard", "field"})
	descExcluded = shardDesc("deckle_state_excluded_total",
		"Records that a rule of rules.exclude has left out (level 2).", []string{"shard", "rule"})
	descTypeSkipped = shardDesc("deckle_state_types_skipped_total",
		"Records of unknown types that were left out: rules.event_types.unknown is skip (level 2).", shardDims)
	descSuppressed = shardDesc("deckle_state_suppressed_total",
		"Records that were left out for the sake of their readers: without the `consent` that rules.consent asks for, "+
			"or of a `user` or a `session` on the list of suppressed readers (level 3).", []string{"shard", "by"})
	descKeys = shardDesc("deckle_state_keys_differ_total",
		"Records that came under another key than the first one of their session, or in another partition (level 2).",
		[]string{"shard", "what"})
	descLive     = shardDesc("deckle_state_live_sessions", "Sessions in the state.", shardDims)
	descOpen     = shardDesc("deckle_state_open_sessions", "Sessions that are open.", shardDims)
	descResident = shardDesc("deckle_state_resident_sessions", "Sessions in memory.", shardDims)
	descMemory   = shardDesc("deckle_state_memory_bytes", "Estimate of the memory of sessions.", shardDims)
	descDirty    = shardDesc("deckle_state_dirty_bytes", "Bytes changed since the last checkpoint.", shardDims)
)

// Describe implements prometheus.Collector.
func (c statusCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descReady
	ch <- descVisible
	for _, d := range descState {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c statusCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descReady, flag(st.Ready))
	for _, s := range c.shards() {
		s.CollectVisible(descVisible, ch)
	}
	for _, s := range st.Shards {
		shard, v := strconv.Itoa(int(s.Shard)), &s.State
		gauge(descLeader, flag(s.IsLeader), shard)
		gauge(descIndex, float64(s.Index), shard)
		gauge(descDurable, float64(v.DurableIndex), shard)
		gauge(descClock, float64(v.Clock), shard)
		gauge(descHorizon, float64(v.Horizon), shard)
		if v.Clock > 0 {
			gauge(descClockTime, float64(v.Clock), shard)
		}
		if v.Horizon > 0 {
			gauge(descHorizonTime, float64(v.Horizon), shard)
		}
		gauge(descClosed, float64(v.LastClosed), shard)
		for _, id := range v.Config.Sinks {
			gauge(descAcked, float64(v.Sinks[id].Acked), shard, id.String())
			gauge(descBehind, float64(v.LastClosed-min(v.Sinks[id].Acked, v.LastClosed)), shard, id.String())
		}
		counter(descApplied, v.Applied, shard)
		counter(descDuplicates, v.Duplicates, shard)
		var gaps, skipped int64
		for _, g := range v.Gaps {
			gaps, skipped = gaps+g.Count, skipped+g.Offsets
		}
		counter(descGaps, gaps, shard)
		counter(descSkipped, skipped, shard)
		gaps, skipped = 0, 0
		for _, g := range v.EventGaps {
			gaps, skipped = gaps+g.Count, skipped+g.Offsets
		}
		counter(descEventGaps, gaps, shard)
		counter(descSkippedEvents, skipped, shard)
		for _, r := range event.Reasons() { // from 0 on: a rate of what appears with its first letter misses it
			counter(descLetters, v.DeadLetters[r], shard, r.String())
		}
		counter(descShortened, v.MetricsOmitted, shard, "engagement_metrics")
		counter(descShortened, v.FullByBytes, shard, "session")
		counter(descFalseTimes, v.RuleCounts.KafkaTimes, shard)
		for _, field := range event.MetricNames() {
			counter(descZeroed, v.RuleCounts.Zeroed[field], shard, field)
		}
		for rule, records := range v.RuleCounts.Excluded {
			counter(descExcluded, records, shard, rule)
		}
		for _, rule := range v.Rules.Event.Exclude {
			if _, shown := v.RuleCounts.Excluded[rule.Name]; !shown {
				counter(descExcluded, 0, shard, rule.Name)
			}
		}
		counter(descTypeSkipped, v.RuleCounts.Skipped, shard)
		counter(descSuppressed, v.RuleCounts.Unconsented, shard, "consent")
		counter(descSuppressed, v.RuleCounts.SuppressedUsers, shard, "user")
		counter(descSuppressed, v.RuleCounts.SuppressedSessions, shard, "session")
		counter(descKeys, v.Keys.Keys, shard, "key")
		counter(descKeys, v.Keys.Partitions, shard, "partition")
		gauge(descLive, float64(v.LiveSessions), shard)
		gauge(descOpen, float64(v.OpenStatus), shard)
		gauge(descResident, float64(v.Resident), shard)
		gauge(descMemory, float64(v.MemoryBytes), shard)
		gauge(descDirty, float64(v.DirtyBytes), shard)
		if !s.IsLeader {
			continue
		}
		if l := s.Lag.Records; l != nil {
			gauge(descLag, float64(*l), shard)
		}
		if l := s.Lag.Seconds; l != nil {
			gauge(descLagSeconds, *l, shard)
		}
		if l := s.Lag.OpenTransaction; l != nil {
			gauge(descHeld, float64(*l), shard)
		}
		gauge(descLagUnknown, float64(s.Lag.Unknown), shard)
		for _, r := range status.PauseReasons() {
			gauge(descPaused, flag(status.PauseReason(s.Paused) == r), shard, r)
		}
		for part := range s.Stopped {
			gauge(descStopped, 1, shard, part)
		}
		for part := range s.Failing {
			gauge(descFailing, 1, shard, part)
		}
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
