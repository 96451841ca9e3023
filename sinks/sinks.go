// Package sinks defines what the node asks of a sink: to make a plan visible once, and to say up to which epoch it is
// visible.
//
// Promise. Write may be called any number of times for the same plan, by any past or present leader of the shard, even
// at the same time. Once it has returned nil, the plan is visible and durable, and no further call changes anything
// visible. A sink keeps no state that a new leader would need.
//
// Errors. Write retries only what belongs to one attempt (it resolves an ambiguous answer by reading back). The node
// repeats Write with exponential backoff and jitter for as long as it takes, unless the error is a *StopError (a person
// is needed: the sink of that shard stops, says so, and is tried again now and then) or a *RefusedError (one row is the
// cause).
package sinks

import (
	"context"
	"encoding/json"
	"fmt"

	"deckle/event"
	"deckle/schema/level"
	"deckle/state"
)

// Sink is one destination of a shard's epochs. Its methods are safe for concurrent use by several shards.
type Sink interface {
	// Position returns the last epoch of the shard that the sink itself knows to be visible (Delta: txn; ClickHouse:
	// ledger), 0 for none. The dead-letter sink keeps no record of plans and returns 0.
	Position(ctx context.Context, shard uint32) (uint64, error)
	// Write makes the plan visible once.
	Write(ctx context.Context, plan *state.Plan) error
	Close() error
}

// EventsSink is the sink of raw events. It is given the events while an epoch is open, so that a flush has little left
// to do.
type EventsSink interface {
	Sink
	// Buffer returns a new buffer of encoded rows, for one leadership of a shard.
	Buffer(shard uint32) EventsBuffer
}

// EventsBuffer collects the rows of epochs as they are applied. One goroutine at a time uses it, except for Discard. It
// is only an optimisation: Write takes the plans that the buffer covers whole from it, and reads other plans from the
// plan's EventSource. Over its memory budget, it drops its oldest sealed epochs.
type EventsBuffer interface {
	// Append adds the items of an applied batch to the open epoch, except those at the positions in left (ascending by
	// partition and offset). Strings are copied before it returns.
	Append(b *event.Batch, left []state.Position) error
	// Rise says of which level the open epoch and those after it are, which must not have a row yet; at first it is
	// level.First. Rows that were given at another level than their plan has are read from Kafka again.
	Rise(l level.Level)
	// Seal ends the open epoch; what is appended next belongs to the following one. complete says that the buffer has
	// been given every batch of the epoch; otherwise its rows are dropped.
	Seal(epoch uint64, complete bool)
	// Discard frees everything, because the leadership has ended.
	Discard()
}

// EventSource reads the records of a plan's ranges again, from Kafka. It is used where no buffer has them.
type EventSource interface {
	// Events calls yield for every item of the plan's ranges (all epochs of (a, b]), except at the offsets left out and
	// at those that an operator has given up (Plan.Fetchable), for each partition in offset order. It never judges: a
	// record that does not decode although the epoch counts it is an error. A *StopError says that Kafka has lost a
	// range.
	Events(ctx context.Context, plan *state.Plan, yield func(*event.Item) error) error
	// Originals calls yield for each of the positions, which ascend by partition and offset, with the value that Kafka
	// has there, or with ok = false if Kafka has lost the record. i is the index of the position in at. The value is
	// valid only during the call. After an error, the first position without a call is the one that could not be read;
	// an *UnreadableError says that the fault is in what Kafka holds there.
	Originals(ctx context.Context, at []state.Position, yield func(i int, value []byte, ok bool) error) error
}

// StopError says that a sink of a shard must stop until a person has acted. Hint says what to do. The node shows it,
// and calls again now and then (after seconds, then minutes): the sink looks anew for what stopped it before it writes.
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
	Err    error           // what the destination says, which may quote the row
	Brief  string          // the same without anything of the row, for letters that may not show it
}

func (e *RefusedError) Error() string { return fmt.Sprintf("row %q refused: %v", e.RowKey, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// UnreadableError says that Kafka answers and does not give a record that it holds: a damaged batch, one that does not
// decompress or inflates too much.
type UnreadableError struct{ Err error }

func (e *UnreadableError) Error() string { return e.Err.Error() }
func (e *UnreadableError) Unwrap() error { return e.Err }
