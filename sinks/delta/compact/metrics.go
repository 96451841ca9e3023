package compact

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the metrics of compaction, labelled by table.
type Metrics struct {
	jobs                              *prometheus.CounterVec // by outcome, too
	removed, added, bytesIn, bytesOut *prometheus.CounterVec
	left                              *prometheus.GaugeVec
	seconds                           *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them, unless reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	label := []string{"table"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_delta_compaction_" + name, Help: help},
			append(label, labels...))
	}
	m := &Metrics{
		jobs: counter("jobs_total", "Jobs of compaction by outcome: done, conflict (too few of its files were left), "+
			"left (its files cannot be compacted), failed.", "outcome"),
		removed:  counter("files_removed_total", "Files that compaction has replaced."),
		added:    counter("files_added_total", "Files that compaction has made."),
		bytesIn:  counter("bytes_read_total", "Bytes of the files that compaction has replaced."),
		bytesOut: counter("bytes_written_total", "Bytes of the files that compaction has made."),
		seconds:  counter("seconds_total", "Time that jobs of compaction took."),
		left: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "deckle_delta_compaction_files_left",
			Help: "Files that compaction leaves as they are: damaged, of another tool, or with a row twice."}, label),
	}
	if reg != nil {
		reg.MustRegister(m.jobs, m.removed, m.added, m.bytesIn, m.bytesOut, m.seconds, m.left)
	}
	return m
}

func (m *Metrics) done(table string, r *Result, err error, left int, took time.Duration) {
	outcome := "done"
	switch {
	case err != nil:
		outcome = "failed"
	case r.Removed == 0 && r.Why != "":
		outcome = "left"
	case r.Removed == 0:
		outcome = "conflict"
	}
	m.jobs.WithLabelValues(table, outcome).Inc()
	m.removed.WithLabelValues(table).Add(float64(r.Removed))
	m.added.WithLabelValues(table).Add(float64(r.Added))
	m.bytesIn.WithLabelValues(table).Add(float64(r.Read))
	m.bytesOut.WithLabelValues(table).Add(float64(r.Written))
	m.seconds.WithLabelValues(table).Add(took.Seconds())
	m.left.WithLabelValues(table).Set(float64(left))
}
