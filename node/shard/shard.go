package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/status"
	"deckle/raftstore"
	"deckle/state"
)

// Shard follows one Raft group for as long as the node runs, and leads it when the group says so.
type Shard struct {
	env     *Env
	id      uint32
	log     *slog.Logger
	group   *raftstore.Group
	store   *state.Store
	cond    *standing
	visible [state.NumSinks]histogram
	orders  chan *order // to the intake
	// finalized is up to which level an operator has said, at this node, that the shard may rise.
	finalized atomic.Uint32
	// listOrders are changes of the list of suppressed readers, to the intake.
	listOrders chan *listOrder
	// passed tells the flusher of raw events that a gap has been recorded.
	passed chan struct{}
	leads  atomic.Pointer[leadership] // the one under way; nil: this node does not lead
}

// New returns the shard of a group whose state machine is store. It does nothing before Run.
func New(env *Env, id uint32, group *raftstore.Group, store *state.Store, log *slog.Logger) *Shard {
	return &Shard{env: env, id: id, group: group, store: store, log: log.With("shard", id),
		cond: newStanding(env, id), orders: make(chan *order), listOrders: make(chan *listOrder),
		passed: make(chan struct{}, 1)}
}

// ID is the shard's number.
func (s *Shard) ID() uint32 { return s.id }

// Leader is the name of the node that leads the shard, "" if unknown.
func (s *Shard) Leader() string { return s.group.Leader() }

// Store is the local replica.
func (s *Shard) Store() *state.Store { return s.store }

// Run leads whenever the group says so, until ctx ends.
func (s *Shard) Run(ctx context.Context) {
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
				s.runLeadership(lctx, l.Term)
			}()
			end = func() { cancel(); <-done }
		case <-ctx.Done():
			return
		}
	}
}

// runLeadership is one leadership, from the first entry to the end of the last. A leadership that needs an operator
// stays, and is shown, until the group or the node ends it.
func (s *Shard) runLeadership(ctx context.Context, term uint64) {
	log := s.log.With("term", term)
	log.Info("leadership won")
	s.cond.begin(term)
	err := s.lead(ctx, log)
	if stop, ok := errors.AsType[*stopError](err); ok {
		s.cond.end(stop.reason)
		<-ctx.Done()
	} else {
		s.cond.end("")
		if ctx.Err() != nil {
			log.Info("leadership ended")
		} else {
			log.Warn("leadership given up", "error", err)
		}
	}
	s.cond.clear()
}

// lead does a leader's work until the leadership or ctx ends, or an operator is needed.
func (s *Shard) lead(ctx context.Context, log *slog.Logger) error {
	if err := s.group.Barrier(ctx); err != nil {
		return err
	}
	l := &leadership{Env: s.env, id: s.id, log: log, group: s.group, store: s.store, cond: s.cond, visible: &s.visible,
		finalized: &s.finalized,
		orders:    s.orders, listOrders: s.listOrders, passed: s.passed, arrivals: newEpochArrivals(),
		offsets: newGroupOffsets(), backlog: true, foreign: map[int32]time.Time{}, halts: map[int32]*halted{}}
	if s.env.Tracer != nil {
		l.cuts = &cutTimes{}
	}
	s.leads.Store(l)
	defer s.leads.Store(nil)
	if err := l.configure(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.end = cancel
	view := s.store.View()
	l.epochs = newEpochBoard(view.LastClosed)
	if s.env.Turns != nil {
		var ends func()
		l.turns, ends = s.env.Turns.lead(s.id)
		defer ends()
	}
	for _, id := range view.Config.Sinks {
		f := newFlusher(l, id)
		// A write may end late, after this leadership: it is safe by design, and the next leader need not wait for it.
		s.env.Background(func() { f.run(ctx) })
	}
	s.env.Background(func() { l.commitOffsets(ctx) })
	j := &judge{leadership: l}
	// What was counted before says nothing about these minutes.
	j.rejected.judge(&view, s.env.Now())
	j.counted.judge(&view, s.env.Now())
	j.keys.judge(&view, placed{}, looks{}, s.env.Now())
	s.env.Background(func() { j.run(ctx) })
	defer l.buffer.discard()
	wait := newBackoff(100*time.Millisecond, 10*time.Second)
	for {
		began := s.env.Now()
		err := l.runIntake(ctx)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		var stop *stopError
		if errors.As(err, &stop) || errors.Is(err, raftstore.ErrNotLeader) || errors.Is(err, raftstore.ErrUncertain) {
			return err
		}
		if errors.Is(err, errRise) || errors.Is(err, errOrdered) || errors.Is(err, errGoesOn) ||
			errors.Is(err, errRelisted) || errors.Is(err, errMore) {
			continue
		}
		if s.env.Now().Sub(began) > time.Minute {
			wait.Reset()
		}
		log.Debug("intake begins again from the applied offsets", "error", err)
		s.env.Metrics.resyncs.WithLabelValues(l.label()).Inc()
		s.cond.setFetching(err)
		if err := sleep(ctx, wait.NextBackOff()); err != nil {
			return context.Cause(ctx)
		}
	}
}

// Status is the shard as a node shows it.
func (s *Shard) Status() (st status.Shard) {
	view := s.store.Peek()
	st = status.Shard{Shard: s.id, Leader: s.group.Leader(), IsLeader: s.group.IsLeader(), Term: view.Term,
		Index: view.Index,
		State: view, Failing: map[string]string{}, Stopped: map[string]string{}, Visible: map[string]status.Latency{}}
	for id := range s.visible {
		if l := s.visible[id].latency(); l.Count > 0 {
			st.Visible[state.SinkID(id).String()] = l
		}
	}
	if st.IsLeader {
		s.cond.show(&st)
		st.Lag = s.lag(&view)
	}
	return st
}

// Lag is how far the shard is behind, for other nodes to show. It is known on the leader only.
func (s *Shard) Lag() (lag status.Lag, leads bool) {
	if !s.group.IsLeader() {
		return lag, false
	}
	view := s.store.Peek()
	return s.lag(&view), true
}

func (s *Shard) lag(view *state.View) status.Lag {
	return lagOf(view, s.env.Watch.Fresh(), s.cond.lastSeen(), s.env.Now())
}

// CollectVisible sends a histogram for each sink that has one: seconds from a record's Kafka timestamp to its
// visibility in the sink. desc has the labels shard and sink.
func (s *Shard) CollectVisible(desc *prometheus.Desc, ch chan<- prometheus.Metric) {
	for id := range s.visible {
		if h := &s.visible[id]; h.latency().Count > 0 {
			ch <- h.prometheus(desc, fmt.Sprint(s.id), state.SinkID(id).String())
		}
	}
}
