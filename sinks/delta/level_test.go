package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
	"deckle/state/statetest"
)

// wider are tables of level 2 that have, beside what package schema declares, columns of each kind that a level can
// add: to sessions a count, a text, and a number and a text that nobody knows for older rows; to events a text that
// may be empty and a number.
var wider, widerByBrand = wideLayout(false), wideLayout(true)

func wideLayout(byBrand bool) *layout {
	known := schema.At(func(r *schema.SessionRow) *uint32 { return &r.Counts[event.TypeInvalid] })
	all := schema.All()
	n := len(all.UpTo(level.Real).Sessions)
	all.Sessions = slices.Concat(all.Sessions[:n], []schema.Column[schema.SessionRow]{
		{Name: "test_count", Kind: schema.Uint32, Since: level.Real,
			Field: schema.At(func(r *schema.SessionRow) *uint32 { return &r.Counts[event.SessionEnd] })},
		{Name: "test_text", Kind: schema.Text, Since: level.Real,
			Field: schema.At(func(r *schema.SessionRow) *string { return &r.Referrer })},
		{Name: "test_unknown", Kind: schema.Uint8, Since: level.Real, Known: &known,
			Field: schema.At(func(r *schema.SessionRow) *uint8 { return &r.MaxScrollDepth })},
		{Name: "test_words", Kind: schema.Few, Since: level.Real, Known: &known,
			Field: schema.At(func(r *schema.SessionRow) *string { return &r.Brand })},
	}, all.Sessions[n:])
	all.Events = slices.Concat(all.Events, []schema.Column[event.Item]{
		{Name: "test_key", Kind: schema.Text, Since: level.Real, Optional: true,
			Field: schema.At(func(it *event.Item) *string { return &it.Brand })},
		{Name: "test_number", Kind: schema.Uint64, Since: level.Real,
			Field: schema.At(func(it *event.Item) *uint64 { return &it.UserID })},
	})
	return newLayout(all, byBrand)
}

// commented is the metadata of a column that has a comment.
var commented = regexp.MustCompile(`\{"comment":"(?:[^"\\]|\\.)*"\}`)

// columnsOf returns the columns that the table's files and its schema have, sorted by the files' versions.
func columnsOf(t *testing.T, mem *objects.Mem, table string) (schemaString string, files []int) {
	t.Helper()
	log, err := deltalog.Open(context.Background(), deltalog.Options{Store: mem, Name: table, KeepFiles: true})
	if err != nil {
		t.Fatal(err)
	}
	log.View(func(s *deltalog.Snapshot) {
		schemaString = commented.ReplaceAllString(s.Metadata.SchemaString, "{}")
		live := s.SortedFiles()
		slices.SortStableFunc(live, func(a, b *deltalog.File) int { return int(a.Added - b.Added) })
		for _, f := range live {
			data, err := mem.Get(context.Background(), table+"/"+f.Path)
			if err != nil {
				t.Fatal(err)
			}
			p, err := deltalog.OpenParquet(data)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, len(p.Schema().Fields()))
		}
	})
	return schemaString, files
}

func sessionsPlan(sink state.SinkID, a, b uint64, l level.Level, rows ...schema.SessionRow) *state.Plan {
	p := statetest.NewPlan(state.Config{}, sink, a, b, nil, statetest.Content{Rows: rows})
	p.Level = l
	return p
}

func readSessions(t *testing.T, mem *objects.Mem, y *layout) map[string]schema.SessionRow {
	t.Helper()
	tab := openTable(t, mem, "sessions")
	tab.layout = y
	rows := map[string]schema.SessionRow{}
	err := tab.ReadSessions(context.Background(), tab.Snapshot().Files, func(r *schema.SessionRow) error {
		rows[r.SessionID] = *r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestLevels: the table changes with the first file of a level, by a commit of its own before it; files of the level
// before are the same as ever, and what they do not have is read as what is true of it.
func TestLevels(t *testing.T) {
	ctx, mem, m := context.Background(), objects.NewMem(nil), newModel(11, 1)
	opts := testOptions(mem, m.rng)
	opts.FileBytes, opts.layout = 0, wider
	d := mustOpen(t, opts)
	defer d.Close()
	row := func(epoch uint64, n int) schema.SessionRow {
		r := m.sessionRow(0, epoch, n)
		r.SessionDate, r.MaxScrollDepth = 19_000, 40
		r.Referrer, r.Brand = fmt.Sprint("from ", n), fmt.Sprint("brand ", n)
		r.Counts[event.SessionEnd], r.Counts[event.TypeInvalid] = 3, 1
		return r
	}
	old, changes := []schema.SessionRow{row(1, 1), row(1, 2)}, row(1, 3)
	if err := d.Sessions().Write(ctx, sessionsPlan(state.SinkSessions, 0, 1, 0, append(old, changes)...)); err != nil {
		t.Fatal(err)
	}
	log, err := deltalog.Open(ctx, deltalog.Options{Store: mem, Name: "sessions"})
	if err != nil {
		t.Fatal(err)
	}
	log.View(func(s *deltalog.Snapshot) {
		n := len(commented.FindAllString(s.Metadata.SchemaString, -1))
		if n != len(declared.sessions[level.First].fields) {
			t.Errorf("%d columns have a comment: %s", n, s.Metadata.SchemaString)
		}
	})
	first := len(declared.sessions[level.First].statOf)
	risen := len(wider.sessions[level.Real].statOf)
	schemaString, files := columnsOf(t, mem, "sessions")
	if !slices.Equal(files, []int{first}) ||
		schemaString != deltalog.SchemaString(declared.sessions[level.First].fields) {
		t.Errorf("files with %v columns, schema %s", files, schemaString)
	}

	now := row(2, 4)
	unknown := row(2, 5)
	unknown.Counts[event.TypeInvalid] = 0
	// A plan without rows raises nothing.
	if err := d.Sessions().Write(ctx, sessionsPlan(state.SinkSessions, 1, 1, level.Real)); err != nil {
		t.Fatal(err)
	}
	if got, _ := columnsOf(t, mem, "sessions"); got != schemaString {
		t.Error("a plan without rows has changed the table")
	}
	other := mustOpen(t, opts) // another node, at level 1 still
	defer other.Close()
	if err := d.Sessions().Write(ctx, sessionsPlan(state.SinkSessions, 1, 2, level.Real, now, unknown)); err != nil {
		t.Fatal(err)
	}
	schemaString, files = columnsOf(t, mem, "sessions")
	if !slices.Equal(files, []int{first, risen}) ||
		schemaString != deltalog.SchemaString(wider.sessions[level.Real].fields) {
		t.Errorf("files with %v columns, schema %s", files, schemaString)
	}
	commit, err := mem.Get(ctx, "sessions/_delta_log/00000000000000000002.json")
	if err != nil || !bytes.Contains(commit, []byte("ADD COLUMNS")) || bytes.Contains(commit, []byte(`{"add"`)) {
		t.Errorf("commit 2: %s, %v", commit, err)
	}
	p := sessionsPlan(state.SinkSessions, 0, 1, level.First, row(1, 6))
	p.Config.Shard = 1
	if err := other.Sessions().Write(ctx, p); err != nil {
		t.Fatal(err)
	}
	if _, files = columnsOf(t, mem, "sessions"); !slices.Equal(files, []int{first, risen, first}) {
		t.Errorf("files with %v columns", files)
	}

	check := func(when string) {
		t.Helper()
		rows := readSessions(t, mem, wider)
		for _, want := range old {
			if got := rows[want.SessionID]; got.Counts[event.SessionEnd] != 0 || got.Counts[event.TypeInvalid] != 0 ||
				got.TotalEvents != want.TotalEvents || got.CreatedAt != want.CreatedAt {
				t.Errorf("%s, an old row: %+v", when, got)
			}
		}
		if got := rows[now.SessionID]; got.Counts[event.SessionEnd] != 3 || got.Counts[event.TypeInvalid] != 1 ||
			got.Referrer != now.Referrer || got.Brand != now.Brand || got.MaxScrollDepth != 40 {
			t.Errorf("%s, a new row: %+v", when, got)
		}
		if got := rows[unknown.SessionID]; got.Counts[event.SessionEnd] != 3 || got.Counts[event.TypeInvalid] != 0 {
			t.Errorf("%s, a new row with what nobody knows: %+v", when, got)
		}
		if len(rows) != 6 {
			t.Errorf("%s: %d rows", when, len(rows))
		}
		// A binary without the columns, if another tool has taken them out of the schema again, sees the rest.
		if narrow := readSessions(t, mem, declared); len(narrow) != 6 || narrow[now.SessionID].Browser != now.Browser {
			t.Errorf("%s: without the columns: %+v", when, narrow[now.SessionID])
		}
	}
	check("written")

	// A revision at level 2 writes the file of level 1 again. Its own row has what it knows, the others what is true.
	changed := changes
	m.image(&changed, 0, 3)
	changed.Counts[event.SessionEnd], changed.Counts[event.TypeInvalid] = 5, 1
	if err := d.Revisions().Write(ctx, sessionsPlan(state.SinkRevisions, 2, 3, level.Real, changed)); err != nil {
		t.Fatal(err)
	}
	check("revised")
	if got := readSessions(t, mem, wider)[changed.SessionID]; got.Counts[event.SessionEnd] != 5 || got.Epoch != 3 {
		t.Errorf("the revised row: %+v", got)
	}
	// A plan of level 1 that comes later, because it was begun before the rise, finds its row in a file of level 2:
	// what that file has is kept.
	again := changed
	m.image(&again, 0, 4)
	if err := other.Revisions().Write(ctx, sessionsPlan(state.SinkRevisions, 3, 4, level.First, again)); err != nil {
		t.Fatal(err)
	}
	check("revised at level 1")
	tab := openTable(t, mem, "sessions")
	v := tab.Snapshot().Version + 1
	var path string
	for _, f := range tab.Snapshot().Files {
		if f.NumRecords == 2 {
			path = f.Path
		}
	}
	data, err := mem.Get(ctx, "sessions/"+path)
	if err != nil {
		t.Fatal(err)
	}
	mem.Overwrite("sessions/session_date=2022-01-08/optimized.parquet", data)
	mem.Overwrite(fmt.Sprintf("sessions/_delta_log/%020d.json", v), replaceCommit(path, int64(len(data))))
	moved := unknown
	m.image(&moved, 0, 5)
	moved.Counts[event.SessionEnd], moved.Counts[event.TypeInvalid] = 3, 0
	if err := other.Revisions().Write(ctx, sessionsPlan(state.SinkRevisions, 4, 5, level.First, moved)); err != nil {
		t.Fatal(err)
	}
	if got := readSessions(t, mem, wider)[now.SessionID]; got.Counts[event.SessionEnd] != 3 ||
		got.Counts[event.TypeInvalid] != 1 {
		t.Errorf("the neighbour of a row revised at level 1 has lost what it knew: %+v", got)
	}
	checkLog(t, mem, "sessions")
}

// Another tool's RESTORE takes back the schema, too: what a node writes after that gives the table its columns again.
func TestColumnsTakenBack(t *testing.T) {
	ctx, mem, m := context.Background(), objects.NewMem(nil), newModel(12, 1)
	opts := testOptions(mem, m.rng)
	opts.FileBytes, opts.layout = 0, wider
	d := mustOpen(t, opts)
	defer d.Close()
	write := func(epoch uint64) {
		t.Helper()
		row := m.sessionRow(0, epoch, int(epoch))
		p := sessionsPlan(state.SinkSessions, epoch-1, epoch, level.Real, row)
		if err := d.Sessions().Write(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	write(2)
	want, _ := columnsOf(t, mem, "sessions")
	first := deltalog.SchemaString(declared.sessions[level.First].fields)
	if want == first {
		t.Fatal("the table has no columns of the level")
	}
	l := &lake{t: t, mem: mem, m: m}
	l.alter("sessions", 0, func(m *deltalog.Metadata) { m.SchemaString = first })
	write(3) // may still be of the node that has not seen it
	write(4)
	if got, _ := columnsOf(t, mem, "sessions"); got != want {
		t.Errorf("the schema is %s", got)
	}
}

// TestNotNull: in a new table the columns are NOT NULL that no file of any level stores with nulls, and no others; that
// costs no judgement of rows. The others have a comment, as these have.
func TestNotNull(t *testing.T) {
	mem := objects.NewMem(nil)
	opts := testOptions(mem, newModel(1, 1).rng)
	opts.Level = level.Current
	d := mustOpen(t, opts)
	defer d.Close()
	for _, w := range []*writer{&d.sessions.writer, d.eventsWriter()} {
		name := w.tables[level.First].name
		var schema struct {
			Fields []struct {
				Name     string
				Nullable bool
				Metadata struct{ Comment string }
			}
		}
		w.log.View(func(s *deltalog.Snapshot) {
			if err := json.Unmarshal([]byte(s.Metadata.SchemaString), &schema); err != nil {
				t.Fatal(err)
			}
		})
		required := 0
		for _, f := range schema.Fields {
			never := true
			for l := level.First; l <= level.Current; l++ {
				field, ok := w.tables[l].file.Lookup(f.Name)
				never = never && (f.Name == w.tables[l].partition || ok && field.Node.Required())
			}
			if f.Nullable == never {
				t.Errorf("%s.%s: nullable %v; no file has a null: %v", name, f.Name, f.Nullable, never)
			}
			if never {
				required++
			}
			if f.Metadata.Comment == "" {
				t.Errorf("%s.%s has no comment", name, f.Name)
			}
		}
		if required < 9 || required == len(schema.Fields) {
			t.Errorf("%s: %d columns of %d are NOT NULL", name, required, len(schema.Fields))
		}
		if j, err := w.judge(); j != nil || err != nil {
			t.Errorf("%s: its rows are judged: %v", name, err)
		}
	}
}

// TestFilesOfLevelOne: a plan of level 1 gives the same bytes whatever columns the binary knows beyond.
func TestFilesOfLevelOne(t *testing.T) {
	c, err := codec("none")
	if err != nil {
		t.Fatal(err)
	}
	rows := goldenSessions(50)
	items := goldenEvents(50)
	var sessions, events [][]byte
	for _, y := range []*layout{declared, wider} {
		var encoded []sessionRow
		for i := range rows {
			r, err := y.sessionRow(y.sessions[level.First], &rows[i], nil)
			if err != nil {
				t.Fatal(err)
			}
			encoded = append(encoded, r)
		}
		data, cols, err := y.encodeSessions(y.sessions[level.First], encoded, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, append(data, deltalog.Stats(int64(len(rows)), cols)...))
		e := y.newEventsEncoder(level.First, 19_000, c)
		for i := range items {
			if err := e.add(&items[i], 7); err != nil {
				t.Fatal(err)
			}
		}
		f, err := e.finish(7)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, append(f.data, deltalog.Stats(f.rows, f.cols)...))
	}
	if !bytes.Equal(sessions[0], sessions[1]) || !bytes.Equal(events[0], events[1]) {
		t.Error("files of level 1 differ between a binary that knows level 2 and one that does not")
	}
}

// TestEventsLevels: the buffer encodes for the level of the open epoch; rows that were encoded for another one than
// their plan has are read from Kafka again.
func TestEventsLevels(t *testing.T) {
	ctx, mem, m := context.Background(), objects.NewMem(nil), newModel(12, 1)
	opts := testOptions(mem, m.rng)
	opts.layout = wider
	read := 0
	opts.EventSource = func(shard uint32) sinks.EventSource { read++; return sourceOf{m, shard} }
	d := mustOpen(t, opts)
	defer d.Close()
	buf := d.Events().Buffer(0)
	first, risen := len(wider.events[level.First].statOf), len(wider.events[level.Real].statOf)
	for i, step := range []struct {
		buffer, plan level.Level
		width, read  int
	}{
		{level.First, level.First, first, 0},
		{level.First, level.Real, risen, 1}, // nobody has told the buffer
		{level.Real, level.Real, risen, 1},
		{level.Real, level.First, first, 2},
	} {
		buf.Rise(step.buffer)
		var plan func() *state.Plan
		for p := (*state.Plan)(nil); p == nil || p.Epochs[0].Events == 0; {
			var batches [][]event.Batch
			plan, batches = m.eventEpochs(0, 1)
			p = plan()
			for _, b := range batches[0] {
				if err := buf.Append(&b, p.Epochs[0].LeftOut); err != nil {
					t.Fatal(err)
				}
			}
			buf.Seal(p.Epochs[0].Epoch, true)
		}
		p := plan()
		p.Level = step.plan
		if err := d.Events().Write(ctx, p); err != nil {
			t.Fatal(err)
		}
		if _, files := columnsOf(t, mem, "events"); files[len(files)-1] != step.width || read != step.read {
			t.Errorf("step %d: a file of %d columns, the source read %d times; want %d and %d", i,
				files[len(files)-1], read, step.width, step.read)
		}
	}
	schemaString, _ := columnsOf(t, mem, "events")
	if schemaString != deltalog.SchemaString(wider.events[level.Real].fields) ||
		strings.Index(schemaString, "test_key") < strings.Index(schemaString, "event_date") {
		t.Errorf("schema %s", schemaString)
	}
	checkEvents(t, mem, m)
	tab := openTable(t, mem, "events")
	tab.layout = wider
	n := 0
	err := tab.ReadEvents(ctx, tab.Snapshot().Files, func(r *EventRow) error { n++; return nil })
	if err != nil || n != len(m.events) {
		t.Errorf("%d of %d events, %v", n, len(m.events), err)
	}
}
