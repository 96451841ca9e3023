package shard

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"deckle/state"
)

func TestArrivalsMeasureEachEpochOnceAndKeepsPlansSmall(t *testing.T) {
	p := newEpochArrivals()
	for e := uint64(5); e <= 8; e++ {
		p.add([]int64{1000, 1000, 2000})
		p.close(e, 3)
	}
	earlier := map[uint64]int64{3: 2, 4: 2}
	for _, c := range []struct {
		a     uint64
		limit int64
		want  uint64
		why   string
	}{
		{4, 7, 6, "so many as the limit allows"},
		{4, 1, 5, "at least one"},
		{2, 3, 3, "epochs from before the leadership count, too"},
		{2, 7, 5, "and go together with those after it"},
	} {
		b, err := p.reach(c.a, 8, c.limit, func(e uint64) (int64, error) {
			n, ok := earlier[e]
			if !ok {
				t.Errorf("epoch %d is asked for", e)
			}
			return n, nil
		})
		if b != c.want || err != nil {
			t.Errorf("from %d with a limit of %d: up to %d, %v, want %d: %s", c.a, c.limit, b, err, c.want, c.why)
		}
	}
	if _, err := p.reach(2, 8, 7, func(uint64) (int64, error) { return 0, errDown }); !errors.Is(err, errDown) {
		t.Errorf("what cannot be known: %v", err)
	}
	both := []state.SinkID{state.SinkEvents, state.SinkSessions}
	kept := func(want ...uint64) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(p.epochs)); !slices.Equal(got, want) {
			t.Errorf("epochs %v are kept, want %v", got, want)
		}
	}
	var events, sessions histogram
	p.visible(state.SinkEvents, 4, 6, 3000, &events, both)
	if l := events.latency(); l.Count != 6 || l.Max < 1996 || l.Max > 2004 {
		t.Errorf("latency %+v", l)
	}
	kept(5, 6, 7, 8) // the other sink has observed none
	p.visible(state.SinkSessions, 4, 5, 4000, &sessions, both)
	kept(6, 7, 8)
	p.visible(state.SinkSessions, 5, 8, 4000, &sessions, both)
	if l := sessions.latency(); l.Count != 12 {
		t.Errorf("latency %+v", l)
	}
	kept(7, 8)
}

func TestArrivalsStayBounded(t *testing.T) {
	a := newTimestamps()
	var n int64
	for i := range int64(100000) {
		a.add(i*1000, 1)
	}
	a.each(func(_, c int64) { n += c })
	if len(a.counts) > maxTimestampBuckets || n != 100000 {
		t.Fatalf("%d buckets, %d records", len(a.counts), n)
	}
}
