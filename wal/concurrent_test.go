package wal

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// gate is a file system whose fsyncs of records wait until they are allowed.
type gate struct {
	on      atomic.Bool
	waiting chan struct{}
	open    chan struct{}
}

func newGate() *gate { return &gate{waiting: make(chan struct{}), open: make(chan struct{})} }

func (g *gate) wrap(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(o errorfs.Op) error {
		if g.on.Load() && o.Kind == errorfs.OpFileSyncData {
			g.waiting <- struct{}{}
			<-g.open
		}
		return nil
	}))
}

// TestGroupCommit: while one fsync runs, all other calls queue, and the next fsync serves them all. No reader sees an
// entry before it is synced.
func TestGroupCommit(t *testing.T) {
	gate := newGate()
	l := mustOpen(t, gate.wrap(vfs.NewMem()))
	gate.on.Store(true)
	var wg sync.WaitGroup
	errs := make([]error, 7)
	store := func(id uint64) {
		wg.Go(func() { errs[id] = l.Group(id).StoreLogs([]*raft.Log{entry(1, 1, "a"), entry(2, 1, "b")}) })
	}
	store(0)
	<-gate.waiting
	for id := range uint64(6) {
		store(id + 1)
	}
	for l.Stats().UnsyncedCalls < 6 {
		runtime.Gosched()
	}
	if s := l.Stats(); s.UnsyncedBytes == 0 || s.SyncingSince.IsZero() || s.Fsyncs != 0 {
		t.Errorf("while syncing: %+v", s)
	}
	for id := range uint64(7) {
		if last, err := l.Group(id).LastIndex(); last != 0 || err != nil {
			t.Errorf("group %d shows %d before it is durable (%v)", id, last, err)
		}
	}
	gate.open <- struct{}{}
	<-gate.waiting
	gate.open <- struct{}{}
	wg.Wait()
	gate.on.Store(false)
	check(t, errors.Join(errs...))
	if s := l.Stats(); s.Fsyncs != 2 || s.EntriesWritten != 14 || s.EntriesPerFsync != 7 ||
		s.UnsyncedBytes != 0 || !s.SyncingSince.IsZero() {
		t.Errorf("afterwards: %+v", s)
	}
	check(t, l.Close())
}

// TestLateWrite: a write whose caller gave up is queued before the library's next call. Whatever that call is, the late
// entries do not survive it.
func TestLateWrite(t *testing.T) {
	for name, c := range map[string]struct {
		then func(*Group) error
		last uint64
		term uint64
	}{
		"the same index is stored again": {func(g *Group) error { return g.StoreLog(entry(3, 2, "new")) }, 3, 2},
		"the suffix is deleted":          {func(g *Group) error { return g.DeleteRange(2, 2) }, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			gate := newGate()
			fs := vfs.NewMem()
			l := mustOpen(t, gate.wrap(fs))
			g := l.Group(1)
			check(t, g.StoreLogs([]*raft.Log{entry(1, 1, "a"), entry(2, 1, "b")}))
			gate.on.Store(true)
			var wg sync.WaitGroup
			errs := make([]error, 3)
			wg.Go(func() { errs[0] = l.Group(2).StoreLog(entry(1, 1, "stalls")) })
			<-gate.waiting
			wg.Go(func() { errs[1] = g.StoreLogs([]*raft.Log{entry(3, 1, "late"), entry(4, 1, "late")}) })
			for l.Stats().UnsyncedCalls < 1 {
				runtime.Gosched()
			}
			wg.Go(func() { errs[2] = c.then(g) })
			for l.Stats().UnsyncedCalls < 2 {
				runtime.Gosched()
			}
			gate.on.Store(false)
			gate.open <- struct{}{}
			wg.Wait()
			check(t, errors.Join(errs...))
			for range 2 {
				var e raft.Log
				last, err := l.Group(1).LastIndex()
				check(t, err)
				check(t, l.Group(1).GetLog(last, &e))
				if last != c.last || e.Term != c.term {
					t.Errorf("last is %d of term %d, want %d of term %d", last, e.Term, c.last, c.term)
				}
				check(t, l.Close())
				l = mustOpen(t, fs)
			}
			check(t, l.Close())
		})
	}
}

// TestConcurrent runs writers, readers, truncation and statistics at the same time, for the race detector, and closes
// the log in the middle.
func TestConcurrent(t *testing.T) {
	const groups, entries = 6, 150
	fs := vfs.NewMem()
	reg := prometheus.NewRegistry()
	l := mustOpen(t, fs, func(o *Options) { o.CacheBytes, o.Registerer = 2_000, reg })
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	errs := make([]error, groups)
	for id := range uint64(groups) {
		g := l.Group(id)
		writers.Go(func() {
			for i := uint64(1); i <= entries; i++ {
				err := g.StoreLog(entry(i, 1, fmt.Sprint(id, ":", i, strings.Repeat(".", 200))))
				if i%40 == 0 {
					err = errors.Join(err, g.DeleteRange(1, i-20), g.SetUint64([]byte(keyTerm), i))
				}
				if err != nil {
					errs[id] = err
					return
				}
			}
		})
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				first, _ := g.FirstIndex()
				last, _ := g.LastIndex()
				for i := first; i <= last && i > 0; i++ {
					var e raft.Log
					err := g.GetLog(i, &e)
					foreign := err == nil && !strings.HasPrefix(string(e.Data), fmt.Sprint(id, ":", i, "."))
					if foreign || err != nil && err != raft.ErrLogNotFound {
						t.Errorf("group %d entry %d: %v %.20q", id, i, err, e.Data)
					}
				}
				l.Stats()
				l.Laggards(1 << 10)
				_, _ = reg.Gather()
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	check(t, errors.Join(errs...))
	assertConsistent(t, l)

	// Close lets the queued calls finish; later ones return ErrClosed. Nothing acknowledged is missing.
	acked := make([]uint64, groups)
	for id := range uint64(groups) {
		writers.Go(func() {
			for i := uint64(entries + 1); ; i++ {
				if err := l.Group(id).StoreLog(entry(i, 2, "x")); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
				acked[id] = i
			}
		})
	}
	for l.Stats().EntriesWritten < groups*entries+50 {
		runtime.Gosched()
	}
	check(t, l.Close())
	writers.Wait()
	l = mustOpen(t, fs)
	for id, want := range acked {
		if last, err := l.Group(uint64(id)).LastIndex(); err != nil || last != want && want > 0 {
			t.Errorf("group %d: last is %d, acknowledged was %d (%v)", id, last, want, err)
		}
	}
	check(t, l.Close())
}

// TestLaggards: once the groups delete what Laggards says, the log has the wanted length.
func TestLaggards(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), func(o *Options) { o.SegmentBytes = 1 << 10 })
	defer l.Close()
	check(t, l.Group(7).StoreLogs([]*raft.Log{entry(1, 1, "an"), entry(2, 1, "idle"), entry(3, 1, "group")}))
	for i := range uint64(60) {
		check(t, l.Group(8).StoreLog(entry(i+1, 1, strings.Repeat("b", 100))))
	}
	if lags := l.Laggards(l.Stats().Bytes); lags != nil {
		t.Fatalf("the log is short enough: %v", lags)
	}
	check(t, l.Group(8).DeleteRange(1, 20))
	const limit = 4 << 10
	before := l.Stats()
	lags := l.Laggards(limit)
	if before.Bytes <= limit || len(lags) != 2 || lags[0].Group != 8 || lags[1].Group != 7 {
		t.Fatalf("%d bytes, lags %v", before.Bytes, lags)
	}
	for _, lag := range lags {
		if lag.Group == 7 && (lag.First != 1 || lag.Through != 3 || lag.Bytes != l.Group(7).Bytes()) {
			t.Errorf("%+v", lag)
		}
		check(t, l.Group(lag.Group).DeleteRange(lag.First, lag.Through))
	}
	after := l.Stats()
	if after.Bytes > limit || l.Laggards(limit) != nil || after.SegmentsDeleted == 0 {
		t.Errorf("%d bytes remain, %v", after.Bytes, l.Laggards(limit))
	}
}

func TestSizes(t *testing.T) {
	l := mustOpen(t, vfs.NewMem())
	defer l.Close()
	g := l.Group(1)
	if g.Bytes() != 0 || g.MeanEntryBytes() != 0 {
		t.Error("an empty group has a size")
	}
	check(t, g.StoreLogs([]*raft.Log{entry(1, 1, strings.Repeat("a", 1000)), entry(2, 1, strings.Repeat("a", 3000))}))
	if b, m := g.Bytes(), g.MeanEntryBytes(); b < 4000 || b > 4200 || m != b/2 {
		t.Errorf("%d bytes, mean %d", b, m)
	}
	before := l.Stats().BytesWritten
	check(t, g.SetUint64([]byte(keyTerm), 5))
	wrote := l.Stats().BytesWritten
	check(t, g.SetUint64([]byte(keyTerm), 5))
	check(t, g.DeleteRange(3, 9))
	if again := l.Stats().BytesWritten; wrote == before || again != wrote {
		t.Errorf("wrote %d, %d, %d bytes: an unchanged value must not be written", before, wrote, again)
	}
}
