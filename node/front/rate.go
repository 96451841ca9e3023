package front

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// Class says how often a client may ask for something.
type Class int

// The classes, from what must always be answered to what is dear or dangerous.
const (
	Probe      Class = iota // health
	Page                    // the page
	Read                    // figures
	Heavy                   // what costs a pass over much
	Person                  // one reader's history
	Verb                    // what changes something
	Login                   // tries to be somebody, and fails
	everything              // everything that comes from one address
	numClasses
)

var classes = [numClasses]struct {
	name             string
	perSecond, burst float64
}{
	Probe: {"probe", 20, 40}, Page: {"page", 5, 20}, Read: {"read", 10, 40}, Heavy: {"heavy", 2, 5},
	Person: {"person", 5, 50}, Verb: {"verb", 2, 10}, Login: {"login", 0.1, 10}, everything: {"", 100, 200},
}

// String returns the name that docs/operations.md has.
func (c Class) String() string { return classes[c].name }

// Limit returns how many requests per second a client may send, and how many at once after a time of silence.
func (c Class) Limit() (perSecond, burst float64) { return classes[c].perSecond, classes[c].burst }

// Who is a client of a rate: a principal by name or, while that is not known, an address (see Client).
type Who struct {
	Name string
	Addr netip.Addr
}

// maxClients bounds what strangers can make a node remember. Beyond it the newest share one allowance.
const maxClients = 10_000

// rates count what clients have asked for, by token buckets.
type rates struct {
	now func() time.Time

	mu     sync.Mutex
	of     map[Who]*allowances
	shared allowances
	swept  time.Time
}

type allowances [numClasses]allowance

// allowance is one token bucket; the zero value is a full one.
type allowance struct {
	spent float64 // tokens that are missing, at the time at
	at    time.Time
}

func newRates(now func() time.Time) *rates { return &rates{now: now, of: map[Who]*allowances{}} }

// take takes one of the client's allowance. It returns 0, or after how long there will be one.
func (r *rates) take(who Who, c Class) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	all := r.of[who]
	if all == nil {
		if len(r.of) >= maxClients {
			r.sweep(now)
		}
		if len(r.of) >= maxClients {
			all = &r.shared
		} else {
			all = &allowances{}
			r.of[who] = all
		}
	}
	a, limit := &all[c], classes[c]
	a.refill(now, limit.perSecond)
	if lacks := a.spent + 1 - limit.burst; lacks > 0 {
		return max(time.Duration(math.Ceil(lacks/limit.perSecond*float64(time.Second))), 1)
	}
	a.spent++
	return 0
}

func (a *allowance) refill(now time.Time, perSecond float64) {
	if past := now.Sub(a.at).Seconds(); past > 0 {
		a.spent = max(0, a.spent-past*perSecond)
	}
	a.at = now
}

// sweep forgets clients with nothing to remember, at most once per second.
func (r *rates) sweep(now time.Time) {
	if d := now.Sub(r.swept); d >= 0 && d < time.Second {
		return
	}
	r.swept = now
	for who, all := range r.of {
		full := true
		for c := range all {
			all[c].refill(now, classes[c].perSecond)
			full = full && all[c].spent == 0
		}
		if full {
			delete(r.of, who)
		}
	}
}
