package shard

import (
	"context"
	"slices"
	"sync"
)

// Gate lets a few plans at a time be written to a destination, and of those that wait the smallest first: cut together,
// the plans of all shards would be written at the same time, and each would take as long as all.
type Gate struct {
	mu      sync.Mutex
	free    int
	waiting []*atGate // the smallest first, alike ones in their order
}

type atGate struct {
	size int64
	in   chan struct{} // closed when it is let in
}

// NewGate returns a gate that lets so many in at a time.
func NewGate(n int) *Gate { return &Gate{free: n} }

// enter waits to be let in with a plan of a size, in events, until ctx ends.
func (g *Gate) enter(ctx context.Context, size int64) error {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return nil
	}
	w := &atGate{size, make(chan struct{})}
	i, _ := slices.BinarySearchFunc(g.waiting, size, func(o *atGate, size int64) int {
		if o.size <= size {
			return -1
		}
		return 1
	})
	g.waiting = slices.Insert(g.waiting, i, w)
	g.mu.Unlock()
	select {
	case <-w.in:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	i = slices.Index(g.waiting, w)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 { // it was let in at the same moment
		g.leave()
	}
	return ctx.Err()
}

// leave lets the next one in.
func (g *Gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.free++
		return
	}
	close(g.waiting[0].in)
	g.waiting = slices.Delete(g.waiting, 0, 1)
}
