package deltalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"deckle/sim/testworld/objects"
	"deckle/sinks"
)

// inCommits reads the in-commit timestamps of versions, 0 for one without. Each commit begins with its commitInfo.
func inCommits(t *testing.T, mem *objects.Mem, from, to int64) (all []int64) {
	t.Helper()
	for v := from; v <= to; v++ {
		data, err := mem.Get(t.Context(), fmt.Sprintf("t/_delta_log/%020d.json", v))
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(data), "\n")
		var a struct {
			CommitInfo *struct{ InCommitTimestamp int64 }
		}
		if err := json.Unmarshal([]byte(line), &a); err != nil || a.CommitInfo == nil {
			t.Fatalf("version %d begins with %s", v, line)
		}
		all = append(all, a.CommitInfo.InCommitTimestamp)
	}
	return all
}

// In a table with in-commit timestamps each commit of whatever kind has one, greater than the one before: the time of
// the writer's clock, or a millisecond more than before if that clock is behind, also after a race that was lost.
func TestInCommitTimestamps(t *testing.T) {
	fast, slow := objects.NewClock(time.UnixMilli(5_000_000)), objects.NewClock(time.UnixMilli(1_000_000))
	mem := objects.NewMem(nil)
	options := func(clock *objects.Clock) Options {
		opts := writerOptions(mem)
		opts.Create.InCommitTimestamps, opts.Now = true, clock.Now
		opts.Create.Later = []Field{{Name: "more", Type: "long"}}
		return opts
	}
	a := open(t, options(fast))
	b := open(t, options(slow))
	if p := snapshot(a).Protocol; p.MinReaderVersion != 1 || p.MinWriterVersion != 7 ||
		strings.Join(p.WriterFeatures, " ") != "appendOnly invariants inCommitTimestamp" {
		t.Fatalf("%+v", p)
	}
	write := func(l *Log, n int) {
		t.Helper()
		submit(t, l, &Change{Parts: on(l, fmt.Sprint("x", n), 1), Last: true, Adds: []Add{ownFile(n)}})
	}
	write(a, 1)
	write(b, 2) // has lost the race of version 1
	fast.Pass(time.Minute)
	write(a, 3)
	submit(t, a, &Change{Rearrange: true, Removes: []string{ownFile(1).Path}, Adds: []Add{ownFile(4)}})
	if err := b.AddColumns(t.Context(), []Field{{Name: "more", Type: "long"}}); err != nil {
		t.Fatal(err)
	}
	if err := b.AddColumns(t.Context(), []Field{{Name: "more", Type: "long"}}); err != nil {
		t.Fatal(err)
	}
	byOther(t, mem, 6, "RESTORE", ownFile(2))
	// That commit has no timestamp: nothing may follow it.
	err := b.Submit(t.Context(), &Change{Parts: on(b, "y", 1), Last: true, Adds: []Add{ownFile(5)}})
	if _, stopped := errors.AsType[*sinks.StopError](err); !stopped ||
		!strings.Contains(err.Error(), "version 6 has no in-commit timestamp") {
		t.Errorf("after a commit without: %v", err)
	}
	if err := mem.Delete(t.Context(), "t/_delta_log/00000000000000000006.json"); err != nil {
		t.Fatal(err)
	}
	again := open(t, options(slow))
	mem.Overwrite("t/_delta_log/00000000000000000006.json",
		[]byte(`{"commitInfo":{"operation":"RESTORE","inCommitTimestamp":6000000}}`+"\n"+
			`{"remove":{"path":"`+ownFile(2).Path+`","dataChange":true,"size":1}}`+"\n"))
	if v, err := again.AcceptRemoved(t.Context()); v != 7 || err != nil {
		t.Fatal(v, err)
	}
	if v, err := again.Restore(t.Context(), func(context.Context, int64) (*Restoration, error) {
		return &Restoration{Adds: []Add{ownFile(2)}}, nil
	}); v != 8 || err != nil {
		t.Fatal(v, err)
	}
	fast.Pass(time.Hour)
	last := open(t, options(fast))
	write(last, 6)
	got := inCommits(t, mem, 0, 9)
	want := []int64{5_000_000, 5_000_001, 5_000_002, 5_060_000, 5_060_001, 5_060_002, 6_000_000, 6_000_001, 6_000_002,
		8_660_000}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the commits have\n%d, want\n%d", got, want)
	}
	for _, l := range []*Log{a, b, again, last} {
		_ = l.Close() // waits for checksums
	}
	for _, v := range []int64{0, 1, 5, 8, 9} {
		data, err := mem.Get(t.Context(), last.checksumKey(v))
		if err != nil || !strings.Contains(string(data), fmt.Sprintf(`"inCommitTimestampOpt":%d,`, want[v])) {
			t.Errorf("checksum %d: %v, %s", v, err, data)
		}
	}
}

// Another tool switches them on, off and on again: the commits of Deckle have one exactly while they are on. A writer
// that begins at a checkpoint finds the last one in the commit, or in its checksum where the commit is gone.
func TestInCommitTimestampsByAnother(t *testing.T) {
	clock := objects.NewClock(time.UnixMilli(1_000_000))
	mem := objects.NewMem(nil)
	opts := writerOptions(mem)
	opts.Now, opts.CheckpointInterval = clock.Now, 1<<30
	l := open(t, opts)
	set := func(on string, at int64, features ...string) {
		t.Helper()
		meta := *snapshot(l).Metadata
		meta.Configuration = maps.Clone(meta.Configuration)
		meta.Configuration[configInCommit] = on
		body, err := encodeCommit(&CommitInfo{InCommitTimestamp: at, EngineInfo: "another"},
			&Protocol{1, 7, nil, features}, &meta, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		mem.Overwrite(l.commitKey(snapshot(l).Version+1), body)
		if err := l.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	write := func(l *Log, want int64) {
		t.Helper()
		n++
		submit(t, l, &Change{Parts: on(l, fmt.Sprint("x", n), 1), Last: true, Adds: []Add{ownFile(n)}})
		v := snapshot(l).Version
		if got := inCommits(t, mem, v, v)[0]; got != want {
			t.Errorf("version %d has %d, want %d", v, got, want)
		}
	}
	write(l, 0)
	set("true", 0) // a property alone, without its feature, says nothing
	write(l, 0)
	set("true", 2_000_000, featureInCommit)
	write(l, 2_000_001)
	write(l, 2_000_002)
	newest := snapshot(l).Version
	if err := l.WriteCheckpoint(t.Context(), newest, -1); err != nil {
		t.Fatal(err)
	}
	write(open(t, opts), 2_000_003)
	if err := l.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	set("false", 0, featureInCommit)
	write(l, 0)
	set("True", 3_000_000, featureInCommit)
	write(l, 3_000_001)
	newest = snapshot(l).Version
	if err := l.WriteCheckpoint(t.Context(), newest, -1); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	sum, err := mem.Get(t.Context(), l.checksumKey(newest))
	if err != nil {
		t.Fatal(err)
	}
	for v := range newest + 1 {
		if err := mem.Delete(t.Context(), l.commitKey(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := mem.Delete(t.Context(), l.checksumKey(newest)); err != nil {
		t.Fatal(err)
	}
	copied := open(t, opts)
	change := &Change{Parts: on(copied, "y", 1), Last: true, Adds: []Add{ownFile(50)}}
	if _, stopped := errors.AsType[*sinks.StopError](copied.Submit(t.Context(), change)); !stopped {
		t.Error("a commit follows one of which nothing is left")
	}
	mem.Overwrite(l.checksumKey(newest), sum)
	write(copied, 3_000_002)
}
