package cluster

import (
	"fmt"

	"deckle/schema"
	"deckle/sim/history"
	model "deckle/sim/testworld/clickhouse"
	"deckle/state"
)

// clickLooks compares what ClickHouse shows with the plans, and with what it has shown before.
type clickLooks struct {
	plans   *plans
	history *runHistory
	click   *click
	shown   *history.ClickHouse
}

func newClickLooks(p *plans, h *runHistory, c *click) *clickLooks {
	return &clickLooks{plans: p, history: h, click: c, shown: history.NewClickHouse(h.broken)}
}

type shardTotal struct {
	shard uint32
	totalKey
}

// look wants every row to be the image of some plan, not older than the plans up to the ledger say, and every total to
// be that of its epoch. What was shown before is compared by sim/history.
func (c *clickLooks) look() {
	ledger := c.click.ledger()    // read first: the rows that it covers were there before it
	totalRows := c.click.totals() // read before the sessions, after which they are written
	sessions := c.click.sessions()
	c.shown.Look(observe(ledger, totalRows, sessions))
	c.plans.mu.Lock()
	defer c.plans.mu.Unlock()
	done := map[uint32]uint64{}
	for _, l := range ledger {
		shard := uint32(l.Uint("shard"))
		done[shard] = max(done[shard], l.Uint("b"))
	}
	may, least := map[string][]image{}, map[string]uint64{}
	mayTotal, leastTotal := map[shardTotal][]image{}, map[shardTotal]uint64{}
	for k, rec := range c.plans.by {
		if k.sink != state.SinkClickHouse {
			continue
		}
		for key, im := range rec.rows {
			may[key] = append(may[key], im)
			if k.b <= done[k.shard] {
				least[key] = max(least[key], im.epoch)
			}
		}
		for key, im := range rec.totals {
			t := shardTotal{k.shard, key}
			mayTotal[t] = append(mayTotal[t], im)
			if k.b <= done[k.shard] {
				leastTotal[t] = max(leastTotal[t], im.epoch)
			}
		}
	}
	rows := map[string]uint64{}
	for _, r := range sessions {
		key := r.Text("session_id") + "\x00" + r.Text("origin")
		rows[key] = r.Uint("version")
		if !hasImage(may[key], image{rows[key], clickDigest(r)}) {
			c.history.fail("I7: ClickHouse shows the session %q as of epoch %d, which no plan has so: %v, %s", key,
				rows[key], may[key], r)
		}
	}
	compare(c.history, "the session", least, rows)
	totals := map[shardTotal]uint64{}
	for _, r := range totalRows {
		key := shardTotal{uint32(r.Uint("shard")), clickKey(r)}
		totals[key] = r.Uint("version")
		if !hasImage(mayTotal[key], image{totals[key], clickTotalDigest(r)}) {
			c.history.fail("I7: ClickHouse shows the total %v as of epoch %d, which no plan has so: %s", key,
				totals[key], r)
		}
	}
	compare(c.history, "the total", leastTotal, totals)
	c.totalsFollow(done, totals, rows)
}

// totalsFollow wants all sessions of a plan to be visible before any of its totals, while it is being written.
func (c *clickLooks) totalsFollow(done map[uint32]uint64, totals map[shardTotal]uint64, rows map[string]uint64) {
	newest := map[uint32]uint64{}
	for t, epoch := range totals {
		newest[t.shard] = max(newest[t.shard], epoch)
	}
	for k, rec := range c.plans.by {
		if k.sink != state.SinkClickHouse || k.b <= done[k.shard] || newest[k.shard] <= rec.a {
			continue
		}
		for key, im := range rec.rows {
			if rows[key] < im.epoch {
				c.history.fail("I7: ClickHouse shows totals of epoch %d, shard %d, and not the session %q of epoch %d",
					newest[k.shard], k.shard, key, im.epoch)
			}
		}
	}
}

// compare compares the rows that ClickHouse shows with those of the plans that are done.
func compare[K comparable](h *runHistory, what string, least, shown map[K]uint64) {
	for key, epoch := range least {
		if got, ok := shown[key]; !ok {
			h.fail("I7: ClickHouse does not show %s %v, which the ledger's plans have at epoch %d", what, key, epoch)
		} else if got < epoch {
			h.fail("I7: ClickHouse shows %s %v as of epoch %d, the ledger's plans have epoch %d", what, key, got, epoch)
		}
	}
}

// observe puts a look into the terms of sim/history: all sessions of a shard are one group, and every session is
// looked at.
func observe(ledger, totals, sessions []model.Row) *history.Look {
	l := &history.Look{Ledger: map[uint32]uint64{}, Totals: map[history.TotalKey]history.Total{},
		Sessions: map[history.GroupKey]history.Group{}, Rows: map[string]history.SessionState{}}
	for _, r := range totals {
		key := history.TotalKey{Rollup: r.Text("rollup"), Date: r.Text("date"), Shard: uint32(r.Uint("shard")),
			Dims: fmt.Sprintf("%q", []string{r.Text("dim1"), r.Text("dim2"), r.Text("dim3")})}
		l.Totals[key] = history.Total{Version: r.Uint("version"),
			Measures: history.Measures{r.Int("sessions"), r.Int("duration_sec"),
				r.Int("events"), r.Int("article_views"), r.Int("video_plays"), r.Int("newsletter_signups"),
				r.Int("ad_clicks")}}
	}
	for _, r := range sessions {
		shard := uint32(r.Uint("shard"))
		g := l.Sessions[history.GroupKey{Shard: shard}]
		for i, n := range []int64{1, r.Int("session_duration_sec"), r.Int("total_events"), r.Int("article_views"),
			r.Int("video_plays"), r.Int("newsletter_signups"), r.Int("ad_clicks")} {
			g.Measures[i] += n
		}
		g.Revision += r.Int("revision")
		g.Epoch = max(g.Epoch, r.Uint("version"))
		l.Sessions[history.GroupKey{Shard: shard}] = g
		l.Rows[r.Text("session_id")+" "+r.Text("origin")] = history.SessionState{Batch: r.Uint("batch_id"),
			Revision: r.Int("revision"), Total: r.Int("total_events")}
	}
	for _, r := range ledger {
		// A claim of the ledger is no plan, and a plan of a small run may have no session yet.
		if shard, b := uint32(r.Uint("shard")), r.Uint("b"); b > 0 &&
			l.Sessions[history.GroupKey{Shard: shard}].Epoch > 0 {
			l.Ledger[shard] = max(l.Ledger[shard], b)
		}
	}
	return l
}

// clickDigest is rowDigest of a row as ClickHouse has it.
func clickDigest(r model.Row) uint64 {
	var row schema.SessionRow
	for i := range schema.Sessions {
		c := &schema.Sessions[i]
		if c.Known != nil {
			if r.Text(c.Name) == schema.Null {
				continue
			}
			c.Known.SetNumber(&row, 1)
		}
		if c.Kind.IsText() {
			c.SetText(&row, r.Text(c.Name))
		} else {
			c.SetNumber(&row, r.Uint(c.Name))
		}
	}
	return rowDigest(&row)
}

// clickTotalDigest is totalDigest of a row as ClickHouse has it.
func clickTotalDigest(r model.Row) uint64 {
	return digestOf(r.Int("sessions"), r.Int("duration_sec"), r.Int("events"), r.Int("article_views"),
		r.Int("video_plays"),
		r.Int("newsletter_signups"), r.Int("ad_clicks"))
}

// clickKey is keyOf of a row as ClickHouse has it.
func clickKey(r model.Row) totalKey {
	table := schema.RollupTable(0)
	for table < schema.NumRollups && table.String() != r.Text("rollup") {
		table++
	}
	dims := []string{r.Text("dim1"), r.Text("dim2"), r.Text("dim3")}
	if table < schema.NumRollups {
		dims = dims[:table.NumDims()]
	}
	return totalKey{table, int32(r.Uint("date")), fmt.Sprintf("%q", dims)}
}
