package sim

import (
	"context"
	"time"
)

// Pause lets d pass, or returns the error of ctx if that ends first. In a bubble of testing/synctest it is virtual time
// that passes.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
