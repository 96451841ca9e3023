package sim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// session is one reader's visit while it lives.
type session struct {
	id      string
	user    uint64
	logins  []login // ascending by event
	brand   *brand
	country string
	city    string
	device  *device
	os      string
	browser string
	tier    string
	segment string
	source  string // the referrer that brought the reader
	start   int64  // Unix seconds
	last    int64  // of the newest event
	left    int    // counted events still to come
	events  int    // made so far
	viewed  []string
	article string
	title   string

	huge    bool    // see Faults.Huge
	person  bool    // see Faults.Private
	lie     lie     // see Faults.Keys
	held    *Record // to be swapped with the next record
	pending int     // records in the queue
	ended   bool
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func uuid(r *rand.Rand) string {
	hi, lo := r.Uint64(), r.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(0xc<<60) | 0x8<<60
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
}

// newSession draws a session. What belongs to a user (country, tier, segment) is the same in all sessions of the user
// with a brand.
func newSession(r *rand.Rand, seed uint64, users int, mean float64, now int64) *session {
	s := &session{id: uuid(r), user: uint64(r.IntN(users) + 1), brand: &brands[r.IntN(len(brands))], start: now,
		last: now}
	s.logins = []login{{value: strconv.FormatUint(s.user, 10)}}
	u := rand.New(rand.NewPCG(seed, s.user))
	s.country = pick(u, s.brand.countries)
	s.city = pick(u, countries[s.country].cities)
	s.tier, s.segment = pick(u, tiers), pick(u, segments)
	s.device = &devices[pick(r, deviceOf)]
	s.os, s.browser = pick(r, s.device.os), pick(r, s.device.browsers)
	s.source = pick(r, referrers)
	s.left = 1
	if mean > 1 { // geometric, at most 20 times the mean
		s.left += min(int(math.Log(1-r.Float64())/math.Log(1-1/mean)), int(20*mean))
	}
	s.newArticle(r)
	return s
}

func (s *session) newArticle(r *rand.Rand) (category string) {
	category = pick(r, s.brand.categories)
	s.article = fmt.Sprintf("%s_%d_%d", s.brand.name, 1000+r.IntN(9000), s.start)
	s.title = "News Article"
	if t := titles[category]; t != nil && r.IntN(2) == 0 {
		s.title = pick(r, t)
	}
	return category
}

func (s *session) referrer() string {
	if len(s.viewed) > 1 {
		return "internal"
	}
	return s.source
}

// field is one member of the event's object; value is JSON text.
type field struct{ name, value string }

// quote returns text as JSON.
func quote(text string) string {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			b, err := json.Marshal(text)
			if err != nil {
				panic(err) // a string always marshals
			}
			return string(b)
		}
	}
	return `"` + text + `"`
}

func object(fields []field) []byte {
	b := make([]byte, 0, 1152)
	b = append(b, '{')
	for i, f := range fields {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(append(append(append(b, '"'), f.name...), `": `...), f.value...)
	}
	return append(b, '}')
}

// event makes the session's next counted event at the given time.
func (s *session) event(r *rand.Rand, now int64, odd bool) []field {
	typ := typeOf[r.IntN(100)]
	category := pick(r, s.brand.categories)
	articleType := "unknown"
	url := "https://" + s.brand.name + ".com/" + category
	if typ == "article_view" || typ == "article_click" {
		category = s.newArticle(r)
		articleType = pick(r, s.brand.types)
		url = "https://" + s.brand.name + ".com/" + category + "/" + s.article
	}
	if typ == "article_view" {
		s.viewed = append(s.viewed, s.article)
	}
	duration := s.last - s.start
	s.last = max(s.last, now)
	s.events++
	fields := s.fields(uuid(r), typ, strconv.FormatInt(s.last, 10), category, s.article, s.title, articleType, url,
		s.referrer())
	metrics := s.metrics(r, typ)
	if s.huge {
		metrics = hugeMetrics(r, metrics)
	}
	fields = append(fields, field{"engagement_metrics", metrics},
		field{"metadata", s.metadata(r, typ, duration)})
	if odd {
		fields = s.odd(r, typ, fields)
	}
	if s.person {
		fields = s.private(r, fields)
	}
	return fields
}

func (s *session) fields(id, typ, timestamp, category, article, title, articleType, url, referrer string) []field {
	fields := append(make([]field, 0, 24),
		field{"event_id", quote(id)}, field{"user_id", s.userValue()}, field{"session_id", quote(s.id)},
		field{"event_type", quote(typ)}, field{"timestamp", timestamp}, field{"brand", quote(s.brand.name)},
		field{"category", quote(category)}, field{"article_id", quote(article)}, field{"article_title", quote(title)},
		field{"article_type", quote(articleType)}, field{"page_url", quote(url)}, field{"referrer", quote(referrer)},
		field{"device_type", quote(s.device.name)}, field{"device_os", quote(s.os)}, field{"browser", quote(s.browser)},
		field{"country", quote(s.country)}, field{"city", quote(s.city)}, field{"timezone",
			quote(countries[s.country].timezone)},
		field{"subscription_tier", quote(s.tier)}, field{"user_segment", quote(s.segment)})
	if s.userValue() == "" {
		fields = without(fields, "user_id")
	}
	return fields
}

func (s *session) metrics(r *rand.Rand, typ string) string {
	switch typ {
	case "article_view":
		return fmt.Sprintf(`{"scroll_depth": %d, "time_on_page": %d, "read_progress": %d, "is_article_complete": %t}`,
			r.IntN(101), 10+r.IntN(590), r.IntN(101), r.IntN(2) == 0)
	case "video_play":
		length := 60 + r.IntN(540)
		return fmt.Sprintf(
			`{"video_duration": %d, "playback_position": %d, "video_completed": %t, "playback_rate": %s}`,
			length, r.IntN(length+1), r.IntN(3) == 0, pick(r, rates))
	case "ad_click":
		return fmt.Sprintf(`{"ad_position": "%s", "ad_category": "%s", "ad_revenue": %s}`,
			pick(r, adPositions), pick(r, adCategories), strconv.FormatFloat(float64(10+r.IntN(491))/100, 'f', -1, 64))
	case "search":
		return fmt.Sprintf(`{"search_query": "%s", "results_count": %d, "clicked_result": %t}`, pick(r, queries),
			r.IntN(1000), r.IntN(2) == 0)
	}
	return "{}"
}

// hugeEvents is how many events more a huge session has. All of them together have some 120 KB of engagement_metrics,
// which is more than a session's image keeps.
const hugeEvents = 40

// hugeMetrics adds 2 to 4 KB to the metrics, and stays below the 4 KiB above which page events leave them out.
func hugeMetrics(r *rand.Rand, metrics string) string {
	sep := ", "
	if metrics == "{}" {
		sep = ""
	}
	var b strings.Builder
	for n := 2000 + r.IntN(1700); b.Len() < n; {
		fmt.Fprintf(&b, "%016x", r.Uint64())
	}
	return strings.TrimSuffix(metrics, "}") + sep + `"trace": "` + b.String() + `"}`
}

func (s *session) metadata(r *rand.Rand, typ string, duration int64) string {
	d := s.device.name
	b := fmt.Appendf(make([]byte, 0, 400),
		`{"session_start_time": %d, "session_duration": %d, "articles_in_session": %d, "is_new_session": %t, `+
			`"user_agent": "%s/%d.0", "screen_resolution": "%s", "language": "%s", `+
			`"is_mobile": %t, "is_tablet": %t, "is_desktop": %t`,
		s.start, duration, len(s.viewed), s.referrer() != "internal", s.browser, 90+r.IntN(31), pick(r,
			s.device.resolutions),
		countries[s.country].language, d == "mobile", d == "tablet", d == "desktop")
	switch typ {
	case "newsletter_signup":
		b = fmt.Appendf(b, `, "newsletter_type": "%s", "email_provided": true`, pick(r, newsletters))
	case "subscription_prompt":
		b = fmt.Appendf(b, `, "prompt_type": "%s", "articles_viewed_before_prompt": %d`, pick(r, prompts),
			len(s.viewed))
	}
	return string(append(b, '}'))
}

// end makes the session_end.
func (s *session) end(r *rand.Rand, now int64) []field {
	s.last = max(s.last, now)
	s.ended = true
	fields := s.fields(uuid(r), "session_end", strconv.FormatInt(s.last, 10), "", "", "", "", "", s.source)
	viewed, exit := []byte("["), "unknown"
	for i, a := range s.viewed {
		if i > 0 {
			viewed = append(viewed, ", "...)
		}
		viewed = append(viewed, quote(a)...)
		exit = a
	}
	viewed = append(viewed, ']')
	return append(fields,
		field{"engagement_metrics",
			fmt.Sprintf(`{"total_session_duration": %d, "total_articles_viewed": %d, "total_events": %d}`,
				s.last-s.start, len(s.viewed), s.events)},
		field{"metadata",
			fmt.Sprintf(`{"session_summary": {"start_time": %d, "end_time": %d, "duration_seconds": %d, `+
				`"articles_viewed": %s, "brand": "%s", "exit_page": "%s"}}`,
				s.start, s.last, s.last-s.start, viewed, s.brand.name, exit)})
}

// private adds to the fields of an event what the rules are about.
func (s *session) private(r *rand.Rand, fields []field) []field {
	reader := fmt.Sprintf(
		`{"email":"%s-%d@example.com","note":["%s",{"x":"%s"}],"ip":"192.0.2.%d","seen":%q,"kept":%d}`,
		Planted, s.user, Planted, Planted, 1+r.IntN(254), time.Unix(s.start, 0).UTC().Format(time.RFC3339), s.events)
	if m := get(fields, "metadata"); strings.HasPrefix(m, "{") && len(m) > 2 {
		// twice, one of them by an escape: every occurrence of a name is meant
		set(fields, "metadata", fmt.Sprintf(`{"%s":"%s","\u0073%s":"%s",%s`, PrivateField, Planted, PrivateField[1:],
			Planted, m[1:]))
	}
	return append(fields, field{PrivateField, reader})
}
