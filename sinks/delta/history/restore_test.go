package history

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"deckle/sinks/delta/deltalog"
)

// info is the commitInfo line of a writer.
func info(engine, operation string) string {
	return fmt.Sprintf(`{"commitInfo":{"engineInfo":%q,"operation":%q}}`, engine, operation)
}

// removed and added are lines about files of newTab, and about others.
func removed(path string, change bool) string {
	return fmt.Sprintf(`{"remove":{"path":%q,"dataChange":%v,"deletionTimestamp":1,"size":1}}`, path, change)
}

func (w *tab) added(path string, change bool, shard, from, to int) string {
	if err := w.mem.Put(w.t.Context(), "t/"+path, make([]byte, 50)); err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{"d":%q},"size":50,"modificationTime":1,"dataChange":%v,`+
		`"stats":"{\"numRecords\":5}","tags":{"deckle.shard":"%d","deckle.from":"%d","deckle.to":"%d"}}}`, path,
		path[2:12], change, shard, from, to)
}

// restoration is what a restore to a version would change, or the error.
func (w *tab) restoration(to int64, rows Rows) (adds, removes []string, err error) {
	w.t.Helper()
	t := w.open()
	r, err := t.NewRestorer(w.t.Context(), to, rows)
	if err != nil {
		return nil, nil, err
	}
	out, err := r.Restoration(w.t.Context(), t.Newest())
	if err != nil {
		return nil, nil, err
	}
	name := func(p string) string { return strings.TrimSuffix(strings.SplitN(p, "part-", 2)[1], ".parquet") }
	vector := func(d *Vector) string {
		if d == nil {
			return ""
		}
		return ":" + d.StorageType + d.Path
	}
	for i := range out.Adds {
		adds = append(adds, name(out.Adds[i].Path)+vector(out.Adds[i].Vector))
	}
	for _, p := range out.Removes {
		live := ""
		for _, f := range w.at(t.Newest()).Files {
			if f.Path == p {
				live = vector(f.Vector)
			}
		}
		removes = append(removes, name(p)+live)
	}
	return adds, removes, nil
}

// hidden is a commit by which rows of file 3 are hidden by another vector than before, "" for none: i1, i2, or u, whose
// object is not in the store.
func (w *tab) hidden(before, after string) []string {
	of := func(name string) string {
		switch name {
		case "":
			return ""
		case "u":
			return `,"deletionVector":{"storageType":"u","pathOrInlineDv":"ab^-aqEH.-t@S}K{vb[*k^","offset":1,` +
				`"sizeInBytes":9,"cardinality":1}`
		}
		return fmt.Sprintf(`,"deletionVector":{"storageType":"i","pathOrInlineDv":%q,"sizeInBytes":1,"cardinality":1}`,
			name[1:])
	}
	const path = day2 + "3" + pq
	return []string{info("spark", "DELETE"),
		fmt.Sprintf(`{"remove":{"path":%q,"dataChange":true,"deletionTimestamp":1,"size":103%s}}`, path, of(before)),
		fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{"d":"2026-11-02"},"size":103,"modificationTime":1,`+
			`"dataChange":true,"stats":"{\"numRecords\":10}"%s}}`, path, of(after)),
		`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],` +
			`"writerFeatures":["deletionVectors"]}}`}
}

const (
	day1, day2 = "d=2026-11-01/part-", "d=2026-11-02/part-"
	pq         = ".parquet"
)

var big = map[string]string{"delta.constraints.big": "x > 1"}

// newTab has versions 1 to 7, each with a file; 4 has replaced file 2, 6 file 4: live are 1, 3, 5, 6, 7.
func TestRestoration(t *testing.T) {
	for _, c := range []struct {
		name          string
		to            int64
		rows          Rows
		more          func(w *tab) [][]string // commits from version 8 on
		adds, removes string
		refused       string
	}{
		{name: "gone", to: 3, rows: RowsGone, adds: "2", removes: "6 5 7"},
		{name: "again, nobody else", to: 3, rows: RowsAgain},
		{name: "again, a DELETE", to: 7, rows: RowsAgain, adds: "3", more: func(*tab) [][]string {
			return [][]string{{info("spark", "DELETE"), removed(day2+"3"+pq, true)}}
		}},
		{name: "again, an UPDATE", to: 5, rows: RowsAgain, adds: "3", removes: "x", more: func(w *tab) [][]string {
			return [][]string{{info("spark", "UPDATE"), removed(day2+"3"+pq, true),
				w.added(day2+"x"+pq, true, 1, 0, 3)}}
		}},
		{name: "again, a RESTORE and an insert", to: 7, rows: RowsAgain, adds: "6 7", more: func(w *tab) [][]string {
			return [][]string{{info("spark", "RESTORE"), removed(day1+"6"+pq, true), removed(day2+"7"+pq, true)},
				{info("deckle", "WRITE"), w.added(day1+"8"+pq, true, 0, 7, 8)}}
		}},
		{name: "again, a RESTORE by Deckle", to: 7, rows: RowsAgain, adds: "6", more: func(*tab) [][]string {
			return [][]string{{info("deckle", "RESTORE"), removed(day1+"6"+pq, true)}}
		}},
		{name: "again, compaction of what is kept", to: 5, rows: RowsAgain, adds: "1", more: func(w *tab) [][]string {
			return [][]string{{info("deckle", "OPTIMIZE"), removed(day2+"3"+pq, false), removed(day2+"5"+pq, false),
				w.added(day2+"c"+pq, false, 1, 0, 5)}, {info("spark", "DELETE"), removed(day2+"1"+pq, true)}}
		}},
		{name: "again, compaction of what is undone", to: 7, rows: RowsAgain, adds: "3 5", removes: "c",
			more: func(w *tab) [][]string {
				return [][]string{
					{info("spark", "UPDATE"), removed(day2+"3"+pq, true), w.added(day2+"x"+pq, true, 1, 0, 3)},
					{info("deckle", "OPTIMIZE"), removed(day2+"x"+pq, false), removed(day2+"5"+pq, false),
						w.added(day2+"c"+pq, false, 1, 0, 5)}}
			}},
		{name: "again, a revision of what is undone", to: 7, rows: RowsAgain, refused: "version 9 has revised rows",
			more: func(w *tab) [][]string {
				return [][]string{
					{info("spark", "UPDATE"), removed(day2+"3"+pq, true), w.added(day2+"x"+pq, true, 1, 0, 3)},
					{info("deckle", "MERGE"), removed(day2+"x"+pq, true), w.added(day2+"y"+pq, true, 1, 0, 3)}}
			}},
		{name: "again, a revision of what stays", to: 7, rows: RowsAgain, adds: "3", more: func(w *tab) [][]string {
			return [][]string{{info("spark", "DELETE"), removed(day2+"3"+pq, true)},
				{info("deckle", "MERGE"), removed(day2+"7"+pq, true), w.added(day2+"y"+pq, true, 1, 6, 7)}}
		}},
		{name: "again, a row inserted that was deleted", to: 7, rows: RowsAgain,
			refused: "version 9 has inserted rows that may be in", more: func(w *tab) [][]string {
				return [][]string{{info("spark", "DELETE"), removed(day2+"3"+pq, true)},
					{info("deckle", "MERGE"), w.added(day2+"y"+pq, true, 1, 2, 3)}}
			}},
		{name: "gone, a row inserted that was deleted", to: 7, rows: RowsGone, adds: "3", removes: "y",
			more: func(w *tab) [][]string {
				return [][]string{{info("spark", "DELETE"), removed(day2+"3"+pq, true)},
					{info("deckle", "MERGE"), w.added(day2+"y"+pq, true, 1, 2, 3)}}
			}},
		{name: "vacuumed", to: 3, rows: RowsGone, refused: "part-2.parquet, which is needed, is gone",
			more: func(w *tab) [][]string {
				if err := w.mem.Delete(w.t.Context(), "t/"+day1+"2"+pq); err != nil {
					w.t.Fatal(err)
				}
				return nil
			}},
		{name: "a txn set back", to: 7, rows: RowsGone, refused: "has set it back", more: func(*tab) [][]string {
			return [][]string{{info("spark", "RESTORE"), `{"txn":{"appId":"c/p/1/t","version":3}}`}}
		}},
		{name: "a column that is gone", to: 3, rows: RowsGone, refused: "had a column x then",
			more: func(w *tab) [][]string { return [][]string{{w.metadata("y", `"long"`, true, nil)}} }},
		{name: "a column of another type", to: 3, rows: RowsGone, refused: "was long then, and is string",
			more: func(w *tab) [][]string { return [][]string{{w.metadata("x", `"string"`, true, nil)}} }},
		{name: "a column that is NOT NULL", to: 3, rows: RowsGone, refused: "has become NOT NULL",
			more: func(w *tab) [][]string { return [][]string{{w.metadata("x", `"long"`, false, nil)}} }},
		{name: "a constraint", to: 3, rows: RowsGone, refused: "the constraint big has been added",
			more: func(w *tab) [][]string {
				return [][]string{{w.metadata("x", `"long"`, true, big)}}
			}},
		{name: "a constraint, and nothing comes back", to: 5, rows: RowsGone, removes: "6 7",
			more: func(w *tab) [][]string {
				return [][]string{{info("spark", "RESTORE"), w.added(day1+"4"+pq, true, 0, 0, 4)},
					{w.metadata("x", `"long"`, true, big)}}
			}},
		{name: "again, a DELETE by a vector", to: 7, rows: RowsAgain, adds: "3", removes: "3:i1",
			more: func(w *tab) [][]string { return [][]string{w.hidden("", "i1")} }},
		{name: "gone, a former vector", to: 8, rows: RowsGone, adds: "3:i1", removes: "3:i2",
			more: func(w *tab) [][]string { return [][]string{w.hidden("", "i1"), w.hidden("i1", "i2")} }},
		{name: "again, a revision of what a vector hides", to: 7, rows: RowsAgain,
			refused: "version 9 has revised rows",
			more: func(w *tab) [][]string {
				of := w.hidden("i1", "i2")
				of[0] = info("deckle", "MERGE")
				return [][]string{w.hidden("", "i1"), of}
			}},
		{name: "a vector that is vacuumed", to: 8, rows: RowsGone, refused: "the deletion vector of",
			more: func(w *tab) [][]string { return [][]string{w.hidden("", "u"), w.hidden("u", "i2")} }},
		{name: "a protocol without vectors", to: 8, rows: RowsGone, refused: "does not know them any more",
			more: func(w *tab) [][]string {
				return [][]string{w.hidden("", "i1"), append(w.hidden("i1", "")[:3],
					`{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`)}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newTab(t)
			if c.more != nil {
				for i, lines := range c.more(w) {
					w.write(8+i, lines...)
				}
			}
			adds, removes, err := w.restoration(c.to, c.rows)
			if c.refused != "" {
				if _, ok := errors.AsType[*RefusedError](err); !ok || !strings.Contains(err.Error(), c.refused) {
					t.Fatalf("%v, want %q", err, c.refused)
				}
				return
			}
			if err != nil || strings.Join(adds, " ") != c.adds || strings.Join(removes, " ") != c.removes {
				t.Fatalf("comes back %q, goes %q, %v; want %q, %q", adds, removes, err, c.adds, c.removes)
			}
		})
	}
}

// metadata is a metaData action of the table with another column.
func (w *tab) metadata(column, typ string, nullable bool, more map[string]string) string {
	s := w.at(7)
	m := *s.Metadata
	m.Configuration = map[string]string{deltalog.ConfigClusterID: "c", deltalog.ConfigPipeline: "p"}
	maps.Copy(m.Configuration, more)
	m.SchemaString = fmt.Sprintf(`{"type":"struct","fields":[{"name":%q,"type":%s,"nullable":%v,"metadata":{}},`+
		`{"name":"d","type":"date","nullable":true,"metadata":{}}]}`, column, typ, nullable)
	b, err := m.MarshalJSON()
	if err != nil {
		w.t.Fatal(err)
	}
	return `{"metaData":` + string(b) + `}`
}
