package shard

import (
	"slices"
	"time"

	"deckle/node/config"
)

// untilCut is the time until the shard's next cut where the nodes do not share commits (else, see Turns). Nodes have
// turns within the interval, so that stores and machines are busy evenly. A node cuts its shards together, or, where
// its share of the interval is long, in two halves: what the first writes to ClickHouse does not wait for what the
// second does.
func untilCut(now time.Time, cfg *config.Config, shard uint32) time.Duration {
	nodes, every := cfg.Cluster.Nodes, cfg.Flush.Interval
	node := slices.IndexFunc(nodes, func(c config.Node) bool { return c.Name == cfg.Node })
	turn, of := cutTurn(every, node, len(nodes), shard)
	return untilTurn(now, every, turn, of)
}

// halfTurn is how long half of a node's share of the interval must be for its shards to be cut in two halves.
const halfTurn = time.Second

// cutTurn is the shard's turn on a node, and how many there are. A shard is at home on node shard % nodes, so that each
// node has both halves where all are at home.
func cutTurn(every time.Duration, node, nodes int, shard uint32) (turn, of int) {
	if every/time.Duration(2*nodes) < halfTurn {
		return node, nodes
	}
	return 2*node + int(shard)/nodes%2, 2 * nodes
}

// untilTurn is the time until the next multiple of every plus the turn's part of it.
func untilTurn(now time.Time, every time.Duration, turn, of int) time.Duration {
	phase := every * time.Duration(turn) / time.Duration(of)
	return max(now.Add(-phase).Truncate(every).Add(every+phase).Sub(now), time.Millisecond)
}
