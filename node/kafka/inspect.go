package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/sinks/rights"
)

// Broker is what one broker has answered.
type Broker struct {
	Name string // host:port; of one that kafka.brokers does not name, with its number
	Err  error  // why it cannot be used
}

// Brokers asks each broker of kafka.brokers and each that those name, all at once: a broker is dialled, and proves and
// is proved, as when records are read. One that names an address which this machine does not reach shows here.
func (c *Client) Brokers(ctx context.Context) []Broker {
	list := c.askAll(ctx, c.admin.SeedBrokers()) // in the order of the configuration
	for i := range list[:min(len(list), len(c.seeds))] {
		list[i].Name = c.seeds[i]
	}
	resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, c.admin)
	if err != nil {
		return list // none of the first has answered
	}
	var more []*kgo.Broker
	var names []string
	for i := range resp.Brokers {
		b := &resp.Brokers[i]
		more = append(more, c.admin.Broker(int(b.NodeID)))
		names = append(names, fmt.Sprintf("%s (broker %d)", net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))),
			b.NodeID))
	}
	for i, b := range c.askAll(ctx, more) {
		b.Name = names[i]
		list = append(list, b)
	}
	return list
}

func (c *Client) askAll(ctx context.Context, brokers []*kgo.Broker) []Broker {
	list := make([]Broker, len(brokers))
	var all sync.WaitGroup
	for i, b := range brokers {
		all.Go(func() { _, list[i].Err = b.Request(ctx, kmsg.NewPtrApiVersionsRequest()) })
	}
	all.Wait()
	return list
}

// Bits of the operations that a broker says an account may carry out on a topic.
const (
	mayRead            = 1 << 3
	mayWrite           = 1 << 4
	mayDescribeConfigs = 1 << 10
)

// Missing returns the rights on the topic and on that of dead letters that the account lacks, as far as the brokers
// tell (from Kafka 2.3 on), and whether the topic of dead letters exists. It changes nothing.
func (c *Client) Missing(ctx context.Context, dlq string) (missing []rights.Right, there bool, err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	for _, name := range []string{c.topic, dlq} {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = new(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c.admin)
	if err != nil {
		return nil, false, fmt.Errorf("kafka: rights: %w", err)
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil {
			continue
		}
		needs := map[int32]rights.Right{mayRead: rights.Topic("Read", c.topic),
			mayDescribeConfigs: rights.Topic("DescribeConfigs", c.topic)}
		if *t.Topic == dlq {
			needs = map[int32]rights.Right{mayWrite: rights.Topic("Write", dlq),
				mayDescribeConfigs: rights.Topic("DescribeConfigs", dlq)}
		}
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case errors.Is(err, kerr.TopicAuthorizationFailed) && *t.Topic == dlq:
			missing = append(missing, rights.Topic("Write", dlq))
			continue
		case err != nil: // there is none, or somebody else says so
			continue
		}
		there = there || *t.Topic == dlq
		if may := t.AuthorizedOperations; may != 0 && may != math.MinInt32 { // else it is not told
			for _, bit := range []int32{mayRead, mayWrite, mayDescribeConfigs} {
				if r, needed := needs[bit]; needed && may&bit == 0 {
					missing = append(missing, r)
				}
			}
		}
	}
	return missing, there, nil
}

// MissingToReview returns the rights that an account lacks to read letters and to review them (package letters), as
// far as the brokers tell. It changes nothing.
func (c *Client) MissingToReview(ctx context.Context, dlq, review, transactionalID string) (missing []rights.Right,
	err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	for _, name := range []string{c.topic, dlq, review} {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = new(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c.admin)
	if err != nil {
		return nil, fmt.Errorf("kafka: rights: %w", err)
	}
	type need struct {
		bit   int32
		right string
	}
	needs := map[string][]need{c.topic: {{mayWrite, "Write"}}, dlq: {{mayRead, "Read"}, {mayWrite, "Write"}},
		review: {{mayRead, "Read"}, {mayWrite, "Write"}, {mayDescribeConfigs, "DescribeConfigs"}}}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil {
			continue
		}
		err := kerr.ErrorForCode(t.ErrorCode)
		may := t.AuthorizedOperations
		for _, n := range needs[*t.Topic] {
			known := err == nil && may != 0 && may != math.MinInt32
			if errors.Is(err, kerr.TopicAuthorizationFailed) || known && may&n.bit == 0 {
				missing = append(missing, rights.Topic(n.right, *t.Topic))
			}
		}
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorKeys, find.CoordinatorType = transactionalID, []string{transactionalID}, 1
	found, err := find.RequestWith(ctx, c.admin)
	if err != nil {
		return missing, nil // a broker that knows no transactions, or none that answers
	}
	code := found.ErrorCode
	for _, f := range found.Coordinators {
		code = f.ErrorCode
	}
	if errors.Is(kerr.ErrorForCode(code), kerr.TransactionalIDAuthorizationFailed) {
		missing = append(missing, rights.TransactionalID("Write", transactionalID)) // which implies Describe
	}
	return missing, nil
}

// Newest reads up to n of the newest records, evenly from all partitions, and returns them. Records of the client are
// not kept by anybody. What cannot be read in the time of a sample is left out, unless that is everything.
func (c *Client) Newest(ctx context.Context, n int) (records []*kgo.Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*sampleTime)
	defer cancel()
	_, failed, err := c.tails(ctx, func(partitions int) int64 { return int64(max(n/max(partitions, 1), 1)) },
		func(r *kgo.Record, end int64) {
			if r.Offset < end && len(records) < n {
				records = append(records, r)
			}
		})
	if err != nil {
		return nil, err
	}
	if len(records) == 0 && failed != nil {
		return nil, fmt.Errorf("kafka: sample of %s: %w", c.topic, failed)
	}
	return records, nil
}
