package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/sinks/delta"
)

// Columns of a session's row that are compared, and those before them that name and date it: they stand in the files of
// every level and in the view, under the same names.
var (
	namingColumns   = []string{"session_id", "origin", "created_at"}
	comparedColumns = []string{"user_id", "session_start", "session_end", "session_duration_sec", "total_events",
		"article_views", "article_clicks", "video_plays", "newsletter_signups", "ad_clicks", "searches",
		"subscription_prompts", "navigations", "pages_visited_count", "unique_pages_count", "unique_categories_count",
		"time_on_page_sec", "video_watch_sec", "max_scroll_depth", "ad_revenue_micros", "status", "revision"}
)

// Places among comparedColumns.
var (
	placeStatus = slices.Index(comparedColumns, "status")
	placeViews  = slices.Index(comparedColumns, "article_views")
	placeVideos = slices.Index(comparedColumns, "video_plays")
	placeSigns  = slices.Index(comparedColumns, "newsletter_signups")
	placeAds    = slices.Index(comparedColumns, "ad_clicks")
)

const (
	looks     = 5 // at totals that differ
	lookAgain = 3 * time.Second
)

// row is a session's row in 40 bytes.
type row struct {
	sum     uint64 // of the compared columns
	created int64  // Unix milliseconds
	open    bool
	seen    bool
}

// totals are what session_summary says of a date and what its rows come to.
type totals [5]uint64

type sessionsOf struct {
	*run
	letters *lettersOf
	seed    maphash.Seed
	settled int64 // Unix milliseconds: rows that were cut before are judged
	texts   []string
	buf     []byte
}

// sessions compares the rows of sessions, date by date.
func (r *run) sessions(ctx context.Context, letters *lettersOf) error {
	if r.Sessions == nil && r.ClickHouse == nil {
		return nil
	}
	s := &sessionsOf{run: r, letters: letters, seed: maphash.MakeSeed(), texts: make([]string, len(comparedColumns)),
		settled: r.Now().Add(-r.Settle).UnixMilli()}
	first, last := schema.Day(r.From.Unix()), schema.Day(r.To.Unix())
	byDate := map[int32][]*delta.File{}
	if r.Sessions != nil {
		if err := r.Sessions.Refresh(ctx); err != nil {
			return err
		}
		snapshot := r.Sessions.Snapshot()
		r.report.SessionsVersion = snapshot.Version
		for _, f := range snapshot.Files {
			day, err := time.Parse(time.DateOnly, r.Sessions.PartitionValues(f)["session_date"])
			if err != nil {
				return fmt.Errorf("a file of sessions without a date: %w", err)
			}
			if d := schema.Day(day.Unix()); d >= first && d <= last {
				byDate[d] = append(byDate[d], f)
			}
		}
	}
	dates := make([]int32, 0, len(byDate))
	for d := range byDate {
		dates = append(dates, d)
	}
	if r.ClickHouse != nil {
		more, err := r.ClickHouse.Dates(ctx, first, last)
		if err != nil {
			return err
		}
		dates = append(dates, more...)
	}
	slices.Sort(dates)
	for _, d := range slices.Compact(dates) {
		if err := s.date(ctx, d, byDate[d]); err != nil {
			return err
		}
	}
	switch {
	case r.Sessions == nil:
		r.note("rows of sessions were compared with nothing: there are no Delta tables")
	case r.ClickHouse == nil:
		r.note("rows of sessions were compared with nothing: there is no ClickHouse")
	}
	return nil
}

// date compares one date.
func (s *sessionsOf) date(ctx context.Context, day int32, files []*delta.File) error {
	d := Date{Date: schema.DateText(day)}
	s.Progress("comparing sessions of " + d.Date)
	rows := map[key]row{}
	if s.ClickHouse != nil {
		if err := s.clickHouse(ctx, day, &d, rows); err != nil {
			return err
		}
	}
	if s.Sessions != nil {
		if err := s.delta(ctx, files, &d, rows); err != nil {
			return err
		}
	}
	s.report.Dates = append(s.report.Dates, d)
	return nil
}

// clickHouse reads the rows of a date, several times if the totals differ from them.
func (s *sessionsOf) clickHouse(ctx context.Context, day int32, d *Date, rows map[key]row) error {
	columns := slices.Concat(namingColumns, comparedColumns)
	var before totals
	var twice []key
	defer func() {
		d.Doubled = int64(len(twice))
		for _, k := range twice {
			s.differ(d, "session_metrics has two rows of session %s", name(k))
		}
	}()
	for look := 1; ; look++ {
		said, err := s.summary(ctx, d.Date)
		if err != nil {
			return err
		}
		clear(rows)
		d.ClickHouse, d.Open, twice = 0, 0, nil
		var come totals
		err = s.ClickHouse.SessionsOf(ctx, day, columns, func(v []string) error {
			x := row{sum: s.sum(v[len(namingColumns):])}
			if x.created, err = strconv.ParseInt(v[2], 10, 64); err != nil {
				return err
			}
			d.ClickHouse++
			if x.open = v[len(namingColumns)+placeStatus] == "open"; x.open {
				d.Open++
			}
			come[0]++
			for i, place := range []int{placeViews, placeVideos, placeSigns, placeAds} {
				n, err := strconv.ParseUint(v[len(namingColumns)+place], 10, 64)
				if err != nil {
					return err
				}
				come[i+1] += n
			}
			k := rowKey(v[0], v[1])
			if _, there := rows[k]; there {
				twice = append(twice, k)
			}
			rows[k] = x
			return nil
		})
		if err != nil {
			return err
		}
		switch moving := look > 1 && said != before; {
		case said == come:
			d.Totals = "equal"
			return nil
		case look == looks && moving:
			d.Totals = "moving"
			return nil
		case look == looks:
			d.Totals = "different"
			s.find(Finding{Kind: Totals, Offset: -1, Date: d.Date, Text: fmt.Sprintf("%s: sessions, article views, "+
				"video plays, signups and ad clicks are %v in session_summary, and %v by the rows of session_metrics",
				d.Date, said, come)})
			return nil
		}
		before = said
		if err := s.Pause(ctx, lookAgain); err != nil {
			return err
		}
	}
}

// summary is what session_summary says of a date.
func (s *sessionsOf) summary(ctx context.Context, date string) (t totals, err error) {
	columns := []string{"date", "total_sessions", "total_article_views", "total_video_plays",
		"total_newsletter_signups", "total_ad_clicks"}
	err = s.ClickHouse.Rows(ctx, "session_summary", columns, func(v []string) error {
		if v[0] != date {
			return nil
		}
		for i := range t {
			if t[i], err = strconv.ParseUint(v[i+1], 10, 64); err != nil {
				return err
			}
		}
		return nil
	})
	return t, err
}

// delta compares the rows of a date's files with those of ClickHouse.
func (s *sessionsOf) delta(ctx context.Context, files []*delta.File, d *Date, rows map[key]row) error {
	columns := slices.Concat(namingColumns, comparedColumns)
	var mine map[key]bool // without ClickHouse, to find rows that are there twice
	if s.ClickHouse == nil {
		mine = map[key]bool{}
	}
	for _, f := range files {
		err := s.Sessions.ReadColumns(ctx, f, columns, func(v []parquet.Value) error {
			d.Delta++
			id, origin := string(v[0].ByteArray()), string(v[1].ByteArray())
			k := rowKey(id, origin)
			if mine != nil {
				if mine[k] {
					d.Doubled++
					s.differ(d, "sessions has two rows of session %s", name(k))
				}
				mine[k] = true
				return nil
			}
			for i, x := range v[len(namingColumns):] {
				s.texts[i] = text(comparedColumns[i], x)
			}
			created := v[2].Int64() / 1000 // a timestamp of microseconds
			other, there := rows[k]
			switch {
			case there && other.seen:
				d.Doubled++
				s.differ(d, "sessions has two rows of session %s", name(k))
			case created >= s.settled || there && other.created >= s.settled:
				d.NotJudged++
			case !there && s.letters.rows["clickhouse/"+id+"/"+origin]:
				d.Refused++
			case !there:
				d.MissingInClickHouse++
				s.differ(d, "session_metrics lacks session %s, which sessions has", name(k))
			case other.sum != s.sum(s.texts):
				d.Different++
				s.differ(d, "session %s differs between sessions and session_metrics", name(k))
			default:
				d.Equal++
			}
			if there {
				other.seen = true
				rows[k] = other
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	refused := map[key]bool{}
	for row := range s.letters.rows {
		if rest, ok := strings.CutPrefix(row, "sessions/"); ok {
			refused[hashed(rest)] = true
		}
		if rest, ok := strings.CutPrefix(row, "revisions/"); ok {
			refused[hashed(rest)] = true
		}
	}
	for k, x := range rows {
		switch {
		case x.seen || x.open:
		case x.created >= s.settled:
			d.NotJudged++
		case refused[k]:
			d.Refused++
		default:
			d.MissingInDelta++
			s.differ(d, "sessions lacks session %s, which session_metrics has (another tool may have deleted it)",
				name(k))
		}
	}
	return nil
}

func (s *sessionsOf) differ(d *Date, format, session string) {
	s.find(Finding{Kind: Session, Offset: -1, Date: d.Date, Text: d.Date + ": " + fmt.Sprintf(format, session)})
}

// rowKey is 128 bits of a row's key.
func rowKey(session, origin string) key { return hashed(session + "/" + origin) }

func hashed(row string) (k key) {
	h := sha256.Sum256([]byte(row))
	copy(k[:], h[:])
	return k
}

// name is what a finding calls a session, since it must not show an id: the first 16 digits of the SHA-256 of
// session_id, a slash and origin.
func name(k key) string { return fmt.Sprintf("sha256:%x", k[:8]) }

// sum is a hash of the compared columns.
func (s *sessionsOf) sum(texts []string) uint64 {
	s.buf = s.buf[:0]
	for _, t := range texts {
		s.buf = append(binary.AppendUvarint(s.buf, uint64(len(t))), t...)
	}
	return maphash.Bytes(s.seed, s.buf)
}

// text is a value of Delta as clickhouse.Reader gives it.
func text(column string, v parquet.Value) string {
	switch n := v.Int64; {
	case v.IsNull():
		return schema.Null
	case v.Kind() == parquet.ByteArray:
		return string(v.ByteArray())
	case column == "user_id": // a long of 64 bits without a sign
		return strconv.FormatUint(uint64(n()), 10)
	case column == "session_start" || column == "session_end":
		return strconv.FormatInt(n()/1e6, 10)
	default:
		return strconv.FormatInt(n(), 10)
	}
}
