package clicktest

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"deckle/sinks/clickhouse"
	"deckle/state"
)

// Names of the sink's stored tables.
const (
	sessionsTable = "session_metrics_versions"
	pagesTable    = "page_analytics_versions"
	totalsTable   = "rollup_versions"
	ledgerTable   = "deckle_ledger"
)

// Stamp says where a stored row comes from.
type Stamp struct {
	Shard   uint32
	Version uint64
	// Row numbers the rows of a table by the order of their inserts, from 0.
	Row int
}

// SessionVersion is a stored image of a session.
type SessionVersion struct {
	Stamp
	clickhouse.Session
}

// PageVersion is a stored image of a row of page_analytics.
type PageVersion struct {
	Stamp
	clickhouse.Page
}

// TotalVersion is a stored total of one shard.
type TotalVersion struct {
	Stamp
	Table       string // name of the view
	Date        time.Time
	Dims        []string // as many as the table has
	Sessions    int64
	DurationSec int64
	Events      int64
	Views       int64
	Plays       int64
	Signups     int64
	AdClicks    int64
}

// LedgerRow is a plan that was written, or, with B = 0, a claim.
type LedgerRow struct {
	Row               int
	Cluster, Pipeline string
	Shard             uint32
	A, B              uint64
	Rows, Checksum    uint64
	Node              string
	WrittenAt         int64 // Unix milliseconds
}

// cursor reads the rows of a stored table by column name. Its zero value has no rows.
type cursor struct {
	t *table
	i int
}

func (c cursor) str(n string) string     { v := &c.t.cols[c.t.byName[n]]; return v.text(c.i) }
func (c cursor) num(n string) uint64     { return c.t.cols[c.t.byName[n]].n[c.i] }
func (c cursor) u32(n string) uint32     { return uint32(c.num(n)) }
func (c cursor) i64(n string) int64      { return int64(c.num(n)) }
func (c cursor) date(n string) time.Time { return dateOf(c.num(n)) }
func (c cursor) stamp() Stamp            { return Stamp{c.u32("shard"), c.num("version"), c.i} }

// each calls f for the rows of a table from number from on: all that were ever inserted, or those that FINAL shows. It
// returns the number after the last row.
func (s *Server) each(database, name string, from int, final bool, f func(cursor)) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	db := s.databases[database]
	if db == nil || db.tables[name] == nil {
		return from
	}
	t := db.tables[name]
	for i := from; i < t.rows; i++ {
		if !final || t.final[i] {
			f(cursor{t, i})
		}
	}
	return max(from, t.rows)
}

func sessionAt(c cursor) SessionVersion {
	return SessionVersion{c.stamp(), clickhouse.Session{
		SessionID: c.str("session_id"), UserID: c.num("user_id"), Brand: c.str("brand"), Country: c.str("country"), City: c.str("city"),
		DeviceType: c.str("device_type"), DeviceOS: c.str("device_os"), Browser: c.str("browser"),
		SubscriptionTier: c.str("subscription_tier"), UserSegment: c.str("user_segment"), Referrer: c.str("referrer"),
		Timezone: c.str("timezone"), Start: c.i64("session_start"), End: c.i64("session_end"),
		DurationSec: c.u32("session_duration_sec"), TotalEvents: c.u32("total_events"), ArticleViews: c.u32("article_views"),
		ArticleClicks: c.u32("article_clicks"), VideoPlays: c.u32("video_plays"), NewsletterSignups: c.u32("newsletter_signups"),
		AdClicks: c.u32("ad_clicks"), Searches: c.u32("searches"), SubscriptionPrompts: c.u32("subscription_prompts"),
		Navigations: c.u32("navigations"), CategoriesVisited: c.str("categories_visited"),
		ArticleIDsVisited: c.str("article_ids_visited"), ArticleTitlesVisited: c.str("article_titles_visited"),
		PagesVisited: c.u32("pages_visited_count"), UniquePages: c.u32("unique_pages_count"),
		UniqueCategories: c.u32("unique_categories_count"), PageEvents: c.str("page_events"),
		TimeOnPageSec: c.num("time_on_page_sec"), VideoWatchSec: c.num("video_watch_sec"),
		MaxScrollDepth: uint8(c.num("max_scroll_depth")), AdRevenueMicros: c.num("ad_revenue_micros"), Status: c.str("status"),
		Revision: c.u32("revision"), SessionDate: c.date("session_date"), Origin: c.str("origin"), BatchID: c.num("batch_id"),
		CreatedAt: c.i64("created_at"),
	}}
}

// Sessions returns the rows of session_metrics, ascending by (session_id, origin), as Reader.Sessions does.
func (s *Server) Sessions(database string) []SessionVersion {
	var out []SessionVersion
	s.each(database, sessionsTable, 0, true, func(c cursor) { out = append(out, sessionAt(c)) })
	slices.SortFunc(out, func(a, b SessionVersion) int {
		return cmp.Or(strings.Compare(a.SessionID, b.SessionID), strings.Compare(a.Origin, b.Origin))
	})
	return out
}

// AllSessions returns every image that was ever inserted, in that order, from row number from on, and the number to go
// on with.
func (s *Server) AllSessions(database string, from int) (out []SessionVersion, next int) {
	next = s.each(database, sessionsTable, from, false, func(c cursor) { out = append(out, sessionAt(c)) })
	return out, next
}

func pageAt(c cursor) PageVersion {
	return PageVersion{c.stamp(), clickhouse.Page{
		SessionID: c.str("session_id"), Origin: c.str("origin"), ArticleID: c.str("article_id"), EventType: c.str("event_type"),
		VisitCount: c.u32("visit_count"), UserID: c.num("user_id"), ArticleTitle: c.str("article_title"),
		Category: c.str("category"), SessionDate: c.date("session_date"),
	}}
}

// Pages returns the rows of page_analytics, ascending by (session_id, origin, article_id, event_type), as Reader.Pages
// does.
func (s *Server) Pages(database string) []PageVersion {
	var out []PageVersion
	s.each(database, pagesTable, 0, true, func(c cursor) { out = append(out, pageAt(c)) })
	slices.SortFunc(out, func(a, b PageVersion) int {
		return cmp.Or(strings.Compare(a.SessionID, b.SessionID), strings.Compare(a.Origin, b.Origin),
			strings.Compare(a.ArticleID, b.ArticleID), strings.Compare(a.EventType, b.EventType))
	})
	return out
}

// AllPages is AllSessions for page_analytics.
func (s *Server) AllPages(database string, from int) (out []PageVersion, next int) {
	next = s.each(database, pagesTable, from, false, func(c cursor) { out = append(out, pageAt(c)) })
	return out, next
}

func totalAt(c cursor) TotalVersion {
	r := TotalVersion{
		Stamp: c.stamp(), Table: c.str("rollup"), Date: c.date("date"), Sessions: c.i64("sessions"), DurationSec: c.i64("duration_sec"),
		Events: c.i64("events"), Views: c.i64("article_views"), Plays: c.i64("video_plays"),
		Signups: c.i64("newsletter_signups"), AdClicks: c.i64("ad_clicks"),
	}
	dims := []string{c.str("dim1"), c.str("dim2"), c.str("dim3")}
	for table := range state.NumRollups {
		if table.String() == r.Table {
			dims = dims[:state.RollupDims[table]]
		}
	}
	r.Dims = dims
	return r
}

// Totals returns the newest total of each shard under each key, zeros included, ascending by (table, date, dimensions,
// shard).
func (s *Server) Totals(database string) []TotalVersion {
	var out []TotalVersion
	s.each(database, totalsTable, 0, true, func(c cursor) { out = append(out, totalAt(c)) })
	slices.SortFunc(out, func(a, b TotalVersion) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), a.Date.Compare(b.Date), slices.Compare(a.Dims, b.Dims), cmp.Compare(a.Shard, b.Shard))
	})
	return out
}

// AllTotals is AllSessions for the totals.
func (s *Server) AllTotals(database string, from int) (out []TotalVersion, next int) {
	next = s.each(database, totalsTable, from, false, func(c cursor) { out = append(out, totalAt(c)) })
	return out, next
}

// Ledger returns every row that was ever inserted into the ledger, in that order, from row number from on, and the
// number to go on with.
func (s *Server) Ledger(database string, from int) (out []LedgerRow, next int) {
	next = s.each(database, ledgerTable, from, false, func(c cursor) {
		out = append(out, LedgerRow{
			Row: c.i, Cluster: c.str("cluster"), Pipeline: c.str("pipeline"), Shard: c.u32("shard"), A: c.num("a"), B: c.num("b"),
			Rows: c.num("rows"), Checksum: c.num("checksum"), Node: c.str("node"), WrittenAt: c.i64("written_at"),
		})
	})
	return out, next
}

// Rollup returns the rows of a rollup's view, ascending by (date, dimensions), as Reader.Rollup does; nil if there is no
// such view yet.
func (s *Server) Rollup(database string, table state.RollupTable) []clickhouse.Rollup {
	s.mu.Lock()
	defer s.mu.Unlock()
	db := s.databases[database]
	if db == nil || db.views[table.String()] == nil {
		return nil
	}
	v := db.views[table.String()]
	totals, sessions := db.tables[v.totals.table], db.tables[v.sessions.table]
	if totals == nil || sessions == nil {
		return nil
	}
	gs, err := v.groups(totals, sessions)
	if err != nil {
		return nil
	}
	var out []clickhouse.Rollup
	for _, g := range gs {
		r := clickhouse.Rollup{
			Date: dateOf(g.date), Sessions: g.sums[0], Users: uint64(len(g.users)), AvgDuration: g.ratio(1), AvgEvents: g.ratio(2),
			Views: g.sums[3], Plays: g.sums[4], Signups: g.sums[5], AdClicks: g.sums[6],
		}
		if len(g.dims) > 0 {
			r.Dims = g.dims
		}
		if table == state.RollupSubscription {
			r.Conversion = g.ratio(5)
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b clickhouse.Rollup) int {
		return cmp.Or(a.Date.Compare(b.Date), slices.Compare(a.Dims, b.Dims))
	})
	return out
}

func (g *group) ratio(i int) float64 { return float64(g.sums[i]) / float64(g.sums[0]) }

func (g *group) bits(i int) uint64 { return math.Float64bits(g.ratio(i)) }
