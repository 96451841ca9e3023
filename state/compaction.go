package state

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// compactions lets Pebble compact as it does by itself, one at a time, until something in its background has failed, which
// is fatal for the store. Pebble begins a compaction that met a damaged table again at once, for ever: it would take a core
// until the process has ended, and no virtual time would pass meanwhile in which it could.
//
// The scheduler inside is Pebble's own without its ticker, which offers what a greater limit has left waiting: the limit
// here is one, and whoever waits for it is called when it is free.
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
