package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/state"
)

const (
	// maxBatchBytes bounds what one compressed record batch may expand to: far above the broker's message limit, far
	// below what a bomb would need.
	maxBatchBytes = 64 << 20
	// fetchWait is how long a broker may hold a fetch for which it has nothing, where the first record ends the wait.
	fetchWait = 500 * time.Millisecond
	// gatherBytes is what a source's fetch waits for, gatherWait how long at most. Without it the answer comes with the
	// first record, and a steady stream costs a fetch, an entry and its fsyncs every few records.
	gatherBytes = 256 << 10
	gatherWait  = 100 * time.Millisecond
	// maxFetches bounds the fetches a client has in flight or buffered.
	maxFetches = 4
	// pollRecords bounds one chunk.
	pollRecords = 2000
)

// consumeOpts are the options of every client that reads the topic from given offsets: committed records only,
// transaction markers kept so that the position can pass them, no reset whatever happens, bounded memory.
func consumeOpts(topic string, from map[int32]kgo.Offset, fetchBytes int64) []kgo.Opt {
	bytes := int32(min(max(fetchBytes, 64<<10), 1<<30))
	return []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(bytes),
		kgo.FetchMaxPartitionBytes(min(bytes, 1<<20)),
		kgo.FetchMaxWait(fetchWait),
		kgo.MaxConcurrentFetches(maxFetches),
		kgo.MaxDecompressBatchBytes(maxBatchBytes),
		kgo.BrokerMaxReadBytes(max(100<<20, 2*bytes)),
	}
}

// chunk is what one poll brought. It may have parts and an error: the client has moved past the records of the parts,
// so they must be taken all the same.
type chunk struct {
	parts []chunkPart
	err   error // of the client as a whole; it goes on trying
}

// chunkPart is one partition's share: records in offset order, or an error.
type chunkPart struct {
	partition int32
	from      int64 // everything below it has been handed over before, or was not asked for
	records   []*kgo.Record
	logStart  int64 // -1 if unknown
	end       int64 // last stable offset, -1 if unknown
	err       error
	fatal     bool // the partition must stop
}

// source reads a shard's partitions from given offsets. It lives as long as one run of the intake.
type source struct {
	topic  string
	id     [16]byte // of the topic; zero if unknown
	cl     *kgo.Client
	handed map[int32]int64 // the offset after the last record handed over, by partition; of the polling goroutine
	out    chan chunk
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// openSource starts to fetch. id is the topic's that the offsets belong to, next are the offsets to begin with.
func openSource(ctx context.Context, opts []kgo.Opt, topic string, id [16]byte, next []state.PartitionStatus, fetchBytes int64) (*source, error) {
	from, handed := map[int32]kgo.Offset{}, map[int32]int64{}
	for _, p := range next {
		handed[p.Partition] = p.Next
		// The stored epoch lets the client ask the broker first whether its log still has that history.
		from[p.Partition] = kgo.NewOffset().At(p.Next).WithEpoch(p.LeaderEpoch)
	}
	opts = append(slices.Clip(opts), consumeOpts(topic, from, fetchBytes)...)
	cl, err := kgo.NewClient(append(opts, kgo.FetchMinBytes(gatherBytes), kgo.FetchMaxWait(gatherWait))...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &source{topic: topic, id: id, cl: cl, handed: handed, out: make(chan chunk), cancel: cancel}
	s.done.Go(func() { s.poll(ctx) })
	return s, nil
}

// poll hands over one chunk at a time: while nobody takes it, nothing more is polled, and the client stops to fetch.
func (s *source) poll(ctx context.Context) {
	for {
		fetches := s.cl.PollRecords(ctx, pollRecords)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		var c chunk
		fetches.EachTopic(func(t kgo.FetchTopic) {
			t.EachPartition(func(p kgo.FetchPartition) { s.add(&c, &t, &p) })
		})
		select {
		case s.out <- c:
		case <-ctx.Done():
			return
		}
		if c.err != nil { // the client has backed off already; this only keeps a broken one from spinning
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}
}

// add puts one partition's share into the chunk. Records of another topic of the same name are not handed on.
func (s *source) add(c *chunk, t *kgo.FetchTopic, p *kgo.FetchPartition) {
	if p.Partition < 0 || t.Topic != "" && t.Topic != s.topic {
		if p.Err != nil {
			c.err = p.Err
		}
		return
	}
	from := s.handed[p.Partition]
	part := chunkPart{partition: p.Partition, from: from, records: p.Records, logStart: -1, end: -1, err: p.Err, fatal: fatalFetchError(p.Err)}
	var none [16]byte
	switch {
	case p.Err != nil:
	case t.TopicID != none && s.id != none && t.TopicID != s.id:
		part = chunkPart{partition: p.Partition, from: from, err: errRecreated, fatal: true}
	default:
		part.logStart, part.end = p.LogStartOffset, p.LastStableOffset
	}
	if n := len(part.records); n > 0 {
		s.handed[p.Partition] = max(from, part.records[n-1].Offset+1)
	}
	c.parts = append(c.parts, part)
}

var errRecreated = errors.New(recreated)

// fatalFetchError tells the errors after which going on would skip or repeat records of another history. An unknown
// topic id is not among them: brokers give it for a while after a topic was created; a new run asks for the id.
func fatalFetchError(err error) bool {
	var loss *kgo.ErrDataLoss
	return errors.As(err, &loss) || errors.Is(err, kerr.OffsetOutOfRange)
}

func (s *source) pause(partition int32) {
	s.cl.PauseFetchPartitions(map[string][]int32{s.topic: {partition}})
}

func (s *source) resume(partition int32) {
	s.cl.ResumeFetchPartitions(map[string][]int32{s.topic: {partition}})
}

func (s *source) close() {
	s.cancel()
	s.done.Wait()
	s.cl.Close()
}
