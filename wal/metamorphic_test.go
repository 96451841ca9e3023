package wal

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestMetamorphic makes random calls of several groups, reopens the log now and then, and compares it with the naive
// model. The options differ from run to run and must make no difference.
func TestMetamorphic(t *testing.T) {
	base := seed(t)
	for run := range uint64(24) {
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			rng := newRand(base, run)
			fs := vfs.NewMem()
			vary := func(o *Options) {
				o.SegmentBytes = 1<<10 + rng.Int64N(32<<10)
				o.CacheBytes = []int64{-1, 500, 5_000, 1 << 20}[rng.IntN(4)]
			}
			l := mustOpen(t, fs, vary)
			models := make([]*model, 4)
			for id := range models {
				models[id] = newModel()
			}
			for step := range 400 {
				if rng.IntN(60) == 0 {
					check(t, l.Close())
					l = mustOpen(t, fs, vary)
					for id, m := range models {
						if d := m.differs(l.Group(uint64(id))); d != "" {
							t.Fatalf("step %d: after reopening, group %d: %s", step, id, d)
						}
					}
				}
				id := rng.Uint64N(uint64(len(models)))
				m, g := models[id], l.Group(id)
				o := randomOp(rng, m, id)
				if err := o.call(l, g); err != nil {
					t.Fatalf("step %d: group %d: %s: %v", step, id, o.name, err)
				}
				for _, s := range o.steps {
					s(m)
				}
				if d := m.differs(g); d != "" {
					t.Fatalf("step %d: group %d: after %s: %s", step, id, o.name, d)
				}
				assertConsistent(t, l)
			}
			check(t, l.Close())
		})
	}
}

// assertConsistent counts again what the table keeps as sums.
func assertConsistent(t *testing.T, l *Log) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	live := map[*segment]int{}
	for id, g := range l.table.groups {
		var bytes, cache int64
		for i, at := range g.locs {
			bytes += int64(at.len)
			live[at.seg]++
			if i > 0 && at.seg.seq < g.locs[i-1].seg.seq {
				t.Fatalf("group %d: entries are not in the order of the segments", id)
			}
		}
		for i, e := range g.cache {
			cache += entryMemory(e)
			if want := g.last() - uint64(len(g.cache)-1-i); e.Index != want {
				t.Fatalf("group %d: cache holds %d where %d belongs", id, e.Index, want)
			}
		}
		if bytes != g.bytes || cache != g.cacheBytes || cache > max(l.table.maxCache, 0) {
			t.Fatalf("group %d: %d bytes and %d cached, counted %d and %d, limit %d",
				id, g.bytes, g.cacheBytes, bytes, cache, l.table.maxCache)
		}
	}
	for _, s := range l.segments {
		if s.live != live[s] || s.refs != 0 {
			t.Fatalf("segment %d: %d live and %d refs, counted %d", s.seq, s.live, s.refs, live[s])
		}
		delete(live, s)
	}
	if len(live) > 0 {
		t.Fatalf("entries lie in %d segments that are gone", len(live))
	}
}
