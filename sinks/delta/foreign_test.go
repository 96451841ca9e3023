package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// lake is a table of sessions into which another tool writes, too.
type lake struct {
	t   *testing.T
	mem *objects.Mem
	m   *model
	d   *Delta
	ids map[string]schema.SessionRow // as they were written last

	replaced int // files
}

func newLake(t *testing.T) *lake {
	t.Helper()
	l := &lake{t: t, mem: objects.NewMem(nil), m: newModel(21, 1), ids: map[string]schema.SessionRow{}}
	opts := testOptions(l.mem, l.m.rng)
	opts.FileBytes = 0
	l.d = mustOpen(t, opts)
	t.Cleanup(func() { _ = l.d.Close() })
	return l
}

// newEventsLake is one whose events can be read again.
func newEventsLake(t *testing.T, seed uint64) *lake {
	t.Helper()
	m := newModel(seed, 1)
	l := &lake{t: t, mem: objects.NewMem(nil), m: m}
	opts := testOptions(l.mem, m.rng)
	opts.EventSource = func(shard uint32) sinks.EventSource { return sourceOf{m, shard} }
	l.d = mustOpen(t, opts)
	t.Cleanup(func() { _ = l.d.Close() })
	return l
}

// row is a session that is closed in an epoch, in the one partition of the tests.
func (l *lake) row(epoch uint64, n int) schema.SessionRow {
	r := l.m.sessionRow(0, epoch, n)
	r.SessionDate, r.Brand, r.TotalEvents = 19_000, "bild", 5
	return r
}

func (l *lake) sessions(a, b uint64, rows ...schema.SessionRow) error {
	return l.d.Sessions().Write(l.t.Context(), sessionsPlan(state.SinkSessions, a, b, level.First, rows...))
}

func (l *lake) revisions(a, b uint64, rows ...schema.SessionRow) error {
	return l.d.Revisions().Write(l.t.Context(), sessionsPlan(state.SinkRevisions, a, b, level.First, rows...))
}

func (l *lake) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// revised is another image of a session.
func (l *lake) revised(r schema.SessionRow, epoch uint64) schema.SessionRow {
	l.m.image(&r, 0, epoch)
	r.Brand, r.TotalEvents = "welt", 6
	return r
}

// commit writes the next version of a table as another tool would.
func (l *lake) commit(table string, lines ...string) {
	l.t.Helper()
	v := openTable(l.t, l.mem, table).Snapshot().Version + 1
	l.mem.Overwrite(fmt.Sprintf("%s/_delta_log/%020d.json", table, v), []byte(strings.Join(lines, "\n")+"\n"))
}

// alter changes the metaData of a table, and its protocol to a writer version unless that is 0.
func (l *lake) alter(table string, writer int, change func(m *deltalog.Metadata)) {
	l.t.Helper()
	lines := []string{`{"metaData":` + alteredMetadata(l.t, l.mem, table, change) + `}`}
	if writer > 0 {
		lines = append(lines, fmt.Sprintf(`{"protocol":{"minReaderVersion":1,"minWriterVersion":%d}}`, writer))
	}
	l.commit(table, lines...)
}

// alteredMetadata is the metaData of a table with a change.
func alteredMetadata(t *testing.T, st store.Store, table string, change func(m *deltalog.Metadata)) string {
	t.Helper()
	log, err := deltalog.Open(t.Context(), deltalog.Options{Store: st, Name: table})
	if err != nil {
		t.Fatal(err)
	}
	var meta deltalog.Metadata
	log.View(func(s *deltalog.Snapshot) { meta = *s.Metadata })
	meta.Configuration = maps.Clone(meta.Configuration)
	change(&meta)
	b, err := json.Marshal(&meta)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// withColumns appends columns to a table's schema.
func withColumns(fields string) func(m *deltalog.Metadata) {
	return func(m *deltalog.Metadata) {
		m.SchemaString = strings.TrimSuffix(m.SchemaString, "]}") + "," + fields + "]}"
	}
}

func (l *lake) addColumns(table string, fields string) {
	l.t.Helper()
	l.alter(table, 0, withColumns(fields))
}

// noted is what another tool keeps beside the rows of sessions, in types that Deckle does not have.
type noted struct {
	Note *string           `parquet:"note,optional,dict"`
	Seen *deprecated.Int96 `parquet:"seen,optional"`
	Big  *notedBig         `parquet:"big,optional"`
	List []int32           `parquet:"many,optional,list"`
	Map  map[string]int64  `parquet:"map,optional"`
	Flag bool              `parquet:"flag"`
}

type notedBig struct {
	A *float64 `parquet:"a,optional"`
	B struct {
		C []string `parquet:"c,list"`
	} `parquet:"b"`
}

const notedFields = `{"name":"note","type":"string","nullable":true,"metadata":{}},` +
	`{"name":"seen","type":"timestamp","nullable":true,"metadata":{}},` +
	`{"name":"big","type":{"type":"struct","fields":[]},"nullable":true,"metadata":{}},` +
	`{"name":"many","type":{"type":"array","elementType":"integer","containsNull":true},"nullable":true,` +
	`"metadata":{}},` +
	`{"name":"map","type":{"type":"map","keyType":"string","valueType":"long","valueContainsNull":true},` +
	`"nullable":true,"metadata":{}},{"name":"flag","type":"boolean","nullable":true,"metadata":{}}`

// update replaces a live file by one with notes beside each row, as an UPDATE of another tool would.
func (l *lake) update(f *File, notes map[string]noted) {
	l.t.Helper()
	data, err := l.mem.Get(l.t.Context(), "sessions/"+f.Path)
	l.must(err)
	l.replace(f, annotated(l.t, data, func(id, _ string) noted { return notes[id] }))
}

// replace replaces a live file by another one with the same rows.
func (l *lake) replace(f *File, data []byte) {
	l.t.Helper()
	l.replaced++
	path := fmt.Sprintf("session_date=2022-01-08/part-%05d-noted.snappy.parquet", l.replaced)
	l.mem.Overwrite("sessions/"+path, data)
	l.commit("sessions", fmt.Sprintf(`{"remove":{"path":%q,"dataChange":true}}`, f.Path),
		fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{"session_date":"2022-01-08"},"size":%d,`+
			`"modificationTime":1,"dataChange":true}}`, path, len(data)))
}

// notes reads them from all live files.
func (l *lake) notes() map[string]noted {
	l.t.Helper()
	out := map[string]noted{}
	for _, f := range openTable(l.t, l.mem, "sessions").Snapshot().Files {
		data, err := l.mem.Get(l.t.Context(), "sessions/"+f.Path)
		l.must(err)
		type row struct {
			ID string `parquet:"session_id"`
			noted
		}
		r := parquet.NewGenericReader[row](bytes.NewReader(data))
		rows := make([]row, r.NumRows())
		if n, err := r.Read(rows); n != len(rows) {
			l.t.Fatal(n, err)
		}
		_, has := r.Schema().Lookup("note")
		if _, stands := parquetColumns(l.t, data)["note"]; has && stands {
			for _, r := range rows {
				out[r.ID] = r.noted
			}
		}
		l.must(r.Close())
	}
	return out
}

func parquetColumns(t *testing.T, data []byte) map[string]bool {
	t.Helper()
	f, err := deltalog.OpenParquet(data)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, c := range f.Schema().Columns() {
		out[c[0]] = true
	}
	return out
}

// TestForeignColumns: columns that another tool has added are kept, of whatever type they are: a revision of one row of
// a file leaves the values of all of its rows as they were, and new files do not have the columns.
func TestForeignColumns(t *testing.T) {
	l := newLake(t)
	a, b, c := l.row(1, 1), l.row(1, 2), l.row(2, 3)
	l.must(l.sessions(0, 1, a, b))
	l.must(l.sessions(1, 2, c))
	l.addColumns("sessions", notedFields)
	text, day, number, two := "ä note", deprecated.Int96{1, 2, 2_459_000}, 2.5, int32(2)
	big := &notedBig{A: &number}
	big.B.C = []string{"x", "", "z"}
	want := map[string]noted{
		a.SessionID: {Note: &text, Seen: &day, Big: big, List: []int32{7, two}, Map: map[string]int64{"k": 1},
			Flag: true},
		b.SessionID: {Big: &notedBig{}, List: []int32{two}},
	}
	for _, f := range openTable(t, l.mem, "sessions").Snapshot().Files {
		if f.Origin.To == 1 {
			l.update(f, want)
		}
	}
	before := l.notes()
	if len(before) != 2 || *before[a.SessionID].Note != text {
		t.Fatalf("the test's own file: %+v", before)
	}
	for epoch := uint64(3); epoch < 6; epoch++ {
		a2, c2, d := l.revised(a, epoch), l.revised(c, epoch), l.row(1, 10+int(epoch))
		l.must(l.revisions(epoch-1, epoch, a2, c2, d))
		if after := l.notes(); !reflect.DeepEqual(after, before) {
			t.Errorf("epoch %d: notes were\n%+v, are\n%+v", epoch, before, after)
		}
		rows := readSessions(t, l.mem, declared)
		if rows[a.SessionID].Epoch != epoch || rows[b.SessionID].Epoch != 1 || rows[c.SessionID].Epoch != epoch ||
			rows[d.SessionID].Epoch != 1 || len(rows) != int(epoch)+1 {
			t.Errorf("epoch %d: %d rows", epoch, len(rows))
		}
	}
	// A later level adds its own columns behind them.
	more := mustOpen(t, func() Options { o := testOptions(l.mem, l.m.rng); o.layout = wider; return o }())
	defer more.Close()
	l.must(more.Revisions().Write(t.Context(), sessionsPlan(state.SinkRevisions, 5, 7, level.Real, l.revised(a, 7))))
	if after := l.notes(); !reflect.DeepEqual(after, before) {
		t.Errorf("with another level: notes were\n%+v, are\n%+v", before, after)
	}
	checkLog(t, l.mem, "sessions")
}

func constrain(name, expr string) func(*deltalog.Metadata) {
	return func(m *deltalog.Metadata) { m.Configuration["delta.constraints."+name] = expr }
}

// TestConstraints: a row that violates a constraint of the table is refused by the constraint's name, and nothing of
// its plan is written; the others are. What a revision leaves as it was is not judged again.
func TestConstraints(t *testing.T) {
	l := newLake(t)
	good, bad := l.row(1, 1), l.row(1, 2)
	bad.Brand = "other"
	l.must(l.sessions(0, 1, good, bad)) // no rule stands yet
	refused := func(what string, err error, key, rule string) {
		t.Helper()
		var r *sinks.RefusedError
		if !errors.As(err, &r) || r.RowKey != key || !strings.Contains(r.Brief, rule) || !json.Valid(r.Row) {
			t.Errorf("%s: %v", what, err)
		}
	}
	l.alter("sessions", 3, constrain("brands", "brand IN ('bild', 'welt') AND session_date > '2020-01-01'"))
	third, fourth := l.row(2, 3), l.row(2, 4)
	fourth.Brand = ""
	refused("insert", l.sessions(1, 2, third, fourth), fourth.Key(), "constraint brands, CHECK (brand IN")
	l.must(l.sessions(1, 2, third)) // the node leaves it out
	changed := l.revised(good, 3)
	changed.Brand = "other"
	refused("revision", l.revisions(2, 3, changed), good.Key(), "constraint brands")
	l.must(l.revisions(2, 3, l.revised(good, 3))) // the file has a row that would violate it, from before
	rows := readSessions(t, l.mem, declared)
	if len(rows) != 3 || rows[good.SessionID].Epoch != 3 || rows[bad.SessionID].Brand != "other" {
		t.Errorf("%+v", rows)
	}
	// A constraint about a column of others is judged by what stands beside the row.
	l.addColumns("sessions", notedFields)
	note, other := "keep", "other"
	for _, f := range openTable(t, l.mem, "sessions").Snapshot().Files {
		if !f.Origin.Tagged || f.Origin.To == 1 {
			l.update(f, map[string]noted{good.SessionID: {Note: &note}, bad.SessionID: {Note: &other}})
		}
	}
	l.alter("sessions", 3, func(m *deltalog.Metadata) {
		delete(m.Configuration, "delta.constraints.brands")
		constrain("notes", "note <> 'other'")(m)
	})
	l.must(l.revisions(3, 4, l.revised(good, 4)))
	refused("other's note", l.revisions(4, 5, l.revised(bad, 5)), bad.Key(), "constraint notes")
	ninth := l.row(5, 9)
	refused("no note", l.sessions(2, 5, ninth), ninth.Key(), "constraint notes")
	refused("no note, revised", l.revisions(4, 5, l.revised(third, 5)), third.Key(), "constraint notes")
	// An expression that is not understood stops the table's sinks, and is named; afterwards they go on.
	l.alter("sessions", 3, constrain("odd", "length(brand) > 2"))
	var stop *sinks.StopError
	if _, err := l.d.Sessions().Position(t.Context(), 0); !errors.As(err, &stop) {
		t.Errorf("position: %v", err)
	}
	for what, err := range map[string]error{"sessions": l.sessions(2, 5, l.row(5, 9)),
		"revisions": l.revisions(4, 5, l.revised(good, 5))} {
		if !errors.As(err, &stop) || !strings.Contains(err.Error(), "constraint odd") ||
			!strings.Contains(stop.Hint, "DROP CONSTRAINT") {
			t.Errorf("%s: %v", what, err)
		}
	}
	l.alter("sessions", 0, func(m *deltalog.Metadata) {
		maps.DeleteFunc(m.Configuration, func(k, _ string) bool { return strings.HasPrefix(k, "delta.constraints.") })
	})
	if _, err := l.d.Sessions().Position(t.Context(), 0); err != nil {
		t.Error(err)
	}
	l.must(l.sessions(2, 5, l.row(5, 9)))
	// NOT NULL of a column that Deckle has.
	l.alter("sessions", 0, func(m *deltalog.Metadata) {
		for _, f := range []string{"city", "device_type", "brand"} {
			m.SchemaString = strings.Replace(m.SchemaString, `"`+f+`","type":"string","nullable":true`,
				`"`+f+`","type":"string","nullable":false`, 1)
		}
	})
	l.must(l.sessions(5, 6, l.row(6, 10)))
	checkLog(t, l.mem, "sessions")
}

// TestConstraintAppears: a constraint that is added between the judgement and the commit is not passed over.
func TestConstraintAppears(t *testing.T) {
	l := newLake(t)
	l.must(l.sessions(0, 1, l.row(1, 1)))
	once := true
	l.d.sessions.opts.step = func(name string) error {
		if name == "submit" && once {
			once = false
			l.alter("sessions", 3, constrain("few", "total_events < 5"))
		}
		return nil
	}
	var r *sinks.RefusedError
	if err := l.sessions(1, 2, l.row(2, 2)); !errors.As(err, &r) || once {
		t.Errorf("%v", err)
	}
	if n := len(readSessions(t, l.mem, declared)); n != 1 {
		t.Errorf("%d rows", n)
	}
	// One that is gone again refuses nobody, although this node has not read of it yet.
	l.alter("sessions", 3, func(m *deltalog.Metadata) { delete(m.Configuration, "delta.constraints.few") })
	l.must(l.sessions(1, 2, l.row(2, 2)))
}

// TestConstraintOnEvents: a record that violates a constraint of the events stops their sink, which names it, and
// nothing is written; once the constraint is gone they are written.
func TestConstraintOnEvents(t *testing.T) {
	l := newEventsLake(t, 22)
	m := l.m
	buf := l.d.Events().Buffer(0)
	for _, buffered := range []bool{true, false} {
		plan, batches := m.eventEpochs(0, 2)
		p := plan()
		for i, epoch := range p.Epochs {
			for _, b := range batches[i] {
				if buffered {
					l.must(buf.Append(&b, epoch.LeftOut))
				}
			}
			buf.Seal(epoch.Epoch, buffered)
		}
		_, n := p.Rows()
		if n == 0 {
			t.Fatal("a plan without rows")
		}
		l.alter("events", 3, constrain("none", "kafka_offset < 0 OR kafka_timestamp > '9000-01-01T00:00:00Z'"))
		l.must(d1(l.d.Events().Position(context.Background(), 0)))
		keys := l.mem.Keys("events/event_date=")
		var stop *sinks.StopError
		if err := l.d.Events().Write(context.Background(), plan()); !errors.As(err, &stop) ||
			!strings.Contains(err.Error(), "constraint none") || !strings.Contains(err.Error(), ": record ") {
			t.Errorf("buffered %v: %v", buffered, err)
		}
		if !slices.Equal(keys, l.mem.Keys("events/event_date=")) {
			t.Errorf("buffered %v: files were staged", buffered)
		}
		l.alter("events", 3, constrain("none", "kafka_offset >= 0 AND event_date > '2000-01-01'"))
		if err := l.d.Events().Write(context.Background(), plan()); err != nil {
			t.Errorf("buffered %v: %v", buffered, err)
		}
	}
	checkEvents(t, l.mem, m)
}

func d1[T any](_ T, err error) error { return err }
