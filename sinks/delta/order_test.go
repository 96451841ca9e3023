package delta

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/snappy"

	"deckle/event"
	"deckle/schema/level"
	"deckle/sinks/delta/deltalog"
)

// BenchmarkEventsOrder compares orders in which compaction may leave the rows of events: bytes a row, and which part of
// a file a reader needs for a session, a user and ten minutes of a day: by the bounds of row groups, as
// DuckDB, or by those of pages, as Spark.
//
//	go test ./sinks/delta -run '^$' -bench EventsOrder -benchtime 1x -timeout 30m
func BenchmarkEventsOrder(b *testing.B) {
	for _, atOnce := range []int{300, 5000} {
		items := dayOfEvents(200_000, atOnce)
		one := items[len(items)/2]
		day := rowsOf(b, items)
		from, to := parquet.ValueOf(one.Timestamp*1e6), parquet.ValueOf((one.Timestamp+600)*1e6)
		session, user := parquet.ValueOf(one.SessionID), parquet.ValueOf(int64(one.UserID))
		for _, order := range [][]string{{"session_id", "kafka_partition", "kafka_offset"},
			{"timestamp", "kafka_partition", "kafka_offset"}, {"user_id", "session_id", "kafka_offset"}} {
			b.Run(fmt.Sprintf("at-once=%d/%s", atOnce, order[0]), func(b *testing.B) {
				for b.Loop() {
					data := ordered(b, day, order, 25_000)
					b.ReportMetric(float64(len(data))/float64(len(day)), "B/row")
					for _, p := range []struct {
						name, column string
						low, high    parquet.Value
					}{{"session", "session_id", session, session}, {"user", "user_id", user, user},
						{"10min", "timestamp", from, to}} {
						groups, pages := needed(b, data, p.column, p.low, p.high)
						b.ReportMetric(100*groups, "%groups/"+p.name)
						b.ReportMetric(100*pages, "%pages/"+p.name)
					}
				}
			})
		}
	}
}

// dayOfEvents are events of one day as they come: so many sessions at once, of about 25 events each, with what all
// events of a session share, and articles of which some are read much.
func dayOfEvents(n, atOnce int) []event.Item {
	rng := rand.New(rand.NewPCG(5, 6))
	type reader struct {
		event.Item
		left int
	}
	word := func(words ...string) string { return words[rng.IntN(len(words))] }
	begin := func() (r reader) {
		r.left = 1 + int(rng.ExpFloat64()*25)
		r.SessionID, r.UserID = fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64()), 1+rng.Uint64N(200_000)
		r.Brand, r.Country = word("bild", "welt", "politico"), word("DE", "AT", "US")
		r.City = fmt.Sprint("city ", rng.IntN(300))
		r.DeviceType, r.DeviceOS = word("mobile", "desktop", "tablet"), word("iOS", "Android", "Windows", "macOS")
		r.Browser, r.Referrer = word("Chrome", "Safari", "Firefox"), word("google", "direct", "facebook", "newsletter")
		r.Timezone, r.SubscriptionTier = word("Europe/Berlin", "America/New_York"), word("free", "plus", "premium")
		r.UserSegment = word("casual", "regular", "loyal")
		return r
	}
	readers := make([]reader, atOnce)
	for i := range readers {
		readers[i] = begin()
	}
	items, offsets := make([]event.Item, n), [12]int64{}
	day := int64(19_000 * 86_400)
	for i := range items {
		at := rng.IntN(len(readers))
		r := &readers[at]
		it := r.Item
		if r.left--; r.left <= 0 {
			readers[at] = begin()
		}
		it.Timestamp = max(day, day+int64(i)*86_399/int64(n)-rng.Int64N(3))
		it.Partition = int32(it.SessionID[0]+7*it.SessionID[1]) % 12 // as a key of Kafka does
		it.Offset = offsets[it.Partition]
		offsets[it.Partition]++
		it.KafkaTimestamp = it.Timestamp*1000 + rng.Int64N(2000)
		for k := range it.ID {
			it.ID[k] = byte(rng.Uint32())
		}
		it.Type = event.Type(1 + rng.IntN(9))
		article := int(rng.ExpFloat64() * 400)
		it.ArticleID = fmt.Sprint("article-", article)
		it.ArticleTitle = fmt.Sprintf("What happened on page %d of the news", article)
		it.Category, it.ArticleType = word("politics", "sports", "economy", "culture"), word("news", "opinion", "video")
		it.PageURL = fmt.Sprintf("https://www.%s.example/%s/article-%d.html", it.Brand, it.Category, article)
		it.EngagementMetrics = fmt.Sprintf(`{"time_on_page":%d,"scroll_depth":%d}`, rng.IntN(300), rng.IntN(101))
		items[i] = it
	}
	return items
}

// rowsOf are the rows that the sink makes of items.
func rowsOf(b *testing.B, items []event.Item) (rows []parquet.Row) {
	b.Helper()
	e := declared.newEventsEncoder(level.Current, 19_000, &snappy.Codec{})
	for i := range items {
		if err := e.add(&items[i], int64(i/10_000)); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 999 {
			if err := e.flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
	f, err := e.finish(0)
	if err != nil {
		b.Fatal(err)
	}
	r := &compactRows{tables: &declared.events}
	if err := r.begin(level.First, nil).Read("events", f.data, func(row parquet.Row) error {
		rows = append(rows, row.Clone())
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	return rows
}

// ordered is the file that compaction makes of rows by an order, with row groups of so many rows.
func ordered(b *testing.B, rows []parquet.Row, order []string, group int) []byte {
	b.Helper()
	cdc, err := codec("zstd")
	if err != nil {
		b.Fatal(err)
	}
	c := &compactRows{tables: &declared.events, codec: cdc}
	for _, name := range order {
		c.order = append(c.order, eventsTable.place(name))
	}
	slices.SortFunc(rows, c.Compare)
	var file bytes.Buffer
	e := c.begin(level.Current, nil).Encode(&file)
	for part := range slices.Chunk(rows, group) {
		for some := range slices.Chunk(part, 64) {
			if err := e.Write(some); err != nil {
				b.Fatal(err)
			}
		}
		if err := e.Flush(); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := e.Close(); err != nil {
		b.Fatal(err)
	}
	return file.Bytes()
}

// needed is the part of a file that row groups have, and pages of them, which may have a value between two.
func needed(b *testing.B, data []byte, column string, low, high parquet.Value) (groups, pages float64) {
	b.Helper()
	f, err := deltalog.OpenParquet(data)
	if err != nil {
		b.Fatal(err)
	}
	leaf, ok := f.Schema().Lookup(column)
	if !ok {
		b.Fatalf("no column %s", column)
	}
	kind := leaf.Node.Type()
	var all, ofGroups, ofPages int64
	for _, g := range f.RowGroups() {
		chunk := g.ColumnChunks()[leaf.ColumnIndex]
		ci, err := chunk.ColumnIndex()
		if err != nil {
			b.Fatal(err)
		}
		oi, err := chunk.OffsetIndex()
		if err != nil {
			b.Fatal(err)
		}
		var spans [][2]int64 // rows
		for p := range ci.NumPages() {
			if ci.NullPage(p) || kind.Compare(ci.MaxValue(p), low) < 0 || kind.Compare(ci.MinValue(p), high) > 0 {
				continue
			}
			end := g.NumRows()
			if p+1 < oi.NumPages() {
				end = oi.FirstRowIndex(p + 1)
			}
			spans = append(spans, [2]int64{oi.FirstRowIndex(p), end})
		}
		for _, c := range g.ColumnChunks() {
			oi, err := c.OffsetIndex()
			if err != nil {
				b.Fatal(err)
			}
			for p := range oi.NumPages() {
				size := oi.CompressedPageSize(p)
				all += size
				if len(spans) == 0 {
					continue
				}
				ofGroups += size
				from, end := oi.FirstRowIndex(p), g.NumRows()
				if p+1 < oi.NumPages() {
					end = oi.FirstRowIndex(p + 1)
				}
				if slices.ContainsFunc(spans, func(s [2]int64) bool { return s[0] < end && from < s[1] }) {
					ofPages += size
				}
			}
		}
	}
	return float64(ofGroups) / float64(all), float64(ofPages) / float64(all)
}
