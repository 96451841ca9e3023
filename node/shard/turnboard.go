package shard

import (
	"sync"
	"time"

	"deckle/sinks"
	"deckle/state"
)

// cutWithin is how long a plan waits for its shard's cut. A shard whose intake does not run answers none, and may have
// epochs to write.
const cutWithin = time.Second

// turnBoard is what one leadership of a shard knows of the last turn: its intake cuts and says when that is answered,
// and each flusher of a Delta sink then takes the turn, or gives it up.
type turnBoard struct {
	due chan uint64 // to the intake: cut for this turn; the latest

	mu       sync.Mutex
	changed  chan struct{} // closed at the next change, and replaced
	number   uint64        // of the last turn
	until    time.Time     // when it no longer waits for the cut
	answered bool          // the cut was, or there was nothing to close
	idle     map[state.SinkID]bool
	open     map[state.SinkID]sinks.Turn // begun for a flusher that was idle, and neither taken nor given up
}

func newTurnBoard() *turnBoard {
	return &turnBoard{due: make(chan uint64, 1), changed: make(chan struct{}), idle: map[state.SinkID]bool{},
		open: map[state.SinkID]sinks.Turn{}}
}

// begin begins a turn for the flushers of some sinks, and returns those that will not take it: they are at something
// else.
func (b *turnBoard) begin(t sinks.Turn, now time.Time, ids []state.SinkID) (absent []state.SinkID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.number, b.until, b.answered = t.Number, now.Add(cutWithin), false
	for _, id := range ids {
		if b.idle[id] {
			b.open[id] = t
		} else {
			absent = append(absent, id)
		}
	}
	select {
	case <-b.due:
	default:
	}
	b.due <- t.Number // there is room, and nobody else puts anything in
	b.wake()
	return absent
}

// answer says that the cut for a turn has closed an epoch, which is noted, or that there was nothing to close.
func (b *turnBoard) answer(number uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if number == b.number {
		b.answered = true
		b.wake()
	}
}

// wake is called with the lock held.
func (b *turnBoard) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// enter says that a sink's flusher waits for a turn.
func (b *turnBoard) enter(id state.SinkID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle[id] = true
}

// leave says that it does not any more. It returns a turn that has begun for it meanwhile.
func (b *turnBoard) leave(id state.SinkID) (t sinks.Turn, left bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle[id] = false
	t, left = b.open[id]
	delete(b.open, id)
	return t, left
}

// take returns the turn that has begun for a sink's flusher, once its shard's cut is answered, or is not waited for any
// more. Before, wait is how long at most that takes; 0: no turn has begun. changed is closed when something has
// changed.
func (b *turnBoard) take(id state.SinkID, now time.Time) (
	t sinks.Turn, taken bool, wait time.Duration, changed <-chan struct{},
) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.open[id]
	switch {
	case !ok:
	case b.answered || !now.Before(b.until):
		delete(b.open, id)
		return t, true, 0, b.changed
	default:
		wait = b.until.Sub(now)
	}
	return t, false, wait, b.changed
}
