package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/event"
	"deckle/node/condition"
	"deckle/node/front"
	"deckle/node/status"
	"deckle/schema"
	"deckle/state"
)

// fakeSource is a Source with given content.
type fakeSource struct {
	status   status.Node
	replicas map[uint32]*fakeReplica
}

func (f *fakeSource) Status() status.Node { return f.status }
func (f *fakeSource) Store(shard uint32) Replica {
	if r := f.replicas[shard]; r != nil {
		return r
	}
	return nil
}

type fakeReplica struct {
	rows     []schema.RollupRow
	sessions map[string]*schema.SessionRow
	err      error
	reads    int
}

func (f *fakeReplica) Rollups(yield func(*schema.RollupRow) error) error {
	f.reads++
	for i := range f.rows {
		if err := yield(&f.rows[i]); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fakeReplica) Session(id string) (*schema.SessionRow, bool, error) {
	r, ok := f.sessions[id]
	return r, ok, f.err
}

var testNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const testDay = 20779 // 2026-11-22

func rollup(table schema.RollupTable, date int32, sessions, events, signups int64, dims ...string) schema.RollupRow {
	return schema.RollupRow{Table: table, Date: date, Dims: dims, Sessions: sessions, Events: events,
		Duration: 60 * sessions, Views: events / 2, Signups: signups}
}

func newFakeSource() *fakeSource {
	view := state.View{
		Config: state.Config{Sinks: []state.SinkID{state.SinkEvents, state.SinkClickHouse}}, Clock: testNow.Unix(),
		OpenEpoch: 8, LastClosed: 7, Applied: 100, Counted: 90, Duplicates: 3, LiveSessions: 20, OpenStatus: 12,
		DeadLetters: map[event.Reason]int64{event.Malformed: 2, event.TooLate: 1},
		Partitions:  []state.PartitionStatus{{Partition: 0, Next: 106}},
	}
	view.Sinks[state.SinkEvents].Acked = 7
	view.Sinks[state.SinkClickHouse].Acked = 2
	return &fakeSource{
		status: status.Node{
			Node: "a", ClusterID: "c1", Ready: true,
			Shards: []status.Shard{
				{Shard: 0, Leader: "a", IsLeader: true, Term: 2, Index: 900, State: view,
					Lag: status.Lag{Records: new(int64(5)), Seconds: new(1.5), OpenTransaction: new(int64(2)),
						Partitions: []status.PartitionLag{
							{Partition: 0, Records: new(int64(5)), OpenTransaction: new(int64(2))},
							{Partition: 2, Records: new(int64(0)), OpenTransaction: new(int64(0)), Unread: true}}},
					Visible: map[string]status.Latency{"events": {P50: 900, P99: 4000, Max: 5000, Count: 10}}},
				{Shard: 1, Leader: "b", Term: 3, Index: 800, State: view,
					Told: &status.Lag{Records: new(int64(20)), Seconds: new(0.5), OpenTransaction: new(int64(1)),
						Partitions: []status.PartitionLag{{Partition: 0, Records: new(int64(20))}}}},
			},
		},
		replicas: map[uint32]*fakeReplica{
			0: {
				rows: []schema.RollupRow{
					rollup(schema.RollupSummary, testDay, 10, 100, 1),
					rollup(schema.RollupSummary, testDay-1, 5, 20, 0),
					rollup(schema.RollupBrand, testDay, 6, 60, 1, "bild"),
					rollup(schema.RollupBrand, testDay, 4, 40, 0, "welt"),
					rollup(schema.RollupBrand, testDay, 0, 0, 0, "gone"),
					rollup(schema.RollupBrand, testDay-1, 5, 20, 0, "welt"),
					rollup(schema.RollupDevice, testDay, 7, 70, 0, "mobile", "iOS", "Safari"),
					rollup(schema.RollupDevice, testDay, 3, 30, 0, "mobile", "Android", "Chrome"),
					rollup(schema.RollupGeographic, testDay, 10, 100, 0, "DE", "Berlin"),
					rollup(schema.RollupSubscription, testDay, 10, 100, 1, "premium", "loyal"),
				},
				sessions: map[string]*schema.SessionRow{"s/1": {
					SessionID: "s/1", Origin: "0/7", Brand: "bild", Start: testNow.Unix() - 60, End: testNow.Unix(),
					TotalEvents: 3, Counts: schema.Counts{event.ArticleView: 2, event.Search: 1},
					Status: schema.StatusOpen, SessionDate: testDay, Categories: `["a","b"]`,
				}},
			},
			1: {rows: []schema.RollupRow{rollup(schema.RollupSummary, testDay, 1, 4, 1),
				rollup(schema.RollupBrand, testDay, 1, 4, 1, "welt")}},
		},
	}
}

func request(t *testing.T, h http.Handler, method, path string) (int, string, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	r.Host = "localhost"
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func testHandler(src Source) http.Handler {
	return NewHandler(src, Options{Gatherer: prometheus.NewRegistry(), Now: func() time.Time { return testNow },
		Gate: patientGate()})
}

// patientGate is a gate whose clock goes on by a second with each look, so that no test meets a rate by chance.
func patientGate(names ...string) *front.Gate {
	var ticks atomic.Int64
	return front.NewGate(front.GateOptions{Names: names, Now: func() time.Time {
		return testNow.Add(time.Duration(ticks.Add(1)) * time.Second)
	}})
}

func TestHealth(t *testing.T) {
	src := newFakeSource()
	h := testHandler(src)
	if code, body, _ := request(t, h, "GET", "/livez"); code != 200 || body != "ok\n" {
		t.Errorf("/livez: %d %q", code, body)
	}
	code, body, _ := request(t, h, "GET", "/readyz")
	if r := decode[ready](t, body); code != 200 || !r.Ready || len(r.Reasons) != 0 || len(r.Warnings) != 0 ||
		!strings.Contains(body, `"reasons": []`) {
		t.Errorf("/readyz: %d %s", code, body)
	}
	src.status.Ready, src.status.Reasons = false, []string{"shard 1 has no leader"}
	src.status.Conditions = []condition.Condition{
		{ID: condition.SinkStopped, Severity: condition.Stopped, Subject: "events of shard 1", Text: "range lost"},
		{ID: condition.IntakePaused, Severity: condition.Degraded, Subject: "shard 0", Text: "disk budget"}}
	src.status.Others = []condition.Condition{{ID: condition.DiskHigh, Subject: "node", Text: "of another node"}}
	code, body, _ = request(t, h, "GET", "/readyz")
	r := decode[ready](t, body)
	want := []string{"events of shard 1 stopped: range lost", "shard 0 degraded: disk budget"}
	if code != 503 || r.Ready || !slices.Equal(r.Reasons, src.status.Reasons) || !slices.Equal(r.Warnings, want) ||
		!slices.Equal(r.Conditions, src.status.Conditions) {
		t.Errorf("/readyz: %d %s", code, body)
	}
}

// /api/v1/status judges the cluster: it has the conditions of the other nodes, too, and what is not known is null.
func TestStatusOfTheCluster(t *testing.T) {
	src := newFakeSource()
	src.status.Conditions = []condition.Condition{
		{ID: condition.DiskHigh, Severity: condition.Degraded, Node: "a", Subject: "node", Since: testNow}}
	src.status.Others = []condition.Condition{
		{ID: condition.PartitionStopped, Severity: condition.Stopped, Node: "b", Subject: "partition 1", Text: "gone"}}
	src.status.Members = []status.Member{{Node: "a", Answers: true, UpToDate: true}, {Node: "b"}}
	h := testHandler(src)
	_, body, _ := request(t, h, "GET", "/api/v1/status")
	s := decode[apiStatus](t, body)
	if len(s.Conditions) != 2 || s.Conditions[0].Node != "b" || s.Conditions[0].Severity != condition.Stopped ||
		!s.Ready || !slices.Equal(s.Warnings, []string{"node degraded: "}) {
		t.Errorf("conditions %+v, ready %v, warnings %q", s.Conditions, s.Ready, s.Warnings)
	}
	if len(s.Members) != 2 || s.Members[1].Answers || !strings.Contains(body, `"can_lose_one": null`) {
		t.Errorf("%s", body)
	}
	p := s.Shards[0].Partitions
	if *s.Totals.LagRecords != 25 || *s.Totals.Held != 3 || len(p) != 2 || !p[1].Unread || p[1].Next != nil ||
		*p[0].Lag != 5 || *p[0].Held != 2 || p[0].Unread {
		t.Errorf("%s", body)
	}
	if q := s.Shards[1]; *q.LagRecords != 20 || q.LagFrom != "b" || *q.Partitions[0].Lag != 20 ||
		q.Partitions[0].Held != nil || s.Shards[0].LagFrom != "a" {
		t.Errorf("a shard that another node leads: %+v", q)
	}
	// A leader that has told nothing makes the figure unknown, and says where to ask. It is never a 0.
	for leader, note := range map[string]string{"b": "ask /api/v1/status of that node", "": "no known leader"} {
		src.status.Shards[1].Leader, src.status.Shards[1].Told = leader, nil
		_, body, _ = request(t, h, "GET", "/api/v1/status")
		s = decode[apiStatus](t, body)
		if q := s.Shards[1]; q.LagRecords != nil || q.LagSeconds != nil || q.Held != nil || q.LagUnknown != 1 ||
			q.LagFrom != "" || !strings.Contains(q.LagNote, note) || q.Partitions[0].Lag != nil {
			t.Errorf("leader %q has told nothing: %+v", leader, q)
		}
		if s.Totals.LagRecords != nil || s.Totals.Held != nil || s.Totals.LagUnknown != 1 {
			t.Errorf("leader %q has told nothing: totals %+v", leader, s.Totals)
		}
	}
	src.status.Shards[1].Told = &status.Lag{Records: new(int64), OpenTransaction: new(int64)}
	src.status.Shards[0].Lag = status.Lag{Unknown: 2}
	_, body, _ = request(t, h, "GET", "/api/v1/status")
	s = decode[apiStatus](t, body)
	if s.Totals.LagRecords != nil || s.Totals.Held != nil || s.Totals.LagSeconds != nil || s.Totals.LagUnknown != 2 ||
		!strings.Contains(body, `"lag_records": null`) {
		t.Errorf("an unknown lag: %s", body)
	}
}

func TestAPIStatus(t *testing.T) {
	_, body, _ := request(t, testHandler(newFakeSource()), "GET", "/api/v1/status")
	s := decode[apiStatus](t, body)
	if s.Totals.Applied != 200 || s.Totals.DeadLetters != 6 || s.Totals.ByReason["malformed"] != 4 ||
		s.Totals.OpenSessions != 24 {
		t.Errorf("totals %+v", s.Totals)
	}
	if s.Totals.LagRecords == nil || *s.Totals.LagRecords != 25 || *s.Totals.LagSeconds != 1.5 {
		t.Errorf("lag of the shards: %s", body)
	}
	if s.Totals.Leaders["a"] != 1 || s.Totals.Leaders["b"] != 1 {
		t.Errorf("leaders %v", s.Totals.Leaders)
	}
	if len(s.Sinks) != 2 || s.Sinks[0].Sink != "events" || *s.Sinks[0].P99 != 4000 || s.Sinks[0].Behind != 0 ||
		s.Sinks[1].Behind != 5 || s.Sinks[1].P99 != nil {
		t.Errorf("sinks %+v", s.Sinks)
	}
	if s.Shards[0].Acked["clickhouse"] != 2 || s.Shards[0].Clock == nil ||
		*s.Shards[0].Partitions[0].Next != 106 {
		t.Errorf("shards %+v", s.Shards)
	}
}

func TestAPIAnalytics(t *testing.T) {
	src := newFakeSource()
	src.status.Shards = append(src.status.Shards, status.Shard{Shard: 2})
	now := testNow
	h := NewHandler(src, Options{Gatherer: prometheus.NewRegistry(), Now: func() time.Time { return now }})
	_, body, _ := request(t, h, "GET", "/api/v1/analytics")
	a := decode[Analytics](t, body)
	if a.Date != "2026-11-22" || !slices.Equal(a.MissingShards, []uint32{2}) {
		t.Errorf("date %s, missing %v", a.Date, a.MissingShards)
	}
	if a.Today.Total.Sessions != 11 || a.All.Total.Sessions != 16 || a.Today.Total.AvgDuration != 60 {
		t.Errorf("today %+v, all %+v", a.Today.Total, a.All.Total)
	}
	keys := func(gs []Group) string {
		var out []string
		for _, g := range gs {
			out = append(out, g.Key)
		}
		return strings.Join(out, " ")
	}
	if got := keys(a.Today.Brands); got != "bild welt" {
		t.Errorf("brands of today %s: most sessions first, none of zero", got)
	}
	if got := keys(a.All.Brands); got != "welt bild" {
		t.Errorf("brands of all days %s", got)
	}
	if w := a.Today.Brands[1]; w.Sessions != 5 || w.Events != 44 || w.Signups != 1 || w.Conversion != 0.2 {
		t.Errorf("welt over both shards: %+v", w)
	}
	if d := a.Today.Devices; len(d) != 1 || d[0].Sessions != 10 || keys(a.Today.OperatingSystems) != "iOS Android" ||
		keys(a.Today.Browsers) != "Safari Chrome" {
		t.Errorf("devices %+v", d)
	}
	if keys(a.Today.Countries) != "DE" || keys(a.Today.Cities) != "Berlin" ||
		keys(a.Today.Subscriptions) != "premium" || keys(a.Today.Segments) != "loyal" {
		t.Errorf("%s", body)
	}
	// Readers within a second share one pass.
	request(t, h, "GET", "/api/v1/analytics")
	if src.replicas[0].reads != 1 {
		t.Errorf("%d passes for two requests at once", src.replicas[0].reads)
	}
	now = now.Add(time.Second)
	src.replicas[0].err = errors.New("disk")
	if code, body, _ := request(t, h, "GET", "/api/v1/analytics"); code != 500 || strings.Contains(body, "disk") {
		t.Errorf("%d %s", code, body)
	}
}

func TestManyGroupsAreJoined(t *testing.T) {
	src := newFakeSource()
	r := src.replicas[0]
	r.rows = nil
	for i := range 60 {
		r.rows = append(r.rows, rollup(schema.RollupGeographic, testDay, int64(100-i), 100, 0, "DE",
			string(rune('A'+i))))
	}
	_, body, _ := request(t, testHandler(src), "GET", "/api/v1/analytics")
	cities := decode[Analytics](t, body).Today.Cities
	if len(cities) != groupLimit+1 || cities[0].Sessions != 100 || cities[groupLimit].Key != "(other)" ||
		cities[groupLimit].Sessions != 455 {
		t.Errorf("%d cities, last %+v", len(cities), cities[len(cities)-1])
	}
}

func TestAPISession(t *testing.T) {
	for _, base := range []string{"/api/v1/sessions", "/api/session"} {
		t.Run(base, func(t *testing.T) { testSessions(t, base) })
	}
}

func testSessions(t *testing.T, base string) {
	src := newFakeSource()
	h := testHandler(src)
	code, body, _ := request(t, h, "GET", base+"/s%2F1")
	s := decode[map[string]any](t, body)
	if code != 200 || s["origin"] != "0/7" || s["status"] != "open" || s["session_duration_sec"] != 60.0 ||
		s["session_date"] != "2026-11-22" {
		t.Errorf("%d %s", code, body)
	}
	if c := s["categories_visited"].([]any); len(c) != 2 ||
		s["events_by_type"].(map[string]any)["article_view"] != 2.0 {
		t.Errorf("%s", body)
	}
	if code, body, _ := request(t, h, "GET", base+"/other"); code != 404 ||
		!strings.Contains(body, "no such session") {
		t.Errorf("%d %s", code, body)
	}
	if code, _, _ := request(t, h, "GET", base+"/"+strings.Repeat("x", 256)); code != 400 {
		t.Errorf("long id: %d", code)
	}
	for _, path := range []string{base, base + "?id=", base + "?id=%zz", base + "?id=a;b",
		base + "?id=a&id=b", base + "?id=" + strings.Repeat("x", 256)} {
		if code, body, _ := request(t, h, "GET", path); code != 400 {
			t.Errorf("%.40s: %d %s", path, code, body)
		}
	}
	longest := strings.Repeat("ä", 127) + "x" // 255 bytes
	// A session may have any id. Two of them are parts of a path to everybody between: no redirect, and a way for
	// clients that rewrite paths before they send them.
	for id, raw := range map[string][]string{
		"..":           {base + "/..", base + "/%2e%2e", base + "/%2E.", base + "?id=.."},
		".":            {base + "/.", base + "/%2e", base + "?id=."},
		"../status":    {base + "/..%2Fstatus", base + "/%2e%2e%2fstatus", base + "?id=../status"},
		"a//b":         {base + "/a%2F%2Fb", base + "/a//b", base + "?id=a//b"},
		"/":            {base + "/%2F", base + "//", base + "?id=/"},
		"a/../b/.":     {base + "/a/../b/.", base + "/a%2F..%2fb%2F%2e", base + "?id=a/../b/."},
		"100% ?#&+":    {base + "/100%25%20%3F%23&+", base + "?id=100%25+%3F%23%26%2B"},
		"%2F":          {base + "/%252F", base + "?id=%252F"},
		"\x00\n\u2028": {base + "/%00%0A%E2%80%A8", base + "?id=%00%0A%E2%80%A8"},
		longest:        {base + "/" + strings.Repeat("%C3%A4", 127) + "x", base + "?id=" + longest},
	} {
		src.replicas[0].sessions[id] = &schema.SessionRow{SessionID: id, Origin: "3/4"}
		for _, path := range raw {
			code, body, _ := request(t, h, "GET", path)
			if code != 200 || decode[map[string]any](t, body)["session_id"] != id {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
	}
	// A number that a double cannot hold is a text, or JavaScript would show another user.
	for user, want := range map[uint64]string{7: "7", 1<<53 - 1: "9007199254740991", 1 << 53: `"9007199254740992"`,
		1<<64 - 1: `"18446744073709551615"`} {
		src.replicas[0].sessions["u"] = &schema.SessionRow{SessionID: "u", UserID: user}
		if _, body, _ := request(t, h, "GET", base+"/u"); !strings.Contains(body, `"user_id": `+want+",") {
			t.Errorf("user %d: %s", user, body)
		}
	}
	if code, _, _ := request(t, h, "POST", base+"/.."); code == 200 {
		t.Error("POST reads a session")
	}
	src.replicas[0].err = errors.New("disk")
	if code, _, _ := request(t, h, "GET", base+"/s%2F1"); code != 500 {
		t.Errorf("failing state: %d", code)
	}
}

func TestPageAndRest(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "deckle_test_things_total", Help: "x"})
	reg.MustRegister(c)
	h := NewHandler(newFakeSource(), Options{Gatherer: reg, Gate: patientGate()})
	code, body, header := request(t, h, "GET", "/")
	if code != 200 || !strings.Contains(body, "<title>Deckle</title>") || header.Get("Content-Security-Policy") == "" {
		t.Errorf("page: %d", code)
	}
	if _, body, _ := request(t, h, "GET", "/metrics"); !strings.Contains(body, "deckle_test_things_total 0") {
		t.Errorf("metrics: %s", body)
	}
	if _, body, _ := request(t, h, "GET", "/version"); !strings.Contains(body, `"go": "go1.`) {
		t.Errorf("version: %s", body)
	}
	for path, want := range map[string]int{"/debug/pprof/": 404, "/nothing": 404, "/api/": 404, "/api/v1/": 404,
		"/api/v1/sessions/": 404, "/api/v2/status": 404} {
		if code, _, _ := request(t, h, "GET", path); code != want {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code, _, _ := request(t, h, "POST", "/api/v1/status"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
}

// The page must work where there is no internet: it may name no address except that of its own server.
func TestPageIsSelfContained(t *testing.T) {
	text := strings.ReplaceAll(string(page), "http://www.w3.org/2000/svg", "")
	text = strings.ReplaceAll(text, "'http%3A", "")
	for _, bad := range []string{"http:", "https:", "//cdn", "@import", "url(", "<link rel=\"stylesheet", " src="} {
		if strings.Contains(text, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
}

// What the page relies on besides: any id of a session can be typed, and each colour of the light scheme has one in the
// dark scheme, or a text may be dark on dark.
func TestPageFits(t *testing.T) {
	text := string(page)
	if want := fmt.Sprintf(`maxlength="%d"`, event.MaxSessionID); !strings.Contains(text, want) {
		t.Errorf("the page does not have %s", want)
	}
	_, rest, _ := strings.Cut(text, ":root {")
	light, rest, _ := strings.Cut(rest, "}")
	_, rest, _ = strings.Cut(rest, "(prefers-color-scheme: dark) { :root {")
	dark, _, _ := strings.Cut(rest, "}")
	names := func(s string) []string {
		all := regexp.MustCompile(`--[a-z-]+:`).FindAllString(s, -1)
		slices.Sort(all)
		return all
	}
	if l, d := names(light), names(dark); len(l) == 0 || !slices.Equal(l, d) {
		t.Errorf("light scheme %v, dark scheme %v", l, d)
	}
}

// What only counts and refuses nothing is in the status: keys that do not keep sessions together, with the example that
// somebody can look at, and what the rules leave out or take for none, summed over the shards.
func TestStatusTellsWhatIsOnlyCounted(t *testing.T) {
	src := newFakeSource()
	for i := range src.status.Shards {
		src.status.Shards[i].State.RuleCounts = state.Counted{Excluded: map[string]int64{"bots": 4}, Skipped: 2,
			KafkaTimes: 3, Zeroed: map[string]int64{"ad_revenue": 5}}
	}
	src.status.Shards[1].State.Keys = state.KeyCounts{Records: 50, Keys: 7, Logins: 6, Partitions: 1,
		Example: &state.KeyExample{Epoch: 3, SessionID: "s-1", First: state.Position{Partition: 3, Offset: 12},
			Other: state.Position{Partition: 5, Offset: 99}, FirstKey: event.KeySession, Under: event.KeyUser}}
	_, indented, _ := request(t, testHandler(src), "GET", "/api/v1/status")
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(indented)); err != nil {
		t.Fatal(err)
	}
	body := compact.String()
	for _, want := range []string{
		`"excluded":8,"excluded_by_rule":{"bots":8},"types_skipped":4,"unconsented":0,"kafka_times_false":6,` +
			`"values_zeroed":{"ad_revenue":10}`,
		`"keys":{"compared":0,"other_key":0,"to_or_from_user":0,"other_partition":0}`,
		`"keys":{"compared":50,"other_key":7,"to_or_from_user":6,"other_partition":1,"example":{"session_id":"s-1",` +
			`"first":"3/12","first_key":"the session id","other":"5/99","other_key":"the user id"}}`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s lacks %s", body, want)
		}
	}
}
