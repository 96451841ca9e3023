package foreign

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"deckle/integration/services"
)

// operation is something that the tool does to the table while the node runs. It leaves the truth right.
type operation struct {
	name string
	do   func(w *world)
}

var operations = []operation{
	{"ADD COLUMN and UPDATE", update},
	{"DELETE", deleted},
	{"CHECK", check},
	{"OPTIMIZE", func(w *world) { rearrange(w, "compact") }},
	{"Z-ORDER", func(w *world) { rearrange(w, "z_order") }},
	{"VACUUM", vacuum},
	{"checkpoint", func(w *world) { rearrange(w, "checkpoint") }},
	{"change data feed", feed},
	{"appendOnly", appendOnly},
	{"RESTORE", restore},
}

// update gives rows notes in a column of the tool's own. Revisions of one of them, and of a row beside it, leave them.
func update(w *world) {
	w.tool.do(nil, "add_column")
	w.tool.do(nil, "update", "session_id IN ('s1', 's2')", "seen")
	w.notes("seen", "s1", "s2")
	w.late("s1", "s3")
	w.insert("s4", "s5")
}

// deleted takes a row away, which stays away although its session changes.
func deleted(w *world) {
	w.tool.do(nil, "delete", "session_id = 's2'")
	delete(w.rows, "s2")
	w.late("s2")
	w.late("s1", "s4") // of the same shard, later: once they are seen, s2 has been passed
}

// check adds a constraint. A session that violates it is a dead letter, and is written when it changes after the
// constraint is gone.
func check(w *world) {
	w.tool.do(nil, "constrain", "brands", "brand <> 'other' AND total_events > 0")
	w.open("s6", "other")
	w.insert("s7")
	w.late("s5")
	w.settle()
	w.tool.do(nil, "drop", "brands")
	w.rows["s6"] = row{}
	w.late("s6")
}

// rearrange changes no row.
func rearrange(w *world, how string) {
	w.tool.do(nil, how)
	w.equal()
	w.late("s1", "s3", "s7")
	w.insert(fmt.Sprintf("after %s", how))
}

// vacuum removes what the table has no more, and an old file that it never had.
func vacuum(w *world) {
	left := filepath.Join(w.dir, "sessions", "session_date=2020-01-01", "part-00000-left.parquet")
	w.must(os.MkdirAll(filepath.Dir(left), 0o755))
	w.must(os.WriteFile(left, []byte("left over"), 0o644))
	old := time.Now().Add(-30 * 24 * time.Hour)
	w.must(os.Chtimes(left, old, old))
	rearrange(w, "vacuum")
	if _, err := os.Stat(left); err == nil {
		w.t.Error("VACUUM has removed nothing")
	}
}

// change is a row of the change data feed.
type change struct {
	session string
	row     row
}

// feed switches the change data feed on. What the tool reads of it afterwards are the differences between the versions,
// of which some are Deckle's, and some the tool's own.
func feed(w *world) {
	w.tool.do(nil, "set", "delta.enableChangeDataFeed", "true")
	var first, last int64
	w.tool.do(&first, "version")
	w.late("s1", "s4")
	w.insert("f1", "f2")
	w.equal()
	w.tool.do(nil, "update", "session_id IN ('f1', 's3')", "fed")
	w.notes("fed", "f1", "s3")
	w.tool.do(nil, "delete", "session_id = 'f2'")
	delete(w.rows, "f2")
	w.late("f1", "f2", "s5")
	w.equal()
	w.tool.do(nil, "compact")
	w.late("s1", "s3")
	w.equal()
	w.tool.do(&last, "version")
	var rows [][5]any
	w.tool.do(&rows, "changes", first+1, last)
	gone, come := map[int64]map[change]int{}, map[int64]map[change]int{}
	note := func(in map[int64]map[change]int, v int64, c change) {
		if in[v] == nil {
			in[v] = map[change]int{}
		}
		in[v][c]++
	}
	updates := 0
	for _, r := range rows {
		id, events, text := fields(w.t, r[2:])
		version, _ := r[1].(float64)
		c := change{id, row{events, text}}
		switch r[0] {
		case "insert", "update_postimage":
			note(come, int64(version), c)
		case "delete", "update_preimage":
			note(gone, int64(version), c)
			updates++
		default:
			w.t.Errorf("a change %v", r)
		}
	}
	before := w.read(first)
	for v := first + 1; v <= last; v++ {
		now := w.read(v)
		wantGone, wantCome := map[change]int{}, map[change]int{}
		for id, r := range before {
			if now[id] != r {
				wantGone[change{id, r}] = 1
			}
		}
		for id, r := range now {
			if was, ok := before[id]; !ok || was != r {
				wantCome[change{id, r}] = 1
			}
		}
		if !maps.Equal(gone[v], wantGone) || !maps.Equal(come[v], wantCome) {
			w.t.Errorf("version %d: the feed has\n-%v\n+%v, the versions\n-%v\n+%v", v, gone[v], come[v], wantGone,
				wantCome)
		}
		before = now
	}
	if updates < 8 {
		w.t.Errorf("%d rows of the feed were replaced or deleted", updates)
	}
	w.t.Logf("versions %d to %d: %d changes", first+1, last, len(rows))
}

// appendOnly has revisions wait, and nothing else.
func appendOnly(w *world) {
	w.tool.do(nil, "set", "delta.appendOnly", "true")
	old := w.rows["s1"]
	w.late("s1")
	now := w.rows["s1"]
	w.rows["s1"] = old
	w.insert("appended")
	w.equal()
	w.stopped("appendOnly")
	w.tool.do(nil, "set", "delta.appendOnly", "false")
	w.rows["s1"] = now
}

// restore goes back to a version from before some of Deckle's rows. New rows are written; revisions wait until somebody
// has said that the rows are gone, and then leave them so.
func restore(w *world) {
	var version int64
	w.tool.do(&version, "version")
	then := maps.Clone(w.rows)
	w.insert("r1", "r2")
	w.late("s1")
	w.equal()
	w.tool.do(nil, "restore", version)
	w.rows = then
	w.late("s3", "r1")
	now := w.rows["s3"]
	w.rows["s3"] = row{Events: now.Events - 1, Note: now.Note}
	w.insert("r3")
	w.equal()
	w.stopped("RESTORE")
	out, err := exec.CommandContext(w.ctx, w.binary, "delta", "forget-gaps", "sessions", "--yes", "--config",
		w.node.Config).CombinedOutput()
	if err != nil {
		w.t.Fatalf("forget-gaps: %v\n%s", err, out)
	}
	w.rows["s3"] = now
	w.late("s4")
}

// run has a tool do all operations but some.
func run(t *testing.T, binary, python, kind, jars string, but ...string) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	w := start(ctx, t, binary)
	w.leveled()
	w.insert("s1", "s2", "s3")
	w.settle()
	w.startTool(python, kind, jars)
	w.equal()
	for _, o := range operations {
		if slices.Contains(but, o.name) {
			continue
		}
		began := time.Now()
		o.do(w)
		w.equal()
		if t.Failed() {
			t.Fatalf("%s: %s", w.tool.name, o.name)
		}
		t.Logf("%s: %s: %d rows equal, %s", w.tool.name, o.name, len(w.rows), time.Since(began).Round(time.Millisecond))
	}
}

// need ends the test if this machine cannot have a service.
func need(t *testing.T, err error) {
	t.Helper()
	if services.MaySkip(err) {
		t.Skipf("skipped: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDeltaRS has delta-rs do all of it. That appendOnly makes revisions wait is tested with it in sinks/delta.
func TestDeltaRS(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	need(t, err)
	python, err := cache.FetchPython(t.Context())
	need(t, err)
	binary, err := services.BuildDeckle(t.Context(), "../..", t.TempDir())
	need(t, err)
	run(t, binary, python, "delta-rs", "", "appendOnly")
}

// TestSpark has Spark 3.5 and Spark 4 do all of it (make foreign-spark). They are fetched the first time: 2 GB.
func TestSpark(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	need(t, err)
	sparks, err := cache.TestSparks(t.Context())
	need(t, err)
	binary, err := services.BuildDeckle(t.Context(), "../..", t.TempDir())
	need(t, err)
	for _, spark := range sparks {
		t.Run(spark.Version, func(t *testing.T) { run(t, binary, spark.Python, "Spark", spark.Jars) })
	}
}
