package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"

	"deckle/wal"
)

const (
	// maintainEvery is how often the log's length is looked at.
	maintainEvery = 500 * time.Millisecond
	// minTrailing entries stay behind every marker, so that followers that are in step never need a snapshot. A
	// group that holds back old segments gives them up.
	minTrailing = 64
	maxTrailing = 1 << 24
)

// maintainer keeps the log short. A group's log that is longer than LogBytes, or that holds back segments of the node's
// log, which is longer than WALBytes, is truncated:
//
//	checkpoint of the state machine ─► marker (Raft's local snapshot) ─► entries up to it go, the trailing ones stay
//
// A group that is held truncates nothing: the library takes for applied what the group has only passed over.
//
// The trailing entries, LogBytes/2 of them, let a follower that was away for a while catch up from the log. While a
// snapshot is being sent, the entries behind it stay too, up to 4 LogBytes, so that the follower need not be sent
// another.
type maintainer struct {
	opts        *Options
	shard       uint32
	logger      *slog.Logger
	sm          StateMachine
	log         *logStore
	fsm         *fsm
	send        *sender
	run         *current
	ctx         context.Context                     // ends with the group
	oneSnapshot *semaphore.Weighted                 // held during a local snapshot and during an install
	barrier     func() (<-chan error, bool)         // commits an entry of the library's own
	laggards    func(maxBytes int64) []wal.GroupLag // the groups that hold back the node's log
}

// watch looks at the log's length as long as the group runs.
func (m *maintainer) watch() {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
		}
		if err := m.truncateIfDue(); err != nil && m.ctx.Err() == nil && !errors.Is(err, raft.ErrRaftShutdown) &&
			!errors.Is(err, ErrNoRoom) { // the node says so
			m.logger.Warn("could not truncate the log", "error", err)
		}
		if err := m.send.sweep(false); err != nil {
			m.logger.Warn("could not drop a sent snapshot", "error", err)
		}
	}
}

// plan returns how many trailing entries a truncation should leave now, and whether one is due.
func (m *maintainer) plan() (trailing uint64, due bool, err error) {
	first, err := m.log.inner.FirstIndex()
	if err != nil || first == 0 {
		return 0, false, err
	}
	last, err := m.log.inner.LastIndex()
	if err != nil {
		return 0, false, err
	}
	bytes, mean := m.log.inner.Bytes(), max(m.log.inner.MeanEntryBytes(), 1)
	limit := m.opts.LogBytes
	trailing = min(max(uint64(limit/2/mean), minTrailing), maxTrailing)
	if keep := m.send.keeps(); keep > 0 && keep < last && bytes < 4*limit {
		trailing = max(trailing, last-keep)
	}
	due = bytes > limit
	for _, lag := range m.laggards(m.opts.WALBytes) {
		if lag.Group == uint64(m.shard) {
			trailing, due = min(trailing, last-min(last, lag.Through)), true
		}
	}
	// Something must go, and something must have come since the last marker, or the same would be done in vain.
	to := min(last-min(last, trailing), m.fsm.known())
	return trailing, due && to >= first, nil
}

func (m *maintainer) truncateIfDue() error {
	if m.run.Load() == nil || m.fsm.err() != nil || m.fsm.holdErr() != nil {
		return nil
	}
	trailing, due, err := m.plan()
	if err != nil || !due {
		return err
	}
	return m.truncate(trailing)
}

// truncate makes a checkpoint and truncates the log up to it, the trailing entries aside.
func (m *maintainer) truncate(trailing uint64) error {
	r := m.run.Load()
	if r == nil || m.fsm.err() != nil {
		return nil
	}
	if err := m.fsm.holdErr(); err != nil {
		return err
	}
	// gofail: var bugTruncateEarly struct{}
	// if early := r.raft.ReloadableConfig(); true {
	// 	early.TrailingLogs = 0
	// 	return errors.Join(r.raft.ReloadConfig(early), r.raft.Snapshot().Error())
	// }
	if err := m.sm.Checkpoint(m.ctx); err != nil {
		return m.fsm.failDamaged(fmt.Errorf("checkpoint: %w", err))
	}
	c := r.raft.ReloadableConfig()
	c.TrailingLogs = trailing
	if err := r.raft.ReloadConfig(c); err != nil {
		return fmt.Errorf("set trailing logs: %w", err)
	}
	if err := m.oneSnapshot.Acquire(m.ctx, 1); err != nil {
		return err
	}
	defer m.oneSnapshot.Release(1)
	switch err := r.raft.Snapshot().Error(); {
	case errors.Is(err, raft.ErrNothingNewToSnapshot):
		// Raft has applied nothing since it started; a barrier gives it something, on every replica.
		if r.raft.State() == raft.Leader {
			m.barrier()
		}
		return nil
	default:
		return err
	}
}
