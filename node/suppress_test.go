package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/nodetest"
	"deckle/node/shard"
	"deckle/state"
)

// suppress changes the list of shard 0 at its leader.
func (c *cluster) suppress(t *testing.T, op state.SuppressOp, users ...string) *state.SuppressResult {
	t.Helper()
	salt := event.Salt{1}
	l := event.NewLister(salt)
	e := state.SuppressEntry{Op: op, Salt: salt, By: "test"}
	for _, u := range users {
		x, err := l.Listing(event.SuppressUser, u)
		if err != nil {
			t.Fatal(err)
		}
		e.Listings = append(e.Listings, x)
	}
	var res *state.SuppressResult
	nodetest.Until(t, "the list changes", func() bool {
		_, n, _ := c.leader(0)
		if n == nil {
			return false
		}
		var err error
		if res, err = n.shard0().Suppress(nodetest.Context(t), e); err != nil {
			t.Log(err)
		}
		return err == nil && res.Refused == state.SuppressTaken
	})
	return res
}

func (n *Node) shard0() *shard.Shard { return (*n.shards.Load())[0] }

func ofUser(user, i int, broken string) *kgo.Record {
	value := fmt.Appendf(nil, `{"event_id":"e%d-%d","session_id":"s%d","user_id":%d,"event_type":"search",`+
		`"timestamp":%d}%s`, user, i, user, user, time.Now().Unix(), broken)
	return &kgo.Record{Key: fmt.Append(nil, "s", user), Value: value}
}

// From the entry on nothing of a suppressed reader comes in, not even as a letter, whoever leads, while records flow.
// A leader whose intake was passed over judges again what was refused. After a removal the reader counts again, and
// what was left out stays out: every epoch has its rows, also where they are read from Kafka again.
func TestSuppressedReaders(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nodetest.NewBroker(t, 1), 3, nil)
	for i := range c.nodes {
		c.start(i)
	}
	c.ready()
	nodetest.Until(t, "level 3", func() bool {
		_, _, s := c.leader(0)
		return s.State.Level >= 3 && s.State.Rules.Number > 0
	})
	flows := int64(0)
	produce := func(user int, broken string) {
		c.b.Produce(ofUser(user, int(flows), broken))
		flows++
	}
	left := func() int64 {
		return c.sum(func(v *state.View) int64 { return v.RuleCounts.SuppressedUsers })
	}
	produce(7, "")
	produce(8, "")
	nodetest.Until(t, "both count", func() bool { return c.sum(applied) == 2 })

	c.suppress(t, state.SuppressAdd, "7")
	for range 5 {
		produce(7, "")
		produce(7, "broken")
		produce(8, "")
	}
	nodetest.Until(t, "one counts", func() bool { return c.sum(applied) == 7 && left() == 10 })

	// past the intake, as if it did not run: its next batch is refused
	_, n, _ := c.leader(0)
	e := state.SuppressEntry{Now: 1, Op: state.SuppressAdd, Salt: event.Salt{1}}
	x, err := event.NewLister(e.Salt).Listing(event.SuppressUser, "9")
	if err != nil {
		t.Fatal(err)
	}
	e.Listings = []event.Listing{x}
	if _, err := n.raft.Group(0).Propose(state.EncodeSuppress(&e)).Wait(nodetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		produce(9, "")
		produce(8, "")
	}
	nodetest.Until(t, "judged again", func() bool { return c.sum(applied) == 12 && left() == 15 })

	i, _, _ := c.leader(0)
	c.stop(i)
	nodetest.Until(t, "another leader", func() bool { j, _, _ := c.leader(0); return j >= 0 && j != i })
	produce(7, "broken")
	produce(9, "")
	produce(8, "")
	nodetest.Until(t, "the new leader has the list", func() bool { return c.sum(applied) == 13 && left() == 17 })

	c.suppress(t, state.SuppressRemove, "7")
	produce(7, "")
	produce(9, "")
	nodetest.Until(t, "one is let in again", func() bool { return c.sum(applied) == 14 && left() == 18 })
	nodetest.Until(t, "every sink has it", func() bool {
		_, _, s := c.leader(0)
		for _, id := range s.State.Config.Sinks {
			if s.State.Sinks[id].Acked < s.State.LastClosed {
				return false
			}
		}
		return s.State.LastClosed > 0 && s.State.OpenEvents == 0
	})
	if letters := c.table.copyLetters(); len(letters) > 0 {
		t.Errorf("letters %v", letters)
	}
	if salt, ok, err := n.shard0().Salt(nodetest.Context(t)); err == nil && (!ok || salt != e.Salt) {
		t.Errorf("salt %x, %t", salt, ok)
	}
}
