package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"deckle/state"
)

// Reader reads the views by plain SELECTs, as an analyst would: for the reconciliation of sim/verify and the demo. It
// writes nothing and needs neither ClusterID nor Pipeline (Positions does). It is safe for concurrent use.
type Reader struct{ sink *Sink }

// OpenReader connects; the views must exist when they are read.
func OpenReader(ctx context.Context, opts Options) (*Reader, error) {
	s, err := Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &Reader{s}, nil
}

// Close closes the connections.
func (r *Reader) Close() error { return r.sink.Close() }

// Count returns the number of rows of a view.
func (r *Reader) Count(ctx context.Context, view string) (uint64, error) {
	var n uint64
	var c proto.ColUInt64
	err := r.sink.query(ctx, ch.Query{
		Body:     "SELECT count() AS n FROM " + r.sink.table(view),
		Result:   proto.Results{{Name: "n", Data: &c}},
		OnResult: func(context.Context, proto.Block) error { n += sum(c); return nil },
	})
	if err != nil {
		return 0, fmt.Errorf("clickhouse: count %s: %w", view, err)
	}
	return n, nil
}

func sum(c proto.ColUInt64) (n uint64) {
	for _, v := range c {
		n += v
	}
	return n
}

// Positions returns the ledger's position of every shard that has written a plan, whoever wrote it.
func (r *Reader) Positions(ctx context.Context) (map[uint32]uint64, error) {
	var shard proto.ColUInt32
	var b proto.ColUInt64
	pos := map[uint32]uint64{}
	err := r.sink.query(ctx, ch.Query{
		Body:   "SELECT shard, max(b) AS b FROM " + r.sink.table(ledgerTable) + " GROUP BY shard HAVING b > 0",
		Result: proto.Results{{Name: "shard", Data: &shard}, {Name: "b", Data: &b}},
		OnResult: func(context.Context, proto.Block) error {
			for i := range shard.Rows() {
				pos[shard.Row(i)] = b.Row(i)
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("clickhouse: read the ledger: %w", err)
	}
	return pos, nil
}

// Sessions calls yield for every row of session_metrics, ascending by (session_id, origin) in byte order. The row is
// the callee's to keep.
func (r *Reader) Sessions(ctx context.Context, yield func(*Session) error) error {
	d := newDecoder(sessionColumns)
	return r.read(ctx, "session_metrics", d, "session_id, origin", func(i int) error {
		row := Session{
			SessionID: d.str("session_id", i), UserID: d.u64("user_id", i), Brand: d.low("brand", i), Country: d.low("country", i),
			City: d.str("city", i), DeviceType: d.low("device_type", i), DeviceOS: d.low("device_os", i), Browser: d.low("browser", i),
			SubscriptionTier: d.low("subscription_tier", i), UserSegment: d.low("user_segment", i), Referrer: d.str("referrer", i),
			Timezone: d.low("timezone", i), Start: d.sec("session_start", i), End: d.sec("session_end", i),
			DurationSec: d.u32("session_duration_sec", i), TotalEvents: d.u32("total_events", i),
			ArticleViews: d.u32("article_views", i), ArticleClicks: d.u32("article_clicks", i), VideoPlays: d.u32("video_plays", i),
			NewsletterSignups: d.u32("newsletter_signups", i), AdClicks: d.u32("ad_clicks", i), Searches: d.u32("searches", i),
			SubscriptionPrompts: d.u32("subscription_prompts", i), Navigations: d.u32("navigations", i),
			CategoriesVisited: d.str("categories_visited", i), ArticleIDsVisited: d.str("article_ids_visited", i),
			ArticleTitlesVisited: d.str("article_titles_visited", i), PagesVisited: d.u32("pages_visited_count", i),
			UniquePages: d.u32("unique_pages_count", i), UniqueCategories: d.u32("unique_categories_count", i),
			PageEvents: d.str("page_events", i), TimeOnPageSec: d.u64("time_on_page_sec", i), VideoWatchSec: d.u64("video_watch_sec", i),
			MaxScrollDepth: (*d.cols["max_scroll_depth"].(*proto.ColUInt8))[i], AdRevenueMicros: d.u64("ad_revenue_micros", i),
			Status: d.cols["status"].(*proto.ColEnum).Row(i), Revision: d.u32("revision", i), SessionDate: d.date("session_date", i),
			Origin: d.str("origin", i), BatchID: d.u64("batch_id", i),
			CreatedAt: int64(d.cols["created_at"].(*proto.ColDateTime64).Data[i]),
		}
		return yield(&row)
	})
}

// Pages calls yield for every row of page_analytics, ascending by (session_id, origin, article_id, event_type) in byte
// order.
func (r *Reader) Pages(ctx context.Context, yield func(*Page) error) error {
	d := newDecoder(pageColumns)
	return r.read(ctx, "page_analytics", d, "session_id, origin, article_id, event_type", func(i int) error {
		return yield(&Page{
			SessionID: d.str("session_id", i), Origin: d.str("origin", i), ArticleID: d.str("article_id", i),
			EventType: d.low("event_type", i), VisitCount: d.u32("visit_count", i), UserID: d.u64("user_id", i),
			ArticleTitle: d.str("article_title", i), Category: d.low("category", i), SessionDate: d.date("session_date", i),
		})
	})
}

// Rollup calls yield for every row of a rollup's view, ascending by (date, dimensions) in byte order.
func (r *Reader) Rollup(ctx context.Context, table state.RollupTable, yield func(*Rollup) error) error {
	rv := &rollupViews[table]
	d := newDecoder(rv.view("").columns)
	return r.read(ctx, table.String(), d, strings.Join(append([]string{"date"}, rv.dims...), ", "), func(i int) error {
		row := Rollup{
			Date: d.date("date", i), Sessions: d.i64("total_sessions", i), Users: d.u64("total_users", i),
			AvgDuration: d.f64("avg_session_duration_sec", i), AvgEvents: d.f64("avg_events_per_session", i),
			Views: d.i64("total_article_views", i), Plays: d.i64("total_video_plays", i),
			Signups: d.i64("total_newsletter_signups", i), AdClicks: d.i64("total_ad_clicks", i),
		}
		for _, dim := range rv.dims {
			row.Dims = append(row.Dims, d.str(dim, i))
		}
		if table == state.RollupSubscription {
			row.Conversion = d.f64("conversion_rate", i)
		}
		return yield(&row)
	})
}

func (r *Reader) read(ctx context.Context, view string, d *decoder, order string, row func(i int) error) error {
	err := r.sink.query(ctx, ch.Query{
		Body:   fmt.Sprintf("SELECT %s FROM %s ORDER BY %s", strings.Join(d.names, ", "), r.sink.table(view), order),
		Result: d.result,
		OnResult: func(_ context.Context, b proto.Block) error {
			for i := range b.Rows {
				if err := row(i); err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err != nil {
		return fmt.Errorf("clickhouse: read %s: %w", view, err)
	}
	return nil
}

// decoder holds the columns of a block that is read.
type decoder struct {
	names  []string
	cols   map[string]proto.ColResult
	result proto.Results
}

func newDecoder(columns []column) *decoder {
	d := &decoder{cols: map[string]proto.ColResult{}}
	for _, c := range columns {
		var col proto.ColResult
		switch c.typ {
		case text:
			col = new(proto.ColStr)
		case lowText:
			col = lowCardinality()
		case "UInt8":
			col = new(proto.ColUInt8)
		case "UInt32":
			col = new(proto.ColUInt32)
		case "UInt64":
			col = new(proto.ColUInt64)
		case "Int64":
			col = new(proto.ColInt64)
		case "Float64":
			col = new(proto.ColFloat64)
		case "Date":
			col = new(proto.ColDate)
		case seconds:
			col = new(proto.ColDateTime)
		case millis:
			col = new(proto.ColDateTime64)
		case statuses:
			col = new(proto.ColEnum)
		}
		d.names = append(d.names, c.name)
		d.cols[c.name] = col
		d.result = append(d.result, proto.ResultColumn{Name: c.name, Data: col})
	}
	return d
}

func (d *decoder) str(n string, i int) string { return d.cols[n].(*proto.ColStr).Row(i) }
func (d *decoder) low(n string, i int) string {
	return d.cols[n].(*proto.ColLowCardinality[string]).Row(i)
}
func (d *decoder) u32(n string, i int) uint32  { return (*d.cols[n].(*proto.ColUInt32))[i] }
func (d *decoder) u64(n string, i int) uint64  { return (*d.cols[n].(*proto.ColUInt64))[i] }
func (d *decoder) i64(n string, i int) int64   { return (*d.cols[n].(*proto.ColInt64))[i] }
func (d *decoder) f64(n string, i int) float64 { return (*d.cols[n].(*proto.ColFloat64))[i] }
func (d *decoder) date(n string, i int) time.Time {
	return dayOf(int32((*d.cols[n].(*proto.ColDate))[i]))
}
func (d *decoder) sec(n string, i int) int64 { return int64(d.cols[n].(*proto.ColDateTime).Data[i]) }
