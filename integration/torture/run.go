package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"deckle/integration/services"
)

// run does everything. It returns a report, with an error or without, unless the nodes were never ready.
func run(ctx context.Context, o options) (rep *report, err error) {
	t := &torture{world: &world{opts: o, root: ".", began: time.Now(), rng: rand.New(rand.NewPCG(o.seed, 1))}}
	if t.dir, err = services.Folder(o.dir, "deckle-torture-"); err != nil {
		return nil, err
	}
	if err := t.dataFolder(); err != nil {
		return nil, err
	}
	t.say("seed %d, at least %d kills, deletion vectors %t; configurations and logs in %s, data in %s", o.seed, o.kills,
		o.vectors, t.dir, t.data)
	defer func() {
		err = errors.Join(err, t.end())
		passed := err == nil && (rep.Passed || o.mustFail && rep.wrong() != "")
		if passed && !o.keep {
			err = os.RemoveAll(t.dir)
		} else {
			t.say("configurations and logs are kept in %s", t.dir)
		}
		if t.data != t.dir && !o.keep { // data in memory are not kept
			err = errors.Join(err, os.RemoveAll(t.data))
		}
	}()
	if err := t.start(ctx); err != nil {
		return nil, err
	}
	t.say("three nodes are ready")
	rep = newReport(o)
	if rep.DataIn = "disk"; strings.HasPrefix(t.data, memory) {
		rep.DataIn = "memory"
	}
	if err := t.workload(ctx); err != nil {
		return nil, err
	}
	rounds := plan(t.rng, t.points, o)
	for i, r := range rounds {
		if err := t.round(ctx, rep, i, len(rounds), r); err != nil {
			rep.Failures = append(rep.Failures, fmt.Sprintf("round %d, %s: %v", i+1, r.kind, err))
			t.say("FAILED: %v", err)
			break
		}
	}
	t.finish(ctx, rep)
	return rep, nil
}

// round runs one round and waits until the cluster makes progress again.
func (t *torture) round(ctx context.Context, rep *report, i, n int, r round) error {
	began := time.Now()
	var res result
	err := r.run(ctx, t, &res)
	t.heal()
	ended := time.Now()
	if err == nil {
		err = t.afterwards(ctx)
	}
	rep.add(r.kind, &res)
	line := fmt.Sprintf("%d/%d %s: %s", i+1, n, r.kind, res.detail)
	if rec := cmp.Or(res.recovery, res.all, res.calm); rec != nil && err == nil {
		line += fmt.Sprintf("; visible after %d ms in Delta, %d ms in ClickHouse, closed sessions after %d ms",
			rec.events.Milliseconds(), rec.clickhouse.Milliseconds(), rec.sessions.Milliseconds())
	}
	if res.follow > 0 {
		line += fmt.Sprintf("; caught up after %d ms", res.follow.Milliseconds())
	}
	if res.rejoin > 0 {
		line += fmt.Sprintf("; a member again after %d ms", res.rejoin.Milliseconds())
	}
	count, _ := t.watch.found.List()
	t.say("%s; progress again after %.1f s (round of %.1f s, %d kills, %d violations so far)", line,
		time.Since(ended).Seconds(), time.Since(began).Seconds(), rep.Kills, count)
	return err
}

// afterwards starts the nodes that are down and waits until all nodes have caught up and all sinks make progress.
func (t *torture) afterwards(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for i, n := range t.Nodes {
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
		if err := t.catchUp(ctx, i); err != nil {
			return err
		}
	}
	if err := t.progress(ctx); err != nil {
		return err
	}
	select {
	case <-t.sim.Done():
		return fmt.Errorf("the simulator has ended by itself (%w):\n%s", t.sim.Err(), t.sim.Tail(3000))
	default:
		return nil
	}
}
