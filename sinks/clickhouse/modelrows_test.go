package clickhouse_test

import (
	"slices"
	"strings"

	model "deckle/sim/testworld/clickhouse"
	"deckle/sinks/clickhouse"
	"deckle/state"
)

// The stored tables of the sink.
const (
	sessionsTable = "session_metrics_versions"
	pagesTable    = "page_analytics_versions"
	totalsTable   = "rollup_versions"
	ledgerTable   = "deckle_ledger"
)

// The rows of a stored table that are visible in the model, in the order of Reader.Sessions and Reader.Pages.
func visibleSessions(srv *model.Server) []model.Row {
	return srv.Rows(modelDB, sessionsTable, "session_id", "origin")
}

func visiblePages(srv *model.Server) []model.Row {
	return srv.Rows(modelDB, pagesTable, "session_id", "origin", "article_id", "event_type")
}

func sessionAt(r model.Row) clickhouse.Session {
	u32 := func(name string) uint32 { return uint32(r.Uint(name)) }
	return clickhouse.Session{
		SessionID: r.Text("session_id"), UserID: r.Uint("user_id"), Brand: r.Text("brand"), Country: r.Text("country"),
		City: r.Text("city"), DeviceType: r.Text("device_type"), DeviceOS: r.Text("device_os"), Browser: r.Text("browser"),
		SubscriptionTier: r.Text("subscription_tier"), UserSegment: r.Text("user_segment"), Referrer: r.Text("referrer"),
		Timezone: r.Text("timezone"), Start: r.Int("session_start"), End: r.Int("session_end"),
		DurationSec: u32("session_duration_sec"), TotalEvents: u32("total_events"), ArticleViews: u32("article_views"),
		ArticleClicks: u32("article_clicks"), VideoPlays: u32("video_plays"), NewsletterSignups: u32("newsletter_signups"),
		AdClicks: u32("ad_clicks"), Searches: u32("searches"), SubscriptionPrompts: u32("subscription_prompts"),
		Navigations: u32("navigations"), CategoriesVisited: r.Text("categories_visited"),
		ArticleIDsVisited: r.Text("article_ids_visited"), ArticleTitlesVisited: r.Text("article_titles_visited"),
		PagesVisited: u32("pages_visited_count"), UniquePages: u32("unique_pages_count"),
		UniqueCategories: u32("unique_categories_count"), PageEvents: r.Text("page_events"),
		TimeOnPageSec: r.Uint("time_on_page_sec"), VideoWatchSec: r.Uint("video_watch_sec"),
		MaxScrollDepth: uint8(r.Uint("max_scroll_depth")), AdRevenueMicros: r.Uint("ad_revenue_micros"),
		Status: r.Text("status"), Revision: u32("revision"), SessionDate: r.Date("session_date"), Origin: r.Text("origin"),
		BatchID: r.Uint("batch_id"), CreatedAt: r.Int("created_at"),
	}
}

func pageAt(r model.Row) clickhouse.Page {
	return clickhouse.Page{
		SessionID: r.Text("session_id"), Origin: r.Text("origin"), ArticleID: r.Text("article_id"),
		EventType: r.Text("event_type"), VisitCount: uint32(r.Uint("visit_count")), UserID: r.Uint("user_id"),
		ArticleTitle: r.Text("article_title"), Category: r.Text("category"), SessionDate: r.Date("session_date"),
	}
}

// rollupColumns are the columns of a rollup's dimensions.
var rollupColumns = [state.NumRollups][]string{
	{}, {"brand"}, {"device_type", "device_os", "browser"}, {"country", "city"}, {"subscription_tier", "user_segment"},
}

// rollupRows returns the rows of a rollup's view, in the order of Reader.Rollup.
func rollupRows(srv *model.Server, table state.RollupTable) (out []clickhouse.Rollup) {
	dims := rollupColumns[table]
	for _, r := range srv.Rows(modelDB, table.String(), slices.Concat([]string{"date"}, dims)...) {
		x := clickhouse.Rollup{
			Date: r.Date("date"), Sessions: r.Int("total_sessions"), Users: r.Uint("total_users"),
			AvgDuration: r.Float("avg_session_duration_sec"), AvgEvents: r.Float("avg_events_per_session"),
			Views: r.Int("total_article_views"), Plays: r.Int("total_video_plays"), Signups: r.Int("total_newsletter_signups"),
			AdClicks: r.Int("total_ad_clicks"),
		}
		for _, name := range dims {
			x.Dims = append(x.Dims, r.Text(name))
		}
		if table == state.RollupSubscription {
			x.Conversion = r.Float("conversion_rate")
		}
		out = append(out, x)
	}
	return out
}

// totalKey is the key of a stored total.
func totalKey(r model.Row) string {
	return strings.Join([]string{r.Text("rollup"), r.Text("date"), r.Text("dim1"), r.Text("dim2"), r.Text("dim3"), r.Text("shard")}, "\x00")
}
