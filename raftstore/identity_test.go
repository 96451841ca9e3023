package raftstore

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Whoever is about to create a cluster learns beforehand that there is one: from any other node that answers, also if
// this node's own folder is empty. Nodes that only wait for one another have none.
func TestClusterOf(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	ask := func(i int) string {
		return ClusterOf(t.Context(), Options{Name: c.peers[i].Name, Nodes: c.peers, Shards: 1, Timings: testTimings})
	}
	if got := ask(0); got != "" {
		t.Errorf("of nobody: %q", got)
	}
	c.start(1)
	if got := ask(0); got != "" {
		t.Errorf("of a node that waits for the others: %q", got)
	}
	c.start(0, 2)
	c.ready(c.all()...)
	c.stop(0)
	c.wipe(2)
	if got, want := ask(2), c.nodes[1].store.ClusterID(); got != want || want == "" {
		t.Errorf("of one member: %q, want %q", got, want)
	}
	if got := ask(1); got != "" {
		t.Errorf("a node asks itself: %q", got)
	}
}

// What is no cluster's id, whoever answers at a configured address, is no reason to believe in a cluster: the check of
// the topic would be left out, and the node would wait for a membership that nobody gives.
func TestClusterOfKnowsWhatIsNoID(t *testing.T) {
	for told, want := range map[string]string{"": "", "c1": "", "0123456789abcdeg": "", hex64(7): hex64(7)} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Name: "a", Nodes: []Peer{{"a", "127.0.0.1:1"}, {"b", ln.Addr().String()}}, Shards: 1,
			Timings: testTimings, Listener: ln, Logger: slog.New(slog.DiscardHandler)}
		peer := newNetwork(&o)
		if err := peer.listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		asked := 0
		peer.serve(func(_ header, _ string, c net.Conn) (byte, func()) {
			return answerOK, func() {
				defer func() { _ = c.Close() }()
				var req request
				resp := &response{ServerID: "b-0123456789abcdef", Cluster: told}
				if err := errors.Join(readFrame(c, &req), writeFrame(c, resp)); err != nil {
					t.Error(err)
				}
				asked++
			}
		})
		got := ClusterOf(t.Context(), o)
		peer.close()
		if got != want || asked != 1 {
			t.Errorf("told %q: %q, asked %d times", told, got, asked)
		}
	}
}

func TestWipedNodeRejoins(t *testing.T) {
	c := newCluster(t, 3, 2, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for range 30 {
		c.put(0, 100)
		c.put(1, 100)
	}
	cluster, former := c.nodes[2].store.ClusterID(), c.nodes[2].store.self.serverID()
	c.wipe(2)
	c.start(2)
	c.ready(2)
	s := c.nodes[2].store
	if s.ClusterID() != cluster {
		t.Fatalf("rejoined cluster %s, want %s", s.ClusterID(), cluster)
	}
	if s.self.serverID() == former || nodeOf(s.self.serverID()) != "c" {
		t.Fatalf("server id %s after %s", s.self.serverID(), former)
	}
	for shard := range uint32(2) {
		c.put(shard, 100)
		if got := c.agree(shard, c.all()...); got.Count < 31 {
			t.Fatalf("count %d", got.Count)
		}
		c.eventually("the former id is in no configuration", func() bool {
			ids := strings.Join(c.config(0, shard), ",")
			return len(c.config(0, shard)) == 3 && !strings.Contains(ids, string(former)) &&
				strings.Contains(ids, string(s.self.serverID())+" Voter")
		})
	}

	// A connection that means the former id is refused, for Raft and for control.
	p := c.peers[2]
	for _, h := range []header{
		{kindRaft, 0, string(former)}, {kindControl, 0, string(former)},
		{kindRaft, 0, string(c.nodes[0].store.self.serverID())}, {kindControl, 0, "a"},
	} {
		if _, err := c.nodes[0].store.net.dial(context.Background(), p.Addr, h); !errors.Is(err, errNotMe) {
			t.Errorf("dialling %q gave %v", h.target, err)
		}
	}
	conn, err := c.nodes[0].store.net.dial(context.Background(), p.Addr, header{kindRaft, 1, string(s.self.serverID())})
	if err != nil {
		t.Fatalf("dialling the present id: %v", err)
	}
	_ = conn.Close()

	// It restarts as the same server.
	now := s.self.serverID()
	c.kill(2)
	c.start(2)
	c.ready(2)
	if got := c.nodes[2].store.self.serverID(); got != now {
		t.Fatalf("restarted as %s, was %s", got, now)
	}
	// Its vote counts: with another node down, entries are still committed.
	c.stop(0)
	c.put(0, 10)
	c.put(1, 10)
}

// The whole folder of a former incarnation comes back after the node was replaced: it must not take part again.
func TestFormerFolderIsSuperseded(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.stop(2)
	old := c.nodes[2].fs
	c.wipe(2)
	c.start(2)
	c.ready(2)
	replaced := c.nodes[2].store.self.serverID()
	c.stop(2)
	c.nodes[2].fs = old
	c.start(2)
	select {
	case err := <-c.nodes[2].fatal:
		if !errors.Is(err, ErrSuperseded) {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the former folder goes on")
	}
	c.stop(2)
	c.start(2) // the folder is emptied, a third incarnation joins
	c.ready(2)
	if id := c.nodes[2].store.self.serverID(); id == replaced {
		t.Fatalf("server id %s again", id)
	}
	c.put(0, 10)
	c.agree(0, c.all()...)
}

func TestDamagedLog(t *testing.T) {
	damage := func(t *testing.T, fsys vfs.FS) {
		t.Helper()
		names, err := fsys.List("data/wal")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if !strings.HasSuffix(n, ".wal") {
				continue
			}
			f, err := fsys.OpenReadWrite("data/wal/"+n, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			st, _ := f.Stat()
			if st.Size() < 4000 {
				t.Fatalf("%s has %d bytes", n, st.Size())
			}
			for off := int64(2000); off < 2100; off++ {
				if _, err := f.WriteAt([]byte{0x5a}, off); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Fatal("no segment found")
	}
	t.Run("of one of three nodes", func(t *testing.T) {
		c := newCluster(t, 3, 1, nil)
		c.start(0, 1, 2)
		c.ready(c.all()...)
		for range 50 {
			c.put(0, 200)
		}
		c.agree(0, c.all()...)
		former := c.nodes[1].store.self.serverID()
		c.stop(1)
		damage(t, c.nodes[1].fs)
		c.start(1)
		c.ready(1)
		if id := c.nodes[1].store.self.serverID(); id == former {
			t.Fatalf("came back as %s with a damaged log", id)
		}
		c.put(0, 10)
		if got := c.agree(0, c.all()...); got.Count != 51 {
			t.Fatalf("count %d, want 51", got.Count)
		}
	})
	t.Run("of a single node", func(t *testing.T) {
		c := newCluster(t, 1, 1, nil)
		c.start(0)
		c.ready(0)
		for range 50 {
			c.put(0, 200)
		}
		c.stop(0)
		damage(t, c.nodes[0].fs)
		_, err := c.open(0)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "restore") {
			t.Fatalf("open gave %v", err)
		}
		t.Log(err)
		if ok, _ := exists(c.nodes[0].fs, "data/identity"); !ok {
			t.Fatal("the identity is gone")
		}
	})
	t.Run("shortened unnoticed", func(t *testing.T) { // the state is ahead of the log
		c := newCluster(t, 1, 1, nil)
		c.start(0)
		c.ready(0)
		for range 5 {
			c.put(0, 200)
		}
		if err := c.nodes[0].store.groups[0].sm.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
		c.stop(0)
		if err := c.nodes[0].fs.RemoveAll("data/wal"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.open(0); !errors.Is(err, ErrDamaged) {
			t.Fatalf("open gave %v", err)
		}
	})
}

func TestForeignFolder(t *testing.T) {
	c := newCluster(t, 3, 2, nil)
	c.start(0)
	c.stop(0)
	for name, tune := range map[string]func(int, *Options){
		"name":   func(_ int, o *Options) { o.Name = "b" },
		"shards": func(_ int, o *Options) { o.Shards = 3 },
		"nodes":  func(_ int, o *Options) { o.Nodes = o.Nodes[:1] },
	} {
		c.tune = tune
		if _, err := c.open(0); !errors.Is(err, ErrForeignFolder) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.tune = nil
	if err := c.nodes[0].fs.Remove("data/identity"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.open(0); !errors.Is(err, ErrForeignFolder) {
		t.Errorf("without identity: %v", err)
	}
}

// Any step of founding may be the last one before a power cut of all nodes.
func TestFoundingSurvivesCrashes(t *testing.T) {
	c := newCluster(t, 3, 3, nil)
	c.start(1, 2)
	for k := range 6 {
		c.start(0)
		// Crash the founder at a different moment each time.
		deadline := time.Now().Add(time.Duration(k*k*5) * time.Millisecond)
		c.eventually("some time passes", func() bool { return time.Now().After(deadline) })
		c.kill(0)
		if k%2 == 1 {
			c.kill(1)
			c.start(1)
		}
	}
	c.start(0)
	c.ready(c.all()...)
	for shard := range uint32(3) {
		c.put(shard, 10)
		c.agree(shard, c.all()...)
	}
	if a, b := c.nodes[0].store.ClusterID(), c.nodes[1].store.ClusterID(); a != b {
		t.Fatalf("clusters %s and %s", a, b)
	}
}

// A node whose folder is lost while it is being replaced, again and again.
func TestReplacementSurvivesCrashes(t *testing.T) {
	c := newCluster(t, 3, 3, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for shard := range uint32(3) {
		c.put(shard, 10)
	}
	for k := range 5 {
		c.wipe(1)
		c.start(1)
		deadline := time.Now().Add(time.Duration(k*60) * time.Millisecond)
		c.eventually("some time passes", func() bool { return time.Now().After(deadline) })
		if k%2 == 1 {
			c.kill(1) // and this time it keeps its folder
			c.start(1)
		}
	}
	c.ready(1)
	for shard := range uint32(3) {
		c.put(shard, 10)
		c.agree(shard, c.all()...)
		c.eventually("three voters", func() bool {
			ids := c.config(0, shard)
			return len(ids) == 3 && !strings.Contains(strings.Join(ids, ","), "Nonvoter")
		})
	}
}

func TestVoidFolderIsEmptiedAtAnyCrash(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	o := Options{FS: fsys, Dir: "d", Name: "a", Nodes: []Peer{{"a", "x:1"}, {"b", "x:2"}, {"c", "x:3"}}, Shards: 1,
		NewStateMachine: func(context.Context, uint32, string, func(error)) (StateMachine, error) { return nil, nil }}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	id, err := loadIdentity(&o)
	if err != nil {
		t.Fatal(err)
	}
	id.Cluster, id.Phase = "00000000000000aa", phaseVoid
	err = errors.Join(saveIdentity(&o, id), fsys.MkdirAll("d/wal", 0o755), fsys.MkdirAll("d/shard-0", 0o755))
	if err != nil {
		t.Fatal(err)
	}
	next, err := loadIdentity(&o)
	if err != nil {
		t.Fatal(err)
	}
	if next.Incarnation == id.Incarnation || next.Cluster != id.Cluster || next.Phase != phaseJoining {
		t.Fatalf("after a void folder: %+v", next)
	}
	for _, n := range []string{"d/wal", "d/shard-0"} {
		if ok, _ := exists(fsys, n); ok {
			t.Errorf("%s is still there", n)
		}
	}
	// What it has become is durable.
	o.FS = fsys.CrashClone(vfs.CrashCloneCfg{})
	again, err := loadIdentity(&o)
	if err != nil || again.Incarnation != next.Incarnation {
		t.Fatalf("after a crash: %+v %v", again, err)
	}
}
