// Package sinks defines what the node asks of a sink: given a plan, make it visible once; say up to which epoch it is.
//
// Promise. Write may be called any number of times for the same plan, by any past or present leader of the shard,
// at the same time: after it has returned nil once, the plan is visible and durable, and no further call changes
// anything visible. A sink keeps no state that a new leader would need.
//
// Errors. Write retries nothing but what belongs to one attempt (an ambiguous answer is resolved by reading back); the
// node repeats it with exponential backoff and jitter for as long as it takes, unless the error is a *StopError (a
// person is needed: the sink of that shard stops and says so) or a *RefusedError (one row is the cause).
package sinks

import (
	"context"
	"encoding/json"
	"fmt"

	"deckle/event"
	"deckle/state"
)

// Sink is one destination of a shard's epochs. Its methods are safe for concurrent use by several shards.
type Sink interface {
	// Position returns the last epoch of the shard that the sink itself knows to be visible (Delta: txn; ClickHouse:
	// ledger), 0 for none. The dead-letter sink, which keeps no record, returns 0.
	Position(ctx context.Context, shard uint32) (uint64, error)
	// Write makes the plan visible once.
	Write(ctx context.Context, plan *state.Plan) error
	Close() error
}

// EventsSink is the sink of raw events: it is fed while an epoch is open, so that a flush has little left to do.
type EventsSink interface {
	Sink
	// Buffer returns a new buffer of encoded rows for one leadership of a shard.
	Buffer(shard uint32) EventsBuffer
}

// EventsBuffer collects the rows of epochs as they are applied. It is used by one goroutine at a time, except Discard.
// It is an optimisation only: Write takes from it the plans that it covers whole, and reads others from the plan's
// EventSource. Over its budget of memory it drops its oldest sealed epochs.
type EventsBuffer interface {
	// Append adds the items of an applied batch to the open epoch, less those at the positions in left
	// (ascending by partition and offset). Strings are copied before it returns.
	Append(b *event.Batch, left []state.Position) error
	// Seal ends the open epoch; what comes next belongs to the following one. complete says that the buffer has
	// seen every batch of the epoch; otherwise the rows are dropped.
	Seal(epoch uint64, complete bool)
	// Discard frees everything: leadership has ended.
	Discard()
}

// EventSource reads the records of a plan's ranges again, from Kafka: used where no buffer has them.
type EventSource interface {
	// Events calls yield for every item of the plan's ranges (all epochs of (a, b]), less the offsets left out, per
	// partition in offset order. It never judges: a record that does not decode although the epoch counts it is an
	// error. A *StopError says that Kafka has lost a range.
	Events(ctx context.Context, plan *state.Plan, yield func(*event.Item) error) error
	// Originals calls yield for each of the positions, which ascend by partition and offset, with the value that stands
	// there in Kafka, or ok = false if Kafka has lost the record. i is the position's place in at; the value is valid
	// only during the call.
	Originals(ctx context.Context, at []state.Position, yield func(i int, value []byte, ok bool) error) error
}

// StopError says that a sink of a shard must stop until a person has acted; Hint says what to do.
type StopError struct {
	Err  error
	Hint string
}

func (e *StopError) Error() string { return fmt.Sprintf("%v (%s)", e.Err, e.Hint) }
func (e *StopError) Unwrap() error { return e.Err }

// RefusedError says that the destination refuses one row for good.
type RefusedError struct {
	RowKey string          // "session_id\x00origin" of the row
	Row    json.RawMessage // the row, for the dead letter
	Err    error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("row %q refused: %v", e.RowKey, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }
