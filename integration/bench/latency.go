package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"deckle/integration/services"
	"deckle/sim"
)

// latencyFigures are those of one load and flush interval: three nodes, raw events on.
type latencyFigures struct {
	Interval   float64   `json:"flush_interval_seconds"`
	Records    int       `json:"records"` // of the window
	Events     quantiles `json:"delta_events"`
	ClickHouse quantiles `json:"clickhouse"`
	Window     *window   `json:"window"`
}

// quantiles are seconds from production to visibility.
type quantiles struct {
	P50 float64 `json:"p50_seconds"`
	P99 float64 `json:"p99_seconds"`
	Max float64 `json:"max_seconds"`
}

func quantilesOf(d delays) quantiles { return quantiles{d.seconds(0.5), d.seconds(0.99), d.seconds(1)} }

func (w *world) latencyPart(ctx context.Context) (all []*latencyFigures, err error) {
	for text := range strings.SplitSeq(w.opts.intervals, ",") {
		interval, err := time.ParseDuration(text)
		if err != nil {
			return all, fmt.Errorf("bench: -intervals: %w", err)
		}
		v := variant{name: "latency", interval: interval}
		f, err := w.latency(ctx, v, sim.Options{Rate: w.opts.rate, Sessions: liveSessions}, w.opts.window, nil)
		if err != nil {
			return all, fmt.Errorf("interval %s: %w", interval, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// latency runs three nodes under a load. After it everything must be visible, and exactly as much as was produced. Then
// it calls then, unless that is nil.
func (w *world) latency(
	ctx context.Context, v variant, o sim.Options, length time.Duration, then func(*cluster, *load) error,
) (f *latencyFigures, err error) {
	v.nodes, v.shards, v.events = 3, shards3, true
	c, err := w.fresh(ctx, v, shards3)
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
	l, err := w.produce(ctx, c.topic, o)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	if err := sim.Pause(ctx, max(w.opts.warmUp, 2*v.interval)); err != nil {
		return nil, err
	}
	f = &latencyFigures{Interval: v.interval.Seconds()}
	if f.Window, err = c.observe(ctx, l, length); err != nil {
		return nil, err
	}
	if err := l.end(); err != nil {
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
	w.say("%s: %d records; Delta events p50 %.2f p99 %.2f max %.2f s; ClickHouse p50 %.2f p99 %.2f max %.2f s",
		c.name, f.Records, f.Events.P50, f.Events.P99, f.Events.Max,
		f.ClickHouse.P50, f.ClickHouse.P99, f.ClickHouse.Max)
	// The ledger is what Deckle says. So the rows are counted, too.
	rows, err := h.click.Count(ctx, "session_metrics")
	if err != nil {
		return nil, err
	}
	if rows != uint64(l.ended) {
		return nil, fmt.Errorf("bench: ClickHouse has %d sessions, %d were produced", rows, l.ended)
	}
	if then != nil {
		err = then(c, l)
	}
	return f, err
}

// lateFigures are those of a load of which one event in a hundred comes late.
type lateFigures struct {
	latencyFigures
	Late      int64   `json:"late_events"`
	Passes    int64   `json:"revision_commits"`
	Inserted  int64   `json:"inserted_bytes"`  // into table sessions, by the first commit of each session
	Rewritten int64   `json:"rewritten_bytes"` // of data files that replace others
	Files     int64   `json:"replaced_files"`
	Rows      int64   `json:"rewritten_rows"`
	PerEvent  float64 `json:"rewritten_bytes_per_event"` // of all events of the run
}

// lateGrace is short, and a session goes on for about twelve seconds, so that the sessions of most late events are
// closed already, with their rows in Delta.
const lateGrace = time.Second

func (w *world) latePart(ctx context.Context) (*lateFigures, error) {
	f := &lateFigures{}
	o := sim.Options{Rate: w.opts.rate, Sessions: max(int(w.opts.rate), 1), Faults: sim.Faults{Late: 0.01}}
	v := variant{name: "late", interval: 10 * time.Second, grace: lateGrace}
	l, err := w.latency(ctx, v, o, 3*w.opts.window, func(c *cluster, l *load) error {
		acked := l.sim.Stats().Acked
		if err := c.rest(ctx, acked, true); err != nil {
			return err
		}
		f.Late = l.late
		if err := c.rewritten(ctx, f); err != nil {
			return err
		}
		f.PerEvent = float64(f.Rewritten) / float64(acked)
		w.say("%s: %d late events; Delta sessions: %d MiB inserted, %d MiB rewritten by %d commits (%d files, "+
			"%d rows), %.0f bytes per event", c.name, f.Late, f.Inserted>>20, f.Rewritten>>20, f.Passes,
			f.Files, f.Rows, f.PerEvent)
		if f.Passes == 0 || f.Rewritten == 0 {
			return errors.New("bench: nothing was revised: the run was too short for a pass of revisions")
		}
		return nil
	})
	if l != nil {
		f.latencyFigures = *l
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// rewritten reads the whole log of table sessions, and adds up what was inserted and what was replaced.
func (c *cluster) rewritten(ctx context.Context, f *lateFigures) error {
	store, err := c.w.minio.Client()
	if err != nil {
		return err
	}
	for version := 0; ; version++ {
		path := fmt.Sprintf("%s/sessions/_delta_log/%020d.json", c.name, version)
		body, err := services.ReadObject(ctx, store, bucket, path)
		if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound && version > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		d, err := parseCommit(body)
		if err != nil {
			return fmt.Errorf("sessions, version %d: %w", version, err)
		}
		if d.removes > 0 {
			f.Passes++
			f.Files += d.removes
		}
		for _, a := range d.adds {
			// A file that replaces another keeps that one's tags; a file with inserted rows, which the same commit may
			// have, has the epoch of the commit.
			if d.removes > 0 && !d.inserts(a) {
				f.Rewritten, f.Rows = f.Rewritten+a.size, f.Rows+a.rows
			} else {
				f.Inserted += a.size
			}
		}
	}
}
