package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Two plans at a time, of those that wait the smallest first; one that waits no more takes no place.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(2)
		var mu sync.Mutex
		var order []int64
		var inside, most int
		write := func(ctx context.Context, size int64) error {
			if err := g.enter(ctx, size); err != nil {
				return err
			}
			defer g.leave()
			mu.Lock()
			order = append(order, size)
			inside++
			most = max(most, inside)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			inside--
			return nil
		}
		gone, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, size := range []int64{9, 8, 7, 3, 5, 1, 3, 6} {
			all.Go(func() {
				ctx := t.Context()
				if size == 6 {
					ctx = gone
				}
				err := write(ctx, size)
				if (err != nil) != (size == 6) || err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("%d: %v", size, err)
				}
			})
			synctest.Wait()
		}
		cancel()
		all.Wait()
		if want := []int64{9, 8, 1, 3, 3, 5, 7}; !slices.Equal(order[:2], want[:2]) || most != 2 ||
			fmt.Sprint(pairs(order[2:])) != fmt.Sprint(pairs(want[2:])) {
			t.Errorf("in the order %v, %d at a time", order, most)
		}
		if g.free != 2 || len(g.waiting) != 0 {
			t.Errorf("%d are free, %d wait", g.free, len(g.waiting))
		}
	})
}

// Who gives up at the moment at which it is let in leaves the place to the next.
func TestGateIsLeftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			g := NewGate(1)
			if err := g.enter(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				if g.enter(ctx, 1) == nil {
					g.leave()
				}
			}()
			synctest.Wait()
			g.mu.Lock() // so that both come before it looks
			cancel()
			close(g.waiting[0].in)
			g.waiting = nil
			g.mu.Unlock()
			<-done
			if g.free != 1 {
				t.Fatalf("%d are free", g.free)
			}
		}
	})
}

// pairs are those that are let in at the same time, in whatever order.
func pairs(order []int64) (p [][]int64) {
	for c := range slices.Chunk(slices.Clone(order), 2) {
		slices.Sort(c)
		p = append(p, c)
	}
	return p
}
