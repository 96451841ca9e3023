package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	dto "github.com/prometheus/client_model/go"

	"deckle/schema/level"
)

// mixedCluster is a cluster of three in which one node has a binary of the first level. It becomes a newer one with the
// returned function, at its next start.
func mixedCluster(
	t *testing.T, old, shards int, tune func(i int, o *Options),
) (c *cluster, upgrade func()) {
	newer := false
	c = newCluster(t, 3, shards, func(i int, o *Options) {
		if tune != nil {
			tune(i, o)
		}
		if i == old && !newer {
			o.Level = uint32(level.First)
		}
	})
	return c, func() { newer = true }
}

// held waits until a node is held in a shard, and returns at which entry.
func (c *cluster) held(i int, shard uint32) (index uint64) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%s is held", c.peers[i].Name), func() (held bool) {
		g := c.nodes[i].store.Group(shard)
		if g == nil {
			return false
		}
		var why error
		index, why, held = g.Held()
		if held && (!errors.Is(why, ErrTooNew) || isDamage(why)) {
			c.t.Fatalf("held because of %v", why)
		}
		return held
	})
	return index
}

// An entry that a node's binary cannot read holds its group. The node does not end, and nothing is called damaged: it
// takes entries, answers and votes, so that the two others may lose one of them; but it applies nothing, and truncates
// nothing of what it has to apply later. With the newer binary it applies everything, from its marker on.
func TestEntryAboveTheLevelHoldsTheGroup(t *testing.T) {
	const old = 2
	c, upgrade := mixedCluster(t, old, 1, func(_ int, o *Options) { o.LogBytes, o.WALBytes = 32<<10, 1<<30 })
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for range 50 {
		c.put(0, 1000)
	}
	before := c.agree(0, c.all()...)
	c.raise(0)
	at := c.held(old, 0)
	if at <= before.Index {
		t.Fatalf("held at entry %d, entry %d was applied", at, before.Index)
	}
	g := c.nodes[old].store.groups[0]
	known, marker := g.fsm.known(), g.snaps.marker()
	// More than the 128 batches of 16 entries after which the library would stall if entries were not passed over: a
	// batch is what one append commits, and these come one by one.
	for range 300 {
		c.put(0, 1000)
	}
	c.agree(0, 0, 1)
	r := g.run.Load().raft
	c.eventually("it takes entries, and counts them as committed", func() bool {
		return r.LastIndex() >= at+300 && r.AppliedIndex() >= at+300
	})
	first, _ := g.log.FirstIndex()
	if g.fsm.known() != known || known >= at || c.image(old, 0) != before {
		t.Fatalf("known %d, was %d; held at %d; state %+v, was %+v", g.fsm.known(), known, at, c.image(old, 0), before)
	}
	if err := r.Snapshot().Error(); err == nil {
		t.Fatal("the library has made a snapshot of what was only passed over")
	}
	if err := c.truncate(old); !errors.Is(err, ErrTooNew) {
		t.Fatalf("truncate gave %v", err)
	}
	if _, _, err := g.send.open(marker); !errors.Is(err, ErrTooNew) {
		t.Fatalf("a copy for a follower gave %v", err)
	}
	time.Sleep(2 * maintainEvery) // its log is longer than LogBytes
	if now, _ := g.log.FirstIndex(); now != first || g.snaps.marker().Index != marker.Index {
		t.Fatalf("the log began at %d, begins at %d; marker %d, was %d",
			first, now, g.snaps.marker().Index, marker.Index)
	}
	if _, err := g.health(false); !errors.Is(err, ErrTooNew) {
		t.Fatalf("it calls itself fit to lead: %v", err)
	}
	st := c.nodes[old].store.Status()
	if gs := st.Groups[0]; gs.HeldIndex != at || gs.HeldReason == "" || gs.AppliedIndex != known ||
		len(st.Reasons) == 0 {
		t.Fatalf("status %+v, reasons %v", gs, st.Reasons)
	}

	// Either of the others goes away: with this one there is a quorum, for entries and for an election.
	// It may win an election, too, but takes no entry and hands the leadership on (TestHeldLeaderHandsOn), so the
	// leader is asked for again until it is one of the others.
	var led int
	able := func() bool { led = c.leader(0); return led != old }
	c.eventually("a node leads that applies entries", able)
	c.stop(1 - led)
	c.put(0, 10)
	c.start(1 - led)
	c.ready(1 - led)
	c.agree(0, 0, 1)
	c.stop(led)
	c.put(0, 10)
	c.eventually("the other one leads", able)
	c.start(1 - led)
	c.ready(1 - led)
	c.put(0, 10)

	// The same binary again meets the same entry, after a power cut, too.
	c.kill(old)
	c.start(old)
	c.ready(old)
	if again := c.held(old, 0); again != at {
		t.Fatalf("held at entry %d, then at %d", at, again)
	}
	c.alive(c.all()...)
	former := c.nodes[old].store.self.serverID()
	upgrade()
	c.kill(old)
	c.start(old)
	c.ready(old)
	c.put(0, 10)
	if got := c.agree(0, c.all()...); got.Level != uint32(level.Real) {
		t.Fatalf("state %+v", got)
	}
	if _, _, held := c.nodes[old].store.Group(0).Held(); held || c.nodes[old].store.self.serverID() != former {
		t.Fatalf("still held, or not the same server as %s", former)
	}
	if n := c.installs(old, "0"); n != 0 {
		t.Fatalf("%v snapshots were needed", n)
	}
	c.alive(c.all()...)
}

// A leader that cannot read an entry is of no use: its leadership is withdrawn and given to a node that can, although
// this node is the preferred one. If it wins the leadership again, that is not announced, and it is handed on.
func TestHeldLeaderHandsOn(t *testing.T) {
	const old = 0 // the preferred node of shard 0
	c, _ := mixedCluster(t, old, 1, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.eventually("the preferred node leads", func() bool { return c.leader(0) == old })
	g := c.nodes[old].store.Group(0)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	led := func() (leader bool) { // the last notice
		select {
		case l := <-g.Leadership():
			return l.Leader
		default:
			return false
		}
	}
	c.eventually("it is announced", led)
	_, err := g.Propose(levelEntry(byte(level.Real))).Wait(ctx)
	if !errors.Is(err, ErrTooNew) || !errors.Is(err, ErrUncertain) {
		t.Fatalf("the entry gave %v", err)
	}
	if err := g.Barrier(ctx); !errors.Is(err, ErrNotLeader) || !errors.Is(err, ErrTooNew) {
		t.Fatalf("a barrier gave %v", err)
	}
	if _, err := g.Propose([]byte("x")).Wait(ctx); !errors.Is(err, ErrNotLeader) || !errors.Is(err, ErrTooNew) {
		t.Fatalf("a further entry gave %v", err)
	}
	c.eventually("another node leads", func() bool { return c.leader(0) != old })
	if led() {
		t.Fatal("the last notice says that it leads")
	}
	c.put(0, 10)

	// The library itself asks nobody who is fit.
	for range 3 {
		other := c.leader(0)
		won := g.run.Load().raft.CurrentTerm()
		if err := c.nodes[other].store.Group(0).TransferLeadership(ctx, c.peers[old].Name); err != nil {
			continue
		}
		c.eventually("the leadership is handed on", func() bool {
			if led() {
				t.Fatal("a leadership was announced that is of no use")
			}
			return g.run.Load().raft.CurrentTerm() > won+1 && !g.IsLeader()
		})
		c.put(0, 10)
	}
	// Several rounds of the handover to the preferred node.
	for end := time.Now().Add(20 * testTimings.Heartbeat); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if g.IsLeader() {
			t.Fatal("it was given the leadership")
		}
	}
	c.agree(0, c.others(old)...)
	c.alive(c.all()...)
}

func (c *cluster) appendsRefused(i int, shard string) float64 {
	var m dto.Metric
	if err := c.nodes[i].store.met.refused.WithLabelValues(shard).Write(&m); err != nil {
		c.t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// A held group keeps the segments of all groups of its node. Beyond the bound the node takes no entries, for any group,
// and leads none; but it answers and votes, says what is wrong, and catches up with the newer binary.
func TestLogOfAHeldNodeIsBounded(t *testing.T) {
	const old, walBytes = 2, 64 << 10
	c, upgrade := mixedCluster(t, old, 3, func(i int, o *Options) {
		o.LogBytes, o.SegmentBytes = 16<<10, 8<<10
		if i == old {
			o.WALBytes = walBytes
		}
	})
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for shard := range uint32(3) {
		c.put(shard, 10)
	}
	c.eventually("it leads the shard that prefers it", func() bool { return c.leader(2) == old })
	s := c.nodes[old].store
	notices := s.Group(2).Leadership()
	if l := <-notices; !l.Leader {
		c.eventually("it is announced", func() bool { return (<-notices).Leader })
	}
	c.raise(0)
	c.held(old, 0)
	c.put(2, 1000)
	if st := s.Status(); st.Refusing != "" || c.leader(2) != old {
		t.Fatalf("a short log is refused: %+v", st)
	}
	put := 0
	c.eventually("it refuses entries", func() bool {
		c.put(1, 1000)
		put++
		return s.Status().Refusing != ""
	})
	if put > 2*boundFactor*walBytes/1000 {
		t.Errorf("after %d entries of 1000 bytes", put)
	}
	c.eventually("its leadership is withdrawn and handed on", func() bool {
		select {
		case l := <-notices:
			return !l.Leader && c.leader(2) != old
		default:
			return false
		}
	})
	if _, err := s.groups[1].health(false); !errors.Is(err, errLogBound) || !errors.Is(err, ErrTooNew) {
		t.Fatalf("it calls itself fit to lead another shard: %v", err)
	}
	before := s.Status()
	for range 300 {
		c.put(1, 1000)
		c.put(2, 1000)
	}
	after := s.Status()
	if after.WALBytes > before.WALBytes+16<<10 || after.Groups[1].LastIndex > before.Groups[1].LastIndex+20 {
		t.Fatalf("the log has grown from %d to %d bytes; shard 1 from entry %d to %d",
			before.WALBytes, after.WALBytes, before.Groups[1].LastIndex, after.Groups[1].LastIndex)
	}
	// A snapshot would be followed by entries that are refused, and so by the next snapshot.
	g := s.groups[1]
	r := g.run.Load()
	b, _ := sampleStream(t, level.First)
	body, answer := bytes.NewReader(b), make(chan raft.RPCResponse, 1)
	req := &raft.InstallSnapshotRequest{
		Term: r.raft.CurrentTerm(), LastLogIndex: 1 << 30, LastLogTerm: 1, Size: int64(len(b)),
	}
	if !g.engine.guard.install(r, raft.RPC{Command: req, RespChan: answer, Reader: body}, req) {
		t.Fatal("Raft is given a snapshot")
	}
	if a := <-answer; !errors.Is(a.Error, errLogBound) || body.Len() != len(b) {
		t.Fatalf("answer to a snapshot %+v, %d bytes left", a, body.Len())
	}
	if c.appendsRefused(old, "1") == 0 || len(after.Reasons) < 2 {
		t.Fatalf("%v appends were refused, the status says %v", c.appendsRefused(old, "1"), after.Reasons)
	}
	c.alive(c.all()...)

	// It hears the leader and votes: of the two others one goes away, and the other one is elected.
	if after.Groups[1].Leader == "" {
		t.Fatal("it knows of no leader")
	}
	led := c.leader(1)
	c.stop(led)
	c.eventually("the other one is elected", func() bool {
		return c.nodes[1-led].store.Group(1).IsLeader()
	})
	c.start(led)
	c.ready(led)
	c.put(1, 10)
	upgrade()
	c.kill(old)
	c.start(old)
	c.ready(old)
	for shard := range uint32(3) {
		c.put(shard, 10)
		c.agree(shard, c.all()...)
	}
	if st := c.nodes[old].store.Status(); st.Refusing != "" {
		t.Fatalf("it still refuses entries: %s", st.Refusing)
	}
	c.alive(c.all()...)
}

// A follower whose binary is below the level of a snapshot is not sent it, and the leader says so. The follower keeps
// what it has, and ends neither itself nor in a loop; with the newer binary it gets the snapshot.
func TestSnapshotAboveTheLevelIsNotSent(t *testing.T) {
	const old = 2
	c, upgrade := mixedCluster(t, old, 1, shortLog)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	before := c.agree(0, c.all()...)
	id := string(c.nodes[old].store.self.serverID())
	if err := c.nodes[old].store.groups[0].sm.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	c.stop(old)
	c.raise(0)
	for range 100 {
		c.put(0, 1000)
	}
	c.truncateLog(0, before.Index+2)
	c.truncateLog(1, before.Index+2)
	c.start(old)
	c.eventually("the leader says that it sends no snapshot", func() bool {
		st := c.nodes[c.leader(0)].store.Status()
		return len(st.Groups[0].NotSent) == 1 && strings.Contains(st.Groups[0].NotSent[0], id+" reads up to level 1") &&
			len(st.Troubles) == 1 && st.Ready && len(st.Reasons) == 0
	})
	time.Sleep(10 * testTimings.Heartbeat)
	if c.image(old, 0) != before || c.installs(old, "0") != 0 || c.leader(0) == old {
		t.Fatalf("state %+v, was %+v", c.image(old, 0), before)
	}
	c.put(0, 10)
	c.alive(c.all()...)
	c.stop(old)
	upgrade()
	c.start(old)
	c.ready(old)
	c.agree(0, c.all()...)
	c.installed(old, "0")
	if string(c.nodes[old].store.self.serverID()) != id {
		t.Fatal("it caught up as another server")
	}
	c.eventually("the leader has nothing to say any more", func() bool {
		return len(c.nodes[c.leader(0)].store.Status().Troubles) == 0
	})
}

// A receiver does not rely on its sender: a snapshot above its level ends after the head, and one that arrives while
// the group is held is not read at all. Raft sees neither, and the follower's log stays as it is.
func TestGuardRefusesSnapshotsAboveTheLevel(t *testing.T) {
	c := newCluster(t, 1, 1, func(_ int, o *Options) { o.Level = uint32(level.First) })
	c.start(0)
	c.ready(0)
	c.put(0, 10)
	g := c.nodes[0].store.groups[0]
	r := g.run.Load()
	refused := func(why error, read int) {
		t.Helper()
		b, _ := sampleStream(t, level.Real)
		answer := make(chan raft.RPCResponse, 1)
		term := r.raft.CurrentTerm()
		last, err := g.log.LastIndex()
		if err == nil {
			err = g.log.inner.StoreLog(&raft.Log{Index: last + 1, Term: term}) // never committed
		}
		if err != nil {
			t.Fatal(err)
		}
		// One that conflicts with the end of the log, and one that lies ahead of it.
		for _, index := range []uint64{last + 1, last + 50} {
			body := bytes.NewReader(b)
			req := &raft.InstallSnapshotRequest{
				Term: term, LastLogIndex: index, LastLogTerm: term + 1, Size: int64(len(b)),
			}
			rpc := raft.RPC{Command: req, RespChan: answer, Reader: body}
			if !g.engine.guard.install(r, rpc, req) {
				t.Fatal("Raft is given the snapshot")
			}
			if a := <-answer; !errors.Is(a.Error, why) || len(b)-body.Len() != read {
				t.Fatalf("answer %+v, %d bytes were read, want %d", a, len(b)-body.Len(), read)
			}
			if ok, _ := exists(c.nodes[0].fs, g.snaps.stagedDir()); ok || len(g.engine.restarts) > 0 {
				t.Fatal("something was staged, or the log is to be dropped")
			}
		}
	}
	refused(ErrTooNew, streamHead+streamLevel)
	if _, err := g.Propose(levelEntry(byte(level.Real))).Wait(context.Background()); !errors.Is(err, ErrTooNew) {
		t.Fatal(err)
	}
	refused(ErrTooNew, 0)
	c.eventually("the leadership is withdrawn, though nobody else could take it", func() bool {
		select {
		case l := <-g.Leadership():
			return !l.Leader
		default:
			return false
		}
	})
	ask := &request{From: string(c.nodes[0].store.self.serverID()), Inquiry: true}
	if _, err := g.members.join(ask); !errors.Is(err, ErrTooNew) {
		t.Fatalf("it says who is a member, and does not know: %v", err)
	}
	if _, err := g.fsm.Snapshot(); !errors.Is(err, ErrTooNew) {
		t.Fatalf("a local snapshot gave %v", err)
	}
	if err := g.fsm.Restore(nil); !errors.Is(err, ErrTooNew) || g.fsm.err() != nil {
		t.Fatalf("a snapshot that was on its way when the group was held gave %v, fatal %v", err, g.fsm.err())
	}
	c.alive(0)
}

// For the library a barrier has passed when what was before it was passed over. For the caller it has not.
func TestBarrierBehindAnEntryAboveTheLevel(t *testing.T) {
	c := newCluster(t, 1, 1, func(_ int, o *Options) { o.Level = uint32(level.First) })
	c.start(0)
	c.ready(0)
	c.put(0, 10)
	g := c.nodes[0].store.groups[0]
	sm, ok := g.sm.(*fakeState)
	if !ok {
		t.Fatalf("state machine %T", g.sm)
	}
	sm.mu.Lock() // nothing is applied
	entry, barrier := g.Propose(levelEntry(byte(level.Real))), make(chan error, 1)
	go func() { barrier <- g.Barrier(context.Background()) }()
	for g.proposer.pending.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	sm.mu.Unlock()
	if _, err := entry.Wait(context.Background()); !errors.Is(err, ErrTooNew) || !errors.Is(err, ErrUncertain) {
		t.Fatalf("the entry gave %v", err)
	}
	if err := <-barrier; !errors.Is(err, ErrTooNew) || !errors.Is(err, ErrNotLeader) {
		t.Fatalf("the barrier gave %v", err)
	}
}

// What is damaged is not waited for, whatever else it says.
func TestDamageIsNotTooNew(t *testing.T) {
	newer := fmt.Errorf("x: %w", newerError{2})
	for _, x := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {errors.New("x"), false}, {newer, true}, {fmt.Errorf("y: %w", ErrTooNew), true},
		{&level.TooNewError{What: "entry"}, true}, {errors.Join(newer, damageError{}), false},
	} {
		if isTooNew(x.err) != x.want {
			t.Errorf("%v: %v", x.err, !x.want)
		}
	}
}
