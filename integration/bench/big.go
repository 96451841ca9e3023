package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sim"
)

// bigFigures compare the same load on one node without and with one session of many large events, in turns.
type bigFigures struct {
	Runs   []*bigRun   `json:"runs"`
	Ratios []*bigRatio `json:"ratios"`
	Budget int64       `json:"budget_bytes"`
}

// bigRatio is the session of one shape beside none: the medians of p99 with it ÷ without it.
type bigRatio struct {
	Bytes      int     `json:"metrics_bytes"`
	Events     float64 `json:"delta_events_p99_ratio"`
	ClickHouse float64 `json:"clickhouse_p99_ratio"`
	Peak       int64   `json:"vm_hwm_bytes"` // the greatest of its runs
}

// bigRun are the figures of one run; the delays are those of all other sessions.
type bigRun struct {
	Bytes      int       `json:"metrics_bytes"` // of each large event; 0: without the session
	Records    int       `json:"records"`       // of the window, of other sessions
	Events     quantiles `json:"delta_events"`
	ClickHouse quantiles `json:"clickhouse"`
	Peak       int64     `json:"vm_hwm_bytes"` // of the process, since its start
	Window     *window   `json:"window"`
}

const (
	bigEvents = 1_900 // below the 2,000 at which a session is full
	bigRate   = 2_000 // events per second of the other sessions
	bigShards = 2     // and as many partitions: one beside that of the large session
	// bigBudget are the defaults of limits.session_memory_bytes, buffer_memory_bytes, fetch_memory_bytes and
	// cache_bytes.
	bigBudget = (256 + 256 + 256 + 32) << 20
	// bigMemory and bigDelay are what a run with the session may take: of the budgets, and of the p99 without it.
	bigMemory, bigDelay = 1.2, 2.0
)

// bigShapes are the bytes of engagement_metrics that each large event has: none; so many that page_events leaves them
// out; so many that it has all of them, and the session is just below rules.session.max_bytes in the end.
var bigShapes = []int{0, 24 << 10, 3_900}

func (w *world) bigPart(ctx context.Context) (f *bigFigures, err error) {
	f = &bigFigures{Budget: bigBudget}
	runs := map[int][]*bigRun{}
	for range w.opts.runs {
		for _, size := range bigShapes {
			r, err := w.bigSession(ctx, size)
			if err != nil {
				return f, err
			}
			f.Runs = append(f.Runs, r)
			runs[size] = append(runs[size], r)
		}
	}
	p99 := func(size int, of func(*bigRun) quantiles) float64 {
		var all []float64
		for _, r := range runs[size] {
			all = append(all, of(r).P99)
		}
		return middle(all)
	}
	events := func(r *bigRun) quantiles { return r.Events }
	click := func(r *bigRun) quantiles { return r.ClickHouse }
	for _, size := range bigShapes[1:] {
		q := &bigRatio{
			Bytes: size, Events: p99(size, events) / p99(0, events), ClickHouse: p99(size, click) / p99(0, click),
		}
		for _, r := range runs[size] {
			q.Peak = max(q.Peak, r.Peak)
		}
		f.Ratios = append(f.Ratios, q)
		w.say("big: events of %d bytes: p99 with the session ÷ without it: Delta events %.2f, ClickHouse %.2f; "+
			"VmHWM %d MiB of %d", size, q.Events, q.ClickHouse, q.Peak>>20, f.Budget>>20)
		if q.Events > bigDelay || q.ClickHouse > bigDelay {
			err = errors.Join(err, fmt.Errorf("bench: one session of events of %d bytes delays the others: p99 is "+
				"%.2f and %.2f times that without it", size, q.Events, q.ClickHouse))
		}
		if float64(q.Peak) > bigMemory*float64(f.Budget) {
			err = errors.Join(err, fmt.Errorf("bench: the process took %d MiB, its budgets are %d MiB", q.Peak>>20,
				f.Budget>>20))
		}
	}
	return f, err
}

// bigSession runs one node under a load, with one session of large events beside it, unless size is 0.
func (w *world) bigSession(ctx context.Context, size int) (f *bigRun, err error) {
	v := variant{name: "big", nodes: 1, shards: bigShards, events: true, interval: time.Second}
	c, err := w.fresh(ctx, v, bigShards)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.kill()) }()
	if err := c.up(ctx); err != nil {
		return nil, err
	}
	h, err := c.follow(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.end()) }()
	l, err := w.produce(ctx, c.topic, sim.Options{Rate: bigRate, Sessions: liveSessions})
	if err != nil {
		return nil, err
	}
	defer l.stop()
	if err := sim.Pause(ctx, w.opts.warmUp); err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	f = &bigRun{Bytes: size}
	large := int64(0)
	if size > 0 {
		large = 1
		go func() { sent <- w.sendBig(ctx, c.topic, size, l) }()
	} else {
		sent <- nil
	}
	if f.Window, err = c.observe(ctx, l, w.opts.window); err != nil {
		return nil, err
	}
	f.Window.Behind += large * bigEvents // the simulator, which counts what was produced, does not know of these
	if err := errors.Join(<-sent, l.end()); err != nil {
		return nil, err
	}
	if err := h.all(ctx, l.made); err != nil {
		return nil, err
	}
	events, click, err := h.delays(l.made, f.Window.opened, f.Window.closed)
	if err != nil {
		return nil, err
	}
	f.Records, f.Events, f.ClickHouse = len(events), quantilesOf(events), quantilesOf(click)
	rows, err := h.click.Count(ctx, "session_metrics")
	if err != nil {
		return nil, err
	}
	if want := uint64(l.ended + large); rows != want {
		return nil, fmt.Errorf("bench: ClickHouse has %d sessions, %d were produced", rows, want)
	}
	proc, err := procfs.NewProc(c.Nodes[0].PID())
	if err != nil {
		return nil, err
	}
	status, err := proc.NewStatus()
	if err != nil {
		return nil, err
	}
	f.Peak = int64(status.VmHWM)
	w.say("%s, large events of %d bytes: %d others; Delta events p50 %.2f p99 %.2f max %.2f s; "+
		"ClickHouse p50 %.2f p99 %.2f max %.2f s; VmHWM %d MiB",
		c.name, size, f.Records, f.Events.P50, f.Events.P99, f.Events.Max,
		f.ClickHouse.P50, f.ClickHouse.P99, f.ClickHouse.Max, f.Peak>>20)
	return f, nil
}

// sendBig sends the events of one session evenly over the window, and its end. They count among the records that must
// become visible, and not among those whose delay is measured.
func (w *world) sendBig(ctx context.Context, topic string, size int, l *load) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Addr), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		return err
	}
	defer client.Close()
	rng := rand.New(rand.NewPCG(w.opts.seed, 14))
	began := time.Now()
	for i := range bigEvents + 1 {
		kind, metrics := "article_view", fmt.Sprintf(`{"time_on_page": 1, "trace": "%s"}`, noise(rng, size))
		if i == bigEvents {
			kind, metrics = "session_end", "{}"
		}
		value := fmt.Appendf(nil, `{"event_id": "%08x-0000-4000-8000-%012x", "user_id": 7, "session_id": "large", `+
			`"event_type": "%s", "timestamp": %d, "brand": "bild", "article_id": "a%d", "engagement_metrics": %s}`,
			w.runs, i, kind, time.Now().Unix(), i%50, metrics)
		r, err := client.ProduceSync(ctx, &kgo.Record{Key: []byte("large"), Value: value}).First()
		if err != nil {
			return err
		}
		l.acknowledged(&sim.Record{}, r.Partition, r.Offset) // made in the year 1: in no window
		due := began.Add(w.opts.window * time.Duration(i+1) / bigEvents)
		if err := sim.Pause(ctx, time.Until(due)); err != nil {
			return err
		}
	}
	return nil
}

// noise is a text that does not compress to much less than half.
func noise(rng *rand.Rand, size int) string {
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "%016x", rng.Uint64())
	}
	return b.String()
}
