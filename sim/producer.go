package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// Stats are live figures of a run.
type Stats struct {
	Sent, Acked, Bytes int64 // records given to the clients, records acknowledged, bytes of their values
	Live               int64 // sessions begun and not ended
	Elapsed            time.Duration
}

// Simulator sends the records of its generators to Kafka.
type Simulator struct {
	opts  Options
	truth *Truth
	lanes []*lane

	started            atomic.Int64 // Unix nanoseconds
	sent, acked, bytes atomic.Int64
}

// lane is one producer.
type lane struct {
	gen    *Generator
	client *kgo.Client
	live   atomic.Int64
	limit  int64 // records; 0: none
}

// Open connects the producers. truth may be nil. The caller closes the Simulator.
func Open(ctx context.Context, opts Options, truth *Truth) (*Simulator, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	s := &Simulator{opts: opts, truth: truth}
	for i := range opts.Producers {
		gen, err := NewGenerator(opts, i)
		if err != nil {
			return nil, err
		}
		client, err := kgo.NewClient(append([]kgo.Opt{
			kgo.ClientID(fmt.Sprintf("deckle-sim-%d", i)),
			kgo.DefaultProduceTopic(opts.Topic),
			kgo.RequiredAcks(kgo.AllISRAcks()), // the default of franz-go, idempotence, comes with it
			kgo.ProducerBatchCompression(kgo.SnappyCompression()),
			// An oversize record must reach the broker, whose limit is on the compressed batch.
			kgo.ProducerBatchMaxBytes(oversize + 64<<10),
			kgo.MaxBufferedRecords(opts.MaxBuffered),
			kgo.MaxBufferedBytes(64 << 20),
			kgo.ProducerLinger(5 * time.Millisecond),
			kgo.RecordPartitioner(partitioner(&opts)),
		}, opts.KafkaOpts...)...)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("sim: %w", err)
		}
		l := &lane{gen: gen, client: client}
		if opts.Events > 0 {
			l.limit = max(1, opts.Events/int64(opts.Producers))
			if int64(i) < opts.Events%int64(opts.Producers) && opts.Events > int64(opts.Producers) {
				l.limit++
			}
		}
		s.lanes = append(s.lanes, l)
	}
	if err := s.check(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// check asks the broker for the topic, so that a wrong address fails at once, and for the kind of its timestamps.
func (s *Simulator) check(ctx context.Context) error {
	client := s.lanes[0].client
	if err := client.Ping(ctx); err != nil {
		return fmt.Errorf("sim: Kafka: %w", err)
	}
	adm := kadm.NewClient(client)
	topics, err := adm.ListTopics(ctx, s.opts.Topic)
	if err != nil {
		return fmt.Errorf("sim: Kafka: %w", err)
	}
	if err := topics[s.opts.Topic].Err; err != nil || len(topics) == 0 {
		err = cmp.Or(err, error(kerr.UnknownTopicOrPartition))
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("sim: topic %q does not exist; create it first: %w", s.opts.Topic, err)
		}
		return fmt.Errorf("sim: topic %q: %w", s.opts.Topic, err)
	}
	if s.truth == nil {
		return nil
	}
	configs, err := adm.DescribeTopicConfigs(ctx, s.opts.Topic)
	if err != nil {
		return nil // not every broker answers this question
	}
	for _, rc := range configs {
		for _, c := range rc.Configs {
			if c.Key == "message.timestamp.type" && c.MaybeValue() == "LogAppendTime" {
				return fmt.Errorf("sim: topic %q has message.timestamp.type=LogAppendTime: "+
					"the truth needs CreateTime, because a producer does not learn the other", s.opts.Topic)
			}
		}
	}
	return nil
}

// placeOf is the key of a record's context under which its Place is.
type placeOf struct{}

// placed gives the record to the partitioner that byPlace returns.
func placed(ctx context.Context, rec *Record) context.Context {
	if rec.Place == nil {
		return ctx
	}
	return context.WithValue(ctx, placeOf{}, rec.Place)
}

// byPlace is the usual partitioner, by the place of a record whose key lies.
func byPlace(topic string) func(*kgo.Record, int) int {
	usual := kgo.StickyKeyPartitioner(nil).ForTopic(topic)
	return func(r *kgo.Record, n int) int {
		place, ok := r.Context.Value(placeOf{}).([]byte)
		if !ok {
			place = r.Key
		}
		return usual.Partition(&kgo.Record{Key: place}, n)
	}
}

// keeping is byPlace, but that a key stays in the partition where it was first, whatever the topic gets later: so no
// session is split, and the truth stays that of whole sessions. The client calls it for one record at a time.
func keeping(topic string) func(*kgo.Record, int) int {
	usual, first := byPlace(topic), map[string]int{}
	return func(r *kgo.Record, n int) int {
		place, ok := r.Context.Value(placeOf{}).([]byte)
		if !ok {
			place = r.Key
		}
		p, ok := first[string(place)]
		if !ok {
			p = usual(r, n)
			first[string(place)] = p
		}
		return p
	}
}

// partitioner is the usual one by key, where keys do not lie. Unkeyed records are spread by their bytes, so that a
// duplicate follows its original into the same partition: which of the two is the duplicate is then decided by their
// offsets alone.
func partitioner(o *Options) kgo.Partitioner {
	switch {
	case o.Unkeyed:
	case o.Grows:
		return kgo.BasicConsistentPartitioner(keeping)
	case o.Faults.Keys > 0:
		return kgo.BasicConsistentPartitioner(byPlace)
	default:
		return kgo.StickyKeyPartitioner(nil)
	}
	return kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
		return func(r *kgo.Record, n int) int {
			h := fnv.New32a()
			h.Write(r.Value)
			return int(h.Sum32() % uint32(n))
		}
	})
}

// Run produces until ctx is done, or Events or Duration is reached, then ends every session, waits (at most
// DrainTimeout) until all is acknowledged, and closes the truth. That ctx is done is not an error. Run is called once.
// Without a truth only the Summary's Produced is set.
func (s *Simulator) Run(ctx context.Context) (Summary, error) {
	s.started.Store(time.Now().UnixNano())
	if s.truth != nil {
		s.truth.Begin(Header{Topic: s.opts.Topic, Seed: s.opts.Seed, Keyed: !s.opts.Unkeyed,
			Sharded: s.opts.Sharded})
	}
	if s.opts.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.opts.Duration)
		defer cancel()
	}
	// What is under way goes on after ctx has ended, for as long as the drain may take.
	hard, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(s.opts.DrainTimeout, func() {
			fail(fmt.Errorf("sim: not all records were acknowledged within %v of the stop", s.opts.DrainTimeout))
		})
		context.AfterFunc(hard, func() { t.Stop() })
	})
	defer stop()

	var group errgroup.Group
	for _, l := range s.lanes {
		group.Go(func() error { return s.drive(ctx, hard, fail, l) })
	}
	err := group.Wait()
	if cause := context.Cause(hard); cause != nil {
		err = cause
	}
	if s.truth == nil {
		return Summary{Produced: s.acked.Load()}, err
	}
	sum, terr := s.truth.Close()
	err = errors.Join(err, terr)
	if err == nil && (sum.Uncertain > 0 || sum.Mistaken > 0) {
		err = fmt.Errorf("sim: the truth is not exact: nobody knows whether %d records were delivered, "+
			"and %d had another outcome than was meant", sum.Uncertain, sum.Mistaken)
	}
	return sum, err
}

// drive runs one producer.
func (s *Simulator) drive(ctx, hard context.Context, fail context.CancelCauseFunc, l *lane) error {
	pace := newPace(s.opts.Rate / float64(s.opts.Producers))
	closing := false
	for hard.Err() == nil {
		if !closing && (ctx.Err() != nil || l.limit > 0 && l.gen.Made() >= l.limit || !pace.wait(ctx)) {
			closing = true
			l.gen.Finish()
		}
		rec, ok := l.gen.Next()
		if !ok {
			break
		}
		if s.truth != nil {
			s.truth.Sent(rec)
		}
		if l.gen.Made()%64 == 0 || closing {
			l.live.Store(int64(l.gen.Live()))
		}
		s.sent.Add(1)
		// Produce blocks while the client's buffer is full: that is the back-pressure.
		l.client.Produce(placed(hard, rec), &kgo.Record{Key: rec.Key, Value: rec.Value, Timestamp: rec.Time},
			func(r *kgo.Record, err error) {
				s.landed(rec, r, err, fail)
			})
	}
	if err := l.client.Flush(hard); err != nil {
		return fmt.Errorf("sim: %w", errors.Join(err, context.Cause(hard)))
	}
	return nil
}

func (s *Simulator) landed(rec *Record, r *kgo.Record, err error, fail context.CancelCauseFunc) {
	if err != nil {
		// The limit of the broker may be below the oversize record, which then certainly is not in the topic.
		refused := errors.Is(err, kerr.MessageTooLarge) && rec.Reason == "too_large"
		if s.truth != nil {
			s.truth.Failed(rec, refused)
		}
		if !refused {
			fail(fmt.Errorf("sim: produce: %w", err))
		}
		return
	}
	s.acked.Add(1)
	s.bytes.Add(int64(len(rec.Value)))
	if s.truth != nil {
		s.truth.Acked(rec, r.Partition, r.Offset, r.Timestamp.UnixMilli())
	}
	if s.opts.OnAck != nil {
		s.opts.OnAck(rec, r.Partition, r.Offset)
	}
}

// Stats returns the figures so far. It may be called at any time from any goroutine.
func (s *Simulator) Stats() Stats {
	st := Stats{Sent: s.sent.Load(), Acked: s.acked.Load(), Bytes: s.bytes.Load()}
	for _, l := range s.lanes {
		st.Live += l.live.Load()
	}
	if t := s.started.Load(); t != 0 {
		st.Elapsed = time.Duration(time.Now().UnixNano() - t)
	}
	return st
}

// Close closes the clients. It does not wait for records: Run does.
func (s *Simulator) Close() {
	var wg sync.WaitGroup
	for _, l := range s.lanes {
		wg.Go(l.client.Close)
	}
	wg.Wait()
}

// pace spreads records evenly. It catches up on at most one second, so that a stall is not followed by a flood.
type pace struct {
	every time.Duration // 0: no limit
	next  time.Time
}

func newPace(rate float64) *pace {
	if rate == 0 {
		return &pace{}
	}
	return &pace{every: time.Duration(float64(time.Second) / rate), next: time.Now()}
}

// wait returns when the next record is due; false if ctx is done before.
func (p *pace) wait(ctx context.Context) bool {
	if p.every == 0 {
		return true
	}
	now := time.Now()
	if now.Sub(p.next) > time.Second {
		p.next = now.Add(-time.Second)
	}
	if d := p.next.Sub(now); d > 2*time.Millisecond { // shorter waits are not worth a timer
		if Pause(ctx, d) != nil {
			return false
		}
	}
	p.next = p.next.Add(p.every)
	return true
}
