package shard

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"deckle/node/condition"
	"deckle/raftstore"
	"deckle/sinks"
	"deckle/state"
)

// errDown is the error of a sink that is down.
var errDown = errors.New("the store is down for the test")

// Only the end of the leadership, or what needs an operator, ends a flusher: any other error is shown, and it begins
// again.
func TestFlusherEndsOnlyWithTheLeadership(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		stopped string
	}{
		{"not the leader", fmt.Errorf("x: %w", raftstore.ErrNotLeader), ""},
		{"uncertain", fmt.Errorf("x: %w", raftstore.ErrUncertain), ""},
		{"an operator", &sinks.StopError{Err: errDown, Hint: "act"}, "the store is down for the test (act)"},
		{"the context", context.Canceled, ""},
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
				if runs != 4 || text(condition.SinkStopped) != c.stopped {
					t.Errorf("%d runs, conditions %v", runs, l.cond.now().Snapshot())
				}
			})
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
