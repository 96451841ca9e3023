package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
)

// ErrReplaced says that a partition has another record at an offset than the one that was read there. The broker has
// lost records that were read, and has given their offsets to others: it was restored from a backup, or an unclean
// leader was elected.
var ErrReplaced = errors.New("kafka: another record stands at an offset that was read before")

// CheckRecord reads the record at an offset of a partition again and compares its event.HashRecord with hash. It
// returns an error that wraps ErrReplaced if another record stands there. A record that retention or compaction has
// removed proves nothing, and so does a log that begins later or ends earlier: nil. Any other error says that the
// partition cannot be read for now.
func (c *Client) CheckRecord(ctx context.Context, partition int32, offset int64, hash uint64) error {
	f := NewRefetch(c)
	start, err := c.start(ctx, partition)
	if err != nil {
		return err
	}
	if start > offset {
		return nil
	}
	r := &recordReading{f: f, partition: partition, offset: offset, hash: hash}
	return f.read(ctx, partition, offset, r)
}

// recordReading looks for the record at one offset.
type recordReading struct {
	f         *Refetch
	partition int32
	offset    int64
	hash      uint64
}

func (r *recordReading) take(fetches kgo.Fetches) (done bool, err error) {
	for i := fetches.RecordIter(); !i.Done(); {
		rec := i.Next()
		switch {
		case rec.Offset < r.offset:
			continue
		case rec.Offset > r.offset || rec.Attrs.IsControl():
			return true, nil // compaction has removed it, or another kind of record stands there
		}
		if got := event.HashRecord(rec.Offset, rec.Key, rec.Value); got != r.hash {
			return true, fmt.Errorf("%w: %s/%d, offset %d", ErrReplaced, r.f.c.topic, r.partition, r.offset)
		}
		return true, nil
	}
	switch err := firstError(fetches); {
	case errors.Is(err, kerr.OffsetOutOfRange):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("kafka: %s/%d, offset %d: %w", r.f.c.topic, r.partition, r.offset, err)
	}
	return false, nil
}

func (r *recordReading) silence(ctx context.Context, polls int) (done bool, err error) {
	l := r.f.c.ListEnds(ctx, time.Now)
	if l.Err != nil {
		return false, l.Err
	}
	if end, known := l.Ends[r.partition]; known && end <= r.offset {
		return true, nil // the log is shorter than what was read: the listing stops the partition for that
	}
	if polls >= quietRounds {
		return false, fmt.Errorf("%w: partition %d, offset %d", errSilent, r.partition, r.offset)
	}
	return false, nil
}
