package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parquet-go/parquet-go"

	"deckle/event"
	"deckle/schema/level"
	"deckle/sim"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

// TestDelta writes a truth through the sink into real tables, and plants faults by commits of its own.
func TestDelta(t *testing.T) {
	w := build(t, true)
	st := store.NewLocal(vfs.Default, t.TempDir(), "test")
	items := eventItems(t, w)
	cfg := state.Config{ClusterID: "c", Pipeline: "p", Shards: 1}
	sink, err := delta.Open(t.Context(), delta.Options{Store: st, ClusterID: "c", Pipeline: "p", Events: true,
		EventSource: func(uint32) sinks.EventSource { return memorySource(items) }})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	rows, _ := stateRows(t, w)
	epochs := []state.EpochInfo{{Epoch: 1, Ranges: ranges(items), Events: int64(len(items))}}
	for _, s := range []struct {
		sinks.Sink
		id state.SinkID
	}{{sink.Events(), state.SinkEvents}, {sink.Sessions(), state.SinkSessions}} {
		p := statetest.NewPlan(cfg, s.id, 0, 1, epochs, statetest.Content{Rows: rows})
		p.Level = level.Current
		if err := s.Write(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	r, err := OpenDelta(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	look := func() *Report {
		t.Helper()
		rep, err := Verify(t.Context(), Options{Truth: []sim.Source{w.truth}, Delta: r, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	if rep := look(); !rep.Equal || *rep.DeltaEvents != rep.AppliedEvents ||
		*rep.DeltaSessions != rep.ProducedSessions {
		t.Fatalf("as written: %+v", rep)
	}
	for table, column := range map[string]string{"events": "city", "sessions": "session_duration_sec"} {
		t.Run(table, func(t *testing.T) {
			f := newForge(t, st, table)
			for _, p := range []struct {
				kind   string
				change func(rows []map[string]any) []map[string]any
			}{
				{Lost, func(rows []map[string]any) []map[string]any { return rows[1:] }},
				{Doubled, func(rows []map[string]any) []map[string]any { return append(rows, rows[0]) }},
				{Changed, func(rows []map[string]any) []map[string]any {
					if n, ok := rows[0][column].(int64); ok {
						rows[0][column] = n + 1
					} else {
						rows[0][column] = "Atlantis"
					}
					return rows
				}},
			} {
				key := f.replace(p.change)
				want := planted{table, p.kind, key, ""}
				if p.kind == Changed {
					want.column = column
				}
				if err := want.find(look()); err != nil {
					t.Errorf("%s: %v", p.kind, err)
				}
			}
			f.replace(func(rows []map[string]any) []map[string]any { return rows })
			if rep := look(); !rep.Equal {
				t.Errorf("restored: %v", rep.Differences)
			}
		})
	}
}

// forge rewrites one file of a table by commits that the sink does not know of.
type forge struct {
	t       *testing.T
	st      store.Store
	table   string
	file    *delta.File
	data    []byte
	live    string // path of the present copy
	version int64
}

func newForge(t *testing.T, st store.Store, table string) *forge {
	t.Helper()
	tab, err := delta.OpenTable(t.Context(), st, table)
	if err != nil {
		t.Fatal(err)
	}
	s := tab.Snapshot()
	f := &forge{t: t, st: st, table: table, file: s.Files[0], live: s.Files[0].Path, version: s.Version}
	if f.data, err = st.Get(t.Context(), table+"/"+f.live); err != nil {
		t.Fatal(err)
	}
	return f
}

// replace commits a changed copy of the original file in place of the present one and returns the key of its first row.
func (f *forge) replace(change func([]map[string]any) []map[string]any) string {
	f.t.Helper()
	file, err := parquet.OpenFile(bytes.NewReader(f.data), int64(len(f.data)))
	if err != nil {
		f.t.Fatal(err)
	}
	rows := make([]map[string]any, file.NumRows())
	r := parquet.NewGenericReader[map[string]any](bytes.NewReader(f.data), file.Schema())
	for i := range rows {
		rows[i] = map[string]any{}
	}
	if n, err := r.Read(rows); n != len(rows) {
		f.t.Fatal(n, err)
	}
	key := fmt.Sprint(rows[0]["session_id"])
	if f.table == "events" {
		key = fmt.Sprintf("%v/%v", rows[0]["kafka_partition"], rows[0]["kafka_offset"])
	}
	rows = change(rows)
	var out bytes.Buffer
	columns := file.Schema()
	if f.table == "sessions" { // the writer would take a 0 in an optional column for a null
		required := parquet.Group{}
		for _, c := range columns.Fields() {
			required[c.Name()] = parquet.Required(c)
		}
		columns = parquet.NewSchema("sessionRow", required)
	}
	wr := parquet.NewGenericWriter[map[string]any](&out, columns)
	if _, err := wr.Write(rows); err != nil {
		f.t.Fatal(err)
	}
	if err := wr.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.version++
	dir := f.file.Path[:strings.LastIndex(f.file.Path, "/")+1]
	path := fmt.Sprintf("%sforged-%d.parquet", dir, f.version)
	if err := f.st.Put(f.t.Context(), f.table+"/"+path, out.Bytes()); err != nil {
		f.t.Fatal(err)
	}
	column, _, _ := strings.Cut(dir, "=")
	lines := []any{
		map[string]any{"remove": map[string]any{"path": f.live, "deletionTimestamp": 1, "dataChange": true}},
		map[string]any{"add": map[string]any{"path": path,
			"partitionValues": map[string]string{column: f.file.Partition}, "size": out.Len(),
			"modificationTime": 1, "dataChange": true, "stats": fmt.Sprintf(`{"numRecords":%d}`, len(rows))}},
	}
	var commit bytes.Buffer
	for _, l := range lines {
		b, err := json.Marshal(l)
		if err != nil {
			f.t.Fatal(err)
		}
		commit.Write(append(b, '\n'))
	}
	if err := f.st.PutIfAbsent(f.t.Context(), fmt.Sprintf("%s/_delta_log/%020d.json", f.table, f.version),
		commit.Bytes()); err != nil {
		f.t.Fatal(err)
	}
	f.live = path
	return key
}

// ranges covers the items, and what was left out between them.
func ranges(items []event.Item) (rs []event.Range) {
	for _, it := range items {
		if n := len(rs); n == 0 || rs[n-1].Partition != it.Partition {
			rs = append(rs, event.Range{Partition: it.Partition})
		}
		rs[len(rs)-1].To = it.Offset + 1
	}
	return rs
}

// memorySource gives the events of a plan.
type memorySource []event.Item

func (m memorySource) Events(_ context.Context, _ *state.Plan, yield func(*event.Item) error) error {
	for i := range m {
		if err := yield(&m[i]); err != nil {
			return err
		}
	}
	return nil
}

func (m memorySource) Originals(context.Context, []state.Position, func(int, []byte, bool) error) error {
	return nil
}

// eventItems are the rows of events as the decoder would give them.
func eventItems(t *testing.T, w *world) []event.Item {
	t.Helper()
	var items []event.Item
	for _, row := range w.tables["events"] {
		v := map[string]string{}
		for i, c := range sim.EventColumns {
			v[c] = row[i]
		}
		n := func(c string) int64 {
			i, err := strconv.ParseInt(v[c], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		e := event.Item{Partition: int32(n("kafka_partition")), Offset: n("kafka_offset"),
			KafkaTimestamp: n("kafka_timestamp"), Event: event.Event{
				SessionID: v["session_id"], UserKey: v["user_key"], Timestamp: n("timestamp"), Brand: v["brand"],
				Category:  v["category"],
				ArticleID: v["article_id"], ArticleTitle: v["article_title"], ArticleType: v["article_type"],
				PageURL:  v["page_url"],
				Referrer: v["referrer"], DeviceType: v["device_type"], DeviceOS: v["device_os"], Browser: v["browser"],
				Country: v["country"],
				City:    v["city"], Timezone: v["timezone"], SubscriptionTier: v["subscription_tier"],
				UserSegment:       v["user_segment"],
				EngagementMetrics: v["engagement_metrics"], Metadata: v["metadata"], Extra: v["extra"],
			}}
		var err error
		if e.UserID, err = strconv.ParseUint(v["user_id"], 10, 64); err != nil {
			t.Fatal(err)
		}
		var ok bool
		if e.ID, ok = event.ParseID(v["event_id"]); !ok {
			e.EventID = v["event_id"]
		}
		e.Type, e.TypeName = event.Other, v["event_type"]
		for ty := event.ArticleView; ty <= event.SessionEnd; ty++ {
			if ty.String() == v["event_type"] {
				e.Type, e.TypeName = ty, ""
			}
		}
		items = append(items, e)
	}
	slices.SortFunc(items, func(a, b event.Item) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.Offset - b.Offset)
	})
	return items
}
