package objects

import (
	"sync/atomic"
	"time"
)

// Clock is a clock that tests set while goroutines of what they test read it.
type Clock struct{ now atomic.Pointer[time.Time] }

// NewClock returns a clock that stands at a time.
func NewClock(at time.Time) *Clock {
	c := new(Clock)
	c.now.Store(&at)
	return c
}

// Now returns the time at which the clock stands.
func (c *Clock) Now() time.Time { return *c.now.Load() }

// Pass lets the time d pass. Only one goroutine may do so.
func (c *Clock) Pass(d time.Duration) {
	at := c.Now().Add(d)
	c.now.Store(&at)
}
