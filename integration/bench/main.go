package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"deckle/integration/services"
)

func main() {
	var o options
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.Int64Var(&o.events, "events", 600_000, "records of the backlog that are measured")
	f.Int64Var(&o.warm, "warm", 150_000, "records before them")
	f.IntVar(&o.runs, "runs", 3, "alternating runs of each")
	f.Uint64Var(&o.seed, "seed", 1, "of the events")
	f.Float64Var(&o.faults.Duplicates, "duplicates", 0, "share of records that are in the topic twice")
	f.Float64Var(&o.faults.Odd, "odd", 0, "share of events with legal but strange values")
	f.Float64Var(&o.faults.Readers, "readers", 0,
		"share of sessions whose readers are unknown, log in later, are known by a text, or are two")
	f.Int64Var(&o.sparkWarm, "spark-warm", 1_400_000,
		"records with which the Spark job warms itself up; at least the backlog")
	f.StringVar(&o.only, "only", "", "which systems or parts run, in this order (default: all; -full: "+
		strings.Join(partNames(), ",")+")")
	f.DurationVar(&o.interval, "interval", 10*time.Second,
		"flush interval of Deckle; Spark's batches follow one another without a pause")
	f.StringVar(&o.out, "out", "", "file for the report (default: bench.json; -full: bench-full.json)")
	f.StringVar(&o.dir, "dir", "", "folder for everything (default: a temporary one)")
	f.BoolVar(&o.keep, "keep", false, "keep the folder")
	f.StringVar(&o.profile, "profile", "",
		"folder for CPU and heap profiles of the nodes; tables are not compared then")
	f.DurationVar(&o.limit, "limit", time.Hour, "give up after this time (-full: each part has a limit of its own)")
	f.BoolVar(&o.full, "full", false,
		"measure latency, growth, soak, recovery and outages of Deckle alone, without a comparison")
	f.Float64Var(&o.rate, "rate", 20_000, "-full: records per second")
	f.DurationVar(&o.warmUp, "warm-up", 20*time.Second, "-full: load before a window")
	f.DurationVar(&o.window, "window", time.Minute, "-full: length of the measured window; late: three times that")
	f.StringVar(&o.intervals, "intervals", "10s,1s", "-full: flush intervals of part latency")
	f.DurationVar(&o.commitWait, "commit-wait", 550*time.Millisecond,
		"delta.commit_wait of the nodes; 0: each node commits by itself")
	f.StringVar(&o.open, "open", "10000,100000,1000000", "-full: idle sessions")
	f.StringVar(&o.commits, "commits", "10,100,1000", "-full: Delta commits")
	f.DurationVar(&o.soak, "soak", 10*time.Minute, "-full: length of the soak")
	f.Float64Var(&o.soakRate, "soak-rate", 10_000, "-full: records per second of the soak")
	f.Float64Var(&o.soakLate, "soak-late", 0, "-full: share of the soak's events that are late")
	f.Int64Var(&o.stateBytes, "state-bytes", 1<<30, "-full: bytes of state on disk that a node starts with")
	f.DurationVar(&o.outage, "outage", 3*time.Minute, "-full: length of an outage")
	f.Float64Var(&o.outageRate, "outage-rate", 5_000, "-full: records per second during an outage")
	_ = f.Parse(os.Args[1:]) // exits on error
	if o.full {
		o.only, o.out = cmp.Or(o.only, strings.Join(partNames(), ",")), cmp.Or(o.out, "bench-full.json")
		o.limit = 3 * time.Hour
	}
	o.only, o.out = cmp.Or(o.only, "spark,deckle,deckle_raw,deckle3"), cmp.Or(o.out, "bench.json")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	os.Exit(exitCode(ctx, o))
}

func exitCode(ctx context.Context, o options) int {
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	equal, err := run(ctx, o)
	switch {
	case services.MaySkip(err):
		fmt.Printf("bench is skipped: %v\n", err)
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	case !equal:
		fmt.Fprintln(os.Stderr, "bench: the tables differ from the truth; the figures are worthless")
		return 1
	}
	return 0
}

func run(ctx context.Context, o options) (equal bool, err error) {
	w := &world{opts: o, root: ".", began: time.Now()}
	if w.dir, err = services.Folder(o.dir, "deckle-bench-"); err != nil {
		return false, err
	}
	defer func() {
		err = errors.Join(err, w.end())
		if o.keep {
			w.say("everything is kept in %s", w.dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(w.dir))
	}()
	if err := w.start(ctx); err != nil {
		return false, err
	}
	if o.full {
		return true, w.runFull(ctx)
	}
	w.say("producing %d records", o.warm+o.events)
	b, err := w.fill(ctx, o.warm+o.events)
	if err != nil {
		return false, err
	}
	w.say("backlog: %d records, %d bytes each", b.records, b.bytes/b.records)
	names := strings.Split(o.only, ",")
	if slices.Contains(names, "spark") {
		if w.spark, err = w.cache.FetchSpark(ctx); err != nil {
			return false, err
		}
	}
	rep := &report{
		HeapMB: sparkHeapMB, Records: b.records, WarmUp: o.warm, BytesEach: float64(b.bytes) / float64(b.records),
	}
	runs := map[string][]*figures{}
	for i := range o.runs {
		for _, name := range names {
			f, err := w.measure(ctx, name, b)
			if err != nil {
				return false, fmt.Errorf("%s: %w", name, err)
			}
			runs[name] = append(runs[name], f)
			w.say("%d/%d %s: %.0f events/CPU s (%d events, %.2f CPU s, %.1f s), peak %d MiB, log %.1f B/event, "+
				"equal %v",
				i+1, o.runs, name, f.EventsPerCPUSecond, f.Events, f.CPUSeconds, f.WallSeconds, f.PeakRSS>>20,
				f.LogBytesPerEvent, f.Equal)
		}
	}
	rep.complete(runs)
	return rep.equal() || o.profile != "", rep.write(o.out, os.Stdout)
}

// measure runs one system once over the backlog.
func (w *world) measure(ctx context.Context, name string, b *backlog) (f *figures, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if name == "spark" {
		return w.measureSpark(ctx, b)
	}
	i := slices.IndexFunc(variants, func(v variant) bool { return v.name == name })
	if i < 0 {
		return nil, fmt.Errorf("bench: there is no %q", name)
	}
	v := variants[i]
	v.interval = w.opts.interval
	c, err := w.deploy(v, b.topic)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.kill()) }()
	if f, err = c.consume(ctx, b, w.opts.warm); err != nil {
		return nil, err
	}
	if w.opts.profile == "" {
		f.Equal, err = c.equal(ctx, b)
	}
	return f, err
}
