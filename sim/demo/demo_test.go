package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"deckle/event"
	"deckle/node/config"
	"deckle/node/status"
	"deckle/schema"
	"deckle/sim"
	"deckle/sim/verify"
	"deckle/state"
)

// fakeReplica is a replica that agrees with a truth, until a test changes it.
type fakeReplica struct {
	view     state.View
	sessions map[string]*schema.SessionRow
	rows     []schema.RollupRow
}

func (f *fakeReplica) View() state.View { return f.view }
func (f *fakeReplica) Session(id string) (*schema.SessionRow, bool, error) {
	r, ok := f.sessions[id]
	return r, ok, nil
}
func (f *fakeReplica) Rollups(yield func(*schema.RollupRow) error) error {
	for i := range f.rows {
		if err := yield(&f.rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// newTruth produces into a topic of two partitions that exists only here.
func newTruth(t *testing.T) (*sim.Truth, sim.Summary) {
	t.Helper()
	g, err := sim.NewGenerator(sim.Options{Seed: 5, Start: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Rate: 100,
		Sessions: 10,
		Faults:   sim.Faults{Duplicates: 0.05, Late: 0.03, Malformed: 0.05}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	truth := sim.NewTruth()
	truth.Begin(sim.Header{Topic: "web_clicks", Keyed: true})
	var next [2]int64
	for {
		if g.Made() == 600 {
			g.Finish()
		}
		r, ok := g.Next()
		if !ok {
			break
		}
		p := int32(0)
		for _, c := range r.Key {
			p = (p + int32(c)) % 2
		}
		truth.Sent(r)
		truth.Acked(r, p, next[p], r.Time.UnixMilli())
		next[p]++
	}
	sum, err := truth.Close()
	if err != nil || sum.Uncertain+sum.Mistaken > 0 || sum.Duplicates == 0 || sum.Dead() == 0 {
		t.Fatalf("%+v, %v", sum, err)
	}
	return truth, sum
}

// newReplicas builds the replicas of two shards, one per partition, from the truth.
func newReplicas(t *testing.T, truth *sim.Truth, sum *sim.Summary) []*fakeReplica {
	t.Helper()
	rs := []*fakeReplica{{sessions: map[string]*schema.SessionRow{}}, {sessions: map[string]*schema.SessionRow{}}}
	totals := []rollups{{}, {}}
	err := truth.Each(func(l sim.Line) error {
		s := l.Session
		if s == nil {
			return nil
		}
		p := partitionOf(s.Origins[0].Position)
		rs[p].view.LiveSessions++
		if s.TotalEvents > 0 {
			rs[p].sessions[s.SessionID] = stateRow(t, s)
			totals[p].add(s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p, r := range rs {
		r.view.Configured = true
		r.view.Config.Partitions = []int32{int32(p)}
		for k, v := range totals[p] {
			row := schema.RollupRow{Table: k.table, Date: k.date, Sessions: v[0], Duration: v[1], Events: v[2],
				Views: v[3], Plays: v[4], Signups: v[5], AdClicks: v[6]}
			if k.dims != "" {
				row.Dims = strings.Split(k.dims, "\x00")
			}
			r.rows = append(r.rows, row)
		}
	}
	rs[0].view.Applied, rs[0].view.Duplicates, rs[0].view.DeadLetters = sum.Applied, sum.Duplicates,
		map[event.Reason]int64{}
	for _, r := range event.Reasons() {
		if n := sum.DeadLetters[r.String()]; n > 0 {
			rs[0].view.DeadLetters[r] = n
		}
	}
	return rs
}

// stateRow turns a session of the truth into a row of the state.
func stateRow(t *testing.T, s *sim.Session) *schema.SessionRow {
	t.Helper()
	date, err := time.Parse(time.DateOnly, s.Origins[0].Date)
	if err != nil {
		t.Fatal(err)
	}
	r := &schema.SessionRow{
		SessionID: s.SessionID, Origin: s.Origins[0].Position, UserID: s.UserID, UserKey: s.UserKey,
		OpeningBrand:    s.Origins[0].Brand,
		SeveralUsers:    uint8(s.SeveralUsers),
		MaxReadProgress: uint8(s.MaxProgress), ArticlesCompleted: uint32(s.Completed), FiguresKnown: true,
		UsersKnown: true, Brand: s.Brand,
		Country: s.Country,
		City:    s.City, DeviceType: s.DeviceType, DeviceOS: s.DeviceOS, Browser: s.Browser,
		SubscriptionTier: s.SubscriptionTier,
		UserSegment:      s.UserSegment, Referrer: s.Referrer, Timezone: s.Timezone, Start: s.Start, End: s.End,
		TotalEvents: uint32(s.TotalEvents), Categories: s.Categories, ArticleIDs: s.ArticleIDs,
		ArticleTitles: s.ArticleTitles,
		PagesVisited:  uint32(s.PagesVisited), UniquePages: uint32(s.UniquePages),
		UniqueCategories: uint32(s.UniqueCategories),
		PageEvents:       s.PageEvents, TimeOnPageSec: uint64(s.TimeOnPage), VideoWatchSec: uint64(s.VideoWatch),
		AdRevenueMicros: uint64(s.AdRevenueMicros), MaxScrollDepth: uint8(s.MaxScroll), Status: schema.StatusClosed,
		SessionDate: int32(date.Unix() / 86400),
	}
	for typ, n := range map[event.Type]int64{
		event.ArticleView: s.ArticleViews, event.ArticleClick: s.ArticleClicks, event.VideoPlay: s.VideoPlays,
		event.NewsletterSignup: s.NewsletterSignups, event.AdClick: s.AdClicks, event.Search: s.Searches,
		event.SubscriptionPrompt: s.SubscriptionPrompts, event.Navigation: s.Navigations,
		event.Other: s.OtherEvents,
	} {
		r.Counts[typ] = uint32(n)
	}
	return r
}

func asReplicas(rs []*fakeReplica) []replica {
	out := make([]replica, len(rs))
	for i, r := range rs {
		out[i] = r
	}
	return out
}

// TestReplicasArePlantedFaults changes one thing at a time in replicas that agree with the truth; each must be named.
func TestReplicasArePlantedFaults(t *testing.T) {
	truth, sum := newTruth(t)
	some := func(r *fakeReplica) *schema.SessionRow {
		ids := make([]string, 0, len(r.sessions))
		for id := range r.sessions {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return r.sessions[ids[0]]
	}
	cases := map[string]struct {
		plant func(rs []*fakeReplica)
		want  string // in a difference, or in the name of a check that does not agree; "" means equal
	}{
		"nothing":        {func([]*fakeReplica) {}, ""},
		"lost session":   {func(rs []*fakeReplica) { delete(rs[1].sessions, some(rs[1]).SessionID) }, "lost"},
		"changed column": {func(rs []*fakeReplica) { some(rs[0]).AdRevenueMicros++ }, "column ad_revenue_micros"},
		"changed origin": {func(rs []*fakeReplica) { some(rs[0]).Origin = "0/99999" }, "column origin"},
		"changed events": {func(rs []*fakeReplica) { some(rs[0]).PageEvents = "[]" }, "column page_events"},
		"still open":     {func(rs []*fakeReplica) { some(rs[0]).Status = schema.StatusOpen }, "column status"},
		"extra session":  {func(rs []*fakeReplica) { rs[0].view.LiveSessions++ }, "sessions in the lookup"},
		"changed rollup": {func(rs []*fakeReplica) { rs[1].rows[0].Views++ }, "total_article_views"},
		"lost rollup":    {func(rs []*fakeReplica) { rs[1].rows = rs[1].rows[1:] }, "total_sessions"},
		"extra rollup": {func(rs []*fakeReplica) {
			rs[0].rows = append(rs[0].rows, schema.RollupRow{Table: schema.RollupBrand, Date: 30000,
				Dims:     []string{"x"},
				Sessions: 1})
		}, "brand_analytics 2052-02-20 x"},
		"applied twice":    {func(rs []*fakeReplica) { rs[0].view.Applied++ }, "events"},
		"duplicate missed": {func(rs []*fakeReplica) { rs[0].view.Duplicates-- }, "duplicates"},
		"other reason": {func(rs []*fakeReplica) {
			rs[0].view.DeadLetters[event.NoKey]++
			rs[0].view.DeadLetters[event.Malformed]--
		}, "no_key"},
		"no shard": {func(rs []*fakeReplica) { rs[1].view.Config.Partitions = nil }, "a shard for"},
		"purged is allowed": {func(rs []*fakeReplica) {
			s := some(rs[0])
			delete(rs[0].sessions, s.SessionID)
			rs[0].view.LiveSessions--
			rs[0].view.Horizon = s.End + 1
		}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			rs := newReplicas(t, truth, &sum)
			c.plant(rs)
			var f findings
			if err := f.checkReplicas("a", asReplicas(rs), truth, &sum); err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, d := range f.differences {
				text += d.String() + "\n"
			}
			for _, k := range f.checks {
				if !k.Equal() {
					text += k.What + "\n"
				}
			}
			if f.equal() != (c.want == "") || !strings.Contains(text, c.want) {
				t.Errorf("equal %v, want %q in:\n%s", f.equal(), c.want, text)
			}
		})
	}
}

func quiet(shards ...state.View) []status.Node {
	st := status.Node{Node: "a", Ready: true}
	for i, v := range shards {
		st.Shards = append(st.Shards, status.Shard{Shard: uint32(i), State: v})
	}
	return []status.Node{st}
}

func TestRemaining(t *testing.T) {
	produced := map[int32]sim.Span{0: {From: 0, To: 100, Records: 100}}
	done := state.View{
		Configured: true, Config: state.Config{Sinks: []state.SinkID{state.SinkEvents}},
		Partitions: []state.PartitionStatus{{Partition: 0, Next: 100}}, LastClosed: 7,
	}
	done.Sinks[state.SinkEvents] = state.Progress{Acked: 7}
	change := func(f func(v *state.View)) state.View {
		v := done
		v.Partitions = slices.Clone(done.Partitions)
		f(&v)
		return v
	}
	cases := map[string]struct {
		sts  []status.Node
		want string
	}{
		"done": {quiet(done), "nothing"},
		"records": {quiet(change(func(v *state.View) { v.Partitions[0].Next = 60 })),
			"40 records to apply"},
		"open": {quiet(change(func(v *state.View) { v.OpenStatus = 3 })),
			"3 sessions to close"},
		"uncut": {quiet(change(func(v *state.View) { v.OpenEvents = 5 })),
			"5 changes to cut"},
		"unflushed": {
			quiet(change(func(v *state.View) { v.Sinks[state.SinkEvents].Acked = 5 })), "2 epochs to flush"},
		"a sink that is off does not count": {
			quiet(change(func(v *state.View) { v.Sinks[state.SinkClickHouse].Acked = 5 })), "nothing"},
		"partition that no shard has": {quiet(change(func(v *state.View) { v.Partitions = nil })),
			"100 records to apply"},
		"not configured": {quiet(change(func(v *state.View) { v.Configured = false })),
			"100 records to apply, shard 0 of node a"},
		"no node":       {nil, "no node"},
		"shard missing": {quiet(), "100 records to apply, node a has 0 of 1 shards"},
		"a replica behind": {append(quiet(done),
			quiet(change(func(v *state.View) { v.Partitions[0].Next = 99 }))...), "1 records to apply"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := remaining(c.sts, produced, 1)
			if got := b.String(); got != c.want || b.done() != (c.want == "nothing") {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	stopped := quiet(done)
	stopped[0].Shards[0].Stopped = map[string]string{"events": "range lost"}
	if b := remaining(stopped, produced, 1); b.Waiting != "shard 0: events stopped: range lost" {
		t.Errorf("%+v", b)
	}
}

func TestJoin(t *testing.T) {
	a := status.Node{Node: "a", ClusterID: "x", Ready: true, Shards: []status.Shard{
		{Shard: 0, Index: 10, IsLeader: true, Term: 2, Lag: status.Lag{Records: new(int64(7))}}, {Shard: 1, Index: 20}}}
	b := status.Node{Node: "b", Reasons: []string{"no leader"}, Shards: []status.Shard{
		{Shard: 0, Index: 12}, {Shard: 1, Index: 21}, {Shard: 2, Index: 1}}}
	old := status.Node{Node: "c", Ready: true, Shards: []status.Shard{{Shard: 0, Index: 99, IsLeader: true, Term: 1}}}
	st := join([]status.Node{a, b, old})
	if st.Node != "a, b, c" || st.ClusterID != "x" || st.Ready ||
		!slices.Equal(st.Reasons, []string{"node b: no leader"}) {
		t.Errorf("%+v", st)
	}
	if len(st.Shards) != 3 || *st.Shards[0].Lag.Records != 7 || st.Shards[0].Term != 2 || st.Shards[1].Index != 21 {
		t.Errorf("a shard is not shown as its newest leader, or else its newest replica, sees it: %+v", st.Shards)
	}
	if join(nil).Ready {
		t.Error("no node, but ready")
	}
}

func TestReport(t *testing.T) {
	truth, sum := newTruth(t)
	_ = truth
	p99 := 1234.5
	r := &Report{
		ProducedEvents: sum.Produced, AppliedEvents: sum.Applied, Duplicates: sum.Duplicates, DeadLetters: sum.Dead(),
		P99VisibleMS: &p99,
		Checks:       []Check{}, Differences: []verify.Difference{}, Dir: "/x",
	}
	var f findings
	f.check("things", 5, 5, 0)
	one := int64(1)
	r.take(&f, &verify.Report{Equal: true, DeltaEvents: &one, DeltaSessions: &one})
	if !r.Equal || r.DeltaEvents != 1 {
		t.Errorf("%+v", r)
	}
	r.take(&f, &verify.Report{Equal: true, DeltaEvents: &one})
	if r.Equal {
		t.Error("equal although Delta's sessions were not compared")
	}
	f.check("others", 5, 4, 1)
	r.take(&f, &verify.Report{Equal: true, DeltaEvents: &one, DeltaSessions: &one})
	if r.Equal {
		t.Error("equal although a check is not")
	}
	var b bytes.Buffer
	if err := r.JSON(&b); err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(b.Bytes(), &keys); err != nil || strings.Count(b.String(), "\n") != 1 {
		t.Fatalf("%v: %s", err, b.String())
	}
	for _, k := range []string{"produced_events", "produced_sessions", "applied_events", "duplicates", "dead_letters",
		"delta_events",
		"delta_sessions", "clickhouse_sessions", "equal", "events_per_second", "p99_visible_ms"} {
		if _, ok := keys[k]; !ok {
			t.Errorf("the JSON lacks %s", k)
		}
	}
	if keys["clickhouse_sessions"] != nil {
		t.Errorf("clickhouse_sessions without ClickHouse: %v", keys["clickhouse_sessions"])
	}
	b.Reset()
	if err := r.Table(&b); err != nil || !strings.Contains(b.String(), "NOT EQUAL") ||
		!strings.Contains(b.String(), "p99 from produce to readable in Delta 1.2 s") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// The line that says where the records have gone adds up.
func TestReportAddsUp(t *testing.T) {
	r := &Report{ProducedEvents: 15, AppliedEvents: 8, Duplicates: 4, DeadLetters: 2, Excluded: 1}
	var b strings.Builder
	if err := r.Table(&b); err != nil ||
		!strings.Contains(b.String(), "15 records = 8 applied + 4 duplicates + 2 dead letters + 1 excluded;") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestPlacesAreFresh(t *testing.T) {
	now := time.Date(2026, 11, 22, 19, 30, 0, 0, time.UTC)
	o, err := Options{Dir: filepath.Join(t.TempDir(), "d"), Now: func() time.Time { return now },
		Brokers: []string{"k:1"},
		S3:      &config.S3{Prefix: "p/"}, ClickHouse: &config.ClickHouse{}}.complete()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"run-20261122-193000", "run-20261122-193000-2"} {
		p, err := newPlace(&o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(p.dir); err != nil || p.name != name || p.s3Prefix != "p/deckle-demo/"+name ||
			p.topic != "web_clicks_"+strings.ReplaceAll(name, "-", "_") {
			t.Errorf("%d: %+v, %v", i, p, err)
		}
	}
	for _, bad := range []Options{{Nodes: 2}, {Shards: 99}, {Rate: -1}, {For: -1}, {FlushInterval: time.Millisecond}} {
		if _, err := bad.complete(); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}

func TestLiveText(t *testing.T) {
	v := state.View{Applied: 90, Duplicates: 6, LastClosed: 3, OpenStatus: 12,
		Config: state.Config{Sinks: []state.SinkID{state.SinkEvents}}}
	at := time.Unix(100, 0)
	last := sample{at: at, phase: "producing"}
	now := sample{at: at.Add(2 * time.Second), elapsed: 62 * time.Second, of: 90 * time.Second, phase: "producing",
		sent: sim.Stats{Acked: 12345},
		status: status.Node{Shards: []status.Shard{{Leader: "a", Lag: status.Lag{Records: new(int64(5))}, State: v,
			Visible: map[string]status.Latency{"events": {P50: 800, P99: 1500, Count: 2}}}}}}
	got := line(&last, &now)
	want := "01:02 producing: 12,345 records (6,172/s), applied 48/s, lag 5, 12 open sessions, 3 epochs, " +
		"leaders a:1, visible p99 1.5 s"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var b bytes.Buffer
	l := &live{w: &b, tty: true}
	l.block(lines(&last, &now))
	l.say("a line that stays")
	if s := b.String(); !strings.Contains(s, "01:02 of 01:30") || !strings.Contains(s, "\r\x1b[6A\x1b[J") {
		t.Errorf("%q", s)
	}
	if s := fmt.Sprintln(count(-1234567), count(12), count(123456)); s != "-1,234,567 12 123,456\n" {
		t.Error(count(-1234567), count(12), count(123456))
	}
}
