package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sinks"
	"deckle/state"
)

// originalsGap is how many records are read past rather than jumped over: a jump costs a client, and so a few requests.
const originalsGap = 4 * pollRecords

// Originals implements sinks.EventSource. Records of a partition that lie near one another cost one client, whatever
// else is asked for meanwhile.
func (f *Refetch) Originals(ctx context.Context, at []state.Position,
	yield func(i int, value []byte, ok bool) error) error {
	for i := 0; i < len(at); {
		n := i + 1
		for n < len(at) && at[n].Partition == at[i].Partition && at[n].Offset-at[n-1].Offset <= originalsGap {
			n++
		}
		for i < n {
			r := &originalsReading{f: f, at: at[i:n], yield: func(k int, value []byte, ok bool) error {
				return yield(i+k, value, ok)
			}}
			if err := f.readOriginals(ctx, r); err != nil {
				return err
			}
			i += r.done
		}
	}
	return nil
}

// originalsReading yields the values of records at given positions of one partition.
type originalsReading struct {
	f     *Refetch
	at    []state.Position // ascending
	yield func(i int, value []byte, ok bool) error
	done  int // how many of at have been yielded
}

// readOriginals reads with one client. It deals with one position at least, and not with all if the log's start moves
// past what is being read.
func (f *Refetch) readOriginals(ctx context.Context, r *originalsReading) error {
	start, err := f.c.start(ctx, r.at[0].Partition)
	if err != nil {
		return err
	}
	if err := r.missing(start); err != nil || r.done == len(r.at) {
		return err
	}
	return f.read(ctx, r.at[0].Partition, r.at[r.done].Offset, r)
}

// missing yields the positions before an offset as lost.
func (r *originalsReading) missing(before int64) error {
	for r.done < len(r.at) && r.at[r.done].Offset < before {
		if err := r.yield(r.done, nil, false); err != nil {
			return err
		}
		r.done++
	}
	return nil
}

func (r *originalsReading) take(fetches kgo.Fetches) (done bool, err error) {
	for i := fetches.RecordIter(); !i.Done(); {
		rec := i.Next()
		if err := r.missing(rec.Offset); err != nil { // passed it: compaction has removed it
			return false, err
		}
		if r.done < len(r.at) && r.at[r.done].Offset == rec.Offset {
			if err := r.yield(r.done, rec.Value, true); err != nil {
				return false, err
			}
			r.done++
		}
	}
	err = r.f.c.explain(firstError(fetches), 0)
	switch {
	case r.done == len(r.at):
		return true, nil
	case errors.Is(err, kerr.OffsetOutOfRange): // gone since the start was asked for; the next reading asks again
		return true, r.missing(r.at[r.done].Offset + 1)
	case err != nil:
		err = fmt.Errorf("kafka: %s/%d offset %d: %w", r.f.c.topic, r.at[0].Partition, r.at[r.done].Offset, err)
		if unreadable(fetches) {
			err = &sinks.UnreadableError{Err: err}
		}
		return false, err
	}
	return false, nil
}

// unreadable says that what a poll brought is the answer of a broker that has the records, and that the client cannot
// make records of it. What passes by itself, a right that is missing and the end of a wait are something else.
func unreadable(fetches kgo.Fetches) bool {
	for _, e := range fetches.Errors() {
		var refused *kerr.Error
		if e.Partition < 0 || errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled) {
			continue
		}
		if !errors.As(e.Err, &refused) || refused == kerr.CorruptMessage || refused == kerr.UnsupportedCompressionType {
			return true
		}
	}
	return false
}

func (r *originalsReading) silence(ctx context.Context, polls int) (done bool, err error) {
	l := r.f.c.ListEnds(ctx, time.Now)
	if l.Err != nil {
		return false, l.Err
	}
	p, offset := r.at[0].Partition, r.at[r.done].Offset
	if end, known := l.Ends[p]; known && end <= offset {
		return true, r.missing(r.at[len(r.at)-1].Offset + 1)
	}
	if polls >= quietRounds {
		return false, fmt.Errorf("%w: partition %d, offset %d", errSilent, p, offset)
	}
	return false, nil
}
