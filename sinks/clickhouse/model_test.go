package clickhouse

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/state"
	"deckle/state/statetest"
)

// model is a naive state: every session's newest row, by shard.
type model struct {
	risen  bool // the views are those of level 2, to which a user 0 is nobody
	rng    *rand.Rand
	shards []*modelShard
}

type modelShard struct {
	epoch    uint64
	planned  uint64
	sessions map[string]*schema.SessionRow
	keys     map[string]schema.RollupRow // every key that ever had a total
}

func newModel(rng *rand.Rand, shards int) *model {
	m := &model{rng: rng}
	for range shards {
		m.shards = append(m.shards, &modelShard{sessions: map[string]*schema.SessionRow{},
			keys: map[string]schema.RollupRow{}})
	}
	return m
}

const modelDay = 20_000 // 2024-10-04

var modelTexts = []string{"", "bild", "welt", "münchen", strings.Repeat("x", 255) + "é", strings.Repeat("x", 255) + "ü",
	strings.Repeat("€", 90), strings.Repeat("x", 257)}

// advance changes sessions over the given number of epochs and returns the plan that covers them.
func (m *model) advance(shard, epochs int) *state.Plan {
	sh := m.shards[shard]
	changed := map[string]*schema.SessionRow{}
	totals := map[string]schema.RollupRow{}
	var infos []state.EpochInfo
	for range epochs {
		sh.epoch++
		for range 25 {
			id := fmt.Sprintf("s-%d-%d", shard, m.rng.IntN(60))
			if sh.epoch == 1 {
				id = fmt.Sprintf("s-%d-%d", shard, len(changed)) // no gaps at first: tests name some of them
			}
			row := m.mutate(shard, sh, id)
			sh.sessions[id], changed[id] = row, row
		}
		for key, r := range sh.rollups() {
			if old, ok := sh.keys[key]; !ok || !sameTotals(&old, &r) {
				r.Epoch = sh.epoch
				sh.keys[key], totals[key] = r, r
			}
		}
		infos = append(infos, state.EpochInfo{Epoch: sh.epoch, Clock: int64(sh.epoch) * 10_000,
			Checksum: sh.epoch * 77})
	}
	var d statetest.Content
	for _, r := range changed {
		d.Rows = append(d.Rows, *r)
	}
	slices.SortFunc(d.Rows, func(a, b schema.SessionRow) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.SessionID, b.SessionID))
	})
	for _, k := range slices.Sorted(maps.Keys(totals)) {
		d.Totals = append(d.Totals, totals[k])
	}
	cfg := state.Config{ClusterID: "cluster-1", Pipeline: "deckle", Shard: uint32(shard)}
	p := statetest.NewPlan(cfg, state.SinkClickHouse, sh.planned, sh.epoch, infos, d)
	sh.planned = sh.epoch
	return p
}

// mutate returns the session's next image: more events, and sometimes other dimensions, an earlier start and another
// user, as after a late first event.
func (m *model) mutate(shard int, sh *modelShard, id string) *schema.SessionRow {
	rng := m.rng
	pick := func() string { return modelTexts[rng.IntN(len(modelTexts))] }
	r := schema.SessionRow{SessionID: id, Origin: fmt.Sprintf("%d/%s", shard, id[2:]),
		SessionDate: modelDay + int32(rng.IntN(40)), Status: schema.StatusOpen}
	if old, ok := sh.sessions[id]; ok {
		r = *old
		r.Pages = slices.Clone(old.Pages)
		r.Revision++
	}
	if r.TotalEvents == 0 || rng.IntN(3) == 0 {
		r.UserID = uint64(rng.IntN(12))
		r.Brand, r.Country, r.City, r.DeviceType, r.DeviceOS, r.Browser = pick(), pick(), pick(), pick(), pick(), pick()
		r.SubscriptionTier, r.UserSegment, r.Referrer, r.Timezone = pick(), pick(), pick(), pick()
		r.Start = int64(r.SessionDate)*86_400 - 7_200 + rng.Int64N(10_000)
		r.End = max(r.End, r.Start)
	}
	r.End += rng.Int64N(500)
	t := event.Type(1 + rng.IntN(8))
	r.TotalEvents++
	r.Counts[t]++
	article := fmt.Sprintf("a%d", rng.IntN(4))
	i := slices.IndexFunc(r.Pages, func(p schema.PageRow) bool { return p.ArticleID == article && p.Type == t })
	if i < 0 {
		r.Pages = append(r.Pages, schema.PageRow{ArticleID: article, Type: t})
		i = len(r.Pages) - 1
	}
	r.Pages[i].Count++
	r.Pages[i].ArticleTitle, r.Pages[i].Category = "title "+pick(), pick()
	r.Categories, r.ArticleIDs, r.ArticleTitles = `["x"]`, fmt.Sprintf(`[%q]`, article), "[]"
	r.PagesVisited, r.UniquePages, r.UniqueCategories = r.TotalEvents, uint32(len(r.Pages)), 1
	r.PageEvents = fmt.Sprintf(`[{"n":%d}]`, r.TotalEvents)
	r.TimeOnPageSec += rng.Uint64N(1000)
	r.VideoWatchSec += rng.Uint64N(1000)
	r.AdRevenueMicros += rng.Uint64N(1 << 40)
	r.MaxScrollDepth = uint8(rng.IntN(101))
	r.Status = schema.Status(1 + rng.IntN(3))
	r.Epoch, r.BatchID, r.CreatedAt = sh.epoch, schema.BatchID(uint32(shard), sh.epoch), int64(sh.epoch)*10_000+7
	return &r
}

// naiveCut drops characters until at most 256 bytes are left.
func naiveCut(s string) string {
	for len(s) > 256 {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

func dimsOf(table schema.RollupTable, r *schema.SessionRow) []string {
	d := [schema.NumRollups][]string{
		{}, {r.Brand}, {r.DeviceType, r.DeviceOS, r.Browser}, {r.Country, r.City}, {r.SubscriptionTier, r.UserSegment},
	}[table]
	d = slices.Clone(d)
	for i := range d {
		d[i] = naiveCut(d[i])
	}
	return d
}

func rollupKey(table schema.RollupTable, date int32, dims []string) string {
	return fmt.Sprintf("%d %d %q", table, date, dims)
}

// rollups counts the shard's sessions from the start; keys that have become empty have zeros.
func (sh *modelShard) rollups() map[string]schema.RollupRow {
	out := map[string]schema.RollupRow{}
	for k, old := range sh.keys {
		out[k] = schema.RollupRow{Table: old.Table, Date: old.Date, Dims: old.Dims}
	}
	for _, r := range sh.sessions {
		for table := range schema.NumRollups {
			date, dims := int32(r.Start/86_400), dimsOf(table, r)
			k := rollupKey(table, date, dims)
			t := out[k]
			t.Table, t.Date, t.Dims = table, date, dims
			t.Sessions++
			t.Duration += r.End - r.Start
			t.Events += int64(r.TotalEvents)
			t.Views += int64(r.Counts[event.ArticleView])
			t.Plays += int64(r.Counts[event.VideoPlay])
			t.Signups += int64(r.Counts[event.NewsletterSignup])
			t.AdClicks += int64(r.Counts[event.AdClick])
			out[k] = t
		}
	}
	return out
}

func sameTotals(a, b *schema.RollupRow) bool {
	return [7]int64{a.Sessions, a.Duration, a.Events, a.Views, a.Plays, a.Signups, a.AdClicks} ==
		[7]int64{b.Sessions, b.Duration, b.Events, b.Views, b.Plays, b.Signups, b.AdClicks}
}

// all returns every session of all shards, by (session_id, origin).
func (m *model) all() []*schema.SessionRow {
	var out []*schema.SessionRow
	for _, sh := range m.shards {
		out = slices.AppendSeq(out, maps.Values(sh.sessions))
	}
	slices.SortFunc(out, func(a, b *schema.SessionRow) int {
		return cmp.Or(cmp.Compare(a.SessionID, b.SessionID), cmp.Compare(a.Origin, b.Origin))
	})
	return out
}

// rows are the rows that a view must show, in the form in which Reader.Rows yields them.
func (m *model) rows(view string) (out [][]string) {
	switch view {
	case "session_metrics":
		for _, r := range m.all() {
			var row []string
			for i := range declared[level.First].declared.Sessions {
				row = append(row, schema.Sessions[i].String(r))
			}
			out = append(out, row)
		}
		return out
	case "page_analytics":
		return m.pages()
	}
	for table := range schema.NumRollups {
		if table.String() == view {
			return m.rollup(table)
		}
	}
	return nil
}

func (m *model) pages() (out [][]string) {
	for _, r := range m.all() {
		for _, p := range r.Pages {
			out = append(out, []string{
				r.SessionID, r.Origin, p.ArticleID, p.Type.String(), fmt.Sprint(p.Count), fmt.Sprint(r.UserID),
				p.ArticleTitle, p.Category, schema.DateText(r.SessionDate),
			})
		}
	}
	slices.SortFunc(out, func(a, b []string) int { return slices.Compare(a[:4], b[:4]) })
	return out
}

func (m *model) rollup(table schema.RollupTable) (out [][]string) {
	type acc struct {
		key                                             []string
		users                                           map[uint64]bool
		n, sec, events, views, plays, signups, adClicks int64
	}
	accs := map[string]*acc{}
	for _, r := range m.all() {
		date, dims := int32(r.Start/86_400), dimsOf(table, r)
		k := rollupKey(table, date, dims)
		a := accs[k]
		if a == nil {
			a = &acc{key: append([]string{schema.DateText(date)}, dims...), users: map[uint64]bool{}}
			accs[k] = a
		}
		if !m.risen || r.UserID != 0 {
			a.users[r.UserID] = true
		}
		a.n++
		a.sec += r.End - r.Start
		a.events += int64(r.TotalEvents)
		a.views += int64(r.Counts[event.ArticleView])
		a.plays += int64(r.Counts[event.VideoPlay])
		a.signups += int64(r.Counts[event.NewsletterSignup])
		a.adClicks += int64(r.Counts[event.AdClick])
	}
	n := func(i int64) string { return strconv.FormatInt(i, 10) }
	for _, a := range accs {
		per := func(i int64) string { return strconv.FormatFloat(float64(i)/float64(a.n), 'g', -1, 64) }
		row := append(a.key, n(a.n), n(int64(len(a.users))), per(a.sec), per(a.events), n(a.views), n(a.plays),
			n(a.signups), n(a.adClicks))
		if table == schema.RollupSubscription {
			row = append(row, per(a.signups))
		}
		out = append(out, row)
	}
	keys := 1 + table.NumDims()
	slices.SortFunc(out, func(a, b []string) int { return slices.Compare(a[:keys], b[:keys]) })
	return out
}

// modelViews are the views that are compared.
var modelViews = []string{"session_metrics", "page_analytics", "session_summary", "brand_analytics", "device_analytics",
	"geographic_analytics", "subscription_analytics"}

// compare reads every view and compares it row by row, in order.
func (m *model) compare(t *testing.T, r *Reader, when string) {
	t.Helper()
	for _, view := range modelViews {
		diff(t, when+" "+view, m.rows(view), r, view)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// readView reads the columns that a view has at every level.
func readView(t *testing.T, r *Reader, view string) (rows [][]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shown, _, err := declared[level.First].viewNamed(view)
	if err != nil {
		t.Fatal(err)
	}
	var columns []string
	for _, c := range shown.columns {
		columns = append(columns, c.name)
	}
	err = r.Rows(ctx, view, columns, func(row []string) error {
		rows = append(rows, slices.Clone(row))
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", view, err)
	}
	return rows
}

func diff(t *testing.T, what string, want [][]string, r *Reader, view string) {
	t.Helper()
	got := readView(t, r, view)
	if len(want) == 0 {
		t.Fatalf("%s: the model is empty", what)
	}
	shown := 0
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("%s: row %d is missing: %q", what, i, want[i])
		case i >= len(want):
			t.Errorf("%s: row %d is too much: %q", what, i, got[i])
		case !slices.Equal(got[i], want[i]):
			t.Errorf("%s: row %d\n got %q\nwant %q", what, i, got[i], want[i])
		default:
			continue
		}
		if shown++; shown == 3 {
			return
		}
	}
}

func rowsOf(p *state.Plan) (rows []schema.SessionRow) {
	_ = p.Sessions(func(r *schema.SessionRow) error { rows = append(rows, *r); return nil })
	return rows
}

// planOf returns the plan with other sessions.
func planOf(p *state.Plan, rows []schema.SessionRow) *state.Plan {
	return statetest.NewPlan(p.Config, p.Sink, p.A, p.B, p.Epochs, statetest.Content{Rows: rows})
}

func without(p *state.Plan, key string) *state.Plan {
	return planOf(p, slices.DeleteFunc(rowsOf(p), func(r schema.SessionRow) bool { return r.Key() == key }))
}
