package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"deckle/event"
	"deckle/state"
)

// originalsGap is how many records are read past rather than jumped over: a jump costs a client, and so a few requests.
const originalsGap = 4 * pollRecords

// Originals implements sinks.EventSource. Records of a partition that lie near one another cost one client, whatever else
// is asked for meanwhile.
func (f *refetch) Originals(ctx context.Context, at []state.Position, yield func(i int, value []byte, ok bool) error) error {
	for i := 0; i < len(at); {
		n := i + 1
		for n < len(at) && at[n].Partition == at[i].Partition && at[n].Offset-at[n-1].Offset <= originalsGap {
			n++
		}
		for i < n {
			done, err := f.run(ctx, at[i:n], func(k int, value []byte, ok bool) error { return yield(i+k, value, ok) })
			if err != nil {
				return err
			}
			i += done
		}
	}
	return nil
}

// run reads positions of one partition with one client, and returns how many it has dealt with: at least one, and not all if
// the log's start has moved past what is being read.
func (f *refetch) run(ctx context.Context, at []state.Position, yield func(i int, value []byte, ok bool) error) (done int, err error) {
	partition := at[0].Partition
	from, err := f.start(ctx, event.Range{Partition: partition, From: at[0].Offset})
	if err != nil {
		return 0, err
	}
	// missing gives those before an offset as lost.
	missing := func(before int64) error {
		for done < len(at) && at[done].Offset < before {
			if err := yield(done, nil, false); err != nil {
				return err
			}
			done++
		}
		return nil
	}
	if err = missing(from); err != nil || done == len(at) {
		return done, err
	}
	cl, err := f.client(partition, at[done].Offset)
	if err != nil {
		return done, err
	}
	defer cl.Close()
	for rounds := 0; ; {
		pctx, cancel := context.WithTimeout(ctx, f.quietFor())
		fetches := cl.PollRecords(pctx, pollRecords)
		cancel()
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				err = e.Err
			}
		}
		seen := false
		for _, r := range fetches.Records() {
			seen = true
			if err := missing(r.Offset); err != nil { // passed it: compaction has removed it
				return done, err
			}
			if done < len(at) && at[done].Offset == r.Offset {
				if err := yield(done, r.Value, true); err != nil {
					return done, err
				}
				done++
			}
		}
		switch {
		case done == len(at):
			return done, nil
		case errors.Is(err, kerr.OffsetOutOfRange): // gone since the start was asked for; the next run asks again
			err = missing(at[done].Offset + 1)
			return done, err
		case err != nil:
			return done, fmt.Errorf("kafka: %s/%d offset %d: %w", f.topic, partition, at[done].Offset, err)
		case seen:
			rounds = 0
			continue
		}
		l := listEnds(ctx, f.admin, f.topic, time.Now)
		if l.err != nil {
			return done, l.err
		}
		if end, known := l.ends[partition]; known && end <= at[done].Offset {
			err = missing(at[len(at)-1].Offset + 1)
			return done, err
		}
		if rounds++; rounds >= quietRounds {
			return done, fmt.Errorf("%w: partition %d, offset %d", errSilent, partition, at[done].Offset)
		}
	}
}
