package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"deckle/event"
	"deckle/node/config"
	"deckle/sinks"
	"deckle/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testTopic = "web_clicks"

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

func testLog(t *testing.T) *slog.Logger {
	if os.Getenv("DECKLE_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// broker is an in-process Kafka with one topic.
type broker struct {
	*kfake.Cluster
	t    *testing.T
	opts []kgo.Opt
	adm  *kadm.Client
	out  *kgo.Client
}

func newBroker(t *testing.T, partitions int32) *broker {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, testTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b := &broker{Cluster: c, t: t, opts: []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}}
	b.out, err = kgo.NewClient(append(b.opts, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(testTopic))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.out.Close)
	b.adm = kadm.NewClient(b.out)
	return b
}

// produce writes records in order, each acknowledged before the next partition's.
func (b *broker) produce(rs ...*kgo.Record) {
	b.t.Helper()
	if err := b.out.ProduceSync(testContext(b.t), rs...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

func record(partition int32, session string, i int) *kgo.Record {
	return &kgo.Record{Partition: partition, Key: []byte(session), Value: eventJSON(session, i, "article_view")}
}

// eventJSON makes the i-th event of a session, now.
func eventJSON(session string, i int, kind string) []byte {
	return eventJSONAt(session, i, kind, time.Now())
}

func eventJSONAt(session string, i int, kind string, at time.Time) []byte {
	v, err := json.Marshal(map[string]any{
		"event_id": fmt.Sprintf("00000000-0000-4000-8000-%04x%08x", len(session), hash(session)<<8+uint32(i)), "session_id": session, "user_id": 7,
		"event_type": kind, "timestamp": at.Unix(), "brand": "welt", "article_id": fmt.Sprintf("a%d", i),
	})
	if err != nil {
		panic(err)
	}
	return v
}

func hash(s string) (h uint32) {
	for _, c := range s {
		h = h*31 + uint32(c)
	}
	return h & 0xffffff
}

func sampleEvents(t *testing.T) [][]byte {
	t.Helper()
	f, err := os.Open("../testdata/sample_events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]byte
	for sc := bufio.NewScanner(io.Reader(f)); sc.Scan(); {
		out = append(out, append([]byte(nil), sc.Bytes()...))
	}
	return out
}

func TestSampleTellsKeys(t *testing.T) {
	for _, c := range []struct {
		name         string
		keyed, plain int
		shards       int
		setting      string
		refused      bool
	}{
		{"empty topic is assumed keyed", 0, 0, 3, "auto", false},
		{"keyed", 50, 0, 3, "auto", false},
		{"a stray record", 50, 2, 3, "auto", false},
		{"unkeyed", 0, 50, 3, "auto", true},
		{"unkeyed, one shard", 0, 50, 1, "auto", false},
		{"unkeyed, the operator knows better", 0, 50, 3, "yes", false},
		{"declared unkeyed", 0, 0, 3, "no", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBroker(t, 3)
			for i := range c.keyed {
				b.produce(record(int32(i%3), fmt.Sprint("s", i), i))
			}
			for i := range c.plain {
				b.produce(&kgo.Record{Partition: int32(i % 3), Value: eventJSON("x", i, "search")})
			}
			cfg := &config.Config{Cluster: config.Cluster{Shards: c.shards}, Kafka: config.Kafka{Topic: testTopic, Keyed: c.setting}}
			err := checkKeyed(testContext(t), b.opts, cfg)
			if errors.Is(err, errUnkeyed) != c.refused || !c.refused && err != nil {
				t.Fatalf("got %v, want refused %v", err, c.refused)
			}
		})
	}
}

func openTestSource(t *testing.T, b *broker, next ...state.PartitionStatus) *source {
	t.Helper()
	s, err := openSource(testContext(t), b.opts, testTopic, [16]byte{}, next, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func nextChunk(t *testing.T, s *source) chunk {
	t.Helper()
	select {
	case c := <-s.out:
		return c
	case <-time.After(patience):
		t.Fatal("nothing from Kafka")
		return chunk{}
	}
}

func TestSourceNeverResets(t *testing.T) {
	b := newBroker(t, 1)
	for i := range 20 {
		b.produce(record(0, "s", i))
	}
	if err := b.DeleteRecords(testTopic, 0, 10); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		next int64
	}{{"below the log's start", 5}, {"past its end", 25}} {
		for _, epoch := range []int32{-1, 0} {
			t.Run(fmt.Sprintf("%s, epoch %d", c.name, epoch), func(t *testing.T) {
				s := openTestSource(t, b, state.PartitionStatus{Partition: 0, Next: c.next, LeaderEpoch: epoch})
				got := nextChunk(t, s)
				if len(got.parts) != 1 || !got.parts[0].fatal || len(got.parts[0].records) > 0 {
					t.Fatalf("chunk %+v", got)
				}
			})
		}
	}
}

func TestSourcePassesTransactionMarkers(t *testing.T) {
	b := newBroker(t, 1)
	txn, err := kgo.NewClient(append(b.opts, kgo.TransactionalID("t"), kgo.DefaultProduceTopic(testTopic))...)
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Close()
	ctx := testContext(t)
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := txn.ProduceSync(ctx, record(0, "s", i)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := txn.EndTransaction(ctx, commit); err != nil {
			t.Fatal(err)
		}
	}
	end := listEnds(ctx, b.out, testTopic, time.Now).ends[0]
	s := openTestSource(t, b, state.PartitionStatus{Partition: 0, LeaderEpoch: -1})
	var buf batchBuf
	var next int64
	for next < end {
		for _, p := range nextChunk(t, s).parts {
			for _, r := range p.records {
				buf.add(r, next, false)
				next = r.Offset + 1
			}
		}
	}
	batch := buf.finish()
	if end != 4 || len(batch.Items) != 1 || len(batch.Ranges) != 1 || batch.Ranges[0].To != 4 {
		t.Fatalf("end %d, batch %+v", end, batch.Ranges)
	}
}

func TestRefetchGivesWhatTheEpochsCount(t *testing.T) {
	b := newBroker(t, 2)
	for i := range 30 {
		b.produce(record(int32(i%2), "s", i))
	}
	b.produce(&kgo.Record{Partition: 0, Key: []byte("k"), Value: []byte("{broken")}, &kgo.Record{Partition: 0, Key: []byte("k")})
	f := newRefetch(b.opts, b.out, testTopic, testLog(t))
	plan := func(from int64, events int64) *state.Plan {
		return state.NewTestPlan(state.Config{}, state.SinkEvents, 0, 2, []state.EpochInfo{
			{Epoch: 1, Ranges: []event.Range{{Partition: 0, From: from, To: 10}, {Partition: 1, From: 0, To: 10}},
				LeftOut: []state.Position{{Partition: 0, Offset: 3}, {Partition: 1, Offset: 9}}, Events: 18 - from},
			{Epoch: 2, Ranges: []event.Range{{Partition: 0, From: 10, To: 17}},
				LeftOut: []state.Position{{Partition: 0, Offset: 15}}, Events: events},
		}, state.TestData{})
	}
	ctx := testContext(t)
	var got []state.Position
	if err := f.Events(ctx, plan(0, 5), func(it *event.Item) error {
		got = append(got, state.Position{Partition: it.Partition, Offset: it.Offset})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 23 || got[3].Offset != 4 || got[22].Partition != 1 || got[22].Offset != 8 {
		t.Fatalf("%d items: %v", len(got), got)
	}
	var stop *sinks.StopError
	if err := f.Events(ctx, plan(0, 6), func(*event.Item) error { return nil }); err == nil || errors.As(err, &stop) {
		t.Fatalf("a row that Kafka lacks: %v", err)
	}
	if err := f.Events(ctx, plan(0, 4), func(*event.Item) error { return nil }); err == nil || errors.As(err, &stop) {
		t.Fatalf("a row too many: %v", err)
	}
	if err := b.DeleteRecords(testTopic, 0, 12); err != nil {
		t.Fatal(err)
	}
	if err := f.Events(ctx, plan(0, 5), func(*event.Item) error { return nil }); !errors.As(err, &stop) || !errors.Is(err, errLost) {
		t.Fatalf("lost range: %v", err)
	}
}
