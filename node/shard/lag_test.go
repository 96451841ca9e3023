package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"deckle/node/kafka"
	"deckle/node/status"
	"deckle/state"
)

// The lag is that of every partition of the shard's share, and what is not known is never 0.
func TestLagOf(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	id := [16]byte{1}
	view := state.View{Configured: true, Config: state.Config{Shard: 1, Shards: 2, TopicID: id},
		Partitions: []state.PartitionStatus{{Partition: 3, Next: 40}, {Partition: 1, Next: 10}}}
	listing := func(change func(*kafka.Listing)) *kafka.Listing {
		l := &kafka.Listing{Info: kafka.Info{ID: id, Partitions: 4}, Ends: map[int32]int64{0: 5, 1: 10, 2: 7, 3: 40},
			Held: map[int32]int64{0: 9, 1: 0, 2: 0, 3: 0}}
		change(l)
		return l
	}
	// One letter a partition: its lag, "+" and what a transaction holds, "?" for what is not known, "u" if unread.
	show := func(lag *status.Lag) string {
		var b strings.Builder
		opt := func(n *int64) string {
			if n == nil {
				return "?"
			}
			return fmt.Sprint(*n)
		}
		for _, p := range lag.Partitions {
			unread := ""
			if p.Unread {
				unread = "u"
			}
			fmt.Fprintf(&b, "%d%s:%s+%s ", p.Partition, unread, opt(p.Records), opt(p.OpenTransaction))
		}
		seconds := "?"
		if lag.Seconds != nil {
			seconds = fmt.Sprint(*lag.Seconds)
		}
		fmt.Fprintf(&b, "= %s+%s, %s s, %d unknown", opt(lag.Records), opt(lag.OpenTransaction), seconds, lag.Unknown)
		return b.String()
	}
	same := func(*kafka.Listing) {}
	for _, c := range []struct {
		name    string
		listing *kafka.Listing
		seen    map[int32]seen
		want    string
	}{
		{"nothing is known", nil, nil, "1:?+? 3:?+? = ?+?, ? s, 2 unknown"},
		{"at the end", listing(same), nil, "1:0+0 3:0+0 = 0+0, 0 s, 0 unknown"},
		{"behind, with an age", listing(func(l *kafka.Listing) { l.Ends[3] = 47 }),
			map[int32]seen{3: {last: 990_000}}, "1:0+0 3:7+0 = 7+0, 10 s, 0 unknown"},
		{"behind since the start: no record has an age yet", listing(func(l *kafka.Listing) { l.Ends[3] = 47 }), nil,
			"1:0+0 3:7+0 = 7+0, ? s, 0 unknown"},
		{"a fetch has shown more than the listing", listing(same), map[int32]seen{1: {end: 12, last: 999_000}},
			"1:2+0 3:0+0 = 2+0, 1 s, 0 unknown"},
		{"applied beyond the listing", listing(func(l *kafka.Listing) { l.Ends[1] = 4 }), nil,
			"1:0+0 3:0+0 = 0+0, 0 s, 0 unknown"},
		{"one partition has no leader", listing(func(l *kafka.Listing) { delete(l.Ends, 1); delete(l.Held, 1) }), nil,
			"1:?+? 3:0+0 = ?+?, ? s, 1 unknown"},
		{"a transaction is open", listing(func(l *kafka.Listing) { l.Held[1] = 6 }), nil,
			"1:0+6 3:0+0 = 0+6, 0 s, 0 unknown"},
		{"the high watermark is not known", listing(func(l *kafka.Listing) { delete(l.Held, 3) }), nil,
			"1:0+0 3:0+? = 0+?, 0 s, 0 unknown"},
		{"partitions were added", listing(func(l *kafka.Listing) {
			l.Info.Partitions, l.Ends[5], l.Held[5], l.Starts = 7, 20, 0, map[int32]int64{5: 8}
		}), nil, "1:0+0 3:0+0 5u:12+0 = 12+0, ? s, 0 unknown"},
		{"their beginning is not known yet", listing(func(l *kafka.Listing) {
			l.Info.Partitions, l.Ends[5], l.Held[5] = 7, 20, 0
		}), nil, "1:0+0 3:0+0 5u:?+0 = ?+0, ? s, 1 unknown"},
		{"another topic of that name", listing(func(l *kafka.Listing) { l.Info.ID = [16]byte{2} }), nil,
			"1:?+? 3:?+? = ?+?, ? s, 2 unknown"},
	} {
		lag := lagOf(&view, c.listing, c.seen, now)
		if got := show(&lag); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	lag := lagOf(&state.View{}, listing(same), nil, now)
	if got := show(&lag); got != "= ?+?, ? s, 0 unknown" {
		t.Errorf("before the shard exists: %s", got)
	}
}
