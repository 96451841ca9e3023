package history

import (
	"fmt"
	"maps"
)

// Measures are the sums that totals and sessions have in common: sessions, seconds, events, article views, video plays,
// newsletter signups, ad clicks.
type Measures [7]int64

var measureNames = [7]string{"sessions", "duration_sec", "events", "article_views", "video_plays", "newsletter_signups",
	"ad_clicks"}

func (m *Measures) add(o *Measures) {
	for i := range m {
		m[i] += o[i]
	}
}

// Look is what one look at ClickHouse has read, in this order; Epochs, Pages and Views are nil if they were not read.
type Look struct {
	Ledger   map[uint32]uint64       // greatest b of a shard
	Totals   map[TotalKey]Total      // of rollup_versions, one query
	Sessions map[GroupKey]Group      // of session_metrics, one query
	Epochs   map[EpochKey]int64      // rows of session_metrics of each epoch above floor, one query
	Floor    map[uint32]uint64       // of Epochs, by shard
	Pages    map[GroupKey]Group      // of page_analytics, one query
	Views    map[string]int64        // sum of total_sessions of each view
	Rows     map[string]SessionState // of one bucket of session_metrics
	Bucket   int64                   // -1: rows were not read
}

// TotalKey is one shard's key of a rollup.
type TotalKey struct {
	Rollup, Date, Dims string
	Shard              uint32
}

// Total is one shard's newest total of a key.
type Total struct {
	Version  uint64 // the epoch of which it is
	Measures Measures
}

// GroupKey names a group of rows of a table that a row never leaves: by shard and bucket in session_metrics, by bucket
// only in page_analytics.
type GroupKey struct {
	Shard  uint32
	Bucket int64
}

// Group is the sum of the rows of a group.
type Group struct {
	Measures Measures // of page_analytics: rows, visits
	Revision int64    // sum
	Epoch    uint64   // greatest
}

// EpochKey is the part of a shard's epoch that lies in one month, which is a partition of the table.
type EpochKey struct {
	Shard uint32
	Month int64
	Epoch uint64
}

// SessionState is a session as its row shows it.
type SessionState struct {
	Batch           uint64
	Revision, Total int64
}

// ClickHouse judges looks, one after the other; docs/clickhouse.md says what a look may show.
type ClickHouse struct {
	report   Report
	ledger   map[uint32]uint64
	totals   map[TotalKey]Total
	sessions map[GroupKey]Group
	epochs   map[EpochKey]int64
	pages    map[GroupKey]Group
	views    map[string]int64
	rows     map[int64]map[string]SessionState // by bucket
	exact    int64                             // comparisons of a shard at rest
}

// NewClickHouse returns the history of a database that nobody has looked at.
func NewClickHouse(report Report) *ClickHouse {
	return &ClickHouse{report: report, ledger: map[uint32]uint64{}, totals: map[TotalKey]Total{},
		sessions: map[GroupKey]Group{},
		epochs:   map[EpochKey]int64{}, pages: map[GroupKey]Group{}, views: map[string]int64{},
		rows: map[int64]map[string]SessionState{}}
}

// Look judges the next look.
func (h *ClickHouse) Look(l *Look) {
	h.lookLedger(l)
	h.lookTotals(l)
	h.lookSessions(l)
	h.lookEpochs(l)
	h.compare(l)
	h.lookRows(l)
	for k, was := range h.pages {
		if now, ok := l.Pages[k]; l.Pages != nil && (!ok || now.Measures[0] < was.Measures[0] ||
			now.Measures[1] < was.Measures[1]) {
			h.report("page_analytics", "bucket %d goes from %d rows and %d visits to %d and %d", k.Bucket,
				was.Measures[0], was.Measures[1], now.Measures[0], now.Measures[1])
		}
	}
	maps.Copy(h.pages, l.Pages)
	for view, n := range l.Views {
		if n < h.views[view] {
			h.report(view, "total_sessions of all rows goes from %d to %d", h.views[view], n)
		}
		h.views[view] = n
	}
}

func (h *ClickHouse) lookLedger(l *Look) {
	for s, b := range h.ledger {
		if l.Ledger[s] < b {
			h.report("deckle_ledger", "shard %d goes from epoch %d to %d", s, b, l.Ledger[s])
		}
	}
	h.ledger = l.Ledger
}

// lookTotals wants every total to stay or to be replaced by a newer one, and the five rollups of a shard, which are
// inserted in one block, to count the same.
func (h *ClickHouse) lookTotals(l *Look) {
	type sum struct {
		shard  uint32
		rollup string
	}
	sums := map[sum]*Measures{}
	for k, now := range l.Totals {
		was, ok := h.totals[k]
		if ok && (now.Version < was.Version || now.Version == was.Version && now.Measures != was.Measures) {
			h.report("rollup_versions", "%+v goes from version %d %v to %d %v", k, was.Version, was.Measures,
				now.Version, now.Measures)
		}
		s := sum{k.Shard, k.Rollup}
		if sums[s] == nil {
			sums[s] = &Measures{}
		}
		sums[s].add(&now.Measures)
	}
	for k := range h.totals {
		if _, ok := l.Totals[k]; !ok {
			h.report("rollup_versions", "%+v is gone", k)
		}
	}
	h.totals = l.Totals
	for s, m := range sums {
		if of := sums[sum{s.shard, "session_summary"}]; of == nil || *of != *m {
			h.report("rollup_versions", "shard %d: %s counts %v, session_summary %v: a part of a plan's totals",
				s.shard, s.rollup, *m, of)
		}
	}
}

func (h *ClickHouse) lookSessions(l *Look) {
	for k, was := range h.sessions {
		now := l.Sessions[k]
		back := now.Epoch < was.Epoch || now.Revision < was.Revision
		for i := range was.Measures {
			back = back || now.Measures[i] < was.Measures[i]
		}
		if back {
			h.report("session_metrics", "shard %d, bucket %d of sessions goes back from %+v to %+v", k.Shard, k.Bucket,
				was, now)
		}
	}
	h.sessions = l.Sessions
}

// lookEpochs wants the rows of an epoch to come at once: later they can only be replaced by newer ones. (At these
// rates one block holds all sessions of a plan, and each month is a partition.)
func (h *ClickHouse) lookEpochs(l *Look) {
	if l.Epochs == nil {
		return
	}
	newest := map[uint32]uint64{}
	for k := range h.epochs {
		newest[k.Shard] = max(newest[k.Shard], k.Epoch)
	}
	for k, n := range l.Epochs {
		was, ok := h.epochs[k]
		if ok && n > was {
			h.report("session_metrics", "epoch %d of shard %d grows from %d rows to %d: it was visible in part",
				k.Epoch, k.Shard, was, n)
		}
		if !ok && k.Epoch <= newest[k.Shard] && k.Epoch > l.Floor[k.Shard] && h.seen(k) {
			h.report("session_metrics", "epoch %d of shard %d appears after epoch %d was visible", k.Epoch, k.Shard,
				newest[k.Shard])
		}
	}
	for k := range h.epochs {
		if k.Epoch <= l.Floor[k.Shard] {
			delete(h.epochs, k)
		} else if _, ok := l.Epochs[k]; !ok {
			h.epochs[k] = 0 // all were replaced by newer ones, and none may come back
		}
	}
	maps.Copy(h.epochs, l.Epochs)
}

// seen says whether the month of the key has been seen at a newer epoch: the rows of another month may come later.
func (h *ClickHouse) seen(k EpochKey) bool {
	for o := range h.epochs {
		if o.Shard == k.Shard && o.Month == k.Month && o.Epoch > k.Epoch {
			return true
		}
	}
	return false
}

// compare compares the totals with the sessions, which were read after them and are written before them: the totals
// never count more. If nothing of the shard is newer than the ledger, which was read first, they count exactly as
// much.
func (h *ClickHouse) compare(l *Look) {
	totals, sessions := map[uint32]*Total{}, map[uint32]*Total{}
	at := func(m map[uint32]*Total, shard uint32, epoch uint64, add *Measures) {
		if m[shard] == nil {
			m[shard] = &Total{}
		}
		m[shard].Version = max(m[shard].Version, epoch)
		m[shard].Measures.add(add)
	}
	for k, t := range l.Totals {
		if k.Rollup == "session_summary" {
			at(totals, k.Shard, t.Version, &t.Measures)
		}
	}
	for k, g := range l.Sessions {
		at(sessions, k.Shard, g.Epoch, &g.Measures)
	}
	for shard, t := range totals {
		s := sessions[shard]
		if s == nil {
			s = &Total{}
		}
		for i := range t.Measures {
			if t.Measures[i] > s.Measures[i] {
				h.report("session_summary", "shard %d: the totals count %d %s, the sessions %d", shard, t.Measures[i],
					measureNames[i], s.Measures[i])
			}
		}
	}
	for shard, b := range l.Ledger {
		s, t := sessions[shard], totals[shard]
		if s == nil || t == nil {
			h.report("deckle_ledger", "shard %d is at epoch %d without rows", shard, b)
			continue
		}
		if s.Version > b || t.Version > b {
			continue // a plan is being written, or has been since
		}
		h.exact++
		if s.Measures != t.Measures {
			h.report("session_summary", "shard %d at epoch %d of the ledger: the totals are %v, the sessions %v", shard,
				b, t.Measures, s.Measures)
		}
	}
}

func (h *ClickHouse) lookRows(l *Look) {
	if l.Bucket < 0 {
		return
	}
	for key, was := range h.rows[l.Bucket] {
		now, ok := l.Rows[key]
		switch {
		case !ok:
			h.report("session_metrics", "session %s is gone", key)
		case now.Batch < was.Batch || now.Revision < was.Revision || now.Total < was.Total:
			h.report("session_metrics", "session %s goes back from %+v to %+v", key, was, now)
		case now.Batch == was.Batch && now != was:
			h.report("session_metrics", "session %s changes within epoch %d from %+v to %+v", key, was.Batch, was, now)
		}
	}
	h.rows[l.Bucket] = l.Rows
}

// String is the key as a report shows it.
func (k TotalKey) String() string {
	return fmt.Sprintf("%s %s %q of shard %d", k.Rollup, k.Date, k.Dims, k.Shard)
}

// AtRest returns how often a shard was seen at rest, so that its totals were compared with its sessions exactly.
func (h *ClickHouse) AtRest() int64 { return h.exact }
