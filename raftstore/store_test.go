package raftstore

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestThreeNodes(t *testing.T) {
	c := newCluster(t, 3, 2, nil)
	c.start(2, 1, 0)
	c.ready(c.all()...)
	id := c.nodes[0].store.ClusterID()
	for _, n := range c.nodes {
		if got := n.store.ClusterID(); got != id || len(got) != 16 {
			t.Fatalf("cluster ids %q and %q", id, got)
		}
	}
	for shard := range uint32(2) {
		for i := range 50 {
			if res := c.put(shard, 100); res.Index == 0 || res.Term == 0 || res.Value.(uint64) < uint64(i+1) {
				t.Fatalf("result %+v of entry %d", res, i)
			}
		}
		if got := c.agree(shard, c.all()...).Count; got < 50 {
			t.Fatalf("%d entries applied, want 50 or more", got)
		}
	}

	// A leader loses its power; the others go on, and it catches up.
	led := c.leader(0)
	before := c.agree(0, c.all()...)
	c.kill(led)
	for range 20 {
		c.put(0, 100)
	}
	c.agree(0, c.others(led)...)
	c.start(led)
	c.ready(led)
	if got := c.agree(0, c.all()...); got.Count < before.Count+20 {
		t.Fatalf("count %d, want at least %d", got.Count, before.Count+20)
	}

	// All lose their power: what was acknowledged is there again.
	before = c.agree(1, c.all()...)
	for i := range c.nodes {
		c.kill(i)
	}
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(1, 10)
	if got := c.agree(1, c.all()...); got.Count != before.Count+1 {
		t.Fatalf("count %d after all were killed, want %d", got.Count, before.Count+1)
	}
}

func TestPipelinedInOrder(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 8)
	g := c.nodes[c.leader(0)].store.Group(0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := g.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	var futures []*Future
	for i := range 2000 {
		futures = append(futures, g.Propose([]byte{byte(i), byte(i >> 8)}))
	}
	var last Result
	for i, f := range futures {
		res, err := f.Wait(ctx)
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if i > 0 && (res.Index <= last.Index || res.Value.(uint64) != last.Value.(uint64)+1) {
			t.Fatalf("entry %d has %+v after %+v", i, res, last)
		}
		last = res
	}
	c.agree(0, c.all()...)
}

func TestSingleNode(t *testing.T) {
	c := newCluster(t, 1, 3, nil)
	c.start(0)
	c.ready(0)
	for range 20 {
		c.put(2, 10)
	}
	c.kill(0)
	c.start(0)
	c.ready(0)
	c.put(2, 10)
	if got := c.image(0, 2).Count; got != 21 {
		t.Fatalf("count %d, want 21", got)
	}
	select {
	case l := <-c.nodes[0].store.Group(2).Leadership():
		if !l.Leader || l.Term == 0 {
			t.Fatalf("leadership %+v", l)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no leadership was announced")
	}
}

func TestCloseHandsOver(t *testing.T) {
	c := newCluster(t, 3, 3, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for shard := range uint32(3) {
		c.put(shard, 10)
		c.agree(shard, c.all()...)
	}
	// A node that closes leads no group any more before it stops anything.
	led := c.leader(0)
	n := c.nodes[led]
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s := n.store
	s.leave()
	s.handOver(ctx)
	for shard := range uint32(3) {
		if s.Group(shard).IsLeader() {
			t.Errorf("still leads shard %d", shard)
		}
	}
	n.store = nil
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(ctx); err != nil {
		t.Fatalf("second close: %v", err)
	}
	for shard := range uint32(3) {
		c.put(shard, 10)
	}
}

func TestNotLeader(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 1)
	i := c.others(c.leader(0))[0]
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := c.nodes[i].store.Group(0).Propose([]byte("x")).Wait(ctx); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("a follower's propose gave %v", err)
	}
	if err := c.nodes[i].store.Group(0).Barrier(ctx); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("a follower's barrier gave %v", err)
	}
	// A leader without a quorum: uncertain, and its leadership ends.
	led := c.leader(0)
	g := c.nodes[led].store.Group(0)
	for _, k := range c.others(led) {
		c.stop(k)
	}
	if _, err := g.Propose([]byte("y")).Wait(ctx); !errors.Is(err, ErrUncertain) && !errors.Is(err, ErrNotLeader) {
		t.Fatalf("a propose without a quorum gave %v", err)
	}
	c.eventually("the leader without a quorum steps down", func() bool { return !g.IsLeader() })
}

func TestPreferredNodesLead(t *testing.T) {
	c := newCluster(t, 3, 6, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { // under load
		for shard := uint32(0); ; shard = (shard + 1) % 6 {
			select {
			case <-stop:
				return
			default:
				c.put(shard, 1000)
			}
		}
	})
	c.eventually("each preferred node leads", func() bool {
		for shard := range uint32(6) {
			if !c.nodes[shard%3].store.Group(shard).IsLeader() {
				return false
			}
		}
		return true
	})
	close(stop)
	wg.Wait()
}

func TestApplyErrorIsFatalAndSticky(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 1)
	before := c.agree(0, c.all()...)
	i := c.others(c.leader(0))[0]
	sm := c.nodes[i].store.groups[0].sm.(*fakeState)
	sm.mu.Lock()
	sm.failAt = before.Index + 1
	sm.mu.Unlock()
	c.put(0, 1)
	select {
	case err := <-c.nodes[i].fatal:
		t.Log(err)
	case <-time.After(10 * time.Second):
		t.Fatal("OnFatal was not called")
	}
	sm.mu.Lock()
	sm.failAt = 0
	sm.mu.Unlock()
	c.put(0, 1)
	c.agree(0, c.others(i)...)
	if got := sm.image(); got != before {
		t.Fatalf("the failed group went on to %+v", got)
	}
	if err := c.truncate(i); err != nil {
		t.Fatal(err)
	}
	if m := c.nodes[i].store.groups[0].snaps.marker(); m.Index > before.Index {
		t.Fatalf("marker at %d after a failed apply at %d", m.Index, before.Index+1)
	}
}

func TestOptions(t *testing.T) {
	ok := func() Options {
		return Options{
			FS: vfs.NewMem(), Dir: "d", Name: "a", Nodes: []Peer{{"a", "x:1"}, {"b", "x:2"}, {"c", "x:3"}}, Shards: 1,
			NewStateMachine: func(context.Context, uint32, string, func(error)) (StateMachine, error) {
				return nil, nil
			},
		}
	}
	o := ok()
	if err := o.complete(); err != nil || o.Timings.Heartbeat != 500*time.Millisecond || o.LogBytes != 64<<20 {
		t.Fatalf("%v %+v", err, o)
	}
	for name, breakIt := range map[string]func(*Options){
		"lease":   func(o *Options) { o.Timings.Lease = time.Second },
		"beat":    func(o *Options) { o.Timings.Heartbeat = time.Second },
		"two":     func(o *Options) { o.Nodes = o.Nodes[:2] },
		"unknown": func(o *Options) { o.Name = "z" },
		"twice":   func(o *Options) { o.Nodes[1].Name = "a" },
		"address": func(o *Options) { o.Nodes[1].Addr = "x:1" },
		"shards":  func(o *Options) { o.Shards = 0 },
		"dir":     func(o *Options) { o.Dir = "" },
		"long":    func(o *Options) { o.Nodes[2].Name = string(make([]byte, 65)) },
	} {
		o := ok()
		breakIt(&o)
		if _, err := Open(context.Background(), o); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
