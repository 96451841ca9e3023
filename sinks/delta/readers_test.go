package delta

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// readersScript reads a table by delta-rs and by DuckDB.
const readersScript = `
import glob, json, os, sys
import duckdb, duckdb_extension_delta
from deltalake import DeltaTable

path, columns = sys.argv[1], sys.argv[2].split()
rows = DeltaTable(path).to_pyarrow_dataset().to_table(columns=columns).to_pylist()
con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
folder = os.path.dirname(duckdb_extension_delta.__file__)
con.execute(f"LOAD '{glob.glob(folder + '/extensions/*/delta.duckdb_extension')[0]}'")
other = con.execute(f"SELECT {', '.join(columns)} FROM delta_scan('{path}')").fetchall()
print(json.dumps({"delta-rs": [[r[c] for c in columns] for r in rows], "DuckDB": other}))
`

// otherReaders is an interpreter with deltalake and duckdb. Without one the test is skipped. The name of such a test
// begins with TestOther: make engine runs those.
func otherReaders(t *testing.T) string {
	t.Helper()
	if !strings.HasPrefix(t.Name(), "TestOther") {
		t.Fatal("its name has to begin with TestOther, so that make engine runs it")
	}
	python := os.Getenv("DECKLE_TEST_PYTHON")
	if python == "" {
		if os.Getenv("DECKLE_REQUIRE_SERVICES") == "1" {
			t.Fatal("DECKLE_TEST_PYTHON (Python with deltalake and duckdb) is not set, and DECKLE_REQUIRE_SERVICES=1")
		}
		t.Skip("skipped: DECKLE_TEST_PYTHON (Python with deltalake and duckdb) is not set")
	}
	return python
}

// versionsScript reads the session ids of a table at several versions by delta-rs and by DuckDB, and the files that
// delta-rs takes for live.
const versionsScript = `
import glob, json, os, sys
import duckdb, duckdb_extension_delta
from deltalake import DeltaTable

path = sys.argv[1]
con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
folder = os.path.dirname(duckdb_extension_delta.__file__)
con.execute(f"LOAD '{glob.glob(folder + '/extensions/*/delta.duckdb_extension')[0]}'")
out = {}
for v in sys.argv[2:]:
    t = DeltaTable(path, version=int(v))
    rows = t.to_pyarrow_dataset().to_table(columns=["session_id"]).column(0).to_pylist()
    out["delta-rs " + v] = {"rows": sorted(rows), "files": len(t.file_uris())}
    rows = con.execute(f"SELECT session_id FROM delta_scan('{path}', version={v})").fetchall()
    out["DuckDB " + v] = {"rows": sorted(r[0] for r in rows), "files": -1}
print(json.dumps(out))
`

// TestOtherReadersOfCheckpoints: readers that nobody here wrote read the checkpoints alone, as the commits before
// them are gone, at the version of each and behind it, with version checksums beside them, and files that revisions
// replaced.
func TestOtherReadersOfCheckpoints(t *testing.T) {
	python := otherReaders(t)
	dir, m := t.TempDir(), newModel(14, 1)
	st := store.NewLocal(vfs.Default, dir, "test")
	opts := testOptions(st, m.rng)
	opts.Compression, opts.CheckpointInterval = "zstd", 5
	d := mustOpen(t, opts)
	var ids []string
	row := func(epoch uint64) schema.SessionRow {
		r := m.sessionRow(0, epoch, int(epoch))
		r.SessionDate = 19_000 + int32(epoch)%3
		return r
	}
	for epoch := uint64(1); epoch <= 33; epoch++ {
		r := row(epoch)
		ids = append(ids, r.SessionID)
		if err := d.Sessions().Write(t.Context(), sessionsPlan(state.SinkSessions, epoch-1, epoch, 0, r)); err != nil {
			t.Fatal(err)
		}
		if epoch == 20 {
			changed := row(1)
			changed.Epoch, changed.BatchID = 21, schema.BatchID(0, 21)
			plan := sessionsPlan(state.SinkRevisions, 0, 21, 0, changed)
			if err := d.Revisions().Write(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	var versions []string
	first := -1
	log := filepath.Join(dir, "sessions", "_delta_log")
	for v := 34; v >= 0; v-- {
		name := filepath.Join(log, fmt.Sprintf("%020d", v))
		if _, err := os.Stat(name + ".checkpoint.parquet"); err == nil {
			first = v
			versions = append(versions, fmt.Sprint(v))
			if v < 34 {
				versions = append(versions, fmt.Sprint(v+1))
			}
		}
		if _, err := os.Stat(name + ".crc"); err != nil {
			t.Errorf("version %d has no checksum: %v", v, err)
		}
	}
	if len(versions) < 8 {
		t.Fatalf("checkpoints and the versions behind them: %v", versions)
	}
	for v := range first {
		for _, ext := range []string{".json", ".crc"} {
			if err := os.Remove(filepath.Join(log, fmt.Sprintf("%020d%s", v, ext))); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), python, append([]string{"-c", versionsScript,
		filepath.Join(dir, "sessions")}, versions...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	var readers map[string]struct {
		Rows  []string
		Files int
	}
	if err := json.Unmarshal(out, &readers); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, v := range versions {
		var n int
		_, _ = fmt.Sscan(v, &n)
		if n > 20 {
			n-- // the revision's commit adds no row
		}
		want := slices.Sorted(slices.Values(ids[:n]))
		for _, reader := range []string{"delta-rs", "DuckDB"} {
			got, ok := readers[reader+" "+v]
			if !ok || !slices.Equal(got.Rows, want) || got.Files >= 0 && got.Files != n {
				t.Errorf("%s reads version %s as %d files and %v, want %v", reader, v, got.Files, got.Rows, want)
			}
		}
	}
	if len(readers) < len(versions) {
		t.Errorf("%d readings of %d versions", len(readers), len(versions))
	}
}

// predicatesScript counts the rows of a table that fulfil conditions, by delta-rs and by DuckDB.
const predicatesScript = `
import glob, json, os, sys
import duckdb, duckdb_extension_delta, pyarrow.compute as pc
from deltalake import DeltaTable

path = sys.argv[1]
table = DeltaTable(path)
con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
folder = os.path.dirname(duckdb_extension_delta.__file__)
con.execute(f"LOAD '{glob.glob(folder + '/extensions/*/delta.duckdb_extension')[0]}'")
out = {"delta-rs": [], "DuckDB": []}
for column, value in json.loads(sys.argv[2]):
    rows = table.to_pyarrow_dataset().to_table(columns=[column], filter=pc.field(column) == value)
    out["delta-rs"].append(rows.num_rows)
    sql = f"SELECT count(*) FROM delta_scan('{path}') WHERE {column} = ?"
    out["DuckDB"].append(con.execute(sql, [value]).fetchone()[0])
print(json.dumps(out))
`

// TestOtherReadersOfJoinedFiles: readers that nobody here wrote find the rows of several shards in one file, by what
// the log says of the file's bounds and the file of those of its row groups and pages.
func TestOtherReadersOfJoinedFiles(t *testing.T) {
	python := otherReaders(t)
	dir, m := t.TempDir(), newModel(15, 3)
	opts := testOptions(store.NewLocal(vfs.Default, dir, "test"), m.rng)
	opts.Compression = "zstd"
	d := openJoining(t, opts)
	items := dayOfEvents(30_000, 300)
	var sessions []schema.SessionRow
	for turn := range uint64(2) {
		r := rowsOfTurn(t, d, m, items[int(turn)*15_000:][:15_000], turn+1, 400)
		writeTurn(t, d, turn+1, &r)
		sessions = append(sessions, r.sessions...)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	type condition [2]any
	conditions := map[string][]condition{}
	want := map[string][]int{}
	for at := 5; at < len(items); at += len(items) / 4 {
		it := &items[at]
		conditions["events"] = append(conditions["events"], condition{"session_id", it.SessionID},
			condition{"kafka_partition", it.Partition}, condition{"kafka_offset", it.Offset},
			condition{"brand", it.Brand})
		n := [4]int{}
		for i := range items {
			for j, same := range []bool{items[i].SessionID == it.SessionID, items[i].Partition == it.Partition,
				items[i].Offset == it.Offset, items[i].Brand == it.Brand} {
				if same {
					n[j]++
				}
			}
		}
		want["events"] = append(want["events"], n[:]...)
	}
	for at := 5; at < len(sessions); at += len(sessions) / 4 {
		r := &sessions[at]
		conditions["sessions"] = append(conditions["sessions"], condition{"session_id", r.SessionID},
			condition{"brand", r.Brand})
		n := [2]int{}
		for i := range sessions {
			if sessions[i].SessionID == r.SessionID {
				n[0]++
			}
			if sessions[i].Brand == r.Brand {
				n[1]++
			}
		}
		want["sessions"] = append(want["sessions"], n[:]...)
	}
	for table, of := range conditions {
		several := 0
		for _, f := range openTable(t, opts.Store, table).Snapshot().Files {
			if len(f.Origins()) == m.shards {
				several++
			}
		}
		if several < 2 {
			t.Errorf("%s: %d files of %d shards", table, several, m.shards)
		}
		text, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), python, "-c", predicatesScript, filepath.Join(dir, table),
			string(text)).Output()
		if err != nil {
			t.Fatalf("%v, %s", err, out)
		}
		var readers map[string][]int
		if err := json.Unmarshal(out, &readers); err != nil || len(readers) != 2 {
			t.Fatalf("%v: %s", err, out)
		}
		for name, got := range readers {
			if !slices.Equal(got, want[table]) {
				t.Errorf("%s finds %v rows of %s by %s, want %v", name, got, table, text, want[table])
			}
		}
	}
}

// TestOtherReadersOfLevels: readers that nobody here wrote read a table that has got columns: files that do not have
// them show null, also beside those that do, and files that a revision has written again show what is true.
func TestOtherReadersOfLevels(t *testing.T) {
	python := otherReaders(t)
	dir, m := t.TempDir(), newModel(13, 1)
	opts := testOptions(store.NewLocal(vfs.Default, dir, "test"), m.rng)
	opts.FileBytes, opts.layout = 0, wider
	d := mustOpen(t, opts)
	row := func(epoch uint64, n int) schema.SessionRow {
		r := m.sessionRow(0, epoch, n)
		r.SessionDate, r.MaxScrollDepth = 19_000, 40
		r.Referrer, r.Brand = "from", "brand"
		r.Counts[event.SessionEnd], r.Counts[event.TypeInvalid] = 3, 1
		return r
	}
	write := func(p *state.Plan) {
		t.Helper()
		sink := map[state.SinkID]sinks.Sink{state.SinkSessions: d.Sessions(),
			state.SinkRevisions: d.Revisions()}[p.Sink]
		if err := sink.Write(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	write(sessionsPlan(state.SinkSessions, 0, 1, level.First, row(1, 1)))
	revised := row(2, 3)
	write(sessionsPlan(state.SinkSessions, 1, 2, level.First, row(2, 2), revised))
	unknown := row(3, 5)
	unknown.Counts[event.TypeInvalid] = 0
	write(sessionsPlan(state.SinkSessions, 2, 3, level.Real, row(3, 4), unknown))
	revised.Epoch, revised.BatchID = 4, schema.BatchID(0, 4)
	write(sessionsPlan(state.SinkRevisions, 3, 4, level.Real, revised))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, "-c", readersScript, filepath.Join(dir, "sessions"),
		"session_id test_count test_text test_unknown test_words").Output()
	if err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	var readers map[string][][]any
	if err := json.Unmarshal(out, &readers); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := []string{
		"[s0-1 <nil> <nil> <nil> <nil>]", // a file of level 1
		"[s0-2 0  <nil> <nil>]",          // beside the revised one
		"[s0-3 3 from 40 brand]", "[s0-4 3 from 40 brand]",
		"[s0-5 3 from <nil> <nil>]",
	}
	for name, rows := range readers {
		seen := map[string]bool{}
		for _, r := range rows {
			seen[fmt.Sprint(r)] = true
		}
		if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) || len(rows) != len(want) {
			t.Errorf("%s reads %q, want %q", name, got, want)
		}
	}
	if len(readers) != 2 {
		t.Errorf("%d readers", len(readers))
	}
}
