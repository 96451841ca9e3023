package raftstore

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// groupLog is what a group needs of the node's log; *wal.Group is one.
type groupLog interface {
	raft.LogStore
	raft.StableStore
	Bytes() int64
	MeanEntryBytes() int64
}

// logStore gives Raft one group's log.
//
// StoreLogs has a deadline, because the library lets a leader with a stalled disk lead on (hashicorp/raft #503). A
// write that missed it goes on in the background; the next write waits for it, within its own deadline, so that writes
// stay in order. What the late write left behind is made void then, since storing index i makes every entry ≥ i void.
//
// Raft panics where an entry cannot be read or a term cannot be stored. Nothing here may end the process: the error
// goes to fatal, and the goroutine of Raft that asked is ended (runtime.Goexit runs its deferred functions, so Raft's
// Shutdown still returns). The group is then dead on this node, as it has to be.
type logStore struct {
	inner           groupLog
	deadline        time.Duration
	remember        time.Duration // how long a slow write counts: at least this, at most twice this
	fatal           func(error)
	observe         func(time.Duration) // is called with the time of each write, for metrics
	configNotStored func(index uint64)  // is called with the index of a configuration that Raft could not store
	// readConfig is called with each configuration that is read while Raft begins: it reads the whole log for them.
	readConfig func(index uint64, conf raft.Configuration)
	running    atomic.Bool // Raft runs: an error ends its goroutine that met it

	jobs chan *storeJob
	wg   sync.WaitGroup

	mu     sync.Mutex
	active *storeJob // the latest write, done or not
	slow   [2]slowest
}

// slowest is the slowest write of a period.
type slowest struct {
	since time.Time
	took  time.Duration
}

type storeJob struct {
	logs  []*raft.Log
	start time.Time
	done  chan struct{}
	err   error
}

func newLogStore(
	inner groupLog, deadline, remember time.Duration, fatal func(error), observe func(time.Duration),
) *logStore {
	l := &logStore{
		inner: inner, deadline: deadline, remember: remember, fatal: fatal, observe: observe,
		jobs: make(chan *storeJob, 1),
	}
	l.wg.Go(func() {
		for j := range l.jobs {
			j.err = inner.StoreLogs(j.logs)
			l.finished(time.Since(j.start))
			close(j.done)
		}
	})
	return l
}

// close waits for the last write. StoreLogs must not be called any more.
func (l *logStore) close() {
	close(l.jobs)
	l.wg.Wait()
}

func (l *logStore) finished(took time.Duration) {
	l.observe(took)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.slow[0].since) > l.remember {
		l.slow[1], l.slow[0] = l.slow[0], slowest{since: now}
	}
	l.slow[0].took = max(l.slow[0].took, took)
}

// lag is how slow the disk is: the time of the slowest recent write, or the age of the one under way if that is
// greater.
func (l *logStore) lag() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var d time.Duration
	for _, s := range l.slow {
		if time.Since(s.since) < 2*l.remember {
			d = max(d, s.took)
		}
	}
	if j := l.active; j != nil {
		select {
		case <-j.done:
		default:
			d = max(d, time.Since(j.start))
		}
	}
	return d
}

// waitForWrite waits until no write is under way. Only Raft's main goroutine starts writes.
func (l *logStore) waitForWrite(timeout <-chan time.Time) error {
	l.mu.Lock()
	j := l.active
	l.mu.Unlock()
	if j == nil {
		return nil
	}
	select {
	case <-j.done:
		return nil
	case <-timeout:
		return fmt.Errorf("%w: an earlier write is still under way", ErrStoreDeadline)
	}
}

func (l *logStore) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

// StoreLogs appends entries, or replaces those that are there from the first one's index on. If it fails and a
// configuration is among the entries, configNotStored is called: a leader of the library has adopted that configuration
// nevertheless, and never gives it up.
func (l *logStore) StoreLogs(logs []*raft.Log) error {
	err := l.store(logs)
	if err != nil && l.running.Load() {
		for _, e := range logs {
			if e.Type == raft.LogConfiguration {
				l.configNotStored(e.Index)
				break
			}
		}
	}
	return err
}

func (l *logStore) store(logs []*raft.Log) error {
	timer := time.NewTimer(l.deadline)
	defer timer.Stop()
	if err := l.waitForWrite(timer.C); err != nil {
		return err
	}
	j := &storeJob{logs: slices.Clone(logs), start: time.Now(), done: make(chan struct{})}
	l.mu.Lock()
	l.active = j
	l.mu.Unlock()
	l.jobs <- j
	select {
	case <-j.done:
		return j.err
	case <-timer.C:
		return fmt.Errorf("%w (%v)", ErrStoreDeadline, l.deadline)
	}
}

func (l *logStore) DeleteRange(lo, hi uint64) error {
	timer := time.NewTimer(l.deadline)
	defer timer.Stop()
	if err := l.waitForWrite(timer.C); err != nil {
		return err
	}
	first, err := l.inner.FirstIndex()
	if err != nil {
		return err
	}
	if lo > first {
		// A suffix that conflicts. A late write may have left more entries behind it than Raft knows.
		hi = math.MaxUint64
	}
	return l.inner.DeleteRange(lo, hi)
}

func (l *logStore) FirstIndex() (uint64, error) { return l.inner.FirstIndex() }
func (l *logStore) LastIndex() (uint64, error)  { return l.inner.LastIndex() }

func (l *logStore) GetLog(index uint64, out *raft.Log) error {
	err := l.inner.GetLog(index, out)
	if err == nil && out.Type == raft.LogConfiguration && !l.running.Load() && l.readConfig != nil {
		l.readConfig(index, raft.DecodeConfiguration(out.Data))
	}
	if err == nil || errors.Is(err, raft.ErrLogNotFound) { // unwrapped: the library compares it with ==, too
		return err
	}
	return l.fail(fmt.Errorf("raftstore: read entry %d: %w", index, err))
}

// term returns the term of an entry, 0 if the log does not hold it.
func (l *logStore) term(index uint64) (uint64, error) {
	var e raft.Log
	switch err := l.inner.GetLog(index, &e); {
	case errors.Is(err, raft.ErrLogNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return e.Term, nil
}

// fail reports a fatal error and, inside Raft, ends the goroutine.
func (l *logStore) fail(err error) error {
	l.fatal(err)
	if l.running.Load() {
		runtime.Goexit()
	}
	return err
}

// stableStore is the group's term and vote. It has no deadline: Raft panics on its errors.
type stableStore struct {
	raft.StableStore
	log *logStore
}

func (s stableStore) Set(key, val []byte) error {
	if err := s.StableStore.Set(key, val); err != nil {
		return s.log.fail(fmt.Errorf("raftstore: store %s: %w", key, err))
	}
	return nil
}

func (s stableStore) SetUint64(key []byte, val uint64) error {
	if err := s.StableStore.SetUint64(key, val); err != nil {
		return s.log.fail(fmt.Errorf("raftstore: store %s: %w", key, err))
	}
	return nil
}
