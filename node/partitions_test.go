package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/state"
)

// Partitions are added under load: a dry run changes nothing and says which sessions split; a request that is cut off
// between two shards, and nodes that are started again, leave what one shard has taken, and the same request does the
// rest; once more changes nothing. Every record counts once, those from before the partitions were added, too.
func TestPartitionsAdd(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 3)
	c := newCluster(t, b, 3, func(cfg *config.Config) { cfg.Cluster.Shards = 2 })
	for i := range c.nodes {
		c.start(i)
	}
	c.ready()
	produced, ids := 0, []string{}
	produce := func(partition int32, id string) {
		b.Produce(nodetest.Record(partition, id, produced))
		produced, ids = produced+1, append(ids, id)
	}
	for i := range 12 {
		produce(int32(i%3), fmt.Sprint("old", i))
	}
	nodetest.Until(t, "the old partitions are read, and the level is that of the verb", func() bool {
		return c.sum(counted) == int64(produced) && c.sum(func(v *state.View) int64 { return int64(v.Level) }) ==
			2*int64(level.Operate)
	})
	add := func(q status.AddPartitions) (*status.PartitionsAdded, error) {
		q.Asker = admin
		return c.nodes[produced%3].commands.adding.Do(t.Context(), q)
	}
	if out, err := add(status.AddPartitions{}); err != nil || out.From != 3 || out.To != 3 || !out.Whole {
		t.Fatalf("nothing to add: %+v, %v", out, err)
	}
	if _, err := b.Adm.CreatePartitions(nodetest.Context(t), 2, nodetest.Topic); err != nil {
		t.Fatal(err)
	}
	b.Out.ForceMetadataRefresh()
	nodetest.Until(t, "the new partitions take records", func() bool {
		return b.Out.ProduceSync(nodetest.Context(t), nodetest.Record(4, "first", 0)).FirstErr() == nil
	})
	produced++
	for i := range 6 {
		produce(int32(3+i%2), fmt.Sprint("before", i))
	}
	taken := func() (n []int32) {
		for shard := range uint32(2) {
			_, _, s := c.leader(shard)
			n = append(n, s.State.TopicPartitions)
		}
		return n
	}

	var dry *status.PartitionsAdded
	nodetest.Until(t, "a dry run", func() (ok bool) {
		var err error
		dry, err = add(status.AddPartitions{DryRun: true})
		return err == nil && dry.Whole
	})
	by := map[string]kafka.Partitioner{kafka.Murmur2.String(): kafka.Murmur2, kafka.CRC32.String(): kafka.CRC32,
		kafka.FNV1a.String(): kafka.FNV1a}[dry.Split.Partitioner]
	want := int64(0)
	for i, id := range ids[:12] {
		if int32(i%3)%2 != by.Partition([]byte(id), 5)%2 { // from the shard where it is to where its next record goes
			want++
		}
	}
	if s := &dry.Split; s.None || !s.Whole || s.Sessions != want || s.Unknown != 0 {
		t.Errorf("sessions that split: %+v, want %d", s, want)
	}
	if len(dry.Shards) != 2 || len(dry.Shards[0].Added) != 1 || dry.Shards[0].Added[0].From != 0 ||
		dry.Shards[0].Added[0].End != 4 || dry.Shards[1].Added[0].Partition != 3 {
		t.Errorf("the dry run: %+v", dry)
	}
	if n := taken(); n[0] != 0 || n[1] != 0 {
		t.Errorf("a dry run changes %v", n)
	}
	for _, q := range []status.AddPartitions{{To: 6}, {To: 2}, {To: 5, From: new(4)}} {
		if out, err := add(q); !errors.Is(err, status.ErrRefused) {
			t.Errorf("%+v: %+v, %v", q, out, err)
		}
	}

	load, end := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	more := 0
	loading.Go(func() {
		for ; load.Err() == nil; more++ {
			b.Produce(nodetest.Record(int32(more%5), fmt.Sprint("during", more%7), 100+more))
			time.Sleep(20 * time.Millisecond)
		}
	})
	stopLoad := sync.OnceFunc(func() { end(); loading.Wait() })
	defer stopLoad()

	// Cut off between two shards: whoever is asked does not lead shard 1, and its connections break.
	nodetest.Until(t, "shard 0 alone has taken it", func() bool {
		lead, _, _ := c.leader(1)
		if lead < 0 {
			return false
		}
		n := c.nodes[(lead+1)%3]
		k := *n.commands
		pass := k.pass
		k.pass = func(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error) {
			if bytes.Contains(what, []byte(`"Shard":1`)) {
				return nil, errors.New("the connection breaks")
			}
			return pass(ctx, node, what)
		}
		out, err := (&adding{commands: &k, ends: n.commands.adding.ends}).Do(t.Context(),
			status.AddPartitions{To: 5, From: new(3), Asker: admin})
		return err == nil && !out.Whole && out.Shards[0].Error == "" && out.Shards[1].Error != ""
	})
	nodetest.Until(t, "that shows", func() bool { n := taken(); return n[0] == 5 && n[1] == 0 })
	for i := range c.nodes {
		c.stop(i)
	}
	for i := range c.nodes {
		c.start(i)
	}
	c.ready()
	nodetest.Until(t, "what was taken is there after a restart", func() bool {
		n := taken()
		return n[0] == 5 && n[1] == 0
	})
	nodetest.Until(t, "the same again does the rest", func() bool {
		out, err := add(status.AddPartitions{To: 5, From: new(3)})
		return err == nil && out.Whole
	})
	stopLoad()
	nodetest.Until(t, "all records count", func() bool { return c.sum(counted) == int64(produced+more) })
	nodetest.Until(t, "all are in the table", func() bool { return c.table.countEvents() == produced+more })
	if len(c.table.twice) > 0 {
		t.Errorf("twice in the table: %v", c.table.twice)
	}
	nodetest.Until(t, "nothing is unread any more", func() bool {
		for _, n := range c.nodes {
			for _, cond := range n.Status().Conditions {
				if cond.ID == condition.PartitionUnread {
					return false
				}
			}
		}
		return true
	})
	out, err := add(status.AddPartitions{To: 5})
	if n := taken(); err != nil || out.From != 5 || len(out.Shards[0].Added) > 0 || n[0] != 5 || n[1] != 5 {
		t.Errorf("once more: %+v, %v; %v", out, err, n)
	}
	if n := c.nodes[0].created(); n != 3 {
		t.Errorf("the cluster was created with %d partitions, it says", n)
	}
}
