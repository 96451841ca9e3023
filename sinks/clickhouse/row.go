package clickhouse

import (
	"fmt"
	"math"
	"time"

	"deckle/event"
	"deckle/state"
)

// Session is one row of session_metrics, as a reader gets it and as a dead letter shows it.
type Session struct {
	SessionID            string    `json:"session_id"`
	UserID               uint64    `json:"user_id"`
	Brand                string    `json:"brand"`
	Country              string    `json:"country"`
	City                 string    `json:"city"`
	DeviceType           string    `json:"device_type"`
	DeviceOS             string    `json:"device_os"`
	Browser              string    `json:"browser"`
	SubscriptionTier     string    `json:"subscription_tier"`
	UserSegment          string    `json:"user_segment"`
	Referrer             string    `json:"referrer"`
	Timezone             string    `json:"timezone"`
	Start                int64     `json:"session_start"` // Unix seconds
	End                  int64     `json:"session_end"`   // Unix seconds
	DurationSec          uint32    `json:"session_duration_sec"`
	TotalEvents          uint32    `json:"total_events"`
	ArticleViews         uint32    `json:"article_views"`
	ArticleClicks        uint32    `json:"article_clicks"`
	VideoPlays           uint32    `json:"video_plays"`
	NewsletterSignups    uint32    `json:"newsletter_signups"`
	AdClicks             uint32    `json:"ad_clicks"`
	Searches             uint32    `json:"searches"`
	SubscriptionPrompts  uint32    `json:"subscription_prompts"`
	Navigations          uint32    `json:"navigations"`
	CategoriesVisited    string    `json:"categories_visited"`     // JSON array
	ArticleIDsVisited    string    `json:"article_ids_visited"`    // JSON array
	ArticleTitlesVisited string    `json:"article_titles_visited"` // JSON array
	PagesVisited         uint32    `json:"pages_visited_count"`
	UniquePages          uint32    `json:"unique_pages_count"`
	UniqueCategories     uint32    `json:"unique_categories_count"`
	PageEvents           string    `json:"page_events"` // JSON array
	TimeOnPageSec        uint64    `json:"time_on_page_sec"`
	VideoWatchSec        uint64    `json:"video_watch_sec"`
	MaxScrollDepth       uint8     `json:"max_scroll_depth"`
	AdRevenueMicros      uint64    `json:"ad_revenue_micros"`
	Status               string    `json:"status"`
	Revision             uint32    `json:"revision"`
	SessionDate          time.Time `json:"session_date"` // midnight UTC
	Origin               string    `json:"origin"`
	BatchID              uint64    `json:"batch_id"`
	CreatedAt            int64     `json:"created_at"` // Unix milliseconds
}

// Page is one row of page_analytics.
type Page struct {
	SessionID, Origin, ArticleID, EventType string
	VisitCount                              uint32
	UserID                                  uint64
	ArticleTitle, Category                  string
	SessionDate                             time.Time // midnight UTC
}

// Rollup is one row of a rollup's view.
type Rollup struct {
	Date        time.Time // midnight UTC
	Dims        []string  // in the order of state.RollupRow.Dims
	Sessions    int64
	Users       uint64
	AvgDuration float64 // seconds
	AvgEvents   float64
	Views       int64
	Plays       int64
	Signups     int64
	AdClicks    int64
	Conversion  float64 // subscription_analytics only
}

// sessionOf returns the row as the table shows it. Strings alias r.
func sessionOf(r *state.SessionRow) Session {
	return Session{
		SessionID: r.SessionID, UserID: r.UserID, Brand: r.Brand, Country: r.Country, City: r.City,
		DeviceType: r.DeviceType, DeviceOS: r.DeviceOS, Browser: r.Browser, SubscriptionTier: r.SubscriptionTier,
		UserSegment: r.UserSegment, Referrer: r.Referrer, Timezone: r.Timezone,
		Start: r.Start, End: r.End, DurationSec: uint32(r.End - r.Start), TotalEvents: r.TotalEvents,
		ArticleViews: r.Counts[event.ArticleView], ArticleClicks: r.Counts[event.ArticleClick],
		VideoPlays: r.Counts[event.VideoPlay], NewsletterSignups: r.Counts[event.NewsletterSignup],
		AdClicks: r.Counts[event.AdClick], Searches: r.Counts[event.Search],
		SubscriptionPrompts: r.Counts[event.SubscriptionPrompt], Navigations: r.Counts[event.Navigation],
		CategoriesVisited: r.Categories, ArticleIDsVisited: r.ArticleIDs, ArticleTitlesVisited: r.ArticleTitles,
		PagesVisited: r.PagesVisited, UniquePages: r.UniquePages, UniqueCategories: r.UniqueCategories,
		PageEvents: r.PageEvents, TimeOnPageSec: r.TimeOnPageSec, VideoWatchSec: r.VideoWatchSec,
		MaxScrollDepth: r.MaxScrollDepth, AdRevenueMicros: r.AdRevenueMicros, Status: r.Status.String(),
		Revision: r.Revision, SessionDate: dayOf(r.SessionDate), Origin: r.Origin, BatchID: r.BatchID, CreatedAt: r.CreatedAt,
	}
}

func dayOf(days int32) time.Time { return time.Unix(int64(days)*86_400, 0).UTC() }

// Greatest values of the column types.
const (
	maxDays   = math.MaxUint16    // Date: 2149-06-06
	maxMillis = 9_904_550_399_000 // DateTime64: through 2283, where every server's range still holds
)

// checkRow finds values that the columns cannot hold and that ClickHouse would wrap in silence.
func checkRow(r *state.SessionRow) error {
	switch {
	case r.Start < 0 || r.Start > math.MaxUint32 || r.End < r.Start || r.End > math.MaxUint32:
		return &rowError{fmt.Errorf("session_start %d and session_end %d do not fit DateTime", r.Start, r.End)}
	case r.SessionDate < 0 || r.SessionDate > maxDays:
		return &rowError{fmt.Errorf("session_date %d does not fit Date", r.SessionDate)}
	case r.CreatedAt < 0 || r.CreatedAt > maxMillis:
		return &rowError{fmt.Errorf("created_at %d does not fit DateTime64(3)", r.CreatedAt)}
	case r.Status < state.StatusOpen || r.Status > state.StatusExpired:
		return &rowError{fmt.Errorf("status %s is not a value of the column", r.Status)}
	}
	return nil
}

// rowKey is the key by which the state refuses a row.
func rowKey(r *state.SessionRow) string { return r.SessionID + "\x00" + r.Origin }
