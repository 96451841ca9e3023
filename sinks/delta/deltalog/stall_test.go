package deltalog

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/store"
)

// stallStore stops answering reads in the middle of the body while reads is set, and commits while puts is.
type stallStore struct {
	*objects.Mem
	reads, puts atomic.Bool
}

func wait(ctx context.Context, stall *atomic.Bool) error {
	if stall.Load() {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (s *stallStore) Get(ctx context.Context, key string) ([]byte, error) {
	if err := wait(ctx, &s.reads); err != nil {
		return nil, err
	}
	return s.Mem.Get(ctx, key)
}

func (s *stallStore) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := wait(ctx, &s.puts); err != nil {
		return err
	}
	return s.Mem.PutIfAbsent(ctx, key, data)
}

func (s *stallStore) List(ctx context.Context, prefix, after string, yield func(store.Info) error) error {
	if err := wait(ctx, &s.reads); err != nil {
		return err
	}
	return s.Mem.List(ctx, prefix, after, yield)
}

// When a store stops answering, the changes that wait for it fail, and the log can commit once the store answers
// again.
func TestStalledStore(t *testing.T) {
	for _, stale := range []bool{false, true} { // by the GET of the next commit, by the LIST of the folder
		synctest.Test(t, func(t *testing.T) {
			mem := objects.NewMem(nil)
			st := &stallStore{Mem: mem}
			opts := writerOptions(mem)
			other := open(t, opts)
			opts.Store = st
			l, err := Open(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			// l must read this commit first.
			submit(t, other, &Change{Parts: on(other, "y", 1), Last: true, Adds: []Add{add("f1", Origin{})}})
			if stale {
				time.Sleep(2 * relistAfter)
			}
			st.reads.Store(true)
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			err = l.Submit(ctx, &Change{Parts: []Part{{AppID: "x", Version: 1}}, Last: true,
				Adds: []Add{add("f2", Origin{})}})
			if err == nil || ctx.Err() != nil || time.Since(start) > 10*time.Minute {
				t.Fatalf("after %v: %v", time.Since(start), err)
			}
			st.reads.Store(false)
			submit(t, l, &Change{Parts: []Part{{AppID: "x", Version: 1}}, Last: true, Adds: []Add{add("f2", Origin{})}})
			if s := snapshot(l); s.Version != 2 || s.Len() != 2 {
				t.Fatalf("%+v", s)
			}
			_, _ = other.Close(), l.Close()
		})
	}
}

// A store that does not answer holds up the end of a process for no more than two seconds, be it in a commit that
// nobody waits for any more or in a checkpoint.
func TestCloseWithAStalledStore(t *testing.T) {
	for _, what := range []string{"commit", "checkpoint"} {
		synctest.Test(t, func(t *testing.T) {
			st := &stallStore{Mem: objects.NewMem(nil)}
			opts := writerOptions(st.Mem)
			opts.Store, opts.CheckpointInterval = st, 1
			if what == "commit" {
				opts.CheckpointInterval = 100
			}
			l, err := Open(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			change := &Change{Parts: []Part{{AppID: "x", Version: 1}}, Last: true, Adds: []Add{add("f1", Origin{})}}
			if what == "commit" {
				st.puts.Store(true)
				ctx, cancel := context.WithCancel(t.Context())
				go func() { synctest.Wait(); cancel() }()
				if err := l.Submit(ctx, change); err == nil {
					t.Fatal("the store has answered")
				}
			} else {
				st.reads.Store(true)
				submit(t, l, change)
			}
			synctest.Wait()
			start := time.Now()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d != closePatience {
				t.Fatalf("%s: Close took %v", what, d)
			}
		})
	}
}
