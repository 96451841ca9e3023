package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"deckle/sim"
)

// recoveryFigures are those of one node that was killed with a large state.
type recoveryFigures struct {
	State     int64   `json:"state_bytes"` // on disk
	DiskBytes int64   `json:"disk_bytes"`  // of the data folder, log included
	Events    int64   `json:"events"`
	Ready     float64 `json:"ready_seconds"`   // from the start of the process until it says that it is ready
	Applied   float64 `json:"applied_seconds"` // until it has applied all records that came while it was down
	Waiting   int64   `json:"waiting_records"` // those that came meanwhile
	PSS       int64   `json:"pss_bytes"`       // then
}

// recoveryPart fills a node's state (sessions that are over stay in it for the retention), kills the node in the middle
// of an epoch and starts it again.
func (w *world) recoveryPart(ctx context.Context) (f *recoveryFigures, err error) {
	v := variant{name: "recovery", nodes: 1, shards: 1, interval: 10 * time.Second}
	c, err := w.fresh(ctx, v, partitions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.kill()) }()
	if err := c.up(ctx); err != nil {
		return nil, err
	}
	l, err := w.produce(ctx, c.topic, sim.Options{Sessions: liveSessions, Rate: 2 * w.opts.rate})
	if err != nil {
		return nil, err
	}
	defer l.stop()
	f = &recoveryFigures{}
	var disk onDisk
	for said := time.Now(); disk.state < w.opts.stateBytes; {
		if err := sim.Pause(ctx, time.Second); err != nil {
			return nil, fmt.Errorf("%d of %d bytes of state: %w", disk.state, w.opts.stateBytes, err)
		}
		if disk, err = c.diskBytes(); err != nil {
			return nil, err
		}
		if time.Since(said) > 20*time.Second {
			said = time.Now()
			w.say("%s: %d MiB of state after %d records", c.name, disk.state>>20, l.sim.Stats().Acked)
		}
	}
	if err := l.end(); err != nil {
		return nil, err
	}
	acked := l.sim.Stats().Acked
	if err := c.rest(ctx, acked, false); err != nil {
		return nil, err
	}
	// The node is not at rest: a crash costs most in the middle of an epoch.
	o := sim.Options{Sessions: liveSessions, Rate: w.opts.rate / 2, Seed: w.opts.seed + 1}
	more, err := w.produce(ctx, c.topic, o)
	if err != nil {
		return nil, err
	}
	defer more.stop()
	if err := sim.Pause(ctx, 8*time.Second); err != nil {
		return nil, err
	}
	p, err := c.look(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.Nodes[0].Kill(); err != nil {
		return nil, err
	}
	if err := more.end(); err != nil {
		return nil, err
	}
	total := acked + more.sim.Stats().Acked
	f.Events, f.Waiting = p.taken, total-p.taken
	if disk, err = c.diskBytes(); err != nil {
		return nil, err
	}
	f.State, f.DiskBytes = disk.state, disk.all
	began := time.Now()
	if err := c.up(ctx); err != nil {
		return nil, err
	}
	f.Ready = time.Since(began).Seconds()
	for {
		p, err := c.look(ctx)
		if err != nil {
			return nil, err
		}
		if p.taken >= total {
			break
		}
		if err := sim.Pause(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	f.Applied = time.Since(began).Seconds()
	if f.PSS, err = pssOf(c.pids()); err != nil {
		return nil, err
	}
	w.say("%s: %d MiB of state, %d MiB on disk: ready after %.2f s, %d waiting records applied after %.2f s, "+
		"PSS %d MiB",
		c.name, f.State>>20, f.DiskBytes>>20, f.Ready, f.Waiting, f.Applied, f.PSS>>20)
	return f, nil
}

// outageFigures are those of one node while a service is down.
type outageFigures struct {
	Down     string  `json:"down"` // "" for none, as a comparison
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"events_per_second"` // applied
	Growth   float64 `json:"bytes_per_second"`  // of the data folder: the slope of a line through the samples
	PerEvent float64 `json:"bytes_per_event"`
	Hour     float64 `json:"extrapolated_bytes_per_hour"`
	Before   int64   `json:"disk_bytes_before"`
	After    int64   `json:"disk_bytes_after"`
	CatchUp  float64 `json:"catch_up_seconds"` // from the service's return until no sink is behind, under the same load
}

func (w *world) outagePart(ctx context.Context) (all []*outageFigures, err error) {
	for _, down := range []string{"", "clickhouse", "delta"} {
		f, err := w.outageOf(ctx, down)
		if err != nil {
			return all, fmt.Errorf("%q down: %w", down, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// outageOf runs one node under a load, raw events on, and kills a service.
func (w *world) outageOf(ctx context.Context, down string) (f *outageFigures, err error) {
	v := variant{name: "outage" + down, nodes: 1, shards: 1, events: true, interval: 10 * time.Second}
	c, err := w.fresh(ctx, v, partitions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.kill()) }()
	if err := c.up(ctx); err != nil {
		return nil, err
	}
	l, err := w.produce(ctx, c.topic, sim.Options{Rate: w.opts.outageRate, Sessions: liveSessions})
	if err != nil {
		return nil, err
	}
	defer l.stop()
	if err := sim.Pause(ctx, 2*v.interval); err != nil {
		return nil, err
	}
	back := func(context.Context) error { return nil }
	switch down {
	case "clickhouse":
		back, err = w.click.Up, w.click.Kill()
	case "delta":
		back, err = w.minio.Up, w.minio.Kill()
	}
	if err != nil {
		return nil, err
	}
	returned := false
	defer func() { // the next part needs it
		if !returned {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, back(ctx))
		}
	}()
	f = &outageFigures{Down: down}
	disk, err := c.diskBytes()
	if err != nil {
		return nil, err
	}
	f.Before = disk.all
	first, err := c.allLed(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	var line slope
	for time.Since(began) < w.opts.outage {
		if disk, err = c.diskBytes(); err != nil {
			return nil, err
		}
		f.After = disk.all
		line.add(time.Since(began).Seconds(), float64(f.After))
		if err := sim.Pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	last, err := c.allLed(ctx)
	if err != nil {
		return nil, err
	}
	f.Seconds = time.Since(began).Seconds()
	if down != "" && last.behind == 0 {
		return nil, errors.New("bench: no sink is behind although a service is down")
	}
	f.Rate, f.Growth = float64(last.taken-first.taken)/f.Seconds, line.get()
	f.PerEvent, f.Hour = f.Growth/f.Rate, f.Growth*3600
	returned = true
	if err := back(ctx); err != nil {
		return nil, err
	}
	began = time.Now()
	for down != "" {
		p, err := c.look(ctx)
		if err != nil {
			return nil, err
		}
		if p.behind == 0 {
			f.CatchUp = time.Since(began).Seconds()
			break
		}
		if err := sim.Pause(ctx, sampleEvery); err != nil {
			return nil, fmt.Errorf("sinks are %d epochs behind: %w", p.behind, err)
		}
	}
	w.say("%s: %.0f events/s for %.0f s, disk %d → %d MiB: %.0f bytes per event, %.2f GiB per hour if it goes on "+
		"like that; caught up in %.1f s", c.name, f.Rate, f.Seconds, f.Before>>20, f.After>>20,
		f.PerEvent, f.Hour/(1<<30), f.CatchUp)
	return f, l.end()
}

// slope fits a line through points by least squares: compactions and truncated segments make the samples go up and
// down.
type slope struct{ n, x, y, xx, xy float64 }

func (s *slope) add(x, y float64) {
	s.n++
	s.x, s.y, s.xx, s.xy = s.x+x, s.y+y, s.xx+x*x, s.xy+x*y
}

func (s *slope) get() float64 {
	if d := s.n*s.xx - s.x*s.x; d > 0 {
		return (s.n*s.xy - s.x*s.y) / d
	}
	return 0
}
