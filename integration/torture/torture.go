package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"deckle/integration/services"
)

// torture is one run: the cluster and its services, the producers, and the readers that watch.
type torture struct {
	*world
	sim   *services.Process
	probe *prober
	truth []string // files
	watch *watch
}

// workload starts the producers, and the readers once there are tables.
func (t *torture) workload(ctx context.Context) error {
	truth, probes := filepath.Join(t.dir, "truth.jsonl"), filepath.Join(t.dir, "probes.jsonl")
	t.truth = []string{truth, probes}
	t.sim = services.NewProcess("sim", t.dir, nil, t.Binary, "sim", "--brokers", t.kafka.Addr, "--topic", topic,
		"--rate", fmt.Sprint(t.opts.rate), "--sessions", "1000", "--seed", fmt.Sprint(t.opts.seed),
		"--truth", truth, "--json",
		"--duplicates", "0.02", "--late", "0.01", "--malformed", "0.005", "--out-of-order", "0.02")
	if err := t.sim.Start(); err != nil {
		return err
	}
	var err error
	if t.probe, err = newProber(t.kafka.Addr, probes, t.opts.seed); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := t.progress(wait); err != nil {
		return err
	}
	if t.watch, err = t.startWatch(); err != nil {
		return err
	}
	t.say("%d events/s flow through all sinks", t.opts.rate)
	return nil
}

// endWorkload ends the simulator and the prober; then their truths are complete.
func (t *torture) endWorkload() error {
	if err := t.sim.Stop(2 * time.Minute); err != nil {
		return err
	}
	if err := t.sim.Err(); err != nil {
		return fmt.Errorf("%w\n%s", err, t.sim.Tail(3000))
	}
	return t.probe.close()
}

// end ends everything that was started.
func (t *torture) end() error {
	var err error
	if t.sim != nil {
		err = t.sim.Kill()
	}
	return errors.Join(err, t.world.end())
}
