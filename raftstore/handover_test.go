package raftstore

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A node that is away is offered the leadership twice. The second offer is refused before the library gets it, where it
// would wait for ever, and the group would take nothing any more. Once the node is back, it is offered again.
func TestLeadershipIsOfferedTwice(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(c.all()...)
	c.ready(c.all()...)
	c.put(0, 10)
	away := c.others(c.leader(0))[0]
	c.stop(away)
	for from := time.Now(); time.Since(from) < 2*time.Second; { // the pauses between attempts to reach it grow
		c.put(0, 10)
		time.Sleep(20 * time.Millisecond)
	}
	offer := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return c.nodes[c.leader(0)].store.Group(0).TransferLeadership(ctx, c.peers[away].Name)
	}
	if err := offer(); err == nil || errors.Is(err, errStuck) {
		t.Fatalf("the first offer: %v", err)
	}
	for range 3 {
		if err := offer(); err == nil {
			t.Fatal("a node that is away has taken the leadership")
		}
	}
	c.put(0, 10)
	c.start(away)
	c.ready(away)
	c.eventually("the node takes the leadership", func() bool {
		if c.leader(0) != away {
			c.put(0, 10)
			_ = offer()
		}
		return c.leader(0) == away
	})
	c.put(0, 10)
}

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
