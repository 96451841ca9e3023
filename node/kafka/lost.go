package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/event"
	"deckle/sinks"
)

const (
	// mostNamed is how many ranges a LostError has at most; giving those up shows the next ones.
	mostNamed = 10
	// unknownEnd is the end of a range of which only the beginning is known.
	unknownEnd = -1
)

// LostError says that records which were read before, and which raw events have to be made of again, cannot be had from
// Kafka. Its text has the commands that give them up for the table events alone.
type LostError struct {
	// Ranges are what has to be given up at least. An end of -1 is not known.
	Ranges []event.Range
	Err    error
}

// Error implements error.
func (e *LostError) Error() string {
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(e.Err.Error(), ".") + ". To write the raw events without them, for good:")
	for i, r := range e.Ranges[:min(len(e.Ranges), mostNamed)] {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " deckle partitions skip --sink events --partition %d --from %d --to ", r.Partition, r.From)
		if r.To == unknownEnd {
			b.WriteString("OFFSET, the first one to read again")
		} else {
			fmt.Fprint(&b, r.To)
		}
	}
	if n := len(e.Ranges) - mostNamed; n > 0 {
		fmt.Fprintf(&b, "; and %d more, which are named then", n)
	}
	return b.String()
}

// Unwrap implements errors.Unwrap.
func (e *LostError) Unwrap() error { return e.Err }

// lost is the error of ranges that Kafka does not have any more, for certain.
func lost(err error, ranges ...event.Range) error {
	if len(ranges) > 0 {
		err = &LostError{Ranges: ranges, Err: err}
	}
	return &sinks.StopError{Err: err, Hint: "sessions and rollups are not affected; raise the topic's retention if " +
		"that was it"}
}

// rest is what a reading still lacks of its range, up to an offset.
func (rr *rangeReading) rest(to int64) event.Range {
	r := rr.r
	r.From, r.To = max(r.From, rr.next), min(r.To, to)
	return r
}

// why adds to an error of the reading what cannot be had for it, as far as that is known.
func (rr *rangeReading) why(ctx context.Context, err error) error {
	c, p := rr.f.c, rr.r.Partition
	var known *LostError
	large, isLarge := errors.AsType[*TooLargeError](err)
	switch {
	case ctx.Err() != nil || errors.As(err, &known):
		return err
	case errors.Is(err, kerr.OffsetOutOfRange):
		to := rr.r.To // unless the log begins within the range, nothing of the rest is there
		if start, serr := c.start(ctx, p); serr == nil && start > rr.next {
			to = start
		}
		return lost(fmt.Errorf("%w: partition %d, offset %d: %w", errLost, p, rr.next, err), rr.rest(to))
	case isLarge && large.From <= rr.next && large.To > rr.next:
		return &LostError{[]event.Range{rr.rest(large.To)}, err}
	case rr.unreadable || errors.Is(err, errSilent):
		b, berr := c.batchAt(ctx, p, rr.next)
		switch {
		case berr == nil && b.To > rr.next:
			return &LostError{[]event.Range{rr.rest(b.To)}, err}
		case rr.unreadable:
			r := rr.rest(rr.r.To)
			r.To = unknownEnd
			return &LostError{[]event.Range{r}, err}
		}
	}
	return err
}

// hole notes that Kafka has no record from the last one up to an offset: compaction has removed them, or a transaction
// that was aborted had them.
func (rr *rangeReading) hole(to int64) {
	if r := rr.rest(to); r.From < r.To && len(*rr.holes) <= mostNamed {
		*rr.holes = append(*rr.holes, r)
	}
}

// headerBytes is the length of a record batch up to its last offset.
const headerBytes = 27

var errNoBatch = errors.New("Kafka has no batch there that can be recognised")

// batchAt asks the leader of a partition for the offsets [From, To) of the record batch that has an offset. It looks at
// the head of the batch only, which says so even if the rest cannot be read.
func (c *Client) batchAt(ctx context.Context, partition int32, offset int64) (event.Range, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	none := event.Range{}
	meta, err := kadm.NewClient(c.admin).Metadata(ctx, c.topic)
	if err != nil {
		return none, err
	}
	t := meta.Topics[c.topic]
	p, ok := t.Partitions[partition]
	if err := errors.Join(t.Err, p.Err); err != nil || !ok {
		return none, errors.Join(errNoBatch, err)
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 500, 1, refetchBytes, -1
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = c.topic, t.ID
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, offset, headerBytes
	part.CurrentLeaderEpoch = -1
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := c.admin.Broker(int(p.Leader)).Request(ctx, req)
	if err != nil {
		return none, err
	}
	resp, _ := answer.(*kmsg.FetchResponse)
	if resp == nil || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return none, errNoBatch
	}
	got := &resp.Topics[0].Partitions[0]
	if err := errors.Join(kerr.ErrorForCode(resp.ErrorCode), kerr.ErrorForCode(got.ErrorCode)); err != nil {
		return none, err
	}
	return batchOf(got.RecordBatches, partition, offset)
}

// batchOf finds the batch that has an offset at the beginning of what a broker has sent.
func batchOf(b []byte, partition int32, offset int64) (event.Range, error) {
	for len(b) >= headerBytes {
		first, delta := int64(binary.BigEndian.Uint64(b)), int32(binary.BigEndian.Uint32(b[23:]))
		length := int64(int32(binary.BigEndian.Uint32(b[8:])))
		r := event.Range{Partition: partition, From: first, To: first + int64(delta) + 1}
		switch {
		case delta < 0 || first < 0 || r.To <= first || first > offset:
			return event.Range{}, errNoBatch
		case offset < r.To:
			return r, nil
		case length < headerBytes-12 || int64(len(b)) < 12+length:
			return event.Range{}, errNoBatch
		}
		b = b[12+length:]
	}
	return event.Range{}, errNoBatch
}
