package sim

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// odd makes a legal event strange, in one way.
func (s *session) odd(r *rand.Rand, typ string, fields []field) []field {
	number := pick(r, []string{"12.75", "-5", `"12"`, "null", "true", "1e15", "[1, 2]", "0.25", "2.5e1"})
	ts, _ := strconv.ParseInt(get(fields, "timestamp"), 10, 64)
	switch r.IntN(17) {
	case 0:
		switch typ {
		case "article_view":
			set(fields, "engagement_metrics", `{"scroll_depth": `+pick(r, []string{"150", "-3", `"80"`,
				"null"})+`, "time_on_page": `+number+`}`)
		case "video_play":
			set(fields, "engagement_metrics",
				`{"playback_position": `+number+`, "tracks": [{"lang": "de"}, {"lang": null}]}`)
		case "ad_click":
			set(fields, "engagement_metrics", `{"ad_revenue": `+pick(r, []string{"0.1234567", "-1", `"2.5"`, "1e9",
				"0.000001", "7"})+`}`)
		default:
			set(fields, "engagement_metrics", `{"nested": {"a": [1, 2.50, "x", null, true], "b": {}}}`)
		}
	case 1: // milliseconds
		set(fields, "timestamp", strconv.FormatInt(ts*1000+int64(r.IntN(1000)), 10))
	case 2:
		fields = append(fields, field{"ab_test", `{"variant": "b", "bucket": ` + strconv.Itoa(r.IntN(100)) + `}`},
			field{"app_version", `"4.2.0"`})
	case 3:
		set(fields, pick(r, []string{"category", "article_id", "article_title", "referrer", "user_segment"}), "null")
	case 4:
		set(fields, pick(r, []string{"category", "article_id", "article_title", "city"}), `""`)
	case 5:
		fields = without(fields, pick(r, []string{"metadata", "engagement_metrics", "article_id", "browser"}))
	case 6:
		set(fields, "article_title", `"\u00dcbersicht: \"Z\u00fcrich\" \ud83d\ude00 <b>& mehr</b>"`)
	case 7, 8: // a type of the publisher's own
		set(fields, "event_type", pick(r, []string{`"page_scroll"`, `"logout"`, `"ARTICLE_VIEW"`, `"other"`,
			`"podcast \"play\""`, quote(strings.Repeat("längst", 9))}))
	case 9, 10:
		set(fields, "event_id", quote(ulid(r)))
	case 11: // microseconds or nanoseconds
		set(fields, "timestamp", strconv.FormatInt(ts, 10)+pick(r, []string{"123456", "123456789"}))
	case 12: // fractions, exponents and texts
		set(fields, "timestamp", pick(r, []string{strconv.FormatInt(ts, 10) + ".75",
			quote(strconv.FormatInt(ts, 10)), strconv.FormatInt(ts, 10) + "999e-3"}))
	case 13:
		at := time.Unix(ts, 0).UTC()
		set(fields, "timestamp", quote(pick(r, []string{at.Format(time.RFC3339), at.Format("2006-01-02T15:04:05.000Z"),
			at.In(time.FixedZone("", 5400)).Format(time.RFC3339)})))
	case 14: // numbers in texts
		if typ == "article_view" {
			set(fields, "engagement_metrics", `{"scroll_depth": "31", "time_on_page": "2.31e1", `+
				`"read_progress": "64.5", "is_article_complete": `+
				pick(r, []string{`"true"`, "1", `"1"`, `"yes"`, "0"})+`}`)
		}
	case 15: // longer than page_events shows
		set(fields, "engagement_metrics", `{"time_on_page": 12, "ad_revenue": 0.5, "scroll_depth": 7, "trace": "`+
			strings.Repeat("xyz ", 1500)+`"}`)
	case 16: // numbers that readers hold differently, and a name that stands twice
		set(fields, "metadata", `{"big": 9007199254740993, "deep": {"huge": 1e400, "id": `+
			`[12345678901234567890, 0.1]}, "twice": 1, "twice": {"a": 2}}`)
	}
	return fields
}

func set(fields []field, name, value string) {
	for i := range fields {
		if fields[i].name == name {
			fields[i].value = value
		}
	}
}

func get(fields []field, name string) string {
	for _, f := range fields {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

func without(fields []field, name string) []field {
	out := fields[:0]
	for _, f := range fields {
		if f.name != name {
			out = append(out, f)
		}
	}
	return out
}

const oversize = 1<<20 + 1<<16

// malformed makes a record that a decoder must refuse, and says for which reason.
func malformed(r *rand.Rand, s *session, now int64) (value []byte, reason string) {
	// The changes are made to a copy, so that the session goes on as if nothing had happened.
	c := *s
	c.viewed = append([]string(nil), s.viewed...)
	fields := c.event(r, now, false)
	switch n := r.IntN(200); {
	case n == 0:
		set(fields, "metadata", `{"padding": "`+strings.Repeat("x", oversize)+`"}`)
		return object(fields), "too_large"
	case n < 20:
		v := object(fields)
		return v[:1+r.IntN(len(v)-2)], "malformed" // cut off
	case n < 30:
		return []byte(pick(r, []string{"not json", "{", `{"event_id" "x"}`, "<event/>"})), "malformed"
	case n < 40:
		// not UTF-8
		return bytes.Replace(object(fields), []byte(`"https://`), []byte("\"http\xff\xfe://"), 1), "malformed"
	case n < 70:
		set(fields, "user_id", pick(r, []string{"-5", "1.5", "[7]", "true", quote(strings.Repeat("u", 256))}))
		if get(fields, "user_id") == "" { // an unknown reader's may have none
			fields = append(fields, field{"user_id", "-5"})
		}
		return object(fields), "wrong_type"
	case n < 90:
		set(fields, pick(r, []string{"brand", "category", "page_url", "city"}),
			pick(r, []string{"5", "true", `["x"]`, `{"a": 1}`}))
		return object(fields), "wrong_type"
	case n < 100:
		set(fields, pick(r, []string{"engagement_metrics", "metadata"}), pick(r, []string{"5", "[1]", "true"}))
		return object(fields), "wrong_type"
	case n < 140:
		required := pick(r, []string{"event_id", "session_id", "event_type", "timestamp"})
		return object(without(fields, required)), "missing_field"
	case n < 170:
		set(fields, "session_id", quote(strings.Repeat("s", 256)))
		return object(fields), "wrong_type"
	default:
		set(fields, "timestamp", pick(r, []string{
			"0", "-1", "915148800" /* 1999 */, strconv.FormatInt(now+2*86400, 10), strconv.FormatInt((now+7200)*1000,
				10)}))
		return object(fields), "bad_timestamp"
	}
}

// tooLate makes an event 12 to 48 hours old, of a session of its own or of a living one.
func tooLate(r *rand.Rand, s *session, now int64) []byte {
	c := *s
	c.viewed = append([]string(nil), s.viewed...)
	fields := c.event(r, now, false)
	if r.IntN(2) == 0 {
		set(fields, "session_id", quote(uuid(r)))
	}
	set(fields, "timestamp", strconv.FormatInt(now-12*3600-60-int64(r.IntN(36*3600)), 10))
	return object(fields)
}
