package deltalog

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"deckle/sim/testworld/objects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testFields = []Field{{Name: "k", Type: "string"}, {Name: "v", Type: "long"}, {Name: "d", Type: "date"}}

func writerOptions(mem *objects.Mem) Options {
	return Options{
		Store: mem, Name: "t", Node: "n1", KeepFiles: true, Rand: rand.Reader,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Create: &Creation{ClusterID: "c1", Pipeline: "p", Fields: testFields, PartitionColumns: []string{"d"},
			StatsColumns: []string{"k"}},
	}
}

// overTime returns the options of a writer that cleans the log at every checkpoint, its store, and the clock of both.
func overTime(at time.Time) (*objects.Clock, *objects.Mem, Options) {
	clock := objects.NewClock(at)
	mem := objects.NewMem(clock.Now)
	opts := writerOptions(mem)
	opts.Now, opts.CleanupInterval = clock.Now, time.Nanosecond
	return clock, mem, opts
}

func open(t *testing.T, opts Options) *Log {
	t.Helper()
	l, err := Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func add(path string, o Origin) Add {
	return Add{Path: path, PartitionValues: map[string]string{"d": "2024-01-02"}, Size: 1, DataChange: true,
		Stats: `{"numRecords":3}`, Tags: o.Tags()}
}

// on is the one part of a change that is made on what the log has read.
func on(l *Log, appID string, version int64) (parts []Part) {
	l.View(func(s *Snapshot) { parts = []Part{s.Part(appID, version)} })
	return parts
}

func submit(t *testing.T, l *Log, c *Change) {
	t.Helper()
	if err := l.Submit(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

func snapshot(l *Log) (s Snapshot) {
	l.View(func(x *Snapshot) { s = *x })
	return s
}

func live(l *Log, path string) (f *File) {
	l.View(func(s *Snapshot) { f = s.File(path) })
	return f
}

// tombstones are the removed files in a checkpoint.
func tombstones(t *testing.T, mem *objects.Mem, l *Log, v int64) (paths []string) {
	t.Helper()
	data, err := mem.Get(t.Context(), l.checkpointKey(v))
	if err == nil {
		err = eachCheckpointRow("c", data, func(r *checkpointRow) error {
			if r.Remove != nil {
				paths = append(paths, r.Remove.Path)
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestSubmit(t *testing.T) {
	mem := objects.NewMem(nil)
	a, b := open(t, writerOptions(mem)), open(t, writerOptions(mem))
	ctx := context.Background()
	file := live

	submit(t, a, &Change{Parts: on(a, "x", 5), Last: true, Adds: []Add{add("f1", Origin{true, 1, 0, 5})}, Rows: 3})
	submit(t, a, &Change{Parts: on(a, "x", 5), Last: true, Adds: []Add{add("f2", Origin{})}}) // known to be done
	// b finds out that the change is done when it loses the race.
	submit(t, b, &Change{Parts: on(b, "x", 4), Last: true, Adds: []Add{add("f3", Origin{})}})
	if s := snapshot(b); s.Version != 1 || s.Len() != 1 || s.Txns["x"].Version != 5 ||
		s.Txns["x"].LastUpdated == nil {
		t.Fatalf("%+v", s)
	}
	// A commit of a meets one of b at the same version and takes the next version.
	submit(t, b, &Change{Parts: on(b, "y", 1), Last: true, Adds: []Add{add("f4", Origin{true, 2, 0, 1})}})
	submit(t, a, &Change{Parts: on(a, "x", 6), Last: true, Adds: []Add{add("f5", Origin{true, 1, 5, 6})}})
	if s := snapshot(a); s.Version != 3 || s.Len() != 3 {
		t.Fatalf("%+v", s)
	}
	// A file that a change removes is already gone: the change must be made again.
	f1 := file(a, "f1")
	if err := b.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	submit(t, a, &Change{Parts: on(a, "r", 1), Removes: []string{f1.Path}, Adds: []Add{add("f1b", f1.Origin)}})
	err := b.Submit(ctx, &Change{Parts: on(b, "r", 1), Removes: []string{f1.Path}, Adds: []Add{add("f1c", f1.Origin)}})
	if !errors.Is(err, ErrRebuild) {
		t.Fatalf("a file was removed twice: %v", err)
	}
	// The guard sees what came after the version that was read, and nothing else.
	guard := []Place{{Partition: "2024-01-02", Shard: 1, Epochs: []uint64{3}}}
	read := snapshot(b).Version
	submit(t, a, &Change{Parts: on(a, "x", 7), Last: true, Adds: []Add{add("f6", Origin{true, 1, 6, 7})}})
	submit(t, b, &Change{Parts: on(b, "r", 1), Adds: []Add{add("ins1", Origin{true, 1, 2, 3})}, Guard: guard,
		ReadVersion: read})
	err = a.Submit(ctx, &Change{Parts: on(a, "r", 1), Adds: []Add{add("ins2", Origin{true, 1, 2, 3})}, Guard: guard,
		ReadVersion: read})
	if !errors.Is(err, ErrRebuild) {
		t.Fatalf("the guard was not asked: %v", err)
	}
	submit(t, a, &Change{Parts: on(a, "r", 1), Last: true})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Submit(ctx, &Change{Parts: on(a, "x", 8)}); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}

// Changes that are submitted during a commit go into the next one together, and commitInfo names the node.
func TestGroupedCommits(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	inPut, release := make(chan struct{}), make(chan struct{})
	mem.SetHook(func(op, key string) error {
		if op == "put-if-absent" && strings.HasSuffix(key, "1.json") {
			inPut <- struct{}{}
			<-release
		}
		return nil
	})
	errs := make(chan error)
	go func() {
		errs <- l.Submit(context.Background(), &Change{Parts: []Part{{AppID: "s0", Version: 1}}, Last: true,
			Adds: []Add{add("a0", Origin{})}})
	}()
	<-inPut
	gone, cancel := context.WithCancel(context.Background())
	for i := 1; i <= 4; i++ {
		ctx := context.Background()
		if i == 4 {
			ctx = gone
		}
		go func() {
			errs <- l.Submit(ctx, &Change{Parts: []Part{{AppID: fmt.Sprintf("s%d", i), Version: 1}}, Last: true,
				Adds: []Add{add(fmt.Sprintf("a%d", i), Origin{})}})
		}()
	}
	for queued := 0; queued < 4; { // until all four wait
		l.committer.mu.Lock()
		queued = len(l.committer.queue)
		l.committer.mu.Unlock()
	}
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(release)
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	data, err := mem.Get(context.Background(), "t/_delta_log/00000000000000000002.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCommit("2", data)
	if err != nil || len(c.txns) != 3 || len(c.adds) != 3 || !strings.Contains(string(data), `"deckleNode":"n1"`) {
		t.Fatalf("%s: %v", data, err)
	}
	if s := snapshot(l); s.Version != 2 || s.Txns["s4"].Version != 0 {
		t.Fatalf("a withdrawn change was committed: %+v", s)
	}
}

// After an answer to the PUT of a commit that does not tell the outcome, the writer finds the outcome by reading back.
func TestAmbiguousAnswers(t *testing.T) {
	for name, f := range map[string]objects.Faults{
		"answer lost": {Lost: 1}, "own object": {OwnTwice: 1}, "503 at times": {Before: 0.5}, "late": {Late: 0.5},
		"all": {Before: 0.2, Lost: 0.3, OwnTwice: 0.3, Late: 0.2},
	} {
		t.Run(name, func(t *testing.T) {
			mem := objects.NewMem(nil)
			l := open(t, writerOptions(mem))
			mem.SetFaults(3, f)
			for v := int64(1); v <= 30; v++ {
				for {
					err := l.Submit(context.Background(),
						&Change{Parts: on(l, "x", v), Last: true, Adds: []Add{add(fmt.Sprintf("f%d", v), Origin{})}})
					if err == nil {
						break
					}
					if !errors.Is(err, objects.ErrFault) {
						t.Fatal(err)
					}
				}
			}
			mem.SetFaults(0, objects.Faults{})
			if s := snapshot(open(t, writerOptions(mem))); s.Version != 30 || s.Len() != 30 {
				t.Fatalf("version %d, %d files", s.Version, s.Len())
			}
		})
	}
}

func TestCheckpointAndCleanup(t *testing.T) {
	clock, mem, opts := overTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	l := open(t, opts)
	ctx := context.Background()
	alive := map[string]bool{}
	step := func(v int64) {
		t.Helper()
		path := fmt.Sprintf("d=2024-01-02/f%d", v)
		c := &Change{Parts: on(l, fmt.Sprintf("a%d", v%3), v), Last: true,
			Adds: []Add{add(path, Origin{true, 1, uint64(v), uint64(v) + 1})}}
		alive[path] = true
		if v%4 == 0 {
			old := fmt.Sprintf("d=2024-01-02/f%d", v-2)
			c.Removes = []string{live(l, old).Path}
			delete(alive, old)
		}
		submit(t, l, c)
		l.keeper.wait.Wait()
		clock.Pass(24 * time.Hour)
	}
	for v := int64(1); v <= 25; v++ {
		step(v)
	}
	replayed := newSnapshot(true, true, 0)
	if err := l.readCommits(ctx, 0, 25, replayed.apply); err != nil {
		t.Fatal(err)
	}
	check := func(s Snapshot) {
		t.Helper()
		if s.Len() != len(alive) {
			t.Errorf("%d files, want %d", s.Len(), len(alive))
		}
		for p := range alive {
			f := s.File(p)
			if f == nil {
				t.Fatalf("%s is lost", p)
			}
			if r := replayed.File(p); r != nil &&
				(f.Stats != r.Stats || f.Origin != r.Origin || f.Partition != r.Partition || f.Size != r.Size ||
					f.NumRecords != 3) {
				t.Errorf("%+v, want %+v", f, r)
			}
		}
		if a, b := fmt.Sprint(s.Metadata.ID, s.Metadata.Configuration, s.Metadata.SchemaString, *s.Protocol),
			fmt.Sprint(replayed.Metadata.ID, replayed.Metadata.Configuration, replayed.Metadata.SchemaString,
				*replayed.Protocol); a != b {
			t.Errorf("%s\nwant %s", a, b)
		}
		for i := range 3 {
			id := fmt.Sprintf("a%d", i)
			var want int64
			for v := s.Version; v > 0 && want == 0; v-- {
				if v%3 == int64(i) {
					want = v
				}
			}
			if s.Txns[id].Version != want || s.Txns[id].LastUpdated == nil {
				t.Errorf("%s: %+v, want %d", id, s.Txns[id], want)
			}
		}
	}
	read := Options{Store: mem, Name: "t", KeepFiles: true, KeepStats: true}
	if s := snapshot(open(t, read)); s.Checkpoint != 20 {
		t.Fatalf("read from checkpoint %d", s.Checkpoint)
	} else {
		check(s)
	}
	// The checkpoint holds only the tombstones of the week before it.
	if got := strings.Join(tombstones(t, mem, l, 20), " "); got != "d=2024-01-02/f14 d=2024-01-02/f18" {
		t.Fatalf("tombstones %q", got)
	}
	data, err := mem.Get(ctx, l.checkpointKey(20))
	if err != nil {
		t.Fatal(err)
	}
	// A hint that is missing, empty, wrong or too new, and a damaged checkpoint: the table is read all the same.
	hint := "t/" + lastCheckpoint
	for _, h := range []string{"", "{", `{"version":7}`, `{"version":99}`, `{"version":-1}`, `{"version":20}`} {
		mem.Overwrite(hint, []byte(h))
		check(snapshot(open(t, read)))
	}
	if err := mem.Delete(ctx, hint); err != nil {
		t.Fatal(err)
	}
	check(snapshot(open(t, read)))
	mem.Overwrite(l.checkpointKey(20), data[:len(data)/2])
	if s := snapshot(open(t, read)); s.Checkpoint != 10 {
		t.Fatalf("read from checkpoint %d", s.Checkpoint)
	} else {
		check(s)
	}
	mem.Overwrite(l.checkpointKey(20), data)
	// On 27 February the retention's cutoff is 28 January, which is commit 27. The newest checkpoint up to it is 20.
	for v := int64(26); v <= 60; v++ {
		step(v)
	}
	keys := mem.Keys("t/_delta_log/0")
	if keys[0] != l.checkpointKey(20) || keys[1] != l.checksumKey(20) || keys[2] != l.commitKey(20) {
		t.Fatalf("the log begins with %q", keys[:3])
	}
	check(snapshot(open(t, read)))
	// A commit that is missing in the middle gives an error with its name, never a shorter table.
	if err := mem.Delete(ctx, l.commitKey(55)); err != nil {
		t.Fatal(err)
	}
	for v := int64(30); v <= 60; v += 10 {
		_ = mem.Delete(ctx, l.checkpointKey(v))
	}
	var bad *CorruptionError
	if _, err := Open(ctx, read); !errors.As(err, &bad) || bad.Key != l.commitKey(55) {
		t.Fatalf("a gap: %v", err)
	}
}

// A writer that has slept for longer than the retention must not take a deleted version for a free one.
func TestCleanedPastASleeper(t *testing.T) {
	clock, mem, opts := overTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	sleeper, l := open(t, opts), open(t, opts)
	for v := int64(1); v <= 50; v++ {
		submit(t, l, &Change{Parts: on(l, "a", v), Last: true, Adds: []Add{add(fmt.Sprintf("f%d", v), Origin{})}})
		l.keeper.wait.Wait()
		clock.Pass(24 * time.Hour)
	}
	if mem.Keys("t/_delta_log/0")[0] == l.commitKey(0) {
		t.Fatal("nothing was cleaned")
	}
	submit(t, sleeper, &Change{Parts: on(sleeper, "b", 1), Last: true, Adds: []Add{add("late", Origin{})}})
	if s := snapshot(open(t, opts)); s.Version != 51 || s.File("late") == nil {
		t.Fatalf("version %d, late: %v", s.Version, s.File("late"))
	}
}

func TestStats(t *testing.T) {
	long := strings.Repeat("ä", 31)
	for in, want := range map[string]string{
		"":                                     "",
		strings.Repeat("b", 32):                strings.Repeat("b", 32),
		strings.Repeat("b", 33):                strings.Repeat("b", 32) + "\u007f",
		strings.Repeat("b", 32) + "ä":          strings.Repeat("b", 32) + "\U0010FFFF",
		strings.Repeat("b", 32) + "\u007f":     strings.Repeat("b", 32) + "\U0010FFFF",
		long + "😀x":                            long + "\U0010FFFF", // a surrogate pair does not fit and is not split
		strings.Repeat("\U0010FFFF", 17):       strings.Repeat("\U0010FFFF", 17),
		strings.Repeat("\U0010FFFF", 17) + "a": strings.Repeat("\U0010FFFF", 17) + "\u007f",
	} {
		got, ok := truncateMax(in)
		if !ok || got != want || got < in {
			t.Errorf("truncateMax(%q) = %q, %v, want %q", in, got, ok, want)
		}
		if lo := truncateMin(in); lo > in || !utf8.ValidString(lo) {
			t.Errorf("truncateMin(%q) = %q", in, lo)
		}
	}
	if s, ok := truncateMax(strings.Repeat("\U0010FFFF", 40)); ok {
		t.Errorf("a bound for what has none: %q", s)
	}
	cols := []ColumnStats{{Name: "n"}, {Name: "t", Kind: KindTimestamp}, {Name: "s", Kind: KindString},
		{Name: "none", Kind: KindString}, {Name: "bad", Kind: KindString}}
	cols[0].Int(math.MinInt64)
	cols[0].Int(math.MaxInt64)
	cols[1].Int(-1)
	cols[1].Int(1_000_001)
	cols[2].Text("b")
	cols[2].Text("")
	cols[2].Null()
	cols[3].Null()
	cols[4].Text("\xff")
	want := `{"numRecords":3,"minValues":{"n":-9223372036854775808,"s":"","t":"1969-12-31T23:59:59.999Z"},` +
		`"maxValues":{"n":9223372036854775807,"s":"b","t":"1970-01-01T00:00:01.001Z"},` +
		`"nullCount":{"bad":0,"n":0,"none":1,"s":1,"t":0}}`
	got := Stats(3, cols)
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n := recordsIn([]byte(got)); n != 3 || recordsIn(nil) != -1 || recordsIn([]byte(`{"numRecords":1.5}`)) != -1 {
		t.Errorf("numRecords %d", n)
	}
	if !json.Valid([]byte(got)) {
		t.Error("not JSON")
	}
}

// TestMergedStats: merged statistics are those of all values, whatever the parts have; a part with a text that is not
// UTF-8 among its bounds has no bounds, and neither has the whole.
func TestMergedStats(t *testing.T) {
	texts := []string{"", "a", "bild", "welt", "ä", "\U0010FFFF", strings.Repeat("z", 80), "\xff"}
	rng := mathrand.New(mathrand.NewPCG(6, 7))
	for range 2000 {
		names := []ColumnStats{{Name: "n"}, {Name: "t", Kind: KindTimestamp}, {Name: "s", Kind: KindString}}
		whole, merged := slices.Clone(names), slices.Clone(names)
		known := len(texts) - rng.IntN(2)
		bad := false
		for range 1 + rng.IntN(4) {
			part := slices.Clone(names)
			for range rng.IntN(4) {
				n, text := rng.Int64N(7)-3, texts[rng.IntN(known)]
				for _, to := range [][]ColumnStats{whole, part} {
					if n == 0 {
						to[0].Null()
						to[2].Null()
						continue
					}
					to[0].Int(n)
					to[1].Int(n * 1_000_001)
					to[2].Text(text)
				}
			}
			bad = bad || part[2].invalid
			for i := range merged {
				merged[i].Merge(&part[i])
			}
		}
		if whole[2].invalid = bad; Stats(9, merged) != Stats(9, whole) {
			t.Fatalf("got  %s\nwant %s", Stats(9, merged), Stats(9, whole))
		}
	}
}

func FuzzStats(f *testing.F) {
	f.Add("a", "b")
	f.Add(strings.Repeat("x", 40), strings.Repeat("😀", 40))
	f.Fuzz(func(t *testing.T, a, b string) {
		c := []ColumnStats{{Name: "s", Kind: KindString}}
		c[0].Text(a)
		c[0].Text(b)
		var s struct{ MinValues, MaxValues map[string]string }
		if err := json.Unmarshal([]byte(Stats(2, c)), &s); err != nil {
			t.Fatal(err)
		}
		for _, v := range []string{a, b} {
			if lo, ok := s.MinValues["s"]; ok && lo > v {
				t.Fatalf("min %q > %q", lo, v)
			}
			if hi, ok := s.MaxValues["s"]; ok && hi < v {
				t.Fatalf("max %q < %q", hi, v)
			}
		}
	})
}

func FuzzCommit(f *testing.F) {
	now := int64(1)
	b, _ := encodeCommit(&CommitInfo{TxnID: "x"}, &Protocol{1, 2, nil, nil}, &Metadata{ID: "i"}, []Txn{{"a", 1, &now}},
		[]Remove{{Path: "p"}}, []Add{add("q", Origin{true, 1, 2, 3})})
	f.Add(b)
	f.Add([]byte("{\"add\":{\"path\":\"\"}}\n{\"cdc\":{}}\n\n{}"))
	f.Add([]byte(`{"commitInfo":{"txnId":{"a":[1]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCommit("k", data)
		var bad *CorruptionError
		if err != nil {
			if !errors.As(err, &bad) || bad.Line == 0 {
				t.Fatalf("untyped: %v", err)
			}
			return
		}
		s := newSnapshot(true, true, 0)
		s.apply(c)
		again, err := encodeCommit(&CommitInfo{TxnID: c.txnID}, c.protocol, c.metaData, c.txns, c.removes, c.adds)
		if err != nil {
			t.Fatal(err)
		}
		d, err := parseCommit("k", again)
		if err != nil || len(d.adds) != len(c.adds) || len(d.removes) != len(c.removes) || len(d.txns) != len(c.txns) {
			t.Fatalf("not the same after a round: %v", err)
		}
	})
}

// checkpointFile is a small checkpoint.
func checkpointFile(tb testing.TB) []byte {
	tb.Helper()
	mem := objects.NewMem(nil)
	l, err := Open(context.Background(), writerOptions(mem))
	if err != nil {
		tb.Fatal(err)
	}
	if err := l.Submit(context.Background(), &Change{Parts: on(l, "x", 1), Last: true,
		Adds: []Add{add("f", Origin{true, 1, 0, 1})}}); err != nil {
		tb.Fatal(err)
	}
	if err := l.WriteCheckpoint(context.Background(), 1, -1); err != nil {
		tb.Fatal(err)
	}
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	data, err := mem.Get(context.Background(), l.checkpointKey(1))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func FuzzCheckpoint(f *testing.F) {
	data := checkpointFile(f)
	f.Add(data)
	f.Add(data[:len(data)-9])
	f.Add([]byte("PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := newFileTable(true)
		err := eachView(data, func(r *checkpointView) error {
			var e fileEntry
			if r.entry(&e); r.has(addPath) {
				files.add(&e, 1)
			}
			_, _, _ = r.txn(), r.metadata(), r.protocol()
			return nil
		})
		var bad *CorruptionError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("untyped: %v", err)
		}
	})
}
