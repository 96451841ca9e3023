package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrSilent says that a partition delivers nothing although its log goes on: its leader does not answer as a leader, or
// answers with bytes that the client can neither use nor name.
var ErrSilent = errors.New("Kafka delivers nothing of it, although its log goes on")

// TooLargeError says that a record batch inflates beyond kafka.max_batch_bytes.
type TooLargeError struct {
	From, To   int64  // the offsets of the batch: [From, To)
	Packed     int64  // its bytes in the log, 0 if unknown
	Limit      int64  // kafka.max_batch_bytes
	MaxMessage string // the topic's max.message.bytes, "" if unknown
}

// Error implements error.
func (e *TooLargeError) Error() string {
	size, topic := "", ""
	if e.Packed > 0 {
		size = fmt.Sprintf(", %d bytes in the log,", e.Packed)
	}
	if e.MaxMessage != "" {
		topic = fmt.Sprintf(" The topic's max.message.bytes, which bounds a batch in the log only, is %s.",
			e.MaxMessage)
	}
	return fmt.Sprintf("the record batch of offsets %d to %d%s inflates to more than kafka.max_batch_bytes (%d): "+
		"raise that key on every node and restart the nodes one after the other.%s", e.From, e.To-1, size, e.Limit,
		topic)
}

// tooLargeAnswer is how the client library says that a broker's answer is larger than it may read; it has no value of
// its own for that.
const tooLargeAnswer = "response exceeds BrokerMaxReadBytes"

// ErrLargeAnswer says that a broker's answer to a fetch is too large to be read. The client does not tell of which
// partition: the broker sends the first batch of a fetch whole, whatever was asked for.
var ErrLargeAnswer = errors.New("a record batch in the log is larger than one fetch can be: raise " +
	"kafka.max_batch_bytes on every node and restart the nodes one after the other")

// explain puts an error of the client library into words that an operator can use: keys of the configuration and rights
// instead of calls. packed is TooLargeError.Packed.
func (c *Client) explain(err error, packed int64) error {
	if large, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok {
		return &TooLargeError{From: large.Offset, To: large.NextOffset, Packed: packed, Limit: c.maxBatch}
	}
	if err != nil && strings.Contains(err.Error(), tooLargeAnswer) {
		return fmt.Errorf("%w (%w)", ErrLargeAnswer, err)
	}
	return c.mayRead(err)
}

// describeLimit adds what the topic allows to an error that says that a batch is too large. It asks the brokers; what
// they do not tell is left out.
func (c *Client) describeLimit(ctx context.Context, err error) {
	large, ok := errors.AsType[*TooLargeError](err)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	configs, err := kadm.NewClient(c.admin).DescribeTopicConfigs(ctx, c.topic)
	if err != nil {
		return
	}
	for _, rc := range configs {
		for _, kv := range rc.Configs {
			if kv.Key == "max.message.bytes" {
				large.MaxMessage = kv.MaybeValue()
			}
		}
	}
}
