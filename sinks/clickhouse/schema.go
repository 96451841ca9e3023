package clickhouse

import (
	"fmt"
	"strings"
)

// Names of the stored tables. Analysts query the views (views.go).
const (
	sessionsTable = "session_metrics_versions"
	pagesTable    = "page_analytics_versions"
	rollupsTable  = "rollup_versions"
	ledgerTable   = "deckle_ledger"
)

// column is one column of a stored table or a view.
type column struct{ name, typ, comment string }

// table is one stored table.
type table struct {
	name      string
	comment   string
	version   string // the column that ReplacingMergeTree goes by
	partition string // "" for none
	key       []string
	columns   []column
}

const (
	text     = "String"
	lowText  = "LowCardinality(String)"
	seconds  = "DateTime('UTC')"
	millis   = "DateTime64(3, 'UTC')"
	statuses = "Enum8('open' = 1, 'closed' = 2, 'expired' = 3)"
)

// sessionColumns are the columns of docs/schema.md, in its order: of the view and, first, of the stored table.
var sessionColumns = []column{
	{"session_id", text, "The reader's session, as the events name it"},
	{"user_id", "UInt64", "User of the session's first event"},
	{"brand", lowText, "Brand of the first event"},
	{"country", lowText, "Country of the first event"},
	{"city", text, "City of the first event"},
	{"device_type", lowText, "Device type of the first event"},
	{"device_os", lowText, "Operating system of the first event"},
	{"browser", lowText, "Browser of the first event"},
	{"subscription_tier", lowText, "Subscription tier of the first event"},
	{"user_segment", lowText, "User segment of the first event"},
	{"referrer", text, "Referrer of the first event"},
	{"timezone", lowText, "Time zone of the first event, as a name"},
	{"session_start", seconds, "Least timestamp of the counted events"},
	{"session_end", seconds, "Greatest timestamp of the counted events"},
	{"session_duration_sec", "UInt32", "session_end - session_start, in seconds"},
	{"total_events", "UInt32", "Counted events"},
	{"article_views", "UInt32", "Counted events of type article_view"},
	{"article_clicks", "UInt32", "Counted events of type article_click"},
	{"video_plays", "UInt32", "Counted events of type video_play"},
	{"newsletter_signups", "UInt32", "Counted events of type newsletter_signup"},
	{"ad_clicks", "UInt32", "Counted events of type ad_click"},
	{"searches", "UInt32", "Counted events of type search"},
	{"subscription_prompts", "UInt32", "Counted events of type subscription_prompt"},
	{"navigations", "UInt32", "Counted events of type navigation"},
	{"categories_visited", text, "JSON array: category of every counted event in order, repeats kept, empty ones left out"},
	{"article_ids_visited", text, "JSON array: article_id of every counted event in order, repeats kept, empty ones left out"},
	{"article_titles_visited", text, "JSON array: article_title of every counted event in order, repeats kept, empty ones left out"},
	{"pages_visited_count", "UInt32", "Length of article_ids_visited"},
	{"unique_pages_count", "UInt32", "Distinct values in article_ids_visited"},
	{"unique_categories_count", "UInt32", "Distinct values in categories_visited"},
	{"page_events", text, "JSON array of objects, one per counted event in order: event_type, category, article_id, article_title, page_url, timestamp, engagement_metrics"},
	{"time_on_page_sec", "UInt64", "Sum of time_on_page over article_view, in seconds"},
	{"video_watch_sec", "UInt64", "Sum of playback_position over video_play, in seconds"},
	{"max_scroll_depth", "UInt8", "Greatest scroll_depth over article_view, 0 to 100"},
	{"ad_revenue_micros", "UInt64", "Sum of ad_revenue over ad_click, in millionths"},
	{"status", statuses, "open, closed by session_end, or expired by timeout"},
	{"revision", "UInt32", "How often the row changed after it was first closed"},
	{"session_date", "Date", "UTC day of the record that opened the row; never changes"},
	{"origin", text, "partition/offset of the record that opened the row; never changes"},
	{"batch_id", "UInt64", "Shard (from bit 40 up) and epoch of the cut that produced this image"},
	{"created_at", millis, "Clock of the cut that produced this image"},
}

// versionColumns end every stored table of rows.
var versionColumns = []column{
	{"shard", "UInt32", "Shard that owns the row"},
	{"version", "UInt64", "Epoch of the image in its shard: the greatest one is the row"},
}

var sessions = table{
	name:      sessionsTable,
	comment:   "Images of sessions; query the view session_metrics",
	version:   "version",
	partition: "toYYYYMM(session_date)",
	key:       []string{"session_date", "session_id", "origin"},
	columns:   append(append([]column{}, sessionColumns...), versionColumns...),
}

// pageColumns are the columns of page_analytics.
var pageColumns = []column{
	{"session_id", text, "The reader's session, as the events name it"},
	{"origin", text, "partition/offset of the record that opened the session's row; never changes"},
	{"article_id", text, "Article, never empty"},
	{"event_type", lowText, "Type of the counted events"},
	{"visit_count", "UInt32", "Counted events of the session with this article and type"},
	{"user_id", "UInt64", "User of the session"},
	{"article_title", text, "article_title of the first such event"},
	{"category", lowText, "category of the first such event"},
	{"session_date", "Date", "UTC day of the record that opened the session's row; never changes"},
}

var pages = table{
	name:      pagesTable,
	comment:   "Articles of sessions, an image a version; query the view page_analytics",
	version:   "version",
	partition: "toYYYYMM(session_date)",
	key:       []string{"session_date", "session_id", "origin", "article_id", "event_type"},
	columns:   append(append([]column{}, pageColumns...), versionColumns...),
}

var rollups = table{
	name:    rollupsTable,
	comment: "Absolute totals of a shard; query the views session_summary, brand_analytics, device_analytics, geographic_analytics, subscription_analytics",
	version: "version",
	key:     []string{"rollup", "date", "dim1", "dim2", "dim3", "shard"},
	columns: append([]column{
		{"rollup", lowText, "Name of the view that shows the total"},
		{"date", "Date", "UTC day of session_start"},
		{"dim1", text, "brand, device_type, country or subscription_tier, cut at 256 bytes; empty in session_summary"},
		{"dim2", text, "device_os, city or user_segment, cut at 256 bytes; empty in the other views"},
		{"dim3", text, "browser, cut at 256 bytes; empty in the other views"},
		{"sessions", "Int64", "Sessions of the shard counted under the key"},
		{"duration_sec", "Int64", "Sum of session_duration_sec, in seconds"},
		{"events", "Int64", "Sum of total_events"},
		{"article_views", "Int64", "Sum of article_views"},
		{"video_plays", "Int64", "Sum of video_plays"},
		{"newsletter_signups", "Int64", "Sum of newsletter_signups"},
		{"ad_clicks", "Int64", "Sum of ad_clicks"},
	}, versionColumns...),
}

var ledger = table{
	name:    ledgerTable,
	comment: "One row a plan written, inserted last, and one claim (b = 0) that says whose tables these are",
	version: "written_at",
	key:     []string{"cluster", "pipeline", "shard", "b"},
	columns: []column{
		{"cluster", text, "Id of the cluster that owns the tables of this database"},
		{"pipeline", text, "Pipeline of the cluster"},
		{"shard", "UInt32", "Shard of the plan"},
		{"a", "UInt64", "Epoch after which the plan begins"},
		{"b", "UInt64", "Last epoch of the plan: everything up to it is visible; 0 in a claim"},
		{"rows", "UInt64", "Rows that the plan wrote to all tables"},
		{"checksum", "UInt64", "Checksum of the plan's last epoch in the state"},
		{"node", text, "Node that wrote it"},
		{"written_at", millis, "That node's clock"},
	},
}

// storedTables are created in this order; the ledger comes first, so that a claim precedes every row.
var storedTables = []*table{&ledger, &sessions, &pages, &rollups}

// durability are the table settings without which an acknowledged row may be lost in a power cut.
var durability = []string{"fsync_after_insert", "fsync_part_directory"}

// ddl returns the statement that creates the table if it is missing.
func (t *table) ddl(database string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s.%s\n(\n", quoteIdent(database), quoteIdent(t.name))
	for i, c := range t.columns {
		sep := ","
		if i == len(t.columns)-1 {
			sep = ""
		}
		fmt.Fprintf(&b, "    %s %s COMMENT %s%s\n", quoteIdent(c.name), c.typ, quoteText(c.comment), sep)
	}
	fmt.Fprintf(&b, ")\nENGINE = ReplacingMergeTree(%s)\n", t.version)
	if t.partition != "" {
		fmt.Fprintf(&b, "PARTITION BY %s\n", t.partition)
	}
	fmt.Fprintf(&b, "ORDER BY (%s)\nSETTINGS ", strings.Join(t.key, ", "))
	for i, s := range durability {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s + " = 1")
	}
	fmt.Fprintf(&b, "\nCOMMENT %s", quoteText(t.comment))
	return b.String()
}

func quoteText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func quoteIdent(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}
