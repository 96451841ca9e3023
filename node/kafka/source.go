package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sinks/rights"
	"deckle/state"
)

const (
	// maxBatchBytes bounds what one compressed record batch may expand to: far above the broker's message limit, far
	// below what a bomb would need.
	maxBatchBytes = 64 << 20
	// fetchWait is how long a broker may hold a fetch for which it has nothing, where the first record ends the wait.
	fetchWait = 500 * time.Millisecond
	// A source's fetch waits for gatherBytes, but for gatherWait at most. Without it the answer comes with the first
	// record, and a steady stream costs a fetch, an entry and its fsyncs every few records.
	gatherBytes = 256 << 10
	gatherWait  = 100 * time.Millisecond
	// maxFetches bounds the fetches that a client has in flight or buffered.
	maxFetches = 4
	// pollRecords bounds one chunk.
	pollRecords = 2000
)

// Chunk is what one poll brought. It may have parts and an error: the client library has moved past the records of the
// parts, so they must be taken all the same.
type Chunk struct {
	Parts []Part
	Err   error // of the client as a whole; it goes on trying
}

// Part is one partition's share of a chunk: records in offset order, or an error.
type Part struct {
	Partition int32
	From      int64 // everything below it has been handed over before, or was not asked for
	Records   []*kgo.Record
	LogStart  int64 // -1 if unknown
	End       int64 // last stable offset, -1 if unknown
	Err       error
	Fatal     bool // the partition must stop: to go on would skip or repeat records
}

// Source reads some partitions from given offsets. It lives as long as one run of a shard's intake.
type Source struct {
	cl     *kgo.Client
	topic  string
	over   *Handover // used by the polling goroutine only
	out    chan Chunk
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// OpenSource starts to fetch. topicID is the id of the topic that the offsets belong to, zero if unknown; next holds
// the partitions and the offsets to begin with. fetchBytes bounds one fetch per broker. The source ends with ctx or
// Close.
func (c *Client) OpenSource(ctx context.Context, topicID [16]byte, next []state.PartitionStatus,
	fetchBytes int64) (*Source, error) {
	from := map[int32]kgo.Offset{}
	for _, p := range next {
		// The stored epoch lets the client ask the broker first whether its log still has that history.
		from[p.Partition] = kgo.NewOffset().At(p.Next).WithEpoch(p.LeaderEpoch)
	}
	cl, err := c.reader(from, fetchBytes, kgo.FetchMinBytes(gatherBytes), kgo.FetchMaxWait(gatherWait))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Source{cl: cl, topic: c.topic, over: NewHandover(c.topic, topicID, next), out: make(chan Chunk),
		cancel: cancel}
	s.done.Go(func() { s.poll(ctx) })
	return s, nil
}

// Chunks hands over one chunk at a time: while nobody takes it, nothing more is polled, and the client stops fetching.
func (s *Source) Chunks() <-chan Chunk { return s.out }

func (s *Source) poll(ctx context.Context) {
	for {
		fetches := s.cl.PollRecords(ctx, pollRecords)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		c := s.over.Chunk(fetches)
		select {
		case s.out <- c:
		case <-ctx.Done():
			return
		}
		if c.Err != nil { // the client has backed off already; this only keeps a broken one from spinning
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}
}

// Pause stops fetching a partition until Resume. Chunks may still bring records that have been fetched before.
func (s *Source) Pause(partition int32) {
	s.cl.PauseFetchPartitions(map[string][]int32{s.topic: {partition}})
}

// Resume fetches a paused partition again.
func (s *Source) Resume(partition int32) {
	s.cl.ResumeFetchPartitions(map[string][]int32{s.topic: {partition}})
}

// Close ends the source and its client.
func (s *Source) Close() {
	s.cancel()
	s.done.Wait()
	s.cl.Close()
}

// Handover makes chunks of fetches and keeps account of what has been handed over, so that the receiver can tell when a
// chunk went astray.
type Handover struct {
	topic string
	id    [16]byte        // of the topic; zero if unknown
	next  map[int32]int64 // by partition: the offset after the last record handed over
}

// NewHandover returns the account of a source that begins at next; see Client.OpenSource.
func NewHandover(topic string, topicID [16]byte, next []state.PartitionStatus) *Handover {
	h := &Handover{topic: topic, id: topicID, next: map[int32]int64{}}
	for _, p := range next {
		h.next[p.Partition] = p.Next
	}
	return h
}

// Chunk hands over what a poll brought.
func (h *Handover) Chunk(fetches kgo.Fetches) Chunk {
	var c Chunk
	fetches.EachTopic(func(t kgo.FetchTopic) {
		t.EachPartition(func(p kgo.FetchPartition) { h.add(&c, &t, &p) })
	})
	return c
}

// add puts one partition's share into the chunk. Records of another topic of the same name are not handed on.
func (h *Handover) add(c *Chunk, t *kgo.FetchTopic, p *kgo.FetchPartition) {
	if p.Partition < 0 || t.Topic != "" && t.Topic != h.topic {
		if p.Err != nil {
			c.Err = rights.Explain(p.Err, rights.Topic("Read", h.topic))
		}
		return
	}
	from := h.next[p.Partition]
	part := Part{Partition: p.Partition, From: from, Records: p.Records, LogStart: -1, End: -1,
		Err: rights.Explain(p.Err, rights.Topic("Read", h.topic)), Fatal: fatalFetchError(p.Err)}
	switch {
	case p.Err != nil:
	case !SameTopic(t.TopicID, h.id):
		part = Part{Partition: p.Partition, From: from, Err: ErrRecreated, Fatal: true}
	default:
		part.LogStart, part.End = p.LogStartOffset, p.LastStableOffset
	}
	if n := len(part.Records); n > 0 {
		h.next[p.Partition] = max(from, part.Records[n-1].Offset+1)
	}
	c.Parts = append(c.Parts, part)
}

// fatalFetchError tells the errors after which going on would skip or repeat records of another history. An unknown
// topic id is not among them: brokers give it for a while after a topic was created; a new run asks for the id.
func fatalFetchError(err error) bool {
	var loss *kgo.ErrDataLoss
	return errors.As(err, &loss) || errors.Is(err, kerr.OffsetOutOfRange)
}
