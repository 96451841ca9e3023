package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/nodetest"
	"deckle/node/reconcile"
	"deckle/sim/testworld/clickhouse"
	"deckle/sim/testworld/objects"
	"deckle/sinks/delta"
	"deckle/state"
)

// spoiledViews are the views of ClickHouse with rows that are changed, left out (nil) or given twice.
type spoiledViews struct {
	reconcile.Views

	spoil func(view string, row []string) [][]string
}

func (v spoiledViews) SessionsOf(ctx context.Context, date int32, columns []string, yield func([]string) error) error {
	return v.Views.SessionsOf(ctx, date, columns, v.each("session_metrics", yield))
}

func (v spoiledViews) Rows(ctx context.Context, view string, columns []string, yield func([]string) error) error {
	return v.Views.Rows(ctx, view, columns, v.each(view, yield))
}

func (v spoiledViews) each(view string, yield func([]string) error) func([]string) error {
	return func(row []string) error {
		for _, r := range v.spoil(view, row) {
			if err := yield(r); err != nil {
				return err
			}
		}
		return nil
	}
}

// spoiledLog is the source topic with records that are left out.
type spoiledLog struct {
	reconcile.Log

	topic string
	keep  func(*kgo.Record) bool
}

func (l spoiledLog) ReadStretches(ctx context.Context, topic string, s []kafka.Stretch,
	yield func(*kgo.Record) error) error {
	return l.Log.ReadStretches(ctx, topic, s, func(r *kgo.Record) error {
		if topic == l.topic && !l.keep(r) {
			return nil
		}
		return yield(r)
	})
}

// A node has read everything that a record can be. What its tables show is accounted for, offset by offset and session
// by session; and whatever is taken from a table, put into it twice or changed is found and named.
func TestReconcile(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	mem := objects.NewMem(nil)
	click := clickhouse.New(clickhouse.Options{})
	t.Cleanup(click.Close)
	c := newCluster(t, b, 1, func(cfg *config.Config) {
		cfg.Delta = &config.Delta{RevisionInterval: 200 * time.Millisecond, Path: "/delta"}
		cfg.ClickHouse = &config.ClickHouse{Address: "clickhouse:9000"}
		cfg.Rules.Exclude = []config.Exclude{{Name: "robots", Field: "browser", Equal: []string{"robot"}}}
	})
	c.realSinks = true
	c.adapt = func(d *Deps) { d.DeltaStore, d.ClickHouseDial = mem, click.Dial }
	c.start(0)

	began := time.Now()
	session := func(p int32, name string, events int, closed bool) (rs []*kgo.Record) {
		for i := range events {
			rs = append(rs, nodetest.Record(p, name, i))
		}
		if closed {
			rs = append(rs, &kgo.Record{Partition: p, Key: []byte(name),
				Value: nodetest.EventJSON(name, events, "session_end")})
		}
		return rs
	}
	first := session(0, "s1", 5, true)                   // 0/0 to 0/5
	first = append(first, session(1, "s2", 4, true)...)  // 1/0 to 1/4
	first = append(first, session(1, "s3", 3, false)...) // 1/5 to 1/7: open
	again := *first[2]                                   // 0/6: a duplicate of 0/2
	broken := kgo.Record{Value: []byte(`{"event_id":`)}  // 0/7
	empty := kgo.Record{Key: []byte("k")}                // 0/8
	robot := nodetest.Record(0, "s9", 1)                 // 0/9
	robot.Value = bytes.Replace(robot.Value, []byte(`"brand"`), []byte(`"browser":"robot","brand"`), 1)
	b.Produce(append(first, &again, &broken, &empty, robot)...)
	nodetest.Until(t, "all is applied", func() bool { return c.sum(applied) >= 14 })
	nodetest.Until(t, "every sink has everything", c.allAcked(state.SinkEvents, state.SinkSessions,
		state.SinkRevisions, state.SinkClickHouse, state.SinkDeadLetter))
	// Sessions close a grace after their last record, so in a later epoch than it: each sink is waited for.
	nodetest.Until(t, "both sessions that have ended are in Delta", func() bool {
		table, err := delta.OpenTable(t.Context(), mem, "sessions")
		if err != nil {
			t.Fatal(err)
		}
		s := table.Snapshot()
		return s.Records == 2
	})
	nodetest.Until(t, "both sessions that have ended are in ClickHouse", func() bool {
		rows := click.Rows("analytics", "session_metrics")
		closed := slices.DeleteFunc(rows, func(r clickhouse.Row) bool { return r.Text("status") != "closed" })
		return len(closed) == 2
	})
	c.stop(0)

	cfg := c.config(0)
	deps := Deps{FS: c.fs, Logger: nodetest.Log(t), KafkaOpts: b.Opts, DeltaStore: mem, ClickHouseDial: click.Dial}
	deps.complete()
	compare := func(t *testing.T, spoil func(*reconcile.Options)) *reconcile.Report {
		t.Helper()
		o, done, err := openReconcile(t.Context(), cfg, &deps, &ReconcileOptions{From: began.Add(-time.Minute),
			To: time.Now().Add(time.Minute), Settle: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		o.Now = func() time.Time { return time.Now().Add(time.Minute) } // so that every row is old enough
		o.Pause = func(context.Context, time.Duration) error { return nil }
		if spoil != nil {
			spoil(&o)
		}
		report, err := reconcile.Compare(t.Context(), o)
		if err = errors.Join(err, done()); err != nil {
			t.Fatal(err)
		}
		return report
	}

	t.Run("whole", func(t *testing.T) {
		r := compare(t, nil)
		var text strings.Builder
		if err := r.Write(&text); err != nil {
			t.Fatal(err)
		}
		if !r.Equal || len(r.Findings) > 0 || len(r.Partitions) != 2 || len(r.Notes) > 0 {
			t.Fatalf("%s", text.String())
		}
		p := r.Partitions[0]
		if p.Rows != 6 || p.Duplicates != 1 || p.Letters != 1 || p.Empty != 1 || p.LeftOut["robots"] != 1 ||
			p.To != 10 {
			t.Errorf("partition 0: %+v", p)
		}
		if p := r.Partitions[1]; p.Rows != 8 || p.To != 8 {
			t.Errorf("partition 1: %+v", p)
		}
		if sums := sumOf(r.Dates); sums.Delta != 2 || sums.ClickHouse != 3 || sums.Open != 1 || sums.Equal != 2 {
			t.Errorf("dates: %+v", r.Dates)
		}
	})

	// Records that nothing has taken.
	late := session(0, "s4", 1, false)[0]                // 0/10
	worse := &kgo.Record{Partition: 0, Value: []byte{1}} // 0/11
	b.Produce(late, worse)
	t.Run("records without rows", func(t *testing.T) {
		r := compare(t, nil)
		wantFound(t, r, map[reconcile.Kind]int64{reconcile.RowMissing: 1, reconcile.LetterMissing: 1}, "0/10", "0/11")
		if p := r.Partitions[0]; p.Missing != 2 {
			t.Errorf("%+v", p)
		}
	})
	t.Run("records of suppressed readers", func(t *testing.T) {
		r := compare(t, func(o *reconcile.Options) {
			o.Suppressed = func(_ context.Context, at []reconcile.Position) (map[reconcile.Position]bool, error) {
				return map[reconcile.Position]bool{{Partition: 0, Offset: 10}: true,
					{Partition: 0, Offset: 11}: true}, nil
			}
		})
		if p := r.Partitions[0]; !r.Equal || p.Suppressed != 2 {
			t.Errorf("%+v %v", p, r.Findings)
		}
		r = compare(t, func(o *reconcile.Options) {
			o.Suppressed = func(context.Context, []reconcile.Position) (map[reconcile.Position]bool, error) {
				return nil, errors.New("no node answers")
			}
		})
		if r.Equal || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "no node answers") {
			t.Errorf("%v %v", r.Notes, r.Findings)
		}
	})
	t.Run("a letter that was purged, and one that was not", func(t *testing.T) {
		purged := &kgo.Record{Topic: cfg.Kafka.DLQ + ".review", Key: fmt.Appendf(nil, "%s/0/11", nodetest.Topic),
			Value: []byte(`{"state":"discarded"}`)}
		if _, err := b.Adm.CreateTopic(t.Context(), 1, 1, nil, purged.Topic); err != nil {
			t.Fatal(err)
		}
		b.Produce(purged)
		wantFound(t, compare(t, nil), map[reconcile.Kind]int64{reconcile.RowMissing: 1}, "0/10")
	})
	quiet := func(o *reconcile.Options) { // leaves out the two
		o.Log = spoiledLog{o.Log, o.Topic, func(r *kgo.Record) bool { return r.Partition != 0 || r.Offset < 10 }}
	}
	t.Run("a row without a record", func(t *testing.T) {
		r := compare(t, func(o *reconcile.Options) {
			o.Log = spoiledLog{o.Log, o.Topic, func(r *kgo.Record) bool { return r.Partition == 1 && r.Offset != 6 }}
		})
		if r.Found[reconcile.RowUnknown] != 7 { // 0/0 to 0/5 and 1/6
			t.Errorf("%v", r.Findings)
		}
	})
	for name, tc := range map[string]struct {
		spoil func(view string, row []string) [][]string
		want  map[reconcile.Kind]int64
	}{
		"a session less": {func(view string, row []string) [][]string {
			if view == "session_metrics" && row[0] == "s2" {
				return nil
			}
			return [][]string{row}
		}, map[reconcile.Kind]int64{reconcile.Session: 1, reconcile.Totals: 1}},
		"a session more": {func(view string, row []string) [][]string {
			if view == "session_metrics" && row[0] == "s2" {
				other := slices.Clone(row)
				other[0] = "s7"
				return [][]string{row, other}
			}
			return [][]string{row}
		}, map[reconcile.Kind]int64{reconcile.Session: 1, reconcile.Totals: 1}},
		"a session twice": {func(view string, row []string) [][]string {
			if view == "session_metrics" && row[0] == "s3" {
				return [][]string{row, row}
			}
			return [][]string{row}
		}, map[reconcile.Kind]int64{reconcile.Session: 1, reconcile.Totals: 1}},
		"another value": {func(view string, row []string) [][]string {
			if view == "session_metrics" && row[0] == "s1" {
				row[len(row)-1] = "9" // revision
			}
			return [][]string{row}
		}, map[reconcile.Kind]int64{reconcile.Session: 1}},
		"another total": {func(view string, row []string) [][]string {
			if view == "session_summary" {
				row[len(row)-1] = "9"
			}
			return [][]string{row}
		}, map[reconcile.Kind]int64{reconcile.Totals: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := compare(t, func(o *reconcile.Options) {
				quiet(o)
				o.ClickHouse = spoiledViews{o.ClickHouse, tc.spoil}
			})
			wantFound(t, r, tc.want)
		})
	}
	t.Run("rows that have just changed are not judged", func(t *testing.T) {
		r := compare(t, func(o *reconcile.Options) {
			quiet(o)
			o.Settle = time.Hour
			o.ClickHouse = spoiledViews{o.ClickHouse, func(view string, row []string) [][]string {
				if view == "session_metrics" && row[0] == "s1" {
					row[len(row)-1] = "9"
				}
				return [][]string{row}
			}}
		})
		if sums := sumOf(r.Dates); !r.Equal || sums.NotJudged != 2 || sums.Equal != 0 {
			t.Errorf("%+v %v", r.Dates, r.Findings)
		}
	})

	// A file of events is put into the log a second time, under another name.
	t.Run("rows twice, and rows removed", func(t *testing.T) {
		doubled := spoilLake(t, mem)
		r := compare(t, quiet)
		if r.Found[reconcile.RowDoubled] != doubled || r.Found[reconcile.Session] == 0 {
			t.Errorf("%v, want %d rows twice and sessions that Delta lacks", r.Found, doubled)
		}
	})
}

func wantFound(t *testing.T, r *reconcile.Report, want map[reconcile.Kind]int64, named ...string) {
	t.Helper()
	if r.Equal || fmt.Sprint(r.Found) != fmt.Sprint(want) {
		t.Errorf("found %v, want %v: %v", r.Found, want, r.Findings)
	}
	all := fmt.Sprint(r.Findings)
	for _, n := range named {
		if !strings.Contains(all, n) {
			t.Errorf("%s is not named: %s", n, all)
		}
	}
	if strings.Contains(all, "s1 ") || strings.Contains(all, "s2 ") {
		t.Errorf("a finding shows a session: %s", all)
	}
}

func sumOf(dates []reconcile.Date) (s reconcile.Date) {
	for _, d := range dates {
		s.Delta, s.ClickHouse, s.Open = s.Delta+d.Delta, s.ClickHouse+d.ClickHouse, s.Open+d.Open
		s.Equal, s.NotJudged = s.Equal+d.Equal, s.NotJudged+d.NotJudged
	}
	return s
}

// The ids of a record are asked for as the list of suppressed readers knows them.
func TestReaderOf(t *testing.T) {
	for ev, want := range map[event.Event]Reader{
		{SessionID: "s", UserID: 27}: {"27", "s"},
		{SessionID: "s"}:             {"", "s"},
		{SessionID: "s", UserID: 1 << 63, UserKey: "a@b.test"}: {"a@b.test", "s"},
	} {
		if got := readerOf(&ev); got != want {
			t.Errorf("%+v: %+v", ev, got)
		}
	}
}

// spoilLake gives the table events a copy of one of its files, and takes a file from sessions. It returns how many rows
// are in events twice.
func spoilLake(t *testing.T, mem *objects.Mem) (doubled int64) {
	t.Helper()
	type action struct {
		Add *struct {
			Path             string            `json:"path"`
			PartitionValues  map[string]string `json:"partitionValues"`
			Size             int64             `json:"size"`
			ModificationTime int64             `json:"modificationTime"`
			DataChange       bool              `json:"dataChange"`
			Stats            string            `json:"stats"`
		} `json:"add"`
	}
	for _, table := range []string{"events", "sessions"} {
		var last action
		next := 0
		for _, key := range mem.Keys(table + "/_delta_log/") {
			if !strings.HasSuffix(key, ".json") {
				continue
			}
			next++
			for line := range bytes.Lines(mem.Contents()[key]) {
				var a action
				if err := json.Unmarshal(line, &a); err == nil && a.Add != nil {
					last = a
				}
			}
		}
		if last.Add == nil {
			t.Fatalf("%s has no file", table)
		}
		commit := map[string]any{"remove": map[string]any{"path": last.Add.Path, "dataChange": true,
			"deletionTimestamp": 1, "partitionValues": last.Add.PartitionValues}}
		if table == "events" {
			var stats struct{ NumRecords int64 }
			if err := json.Unmarshal([]byte(last.Add.Stats), &stats); err != nil {
				t.Fatal(err)
			}
			doubled = stats.NumRecords
			old := last.Add.Path
			last.Add.Path = strings.Replace(old, "part-", "part-copy-", 1)
			mem.Overwrite("events/"+last.Add.Path, mem.Contents()["events/"+old])
			commit = map[string]any{"add": last.Add}
		}
		text, err := json.Marshal(commit)
		if err != nil {
			t.Fatal(err)
		}
		mem.Overwrite(fmt.Sprintf("%s/_delta_log/%020d.json", table, next), text)
	}
	return doubled
}
