package main

import (
	"maps"
	"strings"
	"testing"
)

// rest is a look at two shards whose plans are all written: at epochs 5 and 8.
func rest() *look {
	two := measures{2, 10, 4, 2, 0, 0, 1}
	l := &look{
		ledger: map[uint32]uint64{0: 5, 1: 8},
		totals: map[totalKey]totalState{},
		sessions: map[groupKey]groupState{
			{0, 1}: {m: measures{2, 20, 8, 4, 1, 1, 0}, revision: 1, epoch: 5}, {0, 2}: {m: measures{1, 10, 4, 2, 0, 0, 1}, epoch: 3},
			{1, 1}: {m: two, epoch: 8},
		},
		epochs: map[epochKey]int64{{0, 202611, 3}: 1, {0, 202611, 5}: 2, {1, 202611, 8}: 2},
		floor:  map[uint32]uint64{},
		pages:  map[groupKey]groupState{{bucket: 1}: {m: measures{4, 6}}},
		views:  map[string]int64{"session_summary": 5},
		rows:   map[string]rowState{"s 0/1": {batch(0, 5), 1, 6}, "u 0/2": {batch(0, 3), 0, 4}},
		bucket: 0,
	}
	for _, r := range views {
		l.totals[totalKey{r, "2026-11-25", "a", 0}] = totalState{5, measures{2, 20, 8, 4, 1, 1, 0}}
		l.totals[totalKey{r, "2026-11-25", "b", 0}] = totalState{4, measures{1, 10, 4, 2, 0, 0, 1}}
		l.totals[totalKey{r, "2026-11-25", "a", 1}] = totalState{8, two}
	}
	return l
}

// grow lets shard 0 go on to epoch 6, in which a session of bucket 1 has one more event; the totals and the ledger follow
// if they are asked to.
func grow(l *look, totals, ledger bool) *look {
	g := l.sessions[groupKey{0, 1}]
	g.m[2]++
	g.epoch = 6
	l.sessions[groupKey{0, 1}] = g
	l.epochs[epochKey{0, 202611, 5}], l.epochs[epochKey{0, 202611, 6}] = 1, 1
	l.rows["s 0/1"] = rowState{batch(0, 6), 1, 7}
	if totals {
		for _, r := range views {
			k := totalKey{r, "2026-11-25", "a", 0}
			t := l.totals[k]
			t.m[2]++
			t.version = 6
			l.totals[k] = t
		}
	}
	if ledger {
		l.ledger[0] = 6
	}
	return l
}

func TestClickHistory(t *testing.T) {
	total := func(l *look, f func(*totalState)) *look {
		for _, r := range views {
			k := totalKey{r, "2026-11-25", "a", 0}
			t := l.totals[k]
			f(&t)
			l.totals[k] = t
		}
		return l
	}
	for name, c := range map[string]struct {
		next *look
		want string
	}{
		"nothing new":              {rest(), ""},
		"sessions before totals":   {grow(rest(), false, false), ""},
		"totals before the ledger": {grow(rest(), true, false), ""},
		"a whole plan":             {grow(rest(), true, true), ""},
		"the ledger before totals": {grow(rest(), false, true), "shard 0 at epoch 6 of the ledger"},
		"totals before sessions":   {total(rest(), func(t *totalState) { t.version, t.m[0] = 6, 3 }), "the totals count 4 sessions, the sessions 3"},
		"an increment too much":    {total(grow(rest(), true, true), func(t *totalState) { t.m[2]++ }), "shard 0"},
		"totals that stay behind":  {total(grow(rest(), true, true), func(t *totalState) { t.m[2]-- }), "shard 0 at epoch 6"},
		"the ledger goes back":     {func() *look { l := rest(); l.ledger[1] = 7; return l }(), "shard 1 goes from epoch 8 to 7"},
		"a total changes": {func() *look {
			l := rest()
			l.totals[totalKey{views[1], "2026-11-25", "a", 0}] = totalState{5, measures{1, 20, 8, 4, 1, 1, 0}}
			return l
		}(), "goes from version 5"},
		"an older total": {func() *look {
			l := rest()
			l.totals[totalKey{views[1], "2026-11-25", "b", 0}] = totalState{3, measures{1, 10, 4, 2, 0, 0, 1}}
			return l
		}(), "to 3"},
		"a total is gone": {func() *look { l := rest(); delete(l.totals, totalKey{views[1], "2026-11-25", "b", 0}); return l }(), "is gone"},
		"one rollup is ahead": {func() *look {
			l := rest()
			l.totals[totalKey{views[1], "2026-11-25", "c", 0}] = totalState{6, measures{1}}
			return l
		}(), "a part of a plan's totals"},
		"fewer sessions": {func() *look { l := rest(); delete(l.sessions, groupKey{0, 2}); return l }(), "shard 0, bucket 2 of sessions goes back"},
		"a session lost an event": {func() *look {
			l := rest()
			g := l.sessions[groupKey{0, 2}]
			g.m[2]--
			l.sessions[groupKey{0, 2}] = g
			return l
		}(), "goes back"},
		"an epoch grows":            {func() *look { l := rest(); l.epochs[epochKey{0, 202611, 5}] = 3; return l }(), "epoch 5 of shard 0 grows from 2 rows to 3"},
		"an older epoch appears":    {func() *look { l := rest(); l.epochs[epochKey{0, 202611, 4}] = 1; return l }(), "epoch 4 of shard 0 appears after epoch 5"},
		"another month of an epoch": {func() *look { l := rest(); l.epochs[epochKey{0, 202610, 4}] = 1; return l }(), ""},
		"below the floor": {func() *look {
			l := rest()
			l.floor[0] = 5
			delete(l.epochs, epochKey{0, 202611, 3})
			delete(l.epochs, epochKey{0, 202611, 5})
			return l
		}(), ""},
		"a row is gone":          {func() *look { l := rest(); delete(l.rows, "u 0/2"); return l }(), "session u 0/2 is gone"},
		"a row goes back":        {func() *look { l := rest(); l.rows["s 0/1"] = rowState{batch(0, 4), 1, 6}; return l }(), "session s 0/1 goes back"},
		"a row loses a revision": {func() *look { l := rest(); l.rows["s 0/1"] = rowState{batch(0, 6), 0, 7}; return l }(), "session s 0/1 goes back"},
		"a row changes in place": {func() *look { l := rest(); l.rows["s 0/1"] = rowState{batch(0, 5), 1, 7}; return l }(), "changes within epoch"},
		"rows of another bucket": {func() *look { l := rest(); l.bucket, l.rows = 1, map[string]rowState{}; return l }(), ""},
		"pages are gone":         {func() *look { l := rest(); l.pages[groupKey{bucket: 1}] = groupState{m: measures{3, 6}}; return l }(), "bucket 1 goes from 4 rows"},
		"a view goes back":       {func() *look { l := rest(); l.views["session_summary"] = 4; return l }(), "goes from 5 to 4"},
		"a small look": {func() *look {
			l := rest()
			l.epochs, l.pages, l.views, l.rows, l.bucket = nil, nil, nil, nil, -1
			return l
		}(), ""},
		"the ledger without rows": {func() *look { l := rest(); l.ledger[3] = 1; return l }(), "shard 3 is at epoch 1 without rows"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newClickHistory(newViolations())
			h.look(rest())
			expect(t, h.v, "")
			if h.exact != 2 {
				t.Errorf("%d shards were compared at rest, not 2", h.exact)
			}
			h.look(c.next)
			// One fault may show in several ways.
			if got := found(h.v); !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("complaints:\n%s\nwant one with %q", got, c.want)
			}
		})
	}
}

// A row that a newer epoch has replaced may not come back.
func TestClickHistoryReplacedRowsStayAway(t *testing.T) {
	h := newClickHistory(newViolations())
	h.look(rest())
	l := grow(rest(), true, true)
	l.epochs = map[epochKey]int64{{0, 202611, 3}: 1, {0, 202611, 6}: 2, {1, 202611, 8}: 2}
	h.look(l)
	expect(t, h.v, "")
	l = grow(rest(), true, true)
	l.epochs = maps.Clone(h.epochs)
	l.epochs[epochKey{0, 202611, 5}] = 1
	h.look(l)
	expect(t, h.v, "epoch 5 of shard 0 grows from 0 rows to 1")
}
