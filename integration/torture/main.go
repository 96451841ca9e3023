package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"deckle/integration/services"
)

type options struct {
	kills    int
	seed     uint64
	rate     int
	short    bool
	only     string
	bug      string
	mustFail bool
	dir, out string
	data     string
	keep     bool
	debug    bool
	limit    time.Duration
}

func main() {
	var o options
	f := flag.NewFlagSet("torture", flag.ExitOnError)
	f.IntVar(&o.kills, "kills", 20, "SIGKILLs of nodes, at least")
	f.Uint64Var(&o.seed, "seed", 0, "of the plan and the workload; 0: drawn")
	f.IntVar(&o.rate, "rate", 2000, "events a second")
	f.BoolVar(&o.short, "short", false, "only some of the rounds with bad links")
	f.StringVar(&o.only, "only", "", "only rounds whose name contains this")
	f.StringVar(&o.bug, "bug", "", "switch on this planted bug, and run only the rounds that bring it out")
	f.BoolVar(&o.mustFail, "must-fail", false, "succeed only if rows were lost, doubled or wrong, or a reader saw what none may")
	f.StringVar(&o.dir, "dir", "", "folder for configurations, logs and the truth (default: a temporary one, removed after success)")
	f.StringVar(&o.data, "data", "", "folder for the data of nodes and services (default: in memory if there is room, else -dir)")
	f.StringVar(&o.out, "out", "torture.json", "file for the report")
	f.BoolVar(&o.keep, "keep", false, "keep the folder")
	f.BoolVar(&o.debug, "debug", false, "let the nodes log everything")
	f.DurationVar(&o.limit, "limit", 4*time.Hour, "give up after so long")
	_ = f.Parse(os.Args[1:]) // exits on error
	if o.seed == 0 {
		o.seed = rand.Uint64() >> 20
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	os.Exit(exitCode(ctx, o))
}

// exitCode runs and judges.
func exitCode(ctx context.Context, o options) int {
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	rep, err := run(ctx, o)
	var missing *services.MissingError
	if errors.As(err, &missing) && os.Getenv("DECKLE_REQUIRE_SERVICES") != "1" {
		fmt.Printf("torture is skipped: %v\n", err)
		return 0
	}
	if rep != nil {
		if werr := rep.write(o.out, os.Stdout); werr != nil {
			fmt.Fprintln(os.Stderr, "torture:", werr)
			return 1
		}
	}
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "torture: %v\n", err)
		return 1
	case len(rep.Unchecked) > 0: // says nothing of a planted bug either
		fmt.Fprintf(os.Stderr, "torture: not everything could be compared: %s (repeat with -seed %d)\n", strings.Join(rep.Unchecked, "; "), o.seed)
		return 1
	case o.mustFail && rep.wrong() != "":
		fmt.Printf("the planted bug was found: %s\n", rep.wrong())
		return 0
	case o.mustFail:
		fmt.Fprintln(os.Stderr, "torture: nothing was found, and something had to be")
		return 1
	case !rep.Passed:
		fmt.Fprintf(os.Stderr, "torture: failed: %s (repeat with -seed %d)\n", strings.Join(append(rep.Failures, rep.wrong()), "; "), o.seed)
		return 1
	}
	return 0
}

func run(ctx context.Context, o options) (rep *report, err error) {
	w := &world{opts: o, root: ".", began: time.Now(), rng: rand.New(rand.NewPCG(o.seed, 1))}
	if w.dir, err = services.Folder(o.dir, "deckle-torture-"); err != nil {
		return nil, err
	}
	if err := w.dataFolder(); err != nil {
		return nil, err
	}
	w.say("seed %d, at least %d kills; configurations and logs in %s, data in %s", o.seed, o.kills, w.dir, w.data)
	defer func() {
		err = errors.Join(err, w.end())
		passed := err == nil && (rep.Passed || o.mustFail && rep.wrong() != "")
		if passed && !o.keep {
			err = os.RemoveAll(w.dir)
		} else {
			w.say("configurations and logs: %s", w.dir)
		}
		if w.data != w.dir && !o.keep { // memory is not for keeping
			err = errors.Join(err, os.RemoveAll(w.data))
		}
	}()
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	w.say("three nodes are ready")
	rep = newReport(o)
	if rep.DataIn = "disk"; strings.HasPrefix(w.data, memory) {
		rep.DataIn = "memory"
	}
	if err := w.workload(ctx); err != nil {
		return nil, err
	}
	rounds := plan(w.rng, w.points, o)
	for i, r := range rounds {
		if err := w.round(ctx, rep, i, len(rounds), r); err != nil {
			rep.Failures = append(rep.Failures, fmt.Sprintf("round %d, %s: %v", i+1, r.kind, err))
			w.say("FAILED: %v", err)
			break
		}
	}
	w.finish(ctx, rep)
	return rep, nil
}

// memory is where Linux has a memory file system, and memoryRoom what must be free there for all data.
const (
	memory     = "/dev/shm"
	memoryRoom = 12 << 30
)

// dataFolder chooses where nodes and services keep their data: in memory if there is room. In earnest they are six machines
// with disks of their own. On one disk they wait for each other's fsyncs (three nodes that close an epoch a second write some
// 60 MB/s together), until leaders lose their leases; and what SIGKILL leaves behind is the same in memory.
func (w *world) dataFolder() (err error) {
	if w.data = w.opts.data; w.data != "" {
		w.data, err = services.Folder(w.data, "")
		return err
	}
	w.data = w.dir
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err == nil && uint64(fs.Bsize)*fs.Bavail >= memoryRoom {
		w.data, err = os.MkdirTemp(memory, "deckle-torture-")
		return err
	}
	return nil
}

// workload starts what is produced, and the readers once there are tables.
func (w *world) workload(ctx context.Context) error {
	truth, probes := filepath.Join(w.dir, "truth.jsonl"), filepath.Join(w.dir, "probes.jsonl")
	w.truth = []string{truth, probes}
	w.sim = services.NewProcess("sim", w.dir, nil, w.Binary, "sim", "--brokers", w.kafka.Addr, "--topic", topic,
		"--rate", fmt.Sprint(w.opts.rate), "--sessions", "1000", "--seed", fmt.Sprint(w.opts.seed), "--truth", truth, "--json",
		"--duplicates", "0.02", "--late", "0.01", "--malformed", "0.005", "--out-of-order", "0.02")
	if err := w.sim.Start(); err != nil {
		return err
	}
	var err error
	if w.probe, err = newProber(w.kafka.Addr, probes, w.opts.seed); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := w.progress(wait); err != nil {
		return err
	}
	if w.watch, err = w.startWatch(); err != nil {
		return err
	}
	w.say("%d events/s flow through all sinks", w.opts.rate)
	return nil
}

// round runs one round and waits until everything goes on.
func (w *world) round(ctx context.Context, rep *report, i, n int, r round) error {
	began := time.Now()
	var res result
	err := r.run(ctx, w, &res)
	w.heal()
	ended := time.Now()
	if err == nil {
		err = w.afterwards(ctx)
	}
	rep.take(r.kind, &res)
	line := fmt.Sprintf("%d/%d %s: %s", i+1, n, r.kind, res.detail)
	if rec := cmp.Or(res.recovery, res.all, res.calm); rec != nil && err == nil {
		line += fmt.Sprintf("; visible after %d ms in Delta, %d ms in ClickHouse, closed sessions after %d ms",
			rec.events.Milliseconds(), rec.clickhouse.Milliseconds(), rec.sessions.Milliseconds())
	}
	if res.follow > 0 {
		line += fmt.Sprintf("; followed after %d ms", res.follow.Milliseconds())
	}
	if res.rejoin > 0 {
		line += fmt.Sprintf("; a member again after %d ms", res.rejoin.Milliseconds())
	}
	count, _ := w.watch.v.list()
	w.say("%s; all goes on after %.1f s (round of %.1f s, %d kills, %d violations so far)", line, time.Since(ended).Seconds(), time.Since(began).Seconds(), rep.Kills, count)
	return err
}

// afterwards brings back what is down and waits until all nodes follow and all sinks go on.
func (w *world) afterwards(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for i, n := range w.Nodes {
		if n.PID() == 0 {
			if err := n.Start(); err != nil {
				return err
			}
		}
		select {
		case <-n.Done():
			return fmt.Errorf("%s has ended by itself (%w):\n%s", n.Name, n.Err(), n.Tail(3000))
		default:
		}
		if err := w.follows(ctx, i); err != nil {
			return err
		}
	}
	if err := w.progress(ctx); err != nil {
		return err
	}
	select {
	case <-w.sim.Done():
		return fmt.Errorf("the simulator has ended by itself (%w):\n%s", w.sim.Err(), w.sim.Tail(3000))
	default:
		return nil
	}
}
