package clickhouse

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"

	"deckle/event"
	"deckle/schema"
)

// BenchmarkSessionBlock fills a block with sessions of 12 events, encodes and compresses it. ns/event is one twelfth of
// the time per row.
func BenchmarkSessionBlock(b *testing.B) {
	const rows, events = 5000, 12
	all := make([]schema.SessionRow, rows)
	for i := range all {
		list := func(format string) string {
			var out []string
			for j := range events {
				out = append(out, fmt.Sprintf(format, i*7+j*3))
			}
			return "[" + strings.Join(out, ",") + "]"
		}
		all[i] = schema.SessionRow{
			SessionID: fmt.Sprintf("sess_%08x_%04x", i*2654435761, i), Origin: fmt.Sprintf("%d/%d", i%4, i*12),
			UserID: uint64(i * 31), Brand: "brand" + fmt.Sprint(i%5), Country: "DE", City: "city" + fmt.Sprint(i%50),
			DeviceType: "mobile", DeviceOS: "iOS", Browser: "Safari", SubscriptionTier: "free", UserSegment: "casual",
			Referrer: "https://search.example/", Timezone: "Europe/Berlin", Start: 1_795_000_000, End: 1_795_000_600,
			TotalEvents: events, Categories: list(`"category%d"`), ArticleIDs: list(`"article_%d_1795357042"`),
			ArticleTitles: list(`"A title of an article number %d, of usual length"`), PagesVisited: events,
			UniquePages: events, UniqueCategories: 4,
			PageEvents: list(`{"event_type":"article_view","category":"sports",` +
				`"article_id":"article_%[1]d_1795357042",` +
				`"article_title":"A title of an article number %[1]d, of usual length",` +
				`"page_url":"https://brand.example/sports/article_%[1]d","timestamp":1795357042,` +
				`"engagement_metrics":{"time_on_page":%[1]d,"scroll_depth":55}}`),
			Status: schema.StatusOpen, SessionDate: 20_775, Epoch: 7, BatchID: 7, CreatedAt: 1_795_000_700_000,
		}
		all[i].Counts[event.ArticleView] = events
	}
	block := newSessionBlock(newest())
	w := compress.NewWriter(compress.LevelZero, compress.LZ4)
	var buf proto.Buffer
	for b.Loop() {
		block.reset()
		buf.Reset()
		for i := range all {
			if err := block.append(i, 0, &all[i]); err != nil {
				b.Fatal(err)
			}
		}
		encoded := proto.Block{Rows: rows, Columns: len(block.input)}
		if err := encoded.EncodeBlock(&buf, proto.Version, block.input); err != nil {
			b.Fatal(err)
		}
		for raw := buf.Buf; len(raw) > 0; raw = raw[min(len(raw), 1<<20):] {
			if err := w.Compress(raw[:min(len(raw), 1<<20)]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows/events, "ns/event")
	b.ReportMetric(float64(len(buf.Buf))/rows, "B/row")
	b.ReportAllocs()
}
