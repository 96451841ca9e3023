package kafka

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"deckle/event"
	"deckle/node/nodetest"
	"deckle/sinks"
	"deckle/state"
	"deckle/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clientOf is a client of the broker's topic; opts replace the broker's.
func clientOf(b *nodetest.Broker, opts ...kgo.Opt) *Client {
	if opts == nil {
		opts = b.Opts
	}
	return &Client{opts: opts, admin: b.Out, topic: nodetest.Topic}
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
			b := nodetest.NewBroker(t, 3)
			for i := range c.keyed {
				b.Produce(nodetest.Record(int32(i%3), fmt.Sprint("s", i), i))
			}
			for i := range c.plain {
				b.Produce(&kgo.Record{Partition: int32(i % 3), Value: nodetest.EventJSON("x", i, "search")})
			}
			_, err := clientOf(b).CheckKeys(nodetest.Context(t), c.setting, c.shards)
			if errors.Is(err, ErrUnkeyed) != c.refused || !c.refused && err != nil {
				t.Fatalf("got %v, want refused %v", err, c.refused)
			}
		})
	}
}

func openTestSource(t *testing.T, b *nodetest.Broker, next ...state.PartitionStatus) *Source {
	t.Helper()
	s, err := clientOf(b).OpenSource(nodetest.Context(t), [16]byte{}, next, 1<<20, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func nextChunk(t *testing.T, s *Source) Chunk {
	t.Helper()
	select {
	case c := <-s.Chunks():
		return c
	case <-time.After(nodetest.Patience):
		t.Fatal("nothing from Kafka")
		return Chunk{}
	}
}

func TestSourceNeverResets(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	for i := range 20 {
		b.Produce(nodetest.Record(0, "s", i))
	}
	if err := b.DeleteRecords(nodetest.Topic, 0, 10); err != nil {
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
				if len(got.Parts) != 1 || !got.Parts[0].Fatal || len(got.Parts[0].Records) > 0 {
					t.Fatalf("chunk %+v", got)
				}
			})
		}
	}
}

func TestRefetchGivesWhatTheEpochsCount(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	for i := range 30 {
		b.Produce(nodetest.Record(int32(i%2), "s", i))
	}
	b.Produce(&kgo.Record{Partition: 0, Key: []byte("k"), Value: []byte("{broken")},
		&kgo.Record{Partition: 0, Key: []byte("k")})
	f := NewRefetch(clientOf(b), noKey)
	plan := func(from int64, events int64) *state.Plan {
		return statetest.NewPlan(state.Config{}, state.SinkEvents, 0, 2, []state.EpochInfo{
			{Epoch: 1, Ranges: []event.Range{{Partition: 0, From: from, To: 10}, {Partition: 1, From: 0, To: 10}},
				LeftOut: []state.Position{{Partition: 0, Offset: 3}, {Partition: 1, Offset: 9}}, Events: 18 - from},
			{Epoch: 2, Ranges: []event.Range{{Partition: 0, From: 10, To: 17}},
				LeftOut: []state.Position{{Partition: 0, Offset: 15}}, Events: events},
		}, statetest.Content{})
	}
	ctx := nodetest.Context(t)
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
	if err := b.DeleteRecords(nodetest.Topic, 0, 12); err != nil {
		t.Fatal(err)
	}
	if err := f.Events(ctx, plan(0, 5), func(*event.Item) error {
		return nil
	}); !errors.As(err, &stop) || !errors.Is(err, errLost) {
		t.Fatalf("lost range: %v", err)
	}
}

// A steady stream costs one fetch per gatherWait, not one per record.
func TestFetchesGather(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	s, err := clientOf(b).OpenSource(nodetest.Context(t), [16]byte{},
		[]state.PartitionStatus{{Partition: 0, LeaderEpoch: -1}}, 1<<20, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const records = 100
	chunks, got := 0, 0
	take := func(c Chunk) {
		for _, p := range c.Parts {
			if p.Err != nil {
				t.Fatal(p.Err)
			}
			got += len(p.Records)
		}
		chunks++
	}
	began := time.Now()
	for i := range records {
		b.Produce(nodetest.Record(0, "s", i))
		for next := time.After(5 * time.Millisecond); next != nil; {
			select {
			case c := <-s.Chunks():
				take(c)
			case <-next:
				next = nil
			}
		}
	}
	for got < records {
		take(nextChunk(t, s))
	}
	took := time.Since(began)
	if most := int(took/gatherWait) + 2; chunks > most {
		t.Errorf("%d records in %v came in %d chunks, want at most %d", records, took, chunks, most)
	}
}
