package kafka

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sinks/rights"
)

var (
	// ErrUnkeyed refuses more than one shard for a topic whose producers set no keys.
	ErrUnkeyed = errors.New("records without keys and more than one shard")
	// ErrOtherKeys refuses more than one shard for a topic whose producers set other keys than those of sessions.
	ErrOtherKeys = errors.New("keys that do not keep a session together and more than one shard")
)

// Limits of the sample that tells what keys producers set.
const (
	sampleRecords = 200 // newest records per partition
	sampleTime    = 5 * time.Second
	// Of the sessions seen more than once, no more than one in seenSplit may be seen under several keys; fewer than
	// seenTwice of them prove nothing.
	seenTwice = 10
	seenSplit = 100
)

// CheckKeys refuses to create a cluster of several shards over a topic without keys (it wraps ErrUnkeyed), or with keys
// that do not keep a session together (ErrOtherKeys). keyed is kafka.keyed of the configuration: yes (there are keys),
// no, or auto: the newest records decide. A notice says that they could not.
func (c *Client) CheckKeys(ctx context.Context, keyed string, shards int) (notice string, err error) {
	if shards <= 1 || keyed == "yes" {
		return "", nil
	}
	const ways = "the events of a session would be spread over the shards. Ways out: set cluster.shards to 1; " +
		"or let the producers key their records by session_id (kafka.keyed: yes skips this check)"
	if keyed == "no" {
		return "", fmt.Errorf("%w: kafka.keyed is no and cluster.shards is %d: %s", ErrUnkeyed, shards, ways)
	}
	s, err := c.sampleKeys(ctx)
	if err != nil {
		return "", err
	}
	if s.without > s.with {
		return "", fmt.Errorf("%w: of %d records sampled from %s, %d have no key, and cluster.shards is %d: %s",
			ErrUnkeyed, s.with+s.without, c.topic, s.without, shards, ways)
	}
	switch {
	case s.twice < seenTwice:
		return fmt.Sprintf("whether the keys of %s keep a session together is not known: of the %d newest records of "+
			"each partition, only %d sessions have more than one (10 are needed)", c.topic, sampleRecords, s.twice), nil
	case s.split*seenSplit > s.twice:
		return "", fmt.Errorf("%w: of %d sessions sampled more than once from %s, %d have records under several keys "+
			"or in several partitions (%s), and cluster.shards is %d: %s", ErrOtherKeys, s.twice, c.topic, s.split,
			s.example, shards, ways)
	}
	return "", nil
}

// keySample is what the newest records say of their keys.
type keySample struct {
	with, without int // records
	twice         int // sessions with more than one record
	split         int // of those, sessions under several keys or in several partitions
	example       string

	seed     maphash.Seed
	sessions map[uint64]*sampled // by the hash of the id
}

// sampled is one session of the sample.
type sampled struct {
	key       string
	partition int32
	twice     bool
	split     bool
}

func newKeySample() *keySample {
	return &keySample{seed: maphash.MakeSeed(), sessions: map[uint64]*sampled{}}
}

// take looks at one record. One that names no session counts with its key only.
func (s *keySample) take(r *kgo.Record) {
	if len(r.Key) > 0 {
		s.with++
	} else {
		s.without++
	}
	var e struct {
		SessionID string `json:"session_id"`
	}
	if json.Unmarshal(r.Value, &e) != nil || e.SessionID == "" {
		return
	}
	h := maphash.String(s.seed, e.SessionID)
	seen := s.sessions[h]
	if seen == nil {
		s.sessions[h] = &sampled{key: string(r.Key), partition: r.Partition}
		return
	}
	if !seen.twice {
		seen.twice = true
		s.twice++
	}
	if !seen.split && (seen.partition != r.Partition || seen.key != string(r.Key)) {
		seen.split = true
		s.split++
		if s.example == "" {
			s.example = fmt.Sprintf("session %.80q: key %.80q in partition %d, key %.80q in partition %d", e.SessionID,
				seen.key, seen.partition, r.Key, r.Partition)
		}
	}
}

// sampleKeys reads the newest records of every partition. What cannot be read in time is left out, unless that is
// everything.
func (c *Client) sampleKeys(ctx context.Context) (*keySample, error) {
	s := newKeySample()
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	some, failed, err := c.tails(ctx, func(int) int64 { return sampleRecords },
		func(r *kgo.Record, _ int64) { s.take(r) })
	if err != nil {
		return nil, err
	}
	if !some {
		return s, nil
	}
	if s.with+s.without == 0 {
		if failed != nil {
			return nil, fmt.Errorf("kafka: sample of %s: %w", c.topic, failed)
		}
		return nil, fmt.Errorf("kafka: sample of %s: nothing could be read in %v", c.topic, sampleTime)
	}
	return s, nil
}

// tails calls take for the newest records of every partition, from each(partitions) before its end on, until ctx ends;
// end is where the partition ended at first. some is false if the topic has no records. failed is the last error that a
// partition gave; what it would have had is left out.
func (c *Client) tails(ctx context.Context, each func(partitions int) int64, take func(r *kgo.Record, end int64)) (
	some bool, failed, err error) {
	adm := kadm.NewClient(c.admin)
	starts, err := adm.ListStartOffsets(ctx, c.topic)
	if err != nil {
		return false, nil, fmt.Errorf("kafka: sample of %s: %w", c.topic, c.mayRead(err))
	}
	ends, err := adm.ListCommittedOffsets(ctx, c.topic)
	if err != nil {
		return false, nil, fmt.Errorf("kafka: sample of %s: %w", c.topic, c.mayRead(err))
	}
	most := each(len(ends[c.topic]))
	from, until := map[int32]kgo.Offset{}, map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		start, ok := starts.Lookup(c.topic, o.Partition)
		if !ok || o.Err != nil || start.Err != nil || o.Offset <= start.Offset {
			return
		}
		from[o.Partition] = kgo.NewOffset().At(max(start.Offset, o.Offset-most))
		until[o.Partition] = o.Offset
	})
	if len(from) == 0 {
		return false, nil, nil
	}
	cl, err := c.reader(from, 2<<20)
	if err != nil {
		return false, nil, err
	}
	defer cl.Close()
	for len(until) > 0 {
		fetches := cl.PollRecords(ctx, 0)
		if ctx.Err() != nil {
			break
		}
		if failed = cmp.Or(firstError(fetches), failed); rights.Missing(failed) {
			break
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, open := until[r.Partition]
			if open && !r.Attrs.IsControl() {
				take(r, end)
			}
			if r.Offset+1 >= end {
				delete(until, r.Partition)
			}
		})
	}
	return true, failed, nil
}
