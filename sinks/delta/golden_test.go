package delta

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks/delta/deltalog"
)

// goldenSessions are images that fill pages and overflow a dictionary.
func goldenSessions(n int) []schema.SessionRow {
	rng := rand.New(rand.NewPCG(5, 6))
	word := func(of int) string {
		if k := rng.IntN(of + 1); k > 0 {
			return fmt.Sprintf("word-%d", k)
		}
		return ""
	}
	rows := make([]schema.SessionRow, n)
	for i := range rows {
		r := &rows[i]
		*r = schema.SessionRow{
			SessionID: fmt.Sprintf("s-%d", rng.IntN(1e9)), Origin: fmt.Sprintf("%d/%d", i%4, i),
			UserID: rng.Uint64N(1 << 62), Brand: word(3), Country: word(9),
			City: word(1e6) + strings.Repeat("x", rng.IntN(400)), DeviceType: word(3), DeviceOS: word(5),
			Browser: word(5), SubscriptionTier: word(2), UserSegment: word(4), Referrer: word(300), Timezone: word(7),
			Start: 1_700_000_000 + rng.Int64N(1e6), TotalEvents: rng.Uint32(), Categories: `["a"]`, ArticleIDs: `["b"]`,
			ArticleTitles: "[]", PagesVisited: rng.Uint32(), UniquePages: rng.Uint32N(9),
			UniqueCategories: rng.Uint32N(3), PageEvents: `[{"t":"` + strings.Repeat("y", rng.IntN(3000)) + `"}]`,
			TimeOnPageSec: rng.Uint64N(1e9), VideoWatchSec: rng.Uint64N(1e9), AdRevenueMicros: rng.Uint64N(1e9),
			MaxScrollDepth: uint8(rng.IntN(101)), Status: schema.Status(1 + rng.IntN(3)), Revision: rng.Uint32N(4),
			SessionDate: 19_000, Epoch: uint64(i), BatchID: schema.BatchID(3, uint64(i)),
			CreatedAt: 1_700_000_000_123 + int64(i), FirstClosed: 1,
		}
		r.End = r.Start + rng.Int64N(9000)
		for t := event.ArticleView; t <= event.Navigation; t++ {
			r.Counts[t] = rng.Uint32N(1000)
		}
	}
	return rows
}

// goldenEvents are events of three partitions with every field empty and filled.
func goldenEvents(n int) []event.Item {
	rng := rand.New(rand.NewPCG(7, 8))
	items := make([]event.Item, n)
	for i := range items {
		it := &items[i]
		word := func(of int) string {
			if k := rng.IntN(of + 1); k > 0 {
				return fmt.Sprintf("word-%d", k)
			}
			return ""
		}
		for j := range it.ID {
			it.ID[j] = byte(rng.Uint32())
		}
		it.Partition, it.Offset, it.KafkaTimestamp = int32(i%3), int64(i),
			1_700_000_000_123+rng.Int64N(1e9)-int64(i%50/49)*1e15
		it.SessionID, it.UserID, it.Type, it.Timestamp = word(5000), rng.Uint64N(1<<62), event.Type(1+rng.IntN(9)),
			1_700_000_000+rng.Int64N(1e5)
		it.Brand, it.Category, it.ArticleID, it.ArticleTitle, it.ArticleType = word(3), word(20), word(1000), word(1e6),
			word(4)
		it.PageURL, it.Referrer, it.DeviceType, it.DeviceOS, it.Browser = word(1e6), word(50), word(3), word(5), word(6)
		it.Country, it.City, it.Timezone, it.SubscriptionTier, it.UserSegment = word(9),
			word(1e5)+strings.Repeat("z", rng.IntN(300)), word(7), word(2), word(4)
		it.EngagementMetrics, it.Metadata, it.Extra = `{"n":`+fmt.Sprint(rng.IntN(1e6))+"}", word(3), word(2)
	}
	return items
}

// The bytes of data files stay the same between versions of Deckle, so that old and new files of a table do not differ.
// The checksums change only with the Parquet library or with a column.
func TestGoldenFiles(t *testing.T) {
	for codecName, want := range map[string][2]string{
		"none": {"c8888cd51c0b9a97", "bba92e319bf4714d"}, "zstd": {"79201b08ea2e3887", "e7a79e02928875f4"},
	} {
		c, err := codec(codecName)
		if err != nil {
			t.Fatal(err)
		}
		images := goldenSessions(6000)
		rows := make([]sessionRow, len(images))
		for i := range images {
			r, err := declared.sessionRow(declared.sessions[level.First], &images[i], nil)
			if err != nil {
				t.Fatal(err)
			}
			rows[i] = r
		}
		data, cols, err := declared.encodeSessions(declared.sessions[level.First], rows, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, deltalog.Stats(int64(len(rows)), cols)...)
		if got := fmt.Sprintf("%x", sha256.Sum256(data))[:16]; got != want[0] {
			t.Errorf("sessions, %s: %s, want %s (%d bytes)", codecName, got, want[0], len(data))
		}
		e := declared.newEventsEncoder(level.First, 19_000, c)
		items := goldenEvents(9000)
		for i := range items {
			batchID := int64(-1)
			if i%3 == 0 {
				batchID = int64(i)
			}
			if err := e.add(&items[i], batchID); err != nil {
				t.Fatal(err)
			}
		}
		f, err := e.finish(77)
		if err != nil {
			t.Fatal(err)
		}
		f.data = append(f.data, deltalog.Stats(f.rows, f.cols)...)
		if got := fmt.Sprintf("%x", sha256.Sum256(f.data))[:16]; got != want[1] {
			t.Errorf("events, %s: %s, want %s (%d bytes)", codecName, got, want[1], len(f.data))
		}
	}
}
