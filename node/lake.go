package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/schema/level"
	"deckle/sinks/delta"
	"deckle/sinks/delta/compact"
	"deckle/sinks/delta/store"
	"deckle/sinks/delta/vacuum"
	"deckle/state"
)

// lake keeps the Delta tables as long as this node is the one that does: compaction is the work of the node that leads
// shard 1 (shard 0, if it is the only one), vacuum that of the one that leads shard 0. Which node that is, each one
// takes from its own replicas. Two that do the same work cost requests, and no row. While a shard is stopped, or a
// sink of a Delta table, on whichever node, nothing is done: whoever is to find out why should find the tables as they
// are.
type lake struct {
	cfg    func() *config.Config // what counts at the moment
	deps   *Deps
	list   *condition.Registry
	leads  func(shard uint32) bool
	holds  func() []condition.Condition // of the cluster, as far as this node knows
	level  func() level.Level           // of the cluster
	tables func(ctx context.Context) (*delta.Delta, error)
	store  func() (store.Store, error)
	fs     vfs.FS        // of the data folder, sealed if that is
	dir    string        // where rows wait
	full   func() string // why the disk counts as full, "" if it does not

	compaction *compact.Metrics
	vacuums    *vacuumMetrics
	brands     prometheus.Gauge // of sessions, by the node that leads shard 0
	mostBrands int              // 0: manyBrands

	// Each has one goroutine.
	compactors map[string]*compactor // by table; of compactAll
	vacuumed   map[string]time.Time  // by table, as its mark said last; of vacuumAll
}

// compactor is what a round of compaction leaves for the next one: an open log, so that nothing is read twice.
type compactor struct {
	*compact.Compactor
	of *delta.Delta
}

// keptFiles is how many live files a table may have for its log to stay open between rounds: each takes some 100 bytes.
const keptFiles = 100_000

// failures is how many times in a row something has to fail until somebody should know.
const failures = 3

var errNotOurs = errors.New("node: another node does this now, or something is stopped")

// deltaSinks are the names of the sinks that write to Delta tables.
var deltaSinks = func() (names []string) {
	for id := range state.NumSinks {
		if spec := id.Spec(); spec.Destination == state.ToDelta {
			names = append(names, spec.Name)
		}
	}
	return names
}()

// may says whether this node does the work of the one that leads a shard.
func (l *lake) may(shard uint32) bool {
	return l.leads(shard) && !slices.ContainsFunc(l.holds(), func(c condition.Condition) bool {
		sink, _, _ := strings.Cut(c.Subject, " of ")
		return c.ID == condition.ShardStopped || c.ID == condition.SinkStopped && slices.Contains(deltaSinks, sink)
	})
}

// mayCompact says whether this node compacts now. While its disk is full it does not: what compaction writes can wait.
// Nor does it below level.Lake: a node of an earlier version would read the new files rightly, and whole.
func (l *lake) mayCompact(shard uint32) bool {
	return l.may(shard) && l.full() == "" && l.level() >= level.Lake
}

func newLake(l *lake) *lake {
	l.compaction = compact.NewMetrics(l.deps.Registerer)
	l.vacuums = newVacuumMetrics(l.deps.Registerer)
	l.brands = prometheus.NewGauge(prometheus.GaugeOpts{Name: "deckle_delta_session_brands",
		Help: "Brands (opening_brand) that live files of sessions have, if it is partitioned by brand; 0 on nodes " +
			"that do not lead shard 0."})
	l.deps.Registerer.MustRegister(l.brands)
	l.compactors, l.vacuumed = map[string]*compactor{}, map[string]time.Time{}
	return l
}

// names are the tables that the node writes.
func (l *lake) names() []string {
	if e := l.cfg().Delta.Events; e != nil && !*e {
		return []string{"sessions"}
	}
	return []string{"sessions", "events"}
}

// run keeps the tables until ctx ends.
func (l *lake) run(ctx context.Context) {
	var wait sync.WaitGroup
	if on(l.cfg().Delta.Compaction.Enabled) {
		wait.Go(func() { l.compactAll(ctx) })
	}
	wait.Go(func() { l.watchRemoved(ctx) })
	if l.cfg().Delta.Sessions.ByBrand() {
		wait.Go(func() { l.watchBrands(ctx) })
	}
	if on(l.cfg().Delta.Vacuum.Enabled) {
		wait.Go(func() { l.vacuumAll(ctx) })
	}
	wait.Wait()
}

func on(b *bool) bool { return b == nil || *b }

// compactAll compacts one table after the other, so that it takes one core at most.
func (l *lake) compactAll(ctx context.Context) {
	shard := uint32(1 % max(l.cfg().Cluster.Shards, 1))
	budget := bucket{rate: func() int64 { return l.cfg().Delta.Compaction.RateBytes }, now: l.deps.Now}
	take := func(ctx context.Context, n int64) error {
		if !l.mayCompact(shard) {
			return errNotOurs
		}
		return budget.take(ctx, n)
	}
	failed := map[string]int{}
	defer l.dropAll()
	for pass(ctx, func() time.Duration { return l.cfg().Delta.Compaction.Every }) {
		for _, table := range l.names() {
			if !l.mayCompact(shard) {
				break
			}
			err := l.compactTable(ctx, table, take)
			if ctx.Err() != nil {
				return
			}
			l.judge(condition.CompactionFailing, table, failed, err)
		}
		if !l.leads(shard) {
			l.dropAll()
			for _, table := range l.names() {
				failed[table] = 0
				l.list.Clear(condition.CompactionFailing, "table "+table)
			}
		}
	}
}

// judge makes work that has failed several times in a row a condition.
func (l *lake) judge(id condition.ID, table string, failed map[string]int, err error) {
	switch {
	case err == nil:
		failed[table] = 0
		l.list.Clear(id, "table "+table)
	case errors.Is(err, errNotOurs):
	default:
		l.deps.Logger.Warn("the Delta table could not be kept", "condition", id, "table", table, "error", err)
		if failed[table]++; failed[table] >= failures {
			l.list.Set(id, "table "+table, 0, err.Error(), "")
		}
	}
}

func (l *lake) compactTable(ctx context.Context, table string, take func(context.Context, int64) error) error {
	c, err := l.compactor(ctx, table, take)
	if err != nil {
		return err
	}
	err = c.Round(ctx, func(r compact.Result) {
		if r.Removed > 0 {
			l.deps.Logger.Info("compacted", "table", table, "partition", r.Partition, "removed", r.Removed, "added",
				r.Added, "bytes", r.Written, "rows", r.Rows)
		}
	})
	if err != nil || c.Files() > keptFiles {
		err = errors.Join(err, l.drop(table))
	}
	return err
}

// compactor returns the one of the round before, or a new one.
func (l *lake) compactor(ctx context.Context, table string, take func(context.Context, int64) error) (
	*compactor, error) {
	d, err := l.tables(ctx)
	if err != nil {
		return nil, errors.Join(err, l.drop(table))
	}
	if c := l.compactors[table]; c != nil && c.of == d {
		return c, nil
	}
	if err := l.drop(table); err != nil {
		return nil, err
	}
	opts := l.deps.Compaction
	opts.FS, opts.Dir, opts.Wait, opts.Metrics = l.fs, l.dir, take, l.compaction
	// A closed session is revised until it is forgotten.
	opts.Closed = l.cfg().Session.Retention + 24*time.Hour
	c, err := d.Compactor(ctx, table, opts)
	if err != nil {
		return nil, err
	}
	l.compactors[table] = &compactor{Compactor: c, of: d}
	return l.compactors[table], nil
}

// drop closes the compactor of a table, if there is one.
func (l *lake) drop(table string) error {
	c := l.compactors[table]
	delete(l.compactors, table)
	if c == nil {
		return nil
	}
	return c.Close()
}

func (l *lake) dropAll() {
	for table := range l.compactors {
		if err := l.drop(table); err != nil {
			l.deps.Logger.Warn("what compaction has left could not be removed", "table", table, "error", err)
		}
	}
}

// pass waits for so long, and looks now and then whether that is still what it is to be. It returns false if ctx ends.
func pass(ctx context.Context, long func() time.Duration) bool {
	for waited := time.Duration(0); ; {
		d := min(long()-waited, time.Minute)
		if d <= 0 {
			return ctx.Err() == nil
		}
		if !wait(ctx, d) {
			return false
		}
		waited += d
	}
}

// bucket lets so many bytes a second pass. What is larger than a second's passes at once, and the next ones wait.
type bucket struct {
	rate func() int64
	now  func() time.Time
	next time.Time // when it has made up for what has passed
}

func (b *bucket) take(ctx context.Context, n int64) error {
	now := b.now()
	if d := b.next.Sub(now); d > 0 {
		if !wait(ctx, d) {
			return ctx.Err()
		}
		now = b.now()
	}
	if b.next.Before(now) {
		b.next = now
	}
	b.next = b.next.Add(time.Duration(float64(n) / float64(b.rate()) * float64(time.Second)))
	return ctx.Err()
}

// vacuumLook is how often the node looks whether a vacuum is due.
const vacuumLook = time.Minute

// vacuumAll vacuums the tables in turn when that is due by the mark that the last one has left in the store, whichever
// node made it, and again after a look if it has failed.
func (l *lake) vacuumAll(ctx context.Context) {
	failed := map[string]int{}
	for wait(ctx, min(vacuumLook, l.cfg().Delta.Vacuum.Every)) {
		for _, table := range l.names() {
			if !l.leads(0) {
				failed[table] = 0
				l.list.Clear(condition.VacuumFailing, "table "+table)
			}
			if !l.may(0) {
				continue
			}
			err := l.vacuumTable(ctx, table, failed[table] > 0)
			if ctx.Err() != nil {
				return
			}
			l.judge(condition.VacuumFailing, table, failed, err)
		}
	}
}

func (l *lake) vacuumTable(ctx context.Context, table string, now bool) error {
	if _, err := l.tables(ctx); err != nil { // a table of another cluster is its own to vacuum
		return err
	}
	st, err := l.store()
	if err != nil {
		return err
	}
	due := func() bool { return now || l.deps.Now().Sub(l.vacuumed[table]) >= l.cfg().Delta.Vacuum.Every }
	if !due() { // the mark is not read again, which needs a listing: others may have vacuumed since, none before
		return nil
	}
	if l.vacuumed[table], err = vacuum.Last(ctx, st, table); err != nil {
		return err
	}
	if !due() {
		return nil
	}
	start := l.deps.Now()
	opts := vacuum.Options{Store: st, Table: table, Retention: l.cfg().Delta.Vacuum.Retain, Clock: true,
		Now: l.deps.Now}
	opts.Short = opts.Retention < vacuum.Least
	if opts.Retention == vacuum.Least {
		opts.Retention = 0 // what the table says, if that is longer
	}
	r, err := vacuum.Prepare(ctx, opts)
	if errors.Is(err, vacuum.ErrShort) { // the table asks for more
		opts.Retention = 0
		r, err = vacuum.Prepare(ctx, opts)
	}
	if err == nil {
		err = r.Remove(ctx, nil)
	}
	l.vacuums.done(table, r, err, l.deps.Now().Sub(start), l.deps.Now())
	if err == nil {
		l.deps.Logger.Info("vacuumed", "table", table, "listed", r.Listed, "removed", len(r.Removed), "bytes",
			vacuum.Bytes(r.Removed))
	}
	return err
}

// vacuumMetrics are what the schedule's vacuums cost and bring, by table.
type vacuumMetrics struct {
	runs                            *prometheus.CounterVec // by outcome, too
	listed, removed, bytes, seconds *prometheus.CounterVec
	last                            *prometheus.GaugeVec
}

func newVacuumMetrics(reg prometheus.Registerer) *vacuumMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_delta_vacuum_" + name, Help: help},
			append([]string{"table"}, labels...))
	}
	m := &vacuumMetrics{
		runs:    counter("runs_total", "Vacuums of the schedule by outcome: done, failed.", "outcome"),
		listed:  counter("objects_listed_total", "Objects that vacuums have listed; a request lists 1,000."),
		removed: counter("objects_removed_total", "Objects that vacuums have removed; a request removes 1,000."),
		bytes:   counter("bytes_removed_total", "Bytes of the objects that vacuums have removed."),
		seconds: counter("seconds_total", "Time that vacuums took."),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "deckle_delta_vacuum_last_timestamp_seconds",
			Help: "When this node's last vacuum was done."}, []string{"table"}),
	}
	reg.MustRegister(m.runs, m.listed, m.removed, m.bytes, m.seconds, m.last)
	return m
}

func (m *vacuumMetrics) done(table string, r *vacuum.Run, err error, took time.Duration, at time.Time) {
	outcome := "done"
	if err != nil {
		outcome = "failed"
	} else {
		m.last.WithLabelValues(table).Set(float64(at.Unix()))
	}
	m.runs.WithLabelValues(table, outcome).Inc()
	m.seconds.WithLabelValues(table).Add(took.Seconds())
	if r != nil {
		m.listed.WithLabelValues(table).Add(float64(r.Listed))
		m.removed.WithLabelValues(table).Add(float64(len(r.Removed)))
		m.bytes.WithLabelValues(table).Add(float64(vacuum.Bytes(r.Removed)))
	}
}
