package sim

import (
	"encoding/json"
	"strconv"
)

// This file is the one place where the truth says what a row is: the name of each column, and how its text follows
// from what the records say. Every checker reads the names from here, and puts the values of the product beside them
// by name; no other file depends on the order of the columns. The list is written in the truth's own words on purpose:
// a mistake in the product's declaration must not repeat itself here.
//
// Texts are in one canonical form: integers and Unix seconds in decimal (kafka_timestamp in milliseconds), dates as
// 2006-01-02, JSON as CanonicalJSON gives it, NULL as "".

// EventColumns are the columns of table events that follow from the record, in the order of a row.
var EventColumns = names(eventColumns, func(c eventColumn) string { return c.name })

// SessionColumns are the columns of session_metrics and sessions that follow from the records, in the order of a row:
// all but revision, batch_id and created_at, which depend on when epochs were closed.
var SessionColumns = names(sessionColumns, func(c sessionColumn) string { return c.name })

// PageColumns are the columns of page_analytics, in the order of a row.
var PageColumns = names(pageColumns, func(c pageColumn) string { return c.name })

// MetricColumns are the columns of SessionColumns that are summed.
var MetricColumns = func() (summed []string) {
	for _, c := range sessionColumns {
		if c.summed {
			summed = append(summed, c.name)
		}
	}
	return summed
}()

// textFields are the optional text fields of an event, in the order of the schema.
var textFields = []string{
	"brand", "category", "article_id", "article_title", "article_type", "page_url", "referrer", "device_type",
	"device_os", "browser", "country", "city", "timezone", "subscription_tier", "user_segment",
}

type sessionColumn struct {
	name   string
	text   func(*Session) string
	first  func(*Session) *string // of a text of the session's first event: where it stands
	typ    string                 // of a count: the type of the counted events
	count  func(*Session) *int64  // of a count: where it stands
	summed bool                   // a report gives its sum over all sessions
}

// textOf is a column that stands in the truth as it is compared.
func textOf(name string, of func(*Session) string) sessionColumn {
	return sessionColumn{name: name, text: of}
}

// firstOf is the text of that name of the session's first event.
func firstOf(name string, at func(*Session) *string) sessionColumn {
	return sessionColumn{name: name, first: at, text: func(s *Session) string { return *at(s) }}
}

// countOf is the number of counted events of a type.
func countOf(name, typ string, at func(*Session) *int64) sessionColumn {
	c := metricOf(name, func(s *Session) int64 { return *at(s) })
	c.typ, c.count = typ, at
	return c
}

// integerOf is a number of which sums mean nothing.
func integerOf(name string, of func(*Session) int64) sessionColumn {
	return sessionColumn{name: name, text: func(s *Session) string { return decimal(of(s)) }}
}

// metricOf is a number that is summed.
func metricOf(name string, of func(*Session) int64) sessionColumn {
	c := integerOf(name, of)
	c.summed = true
	return c
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func unsigned(n uint64) string { return strconv.FormatUint(n, 10) }

// otherType stands for all types that have no column of their own.
const otherType = "other"

var sessionColumns = []sessionColumn{
	textOf("session_id", func(s *Session) string { return s.SessionID }),
	// With several writers at once the first record of a session is not known before; see Session.Origins.
	textOf("origin", func(s *Session) string { return s.Origins[0].Position }),
	textOf("session_date", func(s *Session) string { return s.Origins[0].Date }),
	textOf("opening_brand", func(s *Session) string { return s.Origins[0].Brand }),
	textOf("user_id", func(s *Session) string { return unsigned(s.UserID) }),
	textOf("user_key", func(s *Session) string { return s.UserKey }),
	integerOf("several_users", func(s *Session) int64 { return s.SeveralUsers }),
	firstOf("brand", func(s *Session) *string { return &s.Brand }),
	firstOf("country", func(s *Session) *string { return &s.Country }),
	firstOf("city", func(s *Session) *string { return &s.City }),
	firstOf("device_type", func(s *Session) *string { return &s.DeviceType }),
	firstOf("device_os", func(s *Session) *string { return &s.DeviceOS }),
	firstOf("browser", func(s *Session) *string { return &s.Browser }),
	firstOf("subscription_tier", func(s *Session) *string { return &s.SubscriptionTier }),
	firstOf("user_segment", func(s *Session) *string { return &s.UserSegment }),
	firstOf("referrer", func(s *Session) *string { return &s.Referrer }),
	firstOf("timezone", func(s *Session) *string { return &s.Timezone }),
	integerOf("session_start", func(s *Session) int64 { return s.Start }),
	integerOf("session_end", func(s *Session) int64 { return s.End }),
	metricOf("session_duration_sec", func(s *Session) int64 { return s.Duration }),
	metricOf("total_events", func(s *Session) int64 { return s.TotalEvents }),
	countOf("article_views", "article_view", func(s *Session) *int64 { return &s.ArticleViews }),
	countOf("article_clicks", "article_click", func(s *Session) *int64 { return &s.ArticleClicks }),
	countOf("video_plays", "video_play", func(s *Session) *int64 { return &s.VideoPlays }),
	countOf("newsletter_signups", "newsletter_signup", func(s *Session) *int64 { return &s.NewsletterSignups }),
	countOf("ad_clicks", "ad_click", func(s *Session) *int64 { return &s.AdClicks }),
	countOf("searches", "search", func(s *Session) *int64 { return &s.Searches }),
	countOf("subscription_prompts", "subscription_prompt", func(s *Session) *int64 { return &s.SubscriptionPrompts }),
	countOf("navigations", "navigation", func(s *Session) *int64 { return &s.Navigations }),
	countOf("other_events", otherType, func(s *Session) *int64 { return &s.OtherEvents }),
	textOf("categories_visited", func(s *Session) string { return s.Categories }),
	textOf("article_ids_visited", func(s *Session) string { return s.ArticleIDs }),
	textOf("article_titles_visited", func(s *Session) string { return s.ArticleTitles }),
	metricOf("pages_visited_count", func(s *Session) int64 { return s.PagesVisited }),
	metricOf("unique_pages_count", func(s *Session) int64 { return s.UniquePages }),
	metricOf("unique_categories_count", func(s *Session) int64 { return s.UniqueCategories }),
	textOf("page_events", func(s *Session) string { return s.PageEvents }),
	metricOf("time_on_page_sec", func(s *Session) int64 { return s.TimeOnPage }),
	metricOf("video_watch_sec", func(s *Session) int64 { return s.VideoWatch }),
	metricOf("max_scroll_depth", func(s *Session) int64 { return s.MaxScroll }),
	metricOf("max_read_progress", func(s *Session) int64 { return s.MaxProgress }),
	metricOf("articles_completed", func(s *Session) int64 { return s.Completed }),
	metricOf("ad_revenue_micros", func(s *Session) int64 { return s.AdRevenueMicros }),
	textOf("status", func(s *Session) string { return s.Status }),
}

// CountedTypes are the types of events that count in their session, in the order of their columns.
var CountedTypes = func() (types []string) {
	for _, c := range sessionColumns {
		if c.typ != "" {
			types = append(types, c.typ)
		}
	}
	return types
}()

// CountsByType returns the session's counted events by their type.
func (s *Session) CountsByType() map[string]int64 {
	counts := map[string]int64{}
	for _, c := range sessionColumns {
		if c.typ != "" {
			counts[c.typ] = *c.count(s)
		}
	}
	return counts
}

// Rollup is a table of totals: what its rows are the totals of, beside the date.
type Rollup struct {
	Name string   // of the view
	Dims []string // names of SessionColumns
}

// Rollups are the rollups of docs/schema.md.
var Rollups = []Rollup{
	{"session_summary", nil},
	{"brand_analytics", []string{"brand"}},
	{"device_analytics", []string{"device_type", "device_os", "browser"}},
	{"geographic_analytics", []string{"country", "city"}},
	{"subscription_analytics", []string{"subscription_tier", "user_segment"}},
}

// Column returns the text of one of the session's columns; "" if there is no such column.
func (s *Session) Column(name string) string {
	for i := range sessionColumns {
		if c := &sessionColumns[i]; c.name == name {
			return c.text(s)
		}
	}
	return ""
}

type pageColumn struct {
	name string
	text func(*Session, *Page) string
}

var pageColumns = []pageColumn{
	{"session_id", func(s *Session, _ *Page) string { return s.SessionID }},
	{"origin", func(s *Session, _ *Page) string { return s.Origins[0].Position }},
	{"article_id", func(_ *Session, p *Page) string { return p.ArticleID }},
	{"event_type", func(_ *Session, p *Page) string { return p.EventType }},
	{"visit_count", func(_ *Session, p *Page) string { return decimal(p.Visits) }},
	{"user_id", func(s *Session, _ *Page) string { return unsigned(s.UserID) }},
	{"article_title", func(_ *Session, p *Page) string { return p.Title }},
	{"category", func(_ *Session, p *Page) string { return p.Category }},
}

type eventColumn struct {
	name string
	text func(*observed) string
}

var eventColumns = func() []eventColumn {
	list := []eventColumn{
		{"event_id", func(o *observed) string { return o.id }},
		{"session_id", func(o *observed) string { return o.session }},
		{"user_id", func(o *observed) string { return unsigned(o.user) }},
		{"event_type", func(o *observed) string { return o.typ }},
		{"timestamp", func(o *observed) string { return decimal(o.timestamp) }},
	}
	for _, f := range textFields {
		list = append(list, eventColumn{f, func(o *observed) string { return o.text[f] }})
	}
	return append(list,
		eventColumn{"engagement_metrics", func(o *observed) string { return jsonOrNull(o.metrics) }},
		eventColumn{"metadata", func(o *observed) string { return jsonOrNull(o.metadata) }},
		eventColumn{"extra", func(o *observed) string {
			if o.extra == nil {
				return ""
			}
			return jsonOrNull(o.extra)
		}},
		eventColumn{"kafka_partition", func(o *observed) string { return decimal(int64(o.partition)) }},
		eventColumn{"kafka_offset", func(o *observed) string { return decimal(o.offset) }},
		eventColumn{"kafka_timestamp", func(o *observed) string {
			if !told(o.kafkaTime) {
				return ""
			}
			return decimal(o.kafkaTime)
		}},
		eventColumn{"user_key", func(o *observed) string { return o.userKey }},
		eventColumn{"event_date", func(o *observed) string { return day(o.timestamp) }})
}()

// jsonOrNull is the canonical JSON of a value; "" for none.
func jsonOrNull(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it came out of encoding/json
	}
	return CanonicalJSON(string(b))
}

func names[T any](columns []T, name func(T) string) (all []string) {
	for _, c := range columns {
		all = append(all, name(c))
	}
	return all
}

// eventRow is the row of table events, in the order of EventColumns.
func eventRow(o *observed) []string {
	row := make([]string, len(eventColumns))
	for i, c := range eventColumns {
		row[i] = c.text(o)
	}
	return row
}

// Row returns the session's row in the order of SessionColumns, with the first of its possible origins.
func (s *Session) Row() []string {
	row := make([]string, len(sessionColumns))
	for i, c := range sessionColumns {
		row[i] = c.text(s)
	}
	return row
}

// PageRows returns the session's rows of page_analytics in the order of PageColumns, with the first of its possible
// origins.
func (s *Session) PageRows() [][]string {
	rows := make([][]string, 0, len(s.Pages))
	for k := range s.Pages {
		row := make([]string, len(pageColumns))
		for i, c := range pageColumns {
			row[i] = c.text(s, &s.Pages[k])
		}
		rows = append(rows, row)
	}
	return rows
}

// Canonical returns a text that a reader has found in a column in the form in which the truth has it: the JSON columns
// as CanonicalJSON or CanonicalPageEvents, all others as they are.
func Canonical(column, text string) string {
	switch column {
	case "engagement_metrics", "metadata", "extra",
		"categories_visited", "article_ids_visited", "article_titles_visited":
		return CanonicalJSON(text)
	case "page_events":
		return CanonicalPageEvents(text)
	}
	return text
}
