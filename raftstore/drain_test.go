package raftstore

import (
	"context"
	"errors"
	"testing"
	"time"
)

// homes says whether each shard is led by its preferred node, but for those of a node that is to lead none.
func (c *cluster) homes(but int) bool {
	for shard := range uint32(c.shards) {
		home := int(shard) % len(c.nodes)
		if lead := c.leader(shard); lead == but || home != but && lead != home {
			return false
		}
	}
	return true
}

// A drained node gives its leaderships away and is offered none, also not those for which it is the preferred node.
// Where nobody else can lead it leads, and takes entries. It is drained until it is told otherwise.
func TestDrain(t *testing.T) {
	c := newCluster(t, 3, 3, nil)
	c.start(c.all()...)
	c.ready(c.all()...)
	c.eventually("all are at home", func() bool { return c.homes(-1) })
	away := c.nodes[1].store
	away.Drain(true)
	c.eventually("node b leads nothing", func() bool { return c.homes(1) })
	if !away.Status().Drained {
		t.Error("the status does not say it")
	}
	ctx := t.Context()
	if err := c.nodes[c.leader(1)].store.Group(1).Offer(ctx, "b"); !errors.Is(err, ErrUnfit) {
		t.Errorf("an offer to a drained node: %v", err)
	}
	for from := time.Now(); time.Since(from) < 20*testTimings.Heartbeat; { // in which it would be given back
		for shard := range uint32(c.shards) {
			c.put(shard, 10)
		}
		if lead := c.leader(1); lead == 1 {
			t.Fatal("it leads its shard again")
		}
	}
	for _, i := range []int{0, 2} { // nobody is left to lead: whoever leads goes on
		c.nodes[i].store.Drain(true)
	}
	for range 20 {
		c.put(0, 10)
		for i, n := range c.nodes {
			p := n.store.Group(0).proposer
			p.mu.Lock()
			benched := p.benched
			p.mu.Unlock()
			if benched {
				t.Fatalf("node %d takes no entries", i)
			}
		}
		time.Sleep(testTimings.Heartbeat / 2)
	}
	for _, i := range c.all() {
		c.nodes[i].store.Drain(false)
	}
	c.eventually("all are at home again", func() bool { return c.homes(-1) })
	c.agree(0, c.all()...)
	c.alive(c.all()...)
}

// A group that a node was told to keep is not handed to its preferred node, until the node loses it.
func TestKeep(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(c.all()...)
	c.ready(c.all()...)
	c.eventually("it is at home", func() bool { return c.homes(-1) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	group := func(i int) *Group { return c.nodes[i].store.Group(0) }
	c.eventually("it is handed over", func() bool {
		group(2).Keep(true)
		if lead := c.leader(0); lead != 2 {
			_ = group(lead).Offer(ctx, "c")
		}
		return c.leader(0) == 2
	})
	for from := time.Now(); time.Since(from) < 20*testTimings.Heartbeat; time.Sleep(testTimings.Heartbeat) {
		c.put(0, 10)
		if group(2).IsLeader() && group(2).handover.kept.Load() == keepNot {
			t.Fatal("it was forgotten")
		}
	}
	if lead := c.leader(0); lead == 0 {
		t.Error("it was handed to its preferred node")
	}
	if err := group(2).Offer(ctx, "c"); !errors.Is(err, ErrUnfit) {
		t.Errorf("an offer to itself: %v", err)
	}
	c.nodes[2].store.Drain(true)
	c.eventually("it is at home again", func() bool { return c.homes(-1) })
	c.nodes[2].store.Drain(false)
	c.eventually("what was asked has ended", func() bool { return group(2).handover.kept.Load() == keepNot })
	c.put(0, 10)
	c.agree(0, c.all()...)
}
