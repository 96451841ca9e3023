package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"deckle/node/condition"
	"deckle/node/status"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
	"deckle/sinks/delta/store"
)

// table carries out what an operator asks of a Delta table. Whichever node is asked does it itself: what it commits is
// exact beside everything that the others do.
func (l *lake) table(ctx context.Context, q *status.TableRequest) (*status.TableOutcome, error) {
	refused := func(err error) error { return fmt.Errorf("%w: %w", status.ErrRefused, err) }
	d, err := l.tables(ctx)
	if err != nil {
		return nil, refused(err) // nothing has been begun
	}
	if log, _ := d.Committer(q.Table); log == nil {
		return nil, refused(fmt.Errorf("this node writes no table %q", q.Table))
	}
	l.deps.Logger.Info("a Delta table is to be changed", "op", q.Op, "table", q.Table, "rows", q.Rows, "dry_run",
		q.DryRun)
	if q.Op == status.TableForget {
		v, err := d.AcceptRemoved(ctx, q.Table)
		return outcomeOf(&delta.Restored{Table: q.Table, Committed: v}), err
	}
	r, err := d.Restore(ctx, delta.RestoreRequest{Table: q.Table, Version: q.Version, At: q.At,
		Rows: history.Rows(q.Rows), DryRun: q.DryRun})
	if err != nil {
		_, no := errors.AsType[*history.RefusedError](err)
		_, stop := errors.AsType[*sinks.StopError](err)
		_, feature := errors.AsType[*history.FeatureError](err)
		_, damaged := errors.AsType[*deltalog.CorruptionError](err)
		if no || stop || feature || damaged || errors.Is(err, history.ErrNoVersion) ||
			errors.Is(err, history.ErrNoTable) {
			return nil, refused(err)
		}
		return nil, err
	}
	return outcomeOf(r), nil
}

func outcomeOf(r *delta.Restored) *status.TableOutcome {
	known := func(n int64) *int64 {
		if n < 0 {
			return nil
		}
		return &n
	}
	return &status.TableOutcome{Table: r.Table, Committed: known(r.Committed), Version: r.Version, To: r.To,
		Restored: r.Files, Removed: r.FilesRemoved, RestoredRows: known(r.Rows), RemovedRows: known(r.RowsRemoved),
		Undone: r.Passed}
}

// removedLook is how often the node looks whether somebody has taken rows away.
const removedLook = time.Minute

// watchRemoved keeps the condition that a RESTORE of another tool has taken rows away, on the node that leads shard 0.
func (l *lake) watchRemoved(ctx context.Context) {
	said := map[string]int64{} // by table: the version of which the condition tells
	for wait(ctx, removedLook) {
		for _, table := range l.names() {
			v := int64(0)
			if l.leads(0) {
				var err error
				if v, err = l.unsettled(ctx, table); err != nil {
					continue // who writes the table tells of it
				}
			}
			switch v {
			case said[table]:
			case 0:
				l.list.Clear(condition.RowsRemoved, "table "+table)
			default:
				l.list.Set(condition.RowsRemoved, "table "+table, 0, l.removedText(ctx, table, v), "")
			}
			said[table] = v
		}
	}
}

// manyBrands is how many brands a table may have that is partitioned by them, before somebody should know. Publishers
// have some dozens; each costs a request and a file in the flushes that it has rows in.
const manyBrands = 500

// watchBrands keeps the condition that the table of sessions has many brands, on the node that leads shard 0. A brand
// is fixed when its session is opened, by a record of which nobody asks where it comes from, and stands in the folder
// of its files and nowhere else: what is written cannot be bounded here any more.
func (l *lake) watchBrands(ctx context.Context) {
	most, said := cmp.Or(l.mostBrands, manyBrands), 0 // of how many the condition tells
	for wait(ctx, removedLook) {
		n := 0
		if l.leads(0) {
			d, err := l.tables(ctx)
			if err != nil {
				continue // who writes the table tells of it
			}
			if log, _ := d.Committer("sessions"); log != nil {
				log.View(func(s *deltalog.Snapshot) { n = s.Distinct(delta.BrandColumn) })
			}
		}
		l.brands.Set(float64(n))
		switch {
		case n == said || n <= most && said == 0:
		case n <= most:
			l.list.Clear(condition.BrandsMany, "table sessions")
			said = 0
		default:
			l.list.Set(condition.BrandsMany, "table sessions", 0, fmt.Sprintf("its files have %d brands, more than "+
				"%d: each flush makes a file for each brand in it", n, most), "")
			said = n
		}
	}
}

// unsettled is the version that has taken rows away, 0 for none, by the newest version of the log.
func (l *lake) unsettled(ctx context.Context, table string) (v int64, err error) {
	d, err := l.tables(ctx)
	if err != nil {
		return 0, err
	}
	log, _ := d.Committer(table)
	if log == nil {
		return 0, nil
	}
	if err := log.Refresh(ctx); err != nil {
		return 0, err
	}
	log.View(func(s *deltalog.Snapshot) { v = s.Unsettled() })
	return v, nil
}

// removedText tells what a version has taken away, as far as the log still says it.
func (l *lake) removedText(ctx context.Context, table string, v int64) string {
	text := fmt.Sprintf("version %d, by another tool, has taken files of Deckle's away (RESTORE) or set a txn back", v)
	st, err := l.store()
	if err != nil {
		return text
	}
	r, err := removedBy(ctx, st, table, v)
	if err != nil {
		return text + " (how many rows is not known: " + err.Error() + ")"
	}
	rows := "rows of which nobody has counted the number"
	if r.RowsRemoved >= 0 {
		rows = fmt.Sprintf("%d rows", r.RowsRemoved)
	}
	return fmt.Sprintf("%s: %d files with %s, and it has brought %d files back. As before: deckle delta restore %s "+
		"--version %d --rows=again. Gone for good: deckle delta forget-gaps %s", text, r.FilesRemoved, rows, r.Files,
		table, v-1, table)
}

func removedBy(ctx context.Context, st store.Store, table string, v int64) (*history.Summary, error) {
	t, err := history.Open(ctx, st, table)
	if err != nil {
		return nil, err
	}
	return t.Changed(ctx, v)
}
