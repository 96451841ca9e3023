package sinks

import (
	"context"
	"time"
)

// Turn is one moment at which all shards of the cluster are cut together, so that their plans can be written together.
// Package node/shard says who asks for turns, and what becomes of a node that hears of none.
type Turn struct {
	// Number is the moment, by the wall clock of the node that asked, in units of Every since 1970. Turns are told
	// apart by it, and follow one another by it.
	Number uint64
	Every  time.Duration // from one turn to the next
	// Revise says that at this turn the node writes revisions, too. Each node knows it for itself.
	Revise bool `json:"-"`
}

// Joint is a sink that writes the plans of several shards together, if they are of the same turn. Its methods are safe
// for concurrent use, as those of a Sink.
//
// A Write whose context has a turn (WithTurn) takes part in the turn's round if there is one and it is open, and is
// offered for the turn by itself, or with others that are late, if that is over. Any other Write is made alone, which
// is always correct: Begin and Absent only spare commits.
type Joint interface {
	Sink
	// Begin opens the round of a turn for the shards that this node leads: for each of them there will be a Write with
	// the turn, or a call of Absent. It is called when the turn is heard, and does not wait. A further Write may come
	// after either, with what the shard has closed late.
	Begin(t Turn, shards []uint32)
	// Absent says that the shard has nothing to write in the turn, or does not know when it will. It does not wait.
	Absent(t Turn, shard uint32)
}

type turnKey struct{}

// WithTurn returns a context for one call of Write, whose plan is of the turn.
func WithTurn(ctx context.Context, t Turn) context.Context {
	return context.WithValue(ctx, turnKey{}, t)
}

// TurnOf returns the turn of a Write that was called with ctx; false if it has none.
func TurnOf(ctx context.Context) (Turn, bool) {
	t, ok := ctx.Value(turnKey{}).(Turn)
	return t, ok
}
