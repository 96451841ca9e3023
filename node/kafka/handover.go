package kafka

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/state"
)

// pollRecords bounds one chunk.
const pollRecords = 2000

// Chunk is what one poll brought. It may have parts and an error: the client library has moved past the records of the
// parts, so they must be taken all the same.
type Chunk struct {
	Parts []Part
	Err   error // of the client as a whole; it goes on trying
}

// Part is one partition's share of a chunk: records in offset order, or an error, which comes after the records before
// it. From an error on nothing of the partition follows until Source.Restart.
type Part struct {
	Partition int32
	Gen       uint32 // 0, or what the last Source.Restart gave
	From      int64  // everything below it has been handed over before, or was not asked for
	Records   []*kgo.Record
	LogStart  int64 // -1 if unknown
	End       int64 // last stable offset, -1 if unknown
	// Connection is the number of the connection, counted as Source.Connections does, by which the records came, or of
	// a newer one to the same broker.
	Connection uint64
	Err        error
	Fatal      bool // the partition must stop: to go on would skip or repeat records
}

// Handover makes chunks of fetches and keeps account of what has been handed over, so that the receiver can tell when a
// chunk went astray, and so that nothing behind an error is handed over: the client may have moved its position past
// what it could not read, and the next poll would bring the record behind it.
type Handover struct {
	topic   string
	id      [16]byte         // of the topic; zero if unknown
	next    map[int32]int64  // by partition: the offset after the last record handed over
	gen     map[int32]uint32 // by partition
	held    map[int32]Part   // errors of fetches whose records before it may not all have been polled
	failed  map[int32]bool   // an error has been handed over
	explain func(partition int32, err error) error
	came    func(partition int32) uint64
}

// NewHandover returns the account of a source that begins at next; see Client.OpenSource.
func NewHandover(topic string, topicID [16]byte, next []state.PartitionStatus) *Handover {
	h := &Handover{topic: topic, id: topicID, next: map[int32]int64{}, gen: map[int32]uint32{}, held: map[int32]Part{},
		failed: map[int32]bool{}, explain: func(_ int32, err error) error { return err },
		came: func(int32) uint64 { return 0 }}
	for _, p := range next {
		h.next[p.Partition] = p.Next
	}
	return h
}

// restart begins a partition anew.
func (h *Handover) restart(partition int32, next int64, gen uint32) {
	h.next[partition], h.gen[partition] = next, gen
	delete(h.held, partition)
	delete(h.failed, partition)
}

// holds says that an error waits for records that were fetched with it.
func (h *Handover) holds() bool { return len(h.held) > 0 }

// Chunk hands over what a poll brought.
func (h *Handover) Chunk(fetches kgo.Fetches) Chunk {
	var c Chunk
	fetches.EachTopic(func(t kgo.FetchTopic) {
		t.EachPartition(func(p kgo.FetchPartition) { h.add(&c, &t, &p) })
	})
	if fetches.NumRecords() >= pollRecords {
		return c // the client may have more records of the fetches that ended with an error
	}
	for _, p := range slices.Sorted(maps.Keys(h.held)) {
		part := h.held[p]
		part.From, part.Err = h.next[p], h.explain(p, part.Err)
		c.Parts = append(c.Parts, part)
		h.failed[p] = true
	}
	clear(h.held)
	return c
}

// add puts one partition's share into the chunk. Records of another topic of the same name are not handed on.
func (h *Handover) add(c *Chunk, t *kgo.FetchTopic, p *kgo.FetchPartition) {
	if p.Partition < 0 || t.Topic != "" && t.Topic != h.topic {
		woken := errors.Is(p.Err, context.Canceled) || errors.Is(p.Err, context.DeadlineExceeded)
		if p.Err != nil && !woken {
			c.Err = h.explain(-1, p.Err)
		}
		return
	}
	held, isHeld := h.held[p.Partition]
	// A fetch that is polled in several parts has its error in each of them. Two fetches never share the error of what
	// cannot be parsed, and records come with no other one.
	if h.behindError(p, &held, isHeld) {
		return
	}
	part := Part{Partition: p.Partition, Gen: h.gen[p.Partition], From: h.next[p.Partition], Records: p.Records,
		LogStart: -1, End: -1, Connection: h.came(p.Partition)}
	err := p.Err
	if err == nil && !SameTopic(t.TopicID, h.id) {
		part.Records, err = nil, ErrRecreated
	}
	if err == nil {
		part.LogStart, part.End = p.LogStartOffset, p.LastStableOffset
	}
	if n := len(part.Records); n > 0 {
		h.next[p.Partition] = max(part.From, part.Records[n-1].Offset+1)
	}
	if err == nil || len(part.Records) > 0 {
		c.Parts = append(c.Parts, part)
	}
	if err != nil && !isHeld {
		h.held[p.Partition] = Part{Partition: p.Partition, Gen: part.Gen, LogStart: -1, End: -1,
			Err: err, Fatal: fatalFetchError(err)}
	}
}

// behindError says that what the client brings lies behind an error of its partition.
func (h *Handover) behindError(p *kgo.FetchPartition, held *Part, isHeld bool) bool {
	// gofail: var bugReadBehindError struct{}
	// return false
	return h.failed[p.Partition] || isHeld && (len(p.Records) == 0 || p.Err != held.Err) //nolint:errorlint // identity
}

// fatalFetchError tells the errors after which going on would skip or repeat records of another history. An unknown
// topic id is not among them: brokers give it for a while after a topic was created; whoever lists the topic sees
// whether it has another id.
func fatalFetchError(err error) bool {
	var loss *kgo.ErrDataLoss
	return errors.As(err, &loss) || errors.Is(err, kerr.OffsetOutOfRange) || errors.Is(err, ErrRecreated)
}
