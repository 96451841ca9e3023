package deltalog

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"deckle/sim/testworld/objects"
)

var testLater = []Field{{Name: "later", Type: "long"}, {Name: "last", Type: "string"}}

func laterOptions(mem *objects.Mem) Options {
	opts := writerOptions(mem)
	opts.CheckpointInterval = 3
	opts.Create.Later = testLater
	return opts
}

// TestComments: columns that are made here have their comments, those that are there keep what another tool has said.
func TestComments(t *testing.T) {
	mem := objects.NewMem(nil)
	opts := laterOptions(mem)
	opts.Create.Comments = map[string]string{"k": `the "key"`, "later": "since then", "none": "no column"}
	l := open(t, opts)
	if err := l.AddColumns(t.Context(), allFields()); err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(`{"name":"k","type":"string","nullable":true,"metadata":{}}`,
		`{"name":"k","type":"string","nullable":true,"metadata":{"comment":"the \"key\""}}`,
		`{"name":"later","type":"long","nullable":true,"metadata":{}}`,
		`{"name":"later","type":"long","nullable":true,"metadata":{"comment":"since then"}}`).Replace(
		SchemaString(allFields()))
	if got := snapshot(l).Metadata.SchemaString; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func allFields() []Field { return append(testFields[:3:3], testLater...) }

// TestAddColumns: the columns are added by one commit that keeps everything else, whatever another tool has noted in
// the schema, and only once.
func TestAddColumns(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, laterOptions(mem))
	before := *snapshot(l).Metadata
	if before.SchemaString != SchemaString(testFields) {
		t.Fatalf("a new table of level 1: %s", before.SchemaString)
	}
	submit(t, l, &Change{Parts: on(l, "a", 1), Last: true, Adds: []Add{add("f1", Origin{})}})
	noted := before
	noted.SchemaString = strings.Replace(before.SchemaString, `"metadata":{}`, `"metadata":{"comment":"<ours>"}`, 1)
	noted.Configuration = maps.Clone(before.Configuration)
	noted.Configuration["delta.logRetentionDuration"] = "interval 90 days"
	body, err := encodeCommit(&CommitInfo{TxnID: "spark"}, nil, &noted, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	mem.Overwrite(l.commitKey(2), body)
	for range 2 {
		if err := l.AddColumns(context.Background(), allFields()); err != nil {
			t.Fatal(err)
		}
	}
	// It lost the race against the other tool, built on what that wrote, and did nothing the second time.
	s := snapshot(l)
	if s.Version != 3 || s.Len() != 1 || s.Txns["a"].Version != 1 {
		t.Errorf("%+v", s)
	}
	check := func(m *Metadata) {
		t.Helper()
		want := strings.TrimSuffix(noted.SchemaString, "]}") +
			`,{"name":"later","type":"long","nullable":true,"metadata":{}}` +
			`,{"name":"last","type":"string","nullable":true,"metadata":{}}]}`
		if m.SchemaString != want {
			t.Errorf("got  %s\nwant %s", m.SchemaString, want)
		}
		if m.ID != before.ID || *m.CreatedTime != *before.CreatedTime ||
			len(m.Configuration) != len(noted.Configuration) || m.PartitionColumns[0] != "d" ||
			m.Configuration["delta.logRetentionDuration"] != "interval 90 days" {
			t.Errorf("got %+v\nwant %+v", m, noted)
		}
	}
	check(s.Metadata)
	data, err := mem.Get(context.Background(), l.commitKey(3))
	if err != nil || !strings.Contains(string(data), `"operation":"ADD COLUMNS"`) ||
		strings.Contains(string(data), `{"protocol"`) || strings.Contains(string(data), `{"add"`) {
		t.Errorf("%s, %v", data, err)
	}
	// The schema survives a checkpoint, and both those that know the columns and those that do not write them go on.
	for v := int64(2); v < 9; v++ {
		submit(t, l, &Change{Parts: on(l, "a", v), Last: true, Adds: []Add{add("g"+string(rune('0'+v)), Origin{})}})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var checkpoint int64
	for _, k := range mem.Keys("t/_delta_log/") {
		if v, kind := logName(strings.TrimPrefix(k, "t/_delta_log/")); kind == logCheckpoint {
			checkpoint = max(checkpoint, v)
		}
	}
	if checkpoint < 3 {
		t.Fatalf("no checkpoint since the columns were added: %d", checkpoint)
	}
	for v := int64(0); v <= checkpoint; v++ {
		if err := mem.Delete(context.Background(), l.commitKey(v)); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, laterOptions(mem))
	check(snapshot(again).Metadata)
	// One that does not know them takes them for another tool's, and leaves them null. (v0.1.0 stops.)
	older := open(t, writerOptions(mem))
	if got := older.ForeignColumns(); !slices.Equal(got, []string{"later", "last"}) || again.ForeignColumns() != nil {
		t.Errorf("columns of others: %q, %q", got, again.ForeignColumns())
	}
}

// TestAddColumnsAtOnce: several nodes rise at once, while others commit and the store fails in every way.
func TestAddColumnsAtOnce(t *testing.T) {
	for seed := range uint64(20) {
		mem := objects.NewMem(nil)
		var logs []*Log
		for range 4 {
			logs = append(logs, open(t, laterOptions(mem)))
		}
		mem.SetFaults(seed, objects.Faults{Before: 0.1, Lost: 0.1, OwnTwice: 0.1, Late: 0.1})
		var wg sync.WaitGroup
		for i, l := range logs {
			wg.Go(func() {
				for range 200 {
					if l.AddColumns(context.Background(), allFields()) == nil {
						return
					}
				}
				t.Error("the columns were never added")
			})
			wg.Go(func() {
				c := &Change{Parts: on(l, string(rune('a'+i)), 1), Last: true,
					Adds: []Add{add("f"+string(rune('a'+i)), Origin{})}}
				for range 200 {
					if l.Submit(context.Background(), c) == nil {
						return
					}
				}
				t.Error("never committed")
			})
		}
		wg.Wait()
		mem.SetFaults(0, objects.Faults{})
		reader := open(t, Options{Store: mem, Name: "t", KeepFiles: true})
		if s := snapshot(reader); s.Len() != 4 || s.Metadata.SchemaString != SchemaString(allFields()) {
			t.Errorf("seed %d: %+v", seed, s)
		}
		n := 0
		for _, k := range mem.Keys("t/_delta_log/") {
			if data, err := mem.Get(context.Background(), k); err == nil && strings.HasSuffix(k, ".json") {
				n += strings.Count(string(data), "ADD COLUMNS")
			}
		}
		if n != 1 {
			t.Errorf("seed %d: the columns were added by %d commits", seed, n)
		}
		for _, l := range logs {
			_ = l.Close()
		}
	}
}

// TestCreateWithLaterColumns: a table that is made at a level has its columns at once, those of the levels above not.
func TestCreateWithLaterColumns(t *testing.T) {
	mem := objects.NewMem(nil)
	opts := laterOptions(mem)
	opts.Create.NewLater = 1
	l := open(t, opts)
	if s := snapshot(l); s.Version != 0 ||
		s.Metadata.SchemaString != SchemaString(append(testFields[:3:3], testLater[0])) {
		t.Errorf("%+v", s)
	}
	if err := l.AddColumns(context.Background(), allFields()[:4]); err != nil || snapshot(l).Version != 0 {
		t.Errorf("version %d, %v", snapshot(l).Version, err)
	}
	if err := l.AddColumns(context.Background(), allFields()); err != nil || snapshot(l).Version != 1 ||
		snapshot(l).Metadata.SchemaString != SchemaString(allFields()) {
		t.Errorf("%+v, %v", snapshot(l), err)
	}
}
