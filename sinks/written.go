package sinks

import (
	"context"
	"sync/atomic"
)

// Amount is what one call of Write has written: rows of tables, or letters, and their bytes, each as the sink counts
// them for its own metrics. An attempt that failed counts with what it had written.
type Amount struct{ rows, bytes atomic.Int64 }

// Load returns rows and bytes.
func (a *Amount) Load() (rows, bytes int64) { return a.rows.Load(), a.bytes.Load() }

type amountKey struct{}

// CountWritten returns a context for one call of Write, and what that call says that it has written.
func CountWritten(ctx context.Context) (context.Context, *Amount) {
	a := new(Amount)
	return context.WithValue(ctx, amountKey{}, a), a
}

// Wrote says, in a Write that was called with ctx, that rows of so many bytes have been written. It may be called from
// any goroutine.
func Wrote(ctx context.Context, rows, bytes int64) {
	if a, ok := ctx.Value(amountKey{}).(*Amount); ok {
		a.rows.Add(rows)
		a.bytes.Add(bytes)
	}
}
