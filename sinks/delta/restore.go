package delta

import (
	"context"
	"errors"
	"fmt"
	"time"

	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
)

// RestoreRequest says to which version a table is restored, and what becomes of the rows that Deckle has written since.
type RestoreRequest struct {
	Table string // events or sessions
	// Version is that number, unless At is set: then it is the newest one at that time.
	Version int64
	At      time.Time
	Rows    history.Rows
	DryRun  bool // nothing is changed
}

// Restored is what has come of a RestoreRequest.
type Restored struct {
	Table string `json:"table"`
	history.Summary
	// Committed is the version that the restore has made; -1 if there was nothing to change, or for a dry run.
	Committed int64 `json:"committed"`
}

// Restore restores a table: one commit takes away the files that are not to be there, and brings back those that are.
// The txns stay, so that no plan is written twice. Sinks, compaction and others may write meanwhile: it is worked out
// anew on what they have written. It keeps nothing: what is interrupted is begun anew. Its error is a
// *history.RefusedError or a *sinks.StopError if nothing has changed; after others that is not known.
func (d *Delta) Restore(ctx context.Context, q RestoreRequest) (*Restored, error) {
	return restore(ctx, d.opts, d.metrics, q)
}

func restore(ctx context.Context, opts *Options, m *deltalog.Metrics, q RestoreRequest) (out *Restored, err error) {
	tables := &opts.layout.sessions
	switch q.Table {
	case sessionsTable.name:
	case eventsTable.name:
		tables = &opts.layout.events
	default:
		return nil, fmt.Errorf("delta: no table %q: want %s or %s", q.Table, sessionsTable.name, eventsTable.name)
	}
	cdc, err := codec(opts.Compression)
	if err != nil {
		return nil, err
	}
	t, err := history.Open(ctx, opts.Store, q.Table)
	if err != nil {
		return nil, err
	}
	to, named := q.Version, ""
	if !q.At.IsZero() {
		if to, err = t.VersionAt(ctx, q.At); err != nil {
			return nil, err
		}
		named = q.At.UTC().Format(time.RFC3339Nano)
	}
	r, err := t.NewRestorer(ctx, to, q.Rows)
	if err != nil {
		return nil, err
	}
	log, err := deltalog.Open(ctx, deltalog.Options{
		Store: opts.Store, Name: q.Table, Node: opts.Node, KeepFiles: true, Now: opts.Now, Rand: opts.Rand,
		Sleep: opts.sleep, Logger: opts.Logger, Metrics: m, CheckpointInterval: opts.CheckpointInterval,
		Create: creation(tables, opts.Level, opts), Codec: checkpointCodec(cdc),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	var last *deltalog.Restoration
	plan := func(ctx context.Context, version int64) (*deltalog.Restoration, error) {
		var err error
		if last, err = r.Restoration(ctx, version); err != nil {
			return nil, err
		}
		last.Timestamp = named
		return last, nil
	}
	out = &Restored{Table: q.Table, Committed: -1}
	if q.DryRun {
		version := int64(-1)
		log.View(func(s *deltalog.Snapshot) { version = s.Version })
		if _, err = plan(ctx, version); err == nil && len(last.Removes) > 0 {
			err = log.CheckRemoves()
		}
	} else {
		out.Committed, err = log.Restore(ctx, plan)
	}
	if err != nil {
		return nil, err
	}
	out.Summary = *r.Summary()
	if out.Committed >= 0 {
		if err := r.Stand(ctx, last.Adds); err != nil {
			return nil, fmt.Errorf("version %d has been committed, and a vacuum was faster: %w; restore to another "+
				"version", out.Committed, err)
		}
	}
	return out, nil
}

// AcceptRemoved settles that the rows which RESTOREs of other tools have taken out of a table are gone. It returns the
// version that says so, -1 if there is nothing to settle.
func (d *Delta) AcceptRemoved(ctx context.Context, table string) (version int64, err error) {
	log, _ := d.Committer(table)
	if log == nil {
		return -1, fmt.Errorf("delta: no table %q: want %s or %s", table, sessionsTable.name, eventsTable.name)
	}
	return log.AcceptRemoved(ctx)
}
