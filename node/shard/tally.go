package shard

import (
	"sync"
	"time"

	"deckle/state"
)

// Tally adds up what the shards of a node write to their sinks.
type Tally struct {
	mu    sync.Mutex
	sinks [state.NumSinks]Written
	wrote [state.NumSinks]bool // at any time
}

// Written is what has been written to one sink within some time.
type Written struct {
	Flushes int           // plans written
	Epochs  uint64        // of those plans
	Rows    int64         // what the sink counts as rows: of tables, or letters
	Bytes   int64         // of those rows, as the sink counts them
	Took    time.Duration // the sum over the plans, each from its first attempt to its last
	Slowest time.Duration // of one plan
}

// add takes one plan that is visible.
func (t *Tally) add(id state.SinkID, w Written) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.sinks[id]
	s.Flushes += w.Flushes
	s.Epochs += w.Epochs
	s.Rows += w.Rows
	s.Bytes += w.Bytes
	s.Took += w.Took
	s.Slowest = max(s.Slowest, w.Took)
	t.wrote[id] = true
}

// ever says whether this node has written anything to the sink since it was started.
func (t *Tally) ever(id state.SinkID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wrote[id]
}

// Take returns what has been written to each sink since the last call.
func (t *Tally) Take() [state.NumSinks]Written {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.sinks
	t.sinks = [state.NumSinks]Written{}
	return taken
}
