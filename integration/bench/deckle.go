package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"deckle/integration/services"
	"deckle/sim"
)

// variant is one way to deploy Deckle.
type variant struct {
	name     string
	nodes    int
	shards   int
	events   bool // every raw event in Delta
	guarded  bool // TLS between the nodes and at the HTTP side, sealed data folders
	interval time.Duration
	grace    time.Duration // default 5s
	idle     time.Duration // timeout of sessions, default 30m

	retention time.Duration // of sessions that are over, default 6h
}

var variants = []variant{
	{name: "deckle", nodes: 1, shards: 1},
	{name: "deckle_raw", nodes: 1, shards: 1, events: true},
	{name: "deckle3", nodes: 3, shards: 6},
	{name: "deckle_guarded", nodes: 1, shards: 1, guarded: true},
	{name: "deckle3_guarded", nodes: 3, shards: 6, guarded: true},
}

// shards3 is the number of shards of three nodes in the parts of -full. Each has one partition.
const shards3 = 6

// cluster are the nodes of one run.
type cluster struct {
	*services.Cluster
	w     *world
	v     variant
	topic string
	name  string // prefix of its tables in the bucket, and database
	dir   string

	slowest time.Duration // the slowest answer to look
}

const revisionInterval = 3 * time.Minute

// deploy writes the configurations of a new cluster: data folders, prefix and database are new.
func (w *world) deploy(v variant, topic string) (*cluster, error) {
	w.runs++
	name := fmt.Sprintf("%s_%d", v.name, w.runs)
	c := &cluster{w: w, v: v, topic: topic, name: name, dir: filepath.Join(w.dir, name)}
	var err error
	c.Cluster, err = services.NewCluster(services.ClusterOptions{
		Binary: w.binary, Dir: c.dir, Topic: topic, Bucket: bucket, Prefix: name, Database: name,
		Nodes: v.nodes, Shards: v.shards, Guarded: v.guarded,
		NoEvents: !v.events, FlushInterval: cmp.Or(v.interval, time.Second), Grace: cmp.Or(v.grace, 5*time.Second),
		IdleTimeout: v.idle, Retention: v.retention,
		IdleAfter: 5 * time.Second, RevisionInterval: revisionInterval, CommitWait: &w.opts.commitWait,
		LogLevel: "warn",
		Profiles: w.opts.profile != "",
	}, w.kafka, w.minio, w.click)
	return c, err
}

func (c *cluster) pids() []int {
	var pids []int
	for _, n := range c.Nodes {
		pids = append(pids, n.PID())
	}
	return pids
}

// kill ends the nodes and removes what they have on disk.
func (c *cluster) kill() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Kill())
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// status has the fields of /api/v1/status that are read here.
type status struct {
	Shards []struct {
		Shard        uint32            `json:"shard"`
		IsLeader     bool              `json:"is_leader"`
		LastClosed   uint64            `json:"last_closed_epoch"`
		Acked        map[string]uint64 `json:"acked_epochs"`
		OpenSessions int64             `json:"open_sessions"`
		Stopped      map[string]string `json:"stopped"`
		Partitions   []struct {
			Next int64 `json:"next_offset"`
		} `json:"partitions"`
	} `json:"shards"`
}

// progress is how far a cluster has come, as its leaders report it.
type progress struct {
	led    int    // shards with a leader
	taken  int64  // records that were applied
	open   int64  // sessions
	behind uint64 // closed epochs that some sink does not have yet, of all shards together
	late   uint64 // closed epochs that the sink revisions does not have yet: it lags behind by a pass
}

// progress asks every node. A shard without a leader is not counted.
func (c *cluster) progress(ctx context.Context) (progress, error) {
	var p progress
	for _, n := range c.Nodes {
		var st status
		if err := n.Get(ctx, "/api/v1/status", &st); err != nil {
			return p, err
		}
		for _, s := range st.Shards {
			if !s.IsLeader {
				continue
			}
			for what, why := range s.Stopped {
				return p, fmt.Errorf("%s: shard %d: %s stopped: %s", n.Name, s.Shard, what, why)
			}
			p.led++
			p.open += s.OpenSessions
			least := s.LastClosed
			for sink, acked := range s.Acked {
				if sink == "revisions" { // it lags behind by a pass
					p.late += s.LastClosed - acked
				} else {
					least = min(least, acked)
				}
			}
			p.behind += s.LastClosed - least
			for _, part := range s.Partitions {
				p.taken += part.Next
			}
		}
	}
	return p, nil
}

// consume lets a cluster work off a backlog, and measures what comes after the first warm records.
func (c *cluster) consume(ctx context.Context, b *backlog, warm int64) (*figures, error) {
	if err := c.up(ctx); err != nil {
		return nil, err
	}
	f := &figures{}
	var profiled chan error
	var opened, applied, rest time.Time // rest: the time since which all sessions are closed and in every sink
	var before, after time.Duration
	memory := followPeak(ctx, c.pids())
	defer memory.end()
	var first int64
	for {
		p, err := c.progress(ctx)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		if opened.IsZero() && p.taken >= warm {
			if p.taken >= b.records {
				return nil, fmt.Errorf("bench: all %d records were applied before the window opened: use more",
					b.records)
			}
			if before, err = cpuOf(c.pids()); err != nil {
				return nil, err
			}
			opened, first = now, p.taken
			if dir := c.w.opts.profile; dir != "" {
				profiled = make(chan error, 1)
				go func() { profiled <- c.profile(ctx, dir) }()
			}
		}
		if applied.IsZero() && p.taken >= b.records {
			applied = now
		}
		switch {
		case applied.IsZero() || p.open > 0 || p.behind > 0:
			rest = time.Time{}
		case rest.IsZero():
			if after, err = cpuOf(c.pids()); err != nil {
				return nil, err
			}
			rest = now
		}
		// The changes that the last sessions' ends have made are in an epoch that is closed within an interval: only
		// then nothing is left to do.
		if !rest.IsZero() && now.Sub(rest) > c.v.interval+2*time.Second {
			f.Events = b.records - first
			f.CPUSeconds = (after - before).Seconds()
			f.WallSeconds = rest.Sub(opened).Seconds()
			f.AppliedSeconds = applied.Sub(opened).Seconds()
			f.PeakRSS = memory.end()
			f.EventsPerCPUSecond = float64(f.Events) / f.CPUSeconds
			break
		}
		if err := sim.Pause(ctx, sampleEvery); err != nil {
			return nil, fmt.Errorf("bench: %s: %d of %d records applied, %d sessions open, sinks %d epochs behind: %w",
				c.v.name, p.taken, b.records, p.open, p.behind, err)
		}
	}
	err := c.written(ctx, b, f)
	if profiled != nil {
		err = errors.Join(err, <-profiled)
	}
	return f, err
}

// written fills in what the nodes report that they have written since they were started.
func (c *cluster) written(ctx context.Context, b *backlog, f *figures) error {
	log := 0.0
	f.Written = map[string]wrote{}
	for _, n := range c.Nodes {
		m, err := metricsOf(ctx, n)
		if err != nil {
			return err
		}
		log = max(log, sum(m["deckle_wal_written_bytes_total"], "")[""])
		for _, x := range []struct{ prefix, rows, bytes string }{
			{"delta.", "deckle_delta_rows_total", "deckle_delta_bytes_total"},
			{"clickhouse.", "deckle_clickhouse_rows_total", "deckle_clickhouse_bytes_total"},
		} {
			bytes := sum(m[x.bytes], "table")
			for table, rows := range sum(m[x.rows], "table") {
				t := f.Written[x.prefix+table]
				f.Written[x.prefix+table] = wrote{t.Rows + int64(rows), t.Bytes + int64(bytes[table])}
			}
		}
	}
	f.LogBytesPerEvent = log / float64(b.records) // of one replica
	return nil
}

// equal asks deckle verify whether all tables are what the backlog must result in.
func (c *cluster) equal(ctx context.Context, b *backlog) (bool, error) {
	cmd := exec.CommandContext(ctx, c.Binary, "verify", "--config", c.Nodes[0].Config,
		"--truth", string(b.truth), "--wait", "2m")
	cmd.Env = append(os.Environ(), c.Env()...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		c.w.say("%s is not equal to the truth:\n%s", c.v.name, out.String())
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("deckle verify: %w\n%s", err, out.String())
	}
	return true, nil
}

func metricsOf(ctx context.Context, n *services.Node) (map[string]*dto.MetricFamily, error) {
	body, err := n.Read(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(bytes.NewReader(body))
}

// sum adds up a family's counters or gauges by the value of a label; with "" it adds up all.
func sum(f *dto.MetricFamily, label string) map[string]float64 {
	out := map[string]float64{}
	for _, m := range f.GetMetric() {
		key := ""
		for _, l := range m.GetLabel() {
			if l.GetName() == label {
				key = l.GetValue()
			}
		}
		out[key] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return out
}

// timesOf adds up a histogram's seconds and number of observations by the value of a label.
func timesOf(f *dto.MetricFamily, label string) (seconds, count map[string]float64) {
	seconds, count = map[string]float64{}, map[string]float64{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == label {
				seconds[l.GetValue()] += m.GetHistogram().GetSampleSum()
				count[l.GetValue()] += float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return seconds, count
}

// up starts the nodes and waits until they are ready.
func (c *cluster) up(ctx context.Context) error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.WaitReady(ctx)
}
