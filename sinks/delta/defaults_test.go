package delta

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
)

// defaultColumns are columns of another tool as a schema has them.
func defaultColumns(columns ...[3]string) string {
	var all []string
	for _, c := range columns {
		all = append(all, fmt.Sprintf(`{"name":%q,"type":%q,"nullable":true,"metadata":{"CURRENT_DEFAULT":%q}}`, c[0],
			c[1], c[2]))
	}
	return strings.Join(all, ",")
}

// others reads the columns of others in a file, as texts by the row's value in the column key.
func others(t *testing.T, mem *objects.Mem, path, key string, own []string) map[string]map[string]string {
	t.Helper()
	data, err := mem.Get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	var names []string
	open := func(f *parquet.File) (deltalog.RowReader[parquet.Row], error) {
		for _, c := range f.Schema().Columns() {
			names = append(names, c[0])
		}
		return rowReader{parquet.NewGenericReader[any](f)}, nil
	}
	err = deltalog.EachRow(path, data, open, 64, func(r *parquet.Row) error {
		row := map[string]string{}
		id := ""
		for _, v := range *r {
			name := names[v.Column()]
			if name == key {
				id = v.String()
			} else if !slices.Contains(own, name) {
				row[name] = v.String()
			}
		}
		out[id] = row
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ownNames(t *table) (names []string) {
	for _, f := range t.file.Fields() {
		names = append(names, f.Name())
	}
	return names
}

// rowsOfOthers are the columns of others of all live rows of sessions.
func (l *lake) rowsOfOthers() map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, f := range openTable(l.t, l.mem, "sessions").Snapshot().Files {
		maps.Copy(out, others(l.t, l.mem, "sessions/"+f.Path, "session_id", ownNames(sessionsTable)))
	}
	return out
}

// TestDefaults: new rows have the defaults of the columns of others, of each type; rows that are there stay as they
// are, also where a revision writes their file again.
func TestDefaults(t *testing.T) {
	l := newLake(t)
	a, late := l.row(1, 1), l.row(1, 3)
	l.must(l.sessions(0, 1, a))
	l.alter("sessions", 0, func(m *deltalog.Metadata) { m.Configuration["delta.enableChangeDataFeed"] = "true" })
	l.commit("sessions", `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["appendOnly",`+
		`"invariants","changeDataFeed","allowColumnDefaults","checkConstraints"]}}`)
	l.addColumns("sessions", defaultColumns([3]string{"note", "string", "'new'"}, [3]string{"score", "double", "-2.5"},
		[3]string{"few", "short", "7"}, [3]string{"flag", "boolean", "TRUE"},
		[3]string{"day", "date", "DATE '1970-01-03'"},
		[3]string{"moment", "timestamp", "TIMESTAMP '1970-01-01 00:00:01Z'"}, [3]string{"price", "decimal(9,2)", "1.5"},
		[3]string{"large", "decimal(18,3)", "-2"}, [3]string{"many", "long", "9223372036854775807"},
		[3]string{"nothing", "string", "NULL"}))
	want := map[string]string{"note": "new", "score": "-2.5", "few": "7", "flag": "true", "day": "2",
		"moment": "1000000", "price": "150", "large": "-2000", "many": "9223372036854775807"}
	// What is judged is what is written.
	l.alter("sessions", 0, constrain("noted", "note IS NOT NULL AND many > 7"))
	b := l.row(2, 2)
	l.must(l.sessions(1, 2, b))
	l.alter("sessions", 0, func(m *deltalog.Metadata) { delete(m.Configuration, "delta.constraints.noted") })
	late.Stands = false
	l.must(l.revisions(2, 3, l.revised(a, 3), l.revised(b, 3), late))
	got := l.rowsOfOthers()
	for id, w := range map[string]map[string]string{a.SessionID: {}, b.SessionID: want, late.SessionID: want} {
		if !maps.Equal(got[id], w) {
			t.Errorf("%s has %v, want %v", id, got[id], w)
		}
	}
	if rows := readSessions(t, l.mem, declared); len(rows) != 3 || rows[b.SessionID].Epoch != 3 {
		t.Errorf("%+v", rows)
	}
	// The change data feed says the same of the row that is new.
	fed := map[string]map[string]string{}
	for _, key := range l.mem.Keys("sessions/_change_data/") {
		for id, row := range others(t, l.mem, key, "session_id", ownNames(sessionsTable)) {
			if row["_change_type"] == deltalog.ChangeInsert {
				delete(row, "_change_type")
				fed[id] = row
			}
		}
	}
	if len(fed) != 1 || !maps.Equal(fed[late.SessionID], want) {
		t.Errorf("the feed has %v", fed)
	}
	checkLog(t, l.mem, "sessions")
}

// TestDefaultRefused: a default that is no literal of the column's type stops the sinks of the table, and is named;
// with another one they go on. One that changes between judgement and commit is not passed over.
func TestDefaultRefused(t *testing.T) {
	l := newLake(t)
	set := func(typ, text string) {
		t.Helper()
		l.alter("sessions", 0, func(m *deltalog.Metadata) {
			if i := strings.Index(m.SchemaString, `,{"name":"note"`); i > 0 {
				m.SchemaString = m.SchemaString[:i] + "]}"
			}
			m.SchemaString = strings.TrimSuffix(m.SchemaString, "]}") + "," +
				defaultColumns([3]string{"note", typ, text}) + "]}"
		})
	}
	epoch := uint64(0)
	write := func() (string, error) {
		epoch++
		r := l.row(epoch, int(epoch))
		err := l.sessions(epoch-1, epoch, r)
		if err != nil {
			epoch--
			return "", err
		}
		return l.rowsOfOthers()[r.SessionID]["note"], nil
	}
	for i, c := range [][2]string{{"string", "uuid()"}, {"string", "7"}, {"integer", "2147483648"}, {"byte", "-129"},
		{"integer", "'7'"}, {"integer", "7.5"}, {"decimal(4,2)", "100"}, {"decimal(20,2)", "1"},
		{"decimal(4,2)", "0.001"}, {"date", "'2026-01-31'"}, {"timestamp", "current_timestamp()"},
		{"timestamp", "TIMESTAMP '2026-01-31 12:00:00'"},
		{"boolean", "1"}, {"binary", "X'00'"}, {"timestamp_ntz", "DATE '2026-01-31'"}} {
		set(c[0], c[1])
		var stop *sinks.StopError
		if _, err := write(); !errors.As(err, &stop) ||
			!strings.Contains(err.Error(), "the default of column note, "+c[1]) ||
			!strings.Contains(stop.Hint, "DROP DEFAULT") {
			t.Errorf("%s DEFAULT %s: %v", c[0], c[1], err)
		}
		set("string", fmt.Sprintf("'%d'", i))
		if note, err := write(); err != nil || note != fmt.Sprint(i) {
			t.Errorf("afterwards: %q, %v", note, err)
		}
	}
	once := true
	l.d.sessions.opts.step = func(name string) error {
		if name == "submit" && once {
			once = false
			set("string", "'late'")
		}
		return nil
	}
	if note, err := write(); err != nil || note != "late" || once {
		t.Errorf("changed meanwhile: %q, %v", note, err)
	}
	// A column that is NOT NULL can be written if it has a default.
	l.alter("sessions", 0, func(m *deltalog.Metadata) {
		m.SchemaString = strings.Replace(m.SchemaString, `"note","type":"string","nullable":true`,
			`"note","type":"string","nullable":false`, 1)
	})
	if note, err := write(); err != nil || note != "late" {
		t.Errorf("not null: %q, %v", note, err)
	}
	// Deckle's own columns have a value in each row: their defaults are nothing to it.
	l.alter("sessions", 0, func(m *deltalog.Metadata) {
		m.SchemaString = strings.Replace(m.SchemaString, `"metadata":{`, `"metadata":{"CURRENT_DEFAULT":"uuid()",`, 1)
	})
	if _, err := write(); err != nil {
		t.Error(err)
	}
}

// TestDefaultsOfEvents: raw events have the defaults, whether they come from a buffer or are read again.
func TestDefaultsOfEvents(t *testing.T) {
	l := newEventsLake(t, 23)
	m := l.m
	l.addColumns("events", defaultColumns([3]string{"tenant", "string", "'t1'"}, [3]string{"n", "integer", "3"}))
	buf := l.d.Events().Buffer(0)
	for _, buffered := range []bool{true, false} {
		plan, batches := m.eventEpochs(0, 2)
		for i, epoch := range plan().Epochs {
			for _, b := range batches[i] {
				if buffered {
					l.must(buf.Append(&b, epoch.LeftOut))
				}
			}
			buf.Seal(epoch.Epoch, buffered)
		}
		l.must(d1(l.d.Events().Position(t.Context(), 0)))
		l.must(l.d.Events().Write(t.Context(), plan()))
	}
	n := 0
	for _, f := range openTable(t, l.mem, "events").Snapshot().Files {
		for id, row := range others(t, l.mem, "events/"+f.Path, "kafka_offset", ownNames(eventsTable)) {
			if n++; !maps.Equal(row, map[string]string{"tenant": "t1", "n": "3"}) {
				t.Errorf("offset %s: %v", id, row)
			}
		}
	}
	if n == 0 {
		t.Error("no rows")
	}
	checkEvents(t, l.mem, m)
}
