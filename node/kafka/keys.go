package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrUnkeyed refuses more than one shard for a topic whose producers set no keys.
var ErrUnkeyed = errors.New("records without keys and more than one shard")

// Limits of the sample that tells whether producers set keys.
const (
	sampleRecords = 200 // newest records per partition
	sampleTime    = 5 * time.Second
)

// CheckKeys refuses to create a cluster of several shards over a topic without keys: it wraps ErrUnkeyed. keyed is
// kafka.keyed of the configuration: yes (there are keys), no, or auto: the newest records decide.
func (c *Client) CheckKeys(ctx context.Context, keyed string, shards int) error {
	if shards <= 1 || keyed == "yes" {
		return nil
	}
	const ways = "the events of a session would be spread over the shards. Ways out: set cluster.shards to 1; " +
		"or let the producers key their records by session_id (kafka.keyed: yes skips this check)"
	if keyed == "no" {
		return fmt.Errorf("%w: kafka.keyed is no and cluster.shards is %d: %s", ErrUnkeyed, shards, ways)
	}
	with, without, err := c.sampleKeys(ctx)
	if err != nil {
		return err
	}
	if without > with {
		return fmt.Errorf("%w: of %d records sampled from %s, %d have no key, and cluster.shards is %d: %s",
			ErrUnkeyed, with+without, c.topic, without, shards, ways)
	}
	return nil
}

// sampleKeys reads the newest records of every partition and counts those with and without a key. An empty topic gives
// 0, 0. What cannot be read in time is left out, unless that is everything.
func (c *Client) sampleKeys(ctx context.Context) (with, without int, err error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	adm := kadm.NewClient(c.admin)
	starts, err := adm.ListStartOffsets(ctx, c.topic)
	if err != nil {
		return 0, 0, fmt.Errorf("kafka: sample of %s: %w", c.topic, err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, c.topic)
	if err != nil {
		return 0, 0, fmt.Errorf("kafka: sample of %s: %w", c.topic, err)
	}
	from, until := map[int32]kgo.Offset{}, map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		start, ok := starts.Lookup(c.topic, o.Partition)
		if !ok || o.Err != nil || start.Err != nil || o.Offset <= start.Offset {
			return
		}
		from[o.Partition] = kgo.NewOffset().At(max(start.Offset, o.Offset-sampleRecords))
		until[o.Partition] = o.Offset
	})
	if len(from) == 0 {
		return 0, 0, nil
	}
	cl, err := c.reader(from, 2<<20)
	if err != nil {
		return 0, 0, err
	}
	defer cl.Close()
	for len(until) > 0 {
		fetches := cl.PollRecords(ctx, 0)
		if ctx.Err() != nil {
			break
		}
		fetches.EachRecord(func(r *kgo.Record) {
			switch {
			case r.Attrs.IsControl():
			case len(r.Key) > 0:
				with++
			default:
				without++
			}
			if r.Offset+1 >= until[r.Partition] {
				delete(until, r.Partition)
			}
		})
	}
	if with+without == 0 {
		return 0, 0, fmt.Errorf("kafka: sample of %s: nothing could be read in %v", c.topic, sampleTime)
	}
	return with, without, nil
}
