package shard

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/nodetest"
	"deckle/state"
)

// newTestLeadership is a leadership that has no group.
func newTestLeadership(t *testing.T) *leadership {
	t.Helper()
	m, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{}
	cfg.Limits.EntryBytes = 1 << 20
	nothing := func() string { return "" }
	env := &Env{Config: cfg, Now: time.Now, Metrics: m, Paused: nothing, Near: nothing,
		Conditions: condition.New("test", time.Now, nodetest.Log(t)), Written: &Tally{},
		Created: func() int { return 0 }, Elsewhere: func(uint32, string) bool { return false }}
	return &leadership{Env: env, log: nodetest.Log(t), cond: newStanding(env, 0), epochs: newEpochBoard(0),
		finalized: new(atomic.Uint32),
		foreign:   map[int32]time.Time{}, halts: map[int32]*halted{}}
}

// newTestIntake is an intake of one partition that has no group: enough for what a poll brings.
func newTestIntake(t *testing.T) (*intake, *partition) {
	t.Helper()
	p := &partition{id: 0}
	return &intake{leadership: newTestLeadership(t), cfg: state.Config{Topic: nodetest.Topic, Shards: 1},
		cur:   &batchBuf{},
		parts: map[int32]*partition{0: p}, order: []int32{0}, ratio: 0.3}, p
}

// The records of a poll are taken although the same poll reports an error of the client: the client is past them, and
// the next range would claim to include them.
func TestRecordsBesideAnErrorAreTaken(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	buffered := &bufferedHook{}
	opts := append(slices.Clip(b.Opts), kgo.MetadataMinAge(10*time.Millisecond),
		kgo.MetadataMaxAge(50*time.Millisecond), kgo.WithHooks(buffered))
	cl, err := kafka.Open(&config.Kafka{Topic: nodetest.Topic}, "test", kafka.Secure{}, nodetest.Log(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	s, err := cl.OpenSource(nodetest.Context(t), [16]byte{}, []state.PartitionStatus{{Partition: 0, LeaderEpoch: -1}},
		1<<20, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// Nobody takes the first chunk yet, so that nothing more is polled: what follows comes together, records and error.
	b.Produce(nodetest.Record(0, "s", 0))
	nodetest.Until(t, "the first record is polled", func() bool {
		return buffered.n.Load() == 0 && buffered.all.Load() == 1
	})
	b.Produce(nodetest.Record(0, "s", 1), nodetest.Record(0, "s", 2))
	nodetest.Until(t, "records are buffered", func() bool { return buffered.n.Load() == 2 })
	denied := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: nodetest.Topic,
		Err: kerr.TopicAuthorizationFailed, Count: -1})
	defer denied.Remove()
	nodetest.Until(t, "the client hears of it, more than once", func() bool { return denied.Hits() >= 5 })
	in, p := newTestIntake(t)
	both := false
	for p.next < 3 {
		c := nextChunk(t, s)
		both = both || c.Err != nil && len(c.Parts) > 0
		if err := in.accept(&c); err != nil {
			t.Fatal(err)
		}
		in.fill()
	}
	if !both {
		t.Fatal("no poll had both: the test proves nothing")
	}
	if _, ok := in.cond.now().Get(condition.SourceFailing, "shard 0"); !ok {
		t.Error("the error is not shown")
	}
	batch := in.cur.finish()
	if len(batch.Items) != 3 || len(batch.Ranges) != 1 || batch.Ranges[0].From != 0 || batch.Ranges[0].To != 3 {
		t.Fatalf("range %+v with %d items", batch.Ranges, len(batch.Items))
	}
}

// bufferedHook counts the records that a client has fetched: all of them, and those that no poll has taken yet.
type bufferedHook struct{ all, n atomic.Int64 }

func (h *bufferedHook) OnFetchRecordBuffered(*kgo.Record) { h.all.Add(1); h.n.Add(1) }

func (h *bufferedHook) OnFetchRecordUnbuffered(*kgo.Record, bool) { h.n.Add(-1) }

func fetchOf(err error, offsets ...int64) kgo.Fetches {
	p := kgo.FetchPartition{LogStartOffset: 0, LastStableOffset: 1000, Err: err}
	for _, o := range offsets {
		p.Records = append(p.Records, &kgo.Record{Offset: o, Key: []byte("s"),
			Value: nodetest.EventJSON("s", int(o), "search")})
	}
	return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: nodetest.Topic, Partitions: []kgo.FetchPartition{p}}}}}
}

// A chunk that goes astray between source and intake begins a new run; what the log itself lacks does not.
func TestChunkThatGoesAstrayBeginsANewRun(t *testing.T) {
	over := kafka.NewHandover(nodetest.Topic, [16]byte{}, []state.PartitionStatus{{Partition: 0}})
	in, p := newTestIntake(t)
	take := func(fetches ...kgo.Fetches) error {
		c := over.Chunk(slices.Concat(fetches...))
		return in.accept(&c)
	}
	// Two brokers in one poll, a gap of aborted or compacted records between.
	if err := take(fetchOf(nil, 0, 1), fetchOf(nil, 5, 6)); err != nil {
		t.Fatal(err)
	}
	in.fill()
	if err := take(fetchOf(nil, 9)); err != nil { // a gap at the start of a poll
		t.Fatal(err)
	}
	in.fill()
	if p.next != 10 || in.cur.count != 5 {
		t.Fatalf("next %d after %d records", p.next, in.cur.count)
	}
	over.Chunk(fetchOf(nil, 10, 11)) // and nobody takes it
	if err := take(fetchOf(nil, 12)); !errors.Is(err, errResync) || len(in.pending) > 0 {
		t.Fatalf("took a chunk after one that went astray: %v, %d pending", err, len(in.pending))
	}
}

// An error of a partition begins no new run: the records before it are taken, and nothing behind it.
func TestErrorOfAPartitionIsItsOwn(t *testing.T) {
	over := kafka.NewHandover(nodetest.Topic, [16]byte{}, []state.PartitionStatus{{Partition: 0}})
	in, p := newTestIntake(t)
	for _, fetches := range []kgo.Fetches{fetchOf(kerr.UnknownServerError, 0, 1, 2), fetchOf(nil, 3, 4)} {
		c := over.Chunk(fetches)
		if err := in.accept(&c); err != nil {
			t.Fatal(err)
		}
		in.fill()
	}
	if p.next != 3 || in.cur.count != 3 || p.failing == nil || in.isFailing(partName(0)) == "" {
		t.Fatalf("next %d after %d records, failing %v", p.next, in.cur.count, p.failing)
	}
}

// A partition that has failed by the intake's own finding (silence) is set anew at the next offset: whatever its source
// brings before that is dropped, also what arrives after the restart was asked for.
func TestNothingIsTakenBeforeTheRestart(t *testing.T) {
	over := kafka.NewHandover(nodetest.Topic, [16]byte{}, []state.PartitionStatus{{Partition: 0}})
	in, p := newTestIntake(t)
	take := func(offsets ...int64) {
		t.Helper()
		c := over.Chunk(fetchOf(nil, offsets...))
		if err := in.accept(&c); err != nil {
			t.Fatal(err)
		}
		in.fill()
	}
	take(0, 1)
	in.fail(p, kafka.ErrSilent)
	take(2, 3)
	p.failing, p.gen = nil, 1 // as the restart does
	take(4, 5)
	if p.next != 2 || in.cur.count != 2 {
		t.Fatalf("next %d after %d records", p.next, in.cur.count)
	}
}

// isFailing is what Status shows of a part that is retried.
func (in *intake) isFailing(part string) string {
	found, _ := in.cond.now().Get(condition.PartitionFailing, part)
	return found.Text
}

func TestSourcePassesTransactionMarkers(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	transact := b.Transactional()
	ctx := nodetest.Context(t)
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		transact(commit, nodetest.Record(0, "s", i))
	}
	cl, err := kafka.Open(&config.Kafka{Topic: nodetest.Topic}, "test", kafka.Secure{}, nodetest.Log(t), b.Opts)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	end := cl.ListEnds(ctx, time.Now).Ends[0]
	s, err := cl.OpenSource(ctx, [16]byte{}, []state.PartitionStatus{{Partition: 0, LeaderEpoch: -1}}, 1<<20, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var buf batchBuf
	var next int64
	for next < end {
		for _, p := range nextChunk(t, s).Parts {
			for _, r := range p.Records {
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

func nextChunk(t *testing.T, s *kafka.Source) kafka.Chunk {
	t.Helper()
	select {
	case c := <-s.Chunks():
		return c
	case <-time.After(nodetest.Patience):
		t.Fatal("nothing from Kafka")
		return kafka.Chunk{}
	}
}
