package delta

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// brandsScript reads the session ids of a table with each of the brands by delta-rs, by DuckDB and by Polars; "" is
// null. Polars takes the brand from the name of the folder, so only brands whose names need no escapes are asked for,
// unless it reads by pyarrow.
const brandsScript = `
import glob, json, os, re, sys
import duckdb, duckdb_extension_delta
import polars
import pyarrow.dataset as ds
from deltalake import DeltaTable

path, brands = sys.argv[1], sys.argv[2:]
table = DeltaTable(path)
data = table.to_pyarrow_dataset()
con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
folder = os.path.dirname(duckdb_extension_delta.__file__)
con.execute(f"LOAD '{glob.glob(folder + '/extensions/*/delta.duckdb_extension')[0]}'")
out = {"delta-rs": {}, "DuckDB": {}, "Polars": {}, "Polars by pyarrow": {},
       "columns": {"partitions": table.metadata().partition_columns}}
for b in brands:
    at = ds.field("opening_brand")
    got = data.to_table(columns=["session_id"], filter=at.is_null() if b == "" else at == b)
    out["delta-rs"][b] = sorted(got.column(0).to_pylist())
    where = "opening_brand IS NULL" if b == "" else "opening_brand = ?"
    rows = con.execute(f"SELECT session_id FROM delta_scan('{path}') WHERE {where}", [] if b == "" else [b]).fetchall()
    out["DuckDB"][b] = sorted(r[0] for r in rows)
    at = polars.col("opening_brand")
    for name, by in (("Polars", False), ("Polars by pyarrow", True)):
        if by or re.fullmatch(r"[\w.-]*", b, re.ASCII) and ".-" not in b:
            frame = polars.scan_delta(path, use_pyarrow=by).filter(at.is_null() if b == "" else at == b)
            out[name][b] = sorted(frame.select("session_id").collect()["session_id"])
print(json.dumps(out))
`

// TestOtherReadersByBrand: readers that nobody here wrote find the rows of each brand in a table that is partitioned by
// brand, whatever is in it, by commits alone and by a checkpoint.
func TestOtherReadersByBrand(t *testing.T) {
	python := otherReaders(t)
	dir, m := t.TempDir(), newModel(22, 1)
	opts := testOptions(store.NewLocal(vfs.Default, dir, "test"), m.rng)
	opts.SessionsByBrand, opts.Level, opts.FileBytes, opts.Compression = true, level.Lake, 0, "zstd"
	brands := []string{"", "sport_bild", "b-z.de", "le monde/fr", "50% ü", "a.-2Fb", "x=1", "null"}
	want := map[string][]string{}
	d := mustOpen(t, opts)
	for epoch := uint64(1); epoch <= 12; epoch++ {
		var rows []schema.SessionRow
		for i, b := range brands {
			r := m.sessionRow(0, epoch, int(epoch)*100+i)
			r.OpeningBrand, r.SessionDate, r.Brand = b, 19_000+int32(epoch%2), "another"
			rows, want[b] = append(rows, r), append(want[b], r.SessionID)
		}
		if err := d.Sessions().Write(t.Context(), sessionsPlan(state.SinkSessions, epoch-1, epoch, level.Lake,
			rows...)); err != nil {
			t.Fatal(err)
		}
		if epoch != 2 && epoch != 12 { // before and after the first checkpoints
			continue
		}
		out, err := exec.CommandContext(t.Context(), python, append([]string{"-c", brandsScript,
			filepath.Join(dir, "sessions")}, brands...)...).Output()
		if err != nil {
			t.Fatalf("%v, %s", err, out)
		}
		var got map[string]map[string][]string
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for b := range want {
			slices.Sort(want[b])
		}
		plain := map[string][]string{}
		for _, b := range []string{"", "sport_bild", "b-z.de", "null"} {
			plain[b] = want[b]
		}
		if !reflect.DeepEqual(got["Polars"], plain) {
			t.Errorf("Polars, epoch %d:\n got %v\nwant %v", epoch, got["Polars"], plain)
		}
		for _, reader := range []string{"delta-rs", "DuckDB", "Polars by pyarrow"} {
			if !reflect.DeepEqual(got[reader], want) {
				t.Errorf("%s, epoch %d:\n got %v\nwant %v", reader, epoch, got[reader], want)
			}
		}
		if p := got["columns"]["partitions"]; !slices.Equal(p, []string{"opening_brand", "session_date"}) {
			t.Errorf("partitioned by %q", p)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
