package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// broker is the embedded broker, or the addresses of a real one.
type broker struct {
	addrs []string
	fake  *kfake.Cluster // nil for a real one
}

// openBroker starts a broker that keeps its records in dir, unless addresses of real ones are given, and creates the
// topic. The embedded broker does not fsync each batch: it ends with the process, and the page cache outlives that.
func openBroker(ctx context.Context, addrs []string, dir, topic string, partitions int32) (*broker, error) {
	b := &broker{addrs: addrs}
	if len(addrs) == 0 {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir), kfake.ClusterID("deckle-demo"))
		if err != nil {
			return nil, fmt.Errorf("embedded broker: %w", err)
		}
		b.fake, b.addrs = fake, fake.ListenAddrs()
	}
	if err := b.createTopic(ctx, topic, partitions); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *broker) createTopic(ctx context.Context, topic string, partitions int32) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.ClientID("deckle-demo"))
	if err != nil {
		return fmt.Errorf("Kafka: %w", err)
	}
	defer client.Close()
	bounded, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	resp, err := kadm.NewClient(client).CreateTopic(bounded, partitions, -1, nil, topic)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		return fmt.Errorf("Kafka at %v: create topic %s: %w", b.addrs, topic, err)
	}
	return nil
}

func (b *broker) close() {
	if b.fake != nil {
		b.fake.Close()
	}
}
