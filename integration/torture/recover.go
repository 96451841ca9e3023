package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"deckle/sim"
)

// recover produces a session into each of the shards and waits until all are visible in every sink. It returns the
// times of the slowest shard.
func (t *torture) recover(ctx context.Context, killed time.Time, shards []uint32) (recovery, error) {
	type result struct {
		recovery
		err error
	}
	results := make(chan result, len(shards))
	var all []*probed
	for _, s := range shards {
		p, err := t.probe.session(ctx, int32(s))
		if err != nil {
			return recovery{}, err
		}
		all = append(all, p)
		event, row := t.watch.delta.expect(p.session, p.partition, p.offset)
		go func() {
			var r result
			for _, x := range []struct {
				seen <-chan time.Time
				to   *time.Duration
			}{{event, &r.events}, {row, &r.sessions}} {
				select {
				case at := <-x.seen:
					*x.to = at.Sub(killed)
				case <-ctx.Done():
					r.err = fmt.Errorf("probe %s at %d/%d is not visible: %w",
						p.session, p.partition, p.offset, ctx.Err())
				}
			}
			results <- r
		}()
	}
	var worst recovery
	clickhouse, err := t.awaitClickHouse(ctx, all)
	if err != nil {
		return worst, err
	}
	worst.clickhouse = clickhouse.Sub(killed)
	for range shards {
		r := <-results
		if r.err != nil {
			return worst, r.err
		}
		worst.events, worst.sessions = max(worst.events, r.events), max(worst.sessions, r.sessions)
	}
	return worst, nil
}

// awaitClickHouse polls until every probe has its row, and returns the time of that. It polls the stored table, and
// then reads the view once, which must show what is stored: the engine runs one statement at a time, and a view's FINAL
// ten times per second would delay the very inserts that it waits for.
func (t *torture) awaitClickHouse(ctx context.Context, all []*probed) (time.Time, error) {
	conn := t.clickConn()
	defer conn.close()
	list := make([]string, len(all))
	for i, p := range all {
		list[i] = "'" + p.session + "'"
	}
	count := func(table string) (n int64, err error) {
		err = conn.rows(ctx, 0, 1, func(_ []string, c []int64) { n = c[0] },
			"SELECT toInt64(uniqExact(session_id)) FROM %s.%s WHERE session_id IN (%s) AND session_date >= today() - 1",
			database, table, strings.Join(list, ","))
		return n, err
	}
	for {
		began := time.Now()
		n, err := count("session_metrics_versions")
		if at := time.Now(); err == nil && n == int64(len(all)) {
			if n, err = count("session_metrics"); err == nil && n == int64(len(all)) {
				return at, nil
			}
			if err == nil {
				return at, fmt.Errorf("%d probes are stored in ClickHouse, and the view shows %d", len(all), n)
			}
		}
		if serr := sim.Pause(ctx, max(100*time.Millisecond, 3*time.Since(began))); serr != nil {
			return time.Time{}, fmt.Errorf("%d of %d probes are visible in ClickHouse: %w (last error: %w)",
				n, len(all), serr, err)
		}
	}
}
