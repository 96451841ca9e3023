package shard

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"deckle/node/kafka"
	"deckle/state"
)

// looksAtOnce bounds the looks at stopped partitions that are under way at a time: many clients would be a storm upon
// brokers that have trouble already.
const looksAtOnce = 8

// halted is how one leadership looks again at a partition that has stopped for what may pass. It goes on by itself only
// where that proves that nothing would be skipped or repeated; otherwise it waits for an operator.
type halted struct {
	at   int64 // the next offset, when it stopped
	look look
	due  time.Time // of the next look
	wait *backoff.ExponentialBackOff
}

// look returns nil if the partition can go on from where p stands, as if nothing had happened. It need not be the last
// word: in the run that follows its last record is compared before anything is taken.
type look func(ctx context.Context, c *kafka.Client, topicID [16]byte, p state.PartitionStatus) error

// secondLook is a look at some stopped partitions, with clients of its own. There is one at a time per shard.
type secondLook struct {
	parts []int32
	errs  []error       // of each
	done  chan struct{} // closed when errs are set
}

// errGoesOn ends a run of the intake because partitions that had stopped can go on. The next one begins with the
// applied offsets.
var errGoesOn = errors.New("shard: partitions go on that had stopped")

// unchanged looks whether the log is still the one that was read, and has the next offset.
func unchanged(ctx context.Context, c *kafka.Client, topicID [16]byte, at state.PartitionStatus) error {
	return c.Unchanged(ctx, topicID, at)
}

// keysAgain looks whether there is a record with a key among the next ones.
func keysAgain(ctx context.Context, c *kafka.Client, topicID [16]byte, at state.PartitionStatus) error {
	records, err := c.Next(ctx, topicID, at)
	if err != nil {
		return err
	}
	var p partition
	if p.withoutKeys(records); !p.keyed {
		return errors.New("there is no key among the next records")
	}
	return nil
}
