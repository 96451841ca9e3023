package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"deckle/sim"
	"deckle/sim/history"
)

// clickConn is one connection; after an error a new one is made.
type clickConn struct {
	opts     ch.Options
	password func() string // the present one
	client   *ch.Client
}

// rows runs a query that returns first columns of texts, and then columns of numbers.
func (c *clickConn) rows(
	ctx context.Context, texts, numbers int, row func(t []string, n []int64), query string, args ...any,
) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if c.client == nil || c.client.IsClosed() {
		c.opts.Password = c.password()
		client, err := ch.Dial(ctx, c.opts)
		if err != nil {
			return err
		}
		c.client = client
	}
	tc, nc := make([]proto.ColStr, texts), make([]proto.ColInt64, numbers)
	var result proto.Results
	for i := range tc {
		result = append(result, proto.ResultColumn{Data: &tc[i]})
	}
	for i := range nc {
		result = append(result, proto.ResultColumn{Data: &nc[i]})
	}
	t, n := make([]string, texts), make([]int64, numbers)
	err := c.client.Do(ctx, ch.Query{
		Body: fmt.Sprintf(query, args...), Result: result,
		OnResult: func(_ context.Context, b proto.Block) error {
			for i := range b.Rows {
				for j := range tc {
					t[j] = tc[j].Row(i)
				}
				for j := range nc {
					n[j] = nc[j][i]
				}
				row(t, n)
			}
			return nil
		},
	})
	if err != nil {
		_ = c.client.Close() // it has failed already
		c.client = nil
	}
	return err
}

func (c *clickConn) close() {
	if c.client != nil {
		_ = c.client.Close() // it was only read from
	}
}

// clickWatch looks at the ClickHouse tables again and again.
type clickWatch struct {
	conn    *clickConn
	db      string
	history *history.ClickHouse

	mu       sync.Mutex
	looks    int64
	full     int64
	failures int64
	failed   error // the last failure
	slowest  time.Duration
}

const (
	sessionBuckets = 16 // buckets of session_metrics that are summed up
	rowBuckets     = 64 // buckets of session_metrics that are read row by row, one per look
	keptEpochs     = 50 // newest epochs of a shard whose rows are counted
	fullEvery      = 5  // one look of this many also reads the expensive part
	lastTries      = 10 // attempts of the last look
)

// follow looks until ctx ends, and then once more. It takes at most a tenth of the engine's time, since the engine runs
// one query at a time, including the sinks' inserts.
func (w *clickWatch) follow(ctx context.Context) {
	defer w.conn.close()
	tries := 0
	for n := int64(0); ; n++ {
		last := ctx.Err() != nil
		full := n%fullEvery == 0 || last
		began := time.Now()
		err := w.look(context.WithoutCancel(ctx), n, full)
		took := time.Since(began)
		w.mu.Lock()
		if err != nil { // the engine is down, or being restarted
			w.failures++
			w.failed = err
		} else {
			w.looks++
			w.slowest = max(w.slowest, took)
			if full {
				w.full++
			}
		}
		w.mu.Unlock()
		if last {
			if tries++; err == nil || tries == lastTries {
				return
			}
		}
		select {
		case <-time.After(max(500*time.Millisecond, 9*took)):
		case <-ctx.Done():
			if last {
				time.Sleep(time.Second)
			}
		}
	}
}

// look reads and judges one state of the tables: all of it or, if a query fails, nothing.
func (w *clickWatch) look(ctx context.Context, n int64, full bool) error {
	l := &history.Look{
		Ledger: map[uint32]uint64{}, Totals: map[history.TotalKey]history.Total{},
		Sessions: map[history.GroupKey]history.Group{}, Floor: map[uint32]uint64{}, Bucket: -1,
	}
	// The order matters: see history.ClickHouse.
	err := w.conn.rows(ctx, 0, 2, func(_ []string, n []int64) { l.Ledger[uint32(n[0])] = uint64(n[1]) },
		"SELECT toInt64(shard), toInt64(max(b)) FROM %s.deckle_ledger WHERE b > 0 GROUP BY shard", w.db)
	if err != nil {
		return err
	}
	err = w.conn.rows(ctx, 5, 9, func(t []string, n []int64) {
		dims := t[2] + "/" + t[3] + "/" + t[4]
		l.Totals[history.TotalKey{Rollup: t[0], Date: t[1], Dims: dims, Shard: uint32(n[0])}] =
			history.Total{Version: uint64(n[1]), Measures: history.Measures(n[2:])}
	}, `SELECT CAST(rollup AS String), toString(date), dim1, dim2, dim3, toInt64(shard), toInt64(version),
		sessions, duration_sec, events, article_views, video_plays, newsletter_signups, ad_clicks
		FROM %s.rollup_versions FINAL`, w.db)
	if err != nil {
		return err
	}
	err = w.conn.rows(ctx, 0, 11, func(_ []string, n []int64) {
		l.Sessions[history.GroupKey{Shard: uint32(n[0]), Bucket: n[1]}] =
			history.Group{Measures: history.Measures(n[4:]), Revision: n[2], Epoch: uint64(n[3])}
	}, `SELECT toInt64(bitShiftRight(batch_id, 40)) AS s, toInt64(cityHash64(session_id) %% %d) AS k,
		toInt64(sum(revision)), toInt64(max(bitAnd(batch_id, 1099511627775))),
		toInt64(count()), toInt64(sum(session_duration_sec)),
		toInt64(sum(total_events)),
		toInt64(sum(article_views)), toInt64(sum(video_plays)), toInt64(sum(newsletter_signups)),
		toInt64(sum(ad_clicks))
		FROM %s.session_metrics GROUP BY s, k`, sessionBuckets, w.db)
	if err != nil {
		return err
	}
	if full {
		if err := w.lookFully(ctx, l, n/fullEvery); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.Look(l)
	return nil
}

// lookFully reads the expensive part.
func (w *clickWatch) lookFully(ctx context.Context, l *history.Look, n int64) error {
	low := uint64(1 << 62)
	for _, b := range l.Ledger {
		low = min(low, b)
	}
	low -= min(low, keptEpochs)
	for shard := range uint32(shards) {
		l.Floor[shard] = low
	}
	l.Epochs = map[history.EpochKey]int64{}
	err := w.conn.rows(ctx, 0, 4, func(_ []string, n []int64) {
		l.Epochs[history.EpochKey{Shard: uint32(n[0]), Month: n[1], Epoch: uint64(n[2])}] = n[3]
	},
		`SELECT toInt64(bitShiftRight(batch_id, 40)) AS s, toInt64(toYYYYMM(session_date)) AS m,
		toInt64(bitAnd(batch_id, 1099511627775)) AS e,
		toInt64(count()) FROM %s.session_metrics WHERE bitAnd(batch_id, 1099511627775) > %d
		GROUP BY s, m, e`, w.db, low)
	if err != nil {
		return err
	}
	l.Bucket, l.Rows = n%rowBuckets, map[string]history.SessionState{}
	err = w.conn.rows(ctx, 2, 3, func(t []string, n []int64) {
		l.Rows[t[0]+" "+t[1]] = history.SessionState{Batch: uint64(n[0]), Revision: n[1], Total: n[2]}
	},
		`SELECT session_id, origin, toInt64(batch_id), toInt64(revision), toInt64(total_events) FROM %s.session_metrics
		WHERE cityHash64(session_id) %% %d = %d`, w.db, rowBuckets, l.Bucket)
	if err != nil {
		return err
	}
	l.Pages = map[history.GroupKey]history.Group{}
	err = w.conn.rows(ctx, 0, 3, func(_ []string, n []int64) {
		l.Pages[history.GroupKey{Bucket: n[0]}] = history.Group{Measures: history.Measures{n[1], n[2]}}
	},
		`SELECT toInt64(cityHash64(session_id) %% %d) AS k, toInt64(count()), toInt64(sum(visit_count))
		FROM %s.page_analytics GROUP BY k`,
		sessionBuckets, w.db)
	if err != nil {
		return err
	}
	l.Views = map[string]int64{}
	for _, view := range sim.Rollups {
		err := w.conn.rows(ctx, 0, 1, func(_ []string, n []int64) { l.Views[view.Name] = n[0] },
			"SELECT toInt64(sum(total_sessions)) FROM %s.%s", w.db, view.Name)
		if err != nil {
			return err
		}
	}
	return nil
}
