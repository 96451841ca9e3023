package history

import (
	"maps"
	"strings"
	"testing"
)

var rollups = []string{"session_summary", "brand_analytics", "device_analytics", "geographic_analytics",
	"subscription_analytics"}

// rest is a look at two shards whose plans are all written: at epochs 5 and 8.
func rest() *Look {
	two := Measures{2, 10, 4, 2, 0, 0, 1}
	l := &Look{
		Ledger: map[uint32]uint64{0: 5, 1: 8},
		Totals: map[TotalKey]Total{},
		Sessions: map[GroupKey]Group{
			{0, 1}: {Measures: Measures{2, 20, 8, 4, 1, 1, 0}, Revision: 1, Epoch: 5}, {0,
				2}: {Measures: Measures{1, 10, 4, 2, 0, 0, 1}, Epoch: 3},
			{1, 1}: {Measures: two, Epoch: 8},
		},
		Epochs: map[EpochKey]int64{{0, 202611, 3}: 1, {0, 202611, 5}: 2, {1, 202611, 8}: 2},
		Floor:  map[uint32]uint64{},
		Pages:  map[GroupKey]Group{{Bucket: 1}: {Measures: Measures{4, 6}}},
		Views:  map[string]int64{"session_summary": 5},
		Rows:   map[string]SessionState{"s 0/1": {batch(0, 5), 1, 6}, "u 0/2": {batch(0, 3), 0, 4}},
		Bucket: 0,
	}
	for _, r := range rollups {
		l.Totals[TotalKey{r, "2026-11-25", "a", 0}] = Total{5, Measures{2, 20, 8, 4, 1, 1, 0}}
		l.Totals[TotalKey{r, "2026-11-25", "b", 0}] = Total{4, Measures{1, 10, 4, 2, 0, 0, 1}}
		l.Totals[TotalKey{r, "2026-11-25", "a", 1}] = Total{8, two}
	}
	return l
}

// grow lets shard 0 go on to epoch 6, in which a session of bucket 1 has one more event; the totals and the ledger
// follow if the arguments say so.
func grow(l *Look, totals, ledger bool) *Look {
	g := l.Sessions[GroupKey{0, 1}]
	g.Measures[2]++
	g.Epoch = 6
	l.Sessions[GroupKey{0, 1}] = g
	l.Epochs[EpochKey{0, 202611, 5}], l.Epochs[EpochKey{0, 202611, 6}] = 1, 1
	l.Rows["s 0/1"] = SessionState{batch(0, 6), 1, 7}
	if totals {
		for _, r := range rollups {
			k := TotalKey{r, "2026-11-25", "a", 0}
			t := l.Totals[k]
			t.Measures[2]++
			t.Version = 6
			l.Totals[k] = t
		}
	}
	if ledger {
		l.Ledger[0] = 6
	}
	return l
}

func TestClickHistory(t *testing.T) {
	total := func(l *Look, f func(*Total)) *Look {
		for _, r := range rollups {
			k := TotalKey{r, "2026-11-25", "a", 0}
			t := l.Totals[k]
			f(&t)
			l.Totals[k] = t
		}
		return l
	}
	for name, c := range map[string]struct {
		next *Look
		want string
	}{
		"nothing new":              {rest(), ""},
		"sessions before totals":   {grow(rest(), false, false), ""},
		"totals before the ledger": {grow(rest(), true, false), ""},
		"a whole plan":             {grow(rest(), true, true), ""},
		"the ledger before totals": {grow(rest(), false, true), "shard 0 at epoch 6 of the ledger"},
		"totals before sessions": {total(rest(), func(t *Total) { t.Version, t.Measures[0] = 6, 3 }),
			"the totals count 4 sessions, the sessions 3"},
		"an increment too much": {total(grow(rest(), true, true), func(t *Total) { t.Measures[2]++ }), "shard 0"},
		"totals that stay behind": {total(grow(rest(), true, true), func(t *Total) { t.Measures[2]-- }),
			"shard 0 at epoch 6"},
		"the ledger goes back": {func() *Look { l := rest(); l.Ledger[1] = 7; return l }(),
			"shard 1 goes from epoch 8 to 7"},
		"a total changes": {func() *Look {
			l := rest()
			l.Totals[TotalKey{rollups[1], "2026-11-25", "a", 0}] = Total{5, Measures{1, 20, 8, 4, 1, 1, 0}}
			return l
		}(), "goes from version 5"},
		"an older total": {func() *Look {
			l := rest()
			l.Totals[TotalKey{rollups[1], "2026-11-25", "b", 0}] = Total{3, Measures{1, 10, 4, 2, 0, 0, 1}}
			return l
		}(), "to 3"},
		"a total is gone": {func() *Look {
			l := rest()
			delete(l.Totals,
				TotalKey{rollups[1], "2026-11-25", "b", 0})
			return l
		}(), "is gone"},
		"one rollup is ahead": {func() *Look {
			l := rest()
			l.Totals[TotalKey{rollups[1], "2026-11-25", "c", 0}] = Total{6, Measures{1}}
			return l
		}(), "a part of a plan's totals"},
		"fewer sessions": {func() *Look { l := rest(); delete(l.Sessions, GroupKey{0, 2}); return l }(),
			"shard 0, bucket 2 of sessions goes back"},
		"a session lost an event": {func() *Look {
			l := rest()
			g := l.Sessions[GroupKey{0, 2}]
			g.Measures[2]--
			l.Sessions[GroupKey{0, 2}] = g
			return l
		}(), "goes back"},
		"an epoch grows": {func() *Look { l := rest(); l.Epochs[EpochKey{0, 202611, 5}] = 3; return l }(),
			"epoch 5 of shard 0 grows from 2 rows to 3"},
		"an older epoch appears": {func() *Look { l := rest(); l.Epochs[EpochKey{0, 202611, 4}] = 1; return l }(),
			"epoch 4 of shard 0 appears after epoch 5"},
		"another month of an epoch": {func() *Look { l := rest(); l.Epochs[EpochKey{0, 202610, 4}] = 1; return l }(),
			""},
		"below the floor": {func() *Look {
			l := rest()
			l.Floor[0] = 5
			delete(l.Epochs, EpochKey{0, 202611, 3})
			delete(l.Epochs, EpochKey{0, 202611, 5})
			return l
		}(), ""},
		"a row is gone": {func() *Look { l := rest(); delete(l.Rows, "u 0/2"); return l }(),
			"session u 0/2 is gone"},
		"a row goes back": {func() *Look {
			l := rest()
			l.Rows["s 0/1"] = SessionState{batch(0, 4), 1,
				6}
			return l
		}(), "session s 0/1 goes back"},
		"a row loses a revision": {func() *Look {
			l := rest()
			l.Rows["s 0/1"] = SessionState{batch(0, 6), 0,
				7}
			return l
		}(), "session s 0/1 goes back"},
		"a row changes in place": {func() *Look {
			l := rest()
			l.Rows["s 0/1"] = SessionState{batch(0, 5), 1,
				7}
			return l
		}(), "changes within epoch"},
		"rows of another bucket": {func() *Look {
			l := rest()
			l.Bucket, l.Rows = 1,
				map[string]SessionState{}
			return l
		}(), ""},
		"pages are gone": {func() *Look {
			l := rest()
			l.Pages[GroupKey{Bucket: 1}] = Group{Measures: Measures{3,
				6}}
			return l
		}(), "bucket 1 goes from 4 rows"},
		"a view goes back": {func() *Look { l := rest(); l.Views["session_summary"] = 4; return l }(),
			"goes from 5 to 4"},
		"a small look": {func() *Look {
			l := rest()
			l.Epochs, l.Pages, l.Views, l.Rows, l.Bucket = nil, nil, nil, nil, -1
			return l
		}(), ""},
		"the ledger without rows": {func() *Look { l := rest(); l.Ledger[3] = 1; return l }(),
			"shard 3 is at epoch 1 without rows"},
	} {
		t.Run(name, func(t *testing.T) {
			v := NewViolations()
			h := NewClickHouse(v.Add)
			h.Look(rest())
			expect(t, v, "")
			if h.exact != 2 {
				t.Errorf("%d shards were compared at rest, not 2", h.exact)
			}
			h.Look(c.next)
			// One fault may show in several ways.
			if got := found(v); !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("complaints:\n%s\nwant one with %q", got, c.want)
			}
		})
	}
}

// A row that a newer epoch has replaced may not come back.
func TestClickHistoryReplacedRowsStayAway(t *testing.T) {
	v := NewViolations()
	h := NewClickHouse(v.Add)
	h.Look(rest())
	l := grow(rest(), true, true)
	l.Epochs = map[EpochKey]int64{{0, 202611, 3}: 1, {0, 202611, 6}: 2, {1, 202611, 8}: 2}
	h.Look(l)
	expect(t, v, "")
	l = grow(rest(), true, true)
	l.Epochs = maps.Clone(h.epochs)
	l.Epochs[EpochKey{0, 202611, 5}] = 1
	h.Look(l)
	expect(t, v, "epoch 5 of shard 0 grows from 0 rows to 1")
}
