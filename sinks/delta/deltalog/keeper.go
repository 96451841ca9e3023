package deltalog

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"deckle/sinks/delta/store"
)

// keeper makes checkpoints and cleans the log, one at a time and concurrently with the commits.
type keeper struct {
	busy atomic.Bool
	wait sync.WaitGroup
	// Only used by the goroutine that has set busy: when the log was cleaned, when all its checkpoints were looked at,
	// and which properties were last told to be unreadable.
	cleaned, thinned time.Time
	told             string
}

// keep starts a checkpoint if this node is to make one at the version just committed. The caller holds snapLock.
func (l *Log) keep(version int64) {
	if !l.snap.mine(int64(l.opts.CheckpointInterval)) || !l.keeper.busy.CompareAndSwap(false, true) {
		return
	}
	l.keeper.wait.Go(func() {
		defer l.keeper.busy.Store(false)
		start := l.opts.Now()
		made, err := l.maintain(l.committer.ctx, version)
		if err != nil {
			l.metrics.keepErrors.WithLabelValues(l.name()).Inc()
			l.opts.Logger.Warn("delta: checkpoint or cleanup failed, the next one is tried later", "table", l.name(),
				"version", version, "error", err)
			return
		}
		if made {
			l.metrics.checkpointSeconds.WithLabelValues(l.name()).Observe(l.opts.Now().Sub(start).Seconds())
		}
	})
}

// maintain makes the checkpoint of a version if none is there that this node has not seen, and cleans the log.
func (l *Log) maintain(ctx context.Context, version int64) (made bool, err error) {
	// One small read tells whether another node has made a checkpoint meanwhile.
	newest, err := l.hint(ctx)
	if err != nil {
		return false, err
	}
	base := int64(-1)
	props, err := l.locked(ctx, func(s *Snapshot) { base = s.Checkpoint })
	if err != nil {
		return false, err
	}
	mine := true
	if newest > base {
		// The hint may name a checkpoint that is gone, or one in several parts, which this package cannot build on.
		size, ok, err := l.hasCheckpoint(ctx, newest)
		if err != nil {
			return false, err
		}
		if ok {
			base = newest
			_, err := l.locked(ctx, func(s *Snapshot) {
				s.learn(newest, size, totals{})
				mine = s.mine(int64(l.opts.CheckpointInterval))
			})
			if err != nil {
				return false, err
			}
		}
	}
	if mine && base < version {
		if err := l.WriteCheckpoint(ctx, version, base); err != nil {
			return false, err
		}
		made = true
	}
	if told := strings.Join(props.unread, ", "); told != l.keeper.told {
		l.keeper.told = told
		l.opts.Logger.Warn("delta: properties of the table that cannot be read, so that nothing is deleted for them",
			"table", l.name(), "properties", told)
	}
	now := l.opts.Now()
	if now.Sub(l.keeper.cleaned) < l.opts.CleanupInterval {
		return made, nil
	}
	all := now.Sub(l.keeper.thinned) >= thinEvery*l.opts.CleanupInterval
	n, err := l.clean(ctx, all)
	if err != nil {
		return made, err
	}
	l.keeper.cleaned = now
	if all {
		l.keeper.thinned = now
	}
	if n > 0 {
		l.opts.Logger.Info("delta: log cleaned", "table", l.name(), "objects", n)
	}
	return made, nil
}

// locked calls f with the current snapshot, and returns the table's properties.
func (l *Log) locked(ctx context.Context, f func(*Snapshot)) (properties, error) {
	if err := l.snapLock.Acquire(ctx, 1); err != nil {
		return properties{}, err
	}
	defer l.snapLock.Release(1)
	f(l.snap)
	return l.snap.properties, nil
}

// hasCheckpoint reports whether there is a checkpoint of the version in one file, and its size in bytes.
func (l *Log) hasCheckpoint(ctx context.Context, v int64) (size int64, found bool, err error) {
	key := l.checkpointKey(v)
	err = l.opts.Store.List(ctx, key, "", func(info store.Info) error {
		if info.Key == key {
			size, found = info.Size, true
		}
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("delta: table %s: %w", l.name(), err)
	}
	return size, found, nil
}
