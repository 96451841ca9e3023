package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	dto "github.com/prometheus/client_model/go"

	"deckle/cipherfs/cipherfstest"
	"deckle/schema/level"
	"deckle/wal"
)

func shortLog(_ int, o *Options) { o.LogBytes = 32 << 10 }

func (c *cluster) installs(i int, shard string) float64 {
	var m dto.Metric
	if err := c.nodes[i].store.met.install.WithLabelValues(shard).Write(&m); err != nil {
		c.t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// installed waits until a node has installed a snapshot: the state has it before the metric and the marker say so.
func (c *cluster) installed(i int, shard string) {
	c.t.Helper()
	c.eventually("a snapshot is installed", func() bool { return c.installs(i, shard) > 0 })
}

// truncate makes a checkpoint of a node's first group and truncates its log, whether that is due or not.
func (c *cluster) truncate(i int) error {
	m := c.nodes[i].store.groups[0].maintainer
	trailing, _, err := m.plan()
	if err != nil {
		return err
	}
	return m.truncate(trailing)
}

// truncateLog lets a node truncate its log now, and waits until the log begins behind index.
func (c *cluster) truncateLog(i int, index uint64) {
	c.t.Helper()
	g := c.nodes[i].store.groups[0]
	c.eventually(fmt.Sprintf("the log of %s begins behind %d", c.peers[i].Name, index), func() bool {
		_ = c.truncate(i)
		first, _ := g.log.FirstIndex()
		return first > index
	})
}

func TestFollowerFarBehindGetsSnapshot(t *testing.T) {
	c := newCluster(t, 3, 1, shortLog)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	behind := c.agree(0, c.all()...)
	c.kill(2)
	for range 300 {
		c.put(0, 1000)
	}
	c.truncateLog(0, behind.Index+1)
	c.truncateLog(1, behind.Index+1)

	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				c.put(0, 1000)
			}
		}
	})
	c.start(2)
	c.ready(2)
	c.eventually("the follower catches up under load", func() bool { return c.image(2, 0).Count > 300 })
	close(stop)
	wg.Wait()
	c.agree(0, c.all()...)
	c.installed(2, "0")
	if m := c.nodes[2].store.groups[0].snaps.marker(); m.Index <= behind.Index || len(m.Configuration.Servers) != 3 {
		t.Fatalf("marker %+v", m)
	}
	c.sameLog(0, 2)

	// It restarts from what was installed, and does so again after a power cut at once.
	for range 2 {
		c.kill(2)
		c.start(2)
		c.ready(2)
		c.put(0, 10)
		c.agree(0, c.all()...)
	}
	// Nothing of the copies stays on disk longer than it is needed.
	for i := range c.nodes {
		if err := c.nodes[i].store.groups[0].send.sweep(true); err != nil {
			t.Fatal(err)
		}
		names, err := c.nodes[i].fs.List("data/snapshots")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if !strings.HasPrefix(n, "marker-") {
				t.Errorf("node %d keeps %s", i, n)
			}
		}
	}
}

// sameLog compares the entries that two nodes hold, where both hold one.
func (c *cluster) sameLog(a, b int) {
	c.t.Helper()
	la, lb := c.nodes[a].store.groups[0].log.inner, c.nodes[b].store.groups[0].log.inner
	fa, _ := la.FirstIndex()
	fb, _ := lb.FirstIndex()
	ea, _ := la.LastIndex()
	eb, _ := lb.LastIndex()
	n := 0
	for i := max(fa, fb); i <= min(ea, eb); i++ {
		var x, y raft.Log
		if err := errors.Join(la.GetLog(i, &x), lb.GetLog(i, &y)); err != nil {
			c.t.Fatal(err)
		}
		if x.Term != y.Term || x.Type != y.Type || !bytes.Equal(x.Data, y.Data) {
			c.t.Fatalf("entry %d differs: term %d and %d", i, x.Term, y.Term)
		}
		n++
	}
	if n == 0 {
		c.t.Fatalf("nothing to compare: [%d, %d] and [%d, %d]", fa, ea, fb, eb)
	}
}

// A follower's log holds entries that were never committed, and reaches further than the snapshot that it needs, or not
// as far (hashicorp/raft #697, #704).
func TestFollowerLogConflictsWithSnapshot(t *testing.T) {
	for _, leftover := range []uint64{5, 500} {
		t.Run(fmt.Sprint(leftover, " entries"), func(t *testing.T) {
			c := newCluster(t, 3, 1, shortLog)
			c.start(0, 1, 2)
			c.ready(c.all()...)
			c.put(0, 10)
			c.agree(0, c.all()...)
			c.stop(2)
			// The entries that it would hold had it led alone for a moment.
			w, err := wal.Open(context.Background(), wal.Options{FS: cipherfstest.Over(c.nodes[2].fs), Dir: "data/wal"})
			if err != nil {
				t.Fatal(err)
			}
			g := w.Group(0)
			last, _ := g.LastIndex()
			var e raft.Log
			if err := g.GetLog(last, &e); err != nil {
				t.Fatal(err)
			}
			for i := range leftover {
				never := raft.Log{Index: last + 1 + i, Term: e.Term, Data: []byte("never committed")}
				if err := g.StoreLog(&never); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			// The others go on in a later term.
			led := c.leader(0)
			if led == 2 {
				t.Fatal("a stopped node leads")
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			c.eventually("the term changes", func() bool {
				led = c.leader(0)
				_ = c.nodes[led].store.groups[0].TransferLeadership(ctx, c.peers[1-led].Name)
				return c.nodes[led].store.groups[0].run.Load().raft.CurrentTerm() > e.Term
			})
			for range 200 {
				c.put(0, 1000)
			}
			c.truncateLog(0, last+10)
			c.truncateLog(1, last+10)
			// A new leader begins at its own end of the log; the old one still holds an append for the follower.
			c.eventually("the leader changes", func() bool {
				led := c.leader(0)
				return c.nodes[led].store.groups[0].TransferLeadership(ctx, c.peers[1-led].Name) == nil
			})
			c.start(2)
			c.put(0, 1000)
			c.agree(0, c.all()...)
			c.installed(2, "0")
			c.put(0, 10)
			c.agree(0, c.all()...)
			c.sameLog(0, 2)
			// It can lead, and send what it has.
			c.eventually("it leads", func() bool {
				led := c.leader(0)
				return led == 2 || c.nodes[led].store.groups[0].TransferLeadership(ctx, "c") == nil
			})
			c.put(0, 10)
			c.agree(0, c.all()...)
			c.kill(2)
			c.start(2)
			c.put(0, 10)
			c.agree(0, c.all()...)
		})
	}
}

// A snapshot of what a node already has is answered, not installed; an append from before the begin of its log is
// shortened.
func TestGuard(t *testing.T) {
	c := newCluster(t, 1, 1, shortLog)
	c.start(0)
	c.ready(0)
	for range 200 {
		c.put(0, 1000)
	}
	c.truncateLog(0, 10)
	g := c.nodes[0].store.groups[0]
	r := g.run.Load()
	before := c.image(0, 0)

	answer := make(chan raft.RPCResponse, 1)
	body := bytes.NewReader(make([]byte, 100))
	answered := g.engine.guard.install(r, raft.RPC{RespChan: answer, Reader: body}, &raft.InstallSnapshotRequest{
		Term: r.raft.CurrentTerm(), LastLogIndex: 20, LastLogTerm: 2, Size: 100,
	})
	if !answered || body.Len() != 0 {
		t.Fatalf("answered %v, %d bytes left unread", answered, body.Len())
	}
	if a := <-answer; a.Error != nil || !a.Response.(*raft.InstallSnapshotResponse).Success {
		t.Fatalf("answer %+v", a)
	}
	if g.engine.guard.install(r, raft.RPC{}, &raft.InstallSnapshotRequest{Term: 0, LastLogIndex: 20}) {
		t.Fatal("a snapshot of an old term was answered by the guard")
	}
	if c.image(0, 0) != before || c.installs(0, "0") != 0 {
		t.Fatal("it was installed")
	}

	known := g.fsm.known()
	term, _ := g.log.term(known)
	entries := func(from, to uint64) (es []*raft.Log) {
		for i := from; i <= to; i++ {
			es = append(es, &raft.Log{Index: i, Term: term})
		}
		return es
	}
	first, _ := g.log.FirstIndex()
	for _, x := range []struct {
		name       string
		prev, to   uint64
		wantPrev   uint64
		wantEntry1 uint64 // 0: none
	}{
		{"heartbeat", 0, 0, 0, 0},
		{"inside", first, first + 3, first, first + 1},
		{"from the very first", 0, known + 3, known, known + 1},
		{"all of it known", 3, 9, known, 0},
		{"right before the log", first - 1, known + 1, known, known + 1},
	} {
		req := &raft.AppendEntriesRequest{PrevLogEntry: x.prev, Entries: entries(x.prev+1, x.to)}
		g.engine.guard.shorten(req)
		var got uint64
		if len(req.Entries) > 0 {
			got = req.Entries[0].Index
		}
		if req.PrevLogEntry != x.wantPrev || got != x.wantEntry1 {
			t.Errorf("%s: previous %d, first entry %d, want %d and %d",
				x.name, req.PrevLogEntry, got, x.wantPrev, x.wantEntry1)
		}
	}
}

// A follower that was away for a while catches up from the log.
func TestTrailingEntriesServeALateFollower(t *testing.T) {
	c := newCluster(t, 3, 1, func(_ int, o *Options) { o.LogBytes = 256 << 10 })
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for range 200 {
		c.put(0, 1000)
	}
	c.agree(0, c.all()...)
	c.stop(2)
	for range 100 {
		c.put(0, 1000)
	}
	c.truncateLog(0, 10)
	c.truncateLog(1, 10)
	c.start(2)
	c.ready(2)
	c.put(0, 10)
	c.agree(0, c.all()...)
	if n := c.installs(2, "0"); n != 0 {
		t.Fatalf("%v snapshots installed", n)
	}
	for i := range c.nodes {
		c.eventually("the log is bounded", func() bool {
			return c.nodes[i].store.groups[0].log.inner.Bytes() <= 300<<10
		})
	}
}

// The marker's index may lie above the last command: a restart must not take that for damage.
func TestMarkerAboveLastCommand(t *testing.T) {
	c := newCluster(t, 1, 1, nil)
	c.start(0)
	c.ready(0)
	c.put(0, 10)
	g := c.nodes[0].store.Group(0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for range 3 {
		if err := g.Barrier(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.truncate(0); err != nil {
		t.Fatal(err)
	}
	if m := g.snaps.marker(); m.Index <= m.Applied || m.Applied != c.image(0, 0).Index {
		t.Fatalf("marker %+v, state %+v", m, c.image(0, 0))
	}
	c.kill(0)
	c.start(0)
	c.ready(0)
	c.put(0, 10)
	if got := c.image(0, 0).Count; got != 2 {
		t.Fatalf("count %d", got)
	}
	// A state machine that has lost what the marker promises is an error.
	if err := c.truncate(0); err != nil {
		t.Fatal(err)
	}
	c.stop(0)
	if err := c.nodes[0].fs.Remove("data/shard-0/state"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.open(0); !errors.Is(err, ErrDamaged) {
		t.Fatalf("open gave %v", err)
	}
}

// A group that writes little must not hold back the node's log for ever.
func TestLaggardIsTruncated(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	w, err := wal.Open(context.Background(), wal.Options{FS: fsys, Dir: "w", SegmentBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	quiet, busy := w.Group(0), w.Group(1)
	for i := range uint64(3) {
		if err := quiet.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: make([]byte, 10)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(100) {
		if err := busy.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := busy.DeleteRange(1, 95); err != nil {
		t.Fatal(err)
	}
	sm, _ := openFake(fsys, "s")
	l := &logStore{inner: quiet}
	m := &maintainer{sm: sm, fsm: &fsm{sm: sm, log: l, seen: 3}, log: l, send: &sender{busy: make(chan struct{}, 1)},
		laggards: w.Laggards, opts: &Options{LogBytes: 1 << 20, WALBytes: 8 << 10}}
	trailing, due, err := m.plan()
	if err != nil || !due || trailing != 0 {
		t.Fatalf("trailing %d, due %v, %v", trailing, due, err)
	}
	m.opts.WALBytes = math.MaxInt64
	if _, due, err := m.plan(); err != nil || due {
		t.Fatalf("due %v, %v without a reason", due, err)
	}
}

// A copy of a state whose log is still being replayed has the configuration of its own index: a leader without a quorum
// cannot wait until the replay is over.
func TestCopyWhileTheLogIsReplayed(t *testing.T) {
	w, err := wal.Open(context.Background(), wal.Options{FS: vfs.NewCrashableMem(), Dir: "w"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	of := func(id raft.ServerID) raft.Configuration {
		return raft.Configuration{Servers: []raft.Server{{ID: id, Address: "a"}}}
	}
	log := w.Group(0)
	for i := uint64(1); i <= 12; i++ {
		e := &raft.Log{Index: i, Term: 2}
		if i == 7 || i == 11 {
			e.Type, e.Data = raft.LogConfiguration, raft.EncodeConfiguration(of(raft.ServerID(fmt.Sprint(i))))
		}
		if err := log.StoreLog(e); err != nil {
			t.Fatal(err)
		}
	}
	f := &fsm{log: &logStore{inner: log}}
	f.begin(marker{Index: 3, Term: 1, Applied: 3, ConfigIndex: 1, Configuration: of("1")})
	for index, want := range map[uint64]uint64{5: 1, 7: 7, 10: 7, 12: 11} {
		d, err := f.describe(index, 2, marker{})
		if err != nil || d.Index != index || d.Term != 2 || d.ConfigIndex != want ||
			d.Configuration.Servers[0].ID != raft.ServerID(fmt.Sprint(want)) {
			t.Errorf("at %d: %+v, %v; want configuration %d", index, d, err, want)
		}
	}
	if _, err := f.describe(13, 2, marker{}); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("beyond the log: %v", err)
	}
}

// A crash interrupts an install at any of its steps.
func TestSwapInSurvivesCrashes(t *testing.T) {
	type step struct {
		name string
		do   func(s *snapshots, sm *fakeState, l *logStore) error
		want uint64 // the count afterwards
	}
	const have, get = 3, 9
	for _, x := range []step{
		{"nothing received", func(*snapshots, *fakeState, *logStore) error { return nil }, have},
		{"half received", func(s *snapshots, _ *fakeState, _ *logStore) error {
			if err := s.fs.MkdirAll(s.stagedFiles(), 0o755); err != nil {
				return err
			}
			return writeFile(s.fs, s.fs.PathJoin(s.stagedFiles(), "state"), []byte("half"))
		}, have},
		{"received", func(s *snapshots, _ *fakeState, _ *logStore) error { return receive(s, get) }, get},
		{"restored", func(s *snapshots, sm *fakeState, _ *logStore) error {
			return errors.Join(receive(s, get), sm.Restore(s.stagedFiles()))
		}, get},
		{"marked", func(s *snapshots, sm *fakeState, _ *logStore) error {
			var m marker
			return errors.Join(receive(s, get), sm.Restore(s.stagedFiles()), readSealed(s.fs, s.stagedMeta(), &m),
				s.setMarker(m))
		}, get},
		{"taken over", func(s *snapshots, sm *fakeState, l *logStore) error {
			_, err := s.takeOver(sm, l)
			return errors.Join(receive(s, get), err)
		}, get},
	} {
		t.Run(x.name, func(t *testing.T) {
			fsys := vfs.NewCrashableMem()
			s, sm, l, done := openParts(t, fsys)
			if x.name == "taken over" {
				if err := receive(s, get); err != nil {
					t.Fatal(err)
				}
				if _, err := s.takeOver(sm, l); err != nil {
					t.Fatal(err)
				}
			} else {
				for i := range uint64(have) {
					e := &raft.Log{Index: i + 1, Term: 1, Data: []byte("x")}
					if err := l.inner.StoreLog(e); err != nil {
						t.Fatal(err)
					}
					if _, err := sm.Apply(e.Index, e.Term, e.Data); err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(sm.Checkpoint(context.Background()), x.do(s, sm, l)); err != nil {
					t.Fatal(err)
				}
			}
			after := fsys.CrashClone(vfs.CrashCloneCfg{})
			done()
			s, sm, l, done = openParts(t, after)
			defer done()
			if err := s.finish(sm, l); err != nil {
				t.Fatal(err)
			}
			if err := checkPromises(sm, l, s.marker(), 0); err != nil {
				t.Fatal(err)
			}
			if got := sm.image().Count; got != x.want {
				t.Fatalf("count %d, want %d", got, x.want)
			}
			if x.want == get {
				if last, _ := l.LastIndex(); s.marker().Index != get+2 || last != 0 {
					t.Fatalf("marker %+v, log ends at %d", s.marker(), last)
				}
			}
			if ok, _ := exists(after, s.stagedDir()); ok {
				t.Fatal("the staged folder is still there")
			}
		})
	}
}

// receive stages the snapshot of a state of n commands, at an index two above the last.
func receive(s *snapshots, n uint64) error {
	other := vfs.NewMem()
	sm, err := openFake(other, "o")
	if err != nil {
		return err
	}
	for i := range n {
		if _, err := sm.Apply(i+1, 1, []byte("y")); err != nil {
			return err
		}
	}
	index, term, err := sm.Snapshot("copy")
	if err != nil {
		return err
	}
	man := manifest{applied: index, term: term}
	if err := man.scan(other, "copy", ""); err != nil {
		return err
	}
	k, err := s.Create(1, n+2, 1, raft.Configuration{Servers: []raft.Server{{ID: "a-1", Address: "x"}}}, 1, nil)
	if err != nil {
		return err
	}
	if err := man.write(k, other, "copy"); err != nil {
		return errors.Join(err, k.Cancel())
	}
	if err := k.Close(); err != nil {
		return err
	}
	_, rc, err := s.Open(k.ID())
	if err != nil {
		return err
	}
	return rc.Close()
}

func openParts(t *testing.T, fsys vfs.FS) (*snapshots, *fakeState, *logStore, func()) {
	t.Helper()
	w, err := wal.Open(context.Background(), wal.Options{FS: fsys, Dir: "d/wal"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSnapshots(fsys, "d/snapshots", 0, level.Current)
	if err != nil {
		t.Fatal(err)
	}
	sm, err := openFake(fsys, "d/shard-0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLogStore(w.Group(0), time.Minute, time.Minute, func(error) {}, func(time.Duration) {})
	return s, sm, l, func() { l.close(); _ = w.Close() }
}

func TestCancelledSnapshotLeavesNothing(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	s, _, _, done := openParts(t, fsys)
	defer done()
	k, err := s.Create(1, 5, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(k, "DKSN"); err != nil {
		t.Fatal(err)
	}
	if err := k.Cancel(); err != nil {
		t.Fatal(err)
	}
	if ok, _ := exists(fsys, s.stagedDir()); ok {
		t.Fatal("a staged folder is left")
	}
	if k, err = s.Create(1, 5, 1, raft.Configuration{}, 1, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Write([]byte("no snapshot at all, but long enough")); err == nil {
		err = k.Close()
		if !errors.Is(err, ErrStream) {
			t.Fatalf("garbage was taken: %v", err)
		}
	}
}
