package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sinks"
	"deckle/state"
)

// What has stopped goes on by itself once its cause is gone, without a restart and without a command (field report F18:
// a table property was unset, and the sink stayed stopped).

func TestStoppedSinkGoesOn(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	// It shows when the sink is opened, and then, in a new node, when a plan is written.
	appendOnly := &sinks.StopError{Err: errDown, Hint: "unset the property"}
	c.table.setFail(state.SinkClickHouse, appendOnly)
	n := c.start(0)
	stopped := func() bool {
		_, _, s := c.leader(0)
		return strings.Contains(s.Stopped["clickhouse"], "unset the property") && !n.Status().Ready
	}
	b.Produce(nodetest.Record(0, "s", 0))
	nodetest.Until(t, "events go on", func() bool { return c.table.countEvents() == 1 })
	nodetest.Until(t, "stopped", stopped)
	c.table.setFail(state.SinkClickHouse, nil)
	c.checkExact(t, 1, 0, 0)
	nodetest.Until(t, "ready", func() bool { _, _, s := c.leader(0); return len(s.Stopped) == 0 && n.Status().Ready })
	c.table.setFail(state.SinkClickHouse, fmt.Errorf("write: %w", appendOnly))
	b.Produce(nodetest.Record(0, "s", 1))
	nodetest.Until(t, "stopped again", stopped)
	c.table.setFail(state.SinkClickHouse, nil)
	c.checkExact(t, 2, 0, 0)
	nodetest.Until(t, "ready again", func() bool {
		_, _, s := c.leader(0)
		return len(s.Stopped) == 0 && n.Status().Ready
	})
}

// A broker says for a time that an offset is out of range, as one does whose disk is being restored. The partition
// stops, since records might be lost. Once the broker has the offset again, and before it the last record that was
// applied, nothing is lost, and it goes on.
func TestStoppedPartitionGoesOn(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, nil)
	n := c.start(0)
	c.level2(t) // from which on the last record is known
	for i := range 10 {
		b.Produce(nodetest.Record(int32(i%2), fmt.Sprint("s", i%2), i))
	}
	c.checkExact(t, 10, 0, 0)
	away := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: nodetest.Topic, Partitions: []int32{1},
		Err: kerr.OffsetOutOfRange, Count: -1})
	b.Produce(nodetest.Record(0, "s0", 10), nodetest.Record(1, "s1", 11))
	nodetest.Until(t, "stopped", func() bool { _, _, s := c.leader(0); return s.Stopped["partition 1"] != "" })
	nodetest.Until(t, "the other one goes on", func() bool { return c.sum(applied) == 11 })
	away.Remove()
	nodetest.Until(t, "it goes on", func() bool { return c.sum(applied) == 12 && n.Status().Ready })
	c.checkExact(t, 12, 0, 0)
}

// Producers that have learnt to set keys: the partition goes on, and what came without is in the dead letter topic.
func TestKeysComeBack(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Cluster.Shards = 2 })
	b.Produce(nodetest.Record(0, "s", 0), nodetest.Record(1, "z", 0))
	c.start(0)
	c.checkExact(t, 2, 0, 0)
	c.stopWithoutKeys(20)
	b.Produce(nodetest.Record(1, "z", 40))
	c.checkExact(t, 3, 0, 20)
}

// A topic that was refused before anything existed is looked at again: the shard is created once it is as it must be.
func TestRefusedTopicIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	policy := func(value string) {
		t.Helper()
		if _, err := b.Adm.AlterTopicConfigs(nodetest.Context(t), []kadm.AlterConfig{{Name: "cleanup.policy",
			Value: &value}}, nodetest.Topic); err != nil {
			t.Fatal(err)
		}
	}
	policy("compact")
	away := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.UnknownServerError, Count: -1})
	c := newCluster(t, b, 1, nil)
	n := c.start(0) // it is not known yet that the topic is compacted
	away.Remove()
	nodetest.Until(t, "stopped", func() bool {
		_, _, s := c.leader(0)
		return strings.Contains(s.Stopped["shard"], "compact") && !n.Status().Ready
	})
	policy("delete")
	b.Produce(nodetest.Record(0, "s", 0))
	c.checkExact(t, 1, 0, 0)
	nodetest.Until(t, "ready", func() bool { return n.Status().Ready })
}
