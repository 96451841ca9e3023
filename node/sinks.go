package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"deckle/node/shard"
	"deckle/sinks"
	"deckle/state"
)

// sinkSlot is one sink of the node, opened when it is first needed and then shared by all shards. A sink that cannot be
// opened does not keep the others from working.
type sinkSlot struct {
	id   state.SinkID
	open func(ctx context.Context) (sinks.Sink, error)
	wrap func(sinks.Sink) sinks.Sink // Deps.WrapSink; may be nil
	now  func() time.Time

	// One caller at a time uses what follows: opening may take long, and a wait for access ends with its context.
	access *semaphore.Weighted
	sink   sinks.Sink
	err    error     // of the last attempt
	tried  time.Time // when it ended
	closed bool

	joint atomic.Pointer[sinks.Joint] // the open sink, if it writes plans together; nil: none

	first     sync.Once
	firstDone chan struct{} // closed when the first attempt is over, successful or not
}

func newSinkSlot(id state.SinkID, now func() time.Time) *sinkSlot {
	return &sinkSlot{id: id, now: now, access: semaphore.NewWeighted(1), firstDone: make(chan struct{})}
}

// openPause is how long the error of a failed attempt is the answer for the shards that ask after it.
const openPause = 500 * time.Millisecond

var errClosed = errors.New("node: closed")

// get returns the sink, opening it if nobody has. What an attempt has found, a *sinks.StopError too, is looked for
// again when somebody asks after openPause.
func (s *sinkSlot) get(ctx context.Context) (sinks.Sink, error) {
	if err := s.access.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.access.Release(1)
	if s.closed {
		return nil, errClosed
	}
	if s.sink != nil || s.err != nil && s.now().Sub(s.tried) < openPause {
		return s.sink, s.err
	}
	sink, err := s.open(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err() // that the caller gave up says nothing about the sink
	}
	s.tried = s.now()
	// What comes with an error is no sink, even if it is not nil: it may be a nil pointer of a sink's type.
	if s.err = err; err == nil {
		// Nothing is wrapped around what turns tell it: they are about plans, and say nothing of them.
		if j, ok := sink.(sinks.Joint); ok {
			s.joint.Store(&j)
		}
		if s.sink = sink; s.wrap != nil {
			s.sink = s.wrap(sink)
		}
	}
	s.first.Do(func() { close(s.firstDone) })
	return s.sink, s.err
}

// opened returns the sink if it is open, without waiting for one that is being opened.
func (s *sinkSlot) opened() sinks.Sink {
	if s == nil || !s.access.TryAcquire(1) {
		return nil
	}
	defer s.access.Release(1)
	return s.sink
}

func (s *sinkSlot) close() error {
	_ = s.access.Acquire(context.Background(), 1)
	defer s.access.Release(1)
	s.closed = true
	if s.sink == nil {
		return nil
	}
	s.joint.Store(nil)
	err := s.sink.Close()
	s.sink = nil
	return err
}

// sinkSlots are the sinks of the node, for all of its shards.
type sinkSlots map[state.SinkID]*sinkSlot

var _ shard.Sinks = sinkSlots(nil)

// Get implements shard.Sinks.
func (s sinkSlots) Get(ctx context.Context, id state.SinkID) (sinks.Sink, error) {
	return s[id].get(ctx)
}

// Events implements shard.Sinks.
func (s sinkSlots) Events() sinks.EventsSink {
	sink, _ := s[state.SinkEvents].opened().(sinks.EventsSink)
	return sink
}

// joint is shard.TurnsOptions.Joint.
func (s sinkSlots) joint(id state.SinkID) sinks.Joint {
	if slot := s[id]; slot != nil {
		if j := slot.joint.Load(); j != nil {
			return *j
		}
	}
	return nil
}

// firstAttempt is how long an intake waits for the sink of raw events to be opened for the first time: without it, the
// first epoch would have to be fetched again.
const firstAttempt = time.Second

// AwaitEvents implements shard.Sinks.
func (s sinkSlots) AwaitEvents(ctx context.Context) {
	slot := s[state.SinkEvents]
	if slot == nil {
		return
	}
	t := time.NewTimer(firstAttempt)
	defer t.Stop()
	select {
	case <-slot.firstDone:
	case <-t.C:
	case <-ctx.Done():
	}
}
