package delta

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/compact"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// TestSessionsByBrand: a table that is partitioned by brand and date has one file for each brand and date, whatever is
// in the brand; revisions find their rows, compaction keeps to the partitions, and the table is read back as it was.
func TestSessionsByBrand(t *testing.T) {
	ctx, mem, m := t.Context(), objects.NewMem(nil), newModel(21, 1)
	opts := testOptions(mem, m.rng)
	opts.SessionsByBrand, opts.FileBytes, opts.Level = true, 0, level.Lake
	d := mustOpen(t, opts)
	brands := []string{"", "sport_bild", "le monde", "a/b=c", "a.-2Fb", "ü", strings.Repeat("%", 128)}
	epoch, n := uint64(0), 0
	write := func(sink state.SinkID, to sinks.Sink, rows ...schema.SessionRow) {
		t.Helper()
		for i := range rows {
			rows[i].Epoch, rows[i].BatchID = epoch, schema.BatchID(0, epoch)
			m.closed[rows[i].Key()] = rows[i]
		}
		if err := to.Write(ctx, sessionsPlan(sink, epoch-1, epoch, level.Lake, rows...)); err != nil {
			t.Fatal(err)
		}
	}
	var all []schema.SessionRow
	for range 5 {
		epoch++
		var rows []schema.SessionRow
		for _, b := range brands {
			n++
			r := m.sessionRow(0, epoch, n)
			r.OpeningBrand, r.SessionDate = b, 19_000
			rows = append(rows, r)
		}
		write(state.SinkSessions, d.Sessions(), rows...)
		all = append(all, rows...)
	}
	files := func() (folders map[string]int) {
		folders = map[string]int{}
		tab := openTable(t, mem, "sessions")
		for _, f := range tab.Snapshot().Files {
			key, err := deltalog.Key(f.Path)
			if err != nil || key != f.Path || store.CheckKey("sessions/"+key) != nil {
				t.Errorf("path %q: key %q, %v", f.Path, key, err)
			}
			folders[f.Path[:strings.LastIndexByte(f.Path, '/')]]++
			values := tab.PartitionValues(f)
			if !slices.Contains(brands, values["opening_brand"]) || values["session_date"] != "2022-01-08" ||
				len(values) != 2 {
				t.Errorf("%s has the values %q", f.Path, values)
			}
			last := ""
			if err := tab.ReadSessions(ctx, []*File{f}, func(r *schema.SessionRow) error {
				if r.SessionID <= last || r.OpeningBrand != values["opening_brand"] {
					t.Errorf("%s: %s of %q after %s", f.Path, r.SessionID, r.OpeningBrand, last)
				}
				last = strings.Clone(r.SessionID)
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
		return folders
	}
	if got := files(); len(got) != len(brands) || got["opening_brand=sport_bild/session_date=2022-01-08"] != 5 ||
		got["opening_brand=__HIVE_DEFAULT_PARTITION__/session_date=2022-01-08"] != 5 ||
		got["opening_brand=le.-20monde/session_date=2022-01-08"] != 5 {
		t.Errorf("files by folder: %v", got)
	}
	checkSessions(t, mem, m)

	epoch++
	var revised []schema.SessionRow
	for _, r := range all {
		if m.rng.IntN(2) == 0 {
			m.image(&r, 0, epoch)
			revised = append(revised, r)
		}
	}
	n++
	late := m.sessionRow(0, epoch, n) // a row that was never written
	late.OpeningBrand, late.SessionDate = "le monde", 19_000
	write(state.SinkRevisions, d.Revisions(), append(revised, late)...)
	checkSessions(t, mem, m)
	checkLog(t, mem, "sessions")

	before := files()
	c, err := d.Compactor(ctx, "sessions", compact.Options{FS: vfs.NewMem(), Dir: "compact", Settle: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Round(ctx, nil); err != nil {
		t.Fatal(err)
	}
	after := files()
	if !slices.Equal(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after))) ||
		after["opening_brand=sport_bild/session_date=2022-01-08"] != 1 {
		t.Errorf("files by folder: %v, before compaction %v", after, before)
	}
	checkSessions(t, mem, m)

	// A file that another tool has put where it would, in a folder whose escapes its path escapes once more.
	for _, f := range openTable(t, mem, "sessions").Snapshot().Files {
		if !strings.HasPrefix(f.Path, "opening_brand=le.-20monde/") {
			continue
		}
		data, err := mem.Get(ctx, "sessions/"+f.Path)
		if err != nil {
			t.Fatal(err)
		}
		mem.Overwrite("sessions/opening_brand=le%20monde/session_date=2022-01-08/part-0.parquet", data)
		commit := fmt.Sprintf(`{"commitInfo":{"operation":"OPTIMIZE","timestamp":1}}`+"\n"+
			`{"remove":{"path":%q,"dataChange":false,"deletionTimestamp":1,"size":%d}}`+"\n"+
			`{"add":{"path":"opening_brand=le%%2520monde/session_date=2022-01-08/part-0.parquet","size":%d,`+
			`"partitionValues":{"session_date":"2022-01-08","opening_brand":"le monde"},"dataChange":false,`+
			`"modificationTime":1}}`+"\n", f.Path, f.Size, f.Size)
		if err := mem.PutIfAbsent(ctx, fmt.Sprintf("sessions/_delta_log/%020d.json",
			openTable(t, mem, "sessions").Snapshot().Version+1), []byte(commit)); err != nil {
			t.Fatal(err)
		}
		break
	}
	if _, err := d.Sessions().Position(ctx, 0); err != nil {
		t.Fatal(err)
	}
	checkSessions(t, mem, m)
	epoch++
	m.image(&late, 0, epoch)
	write(state.SinkRevisions, d.Revisions(), late)
	checkSessions(t, mem, m)
	for _, f := range openTable(t, mem, "sessions").Snapshot().Files {
		if strings.Contains(f.Path, "%") {
			t.Errorf("%s is still there", f.Path)
		}
	}
	lake, err := history.Open(ctx, mem, "sessions")
	if err != nil {
		t.Fatal(err)
	}
	report, err := lake.Check(ctx, history.CheckOptions{Deep: true})
	if err != nil || report.Errors() > 0 {
		t.Errorf("fsck: %v, %+v", err, report)
	}
	if err := errors.Join(c.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}

	// The table keeps its partitioning, and says what to do about it.
	opts.SessionsByBrand, opts.layout = false, nil
	_, err = Open(context.Background(), opts)
	var stop *sinks.StopError
	if !errors.As(err, &stop) || !strings.Contains(stop.Hint, "delta.sessions.partition_by") ||
		!strings.Contains(err.Error(), "opening_brand") {
		t.Errorf("opened as if it were partitioned by date: %v", err)
	}
	opts.SessionsByBrand, opts.layout = true, nil
	d = mustOpen(t, opts)
	checkSessions(t, mem, m)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	plain := testOptions(objects.NewMem(nil), m.rng)
	if err := mustOpen(t, plain).Close(); err != nil {
		t.Fatal(err)
	}
	plain.SessionsByBrand, plain.layout = true, nil
	if _, err := Open(context.Background(), plain); !errors.As(err, &stop) {
		t.Errorf("opened as if it were partitioned by brand: %v", err)
	}
}

// TestPartitionNames: different values have different partitions and folders, of what a store takes in a key.
func TestPartitionNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	seen := map[string]string{}
	of := byBrand.sessions[level.Current]
	for i := range 2000 {
		var b strings.Builder
		for range rng.IntN(140) {
			const of = "ab_/=%..--\x00\xc3-2F"
			b.WriteByte(of[rng.IntN(len(of))])
		}
		p := partition{brand: b.String(), date: int32(i % 3)}
		switch i {
		case 0:
			p.brand = "__HIVE_DEFAULT_PARTITION__" // a text, and not null
		case 1:
			p.brand = ""
		}
		back, err := of.parse(of.text(p))
		if err != nil || back != p {
			t.Fatalf("%q: read back as %q, %v", p.brand, back.brand, err)
		}
		folder := of.folder(p)
		if was, ok := seen[folder]; ok && was != fmt.Sprint(p) {
			t.Errorf("%s is the folder of %q and of %q", folder, was, p)
		}
		seen[folder] = fmt.Sprint(p)
		if err := store.CheckKey(folder + "/x"); err != nil {
			t.Error(err)
		}
		for e := range strings.SplitSeq(folder, "/") {
			if len(e) > 255 {
				t.Errorf("%d bytes of a name", len(e))
			}
		}
	}
}
