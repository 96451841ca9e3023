package state

import (
	"errors"
	"sync/atomic"
)

// TestData is the content of a plan built by hand, for tests of sinks.
type TestData struct {
	Rows    []SessionRow
	Totals  []RollupRow
	Letters []DeadLetter
}

// NewTestPlan returns a plan with the given content, as a sink would see it (no filter by sink is applied). It serves
// tests of sinks only.
func NewTestPlan(cfg Config, sink SinkID, a, b uint64, epochs []EpochInfo, d TestData) *Plan {
	return &Plan{Config: cfg, Sink: sink, A: a, B: b, Epochs: epochs, SessionsAcked: b, reader: &testReader{d: d}}
}

type testReader struct {
	d       TestData
	reading atomic.Bool
}

// errNested is what a sink gets that reads a plan while it reads it: the store's plan would wait for itself for ever.
var errNested = errors.New("state: a plan is read within its own reading")

func (t *testReader) read(f func() error) error {
	if !t.reading.CompareAndSwap(false, true) {
		return errNested
	}
	defer t.reading.Store(false)
	return f()
}

func (t *testReader) sessions(_ *Plan, yield func(*SessionRow) error) error {
	return t.read(func() error { return each(t.d.Rows, yield) })
}

func (t *testReader) rollups(_ *Plan, yield func(*RollupRow) error) error {
	return t.read(func() error { return each(t.d.Totals, yield) })
}

func (t *testReader) deadLetters(_ *Plan, yield func(*DeadLetter) error) error {
	return t.read(func() error { return each(t.d.Letters, yield) })
}

func (t *testReader) close() error { return nil }

func each[T any](list []T, yield func(*T) error) error {
	for i := range list {
		if err := yield(&list[i]); err != nil {
			return err
		}
	}
	return nil
}
