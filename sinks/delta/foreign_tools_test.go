package delta

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// foreignScript does one thing to a table by delta-rs, and then reads it by delta-rs and by DuckDB.
const foreignScript = `
import glob, json, os, sys
import duckdb, duckdb_extension_delta
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType

path, what = sys.argv[1], sys.argv[2]
t = DeltaTable(path)
if what == "add columns":
    t.alter.add_columns([Field("note", PrimitiveType("string")), Field("score", PrimitiveType("double"))])
elif what == "update":
    t.update(updates={"note": "'seen'", "score": "0.5"}, predicate="session_id IN ('s0-1', 's0-2')")
elif what == "constrain":
    t.alter.add_constraint({"brands": sys.argv[3]})
elif what == "drop":
    t.alter.drop_constraint("brands")
elif what == "delete":
    t.delete("session_id = 's0-2'")
elif what == "compact":
    t.optimize.compact()
elif what == "checkpoint":
    t.create_checkpoint()
elif what == "set":
    t.alter.set_table_properties({sys.argv[3]: sys.argv[4]}, raise_if_not_exists=False)
elif what != "read":
    raise SystemExit("unknown: " + what)
t = DeltaTable(path)
columns = ["session_id", "brand"] + [c for c in ("note", "score") if c in [f.name for f in t.schema().fields]]
rows = t.to_pyarrow_dataset().to_table(columns=columns).to_pylist()
con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
folder = os.path.dirname(duckdb_extension_delta.__file__)
con.execute(f"LOAD '{glob.glob(folder + '/extensions/*/delta.duckdb_extension')[0]}'")
other = con.execute(f"SELECT {', '.join(columns)} FROM delta_scan('{path}')").fetchall()
key = lambda r: r["session_id"]
other = sorted([dict(zip(columns, r)) for r in other], key=key)
if sorted(rows, key=key) != other:
    raise SystemExit(f"delta-rs reads {rows}, DuckDB {other}")
print(json.dumps({r["session_id"]: [r["brand"], r.get("note"), r.get("score")] for r in rows}))
`

// TestOtherTools: delta-rs changes a table between what Deckle writes; both go on, and delta-rs and DuckDB read the
// same afterwards: what each of the two has written.
func TestOtherTools(t *testing.T) {
	python := otherReaders(t)
	dir, m := t.TempDir(), newModel(31, 1)
	opts := testOptions(store.NewLocal(vfs.Default, dir, "test"), m.rng)
	opts.FileBytes, opts.Compression = 0, "zstd"
	d := mustOpen(t, opts)
	defer d.Close()
	want := map[string][]any{}
	look := func(what string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), python, append([]string{"-c", foreignScript,
			filepath.Join(dir, "sessions"), what}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			text := ""
			if e, ok := errors.AsType[*exec.ExitError](err); ok {
				text = string(e.Stderr)
			}
			t.Fatalf("%s: %v, %s", what, err, text)
		}
		var got map[string][]any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v: %s", what, err, out)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after %s:\n got %v\nwant %v", what, got, want)
		}
	}
	images := map[string]schema.SessionRow{}
	row := func(epoch uint64, n int, brand string) schema.SessionRow {
		r := m.sessionRow(0, epoch, n)
		r.SessionDate, r.Brand = 19_000, brand
		images[r.SessionID] = r
		return r
	}
	revised := func(id string, epoch uint64, brand string) schema.SessionRow {
		r := images[id]
		m.image(&r, 0, epoch)
		r.Brand = brand
		return r
	}
	inserted, passed := uint64(0), uint64(0)
	write := func(sink state.SinkID, b uint64, rows ...schema.SessionRow) error {
		a, s := &inserted, sinks.Sink(d.Sessions())
		if sink == state.SinkRevisions {
			a, s = &passed, d.Revisions()
		}
		if _, err := s.Position(t.Context(), 0); err != nil {
			return err
		}
		err := s.Write(t.Context(), sessionsPlan(sink, *a, b, level.First, rows...))
		if err != nil {
			return err
		}
		*a = b
		for _, r := range rows {
			old := want[r.SessionID]
			if old == nil {
				old = []any{nil, nil, nil}
			}
			want[r.SessionID] = []any{r.Brand, old[1], old[2]}
		}
		return nil
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(write(state.SinkSessions, 1, row(1, 1, "bild"), row(1, 2, "bild")))
	must(write(state.SinkSessions, 2, row(2, 3, "welt")))
	look("read")
	look("add columns")
	for _, id := range []string{"s0-1", "s0-2"} {
		want[id] = []any{"bild", "seen", 0.5}
	}
	look("update")
	must(write(state.SinkSessions, 3, row(3, 4, "bild")))
	must(write(state.SinkRevisions, 4, revised("s0-1", 4, "welt"), revised("s0-3", 4, "bild")))
	look("read") // the note of s0-1 stays, and that of s0-2 in the same file
	look("compact")
	must(write(state.SinkRevisions, 5, revised("s0-1", 5, "bild"), revised("s0-4", 5, "welt")))
	look("checkpoint")
	delete(want, "s0-2")
	look("delete")
	must(write(state.SinkRevisions, 6, revised("s0-3", 6, "welt")))
	look("read")

	look("constrain", "total_events < 100 AND total_events >= 0")
	var refused *sinks.RefusedError
	many := row(4, 5, "bild")
	many.TotalEvents = 200
	if err := write(state.SinkSessions, 4, many); !errors.As(err, &refused) ||
		!strings.Contains(refused.Brief, "constraint brands") {
		t.Errorf("a row that violates the constraint: %v", err)
	}
	must(write(state.SinkSessions, 4, row(4, 6, "bild")))
	must(write(state.SinkRevisions, 7, revised("s0-1", 7, "welt")))
	look("drop")
	must(write(state.SinkSessions, 5, row(5, 7, "other")))
	look("constrain", "total_events + 1 < 1000")
	var stop *sinks.StopError
	if err := write(state.SinkSessions, 6, row(6, 8, "welt")); !errors.As(err, &stop) ||
		!strings.Contains(err.Error(), "constraint brands") {
		t.Errorf("an expression that is not understood: %v", err)
	}
	look("drop")
	must(write(state.SinkSessions, 6, row(6, 8, "welt")))

	look("set", "delta.appendOnly", "true")
	if err := write(state.SinkRevisions, 8, revised("s0-1", 8, "bild")); !errors.As(err, &stop) {
		t.Errorf("append-only: %v", err)
	}
	must(write(state.SinkSessions, 7, row(7, 9, "welt")))
	look("set", "delta.appendOnly", "false")
	must(write(state.SinkRevisions, 8, revised("s0-1", 8, "bild")))
	look("read")
}

// TestOtherReadersOfFeatures: delta-rs and DuckDB read a table with in-commit timestamps, and the columns of another
// tool that Deckle has filled with their defaults.
func TestOtherReadersOfFeatures(t *testing.T) {
	python := otherReaders(t)
	dir, m := t.TempDir(), newModel(32, 1)
	st := store.NewLocal(vfs.Default, dir, "test")
	opts := testOptions(st, m.rng)
	opts.FileBytes, opts.Compression, opts.InCommitTimestamps = 0, "zstd", true
	d := mustOpen(t, opts)
	defer d.Close()
	write := func(epoch uint64, id int) {
		t.Helper()
		r := m.sessionRow(0, epoch, id)
		r.SessionDate, r.Brand = 19_000, "bild"
		err := d.Sessions().Write(t.Context(), sessionsPlan(state.SinkSessions, epoch-1, epoch, level.First, r))
		if err != nil {
			t.Fatal(err)
		}
	}
	write(1, 1)
	log, err := deltalog.Open(t.Context(), deltalog.Options{Store: st, Name: "sessions"})
	if err != nil {
		t.Fatal(err)
	}
	var body []byte
	log.View(func(s *deltalog.Snapshot) {
		meta := *s.Metadata
		meta.SchemaString = strings.TrimSuffix(meta.SchemaString, "]}") + "," +
			defaultColumns([3]string{"note", "string", "'new'"}, [3]string{"score", "double", "2.5"}) + "]}"
		b, err := json.Marshal(&meta)
		if err != nil {
			t.Fatal(err)
		}
		body = fmt.Appendf(nil, `{"commitInfo":{"operation":"CHANGE COLUMN","inCommitTimestamp":%d}}`+"\n"+
			`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["appendOnly","invariants",`+
			`"inCommitTimestamp","allowColumnDefaults"]}}`+"\n"+`{"metaData":%s}`+"\n",
			time.Now().Add(time.Minute).UnixMilli(), b)
	})
	if err := st.PutIfAbsent(t.Context(), "sessions/_delta_log/00000000000000000002.json", body); err != nil {
		t.Fatal(err)
	}
	write(2, 2)
	out, err := exec.CommandContext(t.Context(), python, "-c", foreignScript, filepath.Join(dir, "sessions"), "read").
		Output()
	var got map[string][]any
	if err != nil || json.Unmarshal(out, &got) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := map[string][]any{"s0-1": {"bild", nil, nil}, "s0-2": {"bild", "new", 2.5}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("they read %v, want %v", got, want)
	}
}
