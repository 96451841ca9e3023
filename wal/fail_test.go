package wal

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// TestEveryFailure lets each operation of the file system that changes something fail, one per run. Then every call
// fails, OnFatal has been called once, and what was acknowledged is there after a power cut.
func TestEveryFailure(t *testing.T) {
	s := seed(t)
	failed := 0
	for nth := 1; ; nth++ {
		var seen int
		var hit *errorfs.Op
		mem := vfs.NewCrashableMem()
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
			if o.Kind.ReadOrWrite() == errorfs.OpIsRead {
				return nil
			}
			if seen++; seen == nth {
				hit = &o
				return errorfs.ErrInjected
			}
			return nil
		}))
		rng := newRand(s, 3)
		var fatal []error
		l, err := Open(context.Background(), options(fs, func(o *Options) {
			o.SegmentBytes = 2 << 10
			o.OnFatal = func(err error) { fatal = append(fatal, err) }
		}))
		if err != nil {
			if hit == nil || !errors.Is(err, errorfs.ErrInjected) {
				t.Fatalf("open: %v", err)
			}
			continue
		}
		models := []*model{newModel(), newModel()}
		var under *op
		for range 60 {
			id := rng.IntN(2)
			o := randomOp(rng, models[id], uint64(id))
			if err = o.call(l, l.Group(uint64(id))); err != nil {
				under = &o
				if !errors.Is(err, ErrFailed) || !errors.Is(err, errorfs.ErrInjected) {
					t.Fatalf("failure %d at %v: %s: %v", nth, hit, o.name, err)
				}
				break
			}
			for _, s := range o.steps {
				s(models[id])
			}
		}
		if under != nil {
			failed++
			g := l.Group(0)
			_, e1 := g.FirstIndex()
			_, e2 := g.Get([]byte("a"))
			for i, err := range []error{e1, e2, g.GetLog(1, new(raft.Log)), g.StoreLog(entry(1, 1, "")),
				g.DeleteRange(1, 1), g.Set([]byte("a"), nil), l.DropGroup(1), l.Close()} {
				if !errors.Is(err, ErrFailed) {
					t.Fatalf("failure %d at %v: call %d afterwards: %v", nth, hit, i, err)
				}
			}
			if len(fatal) != 1 || !errors.Is(fatal[0], ErrFailed) {
				t.Fatalf("failure %d at %v: OnFatal got %v", nth, hit, fatal)
			}
			if !l.Stats().Failed {
				t.Fatal("the statistics do not show the failure")
			}
		} else {
			// A file that cannot be removed is tried again later; in the last run nothing failed at all.
			if hit != nil && hit.Kind != errorfs.OpRemove && seen > nth {
				t.Fatalf("failure %d at %v went unnoticed", nth, hit)
			}
			closeErr := l.Close()
			if hit == nil || seen > nth {
				check(t, closeErr)
			} else if closeErr == nil {
				t.Fatalf("failure %d at %v in Close went unnoticed", nth, hit)
			}
		}
		x := crashed{fs: mem.CrashClone(vfs.CrashCloneCfg{}), acked: models, pending: []*op{under, under}}
		l = mustOpen(t, x.fs)
		for id := range models {
			if _, err := x.survivors(id, l.Group(uint64(id))); err != nil {
				t.Fatalf("failure %d at %v: group %d: %v", nth, hit, id, err)
			}
		}
		check(t, l.Close())
		if hit == nil {
			break
		}
	}
	if failed < 50 {
		t.Fatalf("only %d failures met a call", failed)
	}
}

// TestFailedSyncThenPowerCut: after a failed fsync the bytes may still be in memory, so that the next Open reads them.
// What it then shows must survive a power cut, though the old file may never be synced.
func TestFailedSyncThenPowerCut(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var fail atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
		if fail.Load() && o.Kind == errorfs.OpFileSyncData {
			return errorfs.ErrInjected
		}
		return nil
	}))
	l := mustOpen(t, fs)
	check(t, l.Group(1).StoreLog(entry(1, 1, "acknowledged")))
	fail.Store(true)
	err := l.Group(1).StoreLogs([]*raft.Log{entry(2, 1, "never"), entry(3, 1, "synced")})
	if !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	l = mustOpen(t, mem)
	shown, err := l.Group(1).LastIndex()
	check(t, err)
	if shown != 3 {
		t.Fatalf("last index is %d: the test does not test what it should", shown)
	}
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	check(t, l.Close())
	l = mustOpen(t, after)
	for i := uint64(1); i <= shown; i++ {
		if err := l.Group(1).GetLog(i, new(raft.Log)); err != nil {
			t.Errorf("entry %d was shown and is gone: %v", i, err)
		}
	}
	check(t, l.Close())
}

// TestDeletionIsOrdered: one truncation frees many segments. A crash at any moment of it, whichever of the folder's
// changes are kept, leaves a log that opens.
func TestDeletionIsOrdered(t *testing.T) {
	rng := newRand(seed(t), 4)
	mem := vfs.NewCrashableMem()
	var clones []*vfs.MemFS
	armed, unsynced := false, 0
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
		// The crashable file system never keeps one deletion and loses an earlier one; a disk may do so. So the
		// order itself is checked: no second deletion before the folder was synced.
		switch {
		case o.Kind == errorfs.OpRemove:
			if unsynced++; unsynced > 1 {
				t.Error("two deletions without a sync of the folder between them")
			}
		case o.Kind == errorfs.OpFileSync && o.Path == "wal":
			unsynced = 0
		}
		if armed && o.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			for range 4 {
				clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}))
			}
		}
		return nil
	}))
	l := mustOpen(t, fs, func(o *Options) { o.SegmentBytes = 1 << 10 })
	for i := range uint64(100) {
		check(t, l.Group(1).StoreLog(entry(i+1, 1, "some eighty bytes with the frame around them, or a few more")))
	}
	before := l.Stats().Segments
	armed = true
	check(t, l.Group(1).DeleteRange(1, 95))
	armed = false
	if after := l.Stats().Segments; before < 8 || after > 3 {
		t.Fatalf("%d segments before, %d after", before, after)
	}
	check(t, l.Close())
	for i, c := range clones {
		l, err := Open(context.Background(), options(c))
		if err != nil {
			t.Fatalf("crash %d of %d: %v", i, len(clones), err)
		}
		first, err := l.Group(1).FirstIndex()
		check(t, err)
		if last, _ := l.Group(1).LastIndex(); first != 1 && first != 96 || last != 100 {
			t.Errorf("crash %d: %d..%d", i, first, last)
		}
		check(t, l.Close())
	}
}

// TestReadErrorIsNotFatal: an entry that cannot be read now is an error of that call.
func TestReadErrorIsNotFatal(t *testing.T) {
	var fail atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
		if fail.Load() && o.Kind == errorfs.OpFileReadAt {
			return errorfs.ErrInjected
		}
		return nil
	}))
	l := mustOpen(t, fs, func(o *Options) { o.CacheBytes = -1 })
	check(t, l.Group(1).StoreLog(entry(1, 1, "a")))
	fail.Store(true)
	if err := l.Group(1).GetLog(1, new(raft.Log)); !errors.Is(err, errorfs.ErrInjected) {
		t.Fatal(err)
	}
	fail.Store(false)
	check(t, l.Group(1).GetLog(1, new(raft.Log)))
	check(t, l.Close())
}

func TestClosedAndLocked(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, fs)
	if _, err := Open(context.Background(), options(fs)); err == nil {
		t.Fatal("opened twice")
	}
	check(t, l.Group(1).StoreLog(entry(1, 1, "a")))
	check(t, l.Close())
	check(t, l.Close())
	g := l.Group(1)
	_, e1 := g.LastIndex()
	for i, err := range []error{
		e1, g.GetLog(1, new(raft.Log)), g.StoreLog(entry(2, 1, "")), g.Set([]byte("a"), nil), l.DropGroup(1),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, options(fs)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	l = mustOpen(t, fs) // the failed Open has released the lock
	check(t, l.Close())
}

func TestRefusals(t *testing.T) {
	l := mustOpen(t, vfs.NewMem())
	defer l.Close()
	g := l.Group(1)
	check(t, g.StoreLogs([]*raft.Log{entry(1, 1, ""), entry(2, 1, ""), entry(3, 1, "")}))
	if err := g.DeleteRange(2, 2); !errors.Is(err, ErrMiddle) {
		t.Error(err)
	}
	if err := g.StoreLog(&raft.Log{}); err == nil {
		t.Error("an entry without an index")
	}
	if err := g.Set(make([]byte, maxKeyBytes+1), nil); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if err := g.Set([]byte(keyTerm), []byte("short")); !errors.Is(err, errWidth) {
		t.Error(err)
	}
	check(t, g.Set([]byte("k"), []byte("short")))
	if _, err := g.GetUint64([]byte("k")); !errors.Is(err, errWidth) {
		t.Error(err)
	}
	if _, ok := any(g).(raft.MonotonicLogStore); ok {
		t.Error("it claims to be monotonic")
	}
	for name, o := range map[string]Options{"no FS": {Dir: "d"}, "no folder": {FS: vfs.NewMem()},
		"segment too small": {FS: vfs.NewMem(), Dir: "d", SegmentBytes: 1},
		"segment too large": {FS: vfs.NewMem(), Dir: "d", SegmentBytes: 2 << 30}} {
		if l, err := Open(context.Background(), o); err == nil {
			t.Error(name, l.Close())
		}
	}
	s := fmt.Sprint(&CorruptError{Segment: 3, Offset: 5, Err: errCRC})
	if s != "wal: corrupt: segment 0000000000000003, offset 5: checksum mismatch" {
		t.Error(s)
	}
}
