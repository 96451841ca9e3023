package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"deckle/sim"
	"deckle/sim/verify"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
)

// sparkDelta is the name of the job's Delta table in a report.
const sparkDelta = "spark.delta.sessions"

// sparkTables opens what the job wrote: the last image of every session in Delta, and the views of its database in ClickHouse,
// which have the names and columns of Deckle's. The caller calls the returned function when it is done; it is never nil.
func sparkTables(ctx context.Context, o sparkOptions) (t verify.Options, closeAll func() error, err error) {
	none := func() error { return nil }
	st, err := store.NewS3(store.S3Options{Endpoint: "http://" + o.MinIO.Addr, Bucket: o.Bucket, Prefix: o.Prefix, Region: "us-east-1",
		Credentials: store.StaticCredentials(o.MinIO.AccessKey, o.MinIO.SecretKey)})
	if err != nil {
		return t, none, err
	}
	table, err := delta.OpenTable(ctx, st, "sessions")
	if err != nil {
		return t, none, errors.Join(err, st.Close())
	}
	click, err := clickhouse.OpenReader(ctx, clickhouse.Options{Address: o.Click.Addr, Database: o.Database, User: o.Click.User, Password: o.Click.Password})
	if err != nil {
		return t, none, errors.Join(fmt.Errorf("spark's tables in ClickHouse: %w", err), st.Close())
	}
	t.ClickHouse = verify.ClickHouse(click)
	t.More = []verify.Table{{Name: sparkDelta, Kind: verify.Sessions, Reader: &sparkDeltaReader{store: st, table: table}}}
	return t, func() error { return errors.Join(click.Close(), st.Close()) }, nil
}

// sparkDeltaReader reads an append-only table of images: once for the last image of each session, once for their rows.
type sparkDeltaReader struct {
	store store.Store
	table *delta.Table
}

// sparkImage names an image.
type sparkImage struct {
	SessionID string `parquet:"session_id,optional"`
	BatchID   int64  `parquet:"batch_id,optional"`
}

// sparkRow is a row as the job's files hold it; session_date is not in them.
type sparkRow struct {
	SessionID           string `parquet:"session_id,optional"`
	Origin              string `parquet:"origin,optional"`
	UserID              int64  `parquet:"user_id,optional"`
	Brand               string `parquet:"brand,optional"`
	Country             string `parquet:"country,optional"`
	City                string `parquet:"city,optional"`
	DeviceType          string `parquet:"device_type,optional"`
	DeviceOS            string `parquet:"device_os,optional"`
	Browser             string `parquet:"browser,optional"`
	SubscriptionTier    string `parquet:"subscription_tier,optional"`
	UserSegment         string `parquet:"user_segment,optional"`
	Referrer            string `parquet:"referrer,optional"`
	Timezone            string `parquet:"timezone,optional"`
	Start               int64  `parquet:"session_start,optional,timestamp(microsecond)"`
	End                 int64  `parquet:"session_end,optional,timestamp(microsecond)"`
	Duration            int64  `parquet:"session_duration_sec,optional"`
	TotalEvents         int64  `parquet:"total_events,optional"`
	ArticleViews        int64  `parquet:"article_views,optional"`
	ArticleClicks       int64  `parquet:"article_clicks,optional"`
	VideoPlays          int64  `parquet:"video_plays,optional"`
	NewsletterSignups   int64  `parquet:"newsletter_signups,optional"`
	AdClicks            int64  `parquet:"ad_clicks,optional"`
	Searches            int64  `parquet:"searches,optional"`
	SubscriptionPrompts int64  `parquet:"subscription_prompts,optional"`
	Navigations         int64  `parquet:"navigations,optional"`
	Categories          string `parquet:"categories_visited,optional"`
	ArticleIDs          string `parquet:"article_ids_visited,optional"`
	ArticleTitles       string `parquet:"article_titles_visited,optional"`
	PagesVisited        int64  `parquet:"pages_visited_count,optional"`
	UniquePages         int64  `parquet:"unique_pages_count,optional"`
	UniqueCategories    int64  `parquet:"unique_categories_count,optional"`
	PageEvents          string `parquet:"page_events,optional"`
	TimeOnPage          int64  `parquet:"time_on_page_sec,optional"`
	VideoWatch          int64  `parquet:"video_watch_sec,optional"`
	MaxScroll           int32  `parquet:"max_scroll_depth,optional"`
	AdRevenueMicros     int64  `parquet:"ad_revenue_micros,optional"`
	Status              string `parquet:"status,optional"`
	BatchID             int64  `parquet:"batch_id,optional"`
}

// texts is the row in the form of package sim, in the order of sim.SessionColumns.
func (r *sparkRow) texts(date string) []string {
	n := func(i int64) string { return strconv.FormatInt(i, 10) }
	seconds := func(micros int64) string {
		if micros%1e6 != 0 { // a fraction is a difference, and must not be cut off
			return strconv.FormatFloat(float64(micros)/1e6, 'f', -1, 64)
		}
		return n(micros / 1e6)
	}
	return []string{
		r.SessionID, r.Origin, date, n(r.UserID), r.Brand, r.Country, r.City, r.DeviceType, r.DeviceOS, r.Browser, r.SubscriptionTier,
		r.UserSegment, r.Referrer, r.Timezone, seconds(r.Start), seconds(r.End), n(r.Duration), n(r.TotalEvents), n(r.ArticleViews),
		n(r.ArticleClicks), n(r.VideoPlays), n(r.NewsletterSignups), n(r.AdClicks), n(r.Searches), n(r.SubscriptionPrompts), n(r.Navigations),
		sim.CanonicalJSON(r.Categories), sim.CanonicalJSON(r.ArticleIDs), sim.CanonicalJSON(r.ArticleTitles), n(r.PagesVisited), n(r.UniquePages),
		n(r.UniqueCategories), sim.CanonicalPageEvents(r.PageEvents), n(r.TimeOnPage), n(r.VideoWatch), n(int64(r.MaxScroll)),
		n(r.AdRevenueMicros), r.Status,
	}
}

func (d *sparkDeltaReader) Count(ctx context.Context, _ string) (int64, error) {
	last, err := d.last(ctx)
	return int64(len(last)), err
}

// last returns the batch of the last image of each session.
func (d *sparkDeltaReader) last(ctx context.Context) (map[string]int64, error) {
	if err := d.table.Refresh(ctx); err != nil {
		return nil, err
	}
	last := map[string]int64{}
	return last, sparkRows(ctx, d, func(_ string, r *sparkImage) error {
		last[r.SessionID] = max(last[r.SessionID], r.BatchID)
		return nil
	})
}

func (d *sparkDeltaReader) Rows(ctx context.Context, _ string, yield func([]string) error) error {
	last, err := d.last(ctx)
	if err != nil {
		return err
	}
	return sparkRows(ctx, d, func(date string, r *sparkRow) error {
		if last[r.SessionID] != r.BatchID {
			return nil
		}
		return yield(r.texts(date))
	})
}

// sparkRows reads the columns of T from every file of the version that was read last.
func sparkRows[T any](ctx context.Context, d *sparkDeltaReader, yield func(date string, r *T) error) error {
	for _, f := range d.table.Snapshot().Files {
		name, err := url.PathUnescape(f.Path)
		if err != nil {
			return fmt.Errorf("path %q in the log: %w", f.Path, err)
		}
		data, err := d.store.Get(ctx, "sessions/"+name)
		if err != nil {
			return err
		}
		r := parquet.NewGenericReader[T](bytes.NewReader(data))
		rows, buf := int64(0), make([]T, 64)
		for {
			clear(buf)
			n, err := r.Read(buf)
			for i := range buf[:n] {
				rows++
				if err := yield(f.Partition, &buf[i]); err != nil {
					return err
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
		}
		if err := r.Close(); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if f.NumRecords >= 0 && rows != f.NumRecords {
			return fmt.Errorf("%s has %d rows, the log says %d", name, rows, f.NumRecords)
		}
	}
	return nil
}
