package schema

import (
	"strings"

	"deckle/event"
	"deckle/schema/level"
)

// Status is where a session stands. The numeric values are part of the encodings and of the ClickHouse Enum8.
type Status uint8

// The statuses of docs/schema.md.
const (
	StatusInvalid Status = iota
	StatusOpen
	StatusClosed
	StatusExpired
)

// String returns the status as the tables show it.
func (s Status) String() string {
	return [...]string{"invalid", "open", "closed", "expired"}[min(s, StatusExpired)]
}

// ParseStatus is the inverse of String. It returns StatusInvalid for a text that names no status.
func ParseStatus(name string) Status {
	for s := StatusOpen; s <= StatusExpired; s++ {
		if s.String() == name {
			return s
		}
	}
	return StatusInvalid
}

// Counts are a session's counted events by type. The places of types that are not counted stay 0.
type Counts [event.NumTypes]uint32

// SessionRow is the row of one session as of a closed epoch: the columns of docs/schema.md.
type SessionRow struct {
	SessionID string
	Origin    string // "partition/offset"
	UserID    uint64
	UserKey   string // of a user who is known by a text

	OpeningBrand string // of the record that opened the row; empty if it is not known

	Brand, Country, City, DeviceType, DeviceOS, Browser string
	SubscriptionTier, UserSegment, Referrer, Timezone   string

	Start, End  int64 // Unix seconds
	TotalEvents uint32
	Counts      Counts

	Categories, ArticleIDs, ArticleTitles         string // JSON arrays of texts
	PagesVisited, UniquePages, UniqueCategories   uint32
	PageEvents                                    string // JSON array of objects
	TimeOnPageSec, VideoWatchSec, AdRevenueMicros uint64
	MaxScrollDepth                                uint8
	MaxReadProgress                               uint8
	ArticlesCompleted                             uint32
	SeveralUsers                                  uint8 // 1 or 0
	// FiguresKnown and UsersKnown say that the two figures of articles, and SeveralUsers, are those of the whole
	// session. Nobody knows them of a session that began before the level that has them.
	FiguresKnown, UsersKnown bool
	Status                   Status
	Revision                 uint32
	SessionDate              int32  // days since 1970-01-01, UTC, of the opening record
	Epoch                    uint64 // of this image
	BatchID                  uint64
	CreatedAt                int64  // Unix milliseconds: the cut's clock
	FirstClosed              uint64 // epoch of its first closed image that had a row, 0 while open
	// Stands says, in a plan of revisions, that the row was written when the session was closed: it is in the table,
	// unless somebody has deleted it. False: that is not known, or it was refused (level 4).
	Stands bool `json:"-"`
	Pages  []PageRow
}

// Key names the row: see RowKey.
func (r *SessionRow) Key() string { return RowKey(r.SessionID, r.Origin) }

// RowKey is the key of a session's row, by which a sink refuses it: session id, NUL, origin.
func RowKey(sessionID, origin string) string { return sessionID + "\x00" + origin }

// epochBits are the bits of a batch_id that hold the epoch; the shard stands above them.
const epochBits = 40

// BatchID is the value of the batch_id column: shard and epoch of the cut that produced an image.
func BatchID(shard uint32, epoch uint64) uint64 { return uint64(shard)<<epochBits | epoch }

// SplitBatchID is the inverse of BatchID.
func SplitBatchID(id uint64) (shard uint32, epoch uint64) {
	return uint32(id >> epochBits), id & (1<<epochBits - 1)
}

// Sessions are the columns of session_metrics (ClickHouse) and of sessions (Delta), in their order.
//
// The order of the texts of the first event, and that of the sums, is also the one in which the state's stored images
// hold them: a new one goes behind the others of its kind, and into a new version of that format. (Images hold counts
// by their type's number.)
var Sessions = []Column[SessionRow]{
	{Name: "session_id", Kind: Text, Comment: "The reader's session, as the events name it",
		Field: At(func(r *SessionRow) *string { return &r.SessionID })},
	{Name: "user_id", Kind: Uint64, Signed: true,
		Rule: "first known user (level 1: user of the first event); 0 if none is known; for a user who is known by a " +
			"text, a hash of at least 2^63, which in Delta is the same 64 bits with their sign",
		Comment:  "User of the session's first event",
		Reworded: "First known user of the session, in the order of its events; 0 if none is known",
		Field:    At(func(r *SessionRow) *uint64 { return &r.UserID })},

	first("brand", Few, "Brand", func(r *SessionRow) *string { return &r.Brand }),
	first("country", Few, "Country", func(r *SessionRow) *string { return &r.Country }),
	first("city", Repeated, "City", func(r *SessionRow) *string { return &r.City }),
	first("device_type", Few, "Device type", func(r *SessionRow) *string { return &r.DeviceType }),
	first("device_os", Few, "Operating system", func(r *SessionRow) *string { return &r.DeviceOS }),
	first("browser", Few, "Browser", func(r *SessionRow) *string { return &r.Browser }),
	first("subscription_tier", Few, "Subscription tier", func(r *SessionRow) *string { return &r.SubscriptionTier }),
	first("user_segment", Few, "User segment", func(r *SessionRow) *string { return &r.UserSegment }),
	first("referrer", Repeated, "Referrer", func(r *SessionRow) *string { return &r.Referrer }),
	first("timezone", Few, "Time zone", func(r *SessionRow) *string { return &r.Timezone }, ", as a name"),

	{Name: "session_start", Kind: Seconds, Rule: "least and greatest timestamp of counted events",
		Comment: "Least timestamp of the counted events", Field: At(func(r *SessionRow) *int64 { return &r.Start })},
	{Name: "session_end", Kind: Seconds, Rule: "least and greatest timestamp of counted events",
		Comment: "Greatest timestamp of the counted events", Field: At(func(r *SessionRow) *int64 { return &r.End })},
	{Name: "session_duration_sec", Kind: Uint32, Rule: "end − start",
		Comment: "session_end - session_start, in seconds",
		Field:   Field[SessionRow]{number: func(r *SessionRow) uint64 { return uint64(r.End - r.Start) }}},
	{Name: "total_events", Kind: Uint32, Rule: "counted events", Comment: "Counted events",
		Field: At(func(r *SessionRow) *uint32 { return &r.TotalEvents })},

	count("article_views", event.ArticleView),
	count("article_clicks", event.ArticleClick),
	count("video_plays", event.VideoPlay),
	count("newsletter_signups", event.NewsletterSignup),
	count("ad_clicks", event.AdClick),
	count("searches", event.Search),
	count("subscription_prompts", event.SubscriptionPrompt),
	count("navigations", event.Navigation),

	list("categories_visited", "category", func(r *SessionRow) *string { return &r.Categories }),
	list("article_ids_visited", "article_id", func(r *SessionRow) *string { return &r.ArticleIDs }),
	list("article_titles_visited", "article_title", func(r *SessionRow) *string { return &r.ArticleTitles }),
	{Name: "pages_visited_count", Kind: Uint32, Rule: "length of article_ids_visited",
		Comment: "Length of article_ids_visited",
		Field:   At(func(r *SessionRow) *uint32 { return &r.PagesVisited })},
	{Name: "unique_pages_count", Kind: Uint32, Rule: "distinct values in those lists",
		Comment: "Distinct values in article_ids_visited",
		Field:   At(func(r *SessionRow) *uint32 { return &r.UniquePages })},
	{Name: "unique_categories_count", Kind: Uint32, Rule: "distinct values in those lists",
		Comment: "Distinct values in categories_visited",
		Field:   At(func(r *SessionRow) *uint32 { return &r.UniqueCategories })},
	{Name: "page_events", Kind: JSON,
		Rule: "objects, one per counted event in order: event_type, category, article_id, article_title, " +
			"page_url, timestamp, engagement_metrics (as it came; see the caps below)",
		Comment: "JSON array of objects, one per counted event in order: event_type, category, article_id, " +
			"article_title, page_url, timestamp, engagement_metrics",
		Field: At(func(r *SessionRow) *string { return &r.PageEvents })},

	sum("time_on_page_sec", event.ArticleView,
		"sum of engagement_metrics.time_on_page over article_view (non-numbers count 0)",
		"Sum of time_on_page over article_view, in seconds", func(r *SessionRow) *uint64 { return &r.TimeOnPageSec }),
	sum("video_watch_sec", event.VideoPlay,
		"sum of engagement_metrics.playback_position over video_play (non-numbers count 0)",
		"Sum of playback_position over video_play, in seconds",
		func(r *SessionRow) *uint64 { return &r.VideoWatchSec }),
	{Name: "max_scroll_depth", Kind: Uint8,
		Rule:    "greatest engagement_metrics.scroll_depth over article_view, held to 0–100",
		Comment: "Greatest scroll_depth over article_view, 0 to 100",
		Field:   At(func(r *SessionRow) *uint8 { return &r.MaxScrollDepth })},
	sum("ad_revenue_micros", event.AdClick,
		"sum of engagement_metrics.ad_revenue over ad_click, each rounded to a millionth (an integer, so that "+
			"sums are exact)", "Sum of ad_revenue over ad_click, in millionths",
		func(r *SessionRow) *uint64 { return &r.AdRevenueMicros }),

	{Name: "status", Kind: StatusName, Rule: "open, closed (by session_end), expired (by timeout)",
		Comment: "open, closed by session_end, or expired by timeout", Field: statusField()},
	{Name: "revision", Kind: Small, Rule: "how often the row changed after it was first closed",
		Comment: "How often the row changed after it was first closed",
		Field:   At(func(r *SessionRow) *uint32 { return &r.Revision })},
	{Name: "session_date", Kind: Date,
		Rule: "UTC day of the opening record's timestamp: never changes; partition key in Delta " +
			"(`session_date`), by month in ClickHouse",
		Comment: "UTC day of the record that opened the row; never changes",
		Field:   At(func(r *SessionRow) *int32 { return &r.SessionDate })},
	{Name: "origin", Kind: Text, Rule: "\"partition/offset\" of the record that opened the row: never changes",
		Comment: "partition/offset of the record that opened the row; never changes",
		Field:   At(func(r *SessionRow) *string { return &r.Origin })},
	{Name: "batch_id", Kind: Uint64, Rule: "shard and epoch of the cut that produced this image",
		Comment: "Shard (from bit 40 up) and epoch of the cut that produced this image",
		Field:   At(func(r *SessionRow) *uint64 { return &r.BatchID })},
	{Name: "created_at", Kind: Millis, Rule: "the cut's clock", Comment: "Clock of the cut that produced this image",
		Field: At(func(r *SessionRow) *int64 { return &r.CreatedAt })},

	{Name: "user_key", Kind: Text, Since: level.Real, Rule: "text of a user_id that is no number; empty for others",
		Comment: "Text of a user_id that is no number; empty for others",
		Field:   At(func(r *SessionRow) *string { return &r.UserKey })},
	{Name: "several_users", Kind: Uint8, Since: level.Real,
		Known:   known(func(r *SessionRow) *bool { return &r.UsersKnown }),
		Rule:    "1 if counted events name more than one known user, else 0",
		Comment: "1 if counted events name more than one known user, else 0",
		Field:   At(func(r *SessionRow) *uint8 { return &r.SeveralUsers })},
	later(count("other_events", event.Other), "counted events of types that have no column"),
	{Name: "max_read_progress", Kind: Uint8, Since: level.Real, Known: known(figures),
		Rule:    "greatest engagement_metrics.read_progress over article_view, held to 0–100",
		Comment: "Greatest read_progress over article_view, 0 to 100",
		Field:   At(func(r *SessionRow) *uint8 { return &r.MaxReadProgress })},
	{Name: "articles_completed", Kind: Uint32, Since: level.Real, Known: known(figures),
		Rule:    "article_views whose engagement_metrics.is_article_complete is true or 1",
		Comment: "article_view with is_article_complete true",
		Field:   At(func(r *SessionRow) *uint32 { return &r.ArticlesCompleted })},

	{Name: "opening_brand", Kind: Few, Since: level.Lake, Known: &hasOpeningBrand,
		Rule: "brand of the record that opened the row: never changes; null if that record names none (or one of " +
			"more than 128 bytes), or if the row was opened before level 4; partition key in Delta if " +
			"`delta.sessions.partition_by` has it",
		Comment: "Brand of the record that opened the row; never changes",
		Field:   At(func(r *SessionRow) *string { return &r.OpeningBrand })},
}

// hasOpeningBrand says that the row has an opening brand. An empty one is none, and null, in every table: a partition
// of a Delta table cannot tell the two apart.
var hasOpeningBrand = Field[SessionRow]{number: func(r *SessionRow) uint64 {
	return uint64(min(len(r.OpeningBrand), 1))
}}

func figures(r *SessionRow) *bool { return &r.FiguresKnown }

func known(at func(*SessionRow) *bool) *Field[SessionRow] {
	f := At(at)
	return &f
}

// later gives a column that level.Real adds its rule.
func later(c Column[SessionRow], rule string) Column[SessionRow] {
	c.Since, c.Rule, c.Comment = level.Real, rule, strings.ToUpper(rule[:1])+rule[1:]
	return c
}

const ofFirst = "of the first event"

// first declares a text that a session has from its first event: the event's field of the same name.
func first(name string, kind Kind, what string, at func(*SessionRow) *string, more ...string) Column[SessionRow] {
	return Column[SessionRow]{Name: name, Kind: kind, Rule: ofFirst,
		Comment: what + " of the first event" + strings.Join(more, ""),
		Source:  Source{From: FirstText}, Field: At(at)}
}

// count declares the number of a session's counted events of a type.
func count(name string, t event.Type) Column[SessionRow] {
	return Column[SessionRow]{Name: name, Kind: Uint32, Rule: "counted events of the type",
		Comment: "Counted events of type " + t.String(),
		Source:  Source{From: EventCount, Type: t}, Field: At(func(r *SessionRow) *uint32 { return &r.Counts[t] })}
}

// sum declares the sum of Event.Measure over a session's counted events of a type.
func sum(name string, t event.Type, rule, comment string, at func(*SessionRow) *uint64) Column[SessionRow] {
	return Column[SessionRow]{Name: name, Kind: Uint64, Rule: rule, Comment: comment,
		Source: Source{From: MeasureSum, Type: t}, Field: At(at)}
}

// list declares the values of a field of the counted events, in their order.
func list(name, field string, at func(*SessionRow) *string) Column[SessionRow] {
	return Column[SessionRow]{Name: name, Kind: JSON,
		Rule:    "texts: the field of every counted event in order, repeats kept, empty values left out",
		Comment: "JSON array: " + field + " of every counted event in order, repeats kept, empty ones left out",
		Field:   At(at)}
}

func statusField() Field[SessionRow] {
	f := At(func(r *SessionRow) *Status { return &r.Status })
	f.text = func(r *SessionRow) string { return r.Status.String() }
	f.setText = func(r *SessionRow, name string) { r.Status = ParseStatus(name) }
	return f
}

// The columns by the way in which the state makes them, each in the order of Sessions.
var (
	FirstTexts  = from(FirstText)
	EventCounts = from(EventCount)
	MeasureSums = from(MeasureSum)
)

// NumSums is the number of MeasureSums: a constant, because the state keeps an array of them per session.
const NumSums = 3

func from(f From) (columns []*Column[SessionRow]) {
	for i := range Sessions {
		if Sessions[i].Source.From == f {
			columns = append(columns, &Sessions[i])
		}
	}
	return columns
}
