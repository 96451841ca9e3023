package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"deckle/node/condition"
	"deckle/node/kafka"
	"deckle/raftstore"
	"deckle/sinks"
	"deckle/state"
)

// errDown is the error of a sink that is down.
var errDown = errors.New("the store is down for the test")

// Only the end of the leadership ends a flusher: any other error is shown, and it begins again.
func TestFlusherEndsOnlyWithTheLeadership(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
	}{
		{"not the leader", fmt.Errorf("x: %w", raftstore.ErrNotLeader)},
		{"uncertain", fmt.Errorf("x: %w", raftstore.ErrUncertain)},
		{"the context", context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newTestLeadership(t)
				f := newFlusher(l, state.SinkSessions)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				runs := 0
				text := func(id condition.ID) string {
					c, _ := l.cond.now().Get(id, "sessions of shard 0")
					return c.Text
				}
				f.keep(ctx, func(context.Context) error {
					switch runs++; {
					case runs > 1 && text(condition.SinkNeverWrote) != errDown.Error():
						t.Errorf("run %d: conditions %v", runs, l.cond.now().Snapshot())
					case runs < 4:
						return errDown
					case errors.Is(c.err, context.Canceled):
						cancel()
					}
					return c.err
				})
				if runs != 4 {
					t.Errorf("%d runs, conditions %v", runs, l.cond.now().Snapshot())
				}
			})
		})
	}
}

// A sink that needs an operator is shown as stopped and tried again, more and more seldom; it is shown until an attempt
// has got through, so that the condition does not begin and end with each of them.
func TestStoppedFlusherIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLeadership(t)
		f := newFlusher(l, state.SinkSessions)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		text := func() string {
			c, _ := l.cond.now().Get(condition.SinkStopped, "sessions of shard 0")
			return c.Text
		}
		const runs, shown = 12, "the store is down for the test (act)"
		var at []time.Time
		f.keep(ctx, func(context.Context) error {
			at = append(at, time.Now())
			switch n := len(at); {
			case n > 1 && text() != shown:
				t.Errorf("run %d: shown %q", n, text())
			case n == 4: // the store does not answer meanwhile: that says nothing about what has stopped it
				return errDown
			case n == runs:
				f.goesOn()
				cancel()
				return ctx.Err()
			}
			return fmt.Errorf("%w", &sinks.StopError{Err: errDown, Hint: "act"})
		})
		if len(at) != runs || text() != "" {
			t.Fatalf("%d runs, shown %q", len(at), text())
		}
		if first := at[1].Sub(at[0]); first < againFirst/2 || first > 2*againFirst {
			t.Errorf("tried again after %v", first)
		}
		if last := at[runs-1].Sub(at[runs-2]); last < againMost/2 || last > 2*againMost {
			t.Errorf("in the end tried again after %v", last)
		}
	})
}

// A sink that was refused is tried again as soon as a file of the configuration has changed, also if that happened
// while the attempt went on, and from then on with short pauses: the other side may know the new password a moment
// later.
func TestFlusherWakesForAChangedFile(t *testing.T) {
	for _, stops := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := newTestLeadership(t)
			f := newFlusher(l, state.SinkSessions)
			var lock sync.Mutex
			next := make(chan struct{})
			f.Renewed = func() <-chan struct{} {
				lock.Lock()
				defer lock.Unlock()
				return next
			}
			change := func() {
				lock.Lock()
				defer lock.Unlock()
				close(next)
				next = make(chan struct{})
			}
			refused := func() error { return errDown }
			repeat := func(ctx context.Context, op func() error) error { return f.retry(ctx, op) }
			if stops {
				refused = func() error { return &sinks.StopError{Err: errDown, Hint: "act"} }
				repeat = func(ctx context.Context, op func() error) error {
					f.keep(ctx, func(context.Context) error { return op() })
					return nil
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var at []time.Time
			const changed, during = 12, 15 // before which attempt the file changes, and within which one
			err := repeat(ctx, func() error {
				switch at = append(at, time.Now()); len(at) {
				case changed - 1:
					time.AfterFunc(time.Second, change)
				case during:
					change()
				case during + 1:
					cancel()
					return ctx.Err()
				}
				return refused()
			})
			if len(at) != during+1 || !stops && !errors.Is(err, context.Canceled) {
				t.Fatalf("stops %v: %d attempts, %v", stops, len(at), err)
			}
			pause := func(n int) time.Duration { return at[n-1].Sub(at[n-2]) }
			if d := pause(changed - 1); d < 10*time.Second {
				t.Errorf("stops %v: the pause before was %v, which proves nothing", stops, d)
			}
			if d := pause(changed); d != time.Second {
				t.Errorf("stops %v: the file changed after 1 s, the next attempt came after %v", stops, d)
			}
			if d, most := pause(changed+1), 2*againFirst; d > most {
				t.Errorf("stops %v: the next pause is %v, more than %v", stops, d, most)
			}
			if d := pause(during + 1); d != 0 {
				t.Errorf("stops %v: the file changed during the attempt, the next one came after %v", stops, d)
			}
		})
	}
}

// A plan may end at an epoch that the state has closed and the intake has not heard of: its latency waits for that.
func TestFlusherWaitsForTheArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newEpochBoard(4)
		upTo := func(epoch uint64) func(uint64) bool { return func(noted uint64) bool { return noted >= epoch } }
		done := make(chan error, 1)
		go func() { done <- b.wait(t.Context(), upTo(5)) }()
		synctest.Wait()
		b.announce() // of something else
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		b.note(5)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.wait(ctx, upTo(6)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the end of the leadership: %v", err)
		}
	})
}

// While the sink of raw events is stopped for what Kafka has lost, the command that gives it up is taken: also while it
// is tried again, and has not come as far as to the records.
func TestLostIsKnownWhileStopped(t *testing.T) {
	l := newTestLeadership(t)
	f := newFlusher(l, state.SinkEvents)
	stop := func(err error) error { return fmt.Errorf("write: %w", &sinks.StopError{Err: err}) }
	knows := func(what string, err error, want bool) {
		t.Helper()
		f.showLost(err)
		if got := l.cond.lostEvents() != nil; got != want {
			t.Errorf("%s: known %v, want %v", what, got, want)
		}
	}
	lost := stop(&kafka.LostError{})
	knows("it fails for that", &kafka.LostError{}, true)
	knows("it goes on", nil, false)
	f.stopped = true
	knows("it stops for that", lost, true)
	knows("the sink has been opened", nil, true)
	knows("the store does not answer", errDown, true)
	knows("it stops for something else", stop(errDown), false)
	knows("it stops for that again", lost, true)
	f.goesOn()
	if l.cond.lostEvents() != nil {
		t.Error("it goes on again: still known")
	}
}
