package delta

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"deckle/event"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
)

// sessionRow is a row of the table sessions as its files hold it. Every column is required: the Parquet writer turns
// zero values of optional columns into null.
type sessionRow struct {
	SessionID           string `parquet:"session_id"`
	UserID              int64  `parquet:"user_id"`
	Brand               string `parquet:"brand,dict"`
	Country             string `parquet:"country,dict"`
	City                string `parquet:"city,dict"`
	DeviceType          string `parquet:"device_type,dict"`
	DeviceOS            string `parquet:"device_os,dict"`
	Browser             string `parquet:"browser,dict"`
	SubscriptionTier    string `parquet:"subscription_tier,dict"`
	UserSegment         string `parquet:"user_segment,dict"`
	Referrer            string `parquet:"referrer,dict"`
	Timezone            string `parquet:"timezone,dict"`
	Start               int64  `parquet:"session_start,timestamp(microsecond)"`
	End                 int64  `parquet:"session_end,timestamp(microsecond)"`
	Duration            int64  `parquet:"session_duration_sec"`
	TotalEvents         int64  `parquet:"total_events"`
	ArticleViews        int64  `parquet:"article_views"`
	ArticleClicks       int64  `parquet:"article_clicks"`
	VideoPlays          int64  `parquet:"video_plays"`
	NewsletterSignups   int64  `parquet:"newsletter_signups"`
	AdClicks            int64  `parquet:"ad_clicks"`
	Searches            int64  `parquet:"searches"`
	SubscriptionPrompts int64  `parquet:"subscription_prompts"`
	Navigations         int64  `parquet:"navigations"`
	Categories          string `parquet:"categories_visited"`
	ArticleIDs          string `parquet:"article_ids_visited"`
	ArticleTitles       string `parquet:"article_titles_visited"`
	PagesVisited        int64  `parquet:"pages_visited_count"`
	UniquePages         int64  `parquet:"unique_pages_count"`
	UniqueCategories    int64  `parquet:"unique_categories_count"`
	PageEvents          string `parquet:"page_events"`
	TimeOnPage          int64  `parquet:"time_on_page_sec"`
	VideoWatch          int64  `parquet:"video_watch_sec"`
	MaxScroll           int32  `parquet:"max_scroll_depth"`
	AdRevenue           int64  `parquet:"ad_revenue_micros"`
	Status              string `parquet:"status,dict"`
	Revision            int32  `parquet:"revision"`
	Origin              string `parquet:"origin"`
	BatchID             int64  `parquet:"batch_id"`
	CreatedAt           int64  `parquet:"created_at,timestamp(microsecond)"`
}

// epochMask takes the epoch out of a batch_id (state.BatchID).
const epochMask = 1<<40 - 1

func (r *sessionRow) epoch() uint64 { return uint64(r.BatchID) & epochMask }

func rowKey(sessionID, origin string) string { return sessionID + "\x00" + origin }

// size estimates the row's bytes in memory.
func (r *sessionRow) size() int64 {
	return int64(500 + len(r.SessionID) + len(r.City) + len(r.Referrer) + len(r.Categories) + len(r.ArticleIDs) + len(r.ArticleTitles) + len(r.PageEvents) + len(r.Origin))
}

var errRange = errors.New("number exceeds a long")

// toSessionRow copies an image; what it points to is the caller's again afterwards.
func toSessionRow(s *state.SessionRow) (sessionRow, error) {
	for _, v := range [...]uint64{s.UserID, s.TimeOnPageSec, s.VideoWatchSec, s.AdRevenueMicros, s.BatchID} {
		if v > math.MaxInt64 {
			raw, err := json.Marshal(s)
			if err != nil {
				return sessionRow{}, fmt.Errorf("delta: refused row: %w", err)
			}
			return sessionRow{}, &sinks.RefusedError{RowKey: rowKey(s.SessionID, s.Origin), Row: raw, Err: fmt.Errorf("%w: %d", errRange, v)}
		}
	}
	c := func(t event.Type) int64 { return int64(s.Counts[t]) }
	r := sessionRow{
		SessionID: s.SessionID, UserID: int64(s.UserID), Brand: s.Brand, Country: s.Country,
		City: s.City, DeviceType: s.DeviceType, DeviceOS: s.DeviceOS, Browser: s.Browser,
		SubscriptionTier: s.SubscriptionTier, UserSegment: s.UserSegment, Referrer: s.Referrer,
		Timezone: s.Timezone, Start: s.Start * 1e6, End: s.End * 1e6, Duration: s.End - s.Start,
		TotalEvents: int64(s.TotalEvents), ArticleViews: c(event.ArticleView), ArticleClicks: c(event.ArticleClick),
		VideoPlays: c(event.VideoPlay), NewsletterSignups: c(event.NewsletterSignup), AdClicks: c(event.AdClick),
		Searches: c(event.Search), SubscriptionPrompts: c(event.SubscriptionPrompt), Navigations: c(event.Navigation),
		Categories: s.Categories, ArticleIDs: s.ArticleIDs, ArticleTitles: s.ArticleTitles,
		PagesVisited: int64(s.PagesVisited), UniquePages: int64(s.UniquePages), UniqueCategories: int64(s.UniqueCategories),
		PageEvents: s.PageEvents, TimeOnPage: int64(s.TimeOnPageSec), VideoWatch: int64(s.VideoWatchSec),
		MaxScroll: int32(s.MaxScrollDepth), AdRevenue: int64(s.AdRevenueMicros), Status: s.Status.String(),
		Revision: int32(s.Revision), Origin: s.Origin, BatchID: int64(s.BatchID), CreatedAt: s.CreatedAt * 1e3,
	}
	event.CloneTexts([]*string{
		&r.SessionID, &r.Brand, &r.Country, &r.City, &r.DeviceType, &r.DeviceOS, &r.Browser, &r.SubscriptionTier, &r.UserSegment,
		&r.Referrer, &r.Timezone, &r.Categories, &r.ArticleIDs, &r.ArticleTitles, &r.PageEvents, &r.Origin,
	})
	return r, nil
}

// image is the way back, for readers; FirstClosed and Pages are not in the table.
func (r *sessionRow) image(date int32) state.SessionRow {
	s := state.SessionRow{
		SessionID: r.SessionID, Origin: r.Origin, UserID: uint64(r.UserID), Brand: r.Brand, Country: r.Country, City: r.City,
		DeviceType: r.DeviceType, DeviceOS: r.DeviceOS, Browser: r.Browser, SubscriptionTier: r.SubscriptionTier,
		UserSegment: r.UserSegment, Referrer: r.Referrer, Timezone: r.Timezone, Start: r.Start / 1e6, End: r.End / 1e6,
		TotalEvents: uint32(r.TotalEvents), Categories: r.Categories, ArticleIDs: r.ArticleIDs, ArticleTitles: r.ArticleTitles,
		PagesVisited: uint32(r.PagesVisited), UniquePages: uint32(r.UniquePages), UniqueCategories: uint32(r.UniqueCategories),
		PageEvents: r.PageEvents, TimeOnPageSec: uint64(r.TimeOnPage), VideoWatchSec: uint64(r.VideoWatch),
		AdRevenueMicros: uint64(r.AdRevenue), MaxScrollDepth: uint8(r.MaxScroll), Revision: uint32(r.Revision),
		SessionDate: date, Epoch: r.epoch(), BatchID: uint64(r.BatchID), CreatedAt: r.CreatedAt / 1e3,
	}
	for _, st := range [...]state.Status{state.StatusOpen, state.StatusClosed, state.StatusExpired} {
		if st.String() == r.Status {
			s.Status = st
		}
	}
	s.Counts[event.ArticleView] = uint32(r.ArticleViews)
	s.Counts[event.ArticleClick] = uint32(r.ArticleClicks)
	s.Counts[event.VideoPlay] = uint32(r.VideoPlays)
	s.Counts[event.NewsletterSignup] = uint32(r.NewsletterSignups)
	s.Counts[event.AdClick] = uint32(r.AdClicks)
	s.Counts[event.Search] = uint32(r.Searches)
	s.Counts[event.SubscriptionPrompt] = uint32(r.SubscriptionPrompts)
	s.Counts[event.Navigation] = uint32(r.Navigations)
	return s
}

func compareSessionRows(a, b *sessionRow) int {
	return cmp.Or(cmp.Compare(a.Brand, b.Brand), cmp.Compare(a.SessionID, b.SessionID), cmp.Compare(a.Origin, b.Origin))
}

// writeRows is how many rows go to the Parquet writer at once: a call costs as much as some rows.
const writeRows = 64

// encodeSessions sorts the rows and makes one file of them.
func encodeSessions(rows []*sessionRow, c compress.Codec) (data []byte, stats string, err error) {
	slices.SortFunc(rows, compareSessionRows)
	cols := sessionsTable.newStats()
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[sessionRow](&buf, fileOptions(c)...)
	chunk := make([]sessionRow, 0, min(len(rows), writeRows))
	for j, r := range rows {
		for i := range cols {
			c := &cols[i]
			switch c.Name {
			case "session_id":
				c.Text(r.SessionID)
			case "user_id":
				c.Int(r.UserID)
			case "brand":
				c.Text(r.Brand)
			case "country":
				c.Text(r.Country)
			case "device_type":
				c.Text(r.DeviceType)
			case "subscription_tier":
				c.Text(r.SubscriptionTier)
			case "session_start":
				c.Int(r.Start)
			case "session_end":
				c.Int(r.End)
			case "session_duration_sec":
				c.Int(r.Duration)
			case "total_events":
				c.Int(r.TotalEvents)
			case "status":
				c.Text(r.Status)
			case "revision":
				c.Int(int64(r.Revision))
			case "batch_id":
				c.Int(r.BatchID)
			case "created_at":
				c.Int(r.CreatedAt)
			default:
				panic("delta: no statistics for " + c.Name)
			}
		}
		if chunk = append(chunk, *r); len(chunk) < writeRows && j < len(rows)-1 {
			continue
		}
		if _, err := w.Write(chunk); err != nil {
			return nil, "", fmt.Errorf("delta: encode sessions: %w", err)
		}
		chunk = chunk[:0]
	}
	if err := w.Close(); err != nil {
		return nil, "", fmt.Errorf("delta: encode sessions: %w", err)
	}
	return buf.Bytes(), deltalog.Stats(int64(len(rows)), cols), nil
}

func fileOptions(c compress.Codec) []parquet.WriterOption {
	return []parquet.WriterOption{
		parquet.DataPageVersion(1), parquet.DefaultEncoding(&parquet.Plain), parquet.Compression(c),
		parquet.DictionaryMaxBytes(1 << 20), parquet.PageBufferSize(128 << 10), parquet.MaxRowsPerRowGroup(1 << 20),
		parquet.CreatedBy("deckle", "1", ""),
	}
}

// eachRow decodes a data file row by row; the row is valid only during the call. A file that the decoder cannot take,
// by error or by panic, is a CorruptionError; one whose columns are stored with other types than ours a *sinks.StopError.
func eachRow[T any](key string, data []byte, yield func(*T) error) (err error) {
	row, inYield := 0, false
	corrupt := func(cause error) error { return &deltalog.CorruptionError{Key: key, Line: row, Err: cause} }
	defer func() {
		if p := recover(); p != nil {
			if inYield {
				panic(p)
			}
			err = corrupt(fmt.Errorf("decoder panicked: %v", p))
		}
	}()
	f, err := deltalog.OpenParquet(data)
	if err != nil {
		return corrupt(err)
	}
	if err := checkTypes[T](key, f); err != nil {
		return err
	}
	r := parquet.NewGenericReader[T](f)
	defer func() { _ = r.Close() }() // of memory: nothing to fail
	rows := make([]T, 128)
	for {
		clear(rows)
		n, err := r.Read(rows)
		for i := range n {
			row++
			inYield = true
			if err := yield(&rows[i]); err != nil {
				return err
			}
			inYield = false
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return corrupt(err)
		}
		if n == 0 {
			return corrupt(io.ErrNoProgress)
		}
	}
}
