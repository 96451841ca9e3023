package deltalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deletionvector/vectortest"
	"deckle/sinks/delta/store"
)

// ownFile is a file with a name that Deckle gives.
func ownFile(n int) Add {
	return add(fmt.Sprintf("d=2024-01-02/part-00000-%d-%016x.parquet", n, n),
		Origin{Tagged: true, From: uint64(n) - 1, To: uint64(n)})
}

// byOther puts the next version as another tool does: it removes files.
func byOther(t *testing.T, mem *objects.Mem, version int64, operation string, removes ...Add) {
	t.Helper()
	body := fmt.Appendf(nil, `{"commitInfo":{"operation":%q,"engineInfo":"Apache-Spark/3.5"}}`+"\n", operation)
	for _, a := range removes {
		b, err := json.Marshal(map[string]any{"remove": map[string]any{"path": a.Path, "dataChange": true,
			"deletionTimestamp": 1, "size": a.Size}})
		if err != nil {
			t.Fatal(err)
		}
		body = append(append(body, b...), '\n')
	}
	if err := mem.PutIfAbsent(t.Context(), fmt.Sprintf("t/_delta_log/%020d.json", version), body); err != nil {
		t.Fatal(err)
	}
}

func unsettled(l *Log) (v int64) {
	l.View(func(s *Snapshot) { v = s.Unsettled() })
	return v
}

// After a RESTORE by another tool revisions wait, and nothing else does, on every node, from a checkpoint and without
// the commits, too, until somebody says what becomes of the rows.
func TestRestoreByAnother(t *testing.T) {
	mem := objects.NewMem(nil)
	opts := writerOptions(mem)
	opts.CheckpointInterval = 1 << 30
	l := open(t, opts)
	var files []Add
	for n := 1; n <= 3; n++ {
		files = append(files, ownFile(n))
		submit(t, l, &Change{Parts: on(l, "a", int64(n)), Last: true, Adds: files[n-1:]})
	}
	revise := func(l *Log) error {
		c := &Change{Parts: on(l, "r", 1), Adds: []Add{ownFile(90)}, Removes: []string{files[0].Path},
			Operation: "MERGE"}
		return l.Submit(context.Background(), c)
	}
	// What others delete stays deleted, and is no RESTORE; nor is one of files that Deckle has not made.
	byOther(t, mem, 4, "DELETE", files[2])
	byOther(t, mem, 5, "RESTORE", Add{Path: "d=2024-01-02/part-00000-0aa0-c000.snappy.parquet"})
	if err := l.Refresh(t.Context()); err != nil || unsettled(l) != 0 || l.CheckRevises() != nil {
		t.Fatalf("after a DELETE: %v, %d", err, unsettled(l))
	}
	byOther(t, mem, 6, "RESTORE", files[1])
	// The one who reads it knows; so does one who reads a checkpoint of that version alone.
	if err := l.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.WriteCheckpoint(t.Context(), 6, -1); err != nil {
		t.Fatal(err)
	}
	second := open(t, opts)
	for i, log := range []*Log{l, second} {
		_, stopped := errors.AsType[*sinks.StopError](revise(log))
		if unsettled(log) != 6 || !stopped || log.CheckRevises() == nil {
			t.Fatalf("log %d: %d, stopped %v", i, unsettled(log), stopped)
		}
		guarded := &Change{Parts: on(log, "g", int64(i+1)), Last: true, Adds: []Add{ownFile(50 + i)},
			Guard: []Place{{Partition: "2024-01-02", Epochs: []uint64{50}}}}
		if err := log.Submit(t.Context(), guarded); err == nil {
			t.Fatalf("log %d inserts what it did not find", i)
		}
	}
	submit(t, second, &Change{Parts: on(second, "b", 1), Last: true, Adds: []Add{ownFile(60)}})
	submit(t, second, &Change{Rearrange: true, Removes: []string{files[0].Path, ownFile(60).Path},
		Adds: []Add{ownFile(61)}})
	// From now on it stands in the log: who has neither the commit nor one since knows, too.
	var newest int64
	second.View(func(s *Snapshot) { newest = s.Version })
	if err := second.WriteCheckpoint(t.Context(), newest, 6); err != nil {
		t.Fatal(err)
	}
	for v := range int64(7) {
		if err := mem.Delete(t.Context(), fmt.Sprintf("t/_delta_log/%020d.json", v)); err != nil {
			t.Fatal(err)
		}
	}
	third := open(t, opts)
	if unsettled(third) != 6 {
		t.Fatalf("from the newest checkpoint: %d", unsettled(third))
	}
	v, err := third.AcceptRemoved(t.Context())
	if err != nil || v != newest+1 {
		t.Fatalf("%d, %v", v, err)
	}
	if v, err := l.AcceptRemoved(t.Context()); err != nil || v != -1 {
		t.Errorf("settled twice: %d, %v", v, err)
	}
	for i, log := range []*Log{l, third, open(t, opts)} {
		if err := log.Refresh(t.Context()); err != nil || unsettled(log) != 0 || log.CheckRevises() != nil {
			t.Errorf("log %d: %v, %d", i, err, unsettled(log))
		}
	}
	byOther(t, mem, newest+2, "restore", ownFile(61))
	if err := l.Refresh(t.Context()); err != nil || unsettled(l) != newest+2 {
		t.Errorf("a second RESTORE: %v, %d", err, unsettled(l))
	}
}

// A RESTORE by another tool that gives files other deletion vectors takes rows away if one of them hides a row that its
// former one did not, or if that cannot be known; to bring rows back takes none. That is so for one who reads the log
// from a checkpoint, too.
func TestRestoreOfVectors(t *testing.T) {
	rows := func(places ...int64) *deletionvector.Descriptor { return vectortest.Inline(t, places...) }
	for name, c := range map[string]struct {
		was, is *deletionvector.Descriptor
		takes   bool
	}{
		"none again":          {was: rows(1, 2)},
		"fewer":               {was: rows(1, 2, 70_000), is: rows(1, 70_000)},
		"as many":             {was: rows(1, 2), is: rows(1, 2)},
		"the first one":       {is: rows(1), takes: true},
		"more":                {was: rows(1), is: rows(1, 2), takes: true},
		"as many, but others": {was: rows(1, 2), is: rows(1, 3), takes: true},
		"fewer, but others":   {was: rows(1, 2, 3), is: rows(4), takes: true},
		"one that is gone": {was: &deletionvector.Descriptor{StorageType: "u", Path: "ab^-aqEH.-t@S}K{vb[*k^",
			Offset: new(int32(4)), Size: 40, Cardinality: 6}, is: rows(1), takes: true},
		"one that is damaged": {was: rows(1, 2, 3), is: &deletionvector.Descriptor{StorageType: "i", Path: "00000",
			Size: 4, Cardinality: 1}, takes: true},
		"one that is elsewhere": {was: &deletionvector.Descriptor{StorageType: "p", Path: "s3://other/x.bin",
			Offset: new(int32(4)), Size: 40, Cardinality: 6}, is: rows(1), takes: true},
	} {
		t.Run(name, func(t *testing.T) {
			mem := objects.NewMem(nil)
			opts := writerOptions(mem)
			opts.CheckpointInterval = 1 << 30
			l := open(t, opts)
			f := ownFile(1)
			submit(t, l, &Change{Parts: on(l, "a", 1), Last: true, Adds: []Add{f, ownFile(2)}})
			put := func(version int64, operation string, was, is *deletionvector.Descriptor) {
				t.Helper()
				a := f
				a.Vector, a.DataChange = is, true
				info := map[string]string{"operation": operation}
				gone := Remove{Path: f.Path, DataChange: true, Vector: was}
				body := []byte(knowsVectors)
				for _, action := range []any{map[string]any{"commitInfo": info}, map[string]any{"remove": gone},
					map[string]any{"add": a}} {
					b, err := json.Marshal(action)
					if err != nil {
						t.Fatal(err)
					}
					body = append(append(body, b...), '\n')
				}
				if err := mem.PutIfAbsent(t.Context(), l.commitKey(version), body); err != nil {
					t.Fatal(err)
				}
			}
			put(2, "DELETE", nil, c.was)
			put(3, "RESTORE", c.was, c.is)
			want := int64(0)
			if c.takes {
				want = 3
			}
			elsewhere := c.was != nil && c.was.StorageType == "p"
			if err := l.Refresh(t.Context()); err != nil && !elsewhere {
				t.Fatal(err)
			}
			if got := unsettled(l); got != want {
				t.Errorf("unsettled %d, want %d", got, want)
			}
			if err := l.WriteCheckpoint(t.Context(), 3, -1); err != nil {
				t.Fatal(err)
			}
			if got := unsettled(open(t, opts)); got != want {
				t.Errorf("from a checkpoint: unsettled %d, want %d", got, want)
			}
		})
	}
	// A store that does not answer says nothing of the rows.
	var broken error
	mem := objects.NewMem(nil)
	opts := writerOptions(mem)
	failing := &failingRanges{mem, &broken}
	opts.Store = failing
	l := open(t, opts)
	broken = errors.New("no answer")
	d := vectortest.Put(t, mem, "t", 1, 0, vectortest.Encode(t, 1, 2), 2)
	c := &commit{swaps: []swap{{d, rows(1)}}}
	if err := l.compare(t.Context(), c); !errors.Is(err, broken) || c.takesAway {
		t.Errorf("%v, %t", err, c.takesAway)
	}
	broken = nil
	if err := l.compare(t.Context(), c); err != nil || c.takesAway {
		t.Errorf("%v, %t", err, c.takesAway)
	}
}

// failingRanges is a store that reads no ranges while there is an error.
type failingRanges struct {
	*objects.Mem
	err *error
}

func (f *failingRanges) GetRange(ctx context.Context, key string, off int64, p []byte) (store.Range, error) {
	if *f.err != nil {
		return store.Range{}, *f.err
	}
	return f.Mem.GetRange(ctx, key, off, p)
}

// A restore commits what fits its version exactly, is made again after a lost race, and settles what was taken away.
func TestRestoreCommit(t *testing.T) {
	mem := objects.NewMem(nil)
	opts := writerOptions(mem)
	l, other := open(t, opts), open(t, opts)
	for n := 1; n <= 3; n++ {
		submit(t, l, &Change{Parts: on(l, "a", int64(n)), Last: true, Adds: []Add{ownFile(n)}})
	}
	byOther(t, mem, 4, "RESTORE", ownFile(3))
	var versions []int64
	plan := func(_ context.Context, version int64) (*Restoration, error) {
		versions = append(versions, version)
		if len(versions) == 1 { // somebody is faster
			if err := other.Refresh(t.Context()); err != nil {
				return nil, err
			}
			submit(t, other, &Change{Parts: on(other, "b", 1), Last: true, Adds: []Add{ownFile(7)}})
			return &Restoration{To: 1, Rows: "gone", Removes: []string{ownFile(2).Path}}, nil
		}
		return &Restoration{To: 1, Rows: "gone", Removes: []string{ownFile(2).Path, ownFile(7).Path},
			Adds: []Add{ownFile(3)}}, nil
	}
	v, err := l.Restore(t.Context(), plan)
	if err != nil || v != 6 || !slices.Equal(versions, []int64{4, 5}) {
		t.Fatalf("version %d, built on %v: %v", v, versions, err)
	}
	fresh := open(t, opts)
	var paths []string
	fresh.View(func(s *Snapshot) {
		for _, f := range s.SortedFiles() {
			paths = append(paths, f.Path)
		}
	})
	if !slices.Equal(paths, []string{ownFile(1).Path, ownFile(3).Path}) || unsettled(fresh) != 0 {
		t.Errorf("live are %q, unsettled %d", paths, unsettled(fresh))
	}
	for name, r := range map[string]*Restoration{
		"a file that is not live":     {Removes: []string{ownFile(2).Path}},
		"a file that is live":         {Adds: []Add{ownFile(1)}},
		"the same file twice":         {Adds: []Add{ownFile(2), ownFile(2)}},
		"the same file removed twice": {Removes: []string{ownFile(1).Path, ownFile(1).Path}},
	} {
		plan := func(context.Context, int64) (*Restoration, error) { return r, nil }
		if v, err := l.Restore(t.Context(), plan); err == nil {
			t.Errorf("%s: version %d", name, v)
		}
	}
	if v, err := l.Restore(t.Context(), func(context.Context, int64) (*Restoration, error) {
		return &Restoration{}, nil
	}); err != nil || v != -1 {
		t.Errorf("nothing to change: %d, %v", v, err)
	}
}
