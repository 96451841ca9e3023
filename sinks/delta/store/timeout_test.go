package store_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/store"
)

// stalled answers no request, except that a list gives some objects first, one per interval.
type stalled struct {
	store.Store
	objects int
	every   time.Duration
}

func (stalled) Put(ctx context.Context, _ string, _ []byte) error { <-ctx.Done(); return ctx.Err() }
func (stalled) PutIfAbsent(ctx context.Context, _ string, _ []byte) error {
	<-ctx.Done()
	return ctx.Err()
}
func (stalled) PutStreamIfAbsent(ctx context.Context, _ string, _ int64, _ func(io.Writer) error) error {
	<-ctx.Done()
	return ctx.Err()
}
func (stalled) Get(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (stalled) GetRange(ctx context.Context, _ string, _ int64, _ []byte) (store.Range, error) {
	<-ctx.Done()
	return store.Range{}, ctx.Err()
}
func (stalled) Delete(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
func (s stalled) List(ctx context.Context, _, _ string, yield func(store.Info) error) error {
	for range s.objects {
		select {
		case <-time.After(s.every):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := yield(store.Info{}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestTimeouts(t *testing.T) {
	big := make([]byte, 20<<20)
	for name, tc := range map[string]struct {
		call func(context.Context, store.Store) error
		want time.Duration
	}{
		"put": {func(ctx context.Context, s store.Store) error { return s.Put(ctx, "k", nil) },
			30 * time.Second},
		"get range": {func(ctx context.Context, s store.Store) error {
			_, err := s.GetRange(ctx, "k.parquet", 0, big)
			return err
		}, 30*time.Second + 20*time.Second},
		"put stream": {func(ctx context.Context, s store.Store) error {
			return s.PutStreamIfAbsent(ctx, "k", 3<<20, nil)
		}, 330 * time.Second},
		"put if absent": {func(ctx context.Context, s store.Store) error { return s.PutIfAbsent(ctx, "k", nil) },
			30 * time.Second},
		"large put": {func(ctx context.Context, s store.Store) error { return s.Put(ctx, "k", big) },
			50 * time.Second},
		"get": {func(ctx context.Context, s store.Store) error { _, err := s.Get(ctx, "k.json"); return err },
			30 * time.Second},
		"large get": {func(ctx context.Context, s store.Store) error { _, err := s.Get(ctx, "k.parquet"); return err },
			300 * time.Second},
		"delete": {func(ctx context.Context, s store.Store) error { return s.Delete(ctx, "k") },
			30 * time.Second},
		"list": {func(ctx context.Context, s store.Store) error {
			return s.List(ctx, "", "", func(store.Info) error { return nil })
		}, (5*20 + 30) * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := store.WithTimeouts(stalled{objects.NewMem(nil), 5, 20 * time.Second}, 30*time.Second)
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				err := tc.call(ctx, s)
				if took := time.Since(start); err == nil || !strings.Contains(err.Error(), "no answer within") ||
					took != tc.want {
					t.Errorf("after %v, want %v: %v", took, tc.want, err)
				}
			})
		})
	}
	s := store.WithTimeouts(objects.NewMem(nil), time.Second)
	if err := s.Put(t.Context(), "k", big); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), "k"); err != nil || len(got) != len(big) {
		t.Fatal(len(got), err)
	}
}
