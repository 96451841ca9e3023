package state

import (
	"errors"
	"sync/atomic"

	"deckle/event"
)

// Plan is a read-only view of one sink's outstanding plan. It is taken at one moment under a Pebble snapshot and may be
// read by other goroutines while Apply goes on. Its content is a function of the log: every replica, before and after
// any restart, reads the same. The caller closes it.
type Plan struct {
	Config Config
	Sink   SinkID
	A, B   uint64      // the range (A, B] of epochs
	Epochs []EpochInfo // one for each epoch of the range, ascending
	// SessionsAcked is the sessions sink's Acked (for SinkRevisions).
	SessionsAcked uint64

	reader planReader
}

type planReader interface {
	sessions(p *Plan, yield func(*SessionRow) error) error
	rollups(p *Plan, yield func(*RollupRow) error) error
	deadLetters(p *Plan, yield func(*DeadLetter) error) error
	close() error
}

// Sessions calls yield for every session image of the plan that has a row: each session's newest image of epoch ≤ B
// among those of (A, B], ascending by (epoch, session id, origin). The row and what it points to are valid only during
// the call. For SinkSessions only sessions whose FirstClosed lies in (A, B] are given; for SinkRevisions only those
// with FirstClosed > 0, FirstClosed ≤ SessionsAcked and Epoch > FirstClosed; for SinkClickHouse all, open ones
// included. Rows that the sink has refused are left out. During the call the plan must not be read otherwise, nor closed.
func (p *Plan) Sessions(yield func(*SessionRow) error) error { return p.reader.sessions(p, yield) }

// Rollups calls yield for the newest totals ≤ B of every rollup key that changed in (A, B].
func (p *Plan) Rollups(yield func(*RollupRow) error) error { return p.reader.rollups(p, yield) }

// DeadLetters calls yield for every dead letter of the plan, ascending by Seq.
func (p *Plan) DeadLetters(yield func(*DeadLetter) error) error {
	return p.reader.deadLetters(p, yield)
}

// Ranges returns the offset ranges of the whole plan, per partition joined, ascending by partition.
func (p *Plan) Ranges() []event.Range { return joinRanges(p.Epochs) }

// LeftOut returns the offsets of the plan's ranges that are not rows of the events table, ascending by
// (partition, offset).
func (p *Plan) LeftOut() []Position { return joinLeftOut(p.Epochs) }

// Close releases the snapshot.
func (p *Plan) Close() error { return p.reader.close() }

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
