package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"deckle/node/status"
	"deckle/raftstore"
	"deckle/state"
)

// stopError ends the work on a shard until a person has acted and the node or the leadership begins anew.
type stopError struct{ reason string }

func (e *stopError) Error() string { return e.reason }

func stopf(format string, args ...any) error { return &stopError{fmt.Sprintf(format, args...)} }

// shard follows one Raft group for as long as the node runs, and leads it when it is this node's turn.
type shard struct {
	n     *Node
	id    uint32
	log   *slog.Logger
	group *raftstore.Group
	store *state.Store

	visible [state.NumSinks]histogram
	// refused says that a row was refused: its dead letter waits in the open epoch for a cut.
	refused atomic.Bool

	mu      sync.Mutex
	running bool   // intake runs
	term    uint64 // of the leadership
	waiting string // what a leader that does not run yet waits for
	paused  string
	ahead   []int32 // never changed once set
	failing map[string]string
	stopped map[string]string
	records int64 // lag
	seconds float64
}

// run leads whenever the group says so, until ctx ends.
func (s *shard) run(ctx context.Context) {
	end := func() {}
	defer func() { end() }()
	for {
		select {
		case l := <-s.group.Leadership():
			end()
			end = func() {}
			if !l.Leader {
				continue
			}
			lctx, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.turn(lctx, l.Term)
			}()
			end = func() { cancel(); <-done }
		case <-ctx.Done():
			return
		}
	}
}

// turn is one leadership.
func (s *shard) turn(ctx context.Context, term uint64) {
	log := s.log.With("term", term)
	s.mu.Lock()
	s.term, s.waiting, s.paused, s.ahead = term, "applying what is committed", "", nil
	s.failing, s.stopped = map[string]string{}, map[string]string{}
	s.mu.Unlock()
	log.Info("leadership won")
	err := s.lead(ctx, log)
	var stop *stopError
	stopped := errors.As(err, &stop)
	s.mu.Lock()
	s.running, s.paused, s.ahead, s.records, s.seconds = false, "", nil, 0, 0
	s.waiting = "the next leadership"
	s.failing = map[string]string{}
	if stopped {
		s.stopped["shard"] = stop.reason
	}
	s.mu.Unlock()
	switch {
	case stopped:
		log.Error("shard stopped, a person is needed", "reason", stop.reason)
		<-ctx.Done() // stays stopped, and shown, until leadership or node end
	case ctx.Err() != nil:
		log.Info("leadership ended")
	default:
		log.Warn("leadership given up", "error", err)
	}
	s.mu.Lock()
	s.stopped = map[string]string{}
	s.mu.Unlock()
}

// lead does a leader's work until leadership or ctx ends, or a person is needed.
func (s *shard) lead(ctx context.Context, log *slog.Logger) error {
	if err := s.group.Barrier(ctx); err != nil {
		return err
	}
	l := &leader{shard: s, log: log, pipe: newPipeline(), sinkTo: map[state.SinkID]map[int32]int64{},
		offsets: make(chan map[int32]int64, 1), behind: true}
	if err := l.configure(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.halt = cancel
	defer l.discard()
	view := s.store.View()
	l.sealed.Store(view.LastClosed)
	for _, id := range view.Config.Sinks {
		l.flushers = append(l.flushers, newFlusher(l, id))
	}
	for _, f := range l.flushers {
		// A write may end late, after this leadership: it is safe by design, and the next leader need not wait for it.
		s.n.flushers.Go(func() { f.run(ctx) })
	}
	s.n.flushers.Go(func() { l.commitOffsets(ctx) })
	wait := newBackoff(100*time.Millisecond, 10*time.Second)
	for {
		began := s.n.deps.Now()
		err := l.session(ctx)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		var stop *stopError
		if errors.As(err, &stop) || errors.Is(err, raftstore.ErrNotLeader) || errors.Is(err, raftstore.ErrUncertain) {
			return err
		}
		if s.n.deps.Now().Sub(began) > time.Minute {
			wait.Reset()
		}
		log.Warn("intake begins again from the applied offsets", "error", err)
		s.n.metrics.resyncs.WithLabelValues(s.label()).Inc()
		s.setFailing("source", err)
		if err := sleep(ctx, wait.NextBackOff()); err != nil {
			return context.Cause(ctx)
		}
	}
}

func (s *shard) label() string { return fmt.Sprint(s.id) }

// setFailing shows that a part is being retried; a nil error shows that it works again.
func (s *shard) setFailing(part string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failing, part)
	} else {
		s.failing[part] = err.Error()
		s.n.metrics.retries.WithLabelValues(part).Inc()
	}
}

// setStopped shows that a part waits for a person.
func (s *shard) setStopped(part, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.failing, part)
	s.stopped[part] = reason
}

func (s *shard) setWaiting(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting, s.running = what, what == ""
}

// status is the shard as Status shows it, and the reasons why it keeps the node from being ready.
func (s *shard) status() (st status.Shard, reasons, troubles []string) {
	view := s.store.Peek()
	st = status.Shard{Shard: s.id, Leader: s.group.Leader(), IsLeader: s.group.IsLeader(), Term: view.Term, Index: view.Index,
		State: view, Failing: map[string]string{}, Stopped: map[string]string{}, Visible: map[string]status.Latency{}}
	for _, id := range measured {
		if l := s.visible[id].latency(); l.Count > 0 {
			st.Visible[id.String()] = l
		}
	}
	if st.Leader == "" {
		reasons = append(reasons, fmt.Sprintf("shard %d has no known leader", s.id))
	}
	if !st.IsLeader {
		return st, reasons, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Term, st.Paused, st.LagRecords, st.LagSeconds = max(s.term, view.Term), s.paused, s.records, s.seconds
	st.Ahead = s.ahead
	maps.Copy(st.Failing, s.failing)
	maps.Copy(st.Stopped, s.stopped)
	if !s.running && len(s.stopped) == 0 {
		reasons = append(reasons, fmt.Sprintf("shard %d does not run yet: %s", s.id, s.waiting))
	}
	for part, why := range s.stopped {
		reasons = append(reasons, fmt.Sprintf("shard %d: %s stopped: %s", s.id, part, why))
	}
	for part, why := range s.failing {
		troubles = append(troubles, fmt.Sprintf("shard %d: %s is failing and retried: %s", s.id, part, why))
	}
	if s.paused != "" {
		troubles = append(troubles, fmt.Sprintf("shard %d: intake is paused: %s", s.id, s.paused))
	}
	return st, reasons, troubles
}
