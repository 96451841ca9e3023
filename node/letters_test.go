package node

import (
	"testing"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/state"
)

// A record that cannot be used becomes a letter; somebody mends it, the record comes in by a transaction, and the
// session is whole. The marker behind it is no lost record: not for the intake, not after a restart, and not for the
// comparison with what was read last.
func TestLetterIsMended(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	dir := t.TempDir()
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Delta.Path, cfg.ClickHouse = dir, nil })
	c.realSinks = true
	n := c.start(0)
	broken := nodetest.Record(0, "s", 1)
	broken.Value = []byte(`{"session_id":"s","event_type"`)
	b.Produce(nodetest.Record(0, "s", 0), broken)
	var key string
	nodetest.Until(t, "there is a letter", func() bool {
		page, err := n.letters.List(nodetest.Context(t), &status.LetterQuery{Reason: "malformed"})
		if err != nil || len(page.Letters) == 0 {
			return false
		}
		key = page.Letters[0].Key
		return true
	})
	if key != nodetest.Topic+"/0/1" {
		t.Fatalf("the letter is %s", key)
	}
	q := &status.LetterRequest{Op: status.LetterEdit, Letters: []status.LetterRef{{Key: key}},
		Value: nodetest.EventJSON("s", 1, "article_view"), Asker: status.Asker{Principal: "anna"}}
	for i, want := range []int{1, 0} {
		if out, err := n.letters.Do(nodetest.Context(t), q); err != nil || out.Done != want {
			t.Fatalf("time %d: %+v, %v", i, out, err)
		}
	}
	nodetest.Until(t, "the record is applied", func() bool { return c.sum(applied) == 2 })
	c.stop(0)
	n = c.start(0)
	b.Produce(nodetest.Record(0, "s", 2))
	nodetest.Until(t, "it goes on behind the marker", func() bool { return c.sum(applied) == 3 && lagIs(c, 0)() })
	_, _, s := c.leader(0)
	if got := s.State.Partitions[0].Next; got != 5 || len(s.Stopped)+len(s.Failing) > 0 {
		t.Errorf("next offset %d, stopped %v, failing %v", got, s.Stopped, s.Failing)
	}
	nodetest.Until(t, "the sinks have it", func() bool {
		_, _, s := c.leader(0)
		v := &s.State
		return v.Sinks[state.SinkEvents].Acked == v.LastClosed && v.Sinks[state.SinkDeadLetter].Acked == v.LastClosed
	})
	if page, err := n.letters.List(nodetest.Context(t), &status.LetterQuery{}); err != nil || len(page.Letters) != 1 ||
		page.Letters[0].State != status.LetterReplayed || !page.Letters[0].Review.Edited {
		t.Errorf("%+v, %v", page, err)
	}
}
