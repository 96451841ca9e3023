package front

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A client has its burst at once and then its rate, each class by itself, and another client is not held back by it.
func TestRates(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRates(func() time.Time { return now })
	a, b := Who{Addr: netip.MustParseAddr("10.0.0.1")}, Who{Name: "token:x"}
	for c := range numClasses {
		rate, burst := c.Limit()
		for i := range int(burst) {
			if wait := r.take(a, c); wait != 0 {
				t.Fatalf("%s: request %d waits %v", c, i, wait)
			}
		}
		wait := r.take(a, c)
		if d := wait.Seconds() - 1/rate; d < -1e-6 || d > 1e-6 {
			t.Errorf("%s: wait %v, want 1/%v s", c, wait, rate)
		}
		if r.take(b, c) != 0 {
			t.Errorf("%s: another client waits", c)
		}
	}
	now = now.Add(time.Second)
	for c := range numClasses {
		rate, _ := c.Limit()
		n := 0
		for r.take(a, c) == 0 {
			n++
		}
		if n != int(rate) {
			t.Errorf("%s: %d requests after a second, want %d", c, n, int(rate))
		}
	}
	now = now.Add(-time.Hour) // a clock that is set back gives nothing, and takes nothing away
	if r.take(a, Read) == 0 {
		t.Error("a clock that was set back gives an allowance")
	}
	now = now.Add(time.Second)
	if r.take(a, Read) != 0 {
		t.Error("a clock that was set back has stopped the allowance")
	}
}

// Strangers cannot make a node remember more than a bounded number of them; whoever is known by then is not held back
// by the others, and who has been silent is forgotten.
func TestManyClients(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRates(func() time.Time { return now })
	known := Who{Name: "token:x"}
	r.take(known, Read)
	for i := range 3 * maxClients {
		r.take(Who{Name: fmt.Sprint(i)}, Read)
	}
	if len(r.of) != maxClients {
		t.Errorf("%d clients", len(r.of))
	}
	if r.take(Who{Name: "late"}, Read) == 0 {
		t.Error("the newest do not share")
	}
	if r.take(known, Read) != 0 {
		t.Error("one that was known is held back")
	}
	now = now.Add(time.Minute)
	if r.take(Who{Name: "late"}, Read) != 0 || len(r.of) != 1 {
		t.Errorf("%d clients after silence", len(r.of))
	}
}
