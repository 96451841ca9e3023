package delta

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// Delta holds the Delta tables of one process and the three sinks that write them.
type Delta struct {
	events    *Events
	sessions  *Sessions
	revisions *Revisions
	opts      *Options
	metrics   *deltalog.Metrics
}

// Open probes the store, and opens or makes the tables. An error is a *sinks.StopError if an operator has to act.
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
	y := opts.layout
	open := func(tables *[level.Current + 1]*table, keepFiles bool) (*deltalog.Log, error) {
		return deltalog.Open(ctx, deltalog.Options{
			Store: opts.Store, Name: tables[opts.Level].name, Node: opts.Node, KeepFiles: keepFiles, Now: opts.Now,
			Rand:  opts.Rand,
			Sleep: opts.sleep, Logger: opts.Logger, Metrics: metrics, CheckpointInterval: opts.CheckpointInterval,
			Create: creation(tables, opts.Level, &opts), Codec: checkpointCodec(cdc),
		})
	}
	d := &Delta{opts: &opts, metrics: metrics}
	if opts.Events {
		log, err := open(&y.events, false)
		if err != nil {
			return nil, err
		}
		d.events = newEvents(log, y, &opts, cdc)
	}
	log, err := open(&y.sessions, true)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	shared := &sharedLog{log: log, users: 2}
	shares := func(kind string) sharedWriter {
		return sharedWriter{writer: writer{log: log, layout: y, tables: &y.sessions, opts: &opts, codec: cdc,
			metrics: metrics}, kind: kind, shared: shared}
	}
	d.sessions = &Sessions{sharedWriter: shares("sessions")}
	d.revisions = &Revisions{sharedWriter: shares("sessions.revisions")}
	d.sessions.gather = newGather(d.sessions.writer.gathers(deltalog.LaneSessions))
	d.revisions.gather = newGather(gatherOptions{patience: cmp.Or(opts.gatherFor, passFor), pass: d.revisions.together})
	return d, nil
}

// Events returns the sink of raw events, nil if it is off.
func (d *Delta) Events() *Events { return d.events }

// Sessions returns the sink of closed sessions.
func (d *Delta) Sessions() *Sessions { return d.sessions }

// Revisions returns the sink of the sessions that changed after they were closed.
func (d *Delta) Revisions() *Revisions { return d.revisions }

// Committer returns the log of a table, for a node that commits what others have staged for it, and the names of
// the table's partition columns; nil if there is no such table.
func (d *Delta) Committer(table string) (log *deltalog.Log, partitions []string) {
	for _, w := range []*writer{&d.sessions.writer, d.eventsWriter()} {
		if w != nil && w.tables[level.First].name == table {
			return w.log, w.tables[level.First].columns()
		}
	}
	return nil, nil
}

// eventsWriter is that of the sink of raw events, nil if it is off.
func (d *Delta) eventsWriter() *writer {
	if d.events == nil {
		return nil
	}
	return &d.events.writer
}

// Close closes the three sinks, both tables at the same time; each sink may also be closed alone. It waits for commits
// and checkpoints that have begun, for two seconds at most and then as long as the store takes to give them up.
func (d *Delta) Close() error {
	var events, sessions error
	var wait sync.WaitGroup
	if d.events != nil {
		wait.Go(func() { events = d.events.Close() })
	}
	if d.sessions != nil {
		wait.Go(func() { sessions = errors.Join(d.sessions.Close(), d.revisions.Close()) })
	}
	wait.Wait()
	return errors.Join(events, sessions)
}
