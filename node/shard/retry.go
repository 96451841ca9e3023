package shard

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// stopError ends the work on a shard until an operator has acted, and another leadership or the restarted node begins
// again.
type stopError struct{ reason string }

func (e *stopError) Error() string { return e.reason }

func stopf(format string, args ...any) error { return &stopError{fmt.Sprintf(format, args...)} }

const (
	// What has stopped is tried again after againFirst, then more and more seldom, down to againMost: what stops it is
	// looked for before anything is done, so an attempt that comes too early changes nothing.
	againFirst = 5 * time.Second
	againMost  = 5 * time.Minute
)

// newBackoff waits exponentially longer with jitter, without end.
func newBackoff(first, most time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = first, most, 2, 0.5
	b.Reset()
	return b
}

// sleep waits for d, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
