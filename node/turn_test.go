package node

import (
	"testing"
	"time"
)

// Each node cuts once an interval, at the same place in it whatever the moment, a third of it after the node before.
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
					if next := now.Add(d - phase); next.Sub(next.Truncate(every)) >= time.Millisecond { // no wait is shorter
						t.Fatalf("every %v, turn %d of %d, at %v: the next cut is at %v after the phase", every, turn, of, at, next)
					}
				}
			}
		}
	}
}
