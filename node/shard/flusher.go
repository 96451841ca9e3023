package shard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"

	"deckle/event"
	"deckle/node/kafka"
	"deckle/node/tap"
	"deckle/raftstore"
	"deckle/sinks"
	"deckle/state"
)

const (
	retryFirst = 200 * time.Millisecond
	retryMost  = 30 * time.Second
	// planEvents bounds the raw events of one plan, so that a flush stays a matter of seconds.
	planEvents = 500_000
)

// flusher carries one sink of a shard from plan to plan for one leadership:
//
//	await ─► Plan entry ─► OpenPlan ─► Write ──nil──► Ack entry ─► await
//	                          ▲          │ error: backoff; a refused row: Refuse entry
//	                          └──────────┘ *sinks.StopError: shown, and all of it again, beginning with the sink
type flusher struct {
	*leadership
	sink    state.SinkSpec
	log     *slog.Logger
	wait    *backoff.ExponentialBackOff
	stopped bool        // it is shown as stopped
	began   bool        // a plan has been written in this leadership
	turn    *sinks.Turn // that the next write is part of; nil: none
}

func newFlusher(l *leadership, id state.SinkID) *flusher {
	l.Metrics.sinkLed(id.Spec().Name)
	return &flusher{leadership: l, sink: id.Spec(), log: l.log.With("sink", id.String()),
		wait: newBackoff(retryFirst, retryMost)}
}

func (f *flusher) run(ctx context.Context) { f.keep(ctx, f.loop) }

// keep repeats loop until ctx ends or the leadership is over: while this node leads, no sink is without its flusher.
// One that needs an operator is tried again, too, so that it goes on once the operator has acted; that of raw events at
// once when an operator has given up what it waits for.
func (f *flusher) keep(ctx context.Context, loop func(context.Context) error) {
	wait, again := newBackoff(retryFirst, retryMost), newBackoff(againFirst, againMost)
	for {
		began, renewed := f.Now(), f.renewed()
		err := loop(ctx)
		var stop *sinks.StopError
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &stop):
			if !f.stopped {
				again.Reset()
			}
			f.stopped = true
			f.Metrics.sinkFailed(f.sink.Name, err)
			f.cond.setStopped(f.sink.Name, stop.Error())
			f.showLost(err)
			if f.pause(ctx, again, renewed) != nil {
				return
			}
			continue
		case errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrUncertain):
			// the group tells the shard, if this node leads on
			f.log.Warn("flusher ends with the leadership", "error", err)
			return
		}
		if f.Now().Sub(began) > 2*retryMost {
			wait.Reset()
		}
		f.log.Debug("flusher begins again", "error", err)
		f.Metrics.sinkFailed(f.sink.Name, err)
		f.cond.setFailing(f.sink.Name, err)
		if f.pause(ctx, wait, renewed) != nil {
			return
		}
	}
}

// renewed returns what is closed when a file has changed that this attempt may not have met. It is asked for before the
// attempt.
func (f *flusher) renewed() <-chan struct{} {
	if f.Renewed == nil {
		return nil
	}
	return f.Renewed()
}

// pause waits for the next pause of wait, or until ctx ends. It is over at once when an operator has given up raw
// events for which this sink may wait, and when a file is another one since renewed was asked for: it may have been
// refused. The pauses then begin with the shortest, because the other side may not know it yet.
func (f *flusher) pause(ctx context.Context, wait *backoff.ExponentialBackOff, renewed <-chan struct{}) error {
	d := wait.NextBackOff()
	f.log.Debug("the sink's pause", "lasts", d.Round(time.Millisecond).String())
	t := time.NewTimer(d)
	defer t.Stop()
	var passed <-chan struct{}
	if f.sink.Reads&state.ReadsEvents != 0 {
		passed = f.passed
	}
	select {
	case <-t.C:
	case <-passed:
	case <-renewed:
		wait.Reset()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// showLost keeps why raw events cannot be had again, for the command that gives them up; nil: they can. While the sink
// is shown as stopped, an error that says nothing about it changes nothing, and neither does an attempt that has got as
// far as the write.
func (f *flusher) showLost(err error) {
	if f.sink.Reads&state.ReadsEvents == 0 {
		return
	}
	lost, _ := errors.AsType[*kafka.LostError](err)
	_, stops := errors.AsType[*sinks.StopError](err)
	if lost != nil || stops || !f.stopped {
		f.cond.setLost(lost)
	}
}

// loop flushes one plan after the other.
func (f *flusher) loop(ctx context.Context) error {
	sink, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer f.giveUp()
	for {
		if f.stopped && f.store.View().Sinks[f.sink.ID].PlanB == 0 {
			f.goesOn() // otherwise the plan that is outstanding shows whether it does
		}
		began := f.Now()
		if err := f.await(ctx); err != nil {
			return err
		}
		last, err := f.lastOfPlan()
		if err != nil {
			return err
		}
		proposed := f.Now()
		res, err := f.group.Propose(state.EncodePlan(f.sink.ID, last)).Wait(ctx)
		if err != nil {
			return err
		}
		plan, ok := res.Value.(*state.PlanResult)
		if !ok {
			return fmt.Errorf("shard: a plan entry returned %T", res.Value)
		}
		if plan.B == 0 {
			f.giveUp()
			continue
		}
		// gofail: var nodePlanApplied struct{}
		traced := f.tracePlan(ctx, plan, proposed, f.Now())
		err = f.flush(ctx, sink, plan, traced)
		traced.end(err)
		if err != nil {
			return err
		}
		f.began = true
		f.giveUp() // the plan had been acknowledged already
		if d := f.Config.Delta; f.turns == nil && f.sink.Trails && d != nil {
			// One pass per interval: a pass rewrites whole files.
			if err := sleep(ctx, d.RevisionInterval-f.Now().Sub(began)); err != nil {
				return err
			}
		}
	}
}

// goesOn shows that what has stopped the sink is gone.
func (f *flusher) goesOn() {
	if f.stopped {
		f.stopped = false
		f.cond.clearStopped(f.sink.Name)
		f.showLost(nil)
	}
}

// open waits for the sink, and checks that it is not ahead of the state: then the state would be an old copy, or the
// table would belong to another cluster, and writing would damage it.
func (f *flusher) open(ctx context.Context) (sinks.Sink, error) {
	var sink sinks.Sink
	err := f.retry(ctx, func() error {
		s, err := f.Sinks.Get(ctx, f.sink.ID)
		if err != nil {
			return err
		}
		pos, err := s.Position(ctx, f.id)
		if err != nil {
			return err
		}
		p := f.store.View().Sinks[f.sink.ID]
		if last := max(p.Acked, p.PlanB); pos > last {
			err := stopf("sink %s already has epoch %d of this shard, but its last plan ends at %d: the data "+
				"folder is older "+
				"than the table, or the table is another's", f.sink.Name, pos, last)
			f.end(err)
			return &sinks.StopError{Err: err, Hint: "restore the newest data folder, or use a new table"}
		}
		sink = s
		return nil
	})
	return sink, err
}

// await returns when there is a plan to be written, or an epoch for one: of a Delta table when a turn begins (f.turn),
// or without one where what there is does not wait for turns.
func (f *flusher) await(ctx context.Context) error {
	if f.turns == nil || f.sink.Destination != state.ToDelta {
		return f.epochs.wait(ctx, func(noted uint64) bool {
			outstanding, more := f.has(noted)
			return outstanding || more
		})
	}
	f.turns.enter(f.sink.ID)
	defer func() {
		if t, left := f.turns.leave(f.sink.ID); left {
			f.Turns.absent(f.sink.ID, t, f.id)
		}
	}()
	for {
		// The turn is looked at first: once its cut is answered, the epoch is noted.
		t := f.turns.take(f.sink.ID, f.Now())
		noted, changed := f.epochs.look()
		outstanding, more := f.has(noted)
		switch {
		case t.taken && (outstanding || more):
			f.turn = &t.turn
			return nil
		case t.taken:
			f.Turns.absent(f.sink.ID, t.turn, f.id)
			continue
		case outstanding:
			return nil
		case t.waits:
		case more:
			if turn, late := f.turns.late(f.sink.ID, f.store.View().Sinks[f.sink.ID].Acked); late {
				f.turn = &turn
				return nil
			}
			if alone, err := f.alone(noted); alone || err != nil {
				return err
			}
		}
		if err := either(ctx, changed, t.changed, t.wait); err != nil {
			return err
		}
	}
}

// either waits until one of two channels is closed or, if wait is not 0, so long.
func either(ctx context.Context, a, b <-chan struct{}, wait time.Duration) error {
	var over <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-a:
	case <-b:
	case <-over:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// has says whether the sink has an outstanding plan, and whether there is an epoch for one.
func (f *flusher) has(noted uint64) (outstanding, more bool) {
	v := f.store.View()
	last := v.LastFor(f.sink.ID)
	if f.sink.Bounded {
		last = min(last, noted) // the number of its events is known
	}
	p := v.Sinks[f.sink.ID]
	return p.PlanB != 0, last > p.Acked
}

// unwrittenEpochs is how many times flush.max_events the epochs may have that wait for a turn.
const unwrittenEpochs = 4

// alone says whether what is not written goes without a turn: the first plan of a leadership, which has waited for a
// leader, and a shard that has gathered much.
func (f *flusher) alone(noted uint64) (bool, error) {
	if !f.began {
		return true, nil
	}
	v := f.store.View()
	last := min(v.LastFor(f.sink.ID), noted)
	b, err := f.arrivals.reach(v.Sinks[f.sink.ID].Acked, last, unwrittenEpochs*f.present().Flush.MaxEvents,
		f.store.EpochEvents)
	return b < last, err
}

// giveUp says that nothing will be written in the turn for which the next plan was meant, if there is one.
func (f *flusher) giveUp() {
	if f.turn != nil {
		f.Turns.absent(f.sink.ID, *f.turn, f.id)
		f.turn = nil
	}
}

// lastOfPlan bounds the next plan: a sink whose plan may be bounded is given a number of events that it can flush
// within seconds.
func (f *flusher) lastOfPlan() (uint64, error) {
	if !f.sink.Bounded {
		return math.MaxUint64, nil
	}
	return f.arrivals.reach(f.store.View().Sinks[f.sink.ID].Acked, f.epochs.last(), planEvents, f.store.EpochEvents)
}

// flush writes the outstanding plan and acknowledges it.
func (f *flusher) flush(ctx context.Context, sink sinks.Sink, p *state.PlanResult, traced *planTrace) error {
	log := f.log.With("from", p.A, "epoch", p.B)
	var plan *state.Plan // nil: to be opened
	written := Written{Flushes: 1, Epochs: p.B - p.A}
	began := f.Now()
	forget := func() {
		if plan != nil {
			_ = plan.Close() // a snapshot that nobody reads any more
			plan = nil
		}
	}
	defer forget()
	err := f.retry(ctx, func() (err error) {
		if plan == nil {
			switch plan, err = f.store.OpenPlan(f.sink.ID); {
			case errors.Is(err, state.ErrNoPlan):
				plan = nil
				return nil
			case err != nil:
				plan = nil
				f.giveUp()
				return fmt.Errorf("shard: plan of sink %s: %w", f.sink.Name, err)
			}
		}
		// gofail: var bugAckUnwritten struct{}
		// return nil
		attempt := f.Now()
		wctx, amount := sinks.CountWritten(ctx)
		if f.turn != nil { // only the first attempt: the others would be too late
			wctx = sinks.WithTurn(wctx, *f.turn)
			f.turn = nil
		}
		wctx, end := traced.step(wctx, "write")
		err = f.through(wctx, sink, plan)
		took := f.Now().Sub(attempt)
		rows, size := amount.Load()
		end(err, rows, size)
		if err == nil {
			f.goesOn()
			f.Metrics.flush.WithLabelValues(f.sink.Name).Observe(took.Seconds())
			written.Rows, written.Bytes = rows, size
			written.Took = f.Now().Sub(began)
			f.Written.add(f.sink.ID, written)
			log.Debug("epochs flushed", "seconds", took.Seconds(), "rows", written.Rows, "bytes", written.Bytes)
			return nil
		}
		var refused *sinks.RefusedError
		if !errors.As(err, &refused) {
			if f.sink.Reads&state.ReadsEvents != 0 {
				forget() // an operator may have given up what could not be read
			}
			return err
		}
		why := refused.Err.Error()
		if rules := f.store.View().Rules; rules.Event.Letters.Details == event.TypeDetails {
			why = cmp.Or(refused.Brief, "refused by "+f.sink.Name)
		}
		f.Metrics.sinkFailed(f.sink.Name, err)
		log.Warn("the sink refuses a row, which becomes a dead letter", "row", refused.RowKey, "error", why)
		entry := state.EncodeRefuse(f.sink.ID, refused.RowKey, refused.Row, truncate(why), plan.Level)
		if _, err := f.group.Propose(entry).Wait(ctx); err != nil {
			return backoff.Permanent(err)
		}
		f.refused.Store(true)
		forget() // the refusal shows in a new snapshot only
		return errAgain
	})
	if err != nil || plan == nil { // nil: the plan has been acknowledged already
		return err
	}
	now := f.Now().UnixMilli()
	// gofail: var nodeSinkWritten struct{}
	_, end := traced.step(ctx, "ack")
	ack := f.group.Propose(state.EncodeAck(f.sink.ID, plan.B))
	// gofail: var nodeAckProposed struct{}
	_, err = ack.Wait(ctx)
	end(err, written.Rows, written.Bytes)
	if err != nil {
		return err
	}
	// The plan may end at an epoch that the state has closed and the intake has not heard of yet.
	if err := f.epochs.wait(ctx, func(noted uint64) bool { return noted >= plan.B }); err != nil {
		return err
	}
	f.acknowledged(plan, now)
	if f.Tap.Watched(tap.Row, tap.Letter) {
		if err := tapPlan(f.Tap, f.id, plan); err != nil {
			log.Debug("a plan cannot be read again for a tap", "error", err)
		}
	}
	return nil
}

// through writes a plan, through the gate of its destination where there is one.
func (f *flusher) through(ctx context.Context, sink sinks.Sink, plan *state.Plan) error {
	if f.ClickHouse == nil || f.sink.Destination != state.ToClickHouse {
		return sink.Write(ctx, plan)
	}
	var size int64
	for e := plan.A + 1; e <= plan.B; e++ {
		if n, err := f.store.EpochEvents(e); err == nil { // else it has been acknowledged: there is nothing to write
			size += n
		}
	}
	if err := f.ClickHouse.enter(ctx, size); err != nil {
		return err
	}
	defer f.ClickHouse.leave()
	return sink.Write(ctx, plan)
}

// acknowledged measures a plan that is visible since nowMillis, and lets the sinks go on that wait for this one.
func (f *flusher) acknowledged(plan *state.Plan, nowMillis int64) {
	f.Metrics.commits.WithLabelValues(f.sink.Name).Set(float64(nowMillis) / 1000)
	if f.sink.Measured {
		f.arrivals.visible(f.sink.ID, plan.A, plan.B, nowMillis, &f.visible[f.sink.ID], measured(plan.Config.Sinks))
		f.offsets.advance(f.sink.ID, plan)
	}
	f.epochs.announce()
}

// errAgain repeats at once: a refused row has been left out.
var errAgain = errors.New("again")

// retry repeats op until it succeeds, ctx ends, the sink must stop (*sinks.StopError) or the leadership is over. Every
// failure is shown.
func (f *flusher) retry(ctx context.Context, op func() error) error {
	f.wait.Reset()
	for {
		renewed := f.renewed()
		err := op()
		var stop *sinks.StopError
		var permanent *backoff.PermanentError
		switch {
		case err == nil:
			f.cond.setFailing(f.sink.Name, nil)
			f.showLost(nil)
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
		f.log.Debug("sink failed, will be retried", "error", err)
		f.Metrics.sinkFailed(f.sink.Name, err)
		f.cond.setFailing(f.sink.Name, err)
		f.showLost(err)
		if err := f.pause(ctx, f.wait, renewed); err != nil {
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
