package delta

import (
	"sync"
	"time"
)

// Another tool that changes rows fails if a commit of ours has replaced rows meanwhile (Spark's conflict check; it
// tries again, and may fail again, as long as revisions come each minute). Commits that only add rows do not hinder it.
// So revisions give it some time in each hour.
const (
	yieldCommits = 10        // a pass is put off if one of so many commits is not ours
	yieldPasses  = 2         // by so many intervals between passes, at most
	yieldEvery   = time.Hour // and no more often than that
)

// yielding is until when the passes of a table wait. All shards of a node wait at the same time.
type yielding struct {
	mu    sync.Mutex
	until time.Time
	next  time.Time // nothing is put off before
}

// pause returns how long a pass that begins now is put off. busy says whether another tool writes to the table.
func (y *yielding) pause(now time.Time, interval time.Duration, busy func() bool) time.Duration {
	y.mu.Lock()
	defer y.mu.Unlock()
	most := yieldPasses * interval
	if !now.Before(y.next) && busy() {
		y.until, y.next = now.Add(most), now.Add(yieldEvery)
	}
	return min(max(y.until.Sub(now), 0), most) // a clock that is set back holds nobody up for longer
}
