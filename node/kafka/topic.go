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

	errNoOffset = errors.New("no broker tells")
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
	led := &leaders{id: resp.Topics[0].TopicID, of: map[int32]leader{}}
	for _, p := range resp.Topics[0].Partitions {
		if p.Leader >= 0 {
			led.of[p.Partition] = leader{p.Leader, p.LeaderEpoch}
		}
	}
	c.led.Store(led)
	return Info{ID: led.id, Partitions: len(resp.Topics[0].Partitions)}, nil
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
	// Held are the records, markers included, that lie behind the last stable offset, because an open transaction holds
	// them back; partitions without an answer are missing. Only a Watch asks for them, and for Starts.
	Held map[int32]int64
	// Starts are the first offsets of the partitions, if they are wanted.
	Starts map[int32]int64
}

// ListEnds asks for the last stable offsets of all partitions.
func (c *Client) ListEnds(ctx context.Context, now func() time.Time) *Listing {
	l := &Listing{Begun: now()}
	if l.Info, l.Err = c.Describe(ctx); l.Err == nil {
		c.listEnds(ctx, l)
	}
	return l
}

func (c *Client) listEnds(ctx context.Context, l *Listing) {
	offsets, err := kadm.NewClient(c.admin).ListCommittedOffsets(ctx, c.topic)
	var some *kadm.ShardErrors
	if err != nil && !errors.As(err, &some) { // ShardErrors: the other brokers have answered
		l.Err = fmt.Errorf("kafka: end offsets of %s: %w", c.topic, c.mayRead(err))
		return
	}
	l.Ends, l.errs = known(offsets, nil)
	for p, err := range l.errs {
		l.errs[p] = c.mayRead(err)
	}
}

// ListAll asks for all that a Listing may have.
func (c *Client) ListAll(ctx context.Context, now func() time.Time) *Listing {
	return c.listAll(ctx, now, true)
}

// listAll asks for all that a Listing may have; withStarts says whether for Starts, too.
func (c *Client) listAll(ctx context.Context, now func() time.Time, withStarts bool) *Listing {
	l := &Listing{Begun: now()}
	if l.Info, l.Err = c.Describe(ctx); l.Err != nil {
		return l
	}
	adm := kadm.NewClient(c.admin)
	if withStarts {
		l.Starts, _ = known(adm.ListStartOffsets(ctx, c.topic)) // what is missing is unknown
	}
	// The high watermarks first: the last stable offset, asked for later, is then below only where a transaction is
	// open, and not because records have come meanwhile.
	high, _ := known(adm.ListEndOffsets(ctx, c.topic))
	c.listEnds(ctx, l)
	l.Held = map[int32]int64{}
	for p, end := range l.Ends {
		if h, ok := high[p]; ok {
			l.Held[p] = max(h-end, 0)
		}
	}
	return l
}

// known takes what brokers have answered about the one topic that they were asked about: offsets, and the errors of the
// partitions without one. Of the error it takes nothing: partitions whose broker did not answer are in neither map.
func known(all kadm.ListedOffsets, _ error) (offsets map[int32]int64, errs map[int32]error) {
	offsets, errs = map[int32]int64{}, map[int32]error{}
	for _, parts := range all {
		for p, o := range parts {
			if o.Err == nil && o.Offset >= 0 {
				offsets[p] = o.Offset
			} else {
				errs[p] = o.Err
			}
		}
	}
	return offsets, errs
}

// Missing says why the listing has no end of the partition; nil if it has one. Such a partition is not idle, and so
// holds its shard's clock back, although the client library may keep the reason to itself.
func (l *Listing) Missing(partition int32) error {
	if _, ok := l.Ends[partition]; ok {
		return nil
	}
	return fmt.Errorf("kafka: partition %d: its end is not known: %w", partition,
		cmp.Or(l.errs[partition], errNoOffset))
}
