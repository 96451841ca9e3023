package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/sinks/rights"
)

// Info is what the brokers say of the topic.
type Info struct {
	ID         [16]byte // zero if the brokers know no topic ids
	Partitions int
}

var (
	// ErrNoTopic says that the topic does not exist.
	ErrNoTopic = errors.New("the topic does not exist (create it, or correct kafka.topic)")
	// ErrRecreated says that the topic is another one than offsets belong to.
	ErrRecreated = errors.New("the topic has another id than the one this cluster was created with: it was deleted " +
		"and created again. Offsets of the old topic say nothing about the new one; start a new cluster in an empty " +
		"folder")

	errNoOffset = errors.New("no broker knows them")
)

// SameTopic says whether two topic ids may be of one topic; the zero id is unknown and may be any.
func SameTopic(a, b [16]byte) bool {
	var unknown [16]byte
	return a == unknown || b == unknown || a == b
}

// Describe asks for the topic's id and number of partitions, past the client's cache: a topic that was deleted and
// created again must show. It wraps ErrNoTopic if the topic does not exist.
func (c *Client) Describe(ctx context.Context) (Info, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &c.topic
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, c.admin)
	if err != nil {
		return Info{}, fmt.Errorf("kafka: metadata of %s: %w", c.topic, err)
	}
	if len(resp.Topics) != 1 {
		return Info{}, fmt.Errorf("kafka: metadata of %s: %d topics in the answer", c.topic, len(resp.Topics))
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			err = fmt.Errorf("%w: %w", ErrNoTopic, err)
		}
		err = c.mayRead(err)
		return Info{}, fmt.Errorf("kafka: %s: %w", c.topic, err)
	}
	return Info{ID: resp.Topics[0].TopicID, Partitions: len(resp.Topics[0].Partitions)}, nil
}

// Starts returns where a new cluster begins to read each of the partitions: at the start of the log or, if latest, at
// the last stable offset.
func (c *Client) Starts(ctx context.Context, latest bool, partitions []int32) ([]int64, error) {
	list := kadm.NewClient(c.admin).ListStartOffsets
	if latest {
		list = kadm.NewClient(c.admin).ListCommittedOffsets
	}
	offsets, err := list(ctx, c.topic)
	if err != nil {
		return nil, fmt.Errorf("kafka: offsets of %s: %w", c.topic, c.mayRead(err))
	}
	starts := make([]int64, 0, len(partitions))
	for _, p := range partitions {
		o, ok := offsets.Lookup(c.topic, p)
		if !ok || o.Err != nil {
			return nil, fmt.Errorf("kafka: offsets of %s/%d: %w", c.topic, p,
				errors.Join(c.mayRead(o.Err), errNoOffset))
		}
		starts = append(starts, o.Offset)
	}
	return starts, nil
}

// mayRead names the right that is missing if err is a refusal: reading, and all that goes with it, needs Read.
func (c *Client) mayRead(err error) error { return rights.Explain(err, rights.Topic("Read", c.topic)) }

// start is where the partition's log begins.
func (c *Client) start(ctx context.Context, partition int32) (int64, error) {
	offsets, err := kadm.NewClient(c.admin).ListStartOffsets(ctx, c.topic)
	if err != nil {
		return 0, fmt.Errorf("kafka: start offsets of %s: %w", c.topic, c.mayRead(err))
	}
	o, ok := offsets.Lookup(c.topic, partition)
	if !ok || o.Err != nil {
		return 0, fmt.Errorf("kafka: start offset of %s/%d: %w", c.topic, partition,
			errors.Join(c.mayRead(o.Err), errNoOffset))
	}
	return o.Offset, nil
}

// Listing is one look at the ends of the topic's partitions. It is never changed once it has been returned.
type Listing struct {
	Begun time.Time // before the brokers were asked
	Err   error     // why the look failed as a whole; nothing but Begun is set then
	Info  Info
	Ends  map[int32]int64 // last stable offsets; partitions without an answer are missing
	errs  map[int32]error // of those
}

// ListEnds asks for the last stable offsets of all partitions.
func (c *Client) ListEnds(ctx context.Context, now func() time.Time) *Listing {
	l := &Listing{Begun: now()}
	if l.Info, l.Err = c.Describe(ctx); l.Err != nil {
		return l
	}
	offsets, err := kadm.NewClient(c.admin).ListCommittedOffsets(ctx, c.topic)
	var some *kadm.ShardErrors
	if err != nil && !errors.As(err, &some) { // ShardErrors: the other brokers have answered
		l.Err = fmt.Errorf("kafka: end offsets of %s: %w", c.topic, err)
		return l
	}
	l.Ends, l.errs = map[int32]int64{}, map[int32]error{}
	for p, o := range offsets[c.topic] {
		if o.Err == nil && o.Offset >= 0 {
			l.Ends[p] = o.Offset
		} else {
			l.errs[p] = c.mayRead(o.Err)
		}
	}
	return l
}

// Missing says which of the partitions the listing has no end of; nil if it has all. Such a partition is not idle, and
// so holds its shard's clock back, although the client library may keep the reason to itself.
func (l *Listing) Missing(partitions []int32) error {
	for _, p := range partitions {
		if _, ok := l.Ends[p]; !ok {
			return fmt.Errorf("kafka: partition %d: %w", p, cmp.Or(l.errs[p], errNoOffset))
		}
	}
	return nil
}
