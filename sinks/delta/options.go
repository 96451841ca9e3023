package delta

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/compress/uncompressed"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// Options of the Delta sink. Store, ClusterID and Pipeline are required; EventSource is if Events is set.
type Options struct {
	Store     store.Store
	ClusterID string
	Pipeline  string
	Node      string // goes into commitInfo only

	// Events keeps every raw event in the table events.
	Events bool
	// EventSource reads a shard's records again; asked for each plan that no buffer has whole.
	EventSource func(shard uint32) sinks.EventSource

	Compression          string // zstd (default, level 1), snappy, none
	RevisionFilesPerPass int    // files that one commit of revisions replaces; default 64
	CheckpointInterval   int    // commits; default 10
	BufferMemoryBytes    int64  // encoded events waiting for a flush, all shards; default 256 MiB
	FileBytes            int64  // a data file is closed at about this size (events encoded, sessions raw); default 64 MiB

	Now        func() time.Time // default time.Now
	Rand       io.Reader        // attempt and commit ids; default crypto/rand
	Logger     *slog.Logger     // default: discards
	Registerer prometheus.Registerer

	// step, if set, is called before each step that a crash may cut off; an error ends the call there. For tests.
	step func(name string) error
	// sleep replaces the waits between attempts in tests.
	sleep func(context.Context, time.Duration) error
}

// requestTimeout is of one request to the store, see store.WithTimeouts.
const requestTimeout = 30 * time.Second

func (o *Options) complete() error {
	switch {
	case o.Store == nil:
		return errors.New("delta: Options.Store is not set")
	case o.ClusterID == "" || o.Pipeline == "":
		return errors.New("delta: Options.ClusterID and Options.Pipeline must be set")
	case o.Events && o.EventSource == nil:
		return errors.New("delta: Options.EventSource is not set")
	}
	o.Store = store.WithTimeouts(o.Store, requestTimeout)
	if o.RevisionFilesPerPass <= 0 {
		o.RevisionFilesPerPass = 64
	}
	if o.BufferMemoryBytes <= 0 {
		o.BufferMemoryBytes = 256 << 20
	}
	if o.FileBytes <= 0 {
		o.FileBytes = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	o.Rand = &lockedReader{r: o.Rand}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	return nil
}

// lockedReader shares one source of randomness.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

func codec(name string) (compress.Codec, error) {
	switch name {
	case "", "zstd":
		return &zstd.Codec{Level: zstd.SpeedFastest}, nil
	case "snappy":
		return &snappy.Codec{}, nil
	case "none":
		return &uncompressed.Codec{}, nil
	}
	return nil, fmt.Errorf("delta: compression %q: want zstd, snappy or none", name)
}

// Delta is the sink of one process: its tables and the three sinks on them.
type Delta struct {
	events    *Events
	sessions  *Sessions
	revisions *Revisions
}

// Open probes the store, and opens or makes the tables. An error is a *sinks.StopError if a person is needed.
func Open(ctx context.Context, opts Options) (*Delta, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	cdc, err := codec(opts.Compression)
	if err != nil {
		return nil, err
	}
	if err := store.Probe(ctx, opts.Store, "", opts.Rand); err != nil {
		if errors.Is(err, store.ErrUnconditional) {
			return nil, &sinks.StopError{Err: err, Hint: "use another store for delta.s3"}
		}
		return nil, err
	}
	metrics := deltalog.NewMetrics(opts.Registerer)
	open := func(t table, keepFiles bool) (*deltalog.Log, error) {
		return deltalog.Open(ctx, deltalog.Options{
			Store: opts.Store, Name: t.name, Node: opts.Node, KeepFiles: keepFiles, Now: opts.Now, Rand: opts.Rand,
			Sleep: opts.sleep, Logger: opts.Logger, Metrics: metrics, CheckpointInterval: opts.CheckpointInterval,
			Create: &deltalog.Creation{ClusterID: opts.ClusterID, Pipeline: opts.Pipeline, Fields: t.fields,
				PartitionColumn: t.partition, StatsColumns: t.stats, Description: t.description},
		})
	}
	d := &Delta{}
	if opts.Events {
		log, err := open(eventsTable, false)
		if err != nil {
			return nil, err
		}
		d.events = newEvents(writer{log: log, table: eventsTable, opts: &opts, codec: cdc})
	}
	log, err := open(sessionsTable, true)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	shared := &sharedLog{log: log, users: 2}
	w := writer{log: log, table: sessionsTable, opts: &opts, codec: cdc}
	d.sessions = &Sessions{writer: w, shared: shared}
	d.revisions = &Revisions{writer: w, shared: shared}
	return d, nil
}

// Events returns the sink of raw events, nil if it is off.
func (d *Delta) Events() *Events { return d.events }

// Sessions returns the sink of closed sessions.
func (d *Delta) Sessions() *Sessions { return d.sessions }

// Revisions returns the sink of the sessions that changed after they were closed.
func (d *Delta) Revisions() *Revisions { return d.revisions }

// Close closes the three sinks; each may also be closed alone. It waits for commits and checkpoints under way.
func (d *Delta) Close() error {
	var errs []error
	if d.events != nil {
		errs = append(errs, d.events.Close())
	}
	if d.sessions != nil {
		errs = append(errs, d.sessions.Close(), d.revisions.Close())
	}
	return errors.Join(errs...)
}

// sharedLog is closed by the last of its users.
type sharedLog struct {
	mu    sync.Mutex
	log   *deltalog.Log
	users int
}

func (s *sharedLog) release() error {
	s.mu.Lock()
	s.users--
	last := s.users == 0
	s.mu.Unlock()
	if last {
		return s.log.Close()
	}
	return nil
}

// writer is what the three sinks have in common.
type writer struct {
	log   *deltalog.Log
	table table
	opts  *Options
	codec compress.Codec
}

// appID names a shard's changes of one kind: the cluster, never a term or a node, so that a new leader finds what an
// old one wrote.
func (w *writer) appID(shard uint32, kind string) string {
	return fmt.Sprintf("%s/%s/%d/%s", w.opts.ClusterID, w.opts.Pipeline, shard, kind)
}

// position returns the txn version of the shard, from the newest version of the log.
func (w *writer) position(ctx context.Context, appID string) (uint64, error) {
	if err := w.log.Refresh(ctx); err != nil {
		return 0, err
	}
	return w.known(appID), nil
}

// known returns the txn version of the shard as far as this process has read the log.
func (w *writer) known(appID string) (v uint64) {
	w.log.View(func(s *deltalog.Snapshot) {
		if t, ok := s.Txns[appID]; ok && t.Version > 0 {
			v = uint64(t.Version)
		}
	})
	return v
}

// done judges a plan by what is known of the log (invariant 1). What is not known yet shows at the commit.
func (w *writer) done(appID string, plan *state.Plan) (bool, error) {
	v := w.known(appID)
	if plan.A < v && v < plan.B {
		return false, &sinks.StopError{
			Err:  fmt.Errorf("delta: %s is at epoch %d in the log, inside the plan (%d, %d]", appID, v, plan.A, plan.B),
			Hint: "the table was written by another history of this cluster; restore the cluster's state or give it a new location",
		}
	}
	return v >= plan.B, nil
}

func (w *writer) attemptID() (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(w.opts.Rand, b[:]); err != nil {
		return "", fmt.Errorf("delta: attempt id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
