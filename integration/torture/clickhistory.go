package main

import (
	"fmt"
	"maps"
)

// measures are the sums that the totals and the sessions have in common: sessions, seconds, events, article views, video
// plays, newsletter signups, ad clicks.
type measures [7]int64

var measureNames = [7]string{"sessions", "duration_sec", "events", "article_views", "video_plays", "newsletter_signups", "ad_clicks"}

func (m *measures) add(o *measures) {
	for i := range m {
		m[i] += o[i]
	}
}

// look is what one look at ClickHouse has read, in this order.
type look struct {
	ledger   map[uint32]uint64       // greatest b of a shard
	totals   map[totalKey]totalState // of rollup_versions, one query
	sessions map[groupKey]groupState // of session_metrics, one query
	epochs   map[epochKey]int64      // rows of session_metrics of each epoch above floor, one query
	floor    map[uint32]uint64
	pages    map[groupKey]groupState // of page_analytics, one query
	views    map[string]int64        // sum of total_sessions of each view
	rows     map[string]rowState     // of one bucket of session_metrics
	bucket   int64                   // -1: rows were not read
}

type totalKey struct {
	rollup, date, dims string
	shard              uint32
}

type totalState struct {
	version uint64
	m       measures
}

// groupKey is a part of a table's rows that a row never leaves: of session_metrics by shard, of page_analytics by bucket only.
type groupKey struct {
	shard  uint32
	bucket int64
}

type groupState struct {
	m        measures // of page_analytics: rows, visits
	revision int64
	epoch    uint64 // greatest
}

type epochKey struct {
	shard uint32
	month int64
	epoch uint64
}

type rowState struct {
	batch           uint64
	revision, total int64
}

// clickHistory judges looks, one after the other; docs/clickhouse.md says what a look may show.
type clickHistory struct {
	v        *violations
	ledger   map[uint32]uint64
	totals   map[totalKey]totalState
	sessions map[groupKey]groupState
	epochs   map[epochKey]int64
	pages    map[groupKey]groupState
	views    map[string]int64
	rows     map[int64]map[string]rowState // by bucket
	exact    int64                         // comparisons of a shard at rest
}

func newClickHistory(v *violations) *clickHistory {
	return &clickHistory{v: v, ledger: map[uint32]uint64{}, totals: map[totalKey]totalState{}, sessions: map[groupKey]groupState{},
		epochs: map[epochKey]int64{}, pages: map[groupKey]groupState{}, views: map[string]int64{}, rows: map[int64]map[string]rowState{}}
}

func (h *clickHistory) look(l *look) {
	h.lookLedger(l)
	h.lookTotals(l)
	h.lookSessions(l)
	h.lookEpochs(l)
	h.compare(l)
	h.lookRows(l)
	for k, was := range h.pages {
		if now, ok := l.pages[k]; l.pages != nil && (!ok || now.m[0] < was.m[0] || now.m[1] < was.m[1]) {
			h.v.add("page_analytics", "bucket %d goes from %d rows and %d visits to %d and %d", k.bucket, was.m[0], was.m[1], now.m[0], now.m[1])
		}
	}
	maps.Copy(h.pages, l.pages)
	for view, n := range l.views {
		if n < h.views[view] {
			h.v.add(view, "total_sessions of all rows goes from %d to %d", h.views[view], n)
		}
		h.views[view] = n
	}
}

func (h *clickHistory) lookLedger(l *look) {
	for s, b := range h.ledger {
		if l.ledger[s] < b {
			h.v.add("deckle_ledger", "shard %d goes from epoch %d to %d", s, b, l.ledger[s])
		}
	}
	h.ledger = l.ledger
}

// lookTotals wants every total to stand or to be replaced by a newer one, and the five rollups of a shard, which one block
// holds, to count the same.
func (h *clickHistory) lookTotals(l *look) {
	type sum struct {
		shard  uint32
		rollup string
	}
	sums := map[sum]*measures{}
	for k, now := range l.totals {
		was, ok := h.totals[k]
		if ok && (now.version < was.version || now.version == was.version && now.m != was.m) {
			h.v.add("rollup_versions", "%+v goes from version %d %v to %d %v", k, was.version, was.m, now.version, now.m)
		}
		s := sum{k.shard, k.rollup}
		if sums[s] == nil {
			sums[s] = &measures{}
		}
		sums[s].add(&now.m)
	}
	for k := range h.totals {
		if _, ok := l.totals[k]; !ok {
			h.v.add("rollup_versions", "%+v is gone", k)
		}
	}
	h.totals = l.totals
	for s, m := range sums {
		if of := sums[sum{s.shard, "session_summary"}]; of == nil || *of != *m {
			h.v.add("rollup_versions", "shard %d: %s counts %v, session_summary %v: a part of a plan's totals", s.shard, s.rollup, *m, of)
		}
	}
}

func (h *clickHistory) lookSessions(l *look) {
	for k, was := range h.sessions {
		now := l.sessions[k]
		back := now.epoch < was.epoch || now.revision < was.revision
		for i := range was.m {
			back = back || now.m[i] < was.m[i]
		}
		if back {
			h.v.add("session_metrics", "shard %d, bucket %d of sessions goes back from %+v to %+v", k.shard, k.bucket, was, now)
		}
	}
	h.sessions = l.sessions
}

// lookEpochs wants the rows of an epoch to come at once: later they can only be replaced by newer ones. (One block holds a
// plan's sessions at these rates, and a month is a partition.)
func (h *clickHistory) lookEpochs(l *look) {
	if l.epochs == nil {
		return
	}
	newest := map[uint32]uint64{}
	for k := range h.epochs {
		newest[k.shard] = max(newest[k.shard], k.epoch)
	}
	for k, n := range l.epochs {
		was, ok := h.epochs[k]
		if ok && n > was {
			h.v.add("session_metrics", "epoch %d of shard %d grows from %d rows to %d: it was visible in part", k.epoch, k.shard, was, n)
		}
		if !ok && k.epoch <= newest[k.shard] && k.epoch > l.floor[k.shard] && h.seen(k) {
			h.v.add("session_metrics", "epoch %d of shard %d appears after epoch %d was visible", k.epoch, k.shard, newest[k.shard])
		}
	}
	for k := range h.epochs {
		if k.epoch <= l.floor[k.shard] {
			delete(h.epochs, k)
		} else if _, ok := l.epochs[k]; !ok {
			h.epochs[k] = 0 // all replaced by newer ones: none may come back
		}
	}
	maps.Copy(h.epochs, l.epochs)
}

// seen says whether the month of the key has been seen at a newer epoch: another month's rows come when they come.
func (h *clickHistory) seen(k epochKey) bool {
	for o := range h.epochs {
		if o.shard == k.shard && o.month == k.month && o.epoch > k.epoch {
			return true
		}
	}
	return false
}

// compare holds the totals against the sessions, which were read after them and are written before them: never more, and,
// where nothing of the shard is beyond the ledger that was read first, exactly as much.
func (h *clickHistory) compare(l *look) {
	totals, sessions := map[uint32]*totalState{}, map[uint32]*totalState{}
	at := func(m map[uint32]*totalState, shard uint32, epoch uint64, add *measures) {
		if m[shard] == nil {
			m[shard] = &totalState{}
		}
		m[shard].version = max(m[shard].version, epoch)
		m[shard].m.add(add)
	}
	for k, t := range l.totals {
		if k.rollup == "session_summary" {
			at(totals, k.shard, t.version, &t.m)
		}
	}
	for k, g := range l.sessions {
		at(sessions, k.shard, g.epoch, &g.m)
	}
	for shard, t := range totals {
		s := sessions[shard]
		if s == nil {
			s = &totalState{}
		}
		for i := range t.m {
			if t.m[i] > s.m[i] {
				h.v.add("session_summary", "shard %d: the totals count %d %s, the sessions %d", shard, t.m[i], measureNames[i], s.m[i])
			}
		}
	}
	for shard, b := range l.ledger {
		s, t := sessions[shard], totals[shard]
		if s == nil || t == nil {
			h.v.add("deckle_ledger", "shard %d is at epoch %d without rows", shard, b)
			continue
		}
		if s.version > b || t.version > b {
			continue // a plan is being written, or has been since
		}
		h.exact++
		if s.m != t.m {
			h.v.add("session_summary", "shard %d at epoch %d of the ledger: the totals are %v, the sessions %v", shard, b, t.m, s.m)
		}
	}
}

func (h *clickHistory) lookRows(l *look) {
	if l.bucket < 0 {
		return
	}
	for key, was := range h.rows[l.bucket] {
		now, ok := l.rows[key]
		switch {
		case !ok:
			h.v.add("session_metrics", "session %s is gone", key)
		case now.batch < was.batch || now.revision < was.revision || now.total < was.total:
			h.v.add("session_metrics", "session %s goes back from %+v to %+v", key, was, now)
		case now.batch == was.batch && now != was:
			h.v.add("session_metrics", "session %s changes within epoch %d from %+v to %+v", key, was.batch, was, now)
		}
	}
	h.rows[l.bucket] = l.rows
}

func (k totalKey) String() string {
	return fmt.Sprintf("%s %s %q of shard %d", k.rollup, k.date, k.dims, k.shard)
}
