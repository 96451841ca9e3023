package verify

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim"
	"deckle/sinks/clickhouse"
	"deckle/state"
	"deckle/state/statetest"
)

// TestClickHouse writes a truth's sessions through the sink into a real engine (DECKLE_TEST_CLICKHOUSE is its address,
// DECKLE_TEST_CLICKHOUSE_PASSWORD its password) and then plants faults in what each view shows.
func TestClickHouse(t *testing.T) {
	address := os.Getenv("DECKLE_TEST_CLICKHOUSE")
	if address == "" {
		if os.Getenv("DECKLE_REQUIRE_SERVICES") == "1" {
			t.Fatal("DECKLE_TEST_CLICKHOUSE is not set, and DECKLE_REQUIRE_SERVICES=1")
		}
		t.Skip("skipped: DECKLE_TEST_CLICKHOUSE is not set, so there is no engine to test against")
	}
	w := build(t, true)
	db := fmt.Sprintf("verify_%d", time.Now().UnixNano())
	opts := clickhouse.Options{Address: address, Database: db,
		Password:  func() string { return os.Getenv("DECKLE_TEST_CLICKHOUSE_PASSWORD") },
		ClusterID: "c", Pipeline: "p", Level: level.Current}
	sink, err := clickhouse.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	e := engine{t, ch.Options{Address: address, Password: opts.Password(), ReadTimeout: time.Minute}}
	if err := sink.EnsureSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer e.do("DROP DATABASE " + db)
	cfg := state.Config{ClusterID: "c", Pipeline: "p", Shards: 1}
	rows, totals := stateRows(t, w)
	plan := statetest.NewPlan(cfg, state.SinkClickHouse, 0, 1, []state.EpochInfo{{Epoch: 1}},
		statetest.Content{Rows: rows, Totals: totals})
	plan.Level = level.Current
	if err := sink.Write(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	r, err := clickhouse.OpenReader(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	look := func() *Report {
		t.Helper()
		rep, err := Verify(t.Context(), Options{Truth: []sim.Source{w.truth}, ClickHouse: ClickHouse(r), Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	if rep := look(); !rep.Equal || *rep.ClickHouseSessions != rep.ProducedSessions {
		t.Fatalf("as written: %v", rep.Differences)
	}

	// From here on the views are tables that show the same.
	tables := []string{"session_metrics", "page_analytics"}
	for _, v := range sim.Rollups {
		tables = append(tables, v.Name)
	}
	for _, n := range tables {
		e.do(fmt.Sprintf("CREATE TABLE %[1]s.copy_%[2]s ENGINE = MergeTree ORDER BY tuple() "+
			"AS SELECT * FROM %[1]s.%[2]s", db, n))
	}
	show := func(table, query string) {
		t.Helper()
		e.do(fmt.Sprintf("DROP TABLE IF EXISTS %s.%s", db, table))
		e.do(fmt.Sprintf("CREATE TABLE %s.%s ENGINE = MergeTree ORDER BY tuple() AS %s", db, table, query))
	}
	for _, n := range tables {
		e.do(fmt.Sprintf("DROP VIEW %s.%s", db, n))
		show(n, fmt.Sprintf("SELECT * FROM %s.copy_%s", db, n))
	}
	if rep := look(); !rep.Equal {
		t.Fatalf("as tables: %v", rep.Differences)
	}
	changed := map[string][2]string{"session_metrics": {"city", "'Atlantis'"},
		"page_analytics": {"visit_count", "toUInt32(visit_count + 1)"}}
	for _, n := range tables {
		t.Run(n, func(t *testing.T) {
			row := w.tables[n][len(w.tables[n])/2]
			key := keyOfRow(n, row)
			which := condition(n, row)
			copied := fmt.Sprintf("%s.copy_%s", db, n)
			column, value := "total_users", "toUInt64(total_users + 1)"
			if c, ok := changed[n]; ok {
				column, value = c[0], c[1]
			}
			for _, p := range []struct {
				planted
				query string
			}{
				{planted{n, Lost, key, ""}, fmt.Sprintf("SELECT * FROM %s WHERE NOT (%s)", copied, which)},
				{planted{n, Doubled, key, ""}, fmt.Sprintf("SELECT * FROM %s UNION ALL SELECT * FROM %s WHERE %s",
					copied, copied, which)},
				{planted{n, Changed, key, column}, fmt.Sprintf("SELECT * REPLACE (if(%s, %s, %s) AS %s) FROM %s", which,
					value, column, column, copied)},
			} {
				show(n, p.query)
				if err := p.find(look()); err != nil {
					t.Errorf("%s: %v", p.kind, err)
				}
			}
			show(n, "SELECT * FROM "+copied)
		})
	}
}

// condition is the SQL that is true for the row alone.
func condition(table string, row []string) string {
	cols, n := sim.SessionColumns, 1
	switch table {
	case "session_metrics":
	case "page_analytics":
		cols, n = sim.PageColumns, 4
	default:
		cols = RollupColumns(table)
		n = len(cols) - len(measuresOf(table))
	}
	var and []string
	for i := range n {
		and = append(and, fmt.Sprintf("toString(%s) = '%s'", cols[i], row[i]))
	}
	return strings.Join(and, " AND ")
}

type engine struct {
	t    *testing.T
	opts ch.Options
}

func (e engine) do(query string) {
	e.t.Helper()
	// The context of the test has ended by the time of its cleanup.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := ch.Dial(ctx, e.opts)
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	var result proto.Results
	if err := c.Do(ctx, ch.Query{Body: query, Result: result.Auto(), OnResult: func(context.Context,
		proto.Block) error {
		return nil
	}}); err != nil {
		e.t.Fatalf("%s: %v", query, err)
	}
}

// stateRows are the truth's sessions and rollups as the state machine would give them to a sink.
func stateRows(t *testing.T, w *world) (rows []schema.SessionRow, totals []schema.RollupRow) {
	t.Helper()
	types := map[string]event.Type{}
	for ty := event.ArticleView; ty <= event.SessionEnd; ty++ {
		types[ty.String()] = ty
	}
	if err := w.truth.Each(func(l sim.Line) error {
		s := l.Session
		if s == nil || s.TotalEvents == 0 {
			return nil
		}
		date, err := time.Parse(time.DateOnly, s.Origins[0].Date)
		if err != nil {
			return err
		}
		r := schema.SessionRow{
			SessionID: s.SessionID, Origin: s.Origins[0].Position, UserID: s.UserID, UserKey: s.UserKey,
			OpeningBrand:    s.Origins[0].Brand,
			SeveralUsers:    uint8(s.SeveralUsers),
			MaxReadProgress: uint8(s.MaxProgress), ArticlesCompleted: uint32(s.Completed), FiguresKnown: true,
			UsersKnown: true, Brand: s.Brand,
			Country: s.Country, City: s.City,
			DeviceType: s.DeviceType, DeviceOS: s.DeviceOS, Browser: s.Browser, SubscriptionTier: s.SubscriptionTier,
			UserSegment: s.UserSegment,
			Referrer:    s.Referrer, Timezone: s.Timezone, Start: s.Start, End: s.End,
			TotalEvents: uint32(s.TotalEvents),
			Categories:  s.Categories, ArticleIDs: s.ArticleIDs, ArticleTitles: s.ArticleTitles,
			PagesVisited: uint32(s.PagesVisited),
			UniquePages:  uint32(s.UniquePages), UniqueCategories: uint32(s.UniqueCategories), PageEvents: s.PageEvents,
			TimeOnPageSec: uint64(s.TimeOnPage), VideoWatchSec: uint64(s.VideoWatch),
			AdRevenueMicros: uint64(s.AdRevenueMicros),
			MaxScrollDepth:  uint8(s.MaxScroll), Status: schema.StatusClosed, SessionDate: int32(date.Unix() / 86400),
			Epoch:   1,
			BatchID: schema.BatchID(0, 1), CreatedAt: s.End * 1000, FirstClosed: 1,
		}
		for ty, n := range map[event.Type]int64{event.ArticleView: s.ArticleViews, event.ArticleClick: s.ArticleClicks,
			event.VideoPlay:        s.VideoPlays,
			event.NewsletterSignup: s.NewsletterSignups, event.AdClick: s.AdClicks, event.Search: s.Searches,
			event.SubscriptionPrompt: s.SubscriptionPrompts, event.Navigation: s.Navigations,
			event.Other: s.OtherEvents} {
			r.Counts[ty] = uint32(n)
		}
		for _, p := range s.Pages {
			page := schema.PageRow{ArticleID: p.ArticleID, ArticleTitle: p.Title, Category: p.Category,
				Type: types[p.EventType], Count: uint32(p.Visits)}
			if page.Type == event.TypeInvalid {
				page.Type, page.TypeName = event.Other, p.EventType
			}
			r.Pages = append(r.Pages, page)
		}
		rows = append(rows, r)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(rows, func(a, b schema.SessionRow) int { return strings.Compare(a.SessionID, b.SessionID) })
	x, err := indexTruth([]sim.Source{w.truth})
	if err != nil {
		t.Fatal(err)
	}
	for table := range schema.NumRollups {
		for _, r := range x.rollups[table.String()] {
			date, err := time.Parse(time.DateOnly, r.key[0])
			if err != nil {
				t.Fatal(err)
			}
			totals = append(totals, schema.RollupRow{Table: table, Date: int32(date.Unix() / 86400), Dims: r.key[1:],
				Sessions: r.sessions,
				Duration: r.duration, Events: r.events, Views: r.views, Plays: r.plays, Signups: r.signups,
				AdClicks: r.adClicks, Epoch: 1})
		}
	}
	return rows, totals
}
