package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"deckle/node/nodetest"
	"deckle/raftstore"
	"deckle/sinks"
	"deckle/state"
)

// lateSink is a sink whose plan is acknowledged by another while it is written, and which then refuses a row of it.
type lateSink struct {
	sinks.Sink
	n    *Node
	late atomic.Int32
}

func (s *lateSink) Write(ctx context.Context, p *state.Plan) error {
	if s.late.Add(-1) < 0 {
		return s.Sink.Write(ctx, p)
	}
	if err := s.Sink.Write(ctx, p); err != nil {
		return err
	}
	if _, err := (*s.n.shards.Load())[p.Config.Shard].group.Propose(state.EncodeAck(p.Sink, p.B)).Wait(ctx); err != nil {
		return err
	}
	return &sinks.RefusedError{RowKey: "gone", Row: []byte("{}"), Err: errDown}
}

// A plan that is gone is done: the sink goes on with the next.
func TestPlanThatIsGoneIsDone(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	late := &lateSink{}
	late.late.Store(2)
	ln := c.lns[0]
	c.lns[0] = nil
	n, err := Open(nodetest.Context(t), c.config(0), Deps{FS: c.fs, Logger: nodetest.Log(t), RaftListener: ln,
		openSink: func(n *Node, id state.SinkID) (sinks.Sink, error) {
			s, err := c.table.open(n, id)
			if id != state.SinkClickHouse || err != nil {
				return s, err
			}
			late.n, late.Sink = n, s
			return late, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	c.nodes[0] = n
	for i := range 5 {
		b.Produce(nodetest.Record(0, "s", i))
		nodetest.Until(t, "applied", func() bool { return c.sum(applied) == int64(i+1) })
		nodetest.Until(t, "every sink has it", c.allAcked(state.SinkEvents, state.SinkSessions, state.SinkClickHouse))
	}
	c.checkExact(t, 5, 0, 0)
	if late.late.Load() >= 0 {
		t.Error("no plan was gone")
	}
	_, _, s := c.leader(0)
	if len(s.Failing)+len(s.Stopped) > 0 {
		t.Errorf("failing %v, stopped %v", s.Failing, s.Stopped)
	}
}

// Only the end of the leadership, or a person, ends a flusher: any other error is shown, and it begins again.
func TestFlusherEndsOnlyWithTheLeadership(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		stopped string
	}{
		{"not the leader", fmt.Errorf("x: %w", raftstore.ErrNotLeader), ""},
		{"uncertain", fmt.Errorf("x: %w", raftstore.ErrUncertain), ""},
		{"a person", &sinks.StopError{Err: errDown, Hint: "act"}, "the store is down for the test (act)"},
		{"the context", context.Canceled, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, _ := newTestIntake(t)
				f := newFlusher(in.leader, state.SinkSessions)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				runs := 0
				f.keep(ctx, func(context.Context) error {
					switch runs++; {
					case runs > 1 && in.failing["sessions"] != errDown.Error():
						t.Errorf("run %d: failing is %v", runs, in.failing)
					case runs < 4:
						return errDown
					case errors.Is(c.err, context.Canceled):
						cancel()
					}
					return c.err
				})
				if runs != 4 || in.stopped["sessions"] != c.stopped {
					t.Errorf("%d runs, stopped %v", runs, in.stopped)
				}
			})
		})
	}
}

// A plan may end at an epoch that the state has closed and the intake has not heard of: its latency waits for that.
func TestFlusherWaitsForTheArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, _ := newTestIntake(t)
		f := newFlusher(in.leader, state.SinkSessions)
		in.flushers = []*flusher{f}
		in.sealed.Store(4)
		done := make(chan error, 1)
		go func() { done <- f.noted(t.Context(), 5) }()
		in.kick() // of another epoch
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		in.sealed.Store(5)
		in.kick()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.noted(ctx, 6); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the end of the leadership: %v", err)
		}
	})
}
