package raftstore

import (
	"errors"
	"testing"
	"time"
)

// A node that cannot keep the leadership is given it less and less often, and as often as before once it has kept it.
func TestPreferredNodeThatCannotKeepTheLeadership(t *testing.T) {
	const every = 2 * time.Second
	now := time.Unix(0, 0)
	var p handoverPace
	// lead is the time from winning the leadership until it is handed over.
	lead := func() time.Duration {
		for from := now; ; now = now.Add(every) {
			if p.due(now, every) {
				return now.Sub(from)
			}
		}
	}
	last := lead()
	if last != every {
		t.Errorf("a new leader leads for %v", last)
	}
	for range 10 {
		p.tried(now, every, nil)
		p.lost()
		now = now.Add(5 * time.Second)
		d := lead()
		if d < min(2*last, 2*time.Minute) {
			t.Errorf("after %v it is handed over after %v", last, d)
		}
		last = d
	}
	if last > 2*time.Minute {
		t.Errorf("it leads for %v", last)
	}
	p.tried(now, every, nil)
	p.lost()
	now = now.Add(10 * time.Minute)
	if d := lead(); d != every {
		t.Errorf("after a long time it is handed over after %v", d)
	}
	// A failed attempt is repeated later each time, without the leadership being lost in between.
	for _, want := range []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second} {
		p.tried(now, every, errors.New("it did not answer"))
		if d := lead(); d != want {
			t.Errorf("after a failure it is tried again after %v, want %v", d, want)
		}
	}
}
