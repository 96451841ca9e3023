package deltalog

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of the Delta sink's tables, labelled by table.
type Metrics struct {
	commits, conflicts, unknown, rows, bytes, files, keepErrors, checkpointBytes, revisionBytes,
	deleted *prometheus.CounterVec
	commitSeconds, checkpointSeconds *prometheus.HistogramVec
	version                          *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them, unless reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	label := []string{"table"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_delta_" + name, Help: help}, label)
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "deckle_delta_" + name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}, label)
	}
	m := &Metrics{
		commits:         counter("commits_total", "Commits written."),
		conflicts:       counter("conflicts_total", "Races for a version lost to another writer."),
		unknown:         counter("unknown_answers_total", "Commit requests whose outcome had to be tried again."),
		rows:            counter("rows_total", "Rows committed, replaced ones included."),
		bytes:           counter("bytes_total", "Bytes of data files committed."),
		files:           counter("files_total", "Data files committed."),
		keepErrors:      counter("maintenance_errors_total", "Checkpoints, checksums or cleanups that failed."),
		checkpointBytes: counter("checkpoint_bytes_total", "Bytes of checkpoints written."),
		revisionBytes: counter("revision_read_bytes_total",
			"Bytes of data files that revisions have read to find and replace rows."),
		deleted: counter("rows_found_deleted_total", "Rows that were to be revised, and that another tool has "+
			"deleted: they stay deleted (from level 4 on)."),
		commitSeconds:     histogram("commit_seconds", "Time of a commit, races included."),
		checkpointSeconds: histogram("checkpoint_seconds", "Time of a checkpoint and the cleanup after it."),
		version: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "deckle_delta_log_version",
			Help: "Newest version of the log that this node knows."}, label),
	}
	if reg != nil {
		reg.MustRegister(m.commits, m.conflicts, m.unknown, m.rows, m.bytes, m.files, m.keepErrors, m.checkpointBytes,
			m.revisionBytes, m.deleted, m.commitSeconds, m.checkpointSeconds, m.version)
	}
	return m
}

// RevisionRead counts bytes that a revision has read of a table's data files.
func (m *Metrics) RevisionRead(table string, bytes int64) {
	m.revisionBytes.WithLabelValues(table).Add(float64(bytes))
}

// RowsFoundDeleted counts rows of a table that were to be revised, and that another tool has deleted.
func (m *Metrics) RowsFoundDeleted(table string) prometheus.Counter {
	return m.deleted.WithLabelValues(table)
}
