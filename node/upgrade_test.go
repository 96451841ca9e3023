package node

import (
	"net/http"
	"strings"
	"testing"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/schema/level"
)

// A rolling upgrade with cluster.finalize: manual on one node. A new cluster rises at once, as far as its version goes.
// Then the nodes are restarted with a version of a higher level, one after the other: the shards keep their level, and
// an older version comes back, until an operator finalizes; any node takes that, and it is refused while a node runs
// the older version.
func TestFinalize(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 3)
	const older = int(level.Current) - 1
	most := [3]int{older, older, older} // by node: what its version has; 0: everything
	at := 0
	c := newCluster(t, b, 3, func(cfg *config.Config) {
		cfg.Cluster.Shards, cfg.Cluster.MaxLevel = 3, most[at]
		if at == 2 {
			cfg.Cluster.Finalize = "manual"
		}
	})
	start := func(i int) { at = i; c.start(i) }
	for i := range c.nodes {
		start(i)
	}
	c.ready()
	levels := func(want level.Level) func() bool {
		return func() bool {
			for _, n := range c.nodes {
				if len(n.shardList()) != 3 {
					return false
				}
				for _, s := range n.shardList() {
					if s.Store().Peek().Level != want {
						return false
					}
				}
			}
			return true
		}
	}
	nodetest.Until(t, "a new cluster rises", levels(level.Level(older)))
	const finalize = "/api/v1/upgrade/finalize"
	var out status.FinalizeOutcome
	for i := range c.nodes {
		if i == 2 {
			nodetest.Until(t, "it is refused while node 2 has the older version", func() bool {
				code, text := c.nodes[0].verb(t, finalize, `{}`, &out)
				return code == http.StatusConflict && strings.Contains(text, "node n2")
			})
		}
		c.stop(i)
		most[i] = 0
		start(i)
		c.ready()
	}
	for i := range 3 {
		b.Produce(nodetest.Record(int32(i), "s", i))
	}
	nodetest.Until(t, "they are read", func() bool { return c.sum(applied) == 3 })
	for _, n := range c.nodes { // each leader has asked all members before it read: what was to rise has risen
		for _, s := range n.shardList() {
			if got := s.Store().Peek().Level; got != level.Level(older) {
				t.Errorf("shard %d has risen to level %d", s.ID(), got)
			}
		}
	}
	nodetest.Until(t, "node 1 is asked", func() bool {
		code, text := c.nodes[1].verb(t, finalize, `{}`, &out)
		if code != http.StatusOK || !out.Whole {
			t.Log(text)
		}
		return code == http.StatusOK && out.Whole && len(out.Shards) == 3
	})
	nodetest.Until(t, "all have risen", levels(level.Current))
	if code, text := c.nodes[0].verb(t, finalize, `{}`, &out); code != http.StatusOK || !out.Whole {
		t.Errorf("again: %d %s", code, text) // changes nothing
	}
}
