package wal

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats are figures of a log since it was opened.
type Stats struct {
	Bytes           int64 // length of all segments on disk
	Segments        int
	SegmentsDeleted uint64
	Groups          int    // with entries or values
	Entries         int    // that some group still needs
	EntriesWritten  uint64 // acknowledged
	BytesWritten    uint64 // length of the synced frames
	Fsyncs          uint64 // of records; those of new segments and of the folder are not counted
	EntriesPerFsync float64
	LastFsync       time.Duration
	MaxFsync        time.Duration
	SyncingSince    time.Time // start of the fsync under way; zero if none is
	UnsyncedBytes   int64     // asked for and not yet on disk
	UnsyncedCalls   int
	CacheBytes      int64
	CacheHits       uint64
	CacheMisses     uint64
	Failed          bool
}

// Stats returns the log's figures.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Bytes, s.Segments = l.diskBytes(), len(l.segments)
	for _, g := range l.table.groups {
		if g.known() {
			s.Groups++
		}
		s.Entries += len(g.locs)
		s.CacheBytes += g.cacheBytes
	}
	if s.Fsyncs > 0 {
		s.EntriesPerFsync = float64(s.EntriesWritten) / float64(s.Fsyncs)
	}
	s.UnsyncedBytes, s.UnsyncedCalls = l.queued+l.inFlight, len(l.queue)
	s.Failed = l.err != nil && !errors.Is(l.err, ErrClosed)
	return s
}

func (l *Log) setSyncing(since time.Time) {
	l.mu.Lock()
	l.stats.SyncingSince = since
	l.mu.Unlock()
}

func (l *Log) synced(took time.Duration, bytes int) {
	l.mu.Lock()
	l.stats.Fsyncs++
	l.stats.BytesWritten += uint64(bytes)
	l.stats.LastFsync = took
	l.stats.MaxFsync = max(l.stats.MaxFsync, took)
	l.mu.Unlock()
	l.metrics.fsync.Observe(took.Seconds())
}

// metrics are the histogram that the log feeds and a collector that reads Stats.
type metrics struct {
	fsync prometheus.Histogram
	log   *Log
	descs []statDesc
}

type statDesc struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	get  func(*Stats) float64
}

func newMetrics() *metrics {
	m := &metrics{fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "deckle_wal_fsync_seconds",
		Help:    "Time of an fsync of the log's records.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 17),
	})}
	add := func(name, help string, kind prometheus.ValueType, get func(*Stats) float64) {
		m.descs = append(m.descs, statDesc{prometheus.NewDesc("deckle_wal_"+name, help, nil, nil), kind, get})
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	add("size_bytes", "Length of all segments on disk.", gauge, func(s *Stats) float64 { return float64(s.Bytes) })
	add("segments", "Segments on disk.", gauge, func(s *Stats) float64 { return float64(s.Segments) })
	add("segments_deleted_total", "Segments deleted.", counter,
		func(s *Stats) float64 { return float64(s.SegmentsDeleted) })
	add("entries", "Entries that some group still needs.", gauge, func(s *Stats) float64 { return float64(s.Entries) })
	add("entries_written_total", "Entries acknowledged.", counter,
		func(s *Stats) float64 { return float64(s.EntriesWritten) })
	add("written_bytes_total", "Bytes of records synced.", counter,
		func(s *Stats) float64 { return float64(s.BytesWritten) })
	add("unsynced_bytes", "Bytes asked for and not yet on disk.", gauge,
		func(s *Stats) float64 { return float64(s.UnsyncedBytes) })
	add("cache_bytes", "Memory of the newest entries.", gauge, func(s *Stats) float64 { return float64(s.CacheBytes) })
	add("cache_hits_total", "Entries read from memory.", counter,
		func(s *Stats) float64 { return float64(s.CacheHits) })
	add("cache_misses_total", "Entries read from a file.", counter,
		func(s *Stats) float64 { return float64(s.CacheMisses) })
	add("failed", "1 after a failed write or fsync.", gauge, func(s *Stats) float64 {
		if s.Failed {
			return 1
		}
		return 0
	})
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.fsync.Describe(ch)
	for _, d := range m.descs {
		ch <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.fsync.Collect(ch)
	s := m.log.Stats()
	for _, d := range m.descs {
		ch <- prometheus.MustNewConstMetric(d.desc, d.kind, d.get(&s))
	}
}

func (m *metrics) register(r prometheus.Registerer, l *Log) error {
	m.log = l
	if r == nil {
		return nil
	}
	if err := r.Register(m); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r != nil {
		r.Unregister(m)
	}
}
