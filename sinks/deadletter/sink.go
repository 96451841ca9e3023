package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	"deckle/state"
)

// Options say where the letters go.
type Options struct {
	// Kafka are the client's options: seed brokers, TLS, SASL, dialer. This package sets the options of the producer.
	Kafka []kgo.Opt
	Topic string // the source's topic, which is part of the keys
	DLQ   string // default Topic + ".dlq"
	// Originals returns what can read a shard's source records again.
	Originals func(shard uint32) sinks.EventSource
	// BufferedBytes bounds what is produced but not yet acknowledged, over all shards; default 16 MiB.
	BufferedBytes int
	// Timeout is how long a Write waits without any progress (an original that is read, a letter that is acknowledged);
	// default 30s. Write then fails and is repeated. (Kafka clients measure a record's own delivery timeout from its
	// timestamp, which here is the epoch's clock.)
	Timeout time.Duration

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Sink produces dead letters. It is safe for concurrent use by several shards.
type Sink struct {
	opts   Options
	client *kgo.Client

	asking  *semaphore.Weighted // one goroutine at a time asks for the topic; waiting for it ends with the context
	topicOK atomic.Bool

	letters *prometheus.CounterVec
	lost    prometheus.Counter
	bytes   prometheus.Counter
	seconds prometheus.Histogram
}

var _ sinks.Sink = (*Sink)(nil)

// Open returns a sink. If the topic is missing, it is created (compacted). If the brokers do not answer, that is left
// to the first Write, so that a node can start while Kafka is down.
func Open(ctx context.Context, opts Options) (*Sink, error) {
	if opts.Topic == "" || opts.Originals == nil {
		return nil, errors.New("deadletter: Topic and Originals are required")
	}
	opts.DLQ = cmp.Or(opts.DLQ, opts.Topic+".dlq")
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
	client, err := kgo.NewClient(append(slices.Clone(opts.Kafka),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.MaxBufferedBytes(opts.BufferedBytes),
		// A letter may be given up in an unknown state, because its repeat has the same key.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // by the key's hash, as Kafka's own clients do it
	)...)
	if err != nil {
		return nil, fmt.Errorf("deadletter: %w", err)
	}
	f := promauto.With(opts.Registerer)
	name := func(n string) string { return "deckle_deadletter_" + n }
	s := &Sink{
		opts: opts, client: client, asking: semaphore.NewWeighted(1),
		letters: f.NewCounterVec(prometheus.CounterOpts{
			Name: name("letters_total"), Help: "Dead letters acknowledged by Kafka, repeats included.",
		}, []string{"reason"}),
		lost: f.NewCounter(prometheus.CounterOpts{
			Name: name("originals_lost_total"), Help: "Dead letters whose original Kafka no longer had.",
		}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: name("bytes_total"), Help: "Bytes of the values acknowledged.",
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: name("write_seconds"), Help: "Time to write one plan.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 15),
		}),
	}
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

// Close closes the client. Letters that are not yet acknowledged fail.
func (s *Sink) Close() error {
	s.client.Close()
	return nil
}

// ensureTopic creates the topic if it is missing: compacted, with as many partitions as the source has.
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
	meta, err := adm.Metadata(ctx, s.opts.Topic, s.opts.DLQ)
	if err != nil {
		return fmt.Errorf("deadletter: metadata: %w", err)
	}
	if t, ok := meta.Topics[s.opts.DLQ]; ok && t.Err == nil && len(t.Partitions) > 0 {
		s.warnUncompacted(ctx, adm)
		s.topicOK.Store(true)
		return nil
	}
	partitions := max(1, len(meta.Topics[s.opts.Topic].Partitions))
	replicas := min(3, max(1, len(meta.Brokers)))
	policy := "compact"
	config := map[string]*string{"cleanup.policy": &policy}
	_, err = adm.CreateTopic(ctx, int32(partitions), int16(replicas), config, s.opts.DLQ)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("deadletter: create topic %s: %w", s.opts.DLQ, err)
	}
	s.opts.Logger.Info("created dead letter topic", "topic", s.opts.DLQ, "partitions", partitions, "replicas", replicas)
	s.topicOK.Store(true)
	return nil
}

// warnUncompacted warns if the topic is not compacted: repeats would stay, and letters would be deleted by age.
func (s *Sink) warnUncompacted(ctx context.Context, adm *kadm.Client) {
	rcs, err := adm.DescribeTopicConfigs(ctx, s.opts.DLQ)
	if err != nil {
		return // the right to describe may be missing, and this is only a warning
	}
	for _, rc := range rcs {
		for _, c := range rc.Configs {
			if c.Key == "cleanup.policy" && c.MaybeValue() != "compact" {
				s.opts.Logger.Warn("dead letter topic is not compacted",
					"topic", s.opts.DLQ, "cleanup.policy", c.MaybeValue())
			}
		}
	}
}

// windowLetters are read from Kafka together, in Kafka's order and not in the order in which they were judged, because
// a plan's letters come from all of the shard's partitions in turn.
const windowLetters = 4096

// Write produces every dead letter of the plan and waits for all acknowledgements.
func (s *Sink) Write(ctx context.Context, plan *state.Plan) error {
	start := s.opts.Now()
	if err := s.ensureTopic(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(s.opts.Timeout, func() {
		cancel(fmt.Errorf("deadletter: no progress within %s: %s takes no letters", s.opts.Timeout, s.opts.DLQ))
	})
	defer watchdog.Stop()
	source := s.opts.Originals(plan.Config.Shard)
	var inflight sync.WaitGroup
	identified := false
	produce := func(rec *kgo.Record, reason event.Reason) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !identified {
			// The client would ask for its producer id with the first letter, while it holds a mutex that the letters
			// to every other broker wait for. In virtual time (sim/cluster), such a wait never ends.
			if _, _, err := s.client.ProducerID(ctx); err != nil {
				return fmt.Errorf("deadletter: producer id: %w", cmp.Or(context.Cause(ctx), err))
			}
			identified = true
		}
		watchdog.Reset(s.opts.Timeout)
		inflight.Add(1)
		s.client.Produce(ctx, rec, func(r *kgo.Record, err error) {
			defer inflight.Done()
			if err != nil {
				cancel(fmt.Errorf("deadletter: produce %q to %s: %w", r.Key, s.opts.DLQ, err))
				return
			}
			watchdog.Reset(s.opts.Timeout)
			s.letters.WithLabelValues(reason.String()).Inc()
			s.bytes.Add(float64(len(r.Value)))
		})
		return nil
	}
	window := make([]state.DeadLetter, 0, windowLetters)
	err := plan.DeadLetters(func(l *state.DeadLetter) error {
		if l.Reason == event.SinkRejected {
			return produce(s.rowRecord(plan, l), l.Reason)
		}
		if window = append(window, *l); len(window) < windowLetters {
			return nil
		}
		err := s.writeWindow(ctx, plan, source, window, produce)
		window = window[:0]
		return err
	})
	if err == nil {
		err = s.writeWindow(ctx, plan, source, window, produce)
	}
	if err != nil {
		cancel(err)
	}
	inflight.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
		s.topicOK.Store(!errors.Is(err, kerr.UnknownTopicOrPartition))
		return err
	}
	// gofail: var deadLettersProduced struct{}
	s.seconds.Observe(s.opts.Now().Sub(start).Seconds())
	return nil
}

// writeWindow produces a window of letters that stand for source records.
func (s *Sink) writeWindow(
	ctx context.Context, plan *state.Plan, source sinks.EventSource, window []state.DeadLetter,
	produce func(*kgo.Record, event.Reason) error,
) error {
	if len(window) == 0 {
		return nil
	}
	slices.SortFunc(window, func(a, b state.DeadLetter) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	at := make([]state.Position, len(window))
	for i := range window {
		at[i] = state.Position{Partition: window[i].Partition, Offset: window[i].Offset}
	}
	var produced error
	err := source.Originals(ctx, at, func(i int, value []byte, ok bool) error {
		l := &window[i]
		rec, lost := s.sourceRecord(plan, l, value, ok)
		if lost {
			s.lost.Inc()
			s.opts.Logger.Warn("dead letter goes without its original", "shard", plan.Config.Shard, "epoch", l.Epoch,
				"partition", l.Partition, "offset", l.Offset, "found", ok)
		}
		produced = produce(rec, l.Reason)
		return produced
	})
	if err != nil && produced == nil {
		return fmt.Errorf("deadletter: read originals of %s: %w", s.opts.Topic, err)
	}
	return err
}
