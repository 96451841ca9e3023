package deltalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"deckle/sinks/delta/store"
)

// load replays the table from its newest readable checkpoint. The hint only shortens the listing.
func (l *Log) load(ctx context.Context) (*Snapshot, error) {
	start := l.opts.Now()
	hint, err := l.hint(ctx)
	if err != nil {
		return nil, err
	}
	if hint >= 0 {
		ls, err := l.list(ctx, fmt.Sprintf("%s%s%020d", l.root, logDir, hint))
		if err != nil {
			return nil, err
		}
		if len(ls.checkpoints) > 0 {
			s, err := l.replay(ctx, ls)
			if err == nil {
				l.listed = start
				return s, nil
			}
			if _, ok := errors.AsType[*CorruptionError](err); !ok {
				return nil, err
			}
			l.opts.Logger.Warn("delta: the newest checkpoint cannot be used, looking for older ones", "table", l.root,
				"error", err)
		}
	}
	ls, err := l.list(ctx, "")
	if err != nil {
		return nil, err
	}
	if hint >= 0 && len(ls.commits) == 0 && len(ls.checkpoints) == 0 {
		// A table must not be made anew over one whose first commits are gone.
		return nil, &CorruptionError{Key: l.root + lastCheckpoint, Err: errUnseen}
	}
	s, err := l.replay(ctx, ls)
	if err == nil {
		l.listed = start
	}
	return s, err
}

// replay tries the checkpoints of a listing from the newest to the oldest, then version 0.
func (l *Log) replay(ctx context.Context, ls *listing) (*Snapshot, error) {
	if len(ls.commits) == 0 && len(ls.checkpoints) == 0 {
		return newSnapshot(l.opts.KeepFiles, l.opts.KeepStats, l.opts.LogRetention).of(l.opts.Create), nil
	}
	var firstErr error
	for i := len(ls.checkpoints) - 1; i >= -1; i-- {
		s := newSnapshot(l.opts.KeepFiles, l.opts.KeepStats, l.opts.LogRetention).of(l.opts.Create)
		var err error
		if i >= 0 {
			err = l.readCheckpoint(ctx, ls.checkpoints[i].version, s)
			s.checkpointSize = ls.checkpoints[i].size
			if errors.Is(err, store.ErrNotFound) {
				err = &CorruptionError{Key: l.checkpointKey(ls.checkpoints[i].version), Err: errUnlisted}
			}
		}
		// Whether a commit is there is not for the listing to say, which a store may give late.
		if err == nil {
			err = l.readCommits(ctx, s.Version+1, ls.last, func(c *commit) { s.apply(c) })
		}
		if err == nil {
			err = l.lookBack(ctx, s)
		}
		if err == nil {
			return s, nil
		}
		if _, ok := errors.AsType[*CorruptionError](err); !ok {
			return nil, err
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return nil, firstErr
}

// lookBack looks for a RESTORE of another tool between the newest commit of this package and the checkpoint from which
// a snapshot was read.
func (l *Log) lookBack(ctx context.Context, s *Snapshot) error {
	if l.opts.Create == nil || s.restored > 0 {
		return nil
	}
	for v := s.Checkpoint; v > 0; v-- {
		c, err := l.readCommit(ctx, v)
		if errors.Is(err, store.ErrNotFound) {
			return nil // cleanup has taken it, a month after it was made
		}
		if _, damaged := errors.AsType[*CorruptionError](err); damaged {
			continue // the checkpoint has what it did, and fsck names it
		}
		if err != nil {
			return err
		}
		if c.takesAway {
			s.restored = v
			return nil
		}
		if c.own {
			return nil
		}
	}
	return nil
}

var (
	errUnlisted = errors.New("it is listed and not there: it was deleted meanwhile, or the store lists late")
	errUnseen   = errors.New("it names a checkpoint, and the store lists an empty log: it lists late, or somebody " +
		"has deleted the log")
)

// settleNames is called after commits up to version v have been read and before the writer relies on them. The writer
// acknowledges plans by what it has read there, so those commits must survive a power cut, even if the process that
// wrote them died before it made them durable.
func (l *Log) settleNames(ctx context.Context, v int64) error {
	if l.opts.Create == nil {
		return nil
	}
	return store.SyncNames(ctx, l.opts.Store, l.commitKey(v))
}

// relistAfter bounds the age of the last reading of the folder for which a missing next commit means that there is none
// yet. After a longer time the log may have been cleaned past this snapshot, and a missing next version may be one that
// was written and deleted.
const relistAfter = time.Hour

// stale reports whether the snapshot is too old for a commit to be built on it, by the monotonic or the wall clock: the
// monotonic clock stands still while a machine sleeps, and the wall clock may have been set back.
func (l *Log) stale() bool {
	now := l.opts.Now()
	return now.Sub(l.listed) >= relistAfter || now.Round(0).Sub(l.listed.Round(0)) >= relistAfter
}

// refresh brings the snapshot up to the newest commit, by reading commits until one is missing. The caller holds
// snapLock.
func (l *Log) refresh(ctx context.Context) error {
	if l.snap == nil || l.snap.Version < 0 || l.stale() {
		s, err := l.load(ctx)
		if err == nil && s.Version >= 0 {
			err = l.settleNames(ctx, s.Version)
		}
		if err != nil {
			return err
		}
		s.follow(l.snap)
		if l.snap = s; s.Version < 0 {
			return l.adopt(s)
		}
		// The listing may have been late: what it does not show yet is read like any later commit.
	}
	for {
		start := l.opts.Now()
		c, err := l.readCommit(ctx, l.snap.Version+1)
		if errors.Is(err, store.ErrNotFound) {
			l.listed = start
			return l.adopt(l.snap)
		}
		if err == nil {
			err = l.settleNames(ctx, l.snap.Version+1)
		}
		if err != nil {
			return err
		}
		l.snap.apply(c)
	}
}

// adopt makes s the current snapshot, and then does the checks of invariant 6.
func (l *Log) adopt(s *Snapshot) error {
	l.snap = s
	l.metrics.version.WithLabelValues(l.name()).Set(float64(s.Version))
	if s.Version < 0 {
		return nil
	}
	return s.checkTable(l.root, l.opts.Create)
}
