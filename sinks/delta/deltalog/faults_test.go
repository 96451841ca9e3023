package deltalog

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/store"
)

// failing fails one request of a store: before it is done, or after it has taken effect.
type failing struct {
	*objects.Mem
	mu    sync.Mutex
	n, at int // requests so far, the one that fails
	after bool
}

func (f *failing) do(request func() error) error {
	f.mu.Lock()
	hit := f.n == f.at
	f.n++
	f.mu.Unlock()
	if hit && !f.after {
		return objects.ErrFault
	}
	err := request()
	if hit {
		return objects.ErrFault
	}
	return err
}

func (f *failing) Put(ctx context.Context, key string, data []byte) error {
	return f.do(func() error { return f.Mem.Put(ctx, key, data) })
}

func (f *failing) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return f.do(func() error { return f.Mem.PutIfAbsent(ctx, key, data) })
}

func (f *failing) PutStreamIfAbsent(ctx context.Context, key string, n int64, write func(io.Writer) error) error {
	return f.do(func() error { return f.Mem.PutStreamIfAbsent(ctx, key, n, write) })
}

func (f *failing) Get(ctx context.Context, key string) (data []byte, err error) {
	err = f.do(func() error { data, err = f.Mem.Get(ctx, key); return err })
	return data, err
}

func (f *failing) GetRange(ctx context.Context, key string, off int64, p []byte) (r store.Range, err error) {
	err = f.do(func() error { r, err = f.Mem.GetRange(ctx, key, off, p); return err })
	return r, err
}

func (f *failing) List(ctx context.Context, prefix, after string, yield func(store.Info) error) error {
	return f.do(func() error { return f.Mem.List(ctx, prefix, after, yield) })
}

func (f *failing) Delete(ctx context.Context, key string) error {
	return f.do(func() error { return f.Mem.Delete(ctx, key) })
}

var everyRequest = flag.Bool("every-request", false, "TestFaultAtEachRequest fails each request, not each 61st")

// TestFaultAtEachRequest: a table lives for seven weeks, with a commit every day, checkpoints, checksums and cleanups;
// each of its requests to the store fails once, before or after it has taken effect. Whatever is there at the end is
// right: each checkpoint, each checksum, and what is read from the newest checkpoint and from every older one.
func TestFaultAtEachRequest(t *testing.T) {
	const days = 50
	run := func(at int, after bool, inMemory int64) (requests int) {
		clock := objects.NewClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
		mem := objects.NewMem(clock.Now)
		st := &failing{Mem: mem, at: at, after: after}
		opts := writerOptions(mem)
		opts.Store, opts.Now, opts.CleanupInterval = st, clock.Now, time.Nanosecond
		opts.inMemory = inMemory
		l, err := Open(t.Context(), opts)
		if err != nil {
			l, err = Open(t.Context(), opts)
		}
		if err != nil {
			t.Fatal(err)
		}
		whole := objects.NewMem(nil) // every commit, also those that are deleted
		for v := int64(1); v <= days; v++ {
			clock.Pass(day)
			for {
				c := &Change{Parts: on(l, fmt.Sprint("a", v%3), v), Last: true,
					Adds: []Add{add(fmt.Sprintf("d=2024-01-02/f%d", v), Origin{true, 1, uint64(v), uint64(v) + 1})}}
				if f := live(l, fmt.Sprintf("d=2024-01-02/f%d", v-7)); f != nil {
					c.Removes = []string{f.Path}
				}
				if err := l.Submit(t.Context(), c); err == nil {
					break
				}
			}
			l.keeper.wait.Wait()
			if v == days/2 { // another process goes on
				_ = l.Close()
				if l, err = Open(t.Context(), opts); err != nil {
					l, err = Open(t.Context(), opts)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, k := range mem.Keys("t/" + logDir) {
				if data, err := mem.Get(t.Context(), k); err == nil && !strings.HasSuffix(k, lastCheckpoint) {
					whole.Overwrite(k, data)
				}
			}
		}
		_ = l.Close()
		if at >= 0 && st.n <= at {
			return st.n
		}
		for v := range int64(days + 1) {
			checkChecksum(t, whole, l, v)
			data, err := whole.Get(t.Context(), l.checkpointKey(v))
			if err != nil {
				continue
			}
			s := newSnapshot(true, false, 0)
			past := objects.NewMem(nil)
			past.Overwrite(l.checkpointKey(v), data)
			if err := (&folder{past, "t/"}).readCheckpoint(t.Context(), v, s); err != nil {
				t.Fatal(err)
			}
			want := slices.Sorted(maps.Keys(replay(t, whole, l, v).files))
			if got := names(s); !slices.Equal(got, want) {
				t.Fatalf("request %d, after %v: checkpoint %d has %v, want %v", at, after, v, got, want)
			}
		}
		last := snapshot(open(t, Options{Store: mem, Name: "t", KeepFiles: true}))
		if last.Version != days || last.Len() != 7 || last.Txns["a0"].Version != 48 || last.Checkpoint < 10 {
			t.Fatalf("request %d, after %v: %+v", at, after, last)
		}
		if _, err := mem.Get(t.Context(), l.commitKey(0)); err == nil && at < 0 {
			t.Fatal("nothing was cleaned")
		}
		return st.n
	}
	for _, inMemory := range []int64{1, 1 << 20} {
		n := run(-1, false, inMemory)
		step := 61
		switch {
		case *everyRequest:
			step = 1
		case testing.Short():
			step = 199
		}
		for at := 0; at < n; at += step {
			run(at, false, inMemory)
			run(at, true, inMemory)
		}
		t.Logf("%d requests", n)
	}
}
