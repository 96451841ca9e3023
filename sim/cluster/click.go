package cluster

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema"
	model "deckle/sim/testworld/clickhouse"
)

// clickDatabase is where the nodes write to.
const clickDatabase = "analytics"

// clickFaults are probabilities of one query.
type clickFaults struct {
	before float64 // it fails and does nothing
	lost   float64 // it takes effect, and the connection ends without an answer
	middle float64 // one partition of a block takes effect, and the query fails
	late   float64 // the client is told of a failure, and the insert takes effect later
	stall  float64 // no answer comes, whether it takes effect or not
}

// click is the server and what its queries meet.
type click struct {
	*model.Server
	rng *lockedRand

	mu     sync.Mutex
	faults clickFaults
}

func newClick(rng *lockedRand) *click {
	c := &click{Server: model.New(model.Options{}), rng: rng}
	c.SetHook(c.draw)
	return c
}

func (c *click) set(f clickFaults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = f
}

// draw decides what a query meets.
func (c *click) draw(q model.Query) model.Fault {
	c.mu.Lock()
	f := c.faults
	c.mu.Unlock()
	p := c.rng.Float64()
	hit := func(share float64) bool { p -= share; return share > 0 && p < 0 }
	code := []int{int(proto.ErrMemoryLimitExceeded), int(proto.ErrTooManyParts), int(proto.ErrTimeoutExceeded)}[c.rng.IntN(3)]
	switch {
	case hit(f.before):
		if c.rng.IntN(2) == 0 {
			return model.CloseBefore()
		}
		return model.FailBefore(code)
	case q.Kind != model.Insert:
	case hit(f.lost):
		if c.rng.IntN(2) == 0 {
			return model.CloseAfter()
		}
		return model.FailAfter(code)
	case hit(f.middle):
		return model.FailMiddle(code)
	case hit(f.late):
		return model.CloseLate(c.rng.between(0, 30*time.Second))
	case hit(f.stall):
		if c.rng.IntN(2) == 0 {
			return model.StallAfter()
		}
		return model.StallBefore()
	}
	return model.Fault{Before: c.rng.between(0, 4*time.Millisecond)}
}

// clickFault begins a fault of the plan.
func (w *world) clickFault(name string, f clickFaults) func() {
	w.history.fault(name, "%+v", f)
	w.click.set(f)
	return func() { w.click.set(clickFaults{}) }
}

// dialFrom dials from a host that no fault touches.
func (w *world) dialFrom(host string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) { return w.net.Dial(ctx, host, addr) }
}

// The stored tables that the nodes write to.
const (
	clickSessions = "session_metrics_versions"
	clickTotals   = "rollup_versions"
	clickLedger   = "deckle_ledger"
)

// ledger, totals and sessions are what ClickHouse holds at this moment, past all faults: every row of the ledger, and of
// the others the newest version under each key.
func (c *click) ledger() []model.Row { return c.Inserted(clickDatabase, clickLedger, 0) }

func (c *click) totals() []model.Row { return c.Rows(clickDatabase, clickTotals) }

func (c *click) sessions() []model.Row {
	return c.Rows(clickDatabase, clickSessions, "session_id", "origin")
}

// clickDigest is rowDigest of a row as ClickHouse has it.
func clickDigest(r model.Row) uint64 {
	var row schema.SessionRow
	for i := range schema.Sessions {
		if c := &schema.Sessions[i]; c.Kind.IsText() {
			c.SetText(&row, r.Text(c.Name))
		} else {
			c.SetNumber(&row, r.Uint(c.Name))
		}
	}
	return rowDigest(&row)
}

// clickTotalDigest is totalDigest of a row as ClickHouse has it.
func clickTotalDigest(r model.Row) uint64 {
	return digestOf(r.Int("sessions"), r.Int("duration_sec"), r.Int("events"), r.Int("article_views"), r.Int("video_plays"),
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
