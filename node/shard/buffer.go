package shard

import (
	"deckle/event"
	"deckle/sinks"
	"deckle/state"
)

// epochBuffer is the buffer of raw events that the sink of raw events gave out: those of the open epoch, and of sealed
// epochs that wait for their flush. The goroutine of the intake owns it.
type epochBuffer struct {
	buf   sinks.EventsBuffer // nil if there is none
	whole bool               // every event of the open epoch has been seen
}

// append takes the events of an applied batch, without those at the positions left.
func (b *epochBuffer) append(batch *event.Batch, left []state.Position) error {
	if b.buf == nil {
		b.whole = false
		return nil
	}
	err := b.buf.Append(batch, left)
	b.whole = b.whole && err == nil
	return err
}

// seal closes the open epoch. Another begins, of which everything will be seen.
func (b *epochBuffer) seal(epoch uint64) {
	if b.buf != nil {
		b.buf.Seal(epoch, b.whole)
	}
	b.whole = true
}

// discard lets go of everything.
func (b *epochBuffer) discard() {
	if b.buf != nil {
		b.buf.Discard()
		b.buf = nil
	}
}
