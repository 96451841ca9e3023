package deltalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"deckle/sinks/delta/store"
)

// keeper makes checkpoints and cleans the log, one at a time and concurrently with the commits.
type keeper struct {
	busy    atomic.Bool
	wait    sync.WaitGroup
	cleaned time.Time // only used by the goroutine that has set busy
}

// keep starts a checkpoint if one is due at the version just committed. The node that commits a multiple of
// Options.CheckpointInterval makes the checkpoint of that version. If it dies before, a node that commits when two
// intervals have passed without a checkpoint makes one. The caller holds snapLock.
func (l *Log) keep(version int64) {
	every := int64(l.opts.CheckpointInterval)
	if version%every != 0 && version-l.snap.Checkpoint < 2*every || !l.keeper.busy.CompareAndSwap(false, true) {
		return
	}
	base := l.snap.Checkpoint
	l.keeper.wait.Go(func() {
		defer l.keeper.busy.Store(false)
		start := l.opts.Now()
		if err := l.maintain(l.committer.ctx, version, base); err != nil {
			l.metrics.keepErrors.WithLabelValues(l.name()).Inc()
			l.opts.Logger.Warn("delta: checkpoint or cleanup failed, the next one is tried later", "table", l.name(),
				"version", version, "error", err)
			return
		}
		l.metrics.checkpointSeconds.WithLabelValues(l.name()).Observe(l.opts.Now().Sub(start).Seconds())
	})
}

func (l *Log) maintain(ctx context.Context, version, base int64) error {
	// Another node may have made newer checkpoints than this node has seen.
	newest, err := l.hint(ctx)
	if err != nil {
		return err
	}
	// The hint may name a checkpoint that is gone, or one in several parts, which this package cannot build on.
	if newest > base {
		ok, err := l.hasCheckpoint(ctx, newest)
		if err != nil {
			return err
		}
		if !ok {
			newest = base
		}
	}
	if newest < version {
		newest = max(newest, base)
		if err := l.WriteCheckpoint(ctx, version, newest); err != nil {
			return err
		}
		newest = version
	}
	if err := l.snapLock.Acquire(ctx, 1); err != nil {
		return err
	}
	l.snap.Checkpoint = max(l.snap.Checkpoint, newest)
	l.snapLock.Release(1)
	if now := l.opts.Now(); now.Sub(l.keeper.cleaned) >= l.opts.CleanupInterval {
		n, err := l.Cleanup(ctx)
		if err != nil {
			return err
		}
		l.keeper.cleaned = now
		if n > 0 {
			l.opts.Logger.Info("delta: log cleaned", "table", l.name(), "objects", n)
		}
	}
	return nil
}

// hasCheckpoint reports whether there is a checkpoint of the version in one file.
func (l *Log) hasCheckpoint(ctx context.Context, v int64) (found bool, err error) {
	key := l.checkpointKey(v)
	err = l.opts.Store.List(ctx, key, "", func(info store.Info) error {
		found = found || info.Key == key
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("delta: table %s: %w", l.name(), err)
	}
	return found, nil
}

var errStop = errors.New("stop")

// newestCommit returns when the version of the current snapshot was written, by the store's clock.
func (l *Log) newestCommit(ctx context.Context) (at time.Time, err error) {
	if err := l.snapLock.Acquire(ctx, 1); err != nil {
		return at, err
	}
	key := l.commitKey(l.snap.Version)
	l.snapLock.Release(1)
	err = l.opts.Store.List(ctx, key, "", func(info store.Info) error {
		if info.Key == key {
			at = info.Modified
		}
		return nil
	})
	if err != nil {
		return at, fmt.Errorf("delta: clean %s: %w", l.name(), err)
	}
	return at, nil
}

// Cleanup deletes the commits and checkpoints that are older than the retention and that no newer version needs, by the
// protocol's steps, and returns how many objects it has deleted. Ages are measured by the store's clock. The cutoff is
// midnight UTC. The newest commit that is not after the cutoff stays readable: the newest checkpoint at or below that
// commit stays, and everything after it.
func (l *Log) Cleanup(ctx context.Context) (int, error) {
	newest, err := l.newestCommit(ctx)
	if err != nil {
		return 0, err
	}
	now := l.opts.Now()
	if now.After(newest) {
		now = newest // a clock that is ahead must not make young commits old: other nodes still build on them
	}
	cutoff := now.UTC().Add(-l.opts.LogRetention).Truncate(24 * time.Hour)
	type object struct {
		info    store.Info
		version int64
	}
	var (
		old          []object
		checkpoints  []int64
		cutoffCommit = int64(-1)
		latest       time.Time
	)
	err = l.opts.Store.List(ctx, l.root+logDir, "", func(info store.Info) error {
		v, isCommit, isCheckpoint := logName(info.Key[len(l.root+logDir):])
		switch {
		case isCommit:
			// A commit counts as no older than the commit before it, even if the store's clock went back.
			if info.Modified.After(latest) {
				latest = info.Modified
			}
			if latest.After(cutoff) {
				return errStop
			}
			cutoffCommit = v
		case isCheckpoint:
			checkpoints = append(checkpoints, v)
		default:
			return nil
		}
		old = append(old, object{info, v})
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return 0, fmt.Errorf("delta: clean %s: %w", l.name(), err)
	}
	checkpoints = slices.DeleteFunc(checkpoints, func(v int64) bool { return v > cutoffCommit })
	if len(checkpoints) == 0 {
		return 0, nil
	}
	keep := slices.Max(checkpoints)
	// The checkpoint from which every later replay starts is read before anything is deleted.
	probe := newSnapshot(false, false)
	if err := l.readCheckpoint(ctx, keep, probe); err != nil {
		return 0, fmt.Errorf("delta: clean %s: %w", l.name(), err)
	}
	n := 0
	for _, o := range old {
		if o.version >= keep {
			continue
		}
		if err := l.opts.Store.Delete(ctx, o.info.Key); err != nil {
			return n, fmt.Errorf("delta: clean %s: %w", l.name(), err)
		}
		n++
	}
	return n, nil
}
