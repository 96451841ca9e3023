package cluster

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// clock is a node's wall clock: the bubble's time, which may be off and may jump. The monotonic reading, by which
// durations are measured, goes on evenly, as on a real machine when somebody sets its wall clock.
type clock struct{ off atomic.Int64 } // seconds

func (c *clock) now() time.Time { return offWall(time.Now(), c.off.Load()) }

// timeBits is how package time keeps a time that has a monotonic reading: a flag, 33 bits of seconds since 1885 and 30
// bits of nanoseconds of the wall clock, then the reading in nanoseconds. Time in a bubble has none, and the package
// has no call that sets it. TestClockJumps fails if the layout changes.
type timeBits struct {
	wall uint64
	ext  int64
}

// offWall returns t with its wall clock moved by whole seconds, and a monotonic reading that is not moved.
func offWall(t time.Time, seconds int64) time.Time {
	const sinceUnix = 2_682_288_000 // from 1885 to 1970
	b := (*timeBits)(unsafe.Pointer(&t))
	mono := t.UnixNano()
	b.wall = 1<<63 | uint64(t.Unix()+sinceUnix+seconds)<<30 | uint64(t.Nanosecond())
	b.ext = mono
	return t
}
