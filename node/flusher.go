package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"deckle/raftstore"
	"deckle/sinks"
	"deckle/state"
)

// measured are the sinks whose event-to-visible latency is kept, and which the group offsets wait for.
var measured = []state.SinkID{state.SinkEvents, state.SinkSessions, state.SinkClickHouse}

const (
	retryFirst = 200 * time.Millisecond
	retryMost  = 30 * time.Second
	// planEvents bounds the raw events of one plan, so that a flush stays a matter of seconds.
	planEvents = 500_000
)

// flusher carries one sink of a shard from plan to plan for one leadership:
//
//	wait ─► Plan entry ─► OpenPlan ─► Write ──nil──► Ack entry ─► wait
//	                         ▲          │ error: backoff; a refused row: Refuse entry; *sinks.StopError: the end
//	                         └──────────┘
type flusher struct {
	l    *leader
	id   state.SinkID
	log  *slog.Logger
	wake chan struct{}
	wait *backoff.ExponentialBackOff
}

func newFlusher(l *leader, id state.SinkID) *flusher {
	return &flusher{l: l, id: id, log: l.log.With("sink", id.String()), wake: make(chan struct{}, 1),
		wait: newBackoff(retryFirst, retryMost)}
}

func (f *flusher) run(ctx context.Context) { f.keep(ctx, f.loop) }

// keep repeats loop until ctx ends, a person is needed or the leadership is over: while this node leads, no sink is
// without its flusher.
func (f *flusher) keep(ctx context.Context, loop func(context.Context) error) {
	wait := newBackoff(retryFirst, retryMost)
	for {
		began := f.l.n.deps.Now()
		err := loop(ctx)
		var stop *sinks.StopError
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &stop):
			f.log.Error("sink stopped, a person is needed", "error", err)
			f.l.setStopped(f.id.String(), stop.Error())
			return
		case errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrUncertain):
			f.log.Warn("flusher ends with the leadership", "error", err) // the group tells the shard, if this node leads on
			return
		}
		if f.l.n.deps.Now().Sub(began) > 2*retryMost {
			wait.Reset()
		}
		f.log.Warn("flusher begins again", "error", err)
		f.l.setFailing(f.id.String(), err)
		if sleep(ctx, wait.NextBackOff()) != nil {
			return
		}
	}
}

func (f *flusher) loop(ctx context.Context) error {
	sink, err := f.open(ctx)
	if err != nil {
		return err
	}
	for {
		began := f.l.n.deps.Now()
		if err := f.await(ctx); err != nil {
			return err
		}
		maxB := uint64(math.MaxUint64) // only plans of raw events can end before the last closed epoch
		if f.id == state.SinkEvents {
			var err error
			if maxB, err = f.l.pipe.reach(f.l.store.View().Sinks[f.id].Acked, f.l.sealed.Load(), planEvents, f.l.store.EpochEvents); err != nil {
				return err
			}
		}
		res, err := f.l.group.Propose(state.EncodePlan(f.id, maxB)).Wait(ctx)
		if err != nil {
			return err
		}
		plan, ok := res.Value.(*state.PlanResult)
		if !ok {
			return fmt.Errorf("node: a plan entry returned %T", res.Value)
		}
		if plan.B == 0 {
			continue
		}
		// gofail: var nodePlanApplied struct{}
		if err := f.flush(ctx, sink, plan); err != nil {
			return err
		}
		if d := f.l.n.cfg.Delta; f.id == state.SinkRevisions && d != nil {
			// One pass an interval: a pass rewrites whole files.
			if err := sleep(ctx, d.RevisionInterval-f.l.n.deps.Now().Sub(began)); err != nil {
				return err
			}
		}
	}
}

// open waits for the sink, and checks that it is not ahead of the state: then the state would be an old copy, or the
// table another cluster's, and to write would damage it.
func (f *flusher) open(ctx context.Context) (sinks.Sink, error) {
	var sink sinks.Sink
	err := f.retry(ctx, func() error {
		s, err := f.l.n.sinks[f.id].get(ctx)
		if err != nil {
			return err
		}
		pos, err := s.Position(ctx, f.l.id)
		if err != nil {
			return err
		}
		p := f.l.store.View().Sinks[f.id]
		if last := max(p.Acked, p.PlanB); pos > last {
			err := stopf("sink %s already has epoch %d of this shard, but its last plan ends at %d: the data folder is older "+
				"than the table, or the table is another's", f.id, pos, last)
			f.l.halt(err)
			return &sinks.StopError{Err: err, Hint: "restore the newest data folder, or use a new table"}
		}
		sink = s
		return nil
	})
	return sink, err
}

// await returns when there is a plan, or an epoch for one.
func (f *flusher) await(ctx context.Context) error {
	for {
		v := f.l.store.View()
		p := v.Sinks[f.id]
		closed := v.LastClosed
		switch f.id {
		case state.SinkEvents:
			closed = min(closed, f.l.sealed.Load())
		case state.SinkRevisions:
			closed = min(closed, v.Sinks[state.SinkSessions].Acked)
		}
		if p.PlanB != 0 || closed > p.Acked {
			return nil
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flush writes the outstanding plan and acknowledges it.
func (f *flusher) flush(ctx context.Context, sink sinks.Sink, p *state.PlanResult) error {
	log := f.log.With("from", p.A, "epoch", p.B)
	var plan *state.Plan // nil: to be opened
	forget := func() {
		if plan != nil {
			_ = plan.Close() // a snapshot that nobody reads any more
			plan = nil
		}
	}
	defer forget()
	err := f.retry(ctx, func() (err error) {
		if plan == nil {
			switch plan, err = f.l.store.OpenPlan(f.id); {
			case errors.Is(err, state.ErrNoPlan):
				plan = nil
				return nil
			case err != nil:
				plan = nil
				return fmt.Errorf("node: plan of sink %s: %w", f.id, err)
			}
		}
		// gofail: var bugAckUnwritten struct{}
		// return nil
		began := f.l.n.deps.Now()
		err = sink.Write(ctx, plan)
		took := f.l.n.deps.Now().Sub(began)
		if err == nil {
			f.l.n.metrics.flush.WithLabelValues(f.id.String()).Observe(took.Seconds())
			log.Debug("epochs flushed", "seconds", took.Seconds())
			return nil
		}
		var refused *sinks.RefusedError
		if !errors.As(err, &refused) {
			return err
		}
		log.Warn("the sink refuses a row, which becomes a dead letter", "row", refused.RowKey, "error", refused.Err)
		entry := state.EncodeRefuse(f.id, refused.RowKey, refused.Row, truncate(refused.Err.Error()))
		if _, err := f.l.group.Propose(entry).Wait(ctx); err != nil {
			return backoff.Permanent(err)
		}
		f.l.refused.Store(true)
		forget() // the refusal shows in a new snapshot only
		return errAgain
	})
	if err != nil || plan == nil { // nil: the plan has been acknowledged already
		return err
	}
	now := f.l.n.deps.Now().UnixMilli()
	// gofail: var nodeSinkWritten struct{}
	ack := f.l.group.Propose(state.EncodeAck(f.id, plan.B))
	// gofail: var nodeAckProposed struct{}
	if _, err := ack.Wait(ctx); err != nil {
		return err
	}
	if err := f.noted(ctx, plan.B); err != nil {
		return err
	}
	f.acked(plan, now)
	return nil
}

// noted waits until the intake has noted the arrivals up to an epoch: the state closes it a moment before the intake
// hears of it.
func (f *flusher) noted(ctx context.Context, epoch uint64) error {
	for f.l.sealed.Load() < epoch {
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (f *flusher) acked(plan *state.Plan, nowMillis int64) {
	if slices.Contains(measured, f.id) {
		all := slices.DeleteFunc(slices.Clone(measured), func(id state.SinkID) bool {
			return !slices.Contains(plan.Config.Sinks, id)
		})
		f.l.pipe.acked(f.id, plan.A, plan.B, nowMillis, &f.l.visible[f.id], all)
		f.l.reached(f.id, plan)
	}
	f.l.kick() // revisions wait for sessions
}

// errAgain repeats at once: a refused row has been left out.
var errAgain = errors.New("again")

// retry repeats op until it succeeds, ctx ends, a person is needed (*sinks.StopError) or the leadership is over. Every
// failure is shown.
func (f *flusher) retry(ctx context.Context, op func() error) error {
	f.wait.Reset()
	for {
		err := op()
		var stop *sinks.StopError
		var permanent *backoff.PermanentError
		switch {
		case err == nil:
			f.l.setFailing(f.id.String(), nil)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errAgain):
			continue
		case errors.As(err, &permanent):
			return permanent.Err
		case errors.As(err, &stop), errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrUncertain):
			return err
		}
		d := f.wait.NextBackOff()
		f.log.Warn("sink failed, will be retried", "error", err, "in", d.Round(time.Millisecond).String())
		f.l.setFailing(f.id.String(), err)
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
}

func truncate(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return s[:most]
}
