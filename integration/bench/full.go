package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// part is one of the things that -full measures. It fills in its part of the report, even if it fails half-way.
type part struct {
	name  string
	limit func(o *options) time.Duration
	run   func(ctx context.Context, w *world, r *fullReport) error
}

// parts returns the parts in the order in which they are run. Those with a target come first. (It is no variable,
// because the parts refer to it.)
func parts() []part {
	fixed := func(d time.Duration) func(*options) time.Duration { return func(*options) time.Duration { return d } }
	windows := func(n int, more time.Duration) func(*options) time.Duration {
		return func(o *options) time.Duration { return time.Duration(n)*(o.warmUp+o.window) + more }
	}
	return []part{
		{"sessions", windows(3, 15*time.Minute), func(ctx context.Context, w *world, r *fullReport) (err error) {
			r.Sessions, err = w.sessionsPart(ctx)
			return err
		}},
		{"soak", func(o *options) time.Duration { return o.soak + 5*time.Minute },
			func(ctx context.Context, w *world, r *fullReport) (err error) {
				r.Soak, err = w.soakPart(ctx)
				return err
			}},
		{"latency", windows(2, 6*time.Minute), func(ctx context.Context, w *world, r *fullReport) (err error) {
			r.Latency, err = w.latencyPart(ctx)
			return err
		}},
		{"commits", fixed(15 * time.Minute), func(ctx context.Context, w *world, r *fullReport) (err error) {
			r.Commits, err = w.commitsPart(ctx)
			return err
		}},
		{"recovery", fixed(15 * time.Minute), func(ctx context.Context, w *world, r *fullReport) (err error) {
			r.Recovery, err = w.recoveryPart(ctx)
			return err
		}},
		{"outage", func(o *options) time.Duration { return 4*o.outage + 10*time.Minute },
			func(ctx context.Context, w *world, r *fullReport) (err error) {
				r.Outages, err = w.outagePart(ctx)
				return err
			}},
		{"late", windows(3, 8*time.Minute), func(ctx context.Context, w *world, r *fullReport) (err error) {
			r.Late, err = w.latePart(ctx)
			return err
		}},
		{"big", func(o *options) time.Duration {
			return time.Duration(len(bigShapes)*o.runs) * (o.warmUp + o.window + 2*time.Minute)
		},
			func(ctx context.Context, w *world, r *fullReport) (err error) {
				r.Big, err = w.bigPart(ctx)
				return err
			}},
	}
}

func partNames() []string {
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

// runFull runs the requested parts one after the other. The report has everything that was measured, even if a part
// failed.
func (w *world) runFull(ctx context.Context) error {
	names := strings.Split(w.opts.only, ",")
	for _, n := range names {
		if !slices.Contains(partNames(), n) {
			return fmt.Errorf("bench: there is no part %q of -full: %s", n, strings.Join(partNames(), ", "))
		}
	}
	r := &fullReport{CPUs: runtime.NumCPU(), Failed: map[string]string{}}
	var errs []error
	for _, p := range parts() {
		if !slices.Contains(names, p.name) {
			continue
		}
		limit := p.limit(&w.opts)
		w.say("%s: at most %s", p.name, limit)
		began := time.Now()
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return p.run(ctx, w, r)
		}()
		if err != nil {
			w.say("%s FAILED after %s: %v", p.name, time.Since(began).Round(time.Second), err)
			r.Failed[p.name] = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
		if err := r.write(w.opts.out); err != nil { // after each part: a later one may crash the program
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Print(r.markdown())
	return errors.Join(errs...)
}
