package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/schema"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

func TestDeltaCompact(t *testing.T) {
	dir := t.TempDir()
	then := time.Now().Add(-20 * 24 * time.Hour)
	d, err := delta.Open(t.Context(), delta.Options{Store: store.NewLocal(vfs.Default, dir, "test"), ClusterID: "c",
		Pipeline: "p", Now: func() time.Time { return then }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(6) {
		row := schema.SessionRow{SessionID: fmt.Sprint("s", i), Origin: "0/1", SessionDate: int32(then.Unix() / 86_400),
			Epoch: i + 1, BatchID: schema.BatchID(0, i+1), Categories: "[]", PageEvents: "[]"}
		err := d.Sessions().Write(t.Context(), statetest.NewPlan(state.Config{}, state.SinkSessions, i, i+1, nil,
			statetest.Content{Rows: []schema.SessionRow{row}}))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	want := func(line, text string, code int) {
		t.Helper()
		got, out, errs := deltaRun(t, line, "--url", dir)
		if got != code || !strings.Contains(out+errs, text) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s%s", line, got, code, text, out, errs)
		}
	}
	want("compact sessions --dry-run", ": 6 files,", 0)
	want("compact sessions --dry-run --json", `"files":6`, 0)
	want("compact sessions --json --scratch "+scratch, `"files_removed":6,"files_added":1`, 0)
	want("compact sessions", "nothing to do", 0)
	want("fsck sessions --deep", "0 errors, 0 warnings", 0)
	want("log sessions --limit 1", "OPTIMIZE", 0)
	want("compact events", "Deckle has not made it", 1)
	want("compact sessions --closed 0s", "--closed", 2)
	if left, err := vfs.Default.List(scratch); err != nil || len(left) > 0 {
		t.Errorf("left in the scratch folder: %q, %v", left, err)
	}
}
