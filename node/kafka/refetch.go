package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/sinks"
	"deckle/sinks/rights"
	"deckle/state"
)

const (
	refetchBytes = 4 << 20
	// After refetchQuiet without records a re-fetch asks whether there can be any more.
	refetchQuiet = 3 * time.Second
	// quietRounds in a row without a record end an attempt: together they outlast a change of the partition's leader.
	quietRounds = 5
)

// Refetch reads records again from Kafka: the raw events of a plan that no buffer has, the bytes of dead letters. It
// keeps nothing between calls, which may come from all shards at once: each has a client of its own, and one fetch at a
// time.
type Refetch struct {
	c *Client
	// key returns the HMAC key of that id, nil if there is none here.
	key   func(event.KeyID) []byte
	quiet time.Duration // replaces refetchQuiet if set
}

var _ sinks.EventSource = (*Refetch)(nil)

// NewRefetch returns the re-fetch of the client's topic. key returns the HMAC key of an id, nil if there is none;
// without it, raw events of rules that hash are not read again.
func NewRefetch(c *Client, key func(event.KeyID) []byte) *Refetch { return &Refetch{c: c, key: key} }

var (
	// errLost is a fact: the log begins after a record that was read before, or the topic is another one.
	errLost = errors.New("Kafka does not have records any more that were read before")
	// errSilent may pass: the partition gives nothing, although its log should go on.
	errSilent = errors.New("Kafka gives no records of a range that was read before")
)

// reading is what a re-fetch of one partition does with what it is given.
type reading interface {
	// take is given what a poll brought, errors included. The reading is over when it returns done or an error.
	take(fetches kgo.Fetches) (done bool, err error)
	// silence is told that a number of polls in a row, 1 or more, brought nothing: the broker may be slow, another one
	// may have become the partition's leader, or the rest may be records that compaction has removed.
	silence(ctx context.Context, polls int) (done bool, err error)
}

// read reads a partition from an offset on until r is done, with a client of its own.
func (f *Refetch) read(ctx context.Context, partition int32, from int64, r reading) error {
	cl, err := f.c.reader(map[int32]kgo.Offset{partition: kgo.NewOffset().At(from)}, refetchBytes)
	if err != nil {
		return err
	}
	defer cl.Close()
	for silent := 0; ; {
		pctx, cancel := context.WithTimeout(ctx, cmp.Or(f.quiet, refetchQuiet))
		fetches := cl.PollRecords(pctx, pollRecords)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		done, err := r.take(fetches)
		if done || err != nil {
			return err
		}
		if fetches.NumRecords() > 0 {
			silent = 0
			continue
		}
		silent++
		if done, err = r.silence(ctx, silent); done || err != nil {
			return err
		}
	}
}

// firstError is the first error of a poll that is not the end of its own wait.
func firstError(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if !errors.Is(e.Err, context.DeadlineExceeded) {
			return rights.Explain(e.Err, rights.Topic("Read", e.Topic))
		}
	}
	return nil
}

// Events implements sinks.EventSource.
func (f *Refetch) Events(ctx context.Context, plan *state.Plan, yield func(*event.Item) error) error {
	rules := &plan.Rules.Event
	key := f.key(rules.PrivacyKey)
	if rules.Hashes() && event.KeyIDOf(key) != rules.PrivacyKey {
		return fmt.Errorf("kafka: epochs %d to %d can be read again with the key %s only, and no file of privacy.keys "+
			"has it", plan.A+1, plan.B, rules.PrivacyKey)
	}
	least, most := plan.Rows()
	var got int64
	// What the logs begin behind, and what is not there between two records: the count of events tells whether any of
	// it is missing.
	var trimmed, holes []event.Range
	left := plan.LeftOut()
	// gofail: var bugForgetLeftOut struct{}
	// left = nil
	for _, r := range plan.Fetchable() {
		for len(left) > 0 && left[0].Partition < r.Partition {
			left = left[1:]
		}
		n := 0
		for n < len(left) && left[n].Partition == r.Partition && left[n].Offset < r.To {
			n++
		}
		rr := &rangeReading{f: f, topicID: plan.Config.TopicID, r: r, left: left[:n], holes: &holes,
			dec:   event.Decoder{Rules: rules, Key: key},
			yield: func(it *event.Item) error { got++; return yield(it) }}
		start, err := f.readRange(ctx, rr)
		if errors.Is(err, ErrRecreated) {
			return lost(fmt.Errorf("%w: %w", errLost, ErrRecreated), plan.Fetchable()...)
		}
		if err != nil {
			return rr.why(ctx, err)
		}
		if start > r.From {
			r.To = min(r.To, start)
			trimmed = append(trimmed, r)
		}
		left = left[n:]
	}
	short := fmt.Errorf("epochs %d to %d have %d events, Kafka still has %d of them", plan.A+1, plan.B, most, got)
	switch {
	case got < least && len(trimmed) > 0:
		return lost(fmt.Errorf("%w: %w", errLost, short), trimmed...)
	case got < least && len(holes) > 0:
		return &LostError{holes, fmt.Errorf("kafka: %w", short)}
	case got < least || got > most:
		return fmt.Errorf("kafka: epochs %d to %d have %d to %d events, Kafka gave %d", plan.A+1, plan.B, least, most,
			got)
	}
	return nil
}

// rangeReading yields the records of a range [r.From, r.To) that count in their epochs.
type rangeReading struct {
	f       *Refetch
	topicID [16]byte
	r       event.Range
	left    []state.Position // records of the partition, up to the range's end, that do not count; ascending
	yield   func(*event.Item) error

	next int64 // everything below it has been read
	// holes are what has been found missing between the records of this and other readings.
	holes      *[]event.Range
	unreadable bool // the broker has the records, and the client cannot make records of its answer
	dec        event.Decoder
	item       event.Item
}

// readRange reads one range, and returns where the log let it begin. Past r.From there may have been more; the count of
// events tells whether there was.
func (f *Refetch) readRange(ctx context.Context, rr *rangeReading) (int64, error) {
	if err := f.checkTopic(ctx, rr.topicID); err != nil {
		return 0, err
	}
	start, err := f.c.start(ctx, rr.r.Partition)
	if err != nil {
		return 0, err
	}
	from := max(rr.r.From, start)
	if from >= rr.r.To {
		return from, nil
	}
	rr.next = from
	return from, f.read(ctx, rr.r.Partition, from, rr)
}

func (rr *rangeReading) take(fetches kgo.Fetches) (done bool, err error) {
	fetches.EachTopic(func(t kgo.FetchTopic) {
		if !SameTopic(rr.topicID, t.TopicID) {
			err = anotherTopic()
		}
	})
	for i := fetches.RecordIter(); err == nil && !i.Done(); {
		err = rr.record(i.Next())
	}
	rr.dec.Reset()
	if err == nil && rr.next < rr.r.To { // an error past the range, where a gap may follow, is of no concern
		if err = rr.f.c.explain(firstError(fetches), 0); err != nil {
			err = fmt.Errorf("kafka: partition %d, offset %d: %w", rr.r.Partition, rr.next, err)
			rr.unreadable = unreadable(fetches)
		}
	}
	return rr.next >= rr.r.To, err
}

// record yields one record if it counts.
func (rr *rangeReading) record(rec *kgo.Record) error {
	rr.hole(rec.Offset)
	if rec.Offset < rr.next || rec.Offset >= rr.r.To {
		rr.next = max(rr.next, rec.Offset)
		return nil
	}
	rr.next = rec.Offset + 1
	for len(rr.left) > 0 && rr.left[0].Offset < rec.Offset {
		rr.left = rr.left[1:]
	}
	if len(rr.left) > 0 && rr.left[0].Offset == rec.Offset || rec.Attrs.IsControl() || rec.Value == nil {
		return nil
	}
	stamp := rr.dec.Rules.KafkaTime(rec.Timestamp)
	reason, detail := rr.dec.Decode(rec.Value, stamp, &rr.item.Event)
	if reason == event.Excluded { // as when it was read first: the rules are those of its epoch
		return nil
	}
	if reason != event.ReasonNone {
		return &LostError{[]event.Range{{Partition: rec.Partition, From: rec.Offset, To: rec.Offset + 1}},
			fmt.Errorf("kafka: record %d/%d counts in its epoch but does not decode: %s: %s", rec.Partition,
				rec.Offset, reason, detail)}
	}
	rr.item.Partition, rr.item.Offset, rr.item.KafkaTimestamp = rec.Partition, rec.Offset, stamp
	return rr.yield(&rr.item)
}

func (rr *rangeReading) silence(ctx context.Context, polls int) (done bool, err error) {
	c, p := rr.f.c, rr.r.Partition
	if err := rr.f.checkTopic(ctx, rr.topicID); err != nil {
		return false, err
	}
	if start, err := c.start(ctx, p); err == nil && start > rr.next {
		return false, lost(fmt.Errorf("%w: partition %d from offset %d", errLost, p, rr.next), rr.rest(start))
	}
	if polls < quietRounds {
		return false, nil
	}
	l := c.ListEnds(ctx, time.Now)
	switch end, ok := l.Ends[p]; {
	case !ok:
		return false, fmt.Errorf("%w: partition %d from offset %d: its end is not known: %w", errSilent, p, rr.next,
			errors.Join(l.Err, errNoOffset))
	// no record can follow that would show that the range is done; the count tells whether one is missing
	case end == rr.r.To:
		if b, err := c.batchAt(ctx, p, rr.next); err == nil { // the client says nothing of a batch without records
			end = b.To
		}
		rr.hole(end)
		return true, nil
	case end < rr.r.To: // records that were read before are gone from the log's end
		r := rr.rest(rr.r.To)
		r.From = max(r.From, end)
		return false, &LostError{[]event.Range{r}, fmt.Errorf("%w: partition %d from offset %d, its log ends at %d",
			errSilent, p, rr.next, end)}
	default:
		return false, fmt.Errorf("%w: partition %d from offset %d, its log ends at %d", errSilent, p, rr.next, end)
	}
}

// checkTopic asks whether the topic is still the one that the shard was created with. Only a clear no is a
// *sinks.StopError.
func (f *Refetch) checkTopic(ctx context.Context, id [16]byte) error {
	info, err := f.c.Describe(ctx)
	if err != nil {
		return err
	}
	if !SameTopic(id, info.ID) {
		return anotherTopic()
	}
	return nil
}

func anotherTopic() error {
	return &sinks.StopError{Err: fmt.Errorf("%w: %w", errLost, ErrRecreated),
		Hint: "raw events of the old topic that were not flushed in time are gone; sessions and rollups are not " +
			"affected"}
}
