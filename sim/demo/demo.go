package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/front"
	"deckle/node/web"
	"deckle/sim"
	"deckle/sim/verify"
	"deckle/state"
)

// startTimeout bounds the start: three elections and the creation of the tables.
const startTimeout = time.Minute

// Run runs the demo until Options.For is over or ctx ends, drains, reconciles and reports. An error means that there
// is no report. That something is not equal is no error; the report says it.
func Run(ctx context.Context, opts Options) (*Report, error) {
	o, err := opts.complete()
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	place, err := newPlace(&o)
	if err != nil {
		return nil, err
	}
	d := &demo{o: &o, place: place, live: &live{w: o.Live, tty: o.LiveTTY}, start: o.Now()}
	report, err := d.run(ctx)
	if err != nil {
		return report, fmt.Errorf("%w (the nodes' log: %s)", err, filepath.Join(place.dir, "deckle.log"))
	}
	return report, nil
}

// demo is one run.
type demo struct {
	o       *Options
	place   *runPlace
	live    *live
	start   time.Time
	broker  *broker
	cluster *cluster
	truth   *sim.Truth

	producer atomic.Pointer[sim.Simulator]
	phase    atomic.Value // string
	began    time.Time    // of producing
}

func (d *demo) run(ctx context.Context) (report *Report, err error) {
	logFile, err := os.Create(filepath.Join(d.place.dir, "deckle.log"))
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, logFile.Close()) }()
	log := slog.New(slog.NewJSONHandler(logFile, nil))
	d.phase.Store("starting")
	d.live.say("This run's folder: %s", d.place.dir)

	// What has begun is ended in order even after Ctrl-C: work goes on after ctx has ended, and each step has a limit
	// of its own.
	work := context.WithoutCancel(ctx)
	partitions := int32(2 * d.o.Shards)
	if d.broker, err = openBroker(ctx, d.o.Brokers, filepath.Join(d.place.dir, "kafka"), d.place.topic,
		partitions); err != nil {
		return nil, err
	}
	defer d.broker.close()
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if d.cluster, err = openCluster(work, d.o, d.place, d.broker.addrs, reg, log); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.cluster.close(work)) }()

	stopPage, err := d.servePage(work, reg, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopPage()) }()
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	err = d.cluster.ready(starting)
	cancel()
	if err != nil {
		return nil, err
	}
	return d.work(ctx, work)
}

// work produces, drains and reconciles on a cluster that is ready.
func (d *demo) work(ctx, work context.Context) (*Report, error) {
	watching, stopWatching := context.WithCancel(work)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		d.live.watch(watching, d.sample)
	}()
	stop := func() {
		stopWatching()
		<-watched
	}
	defer stop()

	summary, err := d.produce(ctx, work)
	if err != nil {
		return nil, err
	}
	d.phase.Store("draining")
	d.live.say("Produced %s records of %s sessions; every live session is ended. Draining for at most %v.",
		count(summary.Produced), count(summary.Sessions), d.o.DrainTimeout)
	draining, cancel := context.WithTimeout(work, d.o.DrainTimeout)
	defer cancel()
	begin := time.Now()
	var applied time.Time
	shown := time.Now()
	left, err := d.cluster.drain(draining, summary.Partitions, d.o.Shards, func(b backlog) {
		if b.Records == 0 && b.Waiting == "" && applied.IsZero() {
			applied = time.Now()
		}
		if !b.done() && time.Since(shown) >= 2*time.Second {
			shown = time.Now()
			d.live.say("%s left: %v", clockText(d.o.DrainTimeout-time.Since(begin)), b)
		}
	})
	if err != nil {
		return nil, err
	}
	if applied.IsZero() {
		applied = time.Now()
	}
	drained := time.Since(begin)
	d.phase.Store("reconciling")
	stop()
	d.live.say("Drained in %.1f s; what remains: %v. Reconciling with the ground truth.", drained.Seconds(), left)

	report := d.newReport(&summary, applied, drained)
	if !left.done() {
		report.Remaining = left.String()
	}
	if err := d.reconcile(work, report, &summary); err != nil {
		return report, err
	}
	report.Equal = report.Equal && left.done()
	d.phase.Store("done")
	return report, nil
}

// produce runs the simulator until it is time to end, or a node gives up.
func (d *demo) produce(ctx, work context.Context) (sim.Summary, error) {
	truth, err := sim.CreateTruth(filepath.Join(d.place.dir, "truth.jsonl"))
	if err != nil {
		return sim.Summary{}, err
	}
	d.truth = truth
	producer, err := sim.Open(work, sim.Options{
		Topic: d.place.topic, KafkaOpts: []kgo.Opt{kgo.SeedBrokers(d.broker.addrs...)}, Rate: d.o.Rate,
		Duration: d.o.For,
		Sessions: d.o.Sessions, Seed: d.o.Seed, Faults: *d.o.Faults, Now: d.o.Now,
	}, truth)
	if err != nil {
		return sim.Summary{}, err
	}
	defer producer.Close()
	d.producer.Store(producer)
	d.began = time.Now()
	d.phase.Store("producing")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case err := <-d.cluster.fatal:
			cancel(err)
		case <-ended:
		}
	}()
	summary, err := producer.Run(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) &&
		!errors.Is(cause, context.DeadlineExceeded) {
		err = errors.Join(cause, err)
	}
	return summary, err
}

func (d *demo) sample() sample {
	s := sample{at: time.Now(), of: d.o.For, phase: d.phase.Load().(string), status: d.cluster.Status()}
	if p := d.producer.Load(); p != nil {
		s.sent = p.Stats()
		s.elapsed = s.sent.Elapsed
		if s.phase == "producing" && s.of > 0 && s.elapsed > s.of {
			s.phase = "ending the sessions"
		}
	}
	return s
}

func (d *demo) newReport(sum *sim.Summary, applied time.Time, drained time.Duration) *Report {
	st := d.cluster.Status()
	r := &Report{
		ProducedEvents: sum.Produced, ProducedSessions: sum.Sessions, Nodes: d.o.Nodes, Shards: d.o.Shards,
		Seed: d.o.Seed,
		Dir:  d.place.dir, DrainSeconds: drained.Seconds(),
		EventsPerSecond: float64(sum.Produced) / applied.Sub(d.began).Seconds(),
		Checks:          []Check{}, Differences: []verify.Difference{},
	}
	t := totalsOf(&st)
	r.AppliedEvents, r.Duplicates, r.DeadLetters = t.applied, t.duplicates, t.dead
	r.Excluded = t.excluded
	latency := func(sink state.SinkID) *float64 {
		l, ok := t.visible[sink.String()]
		if !ok || l.Count == 0 {
			return nil
		}
		return &l.P99
	}
	r.P99VisibleMS, r.P99VisibleClickHouseMS = latency(state.SinkEvents), latency(state.SinkClickHouse)
	return r
}

// pageConnections bounds those who look at the page.
const pageConnections = 128

// servePage serves the page at the wanted address, or at a port that is free if that one is taken.
func (d *demo) servePage(ctx context.Context, reg *prometheus.Registry, log *slog.Logger) (stop func() error,
	err error) {
	ln, err := net.Listen("tcp", d.o.HTTP)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(d.o.HTTP)
		d.live.say("%s is taken; the page takes another port.", d.o.HTTP)
		ln, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	url := "http://" + ln.Addr().String() + "/"
	d.live.say("Page: %s", url)
	d.live.say("Ctrl-C ends the readers' sessions and begins the comparison; a second one quits.")
	if d.o.OnListen != nil {
		d.o.OnListen(url)
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	gate := front.NewGate(front.GateOptions{Names: []string{d.o.HTTP}, Now: d.o.Now})
	h := web.NewHandler(d.cluster, web.Options{Gatherer: reg, Now: d.o.Now, Logger: log, Gate: gate,
		Tap: d.cluster.tap})
	ln = front.Limit(ln, front.Limits{Connections: pageConnections})
	go func() { served <- front.Serve(ctx, ln, front.Server{Handler: h, Logger: log}) }()
	return func() error {
		d.cluster.tap.Close()
		cancel()
		return <-served
	}, nil
}
