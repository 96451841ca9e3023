package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go"

	"deckle/sim"
	"deckle/sinks/delta/store"
)

// watch are the readers that look at both sinks all the time.
type watch struct {
	v     *violations
	delta *deltaWatch
	click *clickWatch
	stop  context.CancelFunc
	done  sync.WaitGroup
}

func (w *world) clickConn() *clickConn {
	return &clickConn{opts: ch.Options{Address: w.click.Addr, User: w.click.User, Password: w.click.Password, Database: database}}
}

func (w *world) startWatch() (*watch, error) {
	client, err := w.minio.Client()
	if err != nil {
		return nil, err
	}
	st, err := store.NewS3(store.S3Options{Endpoint: "http://" + w.minio.Addr, Bucket: bucket, Region: "us-east-1",
		Credentials: store.StaticCredentials(w.minio.AccessKey, w.minio.SecretKey)})
	if err != nil {
		return nil, err
	}
	v := newViolations()
	x := &watch{v: v, delta: newDeltaWatch(client, bucket, st, v), click: &clickWatch{conn: w.clickConn(), db: database, history: newClickHistory(v)}}
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	x.done.Go(func() { x.delta.follow(ctx, "events") })
	x.done.Go(func() { x.delta.follow(ctx, "sessions") })
	x.done.Go(func() { x.delta.snapshots(ctx, 10*time.Second) })
	x.done.Go(func() { x.click.follow(ctx) })
	return x, nil
}

// finish stops what is produced, lets everything come to rest, and compares it with the truth in every way there is. What
// cannot be compared stands in the report, and keeps nothing else out of it.
func (w *world) finish(ctx context.Context, rep *report) {
	defer rep.complete(w.opts.kills)
	check := func(what string, err error) bool {
		if err != nil {
			rep.Unchecked = append(rep.Unchecked, fmt.Sprintf("%s: %v", what, err))
			w.say("NOT COMPARED: %s: %v", what, err)
		}
		return err == nil
	}
	w.heal()
	for _, n := range w.Nodes {
		if n.PID() == 0 {
			check("start", n.Start())
		}
	}
	w.say("the simulator ends")
	ended := check("the simulator", w.endWorkload())
	if ended && check("deckle verify", w.verify(ctx, rep)) {
		w.say("deckle verify: equal %v", rep.VerifyEqual)
	}
	w.watch.stop()
	w.watch.done.Wait()
	w.watched(rep)
	if !ended {
		return // there is no whole truth
	}
	check("offsets", w.offsets(ctx, rep))
	if check("the independent readers", w.readers(ctx, rep)) {
		w.say("independent readers agree: %v", rep.ReadersAgree)
	}
}

// endWorkload ends the simulator and the probe, whose truths are whole then.
func (w *world) endWorkload() error {
	if err := w.sim.Stop(2 * time.Minute); err != nil {
		return err
	}
	if err := w.sim.Err(); err != nil {
		return fmt.Errorf("%w\n%s", err, w.sim.Tail(3000))
	}
	return w.probe.close()
}

// watched puts what the readers have seen into the report.
func (w *world) watched(rep *report) {
	d, c := w.watch.delta, w.watch.click
	rep.Violations, rep.FirstViolations = w.watch.v.list()
	if d.next["events"] == 0 || d.next["sessions"] == 0 || d.replayed == 0 || c.full == 0 || c.history.exact == 0 {
		rep.Failures = append(rep.Failures, fmt.Sprintf("a reader has seen nothing: the last failures are %v and %v", d.failed, c.failed))
	}
	rep.Watched = watched{
		EventVersions: d.next["events"], SessionVersions: d.next["sessions"], Snapshots: d.replayed, Looks: c.looks,
		FullLooks: c.full, AtRest: c.history.exact, SlowestLookMS: c.slowest.Milliseconds(), Failed: d.failures + c.failures,
	}
}

// verify asks deckle verify.
func (w *world) verify(ctx context.Context, rep *report) error {
	cmd := exec.CommandContext(ctx, w.Binary, "verify", "--config", w.Nodes[0].Config, "--truth", strings.Join(w.truth, ","),
		"--wait", "5m", "--json")
	cmd.Env = append(os.Environ(), w.Env()...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	var r struct {
		Produced int64 `json:"produced_events"`
		Equal    bool  `json:"equal"`
		Tables   map[string]struct {
			Different int64 `json:"different"`
		} `json:"tables"`
	}
	if jsonErr := json.Unmarshal(lines[len(lines)-1], &r); jsonErr != nil {
		return fmt.Errorf("%w\n%s\n%s", errors.Join(err, jsonErr), out.Bytes(), errs.Bytes())
	}
	rep.Events, rep.VerifyEqual = r.Produced, r.Equal && err == nil
	for name, t := range r.Tables {
		switch name {
		case "delta.events":
		case "delta.sessions", "clickhouse.session_metrics", "clickhouse.page_analytics":
			rep.MismatchedSessions += t.Different
		default:
			rep.MismatchedRollups += t.Different
		}
	}
	if !rep.VerifyEqual {
		fmt.Println(string(bytes.Join(lines[:len(lines)-1], []byte("\n"))))
	}
	return nil
}

// offsets counts the records that either sink lacks or has twice: in Delta by their offsets, in ClickHouse, which keeps
// none, by the events that each session counts.
func (w *world) offsets(ctx context.Context, rep *report) error {
	type key struct{ session, origin string }
	counted := map[key]int64{}
	conn := w.clickConn()
	defer conn.close()
	err := conn.rows(ctx, 2, 1, func(t []string, n []int64) { counted[key{t[0], t[1]}] += n[0] },
		"SELECT session_id, origin, toInt64(total_events) FROM %s.session_metrics", database)
	if err != nil {
		return err
	}
	h := w.watch.delta.events
	rep.Duplicated = h.doubled
	extra := int64(0)
	for _, set := range h.partitions {
		extra += set.n
	}
	for _, path := range w.truth {
		err := sim.TruthFile(path).Each(func(l sim.Line) error {
			if l.Session == nil {
				return nil
			}
			for _, e := range l.Session.Events {
				if set := h.partitions[e.Partition]; set != nil && set.has(e.Offset) {
					extra--
				} else {
					rep.Lost++
				}
			}
			if l.Session.TotalEvents > 0 {
				k := key{l.Session.SessionID, l.Session.Origins[0].Position}
				rep.Lost += max(0, l.Session.TotalEvents-counted[k])
				rep.Duplicated += max(0, counted[k]-l.Session.TotalEvents)
				delete(counted, k)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, n := range counted { // of no session that there should be
		extra += n
	}
	rep.Duplicated += extra
	return nil
}

// readerTables is how many tables readers.py compares.
const readerTables = 13

// readers asks the readers that nobody here wrote.
func (w *world) readers(ctx context.Context, rep *report) error {
	mirror := filepath.Join(w.dir, "mirror") // DuckDB's extension reads local tables
	if err := w.minio.Mirror(ctx, bucket, "", mirror); err != nil {
		return err
	}
	settings := filepath.Join(w.dir, "readers.json")
	b, err := json.Marshal(map[string]any{
		"truth": w.truth, "bucket": bucket, "mirror": mirror, "database": database,
		"s3_endpoint": "http://" + w.minio.Addr, "s3_access_key": w.minio.AccessKey, "s3_secret_key": w.minio.SecretKey,
		"clickhouse": w.click.Addr, "clickhouse_user": w.click.User, "clickhouse_password": w.click.Password,
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(settings, b, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, w.python, filepath.Join(w.root, "integration", "readers.py"), settings)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var r map[string]map[string]struct {
		Rows  int64 `json:"rows"`
		Equal bool  `json:"equal"`
	}
	if jsonErr := json.Unmarshal(out.Bytes(), &r); jsonErr != nil {
		return fmt.Errorf("%w\n%s", errors.Join(err, jsonErr), errs.Bytes())
	}
	tables := 0
	rep.ReadersAgree = err == nil
	for _, ts := range r {
		for _, t := range ts {
			tables++
			rep.ReadersAgree = rep.ReadersAgree && t.Equal && t.Rows > 0
		}
	}
	if tables != readerTables {
		return fmt.Errorf("%d tables compared, not %d", tables, readerTables)
	}
	if !rep.ReadersAgree {
		fmt.Println(out.String())
	}
	return nil
}
