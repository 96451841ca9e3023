package cluster

import (
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	model "deckle/sim/testworld/clickhouse"
)

// clickDatabase is where the nodes write to.
const clickDatabase = "analytics"

// clickFaults are probabilities of one query.
type clickFaults struct {
	before float64 // it fails and does nothing
	lost   float64 // it takes effect, and the connection ends without an answer
	middle float64 // one partition of a block takes effect, and the query fails
	late   float64 // the client gets an error, and the insert takes effect later
	stall  float64 // no answer comes, whether it takes effect or not
}

// click is the server together with the faults of its queries.
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

// draw decides which fault a query meets.
func (c *click) draw(q model.Query) model.Fault {
	c.mu.Lock()
	f := c.faults
	c.mu.Unlock()
	p := c.rng.Float64()
	hit := func(share float64) bool { p -= share; return share > 0 && p < 0 }
	code := []int{int(proto.ErrMemoryLimitExceeded), int(proto.ErrTooManyParts),
		int(proto.ErrTimeoutExceeded)}[c.rng.IntN(3)]
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

// The stored tables that the nodes write to.
const (
	clickSessions = "session_metrics_versions"
	clickTotals   = "rollup_versions"
	clickLedger   = "deckle_ledger"
)

// ledger, totals and sessions are what ClickHouse holds at this moment, past all faults: every row of the ledger, and
// of the others the newest version under each key.
func (c *click) ledger() []model.Row { return c.Inserted(clickDatabase, clickLedger, 0) }

func (c *click) totals() []model.Row { return c.Rows(clickDatabase, clickTotals) }

func (c *click) sessions() []model.Row {
	return c.Rows(clickDatabase, clickSessions, "session_id", "origin")
}
