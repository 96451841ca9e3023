package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
)

// feedOn switches the change data feed of a table on, or off, as another tool would.
func feedOn(t *testing.T, mem *objects.Mem, table string, on bool) {
	t.Helper()
	l := &lake{t: t, mem: mem}
	l.alter(table, 4, func(m *deltalog.Metadata) { m.Configuration["delta.enableChangeDataFeed"] = fmt.Sprint(on) })
}

// checkFeed reads a table of sessions as a reader of its change data feed: of each commit the files of changes, or, if
// it has none, the files that it adds. Applied one after the other, from the first commit on, these changes must lead
// to what the table holds; each row that is replaced must be there as the feed has it.
func checkFeed(t *testing.T, mem *objects.Mem) (updates, inserts int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	table := map[string]string{}
	for _, key := range mem.Keys("sessions/_delta_log/") {
		if !strings.HasSuffix(key, ".json") {
			continue
		}
		data, err := mem.Get(context.Background(), key)
		must(err)
		var changed, added []string
		removes := false
		if bytes.Contains(data, []byte(`"engineInfo":"deckle"`)) && bytes.Contains(data, []byte(`"opening_brand":""`)) {
			t.Errorf("%s: a null is written as an empty text", key)
		}
		for line := range bytes.SplitSeq(bytes.TrimSpace(data), []byte("\n")) {
			var a struct {
				Add, Cdc *struct {
					Path            string
					PartitionValues map[string]string
					Size            int64
					DataChange      bool
				}
				Remove *struct{ DataChange bool }
			}
			must(json.Unmarshal(line, &a))
			removes = removes || a.Remove != nil && a.Remove.DataChange
			if a.Add != nil && a.Add.DataChange {
				added = append(added, a.Add.Path)
			}
			if c := a.Cdc; c != nil {
				columns := slices.Sorted(maps.Keys(c.PartitionValues))
				var values []string
				for _, column := range columns {
					values = append(values, c.PartitionValues[column])
				}
				want := "_change_data/" + deltalog.Folder(columns, deltalog.Partition(values...)) + "/"
				whole, err := mem.Get(context.Background(), "sessions/"+c.Path)
				must(err)
				if !strings.HasPrefix(c.Path, want) || c.DataChange || c.Size != int64(len(whole)) {
					t.Errorf("%s: %+v", key, *c)
				}
				changed = append(changed, c.Path)
			}
		}
		if removes != (len(changed) > 0) {
			t.Errorf("%s removes files: %t, and has %d files of changes", key, removes, len(changed))
		}
		var after [][2]string
		for _, path := range cmpOr(changed, added) {
			rows, what := feedRows(t, mem, path)
			for i, r := range rows {
				k, text := r.Key(), fmt.Sprintf("%+v", r)
				switch {
				case what != nil && what[i] == deltalog.ChangeBefore:
					if table[k] != text {
						t.Errorf("%s: %q was\n%s, the feed says\n%s", key, k, table[k], text)
					}
					updates++
				case what != nil && what[i] == deltalog.ChangeAfter:
					if table[k] == "" {
						t.Errorf("%s: %q is replaced and was not there", key, k)
					}
					after = append(after, [2]string{k, text})
				default:
					if table[k] != "" || what != nil && what[i] != deltalog.ChangeInsert {
						t.Errorf("%s: %q is inserted and was there", key, k)
					}
					after = append(after, [2]string{k, text})
					inserts++
				}
			}
		}
		for _, r := range after {
			table[r[0]] = r[1]
		}
	}
	want := map[string]string{}
	for _, f := range openTable(t, mem, "sessions").Snapshot().Files {
		hidden, err := deletionvector.Read(context.Background(), mem, "sessions", f.Vector)
		must(err)
		rows, _ := feedRows(t, mem, f.Path)
		for n, r := range rows {
			if !hidden.Has(int64(n)) {
				want[r.Key()] = fmt.Sprintf("%+v", r)
			}
		}
	}
	if !maps.Equal(table, want) {
		t.Errorf("the feed leads to %d rows, the table has %d, or they differ", len(table), len(want))
	}
	return updates, inserts
}

// cmpOr is a, or b if a is empty.
func cmpOr(a, b []string) []string {
	if len(a) > 0 {
		return a
	}
	return b
}

// feedRows reads a file of rows, and what has happened to each if the file says so.
func feedRows(t *testing.T, mem *objects.Mem, path string) (rows []schema.SessionRow, what []string) {
	t.Helper()
	data, err := mem.Get(context.Background(), "sessions/"+path)
	if err != nil {
		t.Fatal(err)
	}
	columns := parquetColumns(t, data)
	folder := strings.TrimPrefix(path[:strings.LastIndexByte(path, '/')], "_change_data/")
	of := wider.sessions[len(wider.sessions)-1]
	err = eachRow(path, data, of.file, of.later, func(r parquet.Row) error {
		row := sessionRow(r).clone()
		wider.complete(row)
		s := wider.image(row, partition{})
		s.SessionID, s.Origin = strings.Clone(s.SessionID), strings.Clone(s.Origin)
		s.OpeningBrand += " in " + folder // a row stays in its partition
		rows = append(rows, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !columns[deltalog.ChangeColumn] {
		return rows, nil
	}
	type line struct {
		What string `parquet:"_change_type"`
	}
	r := parquet.NewGenericReader[line](bytes.NewReader(data))
	lines := make([]line, r.NumRows())
	if n, _ := r.Read(lines); n != len(rows) {
		t.Fatalf("%s: %d rows, %d of what has happened", path, len(rows), n)
	}
	for _, l := range lines {
		what = append(what, l.What)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return rows, what
}

// TestChangesOfRevisions: what revisions replace and insert stands in the feed as before and after, with the values of
// others beside it; a commit that only inserts has no file of changes, and neither has one from before the feed.
func TestChangesOfRevisions(t *testing.T) {
	l := newLake(t)
	a, b, c := l.row(1, 1), l.row(1, 2), l.row(2, 3)
	l.must(l.sessions(0, 1, a, b))
	l.must(l.sessions(1, 2, c))
	feedOn(t, l.mem, "sessions", true)
	l.must(d1(l.d.Sessions().Position(t.Context(), 0)))
	l.must(l.revisions(2, 3, l.revised(a, 3), l.revised(c, 3), l.row(1, 4))) // two files and a row that never was
	l.must(l.sessions(2, 3, l.row(3, 5)))
	l.must(l.revisions(3, 4, l.row(1, 6)))
	if updates, inserts := checkFeed(t, l.mem); updates != 2 || inserts != 6 {
		t.Errorf("%d updates and %d inserts", updates, inserts)
	}
	// Columns of others stand there, too.
	l.addColumns("sessions", notedFields)
	note := "kept"
	for _, f := range openTable(t, l.mem, "sessions").Snapshot().Files {
		if f.Origin.To == 3 && f.Origin.From == 2 {
			feedOn(t, l.mem, "sessions", false) // the test's own update has no file of changes
			l.update(f, map[string]noted{"s0-5": {Note: &note, Flag: true}})
			feedOn(t, l.mem, "sessions", true)
			break
		}
	}
	l.must(d1(l.d.Sessions().Position(t.Context(), 0)))
	fifth := readSessions(t, l.mem, declared)["s0-5"]
	fifth.Origin = "0/5"
	fifth.FirstClosed = 3
	l.must(l.revisions(4, 5, l.revised(fifth, 5)))
	noted := 0
	for _, k := range l.mem.Keys("sessions/_change_data/") {
		data, err := l.mem.Get(t.Context(), k)
		l.must(err)
		if !parquetColumns(t, data)["note"] {
			continue
		}
		type line struct {
			What string  `parquet:"_change_type"`
			Note *string `parquet:"note,optional"`
			Flag bool    `parquet:"flag"`
		}
		r := parquet.NewGenericReader[line](bytes.NewReader(data))
		lines := make([]line, r.NumRows())
		_, _ = r.Read(lines)
		for _, x := range lines {
			if noted++; x.Note == nil || *x.Note != note || !x.Flag {
				t.Errorf("%s: %+v", k, x)
			}
		}
		l.must(r.Close())
	}
	if noted != 2 {
		t.Errorf("%d changed rows with a note, want 2", noted)
	}
	checkLog(t, l.mem, "sessions")
}
