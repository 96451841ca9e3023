package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"deckle/event"
	"deckle/sinks"
	"deckle/sinks/rights"
)

// Options say where the letters go.
type Options struct {
	// Kafka are the client's options: seed brokers, TLS, SASL, dialer. This package sets the options of the producer.
	Kafka []kgo.Opt
	Topic string // the source's topic, which is part of the keys
	DLQ   string // default Topic + ".dlq"
	// Retention is for how long the topic keeps a letter, if it is created here; default 30 days.
	Retention time.Duration
	// Originals returns what can read a shard's source records again.
	Originals func(shard uint32) sinks.EventSource
	// PrivacyKey returns the HMAC key of that id, nil if there is none here. Without it, letters of rules that hash are
	// not written.
	PrivacyKey func(event.KeyID) []byte
	// BufferedBytes bounds what is produced but not yet acknowledged, over all shards; default 16 MiB.
	BufferedBytes int
	// Timeout is how long a Write waits without any progress (an original that is read, a letter that is acknowledged);
	// default 30s. Write then fails and is repeated. (Kafka clients measure a record's own delivery timeout from its
	// timestamp, which here is the epoch's clock.)
	Timeout time.Duration
	// Undeliverable, if set, is told of each letter that the topic takes in no form, in one sentence.
	Undeliverable func(text string)

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Sink produces dead letters. It is safe for concurrent use by several shards.
type Sink struct {
	opts   Options
	client *kgo.Client
	unread unread

	aloneMu sync.Mutex
	alone   *kgo.Client // sends one record at a time; nil until a letter is refused
	closed  bool

	asking  *semaphore.Weighted // one goroutine at a time asks for the topic; waiting for it ends with the context
	topicOK atomic.Bool

	letters       *prometheus.CounterVec
	undeliverable *prometheus.CounterVec
	lost          prometheus.Counter
	bytes         prometheus.Counter
	seconds       prometheus.Histogram
}

var _ sinks.Sink = (*Sink)(nil)

// Open returns a sink. If the topic is missing, it is created. If the brokers do not answer, that is left
// to the first Write, so that a node can start while Kafka is down.
func Open(ctx context.Context, opts Options) (*Sink, error) {
	if opts.Topic == "" || opts.Originals == nil {
		return nil, errors.New("deadletter: Topic and Originals are required")
	}
	opts.DLQ = cmp.Or(opts.DLQ, opts.Topic+".dlq")
	opts.Retention = cmp.Or(opts.Retention, 30*24*time.Hour)
	opts.BufferedBytes = cmp.Or(opts.BufferedBytes, 16<<20)
	opts.Timeout = cmp.Or(opts.Timeout, 30*time.Second)
	if opts.DLQ == opts.Topic {
		return nil, errors.New("deadletter: the dead letter topic is the source's topic")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Sink{opts: opts, asking: semaphore.NewWeighted(1)}
	client, err := kgo.NewClient(s.clientOptions()...)
	if err != nil {
		return nil, fmt.Errorf("deadletter: %w", err)
	}
	f := promauto.With(opts.Registerer)
	name := func(n string) string { return "deckle_deadletter_" + n }
	s.client = client
	s.letters = f.NewCounterVec(prometheus.CounterOpts{
		Name: name("letters_total"), Help: "Dead letters acknowledged by Kafka, repeats included.",
	}, []string{"reason"})
	s.undeliverable = f.NewCounterVec(prometheus.CounterOpts{
		Name: name("undeliverable_total"),
		Help: "Dead letters that the topic took in no form, and that were passed; repeats included.",
	}, []string{"reason"})
	s.lost = f.NewCounter(prometheus.CounterOpts{
		Name: name("originals_lost_total"), Help: "Dead letters whose original Kafka no longer had, or could not give.",
	})
	s.bytes = f.NewCounter(prometheus.CounterOpts{
		Name: name("bytes_total"), Help: "Bytes of the values acknowledged.",
	})
	s.seconds = f.NewHistogram(prometheus.HistogramOpts{
		Name: name("write_seconds"), Help: "Time to write one plan.",
		Buckets: prometheus.ExponentialBuckets(0.002, 2, 15),
	})
	if err := s.ensureTopic(ctx); err != nil {
		if ctx.Err() != nil {
			client.Close()
			return nil, err
		}
		opts.Logger.Warn("dead letter topic is not checked yet", "topic", opts.DLQ, "error", err)
	}
	return s, nil
}

// Position returns 0, because the topic keeps no record of plans.
func (s *Sink) Position(context.Context, uint32) (uint64, error) { return 0, nil }

// clientOptions are those of a producer of letters.
func (s *Sink) clientOptions() []kgo.Opt {
	return append(slices.Clone(s.opts.Kafka),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.MaxBufferedBytes(s.opts.BufferedBytes),
		// A letter may be given up in an unknown state, because its repeat has the same key.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // by the key's hash, as Kafka's own clients do it
	)
}

// Close closes the clients. Letters that are not yet acknowledged fail.
func (s *Sink) Close() error {
	s.aloneMu.Lock()
	defer s.aloneMu.Unlock()
	s.closed = true
	s.client.Close()
	if s.alone != nil {
		s.alone.Close()
	}
	return nil
}

// ensureTopic creates the topic if it is missing, with as many partitions as the source has.
func (s *Sink) ensureTopic(ctx context.Context) error {
	if s.topicOK.Load() {
		return nil
	}
	if err := s.asking.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.asking.Release(1)
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	adm := kadm.NewClient(s.client)
	// One topic at a time: a refusal for want of a right does not say which topic it means.
	meta, err := adm.Metadata(ctx, s.opts.DLQ)
	if err != nil {
		return fmt.Errorf("deadletter: metadata of %s: %w", s.opts.DLQ,
			rights.Explain(err, rights.Topic("Write", s.opts.DLQ)))
	}
	if t, ok := meta.Topics[s.opts.DLQ]; ok && t.Err == nil && len(t.Partitions) > 0 {
		s.warnUncompacted(ctx, adm)
		s.topicOK.Store(true)
		return nil
	}
	source, err := adm.Metadata(ctx, s.opts.Topic)
	if err != nil {
		return fmt.Errorf("deadletter: metadata of %s: %w", s.opts.Topic,
			rights.Explain(err, rights.Topic("Read", s.opts.Topic)))
	}
	partitions := max(1, len(source.Topics[s.opts.Topic].Partitions))
	replicas := min(3, max(1, len(meta.Brokers)))
	_, err = adm.CreateTopic(ctx, int32(partitions), int16(replicas), TopicConfig(s.opts.Retention), s.opts.DLQ)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("deadletter: create topic %s: %w", s.opts.DLQ,
			rights.Explain(err, rights.Topic("Create", s.opts.DLQ), rights.Cluster("Create")))
	}
	s.opts.Logger.Info("created dead letter topic", "topic", s.opts.DLQ, "partitions", partitions, "replicas", replicas)
	s.topicOK.Store(true)
	return nil
}

// TopicConfig are the settings of a topic of letters. A letter goes once it is older than the retention, by the
// broker's clock: the epoch's clock, which is that of a leader, may be wrong by more than that, and its letters would
// go at once. What a broker deletes are whole segments, and what it compacts are closed ones, hence at least one
// segment a day.
func TopicConfig(retention time.Duration) map[string]*string {
	config := map[string]*string{}
	for key, value := range map[string]string{
		"cleanup.policy":         "compact,delete",
		"retention.ms":           strconv.FormatInt(retention.Milliseconds(), 10),
		"segment.ms":             strconv.FormatInt(min(retention, 24*time.Hour).Milliseconds(), 10),
		"message.timestamp.type": "LogAppendTime",
	} {
		config[key] = &value
	}
	return config
}

// warnUncompacted warns if the topic is not compacted: repeats would stay.
func (s *Sink) warnUncompacted(ctx context.Context, adm *kadm.Client) {
	rcs, err := adm.DescribeTopicConfigs(ctx, s.opts.DLQ)
	if err != nil {
		return // the right to describe may be missing, and this is only a warning
	}
	for _, rc := range rcs {
		for _, c := range rc.Configs {
			if c.Key == "cleanup.policy" && !strings.Contains(c.MaybeValue(), "compact") {
				s.opts.Logger.Warn("dead letter topic is not compacted",
					"topic", s.opts.DLQ, "cleanup.policy", c.MaybeValue())
			}
		}
	}
}
