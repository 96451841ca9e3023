package deltalog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/store"
)

// TestSchedule: whatever a table's commits and checkpoints weigh, checkpoints are at least the interval apart, cost
// at most 2 % of the data, unless they are small or the tail behind the former one is as long as it may get, and no
// tail is longer than that. A table that says an interval has that.
func TestSchedule(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		s := newSnapshot(false, false, 0)
		per := rng.Int64N(1 << rng.IntN(24)) // bytes of a file
		entry := rng.Int64N(300)             // bytes of a checkpoint for a file
		every := int64(0)
		if rng.IntN(5) == 0 {
			every = 1 + rng.Int64N(50)
			s.setMetadata(&Metadata{Configuration: map[string]string{configCheckpointInterval: fmt.Sprint(every)}})
		}
		last, data, made := int64(0), int64(0), 0
		for v := range int64(5_000) {
			c := &commit{own: true}
			for range rng.IntN(4) {
				c.adds = append(c.adds, Add{Path: "f", Size: per})
				data += per
			}
			s.apply(c)
			n := v - last
			if !s.mine(10) {
				if every == 0 && n >= longestTail || every > 0 && n > 2*every {
					t.Fatalf("%d commits without a checkpoint", n)
				}
				continue
			}
			former, size := s.checkpointSize, 5_000+s.totals.files*entry
			switch {
			case every > 0:
				if v%every != 0 || n < every {
					t.Fatalf("a checkpoint after %d commits, the table says %d", n, every)
				}
			case n < 10, former > freeCheckpoint && former*dataPerCheckpoint > data && n < tail(former):
				t.Fatalf("a checkpoint after %d commits and %d bytes, the former one has %d", n, data, former)
			}
			s.learn(v, size, totals{})
			last, data, made = v, 0, made+1
		}
		if made == 0 {
			t.Fatal("no checkpoint")
		}
	}
}

// TestNodesShareCheckpoints: three nodes commit in turns, and each checkpoint is made once, although none of them
// tells the others. To find out costs one small read now and then, none per commit.
func TestNodesShareCheckpoints(t *testing.T) {
	for _, dead := range []bool{false, true} {
		mem := objects.NewMem(nil)
		var mu sync.Mutex
		puts, looks := 0, 0
		var nodes []*Log
		for i := range 3 {
			opts := writerOptions(mem)
			opts.Store = counting{mem, func(op, key string) error {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasSuffix(key, checkpointExt) && op == "put-if-absent" {
					if i == 0 && dead {
						return objects.ErrFault // this node never gets one done
					}
					puts++
				}
				if op == "get" && strings.HasSuffix(key, lastCheckpoint) || op == "list" {
					looks++
				}
				return nil
			}}
			nodes = append(nodes, open(t, opts))
		}
		looks = 0
		for v := int64(1); v <= 458; v++ {
			submit(t, nodes[v%3], &Change{Parts: on(nodes[v%3], fmt.Sprint("x", v%3), v), Last: true,
				Adds: []Add{{Path: fmt.Sprint("f", v), PartitionValues: map[string]string{"d": "2024-01-02"},
					Size: 95_000, DataChange: true}}})
			for _, l := range nodes {
				l.keeper.wait.Wait()
			}
		}
		if most, least := 46, 15; puts > most || puts < least {
			t.Errorf("a node is dead: %v: %d checkpoints in 458 commits, want %d to %d", dead, puts, least, most)
		}
		if looks > 3*46+60 {
			t.Errorf("a node is dead: %v: %d looks for checkpoints in 458 commits", dead, looks)
		}
		t.Logf("a node is dead: %v: %d checkpoints, %d looks", dead, puts, looks)
		fresh := open(t, writerOptions(mem))
		if s := snapshot(fresh); s.Len() != 458 || s.Version-s.Checkpoint > 30 {
			t.Errorf("%d files, version %d, checkpoint %d", s.Len(), s.Version, s.Checkpoint)
		}
	}
}

// counting calls a function before each request of one node.
type counting struct {
	*objects.Mem
	hook func(op, key string) error
}

func (c counting) Get(ctx context.Context, key string) ([]byte, error) {
	if err := c.hook("get", key); err != nil {
		return nil, err
	}
	return c.Mem.Get(ctx, key)
}

func (c counting) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := c.hook("put-if-absent", key); err != nil {
		return err
	}
	return c.Mem.PutIfAbsent(ctx, key, data)
}

func (c counting) List(ctx context.Context, prefix, after string, yield func(store.Info) error) error {
	if err := c.hook("list", prefix); err != nil {
		return err
	}
	return c.Mem.List(ctx, prefix, after, yield)
}

// TestThin: of a log over 60 days, the two newest checkpoints stay, all younger than two days, the first of each day,
// and of each thousand of the newest ten thousand versions; with a property all younger than that.
func TestThin(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var all []logObject
	var commits []int64
	for v := range int64(60 * 8640) {
		if commits = append(commits, v); v%100 != 0 {
			continue
		}
		at := start.Add(time.Duration(v) * 10 * time.Second)
		all = append(all, logObject{store.Info{Modified: at}, v})
	}
	newest := all[len(all)-1]
	before := newest.info.Modified.Add(-defaultCheckpointRetention)
	gone := map[int64]bool{}
	for _, c := range thin(all, commits[8640*10:], 8640*10, before) {
		gone[c.version] = true
	}
	days, spans := map[int64]bool{}, map[int64]bool{}
	for _, c := range all {
		want := c.version < 8640*10 || !c.info.Modified.Before(before)
		if !want {
			day, span := c.version/8640, c.version/nearSpacing
			want = !days[day] || newest.version-c.version < nearCommits && !spans[span]
		}
		days[c.version/8640], spans[c.version/nearSpacing] = true, true
		if gone[c.version] == want {
			t.Fatalf("version %d of %d: gone %v", c.version, newest.version, gone[c.version])
		}
	}
	if left := len(all) - 864 - len(gone); left < 60 || left > 250 {
		t.Errorf("%d checkpoints are left of 50 days", left)
	}
	if n := len(thin(all, commits, 0, start)); n != 0 {
		t.Errorf("%d are gone although all are to stay", n)
	}
	if n := len(thin(all[:2], commits, 0, newest.info.Modified)); n != 0 {
		t.Errorf("%d of two are gone", n)
	}
	// A commit is not in the log: the first checkpoint behind the hole stays, since no other one leads to its version.
	const hole = 20*8640 + 4321
	i := slices.Index(commits, hole)
	left := map[int64]bool{}
	for _, c := range thin(all, slices.Delete(slices.Clone(commits), i, i+1), 8640*10, before) {
		left[c.version] = true
	}
	for v := range gone {
		if behind := v > hole && v-hole <= 100; left[v] == behind {
			t.Errorf("version %d behind the hole at %d: gone %v", v, hole, left[v])
		}
	}
	if n := len(thin(all, nil, 8640*10, before)); n != 0 {
		t.Errorf("%d are gone from a log without commits", n)
	}
}

// TestTimeTravel: old checkpoints go before the retention ends, and each version within the retention can be read all
// the same: by a reader that knows no more than the log.
func TestTimeTravel(t *testing.T) {
	clock, mem, opts := overTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	l := open(t, opts)
	for v := int64(1); v <= 400; v++ {
		clock.Pass(time.Hour)
		c := &Change{Parts: on(l, "x", v), Last: true, Adds: []Add{add(fmt.Sprint("f", v), Origin{})}}
		if v > 5 {
			c.Removes = []string{live(l, fmt.Sprint("f", v-5)).Path}
		}
		submit(t, l, c)
		l.keeper.wait.Wait()
	}
	checkpoints := mem.Keys("t/" + logDir + "0")
	n := 0
	for _, k := range checkpoints {
		if strings.HasSuffix(k, checkpointExt) {
			n++
		}
	}
	if n < 18 || n > 24 { // one a day for 16.7 days, and those of the last two days
		t.Errorf("%d checkpoints are left", n)
	}
	for v := int64(0); v <= 400; v++ {
		past := objects.NewMem(nil)
		for _, k := range checkpoints {
			data, err := mem.Get(t.Context(), k)
			if at, _ := logName(strings.TrimPrefix(k, "t/"+logDir)); err == nil && at <= v {
				past.Overwrite(k, data)
			}
		}
		s := snapshot(open(t, Options{Store: past, Name: "t", KeepFiles: true}))
		if s.Version != v || int64(s.Len()) != min(v, 5) || v > 0 && s.File(fmt.Sprint("f", v)) == nil {
			t.Fatalf("version %d reads as %d with %d files", v, s.Version, s.Len())
		}
	}
}
