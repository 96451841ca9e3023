package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/nodetest"
	"deckle/state"
)

// Whatever an account may not do, the error names the topic or group, and the right (field report F26): a broker says
// neither.
func TestMissingRightsAreNamed(t *testing.T) {
	const read = `Read on topic "` + nodetest.Topic + `"`
	for _, tc := range []struct {
		name    string
		request kmsg.Key
		refusal *kerr.Error
		call    func(ctx context.Context, c *Client) error
		want    string
	}{
		{"describe", kmsg.Metadata, kerr.TopicAuthorizationFailed, func(ctx context.Context, c *Client) error {
			_, err := c.Describe(ctx)
			return err
		}, read},
		{"starts", kmsg.ListOffsets, kerr.TopicAuthorizationFailed, func(ctx context.Context, c *Client) error {
			_, err := c.Starts(ctx, false, []int32{0})
			return err
		}, read},
		{"ends", kmsg.ListOffsets, kerr.TopicAuthorizationFailed, func(ctx context.Context, c *Client) error {
			l := c.ListEnds(ctx, time.Now)
			return errors.Join(l.Err, l.errs[0])
		}, read},
		{"sample", kmsg.Fetch, kerr.TopicAuthorizationFailed, func(ctx context.Context, c *Client) error {
			_, err := c.CheckKeys(ctx, "auto", 2)
			return err
		}, read},
		{"source", kmsg.Fetch, kerr.TopicAuthorizationFailed, func(ctx context.Context, c *Client) error {
			s, err := c.OpenSource(ctx, [16]byte{}, []state.PartitionStatus{{Partition: 0, LeaderEpoch: -1}}, 1<<20,
				64<<20)
			if err != nil {
				return err
			}
			defer s.Close()
			select {
			case chunk := <-s.Chunks():
				if len(chunk.Parts) > 0 {
					return chunk.Parts[0].Err
				}
				return chunk.Err
			case <-ctx.Done():
				return ctx.Err()
			}
		}, read},
		{"originals", kmsg.Fetch, kerr.TopicAuthorizationFailed, func(ctx context.Context, c *Client) error {
			_, err := originalsOf(ctx, NewRefetch(c, noKey), state.Position{})
			return err
		}, read},
		{"group", kmsg.OffsetCommit, kerr.GroupAuthorizationFailed, func(ctx context.Context, c *Client) error {
			return c.CommitOffsets(ctx, "lag", map[int32]int64{0: 1})
		}, `Read on group "lag"`},
		{"configuration", kmsg.DescribeConfigs, kerr.TopicAuthorizationFailed,
			func(ctx context.Context, c *Client) error {
				_, err := c.settings(ctx, nodetest.Topic)
				return err
			}, `DescribeConfigs on topic "` + nodetest.Topic + `"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := nodetest.NewBroker(t, 1)
			b.Produce(nodetest.Record(0, "s", 0))
			f := b.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{tc.request}, Err: tc.refusal, Count: -1})
			defer f.Remove()
			err := tc.call(nodetest.Context(t), clientOf(b))
			if !errors.Is(err, tc.refusal) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v does not name %s", err, tc.want)
			}
		})
	}
}

// What a broker answers and the client cannot read is a fault of what Kafka holds; everything else may pass, and a
// letter waits for it (package deadletter).
func TestUnreadable(t *testing.T) {
	for _, tc := range []struct {
		partition int32
		err       error
		want      bool
	}{
		{0, errors.New("encoded crc 1 does not match calculated crc 2"), true},
		{0, fmt.Errorf("unable to decompress: %w", kgo.ErrMaxDecompress), true},
		{0, kerr.CorruptMessage, true},
		{0, kerr.UnsupportedCompressionType, true},
		{0, kerr.NotLeaderForPartition, false},
		{0, kerr.TopicAuthorizationFailed, false},
		{0, kerr.OffsetOutOfRange, false},
		{0, context.DeadlineExceeded, false},
		{-1, errors.New("dial tcp: connection refused"), false},
		{0, nil, false},
	} {
		fetches := kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: "t", Partitions: []kgo.FetchPartition{
			{Partition: tc.partition, Err: tc.err}}}}}}
		if got := unreadable(fetches); got != tc.want {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}
