package state

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema/level"
)

// The gaps that the sink of raw events has not passed are bounded, however many are asked for: meta is written whole
// with every checkpoint. Once the sink has passed them there is room again.
func TestPendingGapsAreBounded(t *testing.T) {
	sc := &script{fs: vfs.NewMem(), t: t}
	sc.open()
	defer func() { must(t, sc.s.Close()) }()
	sc.apply(EncodeConfig(testConfig()))
	sc.apply(EncodeLevel(1e3*t0, level.Real))
	batch := func(from, to int64) {
		e := &BatchEntry{Now: 1e3 * t0, Level: level.Real}
		e.Batch.Ranges = []event.Range{{From: from, To: to}}
		e.Batch.Seen = make([]event.Seen, 1)
		if res, ok := sc.apply(AppendBatch(nil, e)).(*BatchResult); !ok || res.Rejected {
			t.Fatalf("%+v", res)
		}
	}
	skip := func(from int64) *EventsSkipResult {
		return sc.apply(EncodeSkipEvents(&Gap{From: from, To: from + 1})).(*EventsSkipResult)
	}
	batch(0, 3000)
	for i := range int64(maxPendingGaps) {
		if res := skip(2 * i); res.Rejected || res.Offsets != 1 {
			t.Fatalf("gap %d: %+v", i, res)
		}
	}
	if res := skip(2 * maxPendingGaps); !res.Rejected || !res.Full {
		t.Errorf("one more: %+v", res)
	}
	if res := skip(0); res.Rejected || res.Offsets != 0 { // kept no more in full, but still known
		t.Errorf("the first one again: %+v", res)
	}
	sc.apply(EncodeCut(1e3*t0, 0, 0))
	sc.apply(EncodePlan(SinkEvents, 1<<40))
	sc.apply(EncodeAck(SinkEvents, 1))
	batch(3000, 3010)
	if res := skip(3002); res.Rejected || len(sc.s.meta.PendingGaps) != 1 {
		t.Errorf("after they were passed: %+v, %d pending", res, len(sc.s.meta.PendingGaps))
	}
	of := sc.s.View().EventGaps[0]
	if of.Count != maxPendingGaps+1 || of.Offsets != of.Count || len(of.Last) != MaxGaps {
		t.Errorf("%d gaps with %d offsets, %d in full", of.Count, of.Offsets, len(of.Last))
	}
}

func TestCutOut(t *testing.T) {
	r := func(from, to int64) event.Range { return event.Range{Partition: 1, From: from, To: to} }
	other := event.Range{Partition: 2, From: 0, To: 100}
	for _, c := range []struct{ out, want []event.Range }{
		{nil, []event.Range{r(10, 20)}},
		{[]event.Range{other, r(0, 10), r(20, 30)}, []event.Range{r(10, 20)}},
		{[]event.Range{r(12, 14), r(5, 11), r(18, 99)}, []event.Range{r(11, 12), r(14, 18)}},
		{[]event.Range{r(15, 20), r(10, 15)}, nil},
		{[]event.Range{r(14, 12)}, []event.Range{r(10, 20)}},
	} {
		if got := cutOut(r(10, 20), c.out); !slices.Equal(got, c.want) {
			t.Errorf("without %v: %v, want %v", c.out, got, c.want)
		}
	}
}
