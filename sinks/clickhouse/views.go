package clickhouse

import (
	"fmt"
	"hash/fnv"
	"strings"

	"deckle/state"
)

// view is one of the names that analysts query.
type view struct {
	name    string
	comment string
	columns []column
	query   string
}

// dimension is a rollup's dimension: its name, which is also the session's column.
type rollupView struct {
	table   state.RollupTable
	comment string
	dims    []string
}

var rollupViews = [state.NumRollups]rollupView{
	{state.RollupSummary, "Sessions by day; exact under plain SELECT", nil},
	{state.RollupBrand, "Sessions by day and brand; exact under plain SELECT", []string{"brand"}},
	{state.RollupDevice, "Sessions by day and device; exact under plain SELECT", []string{"device_type", "device_os", "browser"}},
	{state.RollupGeographic, "Sessions by day and place; exact under plain SELECT", []string{"country", "city"}},
	{state.RollupSubscription, "Sessions by day, subscription tier and segment; exact under plain SELECT", []string{"subscription_tier", "user_segment"}},
}

// finalSettings are safe here because a key never changes its partition.
const finalSettings = "SETTINGS do_not_merge_across_partitions_select_final = 1"

// views returns every view of the database.
func views(database string) []view {
	vs := []view{
		{
			name: "session_metrics", columns: sessionColumns,
			comment: "Sessions, open and closed, one row each; exact under plain SELECT",
			query:   selectFinal(database, sessionsTable, sessionColumns),
		},
		{
			name: "page_analytics", columns: pageColumns,
			comment: "Articles of sessions by event type; exact under plain SELECT",
			query:   selectFinal(database, pagesTable, pageColumns),
		},
	}
	for _, r := range rollupViews {
		vs = append(vs, r.view(database))
	}
	return vs
}

func selectFinal(database, table string, columns []column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return fmt.Sprintf("SELECT %s\nFROM %s.%s FINAL\n%s", strings.Join(names, ", "), quoteIdent(database), quoteIdent(table), finalSettings)
}

// cut is the SQL of the longest prefix of at most 256 bytes that ends between two characters: the same cut as the
// state's for the keys of rollups (docs/schema.md, rollups). substring counts bytes; a byte 10xxxxxx continues a
// character, which has at most three of them.
func cut(expr string) string {
	continues := func(i int) string {
		return fmt.Sprintf("bitAnd(reinterpretAsUInt8(substring(%s, %d, 1)), 192) = 128", expr, i)
	}
	return fmt.Sprintf("multiIf(length(%[1]s) <= 256, %[1]s, NOT (%[2]s), substring(%[1]s, 1, 256), NOT (%[3]s), substring(%[1]s, 1, 255), NOT (%[4]s), substring(%[1]s, 1, 254), substring(%[1]s, 1, 253))",
		expr, continues(257), continues(256), continues(255))
}

func (r *rollupView) view(database string) view {
	dimComments := map[string]string{}
	for _, c := range sessionColumns {
		dimComments[c.name] = c.comment + ", cut at 256 bytes"
	}
	columns := []column{{"date", "Date", "UTC day of session_start"}}
	var names, stored, ofSession strings.Builder
	for i, d := range r.dims {
		columns = append(columns, column{d, text, dimComments[d]})
		fmt.Fprintf(&names, ", %s", d)
		fmt.Fprintf(&stored, ", dim%d AS %s", i+1, d)
		fmt.Fprintf(&ofSession, ", %s AS %s", cut("toString(s."+d+")"), d)
	}
	columns = append(columns,
		column{"total_sessions", "Int64", "Sessions, open ones included"},
		column{"total_users", "UInt64", "Distinct users, exact"},
		column{"avg_session_duration_sec", "Float64", "Sum of durations / total_sessions, in seconds"},
		column{"avg_events_per_session", "Float64", "Sum of counted events / total_sessions"},
		column{"total_article_views", "Int64", "Sum of article_views"},
		column{"total_video_plays", "Int64", "Sum of video_plays"},
		column{"total_newsletter_signups", "Int64", "Sum of newsletter_signups"},
		column{"total_ad_clicks", "Int64", "Sum of ad_clicks"},
	)
	conversion := ""
	if r.table == state.RollupSubscription {
		columns = append(columns, column{"conversion_rate", "Float64", "total_newsletter_signups / total_sessions"})
		conversion = ",\n    sum(t_newsletter_signups) / sum(t_sessions) AS conversion_rate"
	}
	query := fmt.Sprintf(`SELECT
    date%[1]s,
    sum(t_sessions) AS total_sessions,
    uniqExactIf(t_user_id, t_is_session) AS total_users,
    sum(t_duration_sec) / sum(t_sessions) AS avg_session_duration_sec,
    sum(t_events) / sum(t_sessions) AS avg_events_per_session,
    sum(t_article_views) AS total_article_views,
    sum(t_video_plays) AS total_video_plays,
    sum(t_newsletter_signups) AS total_newsletter_signups,
    sum(t_ad_clicks) AS total_ad_clicks%[4]s
FROM
(
    SELECT date%[2]s, sessions AS t_sessions, duration_sec AS t_duration_sec, events AS t_events,
        article_views AS t_article_views, video_plays AS t_video_plays, newsletter_signups AS t_newsletter_signups,
        ad_clicks AS t_ad_clicks, toUInt64(0) AS t_user_id, false AS t_is_session
    FROM %[5]s.%[6]s FINAL
    WHERE rollup = %[7]s
    UNION ALL
    SELECT toDate(s.session_start, 'UTC') AS date%[3]s, toInt64(0) AS t_sessions, toInt64(0) AS t_duration_sec, toInt64(0) AS t_events,
        toInt64(0) AS t_article_views, toInt64(0) AS t_video_plays, toInt64(0) AS t_newsletter_signups,
        toInt64(0) AS t_ad_clicks, s.user_id AS t_user_id, true AS t_is_session
    FROM %[5]s.%[8]s AS s FINAL
)
GROUP BY date%[1]s
HAVING sum(t_sessions) > 0
%[9]s`, names.String(), stored.String(), ofSession.String(), conversion, quoteIdent(database), quoteIdent(rollupsTable),
		quoteText(r.table.String()), quoteIdent(sessionsTable), finalSettings)
	return view{name: r.table.String(), comment: r.comment, columns: columns, query: query}
}

// ddl returns the statement that creates or replaces the view.
func (v *view) ddl(database string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE OR REPLACE VIEW %s.%s\n(\n", quoteIdent(database), quoteIdent(v.name))
	for i, c := range v.columns {
		sep := ","
		if i == len(v.columns)-1 {
			sep = ""
		}
		fmt.Fprintf(&b, "    %s %s COMMENT %s%s\n", quoteIdent(c.name), c.typ, quoteText(c.comment), sep)
	}
	fmt.Fprintf(&b, ")\nAS %s\nCOMMENT %s", v.query, quoteText(v.mark()))
	return b.String()
}

// mark is the view's comment; its end tells this definition from others, so that only a changed view is replaced.
func (v *view) mark() string {
	h := fnv.New64a()
	h.Write([]byte(v.query))
	for _, c := range v.columns {
		h.Write([]byte(c.name + "\x00" + c.typ + "\x00" + c.comment + "\x00"))
	}
	return fmt.Sprintf("%s [deckle %016x]", v.comment, h.Sum64())
}
