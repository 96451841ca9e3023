package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/nodetest"
	"deckle/state"
)

// originalsOf reads positions, and gives "" for a record that is lost.
func originalsOf(ctx context.Context, f *Refetch, at ...state.Position) ([]string, error) {
	out := make([]string, 0, len(at))
	err := f.Originals(ctx, at, func(i int, value []byte, ok bool) error {
		if i != len(out) || ok != (value != nil) {
			return errors.New("out of order")
		}
		out = append(out, string(value))
		return nil
	})
	return out, err
}

func TestOriginalsGiveTheBytes(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	var want [2][]string
	for i := range 1200 {
		p := int32(i % 2)
		r := nodetest.Record(p, "s", i)
		want[p] = append(want[p], string(r.Value))
		b.Produce(r)
	}
	f := NewRefetch(clientOf(b), noKey)
	ctx := nodetest.Context(t)
	check := func(at ...state.Position) {
		t.Helper()
		got, err := originalsOf(ctx, f, at...)
		if err != nil || len(got) != len(at) {
			t.Fatalf("%d of %d: %v", len(got), len(at), err)
		}
		for i, p := range at {
			w := ""
			if p.Offset >= 50 && p.Offset < 600 || p.Partition == 1 && p.Offset < 600 {
				w = want[p.Partition][p.Offset]
			}
			if got[i] != w {
				t.Fatalf("%v: %q, want %q", p, got[i], w)
			}
		}
	}
	if err := b.DeleteRecords(nodetest.Topic, 0, 50); err != nil {
		t.Fatal(err)
	}
	check()
	check(state.Position{Offset: 599})
	check(state.Position{Offset: 3}) // lost
	check(state.Position{Offset: 600})
	check(state.Position{Offset: 3}, state.Position{Offset: 49}, state.Position{Offset: 50},
		state.Position{Offset: 51}, state.Position{Offset: 599},
		state.Position{Offset: 600}, state.Position{Offset: 1 << 40}, state.Position{Partition: 1},
		state.Position{Partition: 1, Offset: 7},
		state.Position{Partition: 1, Offset: 599}, state.Position{Partition: 1, Offset: 600})
	stop := errors.New("enough")
	if err := f.Originals(ctx, []state.Position{{Offset: 60}, {Offset: 61}}, func(i int, _ []byte, _ bool) error {
		if i > 0 {
			t.Error("goes on")
		}
		return stop
	}); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

// TestOriginalsCostFewRequests: letters of several shards are read at the same time. What a plan costs follows from its
// partitions and windows, not from its letters.
func TestOriginalsCostFewRequests(t *testing.T) {
	const partitions, each = 6, 400
	b := nodetest.NewBroker(t, partitions)
	for i := range partitions * each {
		b.Produce(nodetest.Record(int32(i%partitions), "s", i))
	}
	var clients atomic.Int64
	opts := append(slices.Clone(b.Opts), kgo.WithHooks(newClientHook{&clients}))
	f := NewRefetch(clientOf(b, opts...), noKey)
	start := time.Now()
	var shards sync.WaitGroup
	for shard := range int32(3) {
		shards.Go(func() {
			var at []state.Position
			for p := shard; p < partitions; p += 3 {
				for o := range int64(each) {
					if o%3 != 1 {
						at = append(at, state.Position{Partition: p, Offset: o})
					}
				}
			}
			if got, err := originalsOf(nodetest.Context(t), f, at...); err != nil || slices.Contains(got, "") {
				t.Errorf("shard %d: %v", shard, err)
			}
		})
	}
	shards.Wait()
	t.Logf("%d clients in %v", clients.Load(), time.Since(start))
	if n := clients.Load(); n != partitions {
		t.Errorf("%d clients for %d partitions", n, partitions)
	}
}

// newClientHook counts clients.
type newClientHook struct{ n *atomic.Int64 }

func (h newClientHook) OnNewClient(*kgo.Client) { h.n.Add(1) }
