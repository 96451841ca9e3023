package delta

import (
	"fmt"
	"slices"
	"time"

	"deckle/sinks/delta/deltalog"
)

// table is what one Delta table is made of.
type table struct {
	name        string
	description string
	partition   string // the partition column, a date; not in the files
	fields      []deltalog.Field
	stats       []string // columns with bounds
}

var sessionsTable = table{
	name:        "sessions",
	description: "One row a session once it is closed; revisions replace it.",
	partition:   "session_date",
	fields: columns(
		"session_id string", "user_id long",
		"brand string", "country string", "city string", "device_type string", "device_os string", "browser string",
		"subscription_tier string", "user_segment string", "referrer string", "timezone string",
		"session_start timestamp", "session_end timestamp", "session_duration_sec long", "total_events long",
		"article_views long", "article_clicks long", "video_plays long", "newsletter_signups long", "ad_clicks long",
		"searches long", "subscription_prompts long", "navigations long",
		"categories_visited string", "article_ids_visited string", "article_titles_visited string",
		"pages_visited_count long", "unique_pages_count long", "unique_categories_count long", "page_events string",
		"time_on_page_sec long", "video_watch_sec long", "max_scroll_depth integer", "ad_revenue_micros long",
		"status string", "revision integer", "session_date date", "origin string", "batch_id long",
		"created_at timestamp",
	),
	stats: []string{
		"session_id", "user_id", "brand", "country", "device_type", "subscription_tier", "session_start", "session_end",
		"session_duration_sec", "total_events", "status", "revision", "batch_id", "created_at",
	},
}

var eventsTable = table{
	name:        "events",
	description: "Every counted event and every session_end once.",
	partition:   "event_date",
	fields: columns(
		"event_id string", "session_id string", "user_id long", "event_type string", "timestamp timestamp",
		"brand string", "category string", "article_id string", "article_title string", "article_type string",
		"page_url string", "referrer string", "device_type string", "device_os string", "browser string",
		"country string", "city string", "timezone string", "subscription_tier string", "user_segment string",
		"engagement_metrics string", "metadata string", "extra string",
		"kafka_partition integer", "kafka_offset long", "kafka_timestamp timestamp", "batch_id long",
		"event_date date",
	),
	stats: []string{
		"session_id", "user_id", "event_type", "timestamp", "brand", "category", "country", "device_type",
		"kafka_partition", "kafka_offset", "kafka_timestamp", "batch_id",
	},
}

func columns(specs ...string) []deltalog.Field {
	fields := make([]deltalog.Field, len(specs))
	for i, s := range specs {
		if _, err := fmt.Sscan(s, &fields[i].Name, &fields[i].Type); err != nil {
			panic(err) // the tables above are wrong
		}
	}
	return fields
}

// newStats returns empty statistics of the table's columns that have them.
func (t *table) newStats() []deltalog.ColumnStats {
	cols := make([]deltalog.ColumnStats, len(t.stats))
	for i, name := range t.stats {
		cols[i].Name = name
		f := t.fields[slices.IndexFunc(t.fields, func(f deltalog.Field) bool { return f.Name == name })]
		switch f.Type {
		case "string":
			cols[i].Kind = deltalog.KindString
		case "timestamp":
			cols[i].Kind = deltalog.KindTimestamp
		default:
			cols[i].Kind = deltalog.KindNumber
		}
	}
	return cols
}

const day = 24 * 60 * 60

// dateText renders days since 1970-01-01 as a partition value.
func dateText(days int32) string {
	return time.Unix(int64(days)*day, 0).UTC().Format(time.DateOnly)
}

func parseDate(s string) (int32, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, err
	}
	return int32(t.Unix() / day), nil
}

// dayOf returns the UTC day of Unix seconds.
func dayOf(seconds int64) int32 {
	d := seconds / day
	if seconds%day < 0 {
		d--
	}
	return int32(d)
}
