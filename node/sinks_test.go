package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"deckle/sinks"
	"deckle/sinks/deadletter"
	"deckle/state"
)

// An opener that fails may return a nil pointer of its sink's type along with the error, as any function does that
// returns another's two results. It is no sink: neither after the caller's end nor after a failure.
func TestSinkThatCameWithAnError(t *testing.T) {
	t.Parallel()
	now := time.Now()
	slot := newSinkSlot(state.SinkDeadLetter, func() time.Time { return now })
	var fails error
	slot.open = func(ctx context.Context) (sinks.Sink, error) {
		if err := errors.Join(ctx.Err(), fails); err != nil {
			var none *deadletter.Sink
			return none, err
		}
		return &deadletter.Sink{}, nil
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := slot.get(ended); s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("after the caller's end: %v, %v", s, err)
	}
	fails = errDown
	if s, err := slot.get(t.Context()); s != nil || !errors.Is(err, errDown) {
		t.Errorf("after a failure: %v, %v", s, err)
	}
	fails = nil
	if s, err := slot.get(t.Context()); s != nil || !errors.Is(err, errDown) {
		t.Errorf("within the pause: %v, %v", s, err)
	}
	if s := slot.opened(); s != nil {
		t.Errorf("an open sink %v", s)
	}
	now = now.Add(openPause)
	if s, err := slot.get(t.Context()); s == nil || s.(*deadletter.Sink) == nil || err != nil {
		t.Errorf("when it can be opened: %v, %v", s, err)
	}
}
