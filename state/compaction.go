package state

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// compactions lets Pebble compact as it would by itself, one compaction at a time, until something in its background
// has failed. Such a failure is fatal for the store. Pebble retries a compaction that met a damaged table at once and
// for ever: it would take a core until the process has ended, and under virtual time, which does not pass meanwhile,
// the process would never end.
//
// The scheduler inside is Pebble's own without its ticker. The ticker offers work that a limit greater than one has
// left waiting; the limit here is one, and a waiting compaction is called when the running one ends.
type compactions struct {
	*pebble.ConcurrencyLimitScheduler
	failed *atomic.Bool
}

func newCompactions(failed *atomic.Bool) *compactions {
	return &compactions{pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest(), failed}
}

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(goroutines int, db pebble.DBForCompaction) {
	c.ConcurrencyLimitScheduler.Register(goroutines, failureGate{db, c.failed})
}

// failureGate is a database that asks for no compaction once something has failed.
type failureGate struct {
	pebble.DBForCompaction
	failed *atomic.Bool
}

func (w failureGate) GetAllowedWithoutPermission() int {
	if w.failed.Load() {
		return 0
	}
	return w.DBForCompaction.GetAllowedWithoutPermission()
}
