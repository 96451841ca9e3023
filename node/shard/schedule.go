package shard

import (
	"slices"
	"time"

	"deckle/node/config"
)

// untilCut is the time until the shard's next cut. Nodes have slots within the interval, so that their commits do not
// meet and stores and machines are busy evenly. A node cuts its shards together, so that one Delta commit has all of
// them, or, where its share of the interval is long, in two halves: what the first writes to ClickHouse does not wait
// for what the second does.
func untilCut(now time.Time, cfg *config.Config, shard uint32) time.Duration {
	nodes, every := cfg.Cluster.Nodes, cfg.Flush.Interval
	node := slices.IndexFunc(nodes, func(c config.Node) bool { return c.Name == cfg.Node })
	slot, of := cutSlot(every, node, len(nodes), shard)
	return untilSlot(now, every, slot, of)
}

// halfSlot is how long half of a node's share of the interval must be for its shards to be cut in two halves.
const halfSlot = time.Second

// cutSlot is the shard's slot on a node, and how many there are. A shard is at home on node shard % nodes, so that each
// node has both halves where all are at home.
func cutSlot(every time.Duration, node, nodes int, shard uint32) (slot, of int) {
	if every/time.Duration(2*nodes) < halfSlot {
		return node, nodes
	}
	return 2*node + int(shard)/nodes%2, 2 * nodes
}

// untilSlot is the time until the next multiple of every plus the slot's part of it.
func untilSlot(now time.Time, every time.Duration, slot, of int) time.Duration {
	phase := every * time.Duration(slot) / time.Duration(of)
	return max(now.Add(-phase).Truncate(every).Add(every+phase).Sub(now), time.Millisecond)
}
