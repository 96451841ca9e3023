package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"deckle/schema/level"
)

// configAt is a configuration and the entry that made it.
type configAt struct {
	index, term uint64
	conf        raft.Configuration
}

// keptConfigs bounds the configurations that are remembered; changes are rare.
const keptConfigs = 64

// fsm is the raft.BatchingFSM over a state machine. Besides applying entries, it knows which committed configuration
// belongs to which index: a snapshot of the state machine, taken at any moment, must carry the one of its index.
type fsm struct {
	sm      StateMachine
	snaps   *snapshots
	log     *logStore
	fatal   func(error)
	leaving context.Context // ends with the group
	onHold  func(*hold)     // is called once, when the group is held
	held    atomic.Pointer[hold]

	mu      sync.Mutex
	command uint64 // the last command handed over
	seen    uint64 // the last entry of any kind handed over, or covered by the marker
	term    uint64 // of seen
	configs []configAt
	failed  error // the first error; from then on the group applies nothing
}

// hold says that the group is held: an entry was written by a newer binary, and cannot be read yet. Neither that entry
// nor one behind it is applied, before a newer binary begins at the marker again. Entries are passed over without a
// pause, because the library hands them over through a channel of 128 batches, and stalls, with its heartbeats and
// votes, when it is full. For the library they are applied, so nothing may be truncated on its word.
type hold struct {
	index uint64 // of the first entry that was not applied
	err   error  // why, and what to do; wraps ErrTooNew
}

// holdErr returns why the group is held, nil if it is not.
func (f *fsm) holdErr() error {
	if h := f.held.Load(); h != nil {
		return h.err
	}
	return nil
}

// holdAt holds the group from an entry on. It is called by one goroutine, as Apply is.
func (f *fsm) holdAt(index uint64, err error) error {
	h := &hold{index, fmt.Errorf("%w: held at entry %d: %w", ErrTooNew, index, err)}
	f.held.Store(h)
	f.onHold(h)
	return h.err
}

// applied is what the FSM returns for a command; Future.finish reads it.
type applied struct {
	value any
	term  uint64
	err   error
}

// begin sets the FSM to a marker: when an instance starts, and after a snapshot was installed.
func (f *fsm) begin(m marker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.command, f.seen, f.term, f.configs = m.Applied, m.Index, m.Term, nil
	if m.ConfigIndex > 0 {
		f.configs = []configAt{{m.ConfigIndex, 0, m.Configuration}}
	}
}

func (f *fsm) Apply(e *raft.Log) any { return f.ApplyBatch([]*raft.Log{e})[0] }

func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	for i, e := range logs {
		results[i] = f.applyOne(e)
	}
	return results
}

func (f *fsm) applyOne(e *raft.Log) any {
	if err := f.err(); err != nil {
		return applied{err: err}
	}
	if err := f.holdErr(); err != nil {
		return applied{err: err}
	}
	var v any
	if e.Type == raft.LogCommand {
		var err error
		switch v, err = f.sm.Apply(e.Index, e.Term, e.Data); {
		case isTooNew(err):
			return applied{err: f.holdAt(e.Index, err)}
		case err != nil:
			return applied{err: f.fail(fmt.Errorf("raftstore: apply entry %d: %w", e.Index, err))}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.Type {
	case raft.LogCommand:
		f.command = e.Index
	case raft.LogConfiguration:
		conf := raft.DecodeConfiguration(e.Data)
		f.configs = append(f.configs, configAt{e.Index, e.Term, conf})
		f.configs = f.configs[max(0, len(f.configs)-keptConfigs):]
		f.snaps.formers.committed(e.Index, conf)
	}
	f.seen, f.term = e.Index, e.Term
	return applied{value: v, term: e.Term}
}

// fail keeps the first error for good and reports it.
func (f *fsm) fail(err error) error {
	f.mu.Lock()
	if f.failed == nil {
		f.failed = err
	}
	f.mu.Unlock()
	f.fatal(err)
	return err
}

// failDamaged does so for damage only: after any other error a checkpoint or a copy can be tried again.
func (f *fsm) failDamaged(err error) error {
	if isDamage(err) {
		return f.fail(err)
	}
	return err
}

func (f *fsm) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// known returns the index up to which this node knows that entries are committed, because they are in its state, and
// has them in its log or covered by its marker. It stands still while the group is held.
func (f *fsm) known() uint64 {
	a, _ := f.sm.Applied()
	if last, err := f.log.inner.LastIndex(); err != nil || a > last {
		a = 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(a, f.seen)
}

// configuration returns the last committed configuration that was handed over, and its index.
func (f *fsm) configuration() (raft.Configuration, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.configs) == 0 {
		return raft.Configuration{}, 0
	}
	c := f.configs[len(f.configs)-1]
	return c.conf, c.index
}

// describe returns the marker of a snapshot from the position of the state machine in a fresh copy of its state: the
// index up to which no other command follows, and the configuration there.
func (f *fsm) describe(index, term uint64, m marker) (marker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		return marker{}, f.failed
	}
	d, configs := marker{Index: index, Term: term, Applied: index}, f.configs
	switch {
	case index > f.seen:
		// The log is still being replayed, and a leader may need this copy to get the quorum without which it cannot
		// commit. What is in the state is committed, and the log has it.
		later, err := f.configsUpTo(index)
		if err != nil {
			return marker{}, err
		}
		configs = slices.Concat(configs, later)
	case f.command <= index: // only configurations have followed
		d.Index, d.Term = f.seen, f.term
	case index <= m.Applied: // the marker says up to where no command follows
		d.Index, d.Term = m.Index, m.Term
	}
	for _, c := range configs {
		if c.index <= d.Index {
			d.Configuration, d.ConfigIndex = c.conf, c.index
		}
	}
	if d.ConfigIndex == 0 {
		return marker{}, fmt.Errorf("raftstore: no configuration known at index %d", d.Index)
	}
	return d, nil
}

// configsUpTo returns the configurations of the log between what was handed over and an index. f.mu is held.
func (f *fsm) configsUpTo(index uint64) (found []configAt, err error) {
	for i := f.seen + 1; i <= index; i++ {
		var e raft.Log
		if err := f.log.inner.GetLog(i, &e); err != nil {
			return nil, fmt.Errorf("raftstore: configurations up to entry %d: entry %d: %w", index, i, err)
		}
		if e.Type == raft.LogConfiguration {
			found = append(found, configAt{i, e.Term, raft.DecodeConfiguration(e.Data)})
		}
	}
	return found, nil
}

// level returns the level of the group.
func (f *fsm) level() level.Level { return max(level.Level(f.sm.Level()), level.First) }

// Snapshot is quick: it notes where the state machine is. Persist makes that durable. It is refused while the group is
// held, since the library would truncate up to the last entry that it has handed over.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := errors.Join(f.err(), f.holdErr()); err != nil {
		return nil, err
	}
	index, _ := f.sm.Applied()
	return &fsmSnapshot{f, index}, nil
}

type fsmSnapshot struct {
	f       *fsm
	applied uint64
}

func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	// gofail: var bugMarkEarly struct{}
	// if own, ok := sink.(*snapshotSink); ok {
	// 	return own.mark(s.applied)
	// }
	if s.f.sm.Durable() < s.applied {
		if err := s.f.sm.Checkpoint(s.f.leaving); err != nil {
			return s.f.failDamaged(fmt.Errorf("raftstore: checkpoint: %w", err))
		}
		if d := s.f.sm.Durable(); d < s.applied {
			return fmt.Errorf("raftstore: checkpoint reached %d of %d", d, s.applied)
		}
	}
	own, ok := sink.(*snapshotSink)
	if !ok {
		return errors.New("raftstore: the snapshot sink is not one of this package")
	}
	return own.mark(s.applied)
}

func (s *fsmSnapshot) Release() {}

// Restore makes the snapshot that the sink has staged the group's state; the stream itself is empty. A group that is
// held keeps its state: the next start takes the snapshot over.
func (f *fsm) Restore(rc io.ReadCloser) error {
	if err := f.holdErr(); err != nil {
		return err
	}
	m, err := f.snaps.takeOver(f.sm, f.log)
	if err != nil {
		return f.fail(err)
	}
	f.begin(m)
	return rc.Close()
}
