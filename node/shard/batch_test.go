package shard

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/schema/level"
	"deckle/state"
)

// TestBatchBuf compares a buffer that has had batches of other shapes with a fresh one: the items of one batch are made
// in the memory of former ones, and must hold nothing of them. No partition order of arrival may show in the batch.
func TestBatchBuf(t *testing.T) {
	rules := state.DefaultRules()
	rules.Event.UnknownTypes = event.SkipUnknown
	offsets := map[int32]int64{}
	fill := func(b *batchBuf, n int, partitions ...int32) *event.Batch {
		b.judgeBy(&rules, nil, &event.Suppression{})
		for i := range n {
			p := partitions[i%len(partitions)]
			r := &kgo.Record{Partition: p, Offset: offsets[p] + int64(i), Timestamp: time.Unix(1_700_000_000, 0),
				Key: fmt.Appendf(nil, "s%d", i%3)}
			typ, extra := "article_view", fmt.Sprintf(`,"brand":"b%d","user_id":"u%d","more":%d`, i%2, i%5, i)
			switch {
			case i%7 == 3:
				typ = "unknown" // left out
			case i%7 == 5:
				extra = `,"timestamp":0` // refused
			case n < 20: // leaves most fields empty
				extra, r.Key = "", nil
			}
			r.Value = fmt.Appendf(nil, `{"event_id":"e%d","session_id":"s%d","event_type":%q,"timestamp":1700000000%s}`,
				i, i%3, typ, extra)
			b.add(r, offsets[p], false)
		}
		return b.finish()
	}
	var used batchBuf
	for _, step := range []struct {
		n          int
		partitions []int32
	}{{100, []int32{5, 3, 9}}, {12, []int32{9, 5}}, {200, []int32{3}}, {15, []int32{3}}, {40, []int32{9, 3}}} {
		got := fill(&used, step.n, step.partitions...)
		if err := got.Check(level.Current); err != nil {
			t.Fatalf("%d records of %v: %v", step.n, step.partitions, err)
		}
		if len(got.Ranges) != len(step.partitions) || len(got.Items) == 0 || len(got.Rejects) == 0 {
			t.Fatalf("%d records of %v: %d ranges, %d items, %d rejects", step.n, step.partitions, len(got.Ranges),
				len(got.Items), len(got.Rejects))
		}
		var fresh batchBuf
		if want := fill(&fresh, step.n, step.partitions...); !reflect.DeepEqual(got.Items, want.Items) {
			t.Errorf("%d records of %v: the items are not those of a fresh buffer", step.n, step.partitions)
		}
		used.reset()
		for _, p := range used.free {
			for i, it := range p.items[:cap(p.items)] {
				if it != (event.Item{}) {
					t.Fatalf("item %d still holds a record after reset: %+v", i, it)
				}
			}
		}
	}
}
