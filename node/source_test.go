package node

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/config"
	"deckle/state"
)

// newTestIntake is an intake of one partition that has no group: enough for what a poll brings.
func newTestIntake(t *testing.T) (*intake, *partition) {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{cfg: &config.Config{}, deps: Deps{Now: time.Now}, metrics: m}
	n.cfg.Limits.EntryBytes = 1 << 20
	s := &shard{n: n, log: testLog(t), failing: map[string]string{}, stopped: map[string]string{}}
	p := &partition{id: 0}
	return &intake{leader: &leader{shard: s, log: s.log}, cfg: state.Config{Topic: testTopic, Shards: 1}, cur: &batchBuf{},
		parts: map[int32]*partition{0: p}, order: []int32{0}, ratio: 0.3}, p
}

// What a poll brings is taken although the same poll tells of an error of the client: the client is past it, and the
// next range would claim it.
func TestRecordsBesideAnErrorAreTaken(t *testing.T) {
	b := newBroker(t, 1)
	ctx, cancel := context.WithCancel(testContext(t))
	at := map[int32]kgo.Offset{0: kgo.NewOffset().At(0)}
	cl, err := kgo.NewClient(append(append(slices.Clip(b.opts), consumeOpts(testTopic, at, 1<<20)...), kgo.MetadataMinAge(10*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	s := &source{topic: testTopic, cl: cl, handed: map[int32]int64{0: 0}, out: make(chan chunk), cancel: cancel}
	defer s.close()
	// Nobody polls yet, so that records and error come together.
	b.produce(record(0, "s", 0), record(0, "s", 1), record(0, "s", 2))
	until(t, "records are buffered", func() bool { return cl.BufferedFetchRecords() > 0 })
	denied := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: testTopic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	defer denied.Remove()
	until(t, "the client hears of it, more than once", func() bool { cl.ForceMetadataRefresh(); return denied.Hits() >= 5 })
	s.done.Go(func() { s.poll(ctx) })
	in, p := newTestIntake(t)
	both := false
	for p.next < 3 {
		c := nextChunk(t, s)
		both = both || c.err != nil && len(c.parts) > 0
		if err := in.take(&c); err != nil {
			t.Fatal(err)
		}
		in.fill()
	}
	if !both {
		t.Fatal("no poll had both: the test proves nothing")
	}
	if in.failing["source"] == "" {
		t.Error("the error is not shown")
	}
	batch := in.cur.finish()
	if len(batch.Items) != 3 || len(batch.Ranges) != 1 || batch.Ranges[0].From != 0 || batch.Ranges[0].To != 3 {
		t.Fatalf("range %+v with %d items", batch.Ranges, len(batch.Items))
	}
}

// A steady stream costs a fetch every gatherWait, not one every record.
func TestFetchesGather(t *testing.T) {
	b := newBroker(t, 1)
	s, err := openSource(testContext(t), b.opts, testTopic, [16]byte{}, []state.PartitionStatus{{Partition: 0, LeaderEpoch: -1}}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	const records = 100
	chunks, got := 0, 0
	take := func(c chunk) {
		for _, p := range c.parts {
			if p.err != nil {
				t.Fatal(p.err)
			}
			got += len(p.records)
		}
		chunks++
	}
	began := time.Now()
	for i := range records {
		b.produce(record(0, "s", i))
		for next := time.After(5 * time.Millisecond); next != nil; {
			select {
			case c := <-s.out:
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

func fetchOf(offsets ...int64) (*kgo.FetchTopic, *kgo.FetchPartition) {
	p := &kgo.FetchPartition{LogStartOffset: 0, LastStableOffset: 1000}
	for _, o := range offsets {
		p.Records = append(p.Records, &kgo.Record{Offset: o, Key: []byte("s"), Value: eventJSON("s", int(o), "search")})
	}
	return &kgo.FetchTopic{Topic: testTopic}, p
}

// A chunk that goes astray between source and intake begins a new run; what the log itself lacks does not.
func TestChunkThatGoesAstrayBeginsANewRun(t *testing.T) {
	poll := func(s *source, c *chunk, offsets ...int64) { ft, fp := fetchOf(offsets...); s.add(c, ft, fp) }
	s := &source{topic: testTopic, handed: map[int32]int64{0: 0}}
	in, p := newTestIntake(t)
	var c chunk
	poll(s, &c, 0, 1)
	poll(s, &c, 5, 6) // two brokers in one poll, a gap of aborted or compacted records between
	if err := in.take(&c); err != nil {
		t.Fatal(err)
	}
	in.fill()
	c = chunk{}
	poll(s, &c, 9) // a gap at the start of a poll
	if err := in.take(&c); err != nil {
		t.Fatal(err)
	}
	in.fill()
	if p.next != 10 || in.cur.count != 5 {
		t.Fatalf("next %d after %d records", p.next, in.cur.count)
	}
	c = chunk{}
	poll(s, &c, 10, 11) // and nobody takes it
	c = chunk{}
	poll(s, &c, 12)
	if err := in.take(&c); !errors.Is(err, errResync) || len(in.pending) > 0 {
		t.Fatalf("took a chunk after one that went astray: %v, %d pending", err, len(in.pending))
	}
	c = chunk{}
	ft, fp := fetchOf()
	fp.Err = kerr.UnknownServerError
	poll(s, &c, 13)
	s.add(&c, ft, fp)
	if err := in.take(&c); err == nil {
		t.Fatal("a partition's error begins a new run")
	}
}
