package readers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"deckle/integration/services"
)

// need ends the test if this machine cannot have a service.
func need(t *testing.T, err error) {
	t.Helper()
	if services.MaySkip(err) {
		t.Skipf("skipped: %v", err)
	}
	must(t, err)
}

// client is one that reads tables, and what it needs.
type client struct {
	name, python string
	every        int  // of so many versions that are read one is read by predicates, too
	feed         bool // it reads the change data feed
	settings     map[string]any
	env          []string
}

// TestReaders has every client read every version of the tables, after each stage.
func TestReaders(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	python, err := cache.FetchPython(t.Context())
	need(t, err)
	clients := []client{{name: "delta-rs", python: python, every: 6, feed: true},
		{name: "DuckDB", python: python, every: 6}, {name: "Polars", python: python, every: 6}}
	dir := t.TempDir()
	clients = append(clients, engine(t, cache, python, dir)...)
	run(t, dir, lakeOptions{}, clients)
}

// TestReadersByBrand is TestReaders with sessions partitioned by brand, too, whatever is in the brands, for clients
// that differ in how they read partition values. Polars alone takes them from the names of folders, and does not undo
// their escapes; by pyarrow it reads what the log says.
func TestReadersByBrand(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	python, err := cache.FetchPython(t.Context())
	need(t, err)
	run(t, t.TempDir(), lakeOptions{byBrand: true}, []client{{name: "delta-rs", python: python, every: 4, feed: true},
		{name: "DuckDB", python: python, every: 4}, {name: "Polars", python: python, every: 4,
			settings: map[string]any{"pyarrow": true}}})
}

// TestReadersOfHidden has every client read every version of a table of which Deckle hides rows by deletion vectors.
func TestReadersOfHidden(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	python, err := cache.FetchPython(t.Context())
	need(t, err)
	clients := []client{{name: "delta-rs", python: python, every: 10}, {name: "DuckDB", python: python, every: 10},
		{name: "Polars", python: python, every: 10}}
	dir := t.TempDir()
	clients = append(clients, engine(t, cache, python, dir)...)
	run(t, dir, lakeOptions{hides: true}, clients)
}

// TestSparkReaders is TestReaders and TestReadersOfHidden with Spark (make readers). What it needs is fetched the first
// time: 2 GB.
func TestSparkReaders(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	sparks, err := cache.TestSparks(t.Context())
	need(t, err)
	var clients []client
	for _, s := range sparks {
		clients = append(clients, client{name: "Spark", python: s.Python, every: 20, feed: true,
			settings: map[string]any{"jars": s.Jars}, env: services.SparkEnv})
	}
	for _, o := range []lakeOptions{{}, {byBrand: true}, {hides: true}} {
		asked := slices.Clone(clients)
		for i := range asked {
			if o.byBrand { // of which a third of the versions is read
				asked[i].every = 7
			}
		}
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) { run(t, t.TempDir(), o, asked) })
	}
}

// engine starts a ClickHouse engine in a folder, outside of which it reads no tables.
func engine(t *testing.T, cache *services.Cache, python, dir string) []client {
	t.Helper()
	lib, err := cache.FetchClickHouse(t.Context())
	if services.MaySkip(err) {
		t.Logf("without chDB: %v", err)
		return nil
	}
	must(t, err)
	front, err := cache.BuildFront(t.Context(), filepath.Join("..", ".."))
	if services.MaySkip(err) {
		t.Logf("without chDB: %v", err)
		return nil
	}
	must(t, err)
	c, err := services.StartClickHouse(t.Context(), front, lib, dir, nil)
	must(t, err)
	t.Cleanup(func() { must(t, c.Kill()) })
	return []client{{name: "chDB", python: python, every: 6, settings: map[string]any{"clickhouse": c.Addr,
		"clickhouse_user": c.User, "clickhouse_password": c.Password()}}}
}

func run(t *testing.T, dir string, o lakeOptions, clients []client) {
	l := newLake(t, filepath.Join(dir, "lake"), o)
	all := stages
	switch {
	case o.byBrand:
		all = stagesByBrand
	case o.hides:
		all = stagesOfHidden
	}
	for _, stage := range all {
		for _, o := range stage.operations {
			before := l.tables["sessions"].newest()
			o.do(t, l)
			t.Logf("%s: %s: versions %d to %d of sessions", stage.name, o.name, before+1, l.tables["sessions"].newest())
		}
		l.reopen()
		l.look()
		for _, c := range clients {
			read(t, l, &stage, &c)
		}
	}
	must(t, l.d.Close())
}

// read has a client read everything; of tables by brand, sessions alone, and a third of the versions.
func read(t *testing.T, l *lake, stage *stage, c *client) {
	t.Helper()
	settings := map[string]any{"tables": l.tables, "predicates": predicates(l), "every": c.every, "one_of": 1}
	if l.byBrand {
		settings["tables"], settings["one_of"] = map[string]*table{"sessions": l.tables["sessions"]}, 3
	}
	maps.Copy(settings, c.settings)
	b, err := json.Marshal(settings)
	must(t, err)
	file := filepath.Join(t.TempDir(), "settings.json")
	must(t, os.WriteFile(file, b, 0o600))
	script, err := filepath.Abs("matrix.py")
	must(t, err)
	cmd := exec.CommandContext(t.Context(), c.python, script, c.name, file)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), append(c.env, "TZ=UTC")...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	_, result, _ := bytes.Cut(out, []byte("RESULT "))
	var r struct {
		Client                                       string
		Versions, Predicates, Rows, Refused, Changes int
		Wrong                                        []string
	}
	if json.Unmarshal(bytes.SplitN(result, []byte("\n"), 2)[0], &r) != nil {
		t.Fatalf("%s: %v\n%s\n%s", c.name, err, out, errs.Bytes())
	}
	for _, w := range r.Wrong[:min(5, len(r.Wrong))] {
		t.Errorf("%s, %s: %s", stage.name, r.Client, w)
	}
	if len(r.Wrong) > 5 {
		t.Errorf("%s, %s: and %d more", stage.name, r.Client, len(r.Wrong)-5)
	}
	if r.Versions < stage.versions || r.Predicates < stage.predicates {
		t.Errorf("%s, %s: read %d versions, %d by predicates", stage.name, r.Client, r.Versions, r.Predicates)
	}
	if c.feed && stage.name == "young" && r.Changes < 10 {
		t.Errorf("%s, %s: read %d changes", stage.name, r.Client, r.Changes)
	}
	t.Logf("%s: %s: %d versions and %d predicates equal the truth (%d rows), %d changes their differences; %d that "+
		"are gone are refused", stage.name, r.Client, r.Versions, r.Predicates, r.Rows, r.Changes, r.Refused)
}
