package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
)

const (
	// lettersCached are the newest records of a partition that are kept for Original: dead letters come in clusters.
	lettersCached = 512
	lettersBytes  = 4 << 20
	// lettersPartitions are read on at once; the partition that was not asked for the longest gives way. Without it the
	// shards of a node, whose letters take turns, would each begin to read anew for every letter.
	lettersPartitions = 8
)

// originals reads one partition on, from one dead letter to the next.
type originals struct {
	cl    *kgo.Client
	at    int64 // where cl goes on
	cache map[int64]*kgo.Record
	bytes int
	used  uint64
}

// Original implements sinks.EventSource. Letters close to one another cost one fetch.
func (f *refetch) Original(ctx context.Context, partition int32, offset int64) (key, value []byte, ok bool, err error) {
	if err := f.turn.Acquire(ctx, 1); err != nil {
		return nil, nil, false, err
	}
	defer f.turn.Release(1)
	o := f.originals[partition]
	if o != nil {
		if r, ok := o.cache[offset]; ok {
			return r.Key, r.Value, true, nil
		}
	}
	if o == nil || offset < o.at || offset > o.at+4*pollRecords {
		if o, err = f.read(ctx, partition, offset); o == nil || err != nil {
			return nil, nil, false, err
		}
	}
	f.used++
	o.used = f.used
	for rounds := 0; ; {
		pctx, cancel := context.WithTimeout(ctx, f.quietFor())
		fetches := o.cl.PollRecords(pctx, lettersCached)
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
				o.keep(r)
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
			f.drop(partition)
			return nil, nil, false, nil
		case fail != nil:
			f.drop(partition)
			return nil, nil, false, fmt.Errorf("kafka: %s/%d offset %d: %w", f.topic, partition, offset, fail)
		case o.at > offset: // passed it: compaction has removed it
			return nil, nil, false, nil
		case !seen:
			l := listEnds(ctx, f.admin, f.topic, time.Now)
			if l.err != nil {
				return nil, nil, false, l.err
			}
			if end, known := l.ends[partition]; known && end <= offset {
				return nil, nil, false, nil
			}
			if rounds++; rounds >= quietRounds {
				f.drop(partition)
				return nil, nil, false, fmt.Errorf("%w: partition %d, offset %d", errSilent, partition, offset)
			}
		default:
			rounds = 0
		}
	}
}

// read begins to read a partition at an offset; nil if the log begins after it.
func (f *refetch) read(ctx context.Context, partition int32, offset int64) (*originals, error) {
	from, err := f.start(ctx, event.Range{Partition: partition, From: offset})
	if err != nil || from > offset {
		return nil, err
	}
	f.drop(partition)
	if len(f.originals) >= lettersPartitions {
		oldest := partition
		for p, o := range f.originals {
			if oldest == partition || o.used < f.originals[oldest].used {
				oldest = p
			}
		}
		f.drop(oldest)
	}
	cl, err := f.client(partition, offset)
	if err != nil {
		return nil, err
	}
	o := &originals{cl: cl, at: offset, cache: map[int64]*kgo.Record{}}
	f.originals[partition] = o
	return o, nil
}

// keep caches one record; the cache is emptied when it is full.
func (o *originals) keep(r *kgo.Record) {
	if len(o.cache) >= lettersCached || o.bytes > lettersBytes {
		clear(o.cache)
		o.bytes = 0
	}
	o.cache[r.Offset] = r
	o.bytes += len(r.Key) + len(r.Value)
	o.at = r.Offset + 1
}

// drop ends the reading of a partition.
func (f *refetch) drop(partition int32) {
	if o := f.originals[partition]; o != nil {
		o.cl.Close()
		delete(f.originals, partition)
	}
}

func (f *refetch) close() {
	_ = f.turn.Acquire(context.Background(), 1) // without an end there is no error
	defer f.turn.Release(1)
	for partition := range f.originals {
		f.drop(partition)
	}
}
