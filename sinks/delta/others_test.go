package delta

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks/delta/compact"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
)

// annotated is a file of sessions with columns of another tool behind its own, and a value of N for each row, as an
// UPDATE of that tool would write it.
func annotated[N any](t *testing.T, data []byte, note func(id, origin string) N) []byte {
	t.Helper()
	f, err := deltalog.OpenParquet(data)
	if err != nil {
		t.Fatal(err)
	}
	own, extra := f.Schema(), parquet.SchemaOf(*new(N))
	n := len(own.Columns())
	place := func(name string) int {
		return slices.IndexFunc(own.Columns(), func(p []string) bool { return p[0] == name })
	}
	id, origin := place("session_id"), place("origin")
	var out bytes.Buffer
	w := parquet.NewGenericWriter[any](&out, behind(own, extra.Fields()))
	open := func(f *parquet.File) (deltalog.RowReader[parquet.Row], error) {
		return rowReader{parquet.NewGenericReader[any](f)}, nil
	}
	err = deltalog.EachRow("f", data, open, 64, func(r *parquet.Row) error {
		row := slices.Clone(*r)
		for _, v := range extra.Deconstruct(nil, note(textOf(row[id]), textOf(row[origin]))) {
			row = append(row, v.Level(v.RepetitionLevel(), v.DefinitionLevel(), n+v.Column()))
		}
		_, err := w.WriteRows([]parquet.Row{row})
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// notes are the rows beside which another tool has written something, now and by version.
type notes struct {
	added   bool // the table has the columns
	files   int
	now     map[string]bool
	version map[int64]map[string]bool
}

func newNotes() notes { return notes{now: map[string]bool{}, version: map[int64]map[string]bool{}} }

func (n *notes) keep(version int64)    { n.version[version] = maps.Clone(n.now) }
func (n *notes) restore(version int64) { n.now = maps.Clone(n.version[version]) }

// noteOf is what the other tool writes beside a row.
func noteOf(key string) (n noted) {
	sum := crc32.ChecksumIEEE([]byte(key))
	text, number := "note of "+key, float64(sum)/3
	n.Flag = sum&1 == 0
	if sum&2 == 0 {
		n.Note, n.Seen = &text, &deprecated.Int96{sum, 1, 2_459_000}
	}
	if sum&4 == 0 {
		n.Big, n.List = &notedBig{A: &number}, []int32{int32(sum), -1}
		n.Big.B.C = []string{"", text}
	}
	if sum&8 == 0 {
		n.Map = map[string]int64{"k": int64(sum)} // of two, the order would differ
	}
	return n
}

// text is what stands beside a row.
func (n noted) text() string {
	of := parquet.SchemaOf(n)
	return notesText(of.Columns(), of.Deconstruct(nil, n))
}

// notesText are values of the columns of noted with their levels. A column that is null
// is left out, and so is the level of one that may be null in some files and not in others.
func notesText(columns [][]string, values []parquet.Value) string {
	var all []string
	for _, v := range values {
		path := columns[v.Column()]
		if !slices.Contains(notedNames, path[0]) || v.IsNull() && v.DefinitionLevel() == 0 {
			continue
		}
		levels := fmt.Sprint(v.RepetitionLevel(), v.DefinitionLevel())
		if path[0] == "flag" {
			levels = ""
		}
		all = append(all, fmt.Sprintf("%s %s %v %v", strings.Join(path, "."), levels, v.Kind(), v))
	}
	slices.SortStableFunc(all, func(a, b string) int {
		pathA, _, _ := strings.Cut(a, " ")
		pathB, _, _ := strings.Cut(b, " ")
		return strings.Compare(pathA, pathB)
	})
	return strings.Join(all, "\n")
}

var notedNames = func() (names []string) {
	for _, f := range parquet.SchemaOf(noted{}).Fields() {
		names = append(names, f.Name())
	}
	return names
}()

// annotate does what an UPDATE of another tool does to a file of sessions, after it has added columns: beside each row
// stands a note.
func (w *lakeWorld) annotate() {
	tab := openTable(w.t, w.mem, "sessions").Snapshot()
	if len(tab.Files) == 0 {
		return
	}
	put := func(version int64, body string) {
		w.must(w.mem.PutIfAbsent(w.t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", version), []byte(body)))
		w.note()
	}
	if !w.notes.added {
		tab.Version++
		put(tab.Version, `{"metaData":`+alteredMetadata(w.t, w.mem, "sessions", withColumns(notedFields))+"}\n")
		w.notes.added = true
	}
	f := tab.Files[w.rng.IntN(len(tab.Files))]
	if f.Vector != nil {
		return // it would write the rows anew that the vector hides
	}
	data, err := w.mem.Get(w.t.Context(), "sessions/"+f.Path)
	w.must(err)
	if parquetColumns(w.t, data)["note"] {
		return
	}
	data = annotated(w.t, data, func(id, origin string) noted {
		key := schema.RowKey(id, origin)
		w.notes.now[key] = true
		return noteOf(key)
	})
	w.notes.files++
	of := w.layout.sessions[level.Current]
	in, err := of.parse(f.Partition)
	w.must(err)
	values, err := json.Marshal(of.values(in))
	if w.notes.files%2 == 0 { // null in the other form
		values, err = json.Marshal(map[string]string(of.values(in)))
	}
	w.must(err)
	path := fmt.Sprintf("%s/part-%05d-noted.snappy.parquet", of.folder(in), w.notes.files)
	w.must(w.mem.Put(w.t.Context(), "sessions/"+path, data))
	put(tab.Version+1, fmt.Sprintf(`{"remove":{"path":%q,"dataChange":true,"deletionTimestamp":%d,"size":%d}}`+"\n"+
		`{"add":{"path":%q,"partitionValues":%s,"size":%d,"modificationTime":%[2]d,"dataChange":true}}`+"\n", f.Path,
		w.clock.Now().UnixMilli(), f.Size, path, values, len(data)))
}

// readNotes are the notes beside the rows of a file that are not hidden, by row.
func readNotes(t *testing.T, data []byte, hidden *deletionvector.Rows) map[string]string {
	t.Helper()
	out := map[string]string{}
	var columns [][]string
	id, origin := 0, 0
	open := func(f *parquet.File) (deltalog.RowReader[parquet.Row], error) {
		columns = f.Schema().Columns()
		place := func(name string) int {
			return slices.IndexFunc(columns, func(p []string) bool { return p[0] == name })
		}
		id, origin = place("session_id"), place("origin")
		return rowReader{parquet.NewGenericReader[any](f)}, nil
	}
	place := int64(-1)
	err := deltalog.EachRow("f", data, open, 64, func(r *parquet.Row) error {
		if place++; hidden.Has(place) {
			return nil
		}
		key := schema.RowKey(textOf((*r)[id]), textOf((*r)[origin]))
		out[strings.Clone(key)] = notesText(columns, *r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// checkNotes finds that beside each row stands what the other tool has written, and beside no other row anything. It
// returns how many such rows compaction has moved.
func (w *lakeWorld) checkNotes() (compacted int) {
	for _, f := range openTable(w.t, w.mem, "sessions").Snapshot().Files {
		data, err := w.mem.Get(w.t.Context(), "sessions/"+f.Path)
		w.must(err)
		hidden, err := deletionvector.Read(w.t.Context(), w.mem, "sessions", f.Vector)
		w.must(err)
		for key, got := range readNotes(w.t, data, hidden) {
			want := ""
			if w.notes.now[key] {
				want = noteOf(key).text()
				if strings.Contains(f.Path, "part-compact-") {
					compacted++
				}
			}
			if got != want {
				w.t.Errorf("%s: beside row %q stands\n%s\nwant\n%s", f.Path, key, got, want)
			}
		}
	}
	return compacted
}

// TestCompactionKeepsOthers: files with columns of other tools are compacted with those that have none: values and
// types stay, and a value that a file did not have is null, although its column has a default by now. A file that
// stores such a column in another way is left alone.
func TestCompactionKeepsOthers(t *testing.T) {
	l := newLake(t)
	for n := range 4 {
		l.must(l.sessions(uint64(n), uint64(n)+1, l.row(uint64(n)+1, 2*n), l.row(uint64(n)+1, 2*n+1)))
	}
	l.addColumns("sessions", notedFields)
	type other struct {
		Note int64 `parquet:"note"`
	}
	unlike := ""
	want := map[string]string{}
	for _, f := range openTable(t, l.mem, "sessions").Snapshot().Files {
		data, err := l.mem.Get(t.Context(), "sessions/"+f.Path)
		l.must(err)
		switch f.Origin.To {
		case 1, 2:
			l.replace(f, annotated(t, data, func(id, origin string) noted {
				key := schema.RowKey(id, origin)
				want[strings.Clone(key)] = noteOf(key).text()
				return noteOf(key)
			}))
		case 3:
			unlike = f.Path
		}
	}
	l.alter("sessions", 0, func(m *deltalog.Metadata) {
		withColumns(defaultColumns([3]string{"score", "double", "2.5"}))(m)
		plain := `{"name":"note","type":"string","nullable":true,"metadata":{}}`
		m.SchemaString = strings.Replace(m.SchemaString, plain,
			defaultColumns([3]string{"note", "string", "'new'"}), 1)
	})
	l.commit("sessions", `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["appendOnly",`+
		`"invariants","allowColumnDefaults"]}}`)
	fresh := l.row(5, 20)
	l.must(l.sessions(4, 5, fresh))
	for _, f := range openTable(t, l.mem, "sessions").Snapshot().Files {
		if f.Path == unlike {
			data, err := l.mem.Get(t.Context(), "sessions/"+f.Path)
			l.must(err)
			l.replace(f, annotated(t, data, func(string, string) other { return other{7} }))
		}
	}
	want[fresh.Key()] = "note 0 1 BYTE_ARRAY new"
	before := readSessions(t, l.mem, declared)
	c, err := l.d.Compactor(t.Context(), "sessions", compact.Options{FS: vfs.NewMem(), Dir: "scratch", Settle: 1,
		MemoryBytes: 1})
	l.must(err)
	var results []compact.Result
	l.must(c.Round(t.Context(), func(r compact.Result) { results = append(results, r) }))
	l.must(c.Close())
	after := openTable(t, l.mem, "sessions").Snapshot()
	if len(after.Files) != 2 || len(results) != 1 || !strings.Contains(results[0].Why, `other files: "note"`) {
		t.Fatalf("%d files; %+v", len(after.Files), results)
	}
	if rows := readSessions(t, l.mem, declared); fmt.Sprint(rows) != fmt.Sprint(before) || len(rows) != 9 {
		t.Errorf("%d rows were\n%v, are\n%v", len(rows), before, rows)
	}
	seen := 0
	for _, f := range after.Files {
		data, err := l.mem.Get(t.Context(), "sessions/"+f.Path)
		l.must(err)
		if !strings.Contains(f.Path, "part-compact-") {
			continue
		}
		for key, got := range readNotes(t, data, nil) {
			if seen++; got != want[key] {
				t.Errorf("%q:\n%s\nwant\n%s", key, got, want[key])
			}
		}
		theirs := others(t, l.mem, "sessions/"+f.Path, "session_id", ownNames(sessionsTable))
		for id, row := range theirs {
			if score := row["score"]; (score == "2.5") != (id == fresh.SessionID) {
				t.Errorf("%s has the score %q", id, score)
			}
		}
		p, err := deltalog.OpenParquet(data)
		l.must(err)
		for _, field := range p.Schema().Fields() {
			nullable := []string{"note", "seen", "big", "map", "flag", "score"}
			if slices.Contains(nullable, field.Name()) && !field.Optional() {
				t.Errorf("column %s cannot be null", field.Name())
			}
		}
		if seen, ok := p.Schema().Lookup("seen"); !ok || seen.Node.Type().Kind() != parquet.Int96 {
			t.Errorf("seen is %v", seen.Node)
		}
	}
	if seen != 7 {
		t.Errorf("%d rows in the new file", seen)
	}
	checkLog(t, l.mem, "sessions")
}
