package verify

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"deckle/sim"
)

var measures = []string{"total_sessions", "total_users", "total_visitors", "avg_session_duration_sec",
	"avg_events_per_session",
	"total_article_views",
	"total_video_plays", "total_newsletter_signups", "total_ad_clicks"}

// RollupColumns are the columns of a view, in the order of a row: date, its dimensions, the measures. Nil if there is
// no such view.
func RollupColumns(view string) []string {
	for _, v := range sim.Rollups {
		if v.Name == view {
			cols := append(append([]string{"date"}, v.Dims...), measures...)
			if view == "subscription_analytics" {
				cols = append(cols, "conversion_rate")
			}
			return cols
		}
	}
	return nil
}

// isAverage are the columns that are compared to nine digits.
var isAverage = map[string]bool{"avg_session_duration_sec": true, "avg_events_per_session": true,
	"conversion_rate": true}

// totals are one key of a rollup.
type totals struct {
	key                                                         []string
	users                                                       map[uint64]struct{}
	unknown                                                     int64 // sessions of which no user is known
	sessions, duration, events, views, plays, signups, adClicks int64
}

func (t *totals) row(view string) []string {
	n := func(i int64) string { return strconv.FormatInt(i, 10) }
	avg := func(i int64) string { return strconv.FormatFloat(float64(i)/float64(t.sessions), 'g', -1, 64) }
	row := append(append([]string{}, t.key...), n(t.sessions), n(int64(len(t.users))),
		n(int64(len(t.users))+t.unknown), avg(t.duration), avg(t.events),
		n(t.views), n(t.plays),
		n(t.signups), n(t.adClicks))
	if view == "subscription_analytics" {
		row = append(row, avg(t.signups))
	}
	return row
}

// rollups are all totals of the truth, by view and key.
type rollups map[string]map[string]*totals

func (r rollups) add(s *sim.Session) {
	date := time.Unix(s.Start, 0).UTC().Format(time.DateOnly)
	for _, v := range sim.Rollups {
		key := []string{date}
		for _, d := range v.Dims {
			key = append(key, shorten(s.Column(d)))
		}
		k := rowKey(key)
		t := r[v.Name][k]
		if t == nil {
			t = &totals{key: key, users: map[uint64]struct{}{}}
			if r[v.Name] == nil {
				r[v.Name] = map[string]*totals{}
			}
			r[v.Name][k] = t
		}
		if s.UserID == 0 {
			t.unknown++
		} else {
			t.users[s.UserID] = struct{}{}
		}
		t.sessions++
		t.duration += s.Duration
		t.events += s.TotalEvents
		t.views += s.ArticleViews
		t.plays += s.VideoPlays
		t.signups += s.NewsletterSignups
		t.adClicks += s.AdClicks
	}
}

// shorten limits a text to 256 bytes of whole characters.
func shorten(text string) string {
	if len(text) <= 256 {
		return text
	}
	n := 256
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// sameNumber says whether two averages agree to nine digits.
func sameNumber(a, b string) bool {
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err1 == nil && err2 == nil && math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y), 1e-9)
}
