package node

import (
	"strings"
	"testing"
	"time"

	"deckle/node/config"
	"deckle/node/nodetest"
)

// TestFixedValues: a node whose file has another value than was fixed does not join, and says who has what, while the
// others go on: before there is a cluster, with a state of its own, and with an empty folder. It follows its file as
// soon as that is put right.
func TestFixedValues(t *testing.T) {
	var wrong func(*config.Config)
	c := newCluster(t, nodetest.NewBroker(t, 1), 3, func(cfg *config.Config) {
		cfg.Cluster.Shards = 1
		if cfg.Node == "n2" && wrong != nil {
			wrong(cfg)
		}
	})
	says := func(i int, wants ...string) {
		t.Helper()
		var text string
		nodetest.Until(t, strings.Join(wants, " and "), func() bool {
			text = strings.Join(c.nodes[i].Status().Reasons, "; ")
			for _, want := range wants {
				if !strings.Contains(text, want) {
					return false
				}
			}
			return true
		})
		if c.nodes[i].shardList() != nil {
			t.Errorf("node %d runs its shards: %s", i, text)
		}
	}

	wrong = func(cfg *config.Config) { cfg.Kafka.Topic = "clicks" }
	for i := range c.nodes {
		c.start(i)
	}
	says(0, "kafka.topic is "+nodetest.Topic+" here, and clicks on node n2")
	says(2, "kafka.topic is clicks here, and "+nodetest.Topic+" on node n")
	for i := range c.nodes {
		if id := c.nodes[i].raft.ClusterID(); id != "" {
			t.Errorf("node %d is of cluster %s: they have founded one", i, id)
		}
	}
	c.stop(2)
	wrong = nil
	c.start(2)
	c.ready()
	nodetest.Until(t, "every replica has its configuration", func() bool {
		for _, n := range c.nodes {
			if shards := n.shardList(); len(shards) != 1 || !shards[0].Store().View().Configured {
				return false
			}
		}
		return true
	})

	c.stop(2)
	wrong = func(cfg *config.Config) {
		cfg.Session.IdleTimeout, cfg.ClickHouse = time.Hour, nil
	}
	c.start(2)
	says(2, "session.idle_timeout is 1h0m0s here, and 30m0s in the state in data/n2", "clickhouse) is [")
	c.stop(2)
	if err := c.fs.RemoveAll("data/n2"); err != nil {
		t.Fatal(err)
	}
	c.start(2)
	says(2, "session.idle_timeout is 1h0m0s here, and 30m0s on node n")
	for i := range 2 {
		nodetest.Until(t, "the others serve", func() bool { return c.nodes[i].Status().Ready })
	}
	c.stop(2)
	wrong = nil
	c.start(2)
	c.ready()
}
