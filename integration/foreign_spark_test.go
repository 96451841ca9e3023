package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/integration/services"
	"deckle/schema"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

// sparkSession runs SQL on tables of a folder.
type sparkSession struct {
	t       *testing.T
	in      io.Writer
	out     *bufio.Scanner
	version string
}

func startSpark(t *testing.T, spark *services.Spark) *sparkSession {
	t.Helper()
	cmd, err := spark.Command(t.Context(), t.TempDir(), "foreign_spark.py", spark.Jars)
	must(t, err)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	s := &sparkSession{t: t, in: in, out: bufio.NewScanner(out)}
	s.out.Buffer(nil, 16<<20)
	must(t, json.Unmarshal(s.answer(), &s.version))
	return s
}

func (s *sparkSession) answer() []byte {
	s.t.Helper()
	for s.out.Scan() {
		if text, ok := strings.CutPrefix(s.out.Text(), "RESULT "); ok {
			return []byte(text)
		}
	}
	s.t.Fatalf("Spark has ended: %v", s.out.Err())
	return nil
}

func (s *sparkSession) sql(format string, args ...any) (rows [][]*string) {
	s.t.Helper()
	line := fmt.Sprintf(format, args...)
	_, err := fmt.Fprintln(s.in, line)
	must(s.t, err)
	a := s.answer()
	if json.Unmarshal(a, &rows) != nil {
		s.t.Fatalf("%s: %s", line, a)
	}
	return rows
}

// TestSparkBesideDeckle: Spark changes a table between what Deckle's sinks write; both go on, and Spark reads what
// each of the two has written. What Deckle cannot write stops its sinks by name, and they go on once Spark has undone
// it.
func TestSparkBesideDeckle(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	with, err := cache.TestSpark(t.Context())
	need(t, err)
	dir := folder(t)
	d, err := delta.Open(t.Context(), delta.Options{Store: store.NewLocal(vfs.Default, dir, "test"), ClusterID: "c",
		Pipeline: "p"})
	must(t, err)
	defer d.Close()
	want := map[string][]string{}
	row := func(epoch uint64, n int, brand string) schema.SessionRow {
		return schema.SessionRow{SessionID: fmt.Sprint("s", n), Origin: fmt.Sprint("0/", n), SessionDate: 19_000,
			FirstClosed: epoch, Epoch: epoch, BatchID: schema.BatchID(0, epoch), Brand: brand,
			Status: schema.StatusExpired, Start: 1_650_000_000, End: 1_650_000_001, TotalEvents: 3, Categories: "[]",
			CreatedAt: 1_700_000_000_000}
	}
	position := map[state.SinkID]uint64{}
	write := func(id state.SinkID, b uint64, rows ...schema.SessionRow) error {
		var s sinks.Sink = d.Sessions()
		if id == state.SinkRevisions {
			s = d.Revisions()
			for i := range rows {
				rows[i].Epoch, rows[i].BatchID = b, schema.BatchID(0, b)
			}
		}
		if _, err := s.Position(t.Context(), 0); err != nil {
			return err
		}
		p := statetest.NewPlan(state.Config{}, id, position[id], b, nil, statetest.Content{Rows: rows})
		if err := s.Write(t.Context(), p); err != nil {
			return err
		}
		position[id] = b
		for _, r := range rows {
			w := append([]string{r.Brand}, "", "")
			if old := want[r.SessionID]; old != nil {
				w = append([]string{r.Brand}, old[1:]...)
			}
			want[r.SessionID] = w
		}
		return nil
	}
	must(t, write(state.SinkSessions, 1, row(1, 1, "bild"), row(1, 2, "bild")))
	must(t, write(state.SinkSessions, 2, row(2, 3, "welt")))
	spark := startSpark(t, with)
	table := "delta.`" + filepath.Join(dir, "sessions") + "`"
	look := func(what string) {
		t.Helper()
		got := map[string][]string{}
		for _, r := range spark.sql("SELECT session_id, brand, coalesce(note, ''), "+
			"coalesce(array_join(tags, ','), '') FROM %s", table) {
			got[*r[0]] = []string{*r[1], *r[2], *r[3]}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after %s:\n got %v\nwant %v", what, got, want)
		}
	}
	spark.sql("ALTER TABLE %s ADD COLUMNS (note STRING, tags ARRAY<STRING>)", table)
	spark.sql("ALTER TABLE %s ALTER COLUMN brand COMMENT 'of the paper'", table)
	spark.sql("UPDATE %s SET note = 'seen', tags = array('a', 'b') WHERE session_id IN ('s1', 's2')", table)
	for _, id := range []string{"s1", "s2"} {
		want[id] = []string{"bild", "seen", "a,b"}
	}
	look("UPDATE")
	must(t, write(state.SinkRevisions, 3, row(1, 1, "welt"), row(2, 3, "bild")))
	look("revisions")
	spark.sql("OPTIMIZE %s", table)
	must(t, write(state.SinkSessions, 3, row(3, 4, "bild")))
	must(t, write(state.SinkRevisions, 4, row(1, 1, "bild"), row(3, 4, "welt")))
	look("OPTIMIZE")
	spark.sql("DELETE FROM %s WHERE session_id = 's2'", table)
	delete(want, "s2")
	must(t, write(state.SinkRevisions, 5, row(2, 3, "welt")))
	look("DELETE")
	spark.sql("ALTER TABLE %s ADD CONSTRAINT brands CHECK (brand IN ('bild', 'welt') AND session_date > '2020-01-01')",
		table)
	var refused *sinks.RefusedError
	if err := write(state.SinkSessions, 4, row(4, 5, "other")); !errors.As(err, &refused) ||
		!strings.Contains(refused.Brief, "constraint brands") {
		t.Errorf("CHECK: %v", err)
	}
	must(t, write(state.SinkSessions, 4, row(4, 6, "bild")))
	look("ADD CONSTRAINT")
	var stop *sinks.StopError
	stops := func(what, text string) {
		t.Helper()
		if err := write(state.SinkSessions, 9, row(5, 7, "bild")); !errors.As(err, &stop) ||
			!strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	spark.sql("ALTER TABLE %s ADD CONSTRAINT long CHECK (length(brand) > 2)", table)
	stops("another expression", "constraint long")
	spark.sql("ALTER TABLE %s DROP CONSTRAINT long", table)
	must(t, write(state.SinkSessions, 5, row(5, 7, "bild")))
	spark.sql("ALTER TABLE %s SET TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true')", table)
	must(t, write(state.SinkSessions, 6, row(6, 8, "bild")))
	must(t, write(state.SinkRevisions, 6, row(1, 1, "welt")))
	look("a change data feed")
	spark.sql("ALTER TABLE %s SET TBLPROPERTIES ('delta.enableChangeDataFeed' = 'false')", table)
	spark.sql("ALTER TABLE %s SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true', "+
		"'delta.checkpointInterval' = '2')", table)
	vectors := func(what string, least int64) {
		t.Helper()
		tab, err := delta.OpenTable(t.Context(), store.NewLocal(vfs.Default, dir, "test"), "sessions")
		must(t, err)
		hidden, rows := int64(0), 0
		for _, f := range tab.Snapshot().Files {
			if f.Vector != nil {
				hidden += f.Vector.Cardinality
			}
		}
		must(t, tab.ReadSessions(t.Context(), tab.Snapshot().Files, func(r *schema.SessionRow) error {
			if rows++; want[r.SessionID] == nil || want[r.SessionID][0] != r.Brand {
				t.Errorf("after %s, read here: %s of %s, want %v", what, r.SessionID, r.Brand, want[r.SessionID])
			}
			return nil
		}))
		if hidden < least || rows != len(want) {
			t.Errorf("after %s: %d rows are hidden, %d are read, want %d", what, hidden, rows, len(want))
		}
	}
	var of []schema.SessionRow
	for n := range 6 {
		of = append(of, row(7, 10+n, "bild"))
	}
	must(t, write(state.SinkSessions, 7, of...))
	spark.sql("DELETE FROM %s WHERE session_id IN ('s10', 's12')", table)
	delete(want, "s10")
	delete(want, "s12")
	look("DELETE by a vector")
	vectors("DELETE", 2)
	must(t, write(state.SinkRevisions, 8, row(7, 11, "welt")))
	look("a revision in a file with a vector")
	vectors("a revision", 0)
	spark.sql("UPDATE %s SET note = 'again' WHERE session_id = 's13'", table)
	want["s13"] = []string{"bild", "again", ""}
	spark.sql("DELETE FROM %s WHERE session_id = 's14'", table)
	delete(want, "s14")
	must(t, write(state.SinkSessions, 8, row(8, 17, "welt")))
	must(t, write(state.SinkRevisions, 9, row(7, 13, "welt")))
	must(t, write(state.SinkSessions, 9, row(9, 18, "welt")))
	look("UPDATE and DELETE by vectors")
	vectors("UPDATE and DELETE", 0)
	if spark.version < "4" { // without its history, which must be a day old there, the feature stays
		return
	}
	spark.sql("ALTER TABLE %s SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'false')", table)
	spark.sql("REORG TABLE %s APPLY (PURGE)", table)
	spark.sql("ALTER TABLE %s DROP FEATURE deletionVectors", table)
	must(t, write(state.SinkSessions, 10, row(10, 9, "bild")))
	must(t, write(state.SinkRevisions, 10, row(1, 1, "bild")))
	look("DROP FEATURE, with " + strings.Join(slices.Sorted(maps.Keys(want)), " "))
}
