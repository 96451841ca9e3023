package shard

import (
	"testing"
	"time"
)

// Each node cuts once per interval, always at the same place in it, a third of it after the node before.
func TestNodesTakeTurns(t *testing.T) {
	start := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second, time.Hour} {
		for _, of := range []int{1, 3} {
			for turn := range of {
				for at := time.Duration(0); at < 2*every; at += every / 7 {
					now := start.Add(at)
					d := untilTurn(now, every, turn, of)
					if d <= 0 || d > every {
						t.Fatalf("every %v, turn %d of %d, at %v: the next cut is %v away", every, turn, of, at, d)
					}
					phase := every * time.Duration(turn) / time.Duration(of)
					// no wait is shorter
					if next := now.Add(d - phase); next.Sub(next.Truncate(every)) >= time.Millisecond {
						t.Fatalf("every %v, turn %d of %d, at %v: the next cut is at %v after the phase", every, turn,
							of, at, next)
					}
				}
			}
		}
	}
}

// Six shards on three nodes have six turns, each its own; where a turn is short, a node's shards have one.
func TestCutTurns(t *testing.T) {
	for _, c := range []struct {
		every     time.Duration
		node, of  int // of nodes
		shard     uint32
		turn, all int
	}{
		{10 * time.Second, 0, 3, 0, 0, 6}, {10 * time.Second, 0, 3, 3, 1, 6}, {10 * time.Second, 1, 3, 1, 2, 6},
		{10 * time.Second, 1, 3, 4, 3, 6}, {10 * time.Second, 2, 3, 2, 4, 6}, {10 * time.Second, 2, 3, 5, 5, 6},
		// away from home: in the halves of the node that leads them
		{10 * time.Second, 2, 3, 0, 4, 6}, {10 * time.Second, 2, 3, 3, 5, 6},
		{10 * time.Second, 0, 1, 0, 0, 2}, {10 * time.Second, 0, 1, 1, 1, 2}, {10 * time.Second, 0, 1, 2, 0, 2},
		{time.Second, 1, 3, 1, 1, 3}, {time.Second, 1, 3, 4, 1, 3}, {6*time.Second - 1, 2, 3, 5, 2, 3},
		{6 * time.Second, 2, 3, 5, 5, 6},
	} {
		if turn, all := cutTurn(c.every, c.node, c.of, c.shard); turn != c.turn || all != c.all {
			t.Errorf("every %v, shard %d on node %d of %d: turn %d of %d, want %d of %d", c.every, c.shard, c.node,
				c.of, turn, all, c.turn, c.all)
		}
	}
}
