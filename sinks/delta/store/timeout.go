package store

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// slowest is the lowest transfer rate, in bytes per second, at which a put still ends within its time limit.
const slowest = 1 << 20

// largeGet is how many times longer the Get of a Parquet object may take, as its size is not known before.
const largeGet = 10

type timeouts struct {
	s   Store
	per time.Duration
}

// WithTimeouts returns s with a time limit for every request, so that a server that stops answering in the middle of
// a body blocks no caller for ever. The limit is the duration per, for a put or a range one second more per MiB. The
// Get of a Parquet object, and a put of a stream, which is made meanwhile, may take ten times per; a List may take
// per from one object to the next.
func WithTimeouts(s Store, per time.Duration) Store { return &timeouts{s: s, per: per} }

func (t *timeouts) do(ctx context.Context, d time.Duration, op, key string, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := f(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("store: %s %s: no answer within %v: %w", op, key, d, err)
	}
	return err
}

func (t *timeouts) sized(n int) time.Duration { return t.per + time.Duration(n)*time.Second/slowest }

// Put implements Store.
func (t *timeouts) Put(ctx context.Context, key string, data []byte) error {
	return t.do(ctx, t.sized(len(data)), "put", key, func(ctx context.Context) error { return t.s.Put(ctx, key, data) })
}

// PutIfAbsent implements Store.
func (t *timeouts) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return t.do(ctx, t.sized(len(data)), "put", key, func(ctx context.Context) error {
		return t.s.PutIfAbsent(ctx, key, data)
	})
}

// PutStreamIfAbsent implements Store.
func (t *timeouts) PutStreamIfAbsent(ctx context.Context, key string, size int64, write func(io.Writer) error) error {
	return t.do(ctx, largeGet*t.sized(int(size)), "put", key, func(ctx context.Context) error {
		return t.s.PutStreamIfAbsent(ctx, key, size, write)
	})
}

// Get implements Store.
func (t *timeouts) Get(ctx context.Context, key string) (data []byte, err error) {
	d := t.per
	if strings.HasSuffix(key, ".parquet") {
		d *= largeGet
	}
	err = t.do(ctx, d, "get", key, func(ctx context.Context) (err error) {
		data, err = t.s.Get(ctx, key)
		return err
	})
	return data, err
}

// GetRange implements Store.
func (t *timeouts) GetRange(ctx context.Context, key string, off int64, p []byte) (r Range, err error) {
	err = t.do(ctx, t.sized(len(p)), "get a range of", key, func(ctx context.Context) (err error) {
		r, err = t.s.GetRange(ctx, key, off, p)
		return err
	})
	return r, err
}

// List implements Store.
func (t *timeouts) List(ctx context.Context, prefix, startAfter string, yield func(Info) error) error {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(t.per, cancel)
	defer timer.Stop()
	err := t.s.List(limited, prefix, startAfter, func(i Info) error {
		timer.Reset(t.per)
		return yield(i)
	})
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("store: list %s: no answer within %v: %w", prefix, t.per, err)
	}
	return err
}

// Delete implements Store.
func (t *timeouts) Delete(ctx context.Context, key string) error {
	return t.do(ctx, t.per, "delete", key, func(ctx context.Context) error { return t.s.Delete(ctx, key) })
}

// SyncNames calls SyncNames for the store below.
func (t *timeouts) SyncNames(ctx context.Context, key string) error {
	return t.do(ctx, t.per, "sync", key, func(ctx context.Context) error { return SyncNames(ctx, t.s, key) })
}

// String implements Store.
func (t *timeouts) String() string { return t.s.String() }
