package node

import (
	"strings"
	"testing"

	"deckle/node/config"
	"deckle/node/nodetest"
)

// One batch that inflates past kafka.max_batch_bytes, beside a partition of the same shard that is well (field report
// F05): the one waits, with a text that names the key, and its lag is shown; the other is read at full speed. A node
// that starts with a greater key reads the batch, and everything counts once.
func TestBatchThatInflatesTooMuch(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	most := int64(0)
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Kafka.MaxBatchBytes = most })
	b.Produce(nodetest.Record(0, "a", 0), nodetest.Record(0, "a", 1))
	b.ProducePacked(0, 80, 900<<10)
	for i := range 4 {
		b.Produce(nodetest.Record(0, "a", 2+i))
	}
	for i := range 26 {
		b.Produce(nodetest.Record(1, "b", i))
	}
	n := c.start(0)
	nodetest.Until(t, "the healthy partition is read, and what lies before the batch", func() bool {
		_, n, s := c.leader(0)
		return n != nil && len(s.State.Partitions) == 2 && s.State.Partitions[0].Next == 2 &&
			s.State.Partitions[1].Next == 26
	})
	nodetest.Until(t, "the partition is failing", func() bool {
		_, _, s := c.leader(0)
		return strings.Contains(s.Failing["partition 0"], "kafka.max_batch_bytes (67108864)") && s.Lag.Records != nil &&
			*s.Lag.Records == 84
	})
	if st := n.Status(); !st.Ready {
		t.Errorf("one partition that waits makes the node not ready: %v", st.Reasons)
	}
	for i := range 10 { // at full speed
		b.Produce(nodetest.Record(1, "b", 26+i))
		nodetest.Until(t, "the healthy partition", func() bool {
			_, _, s := c.leader(0)
			return s.State.Partitions[1].Next == int64(27+i)
		})
	}
	c.stop(0)
	most = 128 << 20
	n = c.start(0)
	c.checkExact(t, 2+80+4+36, 0, 0)
	nodetest.Until(t, "nothing fails any more", func() bool {
		_, _, s := c.leader(0)
		return n.Status().Ready && len(s.Failing) == 0
	})
}
