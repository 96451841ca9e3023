package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/cockroachdb/datadriven"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
)

// TestDDL shows the statements of level 1: they are those of v0.1.0, byte for byte, so that its views stay.
func TestDDL(t *testing.T) {
	datadriven.RunTest(t, "testdata/ddl", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "table":
			for _, tb := range declared[level.First].stored {
				if tb.name == d.CmdArgs[0].Key {
					return tb.ddl("analytics") + "\n"
				}
			}
		case "view":
			for _, v := range declared[level.First].views("analytics") {
				if v.name == d.CmdArgs[0].Key {
					return v.ddl(replace, "analytics") + "\n"
				}
			}
		}
		d.Fatalf(t, "no such name")
		return ""
	})
}

func TestEveryColumnHasAComment(t *testing.T) {
	check := func(name, comment string, columns []column) {
		if comment == "" {
			t.Errorf("%s has no comment", name)
		}
		for _, c := range columns {
			if c.comment == "" {
				t.Errorf("%s.%s has no comment", name, c.name)
			}
		}
	}
	for _, tb := range newest().stored {
		check(tb.name, tb.comment, tb.columns)
	}
	for _, v := range newest().views("x") {
		check(v.name, v.comment, v.columns)
	}
}

func TestClassify(t *testing.T) {
	exc := func(code proto.Error) error {
		return fmt.Errorf("insert: %w", &ch.Exception{Code: code, Name: "DB::Exception"})
	}
	for _, tc := range []struct {
		err  error
		want class
	}{
		{exc(proto.ErrViolatedConstraint), classData},
		{exc(proto.ErrTooLargeStringSize), classData},
		{&rowError{errors.New("x")}, classData},
		{exc(proto.ErrUnknownTable), classSchema},
		{exc(proto.ErrNoSuchColumnInTable), classSchema},
		{exc(proto.ErrTypeMismatch), classSchema},
		{exc(proto.ErrTooManyParts), classRetry},
		{exc(proto.ErrMemoryLimitExceeded), classRetry},
		{exc(proto.ErrAuthenticationFailed), classRetry},
		{exc(proto.ErrUnknownStatusOfInsert), classRetry},
		{exc(proto.Error(99_999)), classRetry},
		{io.ErrUnexpectedEOF, classRetry},
		{context.DeadlineExceeded, classRetry},
	} {
		if got := classify(tc.err); got != tc.want {
			t.Errorf("%v: class %d, want %d", tc.err, got, tc.want)
		}
	}
}

func testRow() schema.SessionRow {
	r := schema.SessionRow{
		SessionID: "s", Origin: "0/7", UserID: 9, Brand: "bild", Country: "DE", City: "Köln", DeviceType: "mobile",
		DeviceOS: "iOS", Browser: "Safari", SubscriptionTier: "plus", UserSegment: "new", Referrer: "r",
		Timezone: "Europe/Berlin",
		Start:    1_700_000_000, End: 1_700_000_060, TotalEvents: 8, Categories: `["a"]`, ArticleIDs: `["b"]`,
		ArticleTitles: `["c"]`, PagesVisited: 1, UniquePages: 2, UniqueCategories: 3, PageEvents: "[{}]",
		TimeOnPageSec: 4, VideoWatchSec: 5,
		AdRevenueMicros: 6, MaxScrollDepth: 7, Status: schema.StatusClosed, Revision: 8, SessionDate: 19_675, Epoch: 12,
		BatchID: 13, CreatedAt: 1_700_000_061_002,
		Pages: []schema.PageRow{{ArticleID: "b", ArticleTitle: "c", Category: "a", Type: event.ArticleView, Count: 2}},
	}
	for i := range r.Counts {
		r.Counts[i] = uint32(100 + i)
	}
	return r
}

// TestSessionBlock: each value is in the column of its name. A column that the test does not know must have the value
// that its declaration gives.
func TestSessionBlock(t *testing.T) {
	b := newSessionBlock(newest())
	r := testRow()
	if err := b.append(0, 3, &r); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"session_id": "s", "user_id": "9", "brand": "bild", "country": "DE", "city": "Köln", "device_type": "mobile",
		"device_os": "iOS", "browser": "Safari", "subscription_tier": "plus", "user_segment": "new", "referrer": "r",
		"timezone": "Europe/Berlin", "session_start": "1700000000", "session_end": "1700000060",
		"session_duration_sec": "60", "total_events": "8",
		"article_views": "101", "article_clicks": "102", "video_plays": "103", "newsletter_signups": "104",
		"subscription_prompts": "105", "ad_clicks": "106", "searches": "107", "navigations": "108",
		"categories_visited": `["a"]`, "article_ids_visited": `["b"]`, "article_titles_visited": `["c"]`,
		"pages_visited_count": "1", "unique_pages_count": "2", "unique_categories_count": "3", "page_events": "[{}]",
		"time_on_page_sec": "4", "video_watch_sec": "5", "max_scroll_depth": "7", "ad_revenue_micros": "6",
		"status": "closed", "revision": "8", "session_date": "19675", "origin": "0/7", "batch_id": "13",
		"created_at": "1700000061002", "shard": "3", "version": "12",
	}
	for i := range schema.Sessions {
		if c := &schema.Sessions[i]; want[c.Name] == "" {
			want[c.Name] = c.String(&r)
		}
	}
	if len(b.input) != len(newest().sessions.columns) || len(want) != len(newest().sessions.columns) {
		t.Fatalf("%d columns in the block, %d in the test, %d in the table", len(b.input), len(want),
			len(newest().sessions.columns))
	}
	for i, c := range b.input {
		var got string
		data := c.Data
		if n, ok := data.(*nullable); ok {
			if got = schema.Null; n.nulls[0] == 0 {
				data = n.values
			}
		}
		switch d := data.(type) {
		case *proto.ColStr:
			got = d.Row(0)
		case *proto.ColLowCardinality[string]:
			got = d.Row(0)
		case *proto.ColUInt8:
			got = fmt.Sprint(d.Row(0))
		case *proto.ColUInt32:
			got = fmt.Sprint(d.Row(0))
		case *proto.ColUInt64:
			got = fmt.Sprint(d.Row(0))
		case *proto.ColDate:
			got = fmt.Sprint(uint16((*d)[0]))
		case *proto.ColDateTime:
			got = fmt.Sprint(d.Data[0])
		case *proto.ColDateTime64:
			got = fmt.Sprint(d.Data[0])
		case *proto.ColEnum:
			got = d.Row(0)
		}
		if c.Name != newest().sessions.columns[i].name || got != want[c.Name] {
			t.Errorf("column %d, %s: %q, want %s: %q", i, c.Name, got, newest().sessions.columns[i].name, want[c.Name])
		}
	}
	b.reset()
	for _, c := range b.input {
		if c.Data.Rows() != 0 {
			t.Errorf("%s keeps %d rows", c.Name, c.Data.Rows())
		}
	}
}

func TestRowsThatDoNotFit(t *testing.T) {
	for name, change := range map[string]func(*schema.SessionRow){
		"start before 1970": func(r *schema.SessionRow) { r.Start = -1 },
		"end after 2106":    func(r *schema.SessionRow) { r.End = 1 << 32 },
		"end before start":  func(r *schema.SessionRow) { r.End = r.Start - 1 },
		"date":              func(r *schema.SessionRow) { r.SessionDate = 70_000 },
		"status":            func(r *schema.SessionRow) { r.Status = schema.StatusInvalid },
		"created_at":        func(r *schema.SessionRow) { r.CreatedAt = 1 << 60 },
	} {
		r := testRow()
		change(&r)
		if err := newSessionBlock(newest()).append(0, 0, &r); classify(err) != classData {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := schema.RollupRow{Table: schema.RollupBrand}
	if err := newRollupBlock(newest()).append(0, &bad); classify(err) != classData {
		t.Errorf("a total without its dimension: %v", err)
	}
}

// TestDurabilitySettings: a Boolean may be written in several ways; engine_full shows it as it was written.
func TestDurabilitySettings(t *testing.T) {
	s := &Sink{opts: Options{Database: "analytics"}}
	for value, want := range map[string]bool{"1": true, "true": true, "True": true, "'1'": true, "0": false,
		"false": false, "''": false} {
		for _, d := range durability {
			full := "ReplacingMergeTree(version) ORDER BY session_id SETTINGS index_granularity = 8192"
			for _, e := range durability {
				v := "1"
				if e == d {
					v = value
				}
				full += ", " + e + " = " + v
			}
			err := s.checkDurability(t.Context(), &newest().sessions, &foundTable{full: full})
			var stop *sinks.StopError
			if want && err != nil || !want && (!errors.As(err, &stop) ||
				!strings.Contains(stop.Hint, "MODIFY SETTING "+d+" = 1")) {
				t.Errorf("%s = %s: %v", d, value, err)
			}
		}
	}
}

func TestTTLIsRefused(t *testing.T) {
	for _, tb := range newest().stored {
		full := "ReplacingMergeTree(" + tb.version + ")"
		if tb.partition != "" {
			full += " PARTITION BY " + tb.partition
		}
		full += " ORDER BY (" + strings.Join(tb.key, ", ") + ")"
		settings := " SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1"
		for _, tc := range []struct{ column, ttl, hint string }{
			{"", "", ""},
			{"", " TTL d + toIntervalDay(30)", "REMOVE TTL"},
			{" TTL d + toIntervalDay(30)", "", "MODIFY COLUMN <that column> REMOVE TTL"},
			{" COMMENT 'no TTL, it\\'s TTL \\\\'", "", ""},
			{" COMMENT 'it''s no TTL'", "", ""},
			{", `a TTL` String DEFAULT \"TTL\"", "", ""},
			{" COMMENT 'x' TTL d COMMENT 'y'", "", "MODIFY COLUMN <that column> REMOVE TTL"},
		} {
			f := &foundTable{
				engine: "ReplacingMergeTree", full: full + tc.ttl + settings, partition: tb.partition,
				key:    strings.Join(tb.key, ", "),
				create: "CREATE TABLE x.y (`own` String" + tc.column + ") ENGINE = " + full + tc.ttl + settings,
				types:  map[string]string{},
			}
			for _, c := range tb.columns {
				f.types[c.name] = c.typ
			}
			_, err := checkTable("analytics", tb, f)
			var stop *sinks.StopError
			if tc.hint == "" && err != nil || tc.hint != "" &&
				(!errors.As(err, &stop) || !strings.Contains(stop.Hint, "ALTER TABLE analytics."+tb.name+" "+tc.hint)) {
				t.Errorf("%s: %v", f.create, err)
			}
		}
	}
}

func TestFull(t *testing.T) {
	s := &Sink{opts: Options{BlockRows: 3, BlockBytes: 100}}
	for _, tc := range []struct {
		haveRows, haveBytes, rows, bytes int
		want                             bool
	}{
		{0, 0, 9, 999, false}, // a row larger than a block is inserted alone
		{2, 10, 1, 10, false},
		{3, 10, 1, 10, true},
		{1, 95, 1, 10, true},
		{1, 10, 3, 10, true}, // the pages of a session stay together
	} {
		if got := s.full(&block{rows: tc.haveRows, bytes: tc.haveBytes}, tc.rows, tc.bytes); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Address: "x", Compression: "gzip"}, {Address: "x", BlockRows: 50_001},
		{Address: "x", BlockBytes: 1 << 30}, {Address: "x", ReadTimeout: -1}} {
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// silentServer accepts connections and never answers.
func silentServer(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

// TestSilentServer: the client library alone would wait forever.
func TestSilentServer(t *testing.T) {
	addr := silentServer(t)
	_, err := Open(t.Context(), Options{Address: addr, ReadTimeout: 50 * time.Millisecond, DialTimeout: time.Minute})
	if !errors.Is(err, errReadTimeout) {
		t.Errorf("read timeout: %v", err)
	}
	_, err = Open(t.Context(), Options{Address: addr, ReadTimeout: time.Minute, DialTimeout: 50 * time.Millisecond})
	if err == nil {
		t.Error("dial timeout: no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err = Open(ctx, Options{Address: addr, ReadTimeout: time.Minute, DialTimeout: time.Minute}); err == nil ||
		time.Since(start) > 20*time.Second {
		t.Errorf("a cancelled context: %v after %s", err, time.Since(start))
	}
}

func TestGoCutOfTheTests(t *testing.T) {
	for _, n := range []int{254, 255, 256, 257} {
		s := strings.Repeat("x", n) + "€"
		if got := naiveCut(s); len(got) > 256 || !strings.HasPrefix(s, got) || len(got) < 254 {
			t.Errorf("%d: %d bytes", n, len(got))
		}
	}
}
