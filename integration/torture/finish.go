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

	"deckle/sim"
)

// finish stops the producers, waits until everything is at rest, and compares it with the truth in every way there is.
// What cannot be compared is named in the report; everything else is compared nevertheless.
func (t *torture) finish(ctx context.Context, rep *report) {
	defer rep.complete(t.opts.kills)
	check := func(what string, err error) bool {
		if err != nil {
			rep.Unchecked = append(rep.Unchecked, fmt.Sprintf("%s: %v", what, err))
			t.say("NOT COMPARED: %s: %v", what, err)
		}
		return err == nil
	}
	t.heal()
	for _, n := range t.Nodes {
		if n.PID() == 0 {
			check("start", n.Start())
		}
	}
	t.say("the simulator ends")
	ended := check("the simulator", t.endWorkload())
	if ended && check("deckle verify", t.verify(ctx, rep)) {
		t.say("deckle verify: equal %v", rep.VerifyEqual)
	}
	t.watch.stop()
	t.watch.done.Wait()
	t.watched(rep)
	if !ended {
		return // the truth is not complete
	}
	check("offsets", t.offsets(ctx, rep))
	if check("the independent readers", t.readers(ctx, rep)) {
		t.say("independent readers agree: %v", rep.ReadersAgree)
	}
}

// watched notes in the report what the readers have seen.
func (t *torture) watched(rep *report) {
	d, c := t.watch.delta, t.watch.click
	rep.Violations, rep.FirstViolations = t.watch.found.List()
	if d.next["events"] == 0 || d.next["sessions"] == 0 || d.replayed == 0 || c.full == 0 || c.history.AtRest() == 0 {
		rep.Failures = append(rep.Failures,
			fmt.Sprintf("a reader has seen nothing: the last failures are %v and %v", d.failed, c.failed))
	}
	if d.merged == 0 {
		rep.Failures = append(rep.Failures, "no job of compaction has committed")
	}
	if d.hiding == 0 && t.opts.vectors {
		rep.Failures = append(rep.Failures, "no revision has hidden rows by a deletion vector")
	}
	rep.Watched = watched{
		EventVersions: d.next["events"], SessionVersions: d.next["sessions"], Snapshots: d.replayed,
		Compactions: d.merged, Hiding: d.hiding, Looks: c.looks,
		FullLooks: c.full, AtRest: c.history.AtRest(), SlowestLookMS: c.slowest.Milliseconds(),
		Failed: d.failures + c.failures,
	}
}

// verify runs deckle verify.
func (t *torture) verify(ctx context.Context, rep *report) error {
	cmd := exec.CommandContext(ctx, t.Binary, "verify", "--config", t.Nodes[0].Config,
		"--truth", strings.Join(t.truth, ","), "--wait", "5m", "--json")
	cmd.Env = append(os.Environ(), t.Env()...)
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
	for name, table := range r.Tables {
		switch name {
		case "delta.events":
		case "delta.sessions", "clickhouse.session_metrics", "clickhouse.page_analytics":
			rep.MismatchedSessions += table.Different
		default:
			rep.MismatchedRollups += table.Different
		}
	}
	if !rep.VerifyEqual {
		fmt.Println(string(bytes.Join(lines[:len(lines)-1], []byte("\n"))))
	}
	return nil
}

// offsets counts the records that are missing in a sink or are there twice: in Delta by their offsets, in ClickHouse,
// which keeps no offsets, by the number of events of each session.
func (t *torture) offsets(ctx context.Context, rep *report) error {
	type key struct{ session, origin string }
	counted := map[key]int64{}
	conn := t.clickConn()
	defer conn.close()
	err := conn.rows(ctx, 2, 1, func(texts []string, n []int64) { counted[key{texts[0], texts[1]}] += n[0] },
		"SELECT session_id, origin, toInt64(total_events) FROM %s.session_metrics", database)
	if err != nil {
		return err
	}
	h := t.watch.delta.events
	extra, doubled := h.Records()
	rep.Duplicated = doubled
	for _, path := range t.truth {
		err := sim.TruthFile(path).Each(func(l sim.Line) error {
			if l.Session == nil {
				return nil
			}
			for _, e := range l.Session.Events {
				if h.Has(e.Partition, e.Offset) {
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
	for _, n := range counted { // of sessions that should not be there
		extra += n
	}
	rep.Duplicated += extra
	return nil
}

// readerTables is how many tables readers.py compares.
const readerTables = 13

// readers runs the readers that are not part of this project.
func (t *torture) readers(ctx context.Context, rep *report) error {
	mirror := filepath.Join(t.dir, "mirror") // DuckDB's extension reads local tables
	if err := t.minio.Mirror(ctx, bucket, "", mirror); err != nil {
		return err
	}
	settings := filepath.Join(t.dir, "readers.json")
	b, err := json.Marshal(map[string]any{
		"truth": t.truth, "bucket": bucket, "mirror": mirror, "database": database,
		"s3_endpoint": "http://" + t.minio.Addr, "s3_access_key": t.minio.AccessKey,
		"s3_secret_key": t.minio.SecretKey(),
		"clickhouse":    t.click.Addr, "clickhouse_user": t.click.User, "clickhouse_password": t.click.Password(),
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(settings, b, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, t.python, filepath.Join(t.root, "integration", "readers.py"), settings)
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
		for _, table := range ts {
			tables++
			rep.ReadersAgree = rep.ReadersAgree && table.Equal && table.Rows > 0
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
