package verify

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"deckle/sim"
	"deckle/sinks/clickhouse"
	"deckle/state"
)

// ClickHouse reads the views of a database. The caller closes the Reader.
func ClickHouse(r *clickhouse.Reader) Reader { return clickHouseReader{r} }

type clickHouseReader struct{ r *clickhouse.Reader }

func (c clickHouseReader) Count(ctx context.Context, table string) (int64, error) {
	n, err := c.r.Count(ctx, table)
	return int64(n), err
}

func (c clickHouseReader) Rows(ctx context.Context, table string, yield func([]string) error) error {
	switch table {
	case "session_metrics":
		return c.r.Sessions(ctx, func(s *clickhouse.Session) error { return yield(clickHouseSession(s)) })
	case "page_analytics":
		return c.r.Pages(ctx, func(p *clickhouse.Page) error {
			return yield([]string{p.SessionID, p.Origin, p.ArticleID, p.EventType, number(p.VisitCount), number(p.UserID), p.ArticleTitle, p.Category})
		})
	}
	for t := range state.NumRollups {
		if t.String() == table {
			return c.r.Rollup(ctx, t, func(r *clickhouse.Rollup) error { return yield(clickHouseRollup(t, r)) })
		}
	}
	return fmt.Errorf("there is no view %q", table)
}

func clickHouseSession(s *clickhouse.Session) []string {
	return []string{
		s.SessionID, s.Origin, s.SessionDate.Format(time.DateOnly), number(s.UserID), s.Brand, s.Country, s.City, s.DeviceType, s.DeviceOS, s.Browser,
		s.SubscriptionTier, s.UserSegment, s.Referrer, s.Timezone, number(s.Start), number(s.End), number(s.DurationSec), number(s.TotalEvents),
		number(s.ArticleViews), number(s.ArticleClicks), number(s.VideoPlays), number(s.NewsletterSignups), number(s.AdClicks), number(s.Searches),
		number(s.SubscriptionPrompts), number(s.Navigations), sim.CanonicalJSON(s.CategoriesVisited), sim.CanonicalJSON(s.ArticleIDsVisited),
		sim.CanonicalJSON(s.ArticleTitlesVisited), number(s.PagesVisited), number(s.UniquePages), number(s.UniqueCategories),
		sim.CanonicalPageEvents(s.PageEvents), number(s.TimeOnPageSec), number(s.VideoWatchSec), number(s.MaxScrollDepth), number(s.AdRevenueMicros), s.Status,
	}
}

func clickHouseRollup(t state.RollupTable, r *clickhouse.Rollup) []string {
	float := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	row := append([]string{r.Date.Format(time.DateOnly)}, r.Dims...)
	row = append(row, number(r.Sessions), number(r.Users), float(r.AvgDuration), float(r.AvgEvents), number(r.Views), number(r.Plays),
		number(r.Signups), number(r.AdClicks))
	if t == state.RollupSubscription {
		row = append(row, float(r.Conversion))
	}
	return row
}

// number is an integer in decimal.
func number[T int64 | uint64 | int32 | uint32 | uint8](n T) string {
	if n >= 0 {
		return strconv.FormatUint(uint64(n), 10)
	}
	return strconv.FormatInt(int64(n), 10)
}
