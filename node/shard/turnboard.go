package shard

import (
	"sync"
	"time"

	"deckle/sinks"
	"deckle/state"
)

// cutWithin is how long a plan waits for its shard's cut where the intake does not run: that answers none, and there
// may be epochs to write. An intake that runs answers each, and is waited for.
const cutWithin = time.Second

// turnBoard is what one leadership of a shard knows of the last turn: its intake cuts and says when that is answered,
// and each flusher of a Delta sink then takes the turn, or gives it up. What the cut has closed is written at once,
// also by a flusher that was at something else when the turn began: it would be an interval late otherwise.
type turnBoard struct {
	due chan uint64 // to the intake: cut for this turn; the latest

	mu       sync.Mutex
	changed  chan struct{} // closed at the next change, and replaced
	turn     sinks.Turn    // the last one; its Every is 0 if none has begun
	until    time.Time     // when it no longer waits for the cut of an intake that does not run
	runs     bool          // the intake does
	answered bool          // the cut was, or there was nothing to close
	cut      uint64        // the last epoch that belongs to a turn whose cut is answered
	cutOf    sinks.Turn    // that turn
	idle     map[state.SinkID]bool
	open     map[state.SinkID]sinks.Turn // begun for a flusher that was idle, and neither taken nor given up
}

// givenUp is a turn in which a sink will not write, as far as is known.
type givenUp struct {
	id   state.SinkID
	turn sinks.Turn
}

func newTurnBoard() *turnBoard {
	return &turnBoard{due: make(chan uint64, 1), changed: make(chan struct{}), idle: map[state.SinkID]bool{},
		open: map[state.SinkID]sinks.Turn{}}
}

// begin begins a turn for the flushers of some sinks. It returns those that will not take it, as they are at something
// else, and those that wait for the last one still and will not take that.
func (b *turnBoard) begin(t sinks.Turn, now time.Time, ids []state.SinkID) (absent []givenUp) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn, b.until, b.answered = t, now.Add(cutWithin), false
	for _, id := range ids {
		if former, ok := b.open[id]; ok {
			absent = append(absent, givenUp{id, former})
		}
		if b.idle[id] {
			b.open[id] = t
		} else {
			absent = append(absent, givenUp{id, t})
		}
	}
	b.order()
	b.wake()
	return absent
}

// order has the intake cut for the last turn. It is called with the lock held.
func (b *turnBoard) order() {
	select {
	case <-b.due:
	default:
	}
	b.due <- b.turn.Number // there is room, and nobody else puts anything in
}

// run says that a run of the intake begins, until end is called. What a former run was to cut for and has not answered,
// this one is.
func (b *turnBoard) run() (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs = true
	if b.turn.Every > 0 && !b.answered {
		b.order()
	}
	b.wake()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.runs = false
		b.wake()
	}
}

// answer says that the cut for a turn has closed an epoch, or that there was nothing to close. The epoch is noted, and
// the last one.
func (b *turnBoard) answer(number, epoch uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if number == b.turn.Number {
		b.answered, b.cut, b.cutOf = true, epoch, b.turn
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

// turnTaken is what a flusher learns of the last turn.
type turnTaken struct {
	turn    sinks.Turn
	taken   bool            // the turn is the flusher's
	waits   bool            // it will be, once the cut is answered
	wait    time.Duration   // or after this time; 0: not before something changes
	changed <-chan struct{} // closed when something has changed
}

// take takes the turn that has begun for a sink's flusher, once its shard's cut is answered, or is not waited for any
// more.
func (b *turnBoard) take(id state.SinkID, now time.Time) turnTaken {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.open[id]
	got := turnTaken{turn: t, changed: b.changed}
	switch {
	case !ok:
	case b.answered || !b.runs && !now.Before(b.until):
		delete(b.open, id)
		got.taken = true
	default:
		if got.waits = true; !b.runs {
			got.wait = b.until.Sub(now)
		}
	}
	return got
}

// late returns the last turn whose cut is answered if a sink has not written all that it has closed: acked is the last
// epoch that the sink has. It does not wait for the next turn. A sink that trails behind another one never has all.
func (b *turnBoard) late(id state.SinkID, acked uint64) (t sinks.Turn, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cutOf, acked < b.cut && !id.Spec().Trails
}
