package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"deckle/sinks/rights"
)

// Partitions asks how many partitions a topic has; 0 says that it is not there. A broker that makes topics by itself
// makes none for this question.
func (c *Client) Partitions(ctx context.Context, topic string) (int, error) {
	meta, err := kadm.NewClient(c.admin).Metadata(ctx, topic)
	if err == nil {
		err = meta.Topics[topic].Err
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("kafka: metadata of %s: %w", topic, rights.Explain(err, rights.Topic("Describe", topic)))
	}
	return len(meta.Topics[topic].Partitions), nil
}

// CreateTopic makes a topic with three replicas, or as many as there are brokers, and returns how many. settings may
// depend on that.
func (c *Client) CreateTopic(
	ctx context.Context, topic string, partitions int, settings func(replicas int) map[string]*string,
) (replicas int, err error) {
	adm := kadm.NewClient(c.admin)
	brokers, err := adm.ListBrokers(ctx)
	if err != nil {
		return 0, fmt.Errorf("kafka: list brokers: %w", err)
	}
	replicas = min(3, max(1, len(brokers)))
	_, err = adm.CreateTopic(ctx, int32(partitions), int16(replicas), settings(replicas), topic)
	if err != nil {
		return 0, fmt.Errorf("kafka: create topic %s: %w", topic,
			rights.Explain(err, rights.Topic("Create", topic), rights.Cluster("Create")))
	}
	return replicas, nil
}
