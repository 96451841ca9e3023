package event

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

var testKey = []byte("0123456789abcdef0123456789abcdef")

// hashOf is HashValue in the words of docs/schema.md.
func hashOf(field, value string) string {
	mac := hmac.New(sha256.New, testKey)
	fmt.Fprintf(mac, "%s\x00%s", field, value)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// private returns the rules with the id of the key of the tests.
func private(rules ...Privacy) *Rules {
	return &Rules{Forms: FormsReal, UnknownTypes: CountUnknown, Privacy: rules, PrivacyKey: KeyIDOf(testKey)}
}

// What each action makes of a value, wherever it stands. The record is what a letter would have.
func TestPrivacyActions(t *testing.T) {
	for _, c := range []struct {
		rule     Privacy
		in, want string
	}{
		{Privacy{"a", DropValue, ""}, `{"a":1,"b":2}`, `{"b":2}`},
		{Privacy{"a", DropValue, ""}, `{"b":2,"a":{"x":1}}`, `{"b":2}`},
		{Privacy{"a", DropValue, ""}, `{"a":1}`, `{}`},
		{Privacy{"a", DropValue, ""}, `{"a":1,"a":2,"b":3,"\u0061":4}`, `{"b":3}`},
		{Privacy{"a", DropValue, ""}, `{"aa":1,"A":2,"b":{"a":3}}`, `{"aa":1,"A":2,"b":{"a":3}}`},
		{Privacy{"a.b", DropValue, ""}, `{"a":{"b":1,"c":2},"a.b":3,"b":4}`, `{"a":{"c":2},"b":4}`},
		{Privacy{"a.b", DropValue, ""}, `{"a":[{"b":1},[{"b":2,"c":3}],"b"]}`, `{"a":[{},[{"c":3}],"b"]}`},
		{Privacy{"a.b.c", DropValue, ""}, `{"a.b":{"c":1},"a":{"b.c":2,"b":{"c":3,"d":4}}}`,
			`{"a.b":{},"a":{"b":{"d":4}}}`},
		{Privacy{"a.", DropValue, ""}, `{"a":{"":1,"x":2},"a.":3}`, `{"a":{"x":2}}`},
		{Privacy{"a", HashValue, ""}, `{"a":"x"}`, `{"a":"` + hashOf("a", "x") + `"}`},
		{Privacy{"a", HashValue, ""}, `{"a":"\u0078"}`, `{"a":"` + hashOf("a", "x") + `"}`},
		{Privacy{"a", HashValue, ""}, `{"a":-1.5}`, `{"a":"` + hashOf("a", "-1.5") + `"}`},
		{Privacy{"a", HashValue, ""}, `{"a":true}`, `{"a":"` + hashOf("a", "true") + `"}`},
		{Privacy{"a", HashValue, ""}, `{"a":null,"b":1}`, `{"a":null,"b":1}`},
		{Privacy{"a", HashValue, ""}, `{"a":""}`, `{"a":""}`},
		{Privacy{"a", HashValue, ""}, `{"a":{"x":1},"b":[]}`, `{"b":[]}`},
		{Privacy{"a", HashValue, ""}, `{"a":["x"]}`, `{}`},
		{Privacy{"user_id", HashValue, ""}, `{"user_id":27}`, `{"user_id":"` + hashOf("user_id", "27") + `"}`},
		{Privacy{"user_id", HashValue, ""}, `{"user_id":"0"}`, `{"user_id":"0"}`},
		{Privacy{"event_id", HashValue, ""}, `{"event_id":"DB3D32D7-986f-463a-b7db-92734198dd82"}`,
			`{"event_id":"` + hashOf("event_id", "db3d32d7-986f-463a-b7db-92734198dd82") + `"}`},
		{Privacy{"a", TruncateIP, ""}, `{"a":"192.0.2.77"}`, `{"a":"192.0.2.0"}`},
		{Privacy{"a", TruncateIP, ""}, `{"a":"192.0.2.77:4711"}`, `{"a":"192.0.2.0"}`},
		{Privacy{"a", TruncateIP, ""}, `{"a":"::ffff:192.0.2.77"}`, `{"a":"192.0.2.0"}`},
		{Privacy{"a", TruncateIP, ""}, `{"a":"2001:db8:1:2:3:4:5:6"}`, `{"a":"2001:db8:1::"}`},
		{Privacy{"a", TruncateIP, ""}, `{"a":"[2001:db8:1:2::6%eth0]:80"}`, `{"a":"2001:db8:1::"}`},
		// 6to4 has an address of IPv4 within the first 48 bits.
		{Privacy{"a", TruncateIP, ""}, `{"a":"2002:c000:24d:1::6"}`, `{"a":"2002:c000:200::"}`},
		{Privacy{"a", TruncateIP, ""}, `{"a":"64:ff9b::192.0.2.77"}`, `{"a":"64:ff9b::"}`},
		{Privacy{"a", TruncateIP, ""}, `{"a":"192.0.2.77, 192.0.2.78"}`, `{}`},
		{Privacy{"a", TruncateIP, ""}, `{"a":3221225985}`, `{}`},
		{Privacy{"a", GeneraliseTime, "hour"}, `{"a":"2026-11-29T13:14:15.5+01:00"}`, `{"a":"2026-11-29T12:00:00Z"}`},
		{Privacy{"a", GeneraliseTime, "day"}, `{"a":"2026-11-29T00:14:15+01:00"}`, `{"a":"2026-11-28T00:00:00Z"}`},
		{Privacy{"a", GeneraliseTime, "month"}, `{"a":"1985-04-12T10:00:00Z"}`, `{"a":"1985-04-01T00:00:00Z"}`},
		{Privacy{"a", GeneraliseTime, "month"}, `{"a":"0000-01-01T00:30:00+01:00"}`, `{}`},
		{Privacy{"a", GeneraliseTime, "hour"}, `{"a":1795357069}`, `{"a":1795356000}`},
		{Privacy{"a", GeneraliseTime, "hour"}, `{"a":"1795357069123"}`, `{"a":"1795356000000"}`},
		{Privacy{"a", GeneraliseTime, "day"}, `{"a":1.795357069123456e15}`, `{"a":1795305600000000}`},
		{Privacy{"a", GeneraliseTime, "day"}, `{"a":1795357069123456789}`, `{"a":1795305600000000000}`},
		{Privacy{"a", GeneraliseTime, "day"}, `{"a":0}`, `{"a":0}`},
		// 100,000,000,000 ms are in 1973, and cut to an hour they would be seconds.
		{Privacy{"a", GeneraliseTime, "hour"}, `{"a":100000000001}`, `{}`},
		{Privacy{"a", GeneraliseTime, "day"}, `{"a":-1}`, `{}`},
		{Privacy{"a", GeneraliseTime, "day"}, `{"a":"1985-04-12","b":"x"}`, `{"b":"x"}`},
	} {
		r := private(c.rule)
		if err := r.Check(); err != nil {
			t.Fatalf("%+v: %v", c.rule, err)
		}
		x := NewRedactor(r, testKey)
		got, how := x.Value([]byte(c.in))
		want := ShownByRules
		if c.in == c.want {
			want = ShownWhole
		}
		if string(got) != c.want || how != want {
			t.Errorf("%s %s of %s: %s (%s), want %s", c.rule.Action, c.rule.Field, c.in, got, how, c.want)
		}
	}
}

// Rules that would contradict each other, or let nothing be judged any more, are refused with the key that is wrong.
func TestPrivacyCheck(t *testing.T) {
	consent := func(c Consent) *Rules { r := private(); r.Consent = &c; return r }
	noKey := private(Privacy{"a", HashValue, ""})
	noKey.PrivacyKey = KeyID{}
	first := private(Privacy{"a", DropValue, ""})
	first.Forms, first.UnknownTypes = FormsFirst, ""
	many := make([]Privacy, MaxPrivacy+1)
	for i := range many {
		many[i] = Privacy{fmt.Sprint("f", i), DropValue, ""}
	}
	for _, c := range []struct {
		r    *Rules
		want string // "" for none
	}{
		{private(many[1:]...), ""},
		{private(many...), "privacy: 65 rules"},
		{private(Privacy{"", DropValue, ""}), "privacy[0]: field: 0 bytes"},
		{private(Privacy{strings.Repeat("x", 257), DropValue, ""}), "privacy[0]: field: 257 bytes"},
		{private(Privacy{"a", "mask", ""}), `privacy[0]: action: "mask"`},
		{private(Privacy{"timestamp", GeneraliseTime, "day"}), "nothing may be done to timestamp"},
		{private(Privacy{"event_type", HashValue, ""}), "nothing may be done to event_type"},
		{private(Privacy{"session_id", DropValue, ""}), "session_id is needed"},
		{private(Privacy{"event_id", DropValue, ""}), "event_id is needed"},
		{private(Privacy{"session_id", HashValue, ""}, Privacy{"event_id", HashValue, ""}), ""},
		{private(Privacy{"user_id", TruncateIP, ""}), "user_id may only be dropped or hashed"},
		{private(Privacy{"city", GeneraliseTime, "day"}), "city may only be"},
		{private(Privacy{"metadata", TruncateIP, ""}), "metadata may only be"},
		{private(Privacy{"metadata.ip", TruncateIP, ""}, Privacy{"seen", GeneraliseTime, "day"}), ""},
		{private(Privacy{"seen", GeneraliseTime, "year"}), `to: "year"`},
		{private(Privacy{"seen", DropValue, "day"}), "to: means nothing"},
		{private(Privacy{"a", DropValue, ""}, Privacy{"a", HashValue, ""}), `privacy[1]: field: "a" overlaps`},
		{private(Privacy{"a.b", DropValue, ""}, Privacy{"a", HashValue, ""}), `"a" overlaps with "a.b"`},
		{private(Privacy{"a", DropValue, ""}, Privacy{"a.b.c", HashValue, ""}), `"a.b.c" overlaps with "a"`},
		{private(Privacy{"a", DropValue, ""}, Privacy{"ab", HashValue, ""}), ""},
		{noKey, "privacy: hash needs a key"},
		{first, "need the forms of level 2"},
		{consent(Consent{"metadata.consent", []string{"granted"}, ""}), ""},
		{consent(Consent{"", []string{"granted"}, ""}), "consent: field"},
		{consent(Consent{"a", nil, ""}), "consent: equal: 0 values"},
		{consent(Consent{"a", []string{""}, ""}), "consent: equal: a value of 0 bytes"},
		{consent(Consent{"a", []string{"x"}, "ask"}), `consent: missing: "ask"`},
	} {
		err := c.r.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v, %+v: %v, want %q", c.r.Privacy, c.r.Consent, err, c.want)
		}
		if !c.r.Equals(c.r) {
			t.Errorf("%+v does not equal itself", c.r)
		}
		text, err := json.Marshal(c.r)
		var back Rules
		if err != nil || json.Unmarshal(text, &back) != nil || !back.Equals(c.r) && len(c.r.Privacy) < 65 {
			t.Errorf("%s is %+v when it is read again", text, back)
		}
	}
	if a, b := private(), consent(Consent{"a", []string{"x"}, ""}); a.Equals(b) || b.Equals(a) {
		t.Error("a rule of consent makes no difference")
	}
}

// A decoder that does not have the key must not go on: other hashes of the same reader would be another reader.
func TestAnotherKeyIsRefused(t *testing.T) {
	for _, key := range [][]byte{nil, []byte("another")} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q: records are read", key)
				}
			}()
			d := Decoder{Rules: private(Privacy{"user_id", HashValue, ""}), Key: key}
			var ev Event
			d.Decode([]byte(fillIn(t, `{<valid>}`)), sampleKafkaTimestamp, &ev)
		}()
	}
	d := Decoder{Rules: private(Privacy{"user_id", DropValue, ""})} // nothing hashes: no key is needed
	var ev Event
	if reason, detail := d.Decode([]byte(fillIn(t, `{<valid>}`)), sampleKafkaTimestamp, &ev); reason != ReasonNone {
		t.Error(reason, detail)
	}
}

// What a dropped metric would have added is not in the sums either, and an omitted name does not come back by another
// way. What decides about the record sees it as it came.
func TestPrivacyOfEvents(t *testing.T) {
	record := []byte(fillIn(t, `{<event_id>,"session_id":"s","user_id":27,"event_type":"article_view",<timestamp>,`+
		`"brand":"welt","city":"Berlin","metadata":{"ip":"192.0.2.77","ua":"x"},`+
		`"engagement_metrics":{"time_on_page":81,"scroll_depth":41},"email":"a@b.example","x":{"email":"c","y":1}}`))
	rules := private(Privacy{"engagement_metrics.time_on_page", DropValue, ""}, Privacy{"email", DropValue, ""},
		Privacy{"x.email", HashValue, ""}, Privacy{"metadata.ip", TruncateIP, ""}, Privacy{"city", DropValue, ""},
		Privacy{"user_id", HashValue, ""}, Privacy{"session_id", HashValue, ""}, Privacy{"brand", HashValue, ""},
		Privacy{"event_id", HashValue, ""})
	rules.Exclude = []Exclude{{Name: "office", Field: "metadata.ip", Equal: []string{"192.0.2.78"}}}
	if err := rules.Check(); err != nil {
		t.Fatal(err)
	}
	d := Decoder{Rules: rules, Key: testKey}
	var it Item
	if reason, detail := d.Decode(record, sampleKafkaTimestamp, &it.Event); reason != ReasonNone {
		t.Fatal(reason, detail)
	}
	user := hashOf("user_id", "27")
	eventID := hashOf("event_id", "db3d32d7-986f-463a-b7db-92734198dd82")
	want := Event{ID: HashID(eventID), EventID: eventID, SessionID: hashOf("session_id", "s"), UserKey: user,
		UserID: UserHash(user), Type: ArticleView, Timestamp: 1795357069, Brand: hashOf("brand", "welt"),
		Metadata: `{"ip":"192.0.2.0","ua":"x"}`, EngagementMetrics: `{"scroll_depth":41}`, Scroll: 41,
		Extra: `{"x":{"email":"` + hashOf("x.email", "c") + `","y":1}}`}
	if it.Event != want {
		t.Errorf("got  %+v\nwant %+v", it.Event, want)
	}
	for key, class := range map[string]KeyClass{"s": KeySession, "27": KeyOther, want.SessionID: KeyOther,
		"": KeyNone} {
		if d.SetKey(&it, []byte(key)); it.Key != class || it.Key == KeyOther && it.KeyHash == 0 {
			t.Errorf("key %q is %s", key, it.Key)
		}
	}
	excluded := bytes.Replace(record, []byte(".77"), []byte(".78"), 1)
	if reason, _ := d.Decode(excluded, sampleKafkaTimestamp, &it.Event); reason != Excluded {
		t.Errorf("exclude does not see the address as it came: %s", reason)
	}
	// A detail shows of a field under a rule what it is, even if details may quote.
	for f, value := range map[string]string{"user_id": `["secret"]`, "city": `["secret"]`, "metadata": `"secret"`} {
		bad := []byte(fillIn(t, `{<event_id>,<session_id>,<event_type>,<timestamp>,"`+f+`":`+value+`}`))
		reason, detail := d.Decode(bad, sampleKafkaTimestamp, &it.Event)
		if reason != WrongType || strings.Contains(detail, "secret") {
			t.Errorf("%s: %s, %s", f, reason, detail)
		}
	}
	if reason, detail := d.Decode([]byte("secret"), sampleKafkaTimestamp, &it.Event); reason != Malformed ||
		strings.Contains(detail, hex.EncodeToString([]byte("secret"))) {
		t.Errorf("%s: %s", reason, detail)
	}
	d.Reset()
	misfit := bytes.Replace(record, []byte("192.0.2.77"), []byte("localhost"), 1)
	if reason, _ := d.Decode(misfit, sampleKafkaTimestamp, &it.Event); reason != ReasonNone ||
		it.Metadata != `{"ua":"x"}` || !slices.Equal(d.Unfit(), []int64{0, 0, 0, 1, 0, 0, 0, 0, 0}) {
		t.Errorf("%s: %s, does not fit: %v", reason, it.Metadata, d.Unfit())
	}
	if d.Reset(); !slices.Equal(d.Unfit(), make([]int64, 9)) {
		t.Errorf("after Reset: %v", d.Unfit())
	}
}

// A hash is longer than most values. A record of a million of them must not become an entry of many times its size.
func TestHashesDoNotInflateRecords(t *testing.T) {
	values := strings.Repeat(`{"a":1},`, 30_000)
	record := []byte(fillIn(t, `{<valid>,"x":[`+values+`{}]}`))
	d := Decoder{Rules: private(Privacy{"x.a", HashValue, ""}), Key: testKey}
	var ev Event
	reason, detail := d.Decode(record, sampleKafkaTimestamp, &ev)
	if reason != TooLarge || !strings.Contains(detail, "of which the rules make 1230010") {
		t.Errorf("%d bytes: %s, %s", len(record), reason, detail)
	}
}

// A record without consent is left out and counted, before its faults: it makes no letter either.
func TestConsent(t *testing.T) {
	for _, c := range []struct {
		missing, record string
		left            bool
	}{
		{"", `{<valid>,"metadata":{"consent":"granted"}}`, false},
		{"", `{<valid>,"metadata":{"consent":"yes"}}`, false},
		{"", `{<valid>,"metadata":{"consent":"\u0079es"}}`, false},
		{"", `{<valid>,"metadata":{"consent":"denied"}}`, true},
		{"", `{<valid>,"metadata":{"consent":{"yes":true}}}`, true},
		{CountMissing, `{<valid>,"metadata":{"consent":["yes"]}}`, true},
		{CountMissing, `{<valid>,"metadata":{"consent":"denied"}}`, true},
		{CountMissing, `{<valid>,"metadata":{"consent":"yes","consent":"denied"}}`, true},
		{CountMissing, `{"metadata":{"consent":"denied"}}`, true},
		{CountMissing, `{<valid>,"metadata.consent":"denied"}`, true},
		{"", `{<valid>}`, true},
		{SuppressMissing, `{<valid>,"metadata":{"consent":null}}`, true},
		{SuppressMissing, `{<valid>,"metadata":{"consent":""}}`, true},
		{CountMissing, `{<valid>,"metadata":{"consent":null}}`, false},
		{CountMissing, `{<valid>,"metadata":{"consent":""}}`, false},
		{CountMissing, `{<valid>}`, false},
	} {
		r := private()
		r.Consent = &Consent{Field: "metadata.consent", Equal: []string{"granted", "yes"}, Missing: c.missing}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		d := Decoder{Rules: r}
		var ev Event
		reason, detail := d.Decode([]byte(fillIn(t, c.record)), sampleKafkaTimestamp, &ev)
		if left := reason == Excluded && detail == "consent"; left != c.left || !left && reason != ReasonNone ||
			d.Counts.Unconsented != map[bool]int64{true: 1}[left] {
			t.Errorf("%s, missing %q: %s %s, counted %d", c.record, c.missing, reason, detail, d.Counts.Unconsented)
		}
		if d.Reset(); d.Counts.Unconsented != 0 {
			t.Error("the count outlives Reset")
		}
	}
}
