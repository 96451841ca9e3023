package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sinks/rights"
)

// stretchBytes bounds a fetch of a stretch per broker.
const stretchBytes = 16 << 20

// Stretch is a part of a partition's log: the offsets [From, To), of which the log still has those from Start on.
type Stretch struct {
	Partition       int32
	From, To, Start int64
}

// Between returns the stretch of each partition of a topic whose records have Kafka times in [from, to): from the first
// record of the former time or later to the first of the latter, as Kafka's index of times finds them, and no further
// than what is committed. Where times do not ascend, a stretch has records of other times, too. They ascend by
// partition, and may be empty. A topic that does not exist has none.
func (c *Client) Between(ctx context.Context, topic string, from, to time.Time) ([]Stretch, error) {
	adm := kadm.NewClient(c.admin)
	lists := make([]kadm.ListedOffsets, 4)
	for i, list := range []func() (kadm.ListedOffsets, error){
		func() (kadm.ListedOffsets, error) { return adm.ListStartOffsets(ctx, topic) },
		func() (kadm.ListedOffsets, error) { return adm.ListCommittedOffsets(ctx, topic) },
		func() (kadm.ListedOffsets, error) { return adm.ListOffsetsAfterMilli(ctx, from.UnixMilli(), topic) },
		func() (kadm.ListedOffsets, error) { return adm.ListOffsetsAfterMilli(ctx, to.UnixMilli(), topic) },
	} {
		var err error
		if lists[i], err = list(); err == nil {
			err = lists[i].Error()
		}
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("kafka: offsets of %s: %w", topic,
				rights.Explain(err, rights.Topic("Describe", topic)))
		}
	}
	var all []Stretch
	lists[1].Each(func(end kadm.ListedOffset) {
		s := Stretch{Partition: end.Partition}
		for i, to := range []*int64{&s.Start, nil, &s.From, &s.To} {
			if o, ok := lists[i].Lookup(topic, end.Partition); ok && to != nil {
				*to = o.Offset
			}
		}
		s.To = min(s.To, end.Offset)
		s.From = min(s.From, s.To)
		all = append(all, s)
	})
	slices.SortFunc(all, func(a, b Stretch) int { return cmp.Compare(a.Partition, b.Partition) })
	return all, nil
}

// ReadStretches calls yield for every committed record of the stretches of a topic that the log still has, in the
// order of the offsets of each partition. What yield returns ends it.
func (c *Client) ReadStretches(ctx context.Context, topic string, stretches []Stretch,
	yield func(*kgo.Record) error) error {
	from, until := map[int32]kgo.Offset{}, map[int32]int64{}
	for _, s := range stretches {
		if at := max(s.From, s.Start); at < s.To {
			from[s.Partition], until[s.Partition] = kgo.NewOffset().At(at), s.To
		}
	}
	if len(from) == 0 {
		return nil
	}
	cl, err := c.readerOf(topic, from, stretchBytes)
	if err != nil {
		return err
	}
	defer cl.Close()
	for quiet := 0; len(until) > 0; {
		pctx, cancel := context.WithTimeout(ctx, cmp.Or(c.quiet, refetchQuiet))
		fetches := cl.PollRecords(pctx, pollRecords)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if quiet++; fetches.NumRecords() > 0 {
			quiet = 0
		}
		if err := firstError(fetches); err != nil {
			return fmt.Errorf("kafka: read %s: %w", topic, c.explain(err, 0))
		}
		for i := fetches.RecordIter(); !i.Done(); {
			r := i.Next()
			end, open := until[r.Partition]
			if open && r.Offset < end && !r.Attrs.IsControl() {
				if err := yield(r); err != nil {
					return err
				}
			}
			if open && r.Offset+1 >= end {
				delete(until, r.Partition)
				cl.PauseFetchPartitions(map[string][]int32{topic: {r.Partition}})
			}
		}
		// Markers of transactions are given, and the end of a log is not compacted: there is a record to come.
		if quiet >= quietRounds {
			return fmt.Errorf("%w: %s", errSilent, topic)
		}
	}
	return nil
}
