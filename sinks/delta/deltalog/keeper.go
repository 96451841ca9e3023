package deltalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
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
		if err := l.checkpointOver(ctx, version, base); err != nil {
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
	n, err := l.cleanNow(ctx, all)
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

// Checkpoint makes the checkpoint of the newest version, whether one is due or not, and returns that version and the
// checkpoint's size in bytes. If there is one already, made is false.
func (l *Log) Checkpoint(ctx context.Context) (version, size int64, made bool, err error) {
	if err := l.Refresh(ctx); err != nil {
		return 0, 0, false, err
	}
	base := int64(-1)
	l.View(func(s *Snapshot) { version, base, size = s.Version, s.Checkpoint, s.checkpointSize })
	if version < 0 || base == version {
		return version, size, false, nil
	}
	if err := l.checkpointOver(ctx, version, base); err != nil {
		return version, 0, false, err
	}
	l.View(func(s *Snapshot) { size = s.checkpointSize })
	return version, size, true, nil
}

// checkpointOver makes the checkpoint of a version from that of version base. If that is damaged, as another tool has
// made it perhaps, which nobody has read here yet, it takes the newest older one that is not, like a load.
func (l *Log) checkpointOver(ctx context.Context, version, base int64) error {
	err := l.WriteCheckpoint(ctx, version, base)
	damaged, ok := errors.AsType[*CorruptionError](err)
	if !ok || base < 0 {
		return err
	}
	l.opts.Logger.Warn("delta: the newest checkpoint cannot be used, looking for older ones", "table", l.name(),
		"error", damaged)
	ls, lerr := l.list(ctx, "")
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	for i := len(ls.checkpoints) - 1; i >= -1; i-- {
		older := int64(-1)
		if i >= 0 {
			older = ls.checkpoints[i].version
		}
		if older >= base {
			continue
		}
		oerr := l.WriteCheckpoint(ctx, version, older)
		if _, ok := errors.AsType[*CorruptionError](oerr); !ok {
			return oerr
		}
	}
	return err
}

// WriteCheckpoint writes the checkpoint of an existing version, and then the hint. It is made from the checkpoint of
// version base, the newest older one known (-1 for none), and the commits since.
func (l *Log) WriteCheckpoint(ctx context.Context, version, base int64) error {
	size, counted, err := l.writeCheckpoint(ctx, version, base)
	if err != nil {
		return fmt.Errorf("delta: checkpoint %d: %w", version, err)
	}
	_, err = l.locked(ctx, func(s *Snapshot) { s.learn(version, size, counted) })
	return err
}

// writeCheckpoint returns the size in bytes, of another node's if that stands there, and what it has counted if it is
// its own.
func (l *Log) writeCheckpoint(ctx context.Context, version, base int64) (size int64, counted totals, err error) {
	former := int64(0) // size of the former checkpoint: the new one is about as large
	props, err := l.locked(ctx, func(s *Snapshot) { former = s.checkpointSize })
	if err != nil {
		return 0, counted, err
	}
	c := &checkpointer{
		adds: map[string]*Add{}, removes: map[string]*Remove{}, txns: map[string]Txn{},
		codec:  l.opts.Codec,
		cutoff: l.opts.Now().Add(-props.tombstoneRetention).UnixMilli(),
	}
	if err := l.readCommits(ctx, base+1, version, c.fold); err != nil {
		return 0, counted, err
	}
	out := &output{}
	if former < l.opts.inMemory {
		out.most, out.b = 2*l.opts.inMemory, make([]byte, 0, former+former/16+32<<10)
	}
	if err := l.render(ctx, c, base, out); err != nil {
		return 0, counted, err
	}
	// If another node has written the checkpoint of this version before, it holds the same state.
	if key := l.checkpointKey(version); out.size <= out.most {
		err = l.opts.Store.PutIfAbsent(ctx, key, out.b)
	} else {
		again := func(w io.Writer) error { return l.render(ctx, c, base, w) }
		err = l.opts.Store.PutStreamIfAbsent(ctx, key, out.size, again)
	}
	exists := errors.Is(err, store.ErrExists)
	if exists {
		size, _, err = l.hasCheckpoint(ctx, version)
	}
	if err != nil {
		return 0, counted, err
	}
	hint := lastCheckpointHint{Version: version, Size: c.actions, NumOfAddFiles: c.totals.files}
	if !exists {
		size, counted = out.size, c.totals
		hint.SizeInBytes = size
		l.metrics.checkpointBytes.WithLabelValues(l.name()).Add(float64(size))
	}
	b, err := json.Marshal(hint)
	if err != nil {
		return 0, counted, err
	}
	if err := l.opts.Store.Put(ctx, l.root+lastCheckpoint, b); err != nil {
		return 0, counted, fmt.Errorf("hint: %w", err)
	}
	return size, counted, nil
}

// newestCommit returns when the version of the current snapshot was written, by the store's clock.
func (l *Log) newestCommit(ctx context.Context) (at time.Time, props properties, err error) {
	var key string
	if props, err = l.locked(ctx, func(s *Snapshot) { key = l.commitKey(s.Version) }); err != nil {
		return at, props, err
	}
	err = l.opts.Store.List(ctx, key, "", func(info store.Info) error {
		if info.Key == key {
			at = info.Modified
		}
		return nil
	})
	if err != nil {
		return at, props, fmt.Errorf("delta: clean %s: %w", l.name(), err)
	}
	return at, props, nil
}

// Cleanup deletes what the table's retention does not want of its log, and returns how many objects that was. Ages are
// measured by the store's clock.
func (l *Log) Cleanup(ctx context.Context) (int, error) { return l.cleanNow(ctx, true) }

func (l *Log) cleanNow(ctx context.Context, all bool) (int, error) {
	newest, props, err := l.newestCommit(ctx)
	if err != nil {
		return 0, err
	}
	return l.clean(ctx, newest, l.opts.Now(), props, all)
}

// checksums writes checksums one after the other, concurrently with the commits.
type checksums struct {
	mu    sync.Mutex
	queue []pendingChecksum
	busy  bool
}

type pendingChecksum struct {
	version int64
	body    []byte
}

// maxChecksums bounds the checksums that wait for a slow store; the oldest are then left out, which readers must take.
const maxChecksums = 16

// checksum begins to write the checksum of the snapshot's version, which the commit txnID of this process has just
// made. A version never changes, and the object is put only if it is absent: however late a put takes effect, what it
// says is true. The caller holds snapLock.
func (l *Log) checksum(txnID string) {
	body, err := l.snap.encodeChecksum(txnID)
	if err != nil {
		l.opts.Logger.Warn("delta: no version checksum", "table", l.name(), "error", err)
	}
	if body == nil {
		return
	}
	c := &l.checksums
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == maxChecksums {
		c.queue = slices.Delete(c.queue, 0, 1)
	}
	c.queue = append(c.queue, pendingChecksum{l.snap.Version, body})
	if !c.busy {
		c.busy = true
		l.keeper.wait.Go(func() { l.putChecksums(l.committer.ctx) })
	}
}

func (l *Log) putChecksums(ctx context.Context) {
	c := &l.checksums
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			c.busy = false
			c.mu.Unlock()
			return
		}
		next := c.queue[0]
		c.queue = c.queue[1:]
		c.mu.Unlock()
		err := l.opts.Store.PutIfAbsent(ctx, l.checksumKey(next.version), next.body)
		if err != nil && !errors.Is(err, store.ErrExists) {
			l.metrics.keepErrors.WithLabelValues(l.name()).Inc()
			l.opts.Logger.Debug("delta: no version checksum", "table", l.name(), "version", next.version, "error", err)
		}
	}
}
