package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// fullDisks has each node of a cluster say that its disk is full when its flag is set.
func fullDisks(t *testing.T, nodes int) (c *cluster, full []atomic.Bool) {
	full = make([]atomic.Bool, nodes)
	return newCluster(t, nodes, 1, func(i int, o *Options) {
		o.NoRoom = func() error {
			if full[i].Load() {
				return fmt.Errorf("%w: full for the test", ErrNoRoom)
			}
			return nil
		}
	}), full
}

// A node without room leads nothing and takes nothing, and catches up by itself. While two are without room nothing is
// acknowledged; then it goes on, without a restart.
func TestNoRoom(t *testing.T) {
	c, full := fullDisks(t, 3)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	was := c.leader(0)
	full[was].Store(true)
	c.eventually("another node leads", func() bool { l := c.leader(0); return l != was })
	g := c.nodes[was].store.Group(0)
	if _, err := g.health(false); !errors.Is(err, ErrNoRoom) {
		t.Errorf("it calls itself fit to lead: %v", err)
	}
	if st := c.nodes[was].store.Status(); st.Refusing == "" || len(st.Reasons) == 0 {
		t.Errorf("it does not say that it takes no entries: %+v", st)
	}
	before := g.status().LastIndex
	for range 20 {
		c.put(0, 1000)
	}
	if after := g.status().LastIndex; after > before+2 { // what was under way, and the new leader's first
		t.Errorf("its log has grown from %d to %d", before, after)
	}
	c.agree(0, c.others(was)...)

	second := c.leader(0)
	full[second].Store(true)
	c.eventually("the second one is withdrawn", func() bool {
		_, err := c.nodes[second].store.Group(0).Propose([]byte("12345678")).Wait(context.Background())
		return errors.Is(err, ErrNotLeader)
	})
	for end := time.Now().Add(5 * testTimings.Election); time.Now().Before(end); {
		for i := range c.nodes {
			f := c.nodes[i].store.Group(0).Propose([]byte("12345678"))
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			if r, err := f.Wait(ctx); err == nil {
				t.Fatalf("node %d acknowledges entry %d with two full disks", i, r.Index)
			}
			cancel()
		}
	}
	for i := range full {
		full[i].Store(false)
	}
	c.put(0, 10)
	c.agree(0, c.all()...)
	c.alive(c.all()...)
}

// A leadership that nobody has taken over while the node was unfit is announced again.
func TestLeadershipIsRestored(t *testing.T) {
	c, full := fullDisks(t, 3)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	led := c.leader(0)
	g := c.nodes[led].store.Group(0)
	var last Leadership
	notice := func(leads bool) bool {
		select {
		case last = <-g.Leadership():
			return last.Leader == leads
		default:
			return c.leader(0) != led // under load an election may take it away
		}
	}
	c.eventually("it is announced", func() bool { return notice(true) })
	for _, i := range c.others(led) {
		c.nodes[i].store.leave() // takes no leadership
	}
	full[led].Store(true)
	c.eventually("it is withdrawn", func() bool { return notice(false) })
	full[led].Store(false)
	c.eventually("it is announced again", func() bool { return notice(true) })
	c.put(0, 10)
	c.alive(c.all()...)
}

// A single node has nobody to leave its groups to: what makes room is entries, too.
func TestNoRoomOfASingleNode(t *testing.T) {
	c, full := fullDisks(t, 1)
	full[0].Store(true)
	c.start(0)
	c.ready(0)
	c.put(0, 10)
	c.alive(0)
}

// settled is such a cluster of three with some entries, led where it is at home.
func settled(t *testing.T) (c *cluster, full []atomic.Bool, led int) {
	c, full = fullDisks(t, 3)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.eventually("each shard is at home", func() bool { return c.homes(-1) })
	return c, full, c.leader(0)
}

// A disk that is full for so short that nobody has looked meanwhile costs a leader nothing: whoever was refused an
// entry hears of the leadership again.
func TestBlipIsNews(t *testing.T) {
	c, full, led := settled(t)
	g := c.nodes[led].store.Group(0)
	for heard := true; heard; { // what was said until now
		select {
		case <-g.Leadership():
		case <-time.After(time.Second):
			heard = false
		}
	}
	full[led].Store(true)
	_, err := g.Propose([]byte("12345678")).Wait(t.Context())
	full[led].Store(false)
	if !errors.Is(err, ErrNoRoom) {
		t.Fatalf("an entry on a full disk: %v", err)
	}
	c.eventually("the leadership is told again", func() bool {
		select {
		case l := <-g.Leadership():
			return l.Leader || c.leader(0) != led
		default:
			return c.leader(0) != led
		}
	})
}

// A drained node leads rather than nobody: where the only other one has no room.
func TestDrainedNodesRescue(t *testing.T) {
	c, full, led := settled(t)
	for _, i := range c.others(led) {
		c.nodes[i].store.Drain(true)
	}
	full[led].Store(true)
	c.eventually("a drained node leads", func() bool { l := c.leader(0); return l >= 0 && l != led })
	c.put(0, 10)
	c.agree(0, c.others(led)...)
}
