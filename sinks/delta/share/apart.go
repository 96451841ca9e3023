package share

import (
	"sync"
	"time"
)

// Apart counts the commits that a node's changes were in during the last hour: those that it has made by itself, and
// all. Its methods are safe for concurrent use.
type Apart struct {
	now func() time.Time

	mu      sync.Mutex
	began   time.Time
	minutes [apartMinutes]apartMinute
}

// apartMinutes is how many minutes are counted.
const apartMinutes = 60

// apartMinute is one minute of them.
type apartMinute struct {
	number   int64 // since began
	own, all int
}

// NewApart returns a counter that has counted nothing. now carries a monotonic reading, or never goes back.
func NewApart(now func() time.Time) *Apart { return &Apart{now: now, began: now()} }

// minute is the number of the present one.
func (a *Apart) minute() int64 { return int64(a.now().Sub(a.began) / time.Minute) }

// Note counts a commit.
func (a *Apart) Note(own bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.minute()
	m := &a.minutes[n%apartMinutes]
	if m.number != n {
		*m = apartMinute{number: n}
	}
	m.all++
	if own {
		m.own++
	}
}

// LastHour returns how many commits the node has made by itself, and how many its changes were in.
func (a *Apart) LastHour() (own, all int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.minute()
	for _, m := range a.minutes {
		if n-m.number < apartMinutes {
			own, all = own+m.own, all+m.all
		}
	}
	return own, all
}
