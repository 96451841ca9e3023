package state

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/schema"
)

// openPlanStore returns a store with an outstanding plan of three sessions for ClickHouse.
func openPlanStore(t *testing.T, fs vfs.FS, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{FS: fs, Dir: dir})
	must(t, err)
	g := newGenerator(5)
	for i, entry := range [][]byte{
		EncodeConfig(testConfig()), AppendBatch(nil, g.batch()), EncodeCut(g.now*1000, 0, 0),
		EncodePlan(SinkClickHouse, 0),
	} {
		_, err := s.Apply(uint64(i+1), 1, entry)
		must(t, err)
	}
	return s
}

// TestCloseEndsPlans closes and restores a store while one of its plans is being read. The reader gets ErrClosed, at
// its next row or with its next call, and Pebble is closed without a leak.
func TestCloseEndsPlans(t *testing.T) {
	for _, how := range []string{"close", "restore"} {
		t.Run(how, func(t *testing.T) {
			fs := vfs.NewMem()
			s := openPlanStore(t, fs, "shard")
			if how == "restore" {
				other := openPlanStore(t, fs, "other")
				_, _, err := other.Snapshot("copy")
				must(t, err)
				must(t, other.Close())
			}
			p, err := s.OpenPlan(SinkClickHouse)
			must(t, err)
			reading, ended := make(chan struct{}), make(chan error, 1)
			rows := 0
			go func() {
				ended <- p.Sessions(func(*schema.SessionRow) error {
					if rows++; rows == 1 {
						close(reading)
						for s.plans.closing() == false { // until Close has begun, which waits for the row
						}
					}
					return nil
				})
			}()
			<-reading
			if how == "close" {
				must(t, s.Close())
			} else {
				must(t, s.Restore("copy"))
			}
			if err := <-ended; !errors.Is(err, ErrClosed) {
				t.Fatalf("the reader got %v after %d rows, not ErrClosed", err, rows)
			}
			if err := p.Rollups(func(*schema.RollupRow) error { return nil }); !errors.Is(err, ErrClosed) {
				t.Fatalf("reading the plan again: %v", err)
			}
			must(t, p.Close())
			_, err = s.OpenPlan(SinkClickHouse)
			if how == "close" && !errors.Is(err, ErrClosed) {
				t.Fatalf("a plan of a closed store: %v", err)
			}
			if how == "restore" {
				must(t, err)
				must(t, s.Close()) // ends the plan that has just been opened
			}
		})
	}
}

// TestPlanEndsAtLastClosed: only the plan of the events obeys a bound. A plan of another sink that ended earlier would
// lack the images that a later Cut has superseded.
func TestPlanEndsAtLastClosed(t *testing.T) {
	s := openPlanStore(t, vfs.NewMem(), "shard")
	defer func() { must(t, s.Close()) }()
	g := newGenerator(6)
	index := uint64(4)
	apply := func(entry []byte) any {
		index++
		res, err := s.Apply(index, 1, entry)
		must(t, err)
		return res
	}
	for _, p := range s.View().Partitions {
		g.next[p.Partition] = p.Next
	}
	apply(AppendBatch(nil, &BatchEntry{Batch: g.batch().Batch, Now: g.now * 1000}))
	apply(EncodeCut(g.now*1000, 0, 0))
	for sink, want := range map[SinkID]uint64{SinkEvents: 1, SinkSessions: 2, SinkDeadLetter: 2,
		SinkClickHouse: 1 /* outstanding */} {
		if res := apply(EncodePlan(sink, 1)).(*PlanResult); res.B != want {
			t.Errorf("plan of %s bounded by 1: up to %d, want %d", sink, res.B, want)
		}
	}
}
