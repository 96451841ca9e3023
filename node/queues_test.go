package node

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/nodetest"
	"deckle/sinks"
	"deckle/state"
)

// A sink that never succeeds, whether it fails, stops, or cannot get its raw events again, holds up nothing but itself:
// every other sink has everything, and intake goes on (docs/design.md §6).
func TestOneSinkHoldsUpOnlyItself(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	c.start(0)
	all := []state.SinkID{state.SinkEvents, state.SinkSessions, state.SinkRevisions, state.SinkClickHouse,
		state.SinkDeadLetter}
	if len(all) != int(state.NumSinks) {
		t.Fatalf("%d sinks, tested are %d", state.NumSinks, len(all))
	}
	lost := &sinks.StopError{Err: errDown, Hint: "raw events that Kafka has lost"}
	n := int64(0)
	more := func() {
		t.Helper()
		b.Produce(nodetest.Record(0, fmt.Sprint("s", n), int(n)),
			&kgo.Record{Partition: 0, Key: []byte("k"), Value: []byte("{")})
		n++
		nodetest.Until(t, "intake goes on", func() bool { return c.sum(applied) == n })
	}
	for _, id := range all {
		c.table.setFail(id, errDown)
		others := slices.DeleteFunc(slices.Clone(all), func(o state.SinkID) bool {
			return o == id || id == state.SinkSessions && o == state.SinkRevisions // up to where sessions is, by design
		})
		for range 2 {
			more()
			nodetest.Until(t, fmt.Sprintf("all but %s have it", id), c.allAcked(others...))
		}
		if _, _, s := c.leader(0); s.State.Sinks[id].Acked >= s.State.LastClosed {
			t.Errorf("%s does not fail", id)
		}
		c.table.setFail(id, nil)
		nodetest.Until(t, fmt.Sprintf("%s goes on", id), c.allAcked(all...))
	}
	// What stops for good: raw events whose range is gone.
	c.table.setFail(state.SinkEvents, lost)
	for range 2 {
		more()
		nodetest.Until(t, "all but events have it", c.allAcked(all[1:]...))
	}
}
