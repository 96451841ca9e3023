package raftstore

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// gate can stop a disk's syncs of the log.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil: open
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

func (g *gate) wait() {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

// gatedFS is fs with syncs of the log that wait at a gate.
func gatedFS(fs vfs.FS, g *gate) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if strings.Contains(op.Path, "wal") {
				g.wait()
			}
		}
		return nil
	}))
}

// gatedCluster is a cluster that has accepted entries. The syncs of each node's log wait at a gate; the store deadline
// is 300 ms.
func gatedCluster(t *testing.T) (c *cluster, gates *[3]gate) {
	t.Helper()
	c, gates = newCluster(t, 3, 1, nil), new([3]gate)
	c.tune = func(i int, o *Options) {
		o.Timings.StoreDeadline = 300 * time.Millisecond
		o.FS = gatedFS(c.nodes[i].fs, &gates[i])
	}
	t.Cleanup(func() {
		for i := range gates {
			gates[i].open()
		}
	})
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for range 20 {
		c.put(0, 10)
	}
	return c, gates
}

// A leader's disk stalls: the leader steps down after the deadline, another node leads, and when the disk works again
// the late write changes nothing.
func TestStalledDiskStepsDown(t *testing.T) {
	c, gates := gatedCluster(t)
	led := c.leader(0)
	g := c.nodes[led].store.Group(0)
	gates[led].close()
	f := g.Propose([]byte("stalls"))
	c.eventually("the leader with the stalled disk steps down", func() bool { return !g.IsLeader() })
	if _, err := f.Wait(t.Context()); !errors.Is(err, ErrUncertain) || !errors.Is(err, ErrStoreDeadline) {
		t.Fatalf("the stalled entry gave %v", err)
	}
	if lag := g.log.lag(); lag < 300*time.Millisecond {
		t.Fatalf("lag %v", lag)
	}
	var next int
	c.eventually("another node leads", func() bool {
		next = c.leader(0)
		return next != led
	})
	for range 20 {
		c.put(0, 10)
	}
	c.agree(0, c.others(led)...)
	gates[led].open()
	c.put(0, 10)
	c.agree(0, c.all()...)
	c.sameLog(next, led)
	c.kill(led)
	c.start(led)
	c.ready(led)
	c.put(0, 10)
	c.agree(0, c.all()...)
}

// A leader cannot store a change of the configuration. The library goes on with it in memory all the same; here it is
// given up, and the group has on every node the configuration that its log has.
func TestConfigurationThatWasNotStored(t *testing.T) {
	c, gates := gatedCluster(t)
	led := c.leader(0)
	before := c.config(led, 0)
	g := c.nodes[led].store.Group(0)
	first := g.run.Load()
	gates[led].close()
	removed := c.nodes[c.others(led)[0]].store.self.serverID()
	if err := first.raft.RemoveServer(removed, 0, time.Second).Error(); !errors.Is(err, ErrStoreDeadline) {
		t.Fatalf("the change gave %v", err)
	}
	gates[led].open()
	c.eventually("the group has a new instance", func() bool {
		r := g.run.Load()
		return r != nil && r != first
	})
	c.ready(c.all()...)
	for range 20 {
		c.put(0, 10)
	}
	c.agree(0, c.all()...)
	for _, i := range c.all() {
		if now := c.config(i, 0); !slices.Equal(now, before) {
			t.Errorf("node %d has %v, not %v", i, now, before)
		}
	}
}

// slowLog is an in-memory log whose writes wait at a gate.
type slowLog struct {
	*raft.InmemStore
	gate gate
	fail error
}

func (s *slowLog) Bytes() int64          { return 0 }
func (s *slowLog) MeanEntryBytes() int64 { return 0 }

func (s *slowLog) StoreLogs(logs []*raft.Log) error {
	s.gate.wait()
	return s.InmemStore.StoreLogs(logs)
}

// DeleteRange keeps InmemStore from walking to the greatest possible index.
func (s *slowLog) DeleteRange(lo, hi uint64) error {
	last, err := s.LastIndex()
	return errors.Join(err, s.InmemStore.DeleteRange(lo, min(hi, last)))
}

func (s *slowLog) GetLog(i uint64, e *raft.Log) error {
	if s.fail != nil {
		return s.fail
	}
	return s.InmemStore.GetLog(i, e)
}

func (s *slowLog) SetUint64(k []byte, v uint64) error {
	if s.fail != nil {
		return s.fail
	}
	return s.InmemStore.SetUint64(k, v)
}

func TestStoreDeadline(t *testing.T) {
	inner := &slowLog{InmemStore: raft.NewInmemStore()}
	l := newLogStore(inner, 50*time.Millisecond, time.Minute, func(err error) { t.Error(err) }, func(time.Duration) {})
	defer l.close()
	entries := func(term uint64, from, to uint64) (es []*raft.Log) {
		for i := from; i <= to; i++ {
			es = append(es, &raft.Log{Index: i, Term: term})
		}
		return es
	}
	if err := l.StoreLogs(entries(1, 1, 5)); err != nil {
		t.Fatal(err)
	}
	inner.gate.close()
	late := entries(1, 6, 9)
	if err := l.StoreLogs(late); !errors.Is(err, ErrStoreDeadline) {
		t.Fatalf("a stalled write gave %v", err)
	}
	late[0] = &raft.Log{Index: 99} // the caller's slice is its own again
	if err := l.StoreLogs(entries(2, 6, 6)); !errors.Is(err, ErrStoreDeadline) {
		t.Fatalf("a write behind a late one gave %v", err)
	}
	if err := l.DeleteRange(1, 2); !errors.Is(err, ErrStoreDeadline) {
		t.Fatalf("a deletion behind a late write gave %v", err)
	}
	inner.gate.open()
	// The late write is stored first, whole; what Raft, which knows of 5 entries, stores then follows it.
	deadline := time.Now().Add(10 * time.Second)
	var err error
	for err = l.StoreLogs(entries(2, 6, 7)); errors.Is(err, ErrStoreDeadline) && time.Now().Before(deadline); {
		err = l.StoreLogs(entries(2, 6, 7))
	}
	if err != nil {
		t.Fatal(err)
	}
	if term, _ := l.term(6); term != 2 {
		t.Fatalf("entry 6 has term %d", term)
	}
	// The in-memory log keeps the entries that follow; package wal makes them void.
	if last, _ := l.LastIndex(); last != 9 && last != 7 {
		t.Fatalf("the log ends at %d", last)
	}
	// Raft deletes a suffix up to the end that it knows; the rest of the late write is deleted with it.
	if err := l.DeleteRange(6, 7); err != nil {
		t.Fatal(err)
	}
	if term, _ := l.term(9); term != 0 {
		t.Fatal("the late write's rest is still there")
	}
	if err := l.GetLog(50, new(raft.Log)); err != raft.ErrLogNotFound {
		t.Fatalf("a missing entry gave %v", err)
	}
}

// An error that would make Raft panic is reported, and ends the goroutine that met it.
func TestFatalLogErrorEndsTheGoroutine(t *testing.T) {
	inner := &slowLog{InmemStore: raft.NewInmemStore(), fail: errors.New("unreadable")}
	var got error
	l := newLogStore(inner, time.Minute, time.Minute, func(err error) { got = err }, func(time.Duration) {})
	defer l.close()
	if err := l.GetLog(1, new(raft.Log)); !errors.Is(err, inner.fail) {
		t.Fatalf("before Raft runs: %v", err)
	}
	l.running.Store(true)
	for name, call := range map[string]func(){
		"read": func() { _ = l.GetLog(1, new(raft.Log)) },
		"term": func() { _ = stableStore{inner, l}.SetUint64([]byte("CurrentTerm"), 2) },
	} {
		got = nil
		returned := false
		var wg sync.WaitGroup
		wg.Go(func() {
			call()
			returned = true
		})
		wg.Wait()
		if returned || !errors.Is(got, inner.fail) {
			t.Errorf("%s: returned %v, reported %v", name, returned, got)
		}
	}
}

// A node whose log fails reports it once and stops; the process goes on, and so do the other nodes.
func TestFailedLogIsFatal(t *testing.T) {
	var broken [3]errorfs.Toggle
	c := newCluster(t, 3, 2, nil)
	c.tune = func(i int, o *Options) {
		broken[i].Injector = errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.Contains(op.Path, "wal") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				return errors.New("the disk is gone")
			}
			return nil
		})
		o.FS = errorfs.Wrap(c.nodes[i].fs, &broken[i])
	}
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.put(1, 10)
	led := c.leader(0)
	broken[led].On()
	_, _ = c.nodes[led].store.Group(0).Propose([]byte("x")).Wait(t.Context())
	select {
	case err := <-c.nodes[led].fatal:
		t.Log(err)
	case <-time.After(20 * time.Second):
		t.Fatal("no fatal error")
	}
	c.put(0, 10)
	c.put(1, 10)
	c.agree(0, c.others(led)...)
	s := c.nodes[led].store
	c.nodes[led].store = nil
	_ = s.shut() // it returns, with the log's error
	c.nodes[led].fs = c.nodes[led].fs.CrashClone(vfs.CrashCloneCfg{})
	broken[led].Off()
	c.start(led)
	c.ready(led)
	c.put(0, 10)
	c.agree(0, c.all()...)
}
