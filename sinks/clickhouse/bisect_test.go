package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/state"
)

// openStorePlan returns a store with a plan of the given number of sessions, s-00 and so on, and the plan itself. Every
// third session has no pages.
func openStorePlan(t *testing.T, n int) (*state.Store, *state.Plan) {
	t.Helper()
	const t0 = 1_767_225_600
	store, err := state.Open(t.Context(), state.Options{FS: vfs.NewMem(), Dir: "shard"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := state.Config{
		ClusterID: "cluster-1", Pipeline: "deckle", Shards: 1, Topic: "t", Partitions: []int32{0}, Starts: []int64{0},
		Sinks:       []state.SinkID{state.SinkClickHouse},
		IdleTimeout: 30 * time.Minute, Grace: 30 * time.Second, Retention: 6 * time.Hour, MaxTimers: 5000,
	}
	batch := &state.BatchEntry{Now: t0 * 1000}
	batch.Batch.Ranges = []event.Range{{Partition: 0, From: 0, To: int64(n)}}
	for i := range n {
		it := event.Item{Offset: int64(i), KafkaTimestamp: t0 * 1000, Event: event.Event{
			ID: event.ID{byte(i)}, SessionID: fmt.Sprintf("s-%02d", i), UserID: 7, Type: event.ArticleView,
			Timestamp: t0, Brand: "bild",
		}}
		if i%3 != 0 {
			it.ArticleID = "a"
		}
		batch.Batch.Items = append(batch.Batch.Items, it)
	}
	for i, entry := range [][]byte{
		state.EncodeConfig(cfg), state.AppendBatch(nil, batch), state.EncodeCut(t0*1000, 0, 0),
		state.EncodePlan(state.SinkClickHouse, 0),
	} {
		if _, err := store.Apply(uint64(i+1), 1, entry); err != nil {
			t.Fatal(err)
		}
	}
	p, err := store.OpenPlan(state.SinkClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	return store, p
}

// TestRefusedRowOfStorePlan has a table refuse one session of a store's plan, which, unlike a plan made for tests,
// allows only one reader at a time. The session is named wherever its block is, in the middle of the plan or at its
// end.
func TestRefusedRowOfStorePlan(t *testing.T) {
	const n = 11
	for _, tb := range []*table{&declared[level.First].sessions, &declared[level.First].pages} {
		for i := range n {
			bad := fmt.Sprintf("s-%02d", i)
			t.Run(tb.name+"/"+bad, func(t *testing.T) {
				store, p := openStorePlan(t, n)
				w := newWriter(New(Options{Address: "unused", BlockRows: 3}), p)
				inserted := map[string]bool{}
				w.insert = func(_ context.Context, b *block) error {
					if b.rows > 3 {
						t.Errorf("a block of %d rows", b.rows)
					}
					ids := b.input[0].Data.(*proto.ColStr)
					for r := range b.rows {
						if id := ids.Row(r); b.table == tb && id == bad {
							return fmt.Errorf("insert: %w",
								&ch.Exception{Code: proto.ErrViolatedConstraint, Name: "DB::Exception"})
						}
					}
					for r := range b.rows {
						inserted[b.table.name+" "+ids.Row(r)] = true
					}
					return nil
				}
				ended := make(chan error, 1)
				go func() { ended <- w.sessions(context.Background()) }()
				var err error
				select {
				case err = <-ended:
				case <-time.After(20 * time.Second):
					t.Fatal("the writer hangs")
				}
				var refused *sinks.RefusedError
				switch hasPages := i%3 != 0; {
				case tb == &declared[level.First].pages && !hasPages:
					if err != nil || len(inserted) != n+7 {
						t.Errorf("nothing to refuse: %v, %d rows inserted", err, len(inserted))
					}
				case !errors.As(err, &refused):
					t.Errorf("got %v", err)
				case refused.RowKey != fmt.Sprintf("%s\x000/%d", bad, i) ||
					!strings.Contains(string(refused.Row), `"session_id":"`+bad+`"`):
					t.Errorf("refused: %q, %s", refused.RowKey, refused.Row)
				case inserted[tb.name+" "+bad]:
					t.Error("the refused row was inserted")
				}
				// These are not deferred, because they would wait for a writer that hangs.
				if err := errors.Join(p.Close(), store.Close()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
