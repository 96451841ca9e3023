package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/sinks"
	"deckle/state"
)

const (
	refetchBytes = 4 << 20
	// refetchQuiet without records makes refetch ask whether there can be any more.
	refetchQuiet = 3 * time.Second
	// quietRounds in a row without a record end an attempt: together they outlast a change of the partition's leader.
	quietRounds = 5
)

// refetch reads records again from Kafka: the raw events of a plan that no buffer has, the bytes of dead letters. It keeps
// nothing between calls, which may come from all shards at once: each has a client of its own, and one fetch at a time.
type refetch struct {
	opts  []kgo.Opt
	admin *kgo.Client
	topic string
	log   *slog.Logger
	quiet time.Duration // instead of refetchQuiet, if set
}

var _ sinks.EventSource = (*refetch)(nil)

func newRefetch(opts []kgo.Opt, admin *kgo.Client, topic string, log *slog.Logger) *refetch {
	return &refetch{opts: opts, admin: admin, topic: topic, log: log}
}

var (
	// errLost is a fact: the log begins after a record that was read before, or the topic is another one.
	errLost = errors.New("Kafka does not have records any more that were read before")
	// errSilent may pass: the partition gives nothing, although its log should go on.
	errSilent = errors.New("Kafka gives no records of a range that was read before")
)

// Events implements sinks.EventSource.
func (f *refetch) Events(ctx context.Context, plan *state.Plan, yield func(*event.Item) error) error {
	var want, got int64
	cut := false // the log begins inside or past a range
	for i := range plan.Epochs {
		want += plan.Epochs[i].Events
	}
	left := plan.LeftOut()
	// gofail: var bugForgetLeftOut struct{}
	// left = nil
	for _, r := range plan.Ranges() {
		n := 0
		for n < len(left) && left[n].Partition == r.Partition {
			n++
		}
		start, err := f.readRange(ctx, &plan.Config, r, left[:n], func(it *event.Item) error { got++; return yield(it) })
		if err != nil {
			return err
		}
		cut = cut || start > r.From
		left = left[n:]
	}
	switch {
	case got < want && cut:
		return lost(fmt.Errorf("%w: epochs %d to %d have %d events, Kafka still has %d of them", errLost, plan.A+1, plan.B, want, got))
	case got != want:
		return fmt.Errorf("node: epochs %d to %d have %d events, Kafka gave %d", plan.A+1, plan.B, want, got)
	}
	return nil
}

func lost(err error) error {
	return &sinks.StopError{Err: err, Hint: "raw events of this shard that were not flushed in time are gone; sessions and " +
		"rollups are not affected. Raise the topic's retention; recording the gap is the operator's decision"}
}

// readRange yields the accepted records of [r.From, r.To), and returns where the log let it begin: past r.From, there may
// have been more, and the count tells whether there was.
func (f *refetch) readRange(ctx context.Context, cfg *state.Config, r event.Range, left []state.Position, yield func(*event.Item) error) (int64, error) {
	if err := f.checkTopic(ctx, cfg); err != nil {
		return 0, err
	}
	from, err := f.start(ctx, r)
	if err != nil || from >= r.To {
		return from, err
	}
	cl, err := f.client(r.Partition, from)
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	var dec event.Decoder
	var item event.Item
	next := from
	for rounds := 0; next < r.To; {
		pctx, cancel := context.WithTimeout(ctx, f.quietFor())
		fetches := cl.PollRecords(pctx, pollRecords)
		cancel()
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		seen := false
		var fail error
		fetches.EachTopic(func(t kgo.FetchTopic) {
			if !sameTopic(cfg, t.TopicID) {
				fail = anotherTopic()
			}
		})
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Err != nil && !errors.Is(p.Err, context.DeadlineExceeded) && fail == nil {
				fail = p.Err
			}
			for _, rec := range p.Records {
				if fail != nil || rec.Offset < next || rec.Offset >= r.To {
					seen, next = true, max(next, rec.Offset)
					continue
				}
				seen, next = true, rec.Offset+1
				for len(left) > 0 && left[0].Offset < rec.Offset {
					left = left[1:]
				}
				if len(left) > 0 && left[0].Offset == rec.Offset {
					continue
				}
				if rec.Attrs.IsControl() || rec.Value == nil {
					continue
				}
				stamp := rec.Timestamp.UnixMilli()
				if reason, detail := dec.Decode(rec.Value, stamp, &item.Event); reason != event.ReasonNone {
					fail = fmt.Errorf("node: record %d/%d counts in its epoch but does not decode: %s: %s",
						rec.Partition, rec.Offset, reason, detail)
					continue
				}
				item.Partition, item.Offset, item.KafkaTimestamp = rec.Partition, rec.Offset, stamp
				fail = yield(&item)
			}
		})
		dec.Reset()
		switch {
		case errors.Is(fail, kerr.OffsetOutOfRange):
			return 0, lost(fmt.Errorf("%w: partition %d, offset %d: %w", errLost, r.Partition, next, fail))
		case fail != nil:
			return 0, fail
		case seen:
			rounds = 0
			continue
		}
		// Nothing for a while. The broker may be slow, or another one has become the leader; or the rest of the range may be
		// records that compaction has removed since.
		if err := f.checkTopic(ctx, cfg); err != nil {
			return 0, err
		}
		if start, err := f.start(ctx, r); err == nil && start > next {
			return 0, lost(fmt.Errorf("%w: partition %d from offset %d", errLost, r.Partition, next))
		}
		if rounds++; rounds < quietRounds {
			continue
		}
		l := listEnds(ctx, f.admin, f.topic, time.Now)
		if end, ok := l.ends[r.Partition]; ok && f.atEndOfLog(l, r, next) {
			break // the count tells whether something is missing
		} else if !ok {
			return 0, fmt.Errorf("%w: partition %d from offset %d: its end is not known: %w", errSilent, r.Partition, next, errors.Join(l.err, errNoOffset))
		} else {
			return 0, fmt.Errorf("%w: partition %d from offset %d, its log ends at %d", errSilent, r.Partition, next, end)
		}
	}
	return from, nil
}

func (f *refetch) quietFor() time.Duration { return cmp.Or(f.quiet, refetchQuiet) }

// checkTopic asks whether the topic is still the one that the shard was created with. Only a clear no is a *StopError.
func (f *refetch) checkTopic(ctx context.Context, cfg *state.Config) error {
	info, err := describeTopic(ctx, f.admin, f.topic)
	if err != nil {
		return err
	}
	if !sameTopic(cfg, info.id) {
		return anotherTopic()
	}
	return nil
}

func anotherTopic() error {
	return &sinks.StopError{Err: fmt.Errorf("%w: %w", errLost, errRecreated),
		Hint: "raw events of the old topic that were not flushed in time are gone; sessions and rollups are not affected"}
}

// atEndOfLog says whether the log's end is the range's: no record can follow that would show that the range is done.
func (f *refetch) atEndOfLog(l *listing, r event.Range, next int64) bool {
	return l.ends[r.Partition] == r.To && next < r.To
}

// start is where the range can be read from: the log's start may lie inside it.
func (f *refetch) start(ctx context.Context, r event.Range) (int64, error) {
	offsets, err := kadm.NewClient(f.admin).ListStartOffsets(ctx, f.topic)
	if err != nil {
		return 0, fmt.Errorf("kafka: start offsets of %s: %w", f.topic, err)
	}
	o, ok := offsets.Lookup(f.topic, r.Partition)
	if !ok || o.Err != nil {
		return 0, fmt.Errorf("kafka: start offset of %s/%d: %w", f.topic, r.Partition, errors.Join(o.Err, errNoOffset))
	}
	return max(r.From, o.Offset), nil
}

func (f *refetch) client(partition int32, from int64) (*kgo.Client, error) {
	at := map[int32]kgo.Offset{partition: kgo.NewOffset().At(from)}
	cl, err := kgo.NewClient(append(slices.Clip(f.opts), consumeOpts(f.topic, at, refetchBytes)...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return cl, nil
}
