package cluster

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// clock is a node's wall clock: the bubble's time, which may be off and may jump. The monotonic reading, by which
// durations are measured, goes on evenly, as on a real machine whose wall clock is set.
type clock struct{ off atomic.Int64 } // seconds

func (c *clock) now() time.Time { return offWall(time.Now(), c.off.Load()) }

// offWall moves the wall clock of a reading by whole seconds and leaves its monotonic part alone. Package time has no
// call for that: a time with a monotonic reading keeps the seconds of the wall clock (since 1885) in bits 30 to 62 of its
// first word. TestClockJumps fails if that changes.
func offWall(t time.Time, seconds int64) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(seconds) << 30
	return t
}
