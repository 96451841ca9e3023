// Package statetest makes plans with a given content, for tests of what reads plans: sinks, and what reads their
// tables.
package statetest

import (
	"errors"
	"sync/atomic"

	"deckle/schema"
	"deckle/state"
)

// Content is what a plan made by NewPlan yields, in this order.
type Content struct {
	Rows    []schema.SessionRow
	Totals  []schema.RollupRow
	Letters []state.DeadLetter
}

// NewPlan returns a plan of the range (a, b] with the given content, as a sink would see it: nothing is filtered by
// sink.
func NewPlan(cfg state.Config, sink state.SinkID, a, b uint64, epochs []state.EpochInfo, c Content) *state.Plan {
	return &state.Plan{Config: cfg, Sink: sink, A: a, B: b, Epochs: epochs, SessionsAcked: b,
		Reader: &reader{content: c}}
}

// reader is a state.PlanReader of a Content.
type reader struct {
	content Content
	reading atomic.Bool
}

// errNested is returned to a sink that reads a plan while it is reading it: the store's plan would wait for itself for
// ever.
var errNested = errors.New("statetest: a plan is read within its own reading")

func (r *reader) read(f func() error) error {
	if !r.reading.CompareAndSwap(false, true) {
		return errNested
	}
	defer r.reading.Store(false)
	return f()
}

// Sessions implements state.PlanReader.
func (r *reader) Sessions(_ *state.Plan, yield func(*schema.SessionRow) error) error {
	return r.read(func() error { return each(r.content.Rows, yield) })
}

// Rollups implements state.PlanReader.
func (r *reader) Rollups(_ *state.Plan, yield func(*schema.RollupRow) error) error {
	return r.read(func() error { return each(r.content.Totals, yield) })
}

// DeadLetters implements state.PlanReader.
func (r *reader) DeadLetters(_ *state.Plan, yield func(*state.DeadLetter) error) error {
	return r.read(func() error { return each(r.content.Letters, yield) })
}

// Close implements state.PlanReader.
func (r *reader) Close() error { return nil }

func each[T any](list []T, yield func(*T) error) error {
	for i := range list {
		if err := yield(&list[i]); err != nil {
			return err
		}
	}
	return nil
}
