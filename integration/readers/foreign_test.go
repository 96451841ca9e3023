package readers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
)

// note is the column of sessions that another tool adds. A note follows from the session.
const note = "note"

// alter is a commit of another tool that changes the table's metadata.
func (l *lake) alter(table string, writer int, change func(*deltalog.Metadata)) (version int64) {
	l.t.Helper()
	log, err := deltalog.Open(l.t.Context(), deltalog.Options{Store: l.st, Name: table})
	must(l.t, err)
	var meta deltalog.Metadata
	log.View(func(s *deltalog.Snapshot) { meta, version = *s.Metadata, s.Version+1 })
	meta.Configuration = maps.Clone(meta.Configuration)
	change(&meta)
	b, err := json.Marshal(&meta)
	must(l.t, err)
	l.commit(table, version, fmt.Sprintf(`{"protocol":{"minReaderVersion":1,"minWriterVersion":%d}}`, writer),
		`{"metaData":`+string(b)+`}`)
	return version
}

// commit is a commit of another tool.
func (l *lake) commit(table string, version int64, actions ...string) {
	l.t.Helper()
	info := fmt.Sprintf(`{"commitInfo":{"timestamp":%d,"operation":"WRITE"}}`, l.now.UnixMilli())
	must(l.t, l.st.PutIfAbsent(l.t.Context(), fmt.Sprintf("%s/_delta_log/%020d.json", table, version),
		[]byte(info+"\n"+strings.Join(actions, "\n")+"\n")))
	l.note()
}

// others does what an UPDATE of another tool does to two files that have no notes yet: beside each of their rows stands
// one. The first time it adds the column.
func others(t *testing.T, l *lake) {
	if !l.noted {
		l.noted = true
		l.alter("sessions", 2, func(m *deltalog.Metadata) {
			m.SchemaString = strings.TrimSuffix(m.SchemaString, "]}") +
				`,{"name":"` + note + `","type":"string","nullable":true,"metadata":{}}]}`
		})
	}
	done := 0
	for done < 2 {
		tab, err := delta.OpenTable(t.Context(), l.st, "sessions")
		must(t, err)
		s := tab.Snapshot()
		at := slices.IndexFunc(s.Files, func(f *delta.File) bool {
			data, err := l.st.Get(t.Context(), "sessions/"+f.Path)
			must(t, err)
			text, ids := annotated(t, data)
			if ids == nil {
				return false
			}
			name := fmt.Sprintf("%s/part-noted-%d.parquet", path.Dir(f.Path), s.Version)
			must(t, l.st.Put(t.Context(), "sessions/"+name, text))
			partition, err := json.Marshal(tab.PartitionValues(f))
			must(t, err)
			for _, id := range ids {
				l.notes[id] = "of " + id
				r := slices.Clone(l.sessions[id])
				r[len(r)-1] = l.notes[id]
				l.sessions[id] = r
			}
			l.commit("sessions", s.Version+1, fmt.Sprintf(`{"remove":{"path":%q,"deletionTimestamp":%d,`+
				`"dataChange":true,"extendedFileMetadata":true,"partitionValues":%s,"size":%d}}`,
				f.Path, l.now.UnixMilli(), partition, f.Size),
				fmt.Sprintf(`{"add":{"path":%q,"partitionValues":%s,"size":%d,"modificationTime":%d,`+
					`"dataChange":true,"stats":"{\"numRecords\":%d}"}}`, name, partition, len(text),
					l.now.UnixMilli(), len(ids)))
			return true
		})
		if at < 0 {
			t.Fatal("every file has notes")
		}
		done++
	}
}

// wide is a schema with a further column.
type wide struct {
	parquet.Node
	fields []parquet.Field
}

func (w wide) Fields() []parquet.Field { return w.fields }

// annotated is a file of sessions with a note behind each row, and the sessions; nil if it has notes.
func annotated(t *testing.T, data []byte) (text []byte, ids []string) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	own := f.Schema()
	if _, ok := own.Lookup(note); ok {
		return nil, nil
	}
	id, _ := own.Lookup("session_id")
	n := len(own.Columns())
	extra := parquet.Group{note: parquet.Optional(parquet.String())}.Fields()
	var out bytes.Buffer
	both := parquet.NewSchema(own.Name(), wide{own, slices.Concat(own.Fields(), extra)})
	w := parquet.NewGenericWriter[any](&out, both)
	r := parquet.NewGenericReader[any](f)
	rows := make([]parquet.Row, r.NumRows())
	for at := 0; at < len(rows); {
		k, err := r.ReadRows(rows[at:])
		if k == 0 {
			t.Fatal(err)
		}
		at += k
	}
	for i, row := range rows {
		session := string(row[id.ColumnIndex].Clone().ByteArray())
		ids = append(ids, session)
		rows[i] = append(row, parquet.ValueOf("of "+session).Level(0, 1, n))
	}
	_, err = w.WriteRows(rows)
	must(t, err)
	must(t, w.Close())
	return out.Bytes(), ids
}

// feed switches the change data feed of sessions on.
func feed(_ *testing.T, l *lake) {
	l.tables["sessions"].Feed = l.alter("sessions", 4, func(m *deltalog.Metadata) {
		m.Configuration["delta.enableChangeDataFeed"] = "true"
	})
}

// restore goes back four versions of sessions; what came since is given up.
func restore(t *testing.T, l *lake) {
	tab := l.tables["sessions"]
	to := tab.newest() - 4
	r, err := l.d.Restore(t.Context(), delta.RestoreRequest{Table: "sessions", Version: to, Rows: history.RowsGone})
	must(t, err)
	l.sessions, l.notes = map[string][]any{}, map[string]any{}
	for _, i := range tab.Versions[to].Rows {
		row := tab.Images[i]
		id, _ := row[0].(string)
		l.sessions[id] = row
		if n := row[len(row)-1]; n != nil {
			l.notes[id] = n
		}
	}
	was := len(l.closed)
	l.closed = slices.DeleteFunc(l.closed, func(r *schema.SessionRow) bool { return l.sessions[r.SessionID] == nil })
	l.note()
	if r.FilesRemoved == 0 || len(l.closed) == was && r.Files == 0 {
		t.Errorf("nothing was restored: %+v", r)
	}
}
