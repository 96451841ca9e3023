package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
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
	// lettersCached are the newest records kept for Original: dead letters come in clusters.
	lettersCached = 512
	lettersBytes  = 8 << 20
)

// refetch reads records again from Kafka: the raw events of a plan that no buffer has, the bytes of dead letters. It
// holds one fetch at a time for each caller, and a small cache.
type refetch struct {
	opts  []kgo.Opt
	admin *kgo.Client
	topic string
	log   *slog.Logger

	mu    sync.Mutex // of the client below and its cache
	cl    *kgo.Client
	at    state.Position // where cl goes on
	cache map[state.Position]*kgo.Record
	bytes int
}

var _ sinks.EventSource = (*refetch)(nil)

var errLost = errors.New("Kafka does not have records any more that were read before")

// Events implements sinks.EventSource.
func (f *refetch) Events(ctx context.Context, plan *state.Plan, yield func(*event.Item) error) error {
	var want, got int64
	for i := range plan.Epochs {
		want += plan.Epochs[i].Events
	}
	left := plan.LeftOut()
	for _, r := range plan.Ranges() {
		n := 0
		for n < len(left) && left[n].Partition == r.Partition {
			n++
		}
		if err := f.readRange(ctx, r, left[:n], func(it *event.Item) error { got++; return yield(it) }); err != nil {
			return err
		}
		left = left[n:]
	}
	switch {
	case got > want:
		return fmt.Errorf("node: epochs %d to %d have %d events, Kafka gave %d", plan.A+1, plan.B, want, got)
	case got < want:
		return lost(fmt.Errorf("%w: epochs %d to %d have %d events, Kafka still has %d of them", errLost, plan.A+1, plan.B, want, got))
	}
	return nil
}

func lost(err error) error {
	return &sinks.StopError{Err: err, Hint: "raw events of this shard that were not flushed in time are gone; sessions and " +
		"rollups are not affected. Raise the topic's retention; recording the gap is the operator's decision"}
}

// readRange yields the accepted records of [r.From, r.To).
func (f *refetch) readRange(ctx context.Context, r event.Range, left []state.Position, yield func(*event.Item) error) error {
	from, err := f.start(ctx, r)
	if err != nil || from >= r.To {
		return err // all of it is below the log's start: the count tells whether there was something
	}
	cl, err := f.client(r.Partition, from)
	if err != nil {
		return err
	}
	defer cl.Close()
	var dec event.Decoder
	var item event.Item
	next := from
	for next < r.To {
		pctx, cancel := context.WithTimeout(ctx, refetchQuiet)
		fetches := cl.PollRecords(pctx, pollRecords)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		seen := false
		var fail error
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
			return lost(fmt.Errorf("%w: partition %d, offset %d: %w", errLost, r.Partition, next, fail))
		case fail != nil:
			return fail
		case seen:
			continue
		}
		// Nothing for a while: the rest of the range may be records that compaction has removed since.
		if l := listEnds(ctx, f.admin, f.topic, time.Now); l.err == nil && l.ends[r.Partition] >= r.To {
			if start, err := f.start(ctx, r); err == nil && start > next {
				return lost(fmt.Errorf("%w: partition %d from offset %d", errLost, r.Partition, next))
			}
			if f.atEndOfLog(l, r, next) {
				return nil
			}
		}
	}
	return nil
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

// Original implements sinks.EventSource. Letters close to one another cost one fetch.
func (f *refetch) Original(ctx context.Context, partition int32, offset int64) (key, value []byte, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	want := state.Position{Partition: partition, Offset: offset}
	if r, ok := f.cache[want]; ok {
		return r.Key, r.Value, true, nil
	}
	if f.cl == nil || f.at.Partition != partition || offset < f.at.Offset || offset > f.at.Offset+4*pollRecords {
		from, err := f.start(ctx, event.Range{Partition: partition, From: offset})
		if err != nil {
			return nil, nil, false, err
		}
		if from > offset {
			return nil, nil, false, nil
		}
		f.drop()
		if f.cl, err = f.client(partition, offset); err != nil {
			return nil, nil, false, err
		}
		f.at = want
	}
	for {
		pctx, cancel := context.WithTimeout(ctx, refetchQuiet)
		fetches := f.cl.PollRecords(pctx, lettersCached)
		cancel()
		if ctx.Err() != nil {
			return nil, nil, false, ctx.Err()
		}
		var fail error
		var found *kgo.Record
		seen := false
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Err != nil && !errors.Is(p.Err, context.DeadlineExceeded) {
				fail = p.Err
			}
			for _, r := range p.Records {
				seen = true
				f.keep(r)
				if r.Offset == offset {
					found = r
				}
			}
		})
		if found != nil {
			return found.Key, found.Value, true, nil
		}
		switch {
		case errors.Is(fail, kerr.OffsetOutOfRange):
			f.drop()
			return nil, nil, false, nil
		case fail != nil:
			f.drop()
			return nil, nil, false, fmt.Errorf("kafka: %s/%d offset %d: %w", f.topic, partition, offset, fail)
		case f.at.Offset > offset: // passed it: compaction has removed it
			return nil, nil, false, nil
		case !seen:
			l := listEnds(ctx, f.admin, f.topic, time.Now)
			if l.err != nil {
				return nil, nil, false, l.err
			}
			if end, known := l.ends[partition]; known && end <= offset {
				return nil, nil, false, nil
			}
		}
	}
}

// keep caches one record; the cache is emptied when it is full.
func (f *refetch) keep(r *kgo.Record) {
	if len(f.cache) >= lettersCached || f.bytes > lettersBytes {
		f.cache, f.bytes = nil, 0
	}
	if f.cache == nil {
		f.cache = map[state.Position]*kgo.Record{}
	}
	f.cache[state.Position{Partition: r.Partition, Offset: r.Offset}] = r
	f.bytes += len(r.Key) + len(r.Value)
	f.at = state.Position{Partition: r.Partition, Offset: r.Offset + 1}
}

// drop ends the client of Original. The lock is held.
func (f *refetch) drop() {
	if f.cl != nil {
		f.cl.Close()
		f.cl = nil
	}
}

func (f *refetch) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
	f.cache = nil
}
