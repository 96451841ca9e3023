package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// How the log stays short. A group's log that is longer than LogBytes, or that holds back segments of the node's log,
// which is longer than WALBytes, or that somebody asked for, is truncated:
//
//	checkpoint of the state machine ─► marker (Raft's local snapshot) ─► entries up to it go, but for the trailing ones
//
// The trailing entries, LogBytes/2 worth of them, let a follower that was away for a while catch up from the log. While
// a snapshot is being sent, what follows it stays too, so that the follower need not be sent another, up to 4 LogBytes.

const (
	// maintainEvery is how often the log's length is looked at.
	maintainEvery = 500 * time.Millisecond
	// minTrailing entries stay behind every marker, so that followers that are in step never need a snapshot. A
	// group that holds back old segments gives them up.
	minTrailing = 64
	maxTrailing = 1 << 24
)

func (g *Group) maintain() {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		asked := false
		select {
		case <-g.ctx.Done():
			return
		case <-g.asked:
			asked = true
		case <-tick.C:
		}
		if err := g.truncate(asked); err != nil && g.ctx.Err() == nil && !errors.Is(err, raft.ErrRaftShutdown) {
			g.logger.Warn("could not truncate the log", "error", err)
		}
		if err := g.send.sweep(false); err != nil {
			g.logger.Warn("could not drop a sent snapshot", "error", err)
		}
	}
}

// cut is what the next truncation should leave.
func (g *Group) cut(asked bool) (trailing uint64, due bool, err error) {
	first, err := g.log.inner.FirstIndex()
	if err != nil || first == 0 {
		return 0, false, err
	}
	last, err := g.log.inner.LastIndex()
	if err != nil {
		return 0, false, err
	}
	bytes, mean := g.log.inner.Bytes(), max(g.log.inner.MeanEntryBytes(), 1)
	limit := g.store.opts.LogBytes
	trailing = min(max(uint64(limit/2/mean), minTrailing), maxTrailing)
	if keep := g.send.keeps(); keep > 0 && keep < last && bytes < 4*limit {
		trailing = max(trailing, last-keep)
	}
	due = asked || bytes > limit
	for _, lag := range g.store.wal.Laggards(g.store.opts.WALBytes) {
		if lag.Group == uint64(g.shard) {
			trailing, due = min(trailing, last-min(last, lag.Through)), true
		}
	}
	// Something must go, and something must have come since the last marker, or the same would be done in vain.
	to := min(last-min(last, trailing), g.fsm.known())
	return trailing, due && (to >= first || asked), nil
}

func (g *Group) truncate(asked bool) error {
	r := g.run.Load()
	if r == nil || g.fsm.err() != nil {
		return nil
	}
	trailing, due, err := g.cut(asked)
	if err != nil || !due {
		return err
	}
	// gofail: var bugTruncateEarly struct{}
	// if early := r.raft.ReloadableConfig(); true {
	// 	early.TrailingLogs = 0
	// 	return errors.Join(r.raft.ReloadConfig(early), r.raft.Snapshot().Error())
	// }
	if err := g.sm.Checkpoint(g.ctx); err != nil {
		return g.fsm.failDamaged(fmt.Errorf("checkpoint: %w", err))
	}
	c := r.raft.ReloadableConfig()
	c.TrailingLogs = trailing
	if err := r.raft.ReloadConfig(c); err != nil {
		return fmt.Errorf("set trailing logs: %w", err)
	}
	if err := g.installing.Acquire(g.ctx, 1); err != nil {
		return err
	}
	defer g.installing.Release(1)
	switch err := r.raft.Snapshot().Error(); {
	case errors.Is(err, raft.ErrNothingNewToSnapshot):
		// Raft has applied nothing since it started; a barrier gives it something, on every replica.
		if r.raft.State() == raft.Leader {
			g.barrier()
		}
		return nil
	default:
		return err
	}
}

// dropCopies removes what an earlier process copied for sending.
func dropCopies(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("raftstore: list %s: %w", dir, err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, sendPrefix) {
			if err := removeAll(fsys, fsys.PathJoin(dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}
