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
