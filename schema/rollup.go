package schema

import (
	"deckle/event"
	"deckle/schema/level"
)

// RollupTable names a rollup. The numeric values are part of the encodings and never change.
type RollupTable uint8

// The rollups of docs/schema.md, page_analytics excepted (it comes from the session's image).
const (
	RollupSummary RollupTable = iota
	RollupBrand
	RollupDevice
	RollupGeographic
	RollupSubscription
	NumRollups
)

// String returns the name of the view that analysts query.
func (t RollupTable) String() string {
	if t < NumRollups {
		return Rollups[t].Name
	}
	return "invalid"
}

// NumDims is the number of dimensions besides the date.
func (t RollupTable) NumDims() int { return len(Rollups[t].Dims) }

// Rollup declares one rollup.
type Rollup struct {
	Name    string // of the view
	Comment string
	// Dims are the names of the dimensions besides the date. They are columns of the session with texts of its first
	// event.
	Dims []string
	// Conversion says that the view shows newsletter signups per session.
	Conversion bool
}

// Rollups holds each rollup at the index of its RollupTable.
var Rollups = [NumRollups]Rollup{
	RollupSummary: {Name: "session_summary", Comment: "Sessions by day; exact under plain SELECT"},
	RollupBrand: {Name: "brand_analytics", Comment: "Sessions by day and brand; exact under plain SELECT",
		Dims: []string{"brand"}},
	RollupDevice: {Name: "device_analytics", Comment: "Sessions by day and device; exact under plain SELECT",
		Dims: []string{"device_type", "device_os", "browser"}},
	RollupGeographic: {Name: "geographic_analytics", Comment: "Sessions by day and place; exact under plain SELECT",
		Dims: []string{"country", "city"}},
	RollupSubscription: {Name: "subscription_analytics",
		Comment: "Sessions by day, subscription tier and segment; exact under plain SELECT",
		Dims:    []string{"subscription_tier", "user_segment"}, Conversion: true},
}

// RollupRow is one shard's exact totals of one key as of a closed epoch.
type RollupRow struct {
	Table RollupTable
	Date  int32 // days since 1970-01-01, UTC
	// Dims are the key's texts, in the order of Rollup.Dims.
	Dims     []string
	Sessions int64
	Duration int64 // seconds, summed
	Events   int64
	// Views, Plays, Signups, AdClicks are summed counts.
	Views, Plays, Signups, AdClicks int64
	Epoch                           uint64
}

// Measure is a sum over the sessions that are counted under a rollup's key.
type Measure struct {
	// Name is the column of the stored totals, and the sum's name in the API's JSON.
	Name    string
	Comment string
	// Since is the level from which on the totals have the measure; 0 is level.First. In older totals it is 0.
	Since level.Level
	// View is the column that the views show, with ViewComment: the sum, or, if Average is set, the sum per session.
	View, ViewComment string
	Average           bool
	// Of says what one session adds, and Type is the type for MeasureEvents.
	Of   MeasureOf
	Type event.Type
	At   func(*RollupRow) *int64
}

// MeasureOf says what a session adds to a measure.
type MeasureOf uint8

// These are the values that a session can add.
const (
	MeasureOne      MeasureOf = iota // 1
	MeasureDuration                  // its duration in seconds
	MeasureTotal                     // its counted events
	MeasureEvents                    // its counted events of a type
)

// Measures are the sums of every rollup, in the order of the columns and of the stored totals: a new one goes to the
// end, and into a new version of that format.
var Measures = [...]Measure{
	{Name: "sessions", Comment: "Sessions of the shard counted under the key", View: "total_sessions",
		ViewComment: "Sessions, open ones included", Of: MeasureOne,
		At: func(r *RollupRow) *int64 { return &r.Sessions }},
	{Name: "duration_sec", Comment: "Sum of session_duration_sec, in seconds", View: "avg_session_duration_sec",
		ViewComment: "Sum of durations / total_sessions, in seconds", Average: true, Of: MeasureDuration,
		At: func(r *RollupRow) *int64 { return &r.Duration }},
	{Name: "events", Comment: "Sum of total_events", View: "avg_events_per_session",
		ViewComment: "Sum of counted events / total_sessions", Average: true, Of: MeasureTotal,
		At: func(r *RollupRow) *int64 { return &r.Events }},
	eventMeasure("article_views", event.ArticleView, func(r *RollupRow) *int64 { return &r.Views }),
	eventMeasure("video_plays", event.VideoPlay, func(r *RollupRow) *int64 { return &r.Plays }),
	eventMeasure("newsletter_signups", event.NewsletterSignup, func(r *RollupRow) *int64 { return &r.Signups }),
	eventMeasure("ad_clicks", event.AdClick, func(r *RollupRow) *int64 { return &r.AdClicks }),
}

// NumMeasures is the number of Measures.
const NumMeasures = len(Measures)

func eventMeasure(name string, t event.Type, at func(*RollupRow) *int64) Measure {
	return Measure{Name: name, Comment: "Sum of " + name, View: "total_" + name, ViewComment: "Sum of " + name,
		Of: MeasureEvents, Type: t, At: at}
}

// MaxDims is the greatest number of dimensions of a rollup.
var MaxDims = func() (n int) {
	for i := range Rollups {
		n = max(n, len(Rollups[i].Dims))
	}
	return n
}()
