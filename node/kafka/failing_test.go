package kafka

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/nodetest"
	"deckle/sim/testworld/badbatch"
	"deckle/state"
)

// through are the options of a client whose connections break what is broken.
func through(b *nodetest.Broker, broken *badbatch.Broken) []kgo.Opt {
	return append(slices.Clip(b.Opts), kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return broken.Conn(c), nil
	}))
}

// openTwo opens a source of the partitions 0 and 1, from their beginning.
func openTwo(t *testing.T, c *Client) *Source {
	t.Helper()
	s, err := c.OpenSource(nodetest.Context(t), [16]byte{},
		[]state.PartitionStatus{{Partition: 0, LeaderEpoch: -1}, {Partition: 1, LeaderEpoch: -1}}, 1<<20, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// taker takes what a source hands over, as an intake does.
type taker struct {
	t    *testing.T
	s    *Source
	gen  map[int32]uint32
	next map[int32]int64
	got  map[int32][]int64
	errs map[int32]error
}

func newTaker(t *testing.T, s *Source) *taker {
	return &taker{t: t, s: s, gen: map[int32]uint32{}, next: map[int32]int64{}, got: map[int32][]int64{},
		errs: map[int32]error{}}
}

// until takes chunks until ok.
func (k *taker) until(what string, ok func() bool) {
	k.t.Helper()
	for deadline := time.After(nodetest.Patience); !ok(); {
		select {
		case c := <-k.s.Chunks():
			if c.Err != nil {
				k.t.Fatalf("the client as a whole: %v", c.Err)
			}
			for _, p := range c.Parts {
				k.take(&p)
			}
		case <-deadline:
			k.t.Fatalf("waited in vain: %s; has %v, errors %v", what, k.got, k.errs)
		}
	}
}

func (k *taker) take(p *Part) {
	if p.Gen != k.gen[p.Partition] {
		return
	}
	if p.From != k.next[p.Partition] {
		k.t.Errorf("partition %d: everything below %d has been handed over, taken is everything below %d", p.Partition,
			p.From, k.next[p.Partition])
	}
	if k.errs[p.Partition] != nil {
		k.t.Errorf("partition %d: something follows the error: %+v", p.Partition, p)
	}
	for _, r := range p.Records {
		k.got[p.Partition] = append(k.got[p.Partition], r.Offset)
		k.next[p.Partition] = r.Offset + 1
	}
	if p.Err != nil {
		if len(p.Records) > 0 {
			k.t.Errorf("partition %d: an error with %d records", p.Partition, len(p.Records))
		}
		k.s.Pause(p.Partition)
		k.errs[p.Partition] = p.Err
	}
}

// restart reads a partition again.
func (k *taker) restart(p int32) {
	k.gen[p]++
	delete(k.errs, p)
	k.s.Restart(state.PartitionStatus{Partition: p, Next: k.next[p], LeaderEpoch: -1}, k.gen[p])
}

func offsets(n int64) (all []int64) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// A batch that cannot be read concerns its partition only: the records before it come once, then nothing of it, not
// even what the client brings because it has jumped over the batch (an unknown version of the format); the others come
// whole. Once it is mended and set anew, the rest comes, each record once.
func TestBrokenBatchStandsAlone(t *testing.T) {
	for name, damage := range map[string]badbatch.Damage{"flipped bit": badbatch.Flip, "codec": badbatch.Codec,
		"not what its codec says": badbatch.Packed, "version": badbatch.Magic} {
		t.Run(name, func(t *testing.T) {
			b := nodetest.NewBroker(t, 2)
			for i := range 20 {
				b.Produce(nodetest.Record(int32(i%2), "s", i))
			}
			var broken badbatch.Broken
			broken.Spoil(0, 4, damage)
			s := openTwo(t, clientOf(b, through(b, &broken)...))
			k := newTaker(t, s)
			k.until("error, and the other partition whole", func() bool {
				return k.errs[0] != nil && len(k.got[1]) == 10
			})
			met := broken.Met()
			for i := range 10 { // the other partition goes on, and the broken one is not fetched any more
				b.Produce(nodetest.Record(1, "s", 20+i))
				k.until("the other partition", func() bool { return len(k.got[1]) == 11+i })
			}
			if !slices.Equal(k.got[0], offsets(4)) {
				t.Errorf("offsets %v, want those before the broken batch", k.got[0])
			}
			if again := broken.Met() - met; again > 3 { // fetches that were under way
				t.Errorf("the broken batch was fetched %d times more", again)
			}
			broken.Mend(0)
			k.restart(0)
			k.until("the rest", func() bool { return len(k.got[0]) >= 10 })
			if !slices.Equal(k.got[0], offsets(10)) || !slices.Equal(k.got[1], offsets(20)) {
				t.Errorf("offsets %v and %v, want each once", k.got[0], k.got[1])
			}
		})
	}
}

// An error of one partition that is no broken batch: a right that is missing, a broker that does not know what is
// wrong.
func TestRefusedPartitionStandsAlone(t *testing.T) {
	for _, e := range []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.UnknownServerError} {
		t.Run(e.Message, func(t *testing.T) {
			b := nodetest.NewBroker(t, 2)
			b.Produce(nodetest.Record(0, "s", 0), nodetest.Record(1, "s", 1))
			h := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: nodetest.Topic, Partitions: []int32{0},
				Err: e, Count: -1})
			c := clientOf(b)
			s := openTwo(t, c)
			k := newTaker(t, s)
			failed := func() bool {
				for p, err := range k.errs {
					if p == 0 && errors.Is(err, e) {
						return true
					}
				}
				return false
			}
			for i := 0; !failed() || len(k.got[1]) < 5; i++ {
				b.Produce(nodetest.Record(1, "s", 2+i))
				n := len(k.got[1])
				k.until("partition 1 goes on", func() bool { return len(k.got[1]) > n })
			}
			if e == kerr.TopicAuthorizationFailed &&
				!strings.Contains(k.errs[0].Error(), `Read on topic "web_clicks"`) {
				t.Errorf("the error names neither right nor topic: %v", k.errs[0])
			}
			start := state.PartitionStatus{LeaderEpoch: -1}
			if fatal, err := c.Probe(nodetest.Context(t), [16]byte{}, start); fatal || !errors.Is(err, e) {
				t.Errorf("probe: %v, fatal %v", err, fatal)
			}
			h.Remove()
			if _, err := c.Probe(nodetest.Context(t), [16]byte{}, start); err != nil {
				t.Errorf("probe of what can be read: %v", err)
			}
		})
	}
}

// One zstd batch of 80 records of 900 KB, less than 100 KB in the log, beside a partition that is well (field report
// F05). A key that allows it lets the partition go on.
func TestBatchInflatesTooMuch(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	b.Produce(nodetest.Record(0, "s", 0), nodetest.Record(0, "s", 1))
	b.ProducePacked(0, 80, 900<<10)
	b.Produce(nodetest.Record(0, "s", 2), nodetest.Record(0, "s", 3))
	for i := range 26 {
		b.Produce(nodetest.Record(1, "t", i))
	}
	next := []state.PartitionStatus{{Partition: 0, LeaderEpoch: -1}, {Partition: 1, LeaderEpoch: -1}}
	c := clientOf(b)
	c.maxBatch = 64 << 20
	s, err := c.OpenSource(nodetest.Context(t), [16]byte{}, next, 8<<20, 256<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := newTaker(t, s)
	k.until("the error, and the healthy partition", func() bool { return k.errs[0] != nil && len(k.got[1]) == 26 })
	if !slices.Equal(k.got[0], offsets(2)) {
		t.Errorf("offsets %v, want the two before the batch", k.got[0])
	}
	large, ok := errors.AsType[*TooLargeError](k.errs[0])
	if !ok || large.From != 2 || large.To != 82 || large.Packed == 0 || large.Packed > 100<<10 {
		t.Fatalf("error %v", k.errs[0])
	}
	_, err = c.Probe(nodetest.Context(t), [16]byte{}, state.PartitionStatus{Next: 2, LeaderEpoch: -1})
	for _, want := range []string{"kafka.max_batch_bytes (67108864)", "offsets 2 to 81", "bytes in the log",
		"max.message.bytes, which bounds a batch in the log only, is 1048588"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the text does not have %q: %v", want, err)
		}
	}
	if err != nil && (strings.Contains(err.Error(), "SetOffsets") || strings.Contains(err.Error(), "MaxDecompress")) {
		t.Errorf("the text is about the library: %v", err)
	}
	c.maxBatch = 128 << 20
	if _, err := c.Probe(nodetest.Context(t), [16]byte{}, state.PartitionStatus{Next: 2, LeaderEpoch: -1}); err != nil {
		t.Errorf("probe with a greater bound: %v", err)
	}
	next[0].Next = 2
	again, err := c.OpenSource(nodetest.Context(t), [16]byte{}, next[:1], 8<<20, 256<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	k = newTaker(t, again)
	k.next[0] = 2
	k.until("everything", func() bool { return len(k.got[0]) == 82 })
	// What batches inflate to is learnt: fetches ask for less.
	if got := again.fetch.bytes(); got > 512<<10 {
		t.Errorf("after a batch that inflates 800 times a fetch asks for %d bytes", got)
	}
}

// A partition whose records the client takes for cut off: no error, no record, no progress.
func TestSilentPartition(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	b.Produce(nodetest.Record(0, "s", 0))
	b.Produce(nodetest.Record(0, "s", 1))
	var broken badbatch.Broken
	broken.Spoil(0, 1, badbatch.Garbage)
	c := clientOf(b, through(b, &broken)...)
	c.quiet = 500 * time.Millisecond
	at := state.PartitionStatus{Next: 1, LeaderEpoch: -1}
	if fatal, err := c.Probe(nodetest.Context(t), [16]byte{}, at); fatal || !errors.Is(err, ErrSilent) {
		t.Errorf("probe: %v, fatal %v", err, fatal)
	}
	at.Next = 2 // the end of the log: nothing comes, and nothing is wrong
	if _, err := c.Probe(nodetest.Context(t), [16]byte{}, at); err != nil {
		t.Errorf("probe at the end: %v", err)
	}
	at.Next = 7
	if fatal, err := c.Probe(nodetest.Context(t), [16]byte{}, at); !fatal || err == nil {
		t.Errorf("probe past the end: %v, fatal %v", err, fatal)
	}
	at.Next = 0
	if fatal, err := c.Probe(nodetest.Context(t), [16]byte{1}, at); !fatal || !errors.Is(err, ErrRecreated) {
		t.Errorf("probe of another topic: %v, fatal %v", err, fatal)
	}
}

func partFetch(err error, from, n int64) kgo.FetchPartition {
	p := kgo.FetchPartition{Err: err, HighWatermark: 1 << 20}
	for o := from; o < from+n; o++ {
		p.Records = append(p.Records, &kgo.Record{Offset: o})
	}
	return p
}

func poll(ps ...kgo.FetchPartition) kgo.Fetches {
	return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: nodetest.Topic, Partitions: ps}}}}
}

// A fetch that ends with an error and has more records than one poll takes has the error in each of its polls. All
// records before the error are handed over, then the error; what another fetch brings is dropped.
func TestErrorWaitsForTheRecordsBeforeIt(t *testing.T) {
	h := NewHandover(nodetest.Topic, [16]byte{}, []state.PartitionStatus{{Partition: 0, Next: 10}})
	bad := errors.New("encoded crc 1 does not match calculated crc 2")
	records := func(c Chunk) (n int) {
		for _, p := range c.Parts {
			if p.Err == nil {
				n += len(p.Records)
			}
		}
		return n
	}
	c := h.Chunk(poll(partFetch(bad, 10, pollRecords)))
	if records(c) != pollRecords || len(c.Parts) != 1 || !h.holds() {
		t.Fatalf("%d records in %d parts", records(c), len(c.Parts))
	}
	c = h.Chunk(poll(partFetch(bad, 10+pollRecords, 30), partFetch(nil, 5000, 3)))
	if records(c) != 30 || len(c.Parts) != 2 || !errors.Is(c.Parts[1].Err, bad) || c.Parts[1].From != 40+pollRecords {
		t.Fatalf("%d records in %d parts", records(c), len(c.Parts))
	}
	for _, after := range []error{nil, bad, errors.New("another")} {
		if c = h.Chunk(poll(partFetch(after, 5003, 3))); len(c.Parts) > 0 {
			t.Fatalf("after the error: %+v", c.Parts)
		}
	}
	h.restart(0, 40+pollRecords, 1)
	c = h.Chunk(poll(partFetch(nil, 40+pollRecords, 5)))
	if records(c) != 5 || c.Parts[0].Gen != 1 || c.Parts[0].From != 40+pollRecords {
		t.Fatalf("after the restart: %+v", c.Parts)
	}
}

// What batches inflate to bounds what a fetch asks for, between what is allowed and what makes sense.
func TestFetchSizeFollowsInflation(t *testing.T) {
	f := newFetchSize(8<<20, 256<<20)
	if f.bytes() != 8<<20 {
		t.Errorf("before the first batch: %d bytes, want what is allowed", f.bytes())
	}
	read := func(packed, whole, times int) {
		for range times {
			f.OnFetchBatchRead(kgo.BrokerMetadata{}, "", 0, kgo.FetchBatchMetrics{NumRecords: 1,
				UncompressedBytes: whole, CompressedBytes: packed, CompressionType: 4})
		}
	}
	read(1<<20, 32<<20, 1)
	if got := f.bytes(); got != 2<<20 { // 4 fetches of 2 MiB, 32 times: 256 MiB
		t.Errorf("after one large batch that inflates 32 times: %d", got)
	}
	read(10, 40, 5) // a small batch changes little
	if got := f.bytes(); got > 21<<20/10 {
		t.Errorf("after a few small batches: %d", got)
	}
	read(1<<20, 1<<20, 200)
	if got := f.bytes(); got != 8<<20 {
		t.Errorf("after many that do not inflate: %d", got)
	}
	read(1<<10, 64<<20, 3)
	if got := f.bytes(); got != fewestFetchBytes {
		t.Errorf("after a bomb: %d", got)
	}
}
