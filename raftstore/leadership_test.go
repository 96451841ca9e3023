package raftstore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// While a transfer is tried an entry is refused, and from then on every entry, so that none overtakes another. When the
// transfer has failed the leadership is announced again, and entries are accepted again.
func TestLeadershipIsRenewedAfterAFailedTransfer(t *testing.T) {
	c := newCluster(t, 3, 1, func(_ int, o *Options) {
		o.Timings.Heartbeat, o.Timings.Lease, o.Timings.Election = time.Second, time.Second, time.Second
	})
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.agree(0, c.all()...)
	led := c.leader(0)
	gone := c.others(led)[0]
	c.stop(gone)
	g := c.nodes[led].store.Group(0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := g.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	notice := func() Leadership {
		t.Helper()
		select {
		case l := <-g.Leadership():
			return l
		case <-ctx.Done():
			t.Fatal("no leadership is announced")
			return Leadership{}
		}
	}
	first := notice()
	if !first.Leader {
		t.Fatalf("notice %+v", first)
	}

	transfer := make(chan error, 1)
	go func() { transfer <- g.TransferLeadership(ctx, c.peers[gone].Name) }()
	var err error
	for err == nil {
		_, err = g.Propose([]byte("before")).Wait(ctx)
	}
	if !errors.Is(err, ErrNotLeader) || !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		t.Fatalf("propose during a transfer gave %v", err)
	}
	if !g.IsLeader() {
		t.Fatal("it does not lead any more")
	}
	if l := notice(); l.Leader || l.Term != first.Term {
		t.Fatalf("notice %+v after an entry was refused", l)
	}
	// The announced leadership is over, whether the transfer succeeds or not.
	before := c.image(led, 0)
	if _, err := g.Propose([]byte("early")).Wait(ctx); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("propose within the leadership that has ended gave %v", err)
	}
	if err := <-transfer; err == nil {
		t.Fatal("the leadership was handed to a node that is down")
	}
	if l := notice(); !l.Leader || l.Term != first.Term {
		t.Fatalf("notice %+v after the transfer has failed", l)
	}
	if _, err := g.Propose([]byte("again")).Wait(ctx); err != nil {
		t.Fatalf("propose in the renewed leadership gave %v", err)
	}
	if got := c.image(led, 0); got.Count != before.Count+1 {
		t.Fatalf("%d entries applied, want one more than %d", got.Count, before.Count)
	}
}

func TestBackOff(t *testing.T) {
	var got []time.Duration
	var pause time.Duration
	for range 8 {
		pause = backOff(pause, 2*time.Second)
		got = append(got, pause/time.Second)
	}
	if want := []time.Duration{4, 8, 16, 32, 64, 120, 120, 120}; !slices.Equal(got, want) {
		t.Fatalf("pauses %v s, want %v", got, want)
	}
}
