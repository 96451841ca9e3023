package node

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
)

// turnLog is what the joint sinks of all nodes were told: for each turn, sink and shard on a node, what came of it.
type turnLog struct {
	mu    sync.Mutex
	heard map[uint64]map[string]bool // nodes by turn
	told  map[string][]string        // "node turn sink shard"
	alone int                        // writes without a turn
}

func (l *turnLog) note(node string, turn uint64, id state.SinkID, shard uint32, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := fmt.Sprintf("%s %d %s %d", node, turn, id, shard)
	l.told[key] = append(l.told[key], what)
}

// joinedSink is a sink on the table that notes what turns tell it.
type joinedSink struct {
	sinks.EventsSink // a memSink, which is one for every id
	node             string
	id               state.SinkID
	l                *turnLog
}

func (s *joinedSink) Begin(t sinks.Turn, shards []uint32) {
	s.l.mu.Lock()
	if s.l.heard[t.Number] == nil {
		s.l.heard[t.Number] = map[string]bool{}
	}
	s.l.heard[t.Number][s.node] = true
	s.l.mu.Unlock()
	for _, shard := range shards {
		s.l.note(s.node, t.Number, s.id, shard, "begin")
	}
}

func (s *joinedSink) Absent(t sinks.Turn, shard uint32) {
	s.l.note(s.node, t.Number, s.id, shard, "absent")
}

func (s *joinedSink) Write(ctx context.Context, p *state.Plan) error {
	if t, ok := sinks.TurnOf(ctx); ok {
		s.l.note(s.node, t.Number, s.id, p.Config.Shard, "write")
	} else {
		s.l.mu.Lock()
		s.l.alone++
		s.l.mu.Unlock()
	}
	return s.EventsSink.Write(ctx, p)
}

// Three nodes cut together, when the leader of shard 0 asks; for each shard and sink for which a turn has begun there
// is a write in it, or word that there will be none. When that leader is gone, the others go on, and another one
// asks.
func TestNodesCutTogether(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 6)
	c := newCluster(t, b, 3, func(cfg *config.Config) {
		cfg.Cluster.Shards, cfg.Flush.Interval = 3, time.Second
	})
	l := &turnLog{heard: map[uint64]map[string]bool{}, told: map[string][]string{}}
	next := 0
	c.adapt = func(d *Deps) {
		node := fmt.Sprint("n", next)
		d.openSink = func(again sinks.EventSource, id state.SinkID) (sinks.Sink, error) {
			s, err := c.table.open(again, id)
			mem, ok := s.(*memSink)
			if !ok || id.Spec().Destination != state.ToDelta {
				return s, err
			}
			return &joinedSink{mem, node, id, l}, nil
		}
	}
	for i := range c.nodes {
		next = i
		c.start(i)
	}
	c.ready()
	produced := 0
	produce := func() {
		for p := range int32(6) {
			b.Produce(nodetest.Record(p, fmt.Sprint("s", p), produced))
			produced++
		}
	}
	together := func(nodes, turns int) func() bool {
		return func() bool {
			produce()
			l.mu.Lock()
			defer l.mu.Unlock()
			n := 0
			for _, by := range l.heard {
				if len(by) >= nodes {
					n++
				}
			}
			return n >= turns
		}
	}
	nodetest.Until(t, "all three cut together", together(3, 4))
	i, n, _ := c.leader(0)
	for n == nil {
		time.Sleep(10 * time.Millisecond)
		i, n, _ = c.leader(0)
	}
	// What is neither an ask nor an offer that can be taken is refused.
	sharing := c.nodes[(i+1)%3].sharing.Load()
	var a deltalog.Answer
	for _, what := range []string{`{}`, `{"Offer":{"Format":1}}`} {
		if err := json.Unmarshal(sharing.serve(t.Context(), n.cfg.Node, json.RawMessage(what)), &a); err != nil ||
			a.Outcome != deltalog.OutcomeNo {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
	}
	if a := sharing.offer(t.Context(), &deltalog.Offer{Format: deltalog.OfferFormat, Table: "events",
		Lane: deltalog.LaneEvents}); a.Outcome != deltalog.OutcomeNo || !strings.Contains(a.Error, "not open here") {
		t.Errorf("an offer for a table that is not open: %+v", a)
	}
	c.stop(i)
	l.mu.Lock()
	l.heard = map[uint64]map[string]bool{}
	l.mu.Unlock()
	nodetest.Until(t, "two cut together again", together(2, 3))
	nodetest.Until(t, "all is applied", func() bool { return c.sum(applied) == int64(produced) })
	nodetest.Until(t, "every sink has it", c.allAcked(state.SinkEvents, state.SinkSessions, state.SinkClickHouse))
	c.checkExact(t, produced, 0, 0)
	for i := range c.nodes {
		c.stop(i)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	writes := 0
	for key, told := range l.told {
		count := map[string]int{}
		for _, what := range told {
			count[what]++
		}
		if count["begin"] != 1 || len(told) < 2 { // it may write late, after word that it will not
			t.Errorf("%s: %v", key, told)
		}
		writes += count["write"]
	}
	if writes == 0 || l.alone == 0 { // the first of a leadership
		t.Errorf("%d writes in turns, %d without", writes, l.alone)
	}
}
