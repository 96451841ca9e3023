package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sim"
)

// load is a simulator that produces at a steady rate, by the wall clock, until it is stopped.
type load struct {
	sim  *sim.Simulator
	rate float64 // the rate that was asked for
	from int64   // records that were in the topic before
	stop context.CancelFunc
	done chan error

	mu    sync.Mutex
	made  [][]int64 // by partition and offset: the record's Kafka timestamp, Unix milliseconds
	late  int64     // late events
	ended int64     // session_ends, that is sessions that have begun and ended
}

// produce starts a load on a topic that nothing else produces to.
func (w *world) produce(ctx context.Context, topic string, o sim.Options) (*load, error) {
	l := &load{rate: o.Rate, done: make(chan error, 1), made: make([][]int64, maxPartitions)}
	o.Topic, o.KafkaOpts, o.OnAck = topic, []kgo.Opt{kgo.SeedBrokers(w.kafka.Addr)}, l.acknowledged
	o.Seed = cmp.Or(o.Seed, w.opts.seed)
	var err error
	if l.sim, err = sim.Open(ctx, o, nil); err != nil {
		return nil, err
	}
	var run context.Context
	run, l.stop = context.WithCancel(ctx)
	go func() {
		_, err := l.sim.Run(run)
		l.sim.Close()
		l.done <- err
	}()
	return l, nil
}

const maxPartitions = 16

func (l *load) acknowledged(rec *sim.Record, partition int32, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.made[partition]
	if int(offset) >= len(at) {
		at = slices.Grow(at, int(offset)+1-len(at))[:offset+1]
		l.made[partition] = at
	}
	at[offset] = rec.Time.UnixMilli()
	switch rec.Kind {
	case sim.KindLate:
		l.late++
	case sim.KindEnd:
		l.ended++
	}
}

// end stops the load and waits until every record is acknowledged, including those that end the open sessions.
func (l *load) end() error {
	l.stop()
	return <-l.done
}

// fresh deploys a cluster with a new topic, and does not start it.
func (w *world) fresh(ctx context.Context, v variant, partitions int32) (*cluster, error) {
	w.runs++
	topic := fmt.Sprintf("%s-%d", v.name, w.runs)
	if err := w.kafka.CreateTopic(ctx, topic, partitions); err != nil {
		return nil, err
	}
	return w.deploy(v, topic)
}

// preload produces n sessions of one event each, which nothing ends. They begin within the minute before the last one.
func (w *world) preload(ctx context.Context, topic string, n int64) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Addr), kgo.DefaultProduceTopic(topic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.SnappyCompression()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		return err
	}
	defer client.Close()
	// The generator makes one reader after the other, each with one event and a session_end, and the session_ends are
	// not sent. The seed makes ids that the load does not have.
	gen, err := sim.NewGenerator(sim.Options{
		Sessions: 1, EventsPerSession: 1, Seed: w.opts.seed + 1_000_000, Rate: float64(2*n) / 60,
		Start: time.Now().Add(-2 * time.Minute).Truncate(time.Second),
	}, 0)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var failed error
	for sent := int64(0); sent < n; {
		rec, ok := gen.Next()
		if !ok {
			return errors.New("bench: the generator has ended")
		}
		if rec.Kind != sim.KindEvent {
			continue
		}
		sent++
		kr := &kgo.Record{Key: rec.Key, Value: rec.Value, Timestamp: rec.Time}
		client.Produce(ctx, kr, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	err = client.Flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(err, failed)
}

// window is what was measured of a cluster while records came at a steady rate.
type window struct {
	Seconds    float64 `json:"seconds"`
	Asked      float64 `json:"asked_per_second"`
	Rate       float64 `json:"events_per_second"`    // produced; less than asked for if the machine is too slow
	Applied    float64 `json:"applied_per_second"`   // by the cluster
	Behind     int64   `json:"records_behind"`       // produced and not applied at the end of the window
	Micros     float64 `json:"cpu_micros_per_event"` // of all nodes together, per applied record
	Median     int64   `json:"median_pss_bytes"`     // of all nodes together, one sample per second
	Peak       int64   `json:"peak_pss_bytes"`
	Open       int64   `json:"open_sessions"` // at the end of the window
	MachineRan float64 `json:"load_average"`  // of the whole machine in the last minute, at the end

	opened, closed time.Time
	memory         []int64 // the samples
}

// patience is how long a node may leave a request unanswered.
const patience = time.Minute

// look asks for the progress, again and again while a node does not answer in time: a node that closes an epoch of very
// many sessions answers nothing meanwhile. It keeps how long the slowest answer took.
func (c *cluster) look(ctx context.Context) (progress, error) {
	began := time.Now()
	for {
		p, err := c.progress(ctx)
		took := time.Since(began)
		c.slowest = max(c.slowest, took)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || took > patience {
			return p, err
		}
	}
}

// allLed asks until every shard has a leader: otherwise records would be missing from the counts.
func (c *cluster) allLed(ctx context.Context) (progress, error) {
	for {
		p, err := c.look(ctx)
		if err != nil || p.led == c.v.shards {
			return p, err
		}
		if err := sim.Pause(ctx, sampleEvery); err != nil {
			return p, fmt.Errorf("bench: %d of %d shards have a leader: %w", p.led, c.v.shards, err)
		}
	}
}

// observe measures for d while l produces.
func (c *cluster) observe(ctx context.Context, l *load, d time.Duration) (*window, error) {
	first, err := c.allLed(ctx)
	if err != nil {
		return nil, err
	}
	before, err := cpuOf(c.pids())
	if err != nil {
		return nil, err
	}
	w, acked := &window{Asked: l.rate, opened: time.Now()}, l.sim.Stats().Acked
	profiled := make(chan error, 1)
	if dir := c.w.opts.profile; dir != "" {
		go func() { profiled <- c.profile(ctx, dir) }()
	} else {
		profiled <- nil
	}
	for said := time.Now(); time.Since(w.opened) < d; {
		pss, err := pssOf(c.pids())
		if err != nil {
			return nil, err
		}
		w.memory = append(w.memory, pss)
		if time.Since(said) > time.Minute {
			said = time.Now()
			c.w.say("%s: %s of %s, PSS %d MiB", c.name, time.Since(w.opened).Round(time.Second), d, pss>>20)
		}
		select {
		case err := <-l.done:
			l.done <- err
			return nil, fmt.Errorf("bench: the producer has ended: %w", err)
		default:
		}
		if err := sim.Pause(ctx, min(time.Second, d-time.Since(w.opened))); err != nil {
			return nil, err
		}
	}
	last, err := c.allLed(ctx)
	if err != nil {
		return nil, err
	}
	after, err := cpuOf(c.pids())
	if err != nil {
		return nil, err
	}
	w.closed = time.Now()
	now := l.sim.Stats().Acked
	w.Seconds = w.closed.Sub(w.opened).Seconds()
	w.Rate, w.Applied = float64(now-acked)/w.Seconds, float64(last.taken-first.taken)/w.Seconds
	w.Behind, w.Open, w.MachineRan = l.from+now-last.taken, last.open, loadAverage()
	w.Micros = float64((after - before).Microseconds()) / float64(last.taken-first.taken)
	w.Median, w.Peak = middle(w.memory), slices.Max(w.memory)
	c.w.say("%s: %.0f events/s produced, %.0f applied (%d behind), %.1f µs CPU per event, PSS %d MiB "+
		"(peak %d), %d sessions open, load %.1f",
		c.name, w.Rate, w.Applied, w.Behind, w.Micros, w.Median>>20, w.Peak>>20, w.Open, w.MachineRan)
	return w, <-profiled
}

// rest waits until the given number of records is applied and in every sink, and has been for longer than an interval:
// by then the epoch that has the last changes is closed.
func (c *cluster) rest(ctx context.Context, records int64, revisions bool) error {
	var since time.Time
	for {
		p, err := c.look(ctx)
		if err != nil {
			return err
		}
		switch {
		case p.led < c.v.shards || p.taken < records || p.behind > 0 || revisions && p.late > 0:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > c.v.interval+2*time.Second:
			return nil
		}
		if err := sim.Pause(ctx, sampleEvery); err != nil {
			return fmt.Errorf("bench: %s: %d of %d records applied, sinks %d epochs behind, revisions %d: %w",
				c.v.name, p.taken, records, p.behind, p.late, err)
		}
	}
}
