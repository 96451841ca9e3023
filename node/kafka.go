package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"deckle/node/config"
)

// kafkaOpts are the options of every Kafka client: brokers, TLS, SASL, log, and last what Deps adds.
func kafkaOpts(cfg *config.Kafka, pipeline string, deps *Deps) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID("deckle-" + pipeline),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(kafkaLogger{deps.Logger.With("part", "kafka")}),
	}
	if cfg.TLS != nil {
		t, err := cfg.TLS.Client(os.ReadFile)
		if err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	if s := cfg.SASL; s != nil {
		switch s.Mechanism {
		case "plain":
			opts = append(opts, kgo.SASL(plain.Auth{User: s.User, Pass: s.Password.Value()}.AsMechanism()))
		case "scram-sha-256":
			opts = append(opts, kgo.SASL(scram.Auth{User: s.User, Pass: s.Password.Value()}.AsSha256Mechanism()))
		case "scram-sha-512":
			opts = append(opts, kgo.SASL(scram.Auth{User: s.User, Pass: s.Password.Value()}.AsSha512Mechanism()))
		default:
			return nil, fmt.Errorf("kafka: unknown SASL mechanism %q", s.Mechanism)
		}
	}
	return append(opts, deps.KafkaOpts...), nil
}

// kafkaLogger brings the client's log to slog; its chatter is debug.
type kafkaLogger struct{ log *slog.Logger }

// Level implements kgo.Logger.
func (l kafkaLogger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

// Log implements kgo.Logger.
func (l kafkaLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	switch level {
	case kgo.LogLevelError:
		to = slog.LevelError
	case kgo.LogLevelWarn:
		to = slog.LevelWarn
	}
	l.log.Log(context.Background(), to, msg, keyvals...)
}

// topicInfo is what the cluster says of the topic.
type topicInfo struct {
	id         [16]byte // zero if the brokers know no topic ids
	partitions int
}

var errNoTopic = errors.New("the topic does not exist (create it, or correct kafka.topic)")

// describeTopic asks for the topic's id and number of partitions, past the client's cache: a topic that was deleted and
// created again must show. errNoTopic is wrapped if it does not exist.
func describeTopic(ctx context.Context, cl *kgo.Client, topic string) (topicInfo, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return topicInfo{}, fmt.Errorf("kafka: metadata of %s: %w", topic, err)
	}
	if len(resp.Topics) != 1 {
		return topicInfo{}, fmt.Errorf("kafka: metadata of %s: %d topics in the answer", topic, len(resp.Topics))
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			err = fmt.Errorf("%w: %w", errNoTopic, err)
		}
		return topicInfo{}, fmt.Errorf("kafka: %s: %w", topic, err)
	}
	return topicInfo{id: resp.Topics[0].TopicID, partitions: len(resp.Topics[0].Partitions)}, nil
}

// listing is one look at the ends of the topic's partitions. It is never changed once published.
type listing struct {
	begun time.Time // before the brokers were asked
	err   error     // the whole look failed
	info  topicInfo
	ends  map[int32]int64 // last stable offset; partitions that failed are missing
	errs  map[int32]error // of those
}

// listEnds asks for the last stable offsets of all partitions.
func listEnds(ctx context.Context, cl *kgo.Client, topic string, now func() time.Time) *listing {
	l := &listing{begun: now()}
	if l.info, l.err = describeTopic(ctx, cl, topic); l.err != nil {
		return l
	}
	offsets, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	var shards *kadm.ShardErrors
	if err != nil && !errors.As(err, &shards) { // ShardErrors: some brokers answered
		l.err = fmt.Errorf("kafka: end offsets of %s: %w", topic, err)
		return l
	}
	l.ends, l.errs = map[int32]int64{}, map[int32]error{}
	for p, o := range offsets[topic] {
		if o.Err == nil && o.Offset >= 0 {
			l.ends[p] = o.Offset
		} else {
			l.errs[p] = o.Err
		}
	}
	return l
}

// failing says which of the partitions the listing has no end of; nil if it has all. Such a partition is not idle, and so
// holds its shard's clock, although the client may keep the reason to itself.
func (l *listing) failing(partitions []int32) error {
	for _, p := range partitions {
		if _, ok := l.ends[p]; !ok {
			return fmt.Errorf("kafka: partition %d: %w", p, cmp.Or(l.errs[p], errNoOffset))
		}
	}
	return nil
}

// Limits of the sample that tells whether producers set keys.
const (
	sampleRecords = 200 // newest records a partition
	sampleTime    = 5 * time.Second
)

// sampleKeys reads the newest records of every partition and counts those with and without a key. An empty topic gives
// 0, 0. What cannot be read in time is left out, unless that is everything.
func sampleKeys(ctx context.Context, opts []kgo.Opt, topic string) (keyed, unkeyed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	admin, err := kgo.NewClient(opts...)
	if err != nil {
		return 0, 0, fmt.Errorf("kafka: %w", err)
	}
	defer admin.Close()
	adm := kadm.NewClient(admin)
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("kafka: sample of %s: %w", topic, err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("kafka: sample of %s: %w", topic, err)
	}
	from, until := map[int32]kgo.Offset{}, map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		start, ok := starts.Lookup(topic, o.Partition)
		if !ok || o.Err != nil || start.Err != nil || o.Offset <= start.Offset {
			return
		}
		from[o.Partition] = kgo.NewOffset().At(max(start.Offset, o.Offset-sampleRecords))
		until[o.Partition] = o.Offset
	})
	if len(from) == 0 {
		return 0, 0, nil
	}
	cl, err := kgo.NewClient(append(slices.Clip(opts), consumeOpts(topic, from, 2<<20)...)...)
	if err != nil {
		return 0, 0, fmt.Errorf("kafka: %w", err)
	}
	defer cl.Close()
	for len(until) > 0 {
		fetches := cl.PollRecords(ctx, 0)
		if ctx.Err() != nil {
			break
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				switch {
				case r.Attrs.IsControl():
				case len(r.Key) > 0:
					keyed++
				default:
					unkeyed++
				}
				if r.Offset+1 >= until[p.Partition] {
					delete(until, p.Partition)
				}
			}
		})
	}
	if keyed+unkeyed == 0 {
		return 0, 0, fmt.Errorf("kafka: sample of %s: nothing could be read in %v", topic, sampleTime)
	}
	return keyed, unkeyed, nil
}

// errUnkeyed refuses more than one shard for a topic whose producers set no keys.
var errUnkeyed = errors.New("records without keys and more than one shard")

// checkKeyed refuses to create a cluster of several shards over a topic without keys.
func checkKeyed(ctx context.Context, opts []kgo.Opt, cfg *config.Config) error {
	if cfg.Cluster.Shards <= 1 || cfg.Kafka.Keyed == "yes" {
		return nil
	}
	const ways = "the events of a session would be spread over the shards. Ways out: set cluster.shards to 1; " +
		"or let the producers key their records by session_id (kafka.keyed: yes skips this check)"
	if cfg.Kafka.Keyed == "no" {
		return fmt.Errorf("%w: kafka.keyed is no and cluster.shards is %d: %s", errUnkeyed, cfg.Cluster.Shards, ways)
	}
	keyed, unkeyed, err := sampleKeys(ctx, opts, cfg.Kafka.Topic)
	if err != nil {
		return err
	}
	if unkeyed > keyed {
		return fmt.Errorf("%w: of %d records sampled from %s, %d have no key, and cluster.shards is %d: %s",
			errUnkeyed, keyed+unkeyed, cfg.Kafka.Topic, unkeyed, cfg.Cluster.Shards, ways)
	}
	return nil
}
