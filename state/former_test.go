package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// TestFormerJSON: what a session has stored at level 1 goes into its rows as it came while they are rows of level 1, as
// v0.1.0 would write them; and it goes into its rows of level 2 as all readers read it, so that one record of long ago
// does not spoil the row. It makes no difference whether the session is in memory when the level rises, nor whether its
// events become a segment.
func TestFormerJSON(t *testing.T) {
	long := `{"` + strings.Repeat("n", event.MaxName+1) + `":1}`
	stored := []struct{ came, want string }{
		{`{"v":9007199254740993,"w":[-0,{"x":1e999}]}`, `{"v":"9007199254740993","w":[0,{"x":"1e999"}]}`},
		{`{"v":1, "v": {"a":1, "\u0061":2}}`, `{"v":{"\u0061":2}}`},
		{`{ "v": -0.0, "w" : 0.1 }`, `{ "v": -0.0, "w" : 0.1 }`},
		{long, `null,"engagement_metrics_omitted":true`},
		{``, `null`},
		{`{"v":0.` + strings.Repeat("1", 999) + `}`, `{"v":"0.` + strings.Repeat("1", 999) + `"}`},
	}
	var came, want []string
	for i, s := range stored {
		row := `{"event_type":"search","category":"","article_id":"","article_title":"","page_url":"","timestamp":%d,` +
			`"engagement_metrics":%s}`
		before := s.came
		if before == "" {
			before = "null"
		}
		came, want = append(came, fmt.Sprintf(row, t0+i, before)), append(want, fmt.Sprintf(row, t0+i, s.want))
	}
	late := fmt.Sprintf(`{"event_type":"search","category":"","article_id":"","article_title":"","page_url":"",`+
		`"timestamp":%d,"engagement_metrics":{"w":2}}`, t0+10)

	for _, memory := range []int64{0, 1} {
		for _, segment := range []int{0, 100} {
			opts := Options{FS: vfs.NewMem(), Dir: "shard", SessionMemoryBytes: memory, CheckpointBytes: memory,
				segmentBytes: segment}
			s, err := Open(context.Background(), opts)
			must(t, err)
			index, next := uint64(0), int64(0)
			apply := func(entry []byte) any {
				t.Helper()
				index++
				res, err := s.Apply(index, 1, entry)
				must(t, err)
				return res
			}
			send := func(l level.Level, rules uint32, offset int64, metrics ...string) {
				t.Helper()
				e := &BatchEntry{Now: t0 * 1000, Level: l, Idle: []int32{1, 2}}
				e.Batch.Ranges = []event.Range{{From: next, To: offset + int64(len(metrics)), LeaderEpoch: 1}}
				next = e.Batch.Ranges[0].To
				if l >= level.Real {
					e.Batch.Rules, e.Batch.Seen = rules, make([]event.Seen, 1)
				}
				for i, m := range metrics {
					o := offset + int64(i)
					e.Batch.Items = append(e.Batch.Items, event.Item{Offset: o, KafkaTimestamp: t0 * 1000,
						Event: event.Event{ID: event.ID{byte(o), 1}, SessionID: "s", UserID: 7, Type: event.Search,
							Timestamp: t0 + o, EngagementMetrics: m}})
				}
				if res := apply(AppendBatch(nil, e)).(*BatchResult); res.Applied != int64(len(metrics)) {
					t.Fatalf("%+v", res)
				}
			}
			// rows are the page events of the plan, and whether all of the row is JSON.
			rows := func() string {
				t.Helper()
				p, err := s.OpenPlan(SinkClickHouse)
				must(t, err)
				defer func() { must(t, p.Close()) }()
				text := ""
				must(t, p.Sessions(func(r *schema.SessionRow) error {
					text = strings.Clone(r.PageEvents)
					if !json.Valid([]byte(text)) {
						t.Errorf("no JSON: %s", text)
					}
					return nil
				}))
				return text
			}
			check := func(what, got string, events ...string) {
				t.Helper()
				if want := "[" + strings.Join(events, ",") + "]"; got != want {
					t.Errorf("memory %d, segments %d, %s:\n%s\nwant\n%s", memory, segment, what, got, want)
				}
			}
			apply(EncodeConfig(testConfig()))
			var metrics []string
			for _, m := range stored {
				metrics = append(metrics, m.came)
			}
			send(level.First, 0, 0, metrics...)
			apply(EncodeCut(t0*1000, 0, 0))
			if res := apply(EncodePlan(SinkClickHouse, 1<<40)).(*PlanResult); res.B != 1 {
				t.Fatalf("%+v", res)
			}
			check("at level 1", rows(), came...)

			apply(EncodeLevel(t0*1000, level.Real))
			rules := DefaultRules()
			rules.Number = 1
			apply(EncodeRules(t0*1000, rules))
			check("a plan of level 1 that is still to be written", rows(), came...)

			send(level.Real, 1, 10, `{"w":2}`)
			apply(EncodeCut(t0*1000+1, 0, 0))
			check("the plan of level 1 beside an image of level 2", rows(), came...)
			apply(EncodeAck(SinkClickHouse, 1))
			if res := apply(EncodePlan(SinkClickHouse, 1<<40)).(*PlanResult); res.B <= 1 {
				t.Fatalf("%+v", res)
			}
			check("at level 2", rows(), append(slices.Clip(want), late)...)
			must(t, s.Checkpoint(context.Background()))
			must(t, s.Close())
			s, err = Open(context.Background(), opts)
			must(t, err)
			check("after a restart", rows(), append(slices.Clip(want), late)...)
			row, ok, err := s.Session("s")
			must(t, err)
			if !ok {
				t.Fatal("no session")
			}
			check("as the API shows it", row.PageEvents, append(slices.Clip(want), late)...)
			must(t, s.Close())
		}
	}
}
