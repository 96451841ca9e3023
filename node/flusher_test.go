package node

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"deckle/node/nodetest"
	"deckle/sinks"
	"deckle/state"
)

// lateSink is a sink whose plan is acknowledged by another while it is written, and which then refuses a row of it.
type lateSink struct {
	sinks.Sink
	n    atomic.Pointer[Node]
	late atomic.Int32
}

func (s *lateSink) Write(ctx context.Context, p *state.Plan) error {
	if s.late.Add(-1) < 0 {
		return s.Sink.Write(ctx, p)
	}
	if err := s.Sink.Write(ctx, p); err != nil {
		return err
	}
	for s.n.Load() == nil { // Open has not returned yet
		time.Sleep(time.Millisecond)
	}
	if _, err := s.n.Load().raft.Group(p.Config.Shard).Propose(state.EncodeAck(p.Sink, p.B)).Wait(ctx); err != nil {
		return err
	}
	return &sinks.RefusedError{RowKey: "gone", Row: []byte("{}"), Err: errDown}
}

// A plan that is gone is finished: the sink goes on with the next one.
func TestPlanThatIsGoneIsDone(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	late := &lateSink{}
	late.late.Store(2)
	ln := c.lns[0]
	c.lns[0] = nil
	n, err := Open(nodetest.Context(t), c.config(0), Deps{FS: c.fs, Logger: nodetest.Log(t), RaftListener: ln,
		openSink: func(again sinks.EventSource, id state.SinkID) (sinks.Sink, error) {
			s, err := c.table.open(again, id)
			if id != state.SinkClickHouse || err != nil {
				return s, err
			}
			late.Sink = s
			return late, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	c.nodes[0] = n
	late.n.Store(n)
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
