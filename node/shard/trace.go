package shard

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"deckle/state"
)

// maxCutTimes bounds the epochs whose cut is remembered while a sink is down.
const maxCutTimes = 1024

// cutTimes are when the newest epochs of a leadership were closed, for traces. A nil one remembers nothing.
type cutTimes struct {
	mu sync.Mutex
	at map[uint64]time.Time
}

// note says that an epoch was closed.
func (c *cutTimes) note(epoch uint64, at time.Time) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = map[uint64]time.Time{}
	}
	c.at[epoch] = at
	delete(c.at, epoch-maxCutTimes)
}

// first returns when the first of the epochs in (a, b] was closed of which that is known, and other if it is of none.
func (c *cutTimes) first(a, b uint64, other time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := max(a, b-min(b, maxCutTimes)) + 1; e <= b; e++ {
		if at, known := c.at[e]; known {
			return at
		}
	}
	return other
}

// planTrace is the trace of a plan: from the cut of its first epoch to its acknowledgement. A nil one records nothing.
// Its attributes are names and numbers of Deckle's own; of an error there is the class.
type planTrace struct {
	env  *Env
	ctx  context.Context // of the span of the whole plan
	span trace.Span
}

// tracePlan begins the trace of a plan that was proposed at proposed, and known since applied.
func (f *flusher) tracePlan(ctx context.Context, p *state.PlanResult, proposed, applied time.Time) *planTrace {
	if f.Tracer == nil {
		return nil
	}
	t := &planTrace{env: f.Env}
	t.ctx, t.span = f.Tracer.Start(ctx, "flush "+f.sink.Name, trace.WithNewRoot(),
		trace.WithTimestamp(f.cuts.first(p.A, p.B, proposed)), trace.WithAttributes(
			attribute.Int64("deckle.shard", int64(f.id)), attribute.String("deckle.sink", f.sink.Name),
			attribute.Int64("deckle.epoch.after", int64(p.A)), attribute.Int64("deckle.epoch.last", int64(p.B))))
	_, plan := f.Tracer.Start(t.ctx, "plan", trace.WithTimestamp(proposed))
	plan.End(trace.WithTimestamp(applied))
	return t
}

// step begins a step of the plan. It returns the step's context, and what ends the step: with the error that it came
// to, and what it has written.
func (t *planTrace) step(ctx context.Context, name string) (context.Context, func(err error, rows, bytes int64)) {
	if t == nil {
		return ctx, func(error, int64, int64) {}
	}
	_, span := t.env.Tracer.Start(t.ctx, name, trace.WithTimestamp(t.env.Now()))
	return trace.ContextWithSpan(ctx, span), func(err error, rows, bytes int64) {
		span.SetAttributes(attribute.Int64("deckle.rows", rows), attribute.Int64("deckle.bytes", bytes))
		failed(span, err)
		span.End(trace.WithTimestamp(t.env.Now()))
	}
}

// end ends the trace with what the plan came to.
func (t *planTrace) end(err error) {
	if t == nil {
		return
	}
	failed(t.span, err)
	t.span.End(trace.WithTimestamp(t.env.Now()))
}

func failed(span trace.Span, err error) {
	if err != nil { // the text may show a row
		span.SetStatus(codes.Error, classOf(err))
	}
}
