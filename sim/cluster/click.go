package cluster

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"deckle/sinks/clickhouse"
	"deckle/sinks/clickhouse/clicktest"
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
	*clicktest.Server
	rng *lockedRand

	mu     sync.Mutex
	faults clickFaults
}

func newClick(rng *lockedRand) *click {
	c := &click{Server: clicktest.New(clicktest.Options{}), rng: rng}
	c.SetHook(c.draw)
	return c
}

func (c *click) set(f clickFaults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = f
}

// draw decides what a query meets.
func (c *click) draw(q clicktest.Query) clicktest.Fault {
	c.mu.Lock()
	f := c.faults
	c.mu.Unlock()
	p := c.rng.Float64()
	hit := func(share float64) bool { p -= share; return share > 0 && p < 0 }
	code := []int{int(proto.ErrMemoryLimitExceeded), int(proto.ErrTooManyParts), int(proto.ErrTimeoutExceeded)}[c.rng.IntN(3)]
	switch {
	case hit(f.before):
		if c.rng.IntN(2) == 0 {
			return clicktest.CloseBefore()
		}
		return clicktest.FailBefore(code)
	case q.Kind != clicktest.Insert:
	case hit(f.lost):
		if c.rng.IntN(2) == 0 {
			return clicktest.CloseAfter()
		}
		return clicktest.FailAfter(code)
	case hit(f.middle):
		return clicktest.FailMiddle(code)
	case hit(f.late):
		return clicktest.CloseLate(c.rng.between(0, 30*time.Second))
	case hit(f.stall):
		if c.rng.IntN(2) == 0 {
			return clicktest.StallAfter()
		}
		return clicktest.StallBefore()
	}
	return clicktest.Fault{Before: c.rng.between(0, 4*time.Millisecond)}
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

// clickCounts are the counts of a row in the order of state.SessionRow.Counts.
func clickCounts(s *clickhouse.Session) []uint32 {
	return []uint32{s.ArticleViews, s.ArticleClicks, s.VideoPlays, s.NewsletterSignups, s.SubscriptionPrompts, s.AdClicks, s.Searches, s.Navigations}
}
