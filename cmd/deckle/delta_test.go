package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
	"deckle/sinks/delta/store"
)

// lakeFolder makes a folder with table sessions: version 1 adds a file, version 2 replaces it, and a file was staged
// for nothing. Everything is ten days old.
func lakeFolder(t *testing.T) string {
	t.Helper()
	dir, then := t.TempDir(), time.Now().Add(-10*24*time.Hour)
	st := store.NewLocal(vfs.Default, dir, "test")
	log, err := deltalog.Open(t.Context(), deltalog.Options{Store: st, Name: "sessions", Rand: rand.Reader, Node: "n1",
		KeepFiles: true, Now: func() time.Time { return then },
		Create: &deltalog.Creation{ClusterID: "c", Pipeline: "p", PartitionColumns: []string{"session_date"},
			Fields: []deltalog.Field{{Name: "x", Type: "long"}, {Name: "session_date", Type: "date"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for i := range 3 {
		a := deltalog.Add{Path: fmt.Sprintf("session_date=2026-11-0%d/part-%d.parquet", i+1, i), Size: 10,
			PartitionValues:  map[string]string{"session_date": fmt.Sprintf("2026-11-0%d", i+1)},
			ModificationTime: then.UnixMilli(), DataChange: true, Stats: `{"numRecords":4}`}
		if err := st.Put(t.Context(), "sessions/"+a.Path, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			break // staged for nothing
		}
		c := &deltalog.Change{Last: true, Rows: 4, Adds: []deltalog.Add{a}}
		log.View(func(s *deltalog.Snapshot) {
			c.Parts = []deltalog.Part{s.Part("c/p/0/sessions", int64(i+1))}
			for f := range s.All() {
				c.Removes = append(c.Removes, f.Path)
			}
		})
		if err := log.Submit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	err = filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err == nil {
			err = os.Chtimes(path, then, then)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// deltaRun runs a command of the family and returns its exit code, and what it printed.
func deltaRun(t *testing.T, line string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append(append([]string{"delta"}, strings.Fields(line)...), args...), &out, &errs)
	return code, out.String(), errs.String()
}

func TestDeltaReads(t *testing.T) {
	dir := lakeFolder(t)
	for line, want := range map[string][]string{
		"log sessions":           {"VERSION  TIMESTAMP", "2        20", "WRITE", "deckle n1", "CREATE TABLE"},
		"log sessions --limit 1": {"2        20"},
		"show sessions": {"version         2", "reader 1, writer 2",
			"1, 10 B, 4 rows", "deckle.clusterId", "c/p/0/sessions  2"},
		"show sessions --version 0": {"files           0, 0 B, 0 rows"},
		"diff sessions 1 2": {"1 files added, 10 B, 4 rows; 1 removed",
			"- session_date=2026-11-01/part-0.parquet",
			"+ session_date=2026-11-02/part-1.parquet", "c/p/0/sessions"},
		"files sessions":             {"session_date=2026-11-02/part-1.parquet  10     4"},
		"files sessions --version 1": {"part-0.parquet"},
		"fsck": {"0 errors, 0 warnings",
			"1 removed files wait for vacuum", "1 files that nothing names", "10 days old"},
		"vacuum":                   {"versions from 2 on stay whole (168h0m0s before "},
		"log sessions --json":      {`"operationMetrics":{"numFiles":"1"`},
		"files sessions --json":    {`"stats":{"numRecords":4}`},
		"diff sessions 2 0 --json": {`"to":null`},
		"fsck sessions --json":     {`"findings":[]`},
		"vacuum sessions --json":   {`"objects_found":2`, `"objects_removed":0`},
		"files sessions --partition session_date=2026-11-01":            {"PATH"},
		"show sessions --timestamp " + time.Now().Format(time.DateOnly): {"version         2"},
	} {
		code, stdout, stderr := deltaRun(t, line, "--url", dir)
		if code != exitOK {
			t.Errorf("%s: exit %d: %s", line, code, stderr)
		}
		for _, w := range want {
			if !strings.Contains(stdout, w) {
				t.Errorf("%s: without %q:\n%s", line, w, stdout)
			}
		}
		if strings.Contains(line, "--json") {
			for l := range strings.Lines(stdout) {
				if !json.Valid([]byte(l)) {
					t.Errorf("%s: no JSON: %s", line, l)
				}
			}
		}
	}
	for line, want := range map[string]int{
		"log": exitUsage, "diff sessions 1": exitUsage, "diff sessions 1 x": exitUsage, "show none": exitFailure,
		"show sessions --version 9": exitFailure, "show sessions --version 1 --timestamp 2026-11-01": exitUsage,
		"show sessions --timestamp noon": exitUsage, "files sessions --partition x=1": exitUsage,
		"vacuum --yes": exitUsage, "vacuum --force-short-retention": exitUsage, "vacuum --retain 100h": exitFailure,
		"vacuum --retain 47h --force-short-retention": exitFailure, "log sessions --limit 0": exitUsage,
	} {
		if code, stdout, stderr := deltaRun(t, line, "--url", dir); code != want || stdout != "" || stderr == "" {
			t.Errorf("%s: exit %d, want %d: %s%s", line, code, want, stdout, stderr)
		}
	}
	if code, _, _ := deltaRun(t, "log sessions --url ftp://x"); code != exitUsage {
		t.Errorf("another scheme: exit %d", code)
	}
	if err := os.Remove(filepath.Join(dir, "sessions", "session_date=2026-11-02", "part-1.parquet")); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := deltaRun(t, "fsck", "--url", dir); code != exitFailure ||
		!strings.Contains(stdout, "error: file-missing") {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

// A table is described by the names of DESCRIBE DETAIL, with what other tools have put into its metadata.
func TestDeltaDescribe(t *testing.T) {
	dir := lakeFolder(t)
	const commit = `{"commitInfo":{"operation":"SET TBLPROPERTIES","inCommitTimestamp":1764500000000}}
{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["checkConstraints","appendOnly"]}}
{"metaData":{"id":"i","description":"what it is","format":{"provider":"parquet","options":{}},"schemaString":` +
		`"{\"type\":\"struct\",\"fields\":[{\"name\":\"x\",\"type\":\"long\",\"nullable\":false,\"metadata\":` +
		`{\"comment\":\"the x\",\"CURRENT_DEFAULT\":\"7\"}},{\"name\":\"l\",\"type\":{\"type\":\"array\",` +
		`\"elementType\":\"long\",\"containsNull\":true},\"nullable\":true,\"metadata\":{}}]}",` +
		`"partitionColumns":["session_date"],` +
		`"configuration":{"delta.constraints.small":"x < 9","deckle.clusterId":"c","deckle.pipeline":"p"},` +
		`"createdTime":1764400000000}}
{"txn":{"appId":"c/p/10/sessions.revisions","version":3}}
{"txn":{"appId":"c/p/9/sessions","version":4,"lastUpdated":1764400000000}}
{"txn":{"appId":"spark","version":5}}
`
	name := filepath.Join(dir, "sessions", "_delta_log", "00000000000000000003.json")
	if err := os.WriteFile(name, []byte(commit), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := deltaRun(t, "checkpoint", "--url", dir); code == exitOK {
		t.Errorf("a checkpoint of a table without the cluster's columns: %s", stderr)
	}
	code, stdout, stderr := deltaRun(t, "describe sessions", "--url", dir)
	if code != exitOK {
		t.Fatal(code, stderr)
	}
	for _, want := range []string{"location         " + dir + "/sessions\n", "files            1, 10 B, 4 rows\n",
		"features         appendOnly, checkConstraints\n", "created          2025-11-29T07:06:40Z\n",
		"last modified    2025-11-30T10:53:20Z\n", "last checkpoint  -\n", "description      what it is\n",
		`l       {"type":"array","elementType":"long","containsNull":true}`, "small       x < 9\n",
		"x       long ", "not null  7        the x\n", "SHARD  SINK       EPOCH  UPDATED\n0      sessions   2      ",
		"9      sessions   4      2025-11-29T07:06:40Z\n10     revisions  3      -\n", "spark  5        -\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("without %q:\n%s", want, stdout)
		}
	}
	code, stdout, stderr = deltaRun(t, "describe sessions --json", "--url", dir)
	var d tableDetail
	if code != exitOK || json.Unmarshal([]byte(stdout), &d) != nil {
		t.Fatal(code, stdout, stderr)
	}
	if d.Version != 3 || d.Files != 1 || d.Bytes != 10 || d.Rows != 4 || d.MinWriterVersion != 7 ||
		d.Format != "parquet" || len(d.Columns) != 2 ||
		d.Columns[0] != (history.Column{Name: "x", Type: "long", Default: "7", Comment: "the x"}) ||
		len(d.Constraints) != 1 || len(d.Shards) != 3 || len(d.Others) != 1 || d.Checkpoint != nil {
		t.Errorf("%+v", d)
	}
	if code, _, _ := deltaRun(t, "describe", "--url", dir); code != exitUsage {
		t.Errorf("without a table: exit %d", code)
	}
}

// Nothing goes without --delete and a yes; then what nothing needs goes, and a second run finds nothing.
func TestDeltaVacuum(t *testing.T) {
	dir := lakeFolder(t)
	objects := func() (n int) {
		found, err := filepath.Glob(filepath.Join(dir, "sessions", "session_date=*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if code, stdout, _ := deltaRun(t, "vacuum", "--url", dir); code != exitOK || objects() != 3 {
		t.Fatalf("a dry run: exit %d, %d objects: %s", code, objects(), stdout)
	}
	if _, err := os.Stat(filepath.Join(dir, "sessions", "_deckle_vacuum")); !os.IsNotExist(err) {
		t.Errorf("a dry run has written: %v", err)
	}
	if code, _, stderr := deltaRun(t, "vacuum --delete", "--url", dir); code != exitFailure || objects() != 3 ||
		!strings.Contains(stderr, "not confirmed") {
		t.Fatalf("without an answer: exit %d, %d objects: %s", code, objects(), stderr)
	}
	code, stdout, stderr := deltaRun(t, "vacuum --delete --yes", "--url", dir)
	if code != exitOK || objects() != 1 || !strings.Contains(stdout, "2 objects removed") {
		t.Fatalf("exit %d, %d objects left: %s%s", code, objects(), stdout, stderr)
	}
	if code, stdout, _ = deltaRun(t, "vacuum --delete --yes --json", "--url", dir); code != exitOK ||
		!strings.Contains(stdout, `"objects_found":0`) {
		t.Errorf("a second run: exit %d: %s", code, stdout)
	}
	if code, stdout, _ = deltaRun(t, "fsck", "--url", dir); code != exitOK {
		t.Errorf("afterwards: exit %d: %s", code, stdout)
	}
}

func TestDeltaCheckpoint(t *testing.T) {
	dir := t.TempDir()
	d, err := delta.Open(t.Context(), delta.Options{Store: store.NewLocal(vfs.Default, dir, "test"), ClusterID: "c",
		Pipeline: "p", Events: true, EventSource: func(uint32) sinks.EventSource { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"is written", "is there already"} {
		code, stdout, stderr := deltaRun(t, "checkpoint", "--url", dir)
		if code != exitOK || !strings.Contains(stdout, "table events: the checkpoint of version 0 "+want) ||
			!strings.Contains(stdout, "table sessions: the checkpoint of version 0 "+want) {
			t.Errorf("%s: %d, %s%s", want, code, stdout, stderr)
		}
	}
	for _, table := range []string{"events", "sessions"} {
		name := filepath.Join(dir, table, "_delta_log", "00000000000000000000.checkpoint.parquet")
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
		if code, stdout, _ := deltaRun(t, "fsck", table, "--url", dir); code != exitOK ||
			!strings.Contains(stdout, "1 checkpoints") {
			t.Errorf("fsck: %d, %s", code, stdout)
		}
		if code, stdout, _ := deltaRun(t, "describe "+table, "--url", dir); code != exitOK ||
			!strings.Contains(stdout, "last checkpoint  version 0, ") ||
			!strings.Contains(stdout, "features         appendOnly, invariants\n") {
			t.Errorf("describe: %d, %s", code, stdout)
		}
	}
	if code, stdout, _ := deltaRun(t, "checkpoint sessions --json", "--url", dir); code != exitOK ||
		!strings.Contains(stdout, `{"table":"sessions","version":0,"bytes":`) ||
		!strings.Contains(stdout, `"made":false`) {
		t.Errorf("JSON: %d, %s", code, stdout)
	}
	// What no node could write gets none.
	other := lakeFolder(t)
	if code, _, stderr := deltaRun(t, "checkpoint sessions", "--url", other); code != exitFailure ||
		!strings.Contains(stderr, "column") {
		t.Errorf("another table: %d, %s", code, stderr)
	}
	if code, _, _ := deltaRun(t, "checkpoint nothing", "--url", dir); code != exitFailure {
		t.Errorf("no table: %d", code)
	}
}
