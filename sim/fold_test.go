package sim

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const noon = 1795348800 // 2026-11-22 12:00:00 UTC

// rec is a record at an offset of partition 0; fields replace or add to those of a plain event.
func rec(t *testing.T, offset int64, id int, typ string, ts int64, fields string) acked {
	t.Helper()
	m := map[string]json.RawMessage{"event_id": fmt.Appendf(nil, `"00000000-0000-4000-8000-%012d"`, id),
		"session_id": []byte(`"s"`),
		"user_id":    []byte("7"), "event_type": []byte(`"` + typ + `"`), "timestamp": fmt.Append(nil, ts)}
	if fields != "" {
		if err := json.Unmarshal([]byte(fields), &m); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return acked{offset: offset, kafkaTime: (noon + 100) * 1000, value: b}
}

func TestFold(t *testing.T) {
	records := []acked{
		rec(t, 10, 1, "article_view", noon+20, `{"brand":"bild","category":"sports","article_id":"a1",
			"article_title":"A","referrer":"internal","engagement_metrics":{"time_on_page":12.9,"scroll_depth":150}}`),
		rec(t, 11, 2, "article_click", noon+20, `{"category":"crime","article_id":"a1"}`),
		rec(t, 12, 1, "article_view", noon+20, ``), // duplicate, whatever else it says
		rec(t, 13, 3, "article_view", noon+10,
			// late: now the first
			`{"brand":"welt","user_id":8,"article_id":"a2","city":null,"article_title":"B","referrer":"google"}`),
		rec(t, 14, 4, "session_end", noon+30, `{"brand":"politico","article_id":"a9"}`),
		// after the end
		rec(t, 15, 5, "ad_click", noon+25, `{"category":"sports","engagement_metrics":{"ad_revenue":0.1234567}}`),
		// too late
		rec(t, 16, 6, "article_view", noon-13*3600, ``),
		rec(t, 17, 7, "ad_click", (noon+26)*1000+999, `{"engagement_metrics":{"ad_revenue":-1}}`),
		rec(t, 18, 8, "video_play", noon+27, `{"article_id":"a1","engagement_metrics":{"playback_position":1e15}}`),
		rec(t, 19, 9, "video_play", noon+27, `{"engagement_metrics":{"playback_position":"30"}}`),
		rec(t, 20, 4, "session_end", noon+30, ``),
	}
	slices.Reverse(records) // acknowledgements come in any order
	v := fold("s", records, true)
	if !reflect.DeepEqual(v.duplicates, []Position{{0, 12}, {0, 20}}) ||
		!reflect.DeepEqual(v.dead, []Dead{{Position{0, 16}, "too_late"}}) {
		t.Errorf("duplicates %v, dead %v", v.duplicates, v.dead)
	}
	got := map[string]string{}
	for i, c := range v.session.Row() {
		got[c] = ""
		got[SessionColumns[i]] = c
	}
	for c, want := range map[string]string{
		"origin": "0/10", "session_date": "2026-11-22", "user_id": "8", "brand": "welt", "referrer": "google",
		"city":          "",
		"session_start": fmt.Sprint(noon + 10), "session_end": fmt.Sprint(noon +
			27), "session_duration_sec": "17", "total_events": "7",
		"article_views": "2", "article_clicks": "1", "video_plays": "2", "ad_clicks": "2", "searches": "0",
		"status":             "closed",
		"categories_visited": `["sports","crime","sports"]`, "article_ids_visited": `["a2","a1","a1","a1"]`,
		"article_titles_visited": `["B","A"]`,
		"pages_visited_count":    "4", "unique_pages_count": "2", "unique_categories_count": "2",
		"time_on_page_sec": "12", "max_scroll_depth": "100", "video_watch_sec": "1000000030",
		"ad_revenue_micros": "123457",
	} {
		if got[c] != want {
			t.Errorf("%s is %s, want %s", c, got[c], want)
		}
	}
	if want := []Page{{"a1", "article_click", 1, "", "crime"}, {"a1", "article_view", 1, "A", "sports"},
		{"a1", "video_play", 1, "", ""}, {"a2", "article_view", 1, "B",
			""}}; !reflect.DeepEqual(v.session.Pages, want) {
		t.Errorf("pages %v", v.session.Pages)
	}
	first := `[{"article_id":"a2","article_title":"B","event_type":"article_view","timestamp":1795348810},`
	if !strings.HasPrefix(v.session.PageEvents, first) || strings.Count(v.session.PageEvents, "event_type") != 7 {
		t.Errorf("page_events %s", v.session.PageEvents)
	}
	if len(v.session.Events) != 8 {
		t.Errorf("%d rows of events", len(v.session.Events))
	}
}

func TestFoldEdges(t *testing.T) {
	if v := fold("s", []acked{rec(t, 1, 1, "search", noon, ``)}, true); v.session.Status != "expired" {
		t.Errorf("without an end: %s", v.session.Status)
	}
	if v := fold("s", []acked{rec(t, 1, 1, "session_end", noon, ``)}, true); v.session.TotalEvents != 0 ||
		len(v.session.Events) != 1 {
		t.Errorf("an end alone: %+v", v.session)
	}
	// The session_end opened the row, which keeps its position and its day.
	v := fold("s", []acked{rec(t, 1, 1, "session_end", noon-8*3600, ``), rec(t, 2, 2, "search", noon, ``)}, true)
	if o := v.session.Origins; len(o) != 1 || o[0].Position != "0/1" || v.session.Start != noon {
		t.Errorf("opened by its end: %+v", v.session)
	}
	// Without keys, each record may have been the first one.
	if v := fold("s", []acked{rec(t, 1, 1, "search", noon, ``), rec(t, 2, 2, "search", noon, ``)},
		false); len(v.session.Origins) != 2 {
		t.Errorf("unkeyed: %+v", v.session.Origins)
	}
	// Beyond the limit an event is a dead letter, and so is its copy; a copy of a counted event is a duplicate, and
	// the end still ends the session.
	var records []acked
	for i := range 2000 {
		records = append(records, rec(t, int64(i), i, "search", noon, ``))
	}
	records = append(records, rec(t, 2000, 9000, "search", noon+50, ``), rec(t, 2001, 9000, "search", noon+50, ``),
		rec(t, 2002, 5, "search", noon, ``), rec(t, 2003, 9001, "session_end", noon, ``))
	v = fold("s", records, true)
	if want := []Dead{{Position{0, 2000}, "session_full"}, {Position{0, 2001},
		"session_full"}}; !reflect.DeepEqual(v.dead, want) ||
		len(v.duplicates) != 1 || v.session.TotalEvents != 2000 || v.session.End != noon ||
		v.session.Status != "closed" {
		t.Errorf("full: %v %v %d %s", v.dead, v.duplicates, v.session.TotalEvents, v.session.Status)
	}
}

func TestJudge(t *testing.T) {
	for value, want := range map[string]string{
		``: "malformed", `[]`: "malformed", `null`: "malformed", `{} {}`: "malformed",
		"{\"event_id\": \"\xff\"}": "malformed",
		`{}`:                       "missing_field", `{"event_id": 5}`: "wrong_type", `{"brand": {}}`: "wrong_type",
		`{"user_id": 1.5}`:   "wrong_type",
		`{"event_id": null}`: "missing_field", strings.Repeat(" ", 1<<20) + "{}": "too_large",
	} {
		if _, got := judge([]byte(value), noon*1000, &PrivateRules{}); got != want {
			t.Errorf("%.40q: %q, want %q", value, got, want)
		}
	}
	for fields, want := range map[string]string{
		``: "", `{"event_type": "login"}`: "", `{"is_bot": true, "brand": 5}`: "excluded",
		`{"timestamp": 946684799}`:                      "bad_timestamp",
		`{"timestamp": 946684800}`:                      "",
		fmt.Sprintf(`{"timestamp": %d}`, noon+100+3600): "", fmt.Sprintf(`{"timestamp": %d}`,
			noon+100+3601): "bad_timestamp",
		`{"user_id": -1}`: "wrong_type", `{"user_id": "7"}`: "", `{"user_id": "a@b"}`: "", `{"user_id": null}`: "",
		`{"timestamp": "yesterday"}`: "wrong_type", `{"timestamp": "2026-11-22T12:00:00Z"}`: "",
		`{"event_id": "01J0000000000000000000000Z"}`: "", `{"metadata": ""}`: "",
		`{"metadata": []}`:   "wrong_type",
		`{"session_id": ""}`: "missing_field", `{"session_id": "` + strings.Repeat("x",
			256) + `"}`: "wrong_type", `{"brand": null, "x": [1]}`: "",
	} {
		r := rec(t, 0, 1, "search", noon, fields)
		if _, got := judge(r.value, r.kafkaTime, &PrivateRules{}); got != want {
			t.Errorf("%.60s: %q, want %q", fields, got, want)
		}
	}
}

func TestMark(t *testing.T) {
	row := make([]string, len(EventColumns))
	m := mark(row)
	if len(m.Differs(row)) != 0 || m.Hash() != HashRow(row) {
		t.Error("a row differs from itself")
	}
	b, err := json.Marshal(EventMark{Position{3, 1 << 40}, m})
	if err != nil {
		t.Fatal(err)
	}
	var e EventMark
	if err := json.Unmarshal(b, &e); err != nil || e.Position != (Position{3, 1 << 40}) || !slices.Equal(e.Mark, m) {
		t.Errorf("%s became %+v: %v", b, e, err)
	}
	for i := range row {
		changed := slices.Clone(row)
		changed[i] = "x"
		if d := m.Differs(changed); !slices.Equal(d, []int{i}) || m.Hash() == HashRow(changed) {
			t.Errorf("column %s: %v", EventColumns[i], d)
		}
	}
	if HashRow([]string{"a", "b"}) == HashRow([]string{"ab", ""}) {
		t.Error("columns run into each other")
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		``: ``, `{"b": 1.0, "a": [ 2.50, "\u00fc<" ]}`: `{"a":[2.5,"ü<"],"b":1}`, `{"a"`: `not JSON: {"a"`,
	} {
		if got := CanonicalJSON(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if a, b := CanonicalPageEvents(`[{"a":"x","b":"","c":null,"d":{}}]`), CanonicalPageEvents(`[{"a":"x"}]`); a != b ||
		a != `[{"a":"x"}]` {
		t.Errorf("%s and %s", a, b)
	}
}

// A record counts by the rules about personal data that its position has.
func TestTruthByRules(t *testing.T) {
	truth := NewTruth()
	truth.KeepRecords()
	truth.Begin(Header{Keyed: true})
	const person = `"country":"CH","sim_reader":{"email":"a","ip":"192.0.2.7","seen":"2026-11-29T13:14:15Z","kept":5}`
	for i, last := range []bool{false, false, true} {
		r := &Record{SessionID: "s", Last: last, Key: []byte("s"), Value: []byte(fmt.Sprintf(
			`{"event_id":"%d","session_id":"s","event_type":"search","timestamp":%d,%s}`, i, noon+i, person))}
		truth.Sent(r)
		truth.Acked(r, 0, int64(i), noon*1000)
	}
	if _, err := truth.Close(); err != nil {
		t.Fatal(err)
	}
	second := PrivateRules{Key: PrivateKey(1), Rules: []PrivateRule{{"sim_reader.email", "hash", ""},
		{"sim_reader.kept", "hash", ""}, {"sim_reader.seen", "generalise_time", "month"}, {"sim_reader.ip", "drop", ""},
		{"country", "drop", ""}}}
	none := PrivateRules{}
	by, err := truth.By(func(_ int32, offset int64) Held {
		return Held{Rules: []*PrivateRules{&second, &none, {Rules: []PrivateRule{{"sim_reader", "drop", ""}}}}[offset]}
	})
	if err != nil {
		t.Fatal(err)
	}
	// By hand: printf 'sim_reader.email\0a' | openssl dgst -sha256 -hmac "$KEY", the first 32 digits.
	want := []string{`{"sim_reader":{"email":"f667f69b097de56f227fbed56dcc6293",` +
		`"kept":"3489dab6f62f75def0f5b8fd2574dece","seen":"2026-11-01T00:00:00Z"}}`,
		`{"sim_reader":{"email":"a","ip":"192.0.2.7","kept":5,"seen":"2026-11-29T13:14:15Z"}}`, ""}
	lines := 0
	err = by.Each(func(l Line) error {
		if l.Session == nil {
			return nil
		}
		lines++
		if l.Session.Country != "" { // of the first event, whose rules drop it
			t.Errorf("country %q", l.Session.Country)
		}
		extra := slices.Index(EventColumns, "extra")
		for i, e := range l.Session.Events {
			if got := e.Mark.Column(extra); got != fmt.Sprintf("hash %04x", columnHash(want[i])) {
				t.Errorf("event %d: the extra fields are not %s", i, want[i])
			}
		}
		return nil
	})
	if err != nil || lines != 1 || by.sum.Produced != 3 || by.sum.Partitions[0] != (Span{0, 3, 3}) {
		t.Errorf("%v, %d sessions, %+v", err, lines, by.sum)
	}
}
