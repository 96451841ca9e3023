package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"deckle/sim"
)

// openFigures are those of one node whose state has many open sessions, while the load touches as many sessions as in
// every other window.
type openFigures struct {
	Idle      int64   `json:"idle_sessions"`
	Window    *window `json:"window"`
	Before    int64   `json:"pss_bytes_before"`       // with the sessions, at rest, before the load
	DiskBytes int64   `json:"disk_bytes"`             // of the data folder, at the end
	Slowest   float64 `json:"slowest_status_seconds"` // longest wait for the status while the sessions were preloaded
	Resident  int64   `json:"resident_sessions"`      // in memory, at the end
	Estimate  int64   `json:"session_memory_bytes"`   // their memory, by the node's own estimate
}

// numbers reads a flag's list of numbers.
func numbers(list string) ([]int64, error) {
	var out []int64
	for f := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		out = append(out, n)
	}
	return out, nil
}

func (w *world) sessionsPart(ctx context.Context) (all []*openFigures, err error) {
	sizes, err := numbers(w.opts.open)
	if err != nil {
		return nil, err
	}
	for _, n := range sizes {
		f, err := w.openSessions(ctx, n)
		if err != nil {
			return all, fmt.Errorf("%d sessions: %w", n, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// openSessions preloads a node with n sessions that stay open, waits until they are in every sink, and then measures a
// load.
func (w *world) openSessions(ctx context.Context, n int64) (f *openFigures, err error) {
	v := variant{name: fmt.Sprintf("open%d", n), nodes: 1, shards: 1, interval: 10 * time.Second, idle: 5 * time.Hour}
	c, err := w.fresh(ctx, v, partitions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.kill()) }()
	if err := w.preload(ctx, c.topic, n); err != nil {
		return nil, err
	}
	if err := c.up(ctx); err != nil {
		return nil, err
	}
	if err := c.rest(ctx, n, false); err != nil {
		return nil, err
	}
	p, err := c.look(ctx)
	if err != nil {
		return nil, err
	}
	if p.open != n {
		return nil, fmt.Errorf("bench: %d sessions are open after %d were preloaded", p.open, n)
	}
	f = &openFigures{Idle: n}
	if f.Before, err = pssOf(c.pids()); err != nil {
		return nil, err
	}
	f.Slowest = c.slowest.Seconds()
	w.say("%s: preloaded, PSS %d MiB, slowest answer of /api/v1/status %.1f s", c.name, f.Before>>20, f.Slowest)
	l, err := w.produce(ctx, c.topic, sim.Options{Rate: w.opts.rate, Sessions: liveSessions})
	if err != nil {
		return nil, err
	}
	defer l.stop()
	l.from = n
	if err := sim.Pause(ctx, w.opts.warmUp); err != nil {
		return nil, err
	}
	if f.Window, err = c.observe(ctx, l, w.opts.window); err != nil {
		return nil, err
	}
	if f.Window.Open < n {
		return nil, fmt.Errorf("bench: only %d sessions are open: the idle ones should have stayed open", f.Window.Open)
	}
	disk, err := c.diskBytes()
	if err != nil {
		return nil, err
	}
	f.DiskBytes = disk.all
	m, err := metricsOf(ctx, c.Nodes[0])
	if err != nil {
		return nil, err
	}
	f.Resident = int64(sum(m["deckle_state_resident_sessions"], "")[""])
	f.Estimate = int64(sum(m["deckle_state_memory_bytes"], "")[""])
	w.say("%s: %d sessions in memory, %d MiB by the node's own estimate", c.name, f.Resident, f.Estimate>>20)
	return f, l.end()
}

// commitFigures are those of one node with a short interval.
type commitFigures struct {
	From       int64   `json:"commits_from"` // version of table events when the window opened
	To         int64   `json:"commits_to"`   // and when it closed
	Window     *window `json:"window"`
	Commit     float64 `json:"commit_seconds"`     // mean in the window, table events
	Checkpoint float64 `json:"checkpoint_seconds"` // mean in the window, table events; one every tenth commit
	Flush      float64 `json:"flush_seconds"`      // mean of a plan of the sink events: data file and commit
}

const (
	commitInterval = 250 * time.Millisecond
	commitWindow   = 15 * time.Second
	commitRate     = 5_000
)

// commitsPart lets sessions end, be closed and be forgotten within half a minute, so that windows differ neither by
// table sessions, which gets commits only once sessions are closed, nor by a growing state.
func (w *world) commitsPart(ctx context.Context) (all []*commitFigures, err error) {
	at, err := numbers(w.opts.commits)
	if err != nil {
		return all, err
	}
	v := variant{name: "commits", nodes: 1, shards: 1, events: true, interval: commitInterval,
		grace: time.Second, idle: 10 * time.Second, retention: 15 * time.Second}
	c, err := w.fresh(ctx, v, partitions)
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, c.kill()) }()
	if err := c.up(ctx); err != nil {
		return all, err
	}
	l, err := w.produce(ctx, c.topic, sim.Options{Rate: min(commitRate, w.opts.rate), Sessions: 500})
	if err != nil {
		return all, err
	}
	defer l.stop()
	for _, n := range at {
		before, err := c.commits(ctx)
		for err == nil && before.version < n {
			if err = sim.Pause(ctx, sampleEvery); err == nil {
				before, err = c.commits(ctx)
			}
		}
		if err != nil {
			return all, fmt.Errorf("until %d commits: %w", n, err)
		}
		f := &commitFigures{From: before.version}
		if f.Window, err = c.observe(ctx, l, commitWindow); err != nil {
			return all, err
		}
		after, err := c.commits(ctx)
		if err != nil {
			return all, err
		}
		f.To = after.version
		f.Commit, f.Checkpoint = after.commit.since(before.commit), after.checkpoint.since(before.checkpoint)
		f.Flush = after.flush.since(before.flush)
		w.say("%s: commits %d to %d: %.1f ms per commit, %.1f ms per checkpoint, %.1f ms per plan",
			c.name, f.From, f.To, f.Commit*1e3, f.Checkpoint*1e3, f.Flush*1e3)
		all = append(all, f)
	}
	return all, l.end()
}

// times are the sum and the count of a histogram.
type times struct{ seconds, count float64 }

// since is the mean of the observations that came after an earlier look, 0 if none did.
func (t times) since(o times) float64 {
	if t.count == o.count {
		return 0
	}
	return (t.seconds - o.seconds) / (t.count - o.count)
}

// commitState is what a single node says of the table events.
type commitState struct {
	version                   int64
	commit, checkpoint, flush times
}

func (c *cluster) commits(ctx context.Context) (s commitState, err error) {
	m, err := metricsOf(ctx, c.Nodes[0])
	if err != nil {
		return s, err
	}
	s.version = int64(sum(m["deckle_delta_log_version"], "table")["events"])
	for _, x := range []struct {
		name, label string
		to          *times
	}{
		{"deckle_delta_commit_seconds", "table", &s.commit},
		{"deckle_delta_checkpoint_seconds", "table", &s.checkpoint},
		{"deckle_sink_flush_seconds", "sink", &s.flush},
	} {
		seconds, count := timesOf(m[x.name], x.label)
		*x.to = times{seconds["events"], count["events"]}
	}
	return s, nil
}

// soakFigures are those of three nodes, raw events on, under a load that does not change.
type soakFigures struct {
	Window  *window `json:"window"`          // from the start of the load on
	Minutes []int64 `json:"pss_bytes"`       // median of each minute, all nodes together
	First   int64   `json:"pss_first_bytes"` // median of the half minute after the first minute
	Last    int64   `json:"pss_last_bytes"`  // median of the last half minute
	Ratio   float64 `json:"last_to_first"`
}

func (w *world) soakPart(ctx context.Context) (f *soakFigures, err error) {
	if w.opts.soak < 2*time.Minute {
		return nil, errors.New("bench: a soak must last two minutes at least, to have something to compare")
	}
	v := variant{name: "soak", nodes: 3, shards: shards3, events: true, interval: 10 * time.Second}
	c, err := w.fresh(ctx, v, shards3)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.kill()) }()
	if err := c.up(ctx); err != nil {
		return nil, err
	}
	l, err := w.produce(ctx, c.topic, sim.Options{Rate: w.opts.soakRate, Sessions: liveSessions,
		Faults: sim.Faults{Late: w.opts.soakLate}})
	if err != nil {
		return nil, err
	}
	defer l.stop()
	win, err := c.observe(ctx, l, w.opts.soak)
	if err != nil {
		return nil, err
	}
	f = soakOf(win)
	w.say("%s: PSS %d MiB after the first minute, %d MiB at the end: %.2f",
		c.name, f.First>>20, f.Last>>20, f.Ratio)
	return f, l.end()
}

// soakOf compares the samples, which are spread evenly over the window.
func soakOf(win *window) *soakFigures {
	f := &soakFigures{Window: win}
	between := func(from, to float64) int64 {
		at := func(s float64) int { return min(max(int(s/win.Seconds*float64(len(win.memory))), 0), len(win.memory)) }
		return middle(win.memory[at(from):at(to)])
	}
	for s := 0.0; s+60 <= win.Seconds+1; s += 60 {
		f.Minutes = append(f.Minutes, between(s, s+60))
	}
	f.First, f.Last = between(60, 90), between(win.Seconds-30, win.Seconds)
	f.Ratio = float64(f.Last) / float64(f.First)
	return f
}
