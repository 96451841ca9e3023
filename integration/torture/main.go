package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"deckle/integration/services"
)

func main() {
	var o options
	f := flag.NewFlagSet("torture", flag.ExitOnError)
	f.IntVar(&o.kills, "kills", 20, "SIGKILLs of nodes, at least")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the plan and the workload; 0: a random one")
	f.IntVar(&o.rate, "rate", 2000, "events per second")
	f.BoolVar(&o.short, "short", false, "only some of the rounds with bad links, and no rotation of the CA")
	f.StringVar(&o.only, "only", "", "only rounds whose name contains this")
	f.StringVar(&o.bug, "bug", "", "switch on this planted bug, and run only the rounds that bring it out")
	f.BoolVar(&o.mustFail, "must-fail", false,
		"succeed only if rows were lost, doubled or wrong, or a reader saw what none may see")
	f.StringVar(&o.dir, "dir", "",
		"folder for configurations, logs and the truth (default: a temporary one, removed after success)")
	f.StringVar(&o.data, "data", "",
		"folder for the data of nodes and services (default: in memory if there is room, else -dir)")
	f.StringVar(&o.out, "out", "torture.json", "file for the report")
	f.BoolVar(&o.keep, "keep", false, "keep the folder")
	f.BoolVar(&o.debug, "debug", false, "let the nodes log everything")
	vectors := f.String("vectors", "drawn",
		"on, off or drawn (from the seed): revisions hide rows by deletion vectors")
	f.DurationVar(&o.limit, "limit", 4*time.Hour, "give up after this time")
	_ = f.Parse(os.Args[1:]) // exits on error
	if o.seed == 0 {
		o.seed = rand.Uint64() >> 20
	}
	if err := o.setVectors(*vectors); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	os.Exit(exitCode(ctx, o))
}

// exitCode runs the torture, writes the report and returns the exit code.
func exitCode(ctx context.Context, o options) int {
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	rep, err := run(ctx, o)
	if services.MaySkip(err) {
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
	case len(rep.Unchecked) > 0: // then nothing can be said about a planted bug either
		fmt.Fprintf(os.Stderr, "torture: not everything could be compared: %s (repeat with -seed %d)\n",
			strings.Join(rep.Unchecked, "; "), o.seed)
		return 1
	case o.mustFail && rep.wrong() != "":
		fmt.Printf("the planted bug was found: %s\n", rep.wrong())
		return 0
	case o.mustFail:
		fmt.Fprintln(os.Stderr, "torture: the planted bug was not found")
		return 1
	case !rep.Passed:
		fmt.Fprintf(os.Stderr, "torture: failed: %s (repeat with -seed %d)\n",
			strings.Join(append(rep.Failures, rep.wrong()), "; "), o.seed)
		return 1
	}
	return 0
}
