package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// oracle is a naive implementation of Decode over encoding/json, for comparison: it returns the reason, the field to
// blame for wrong_type and missing_field or the exclude rule, and the event.
func oracle(value []byte, kafkaTimestampMillis int64, rules *Rules) (Reason, string, Event) {
	var ev Event
	if rules == nil {
		rules = &Rules{}
	}
	real := rules.Forms == 1
	if len(value) > 1<<20 {
		return TooLarge, "", ev
	}
	if !utf8.Valid(value) || !json.Valid(value) || nesting(value) > 64 || halfSurrogate(value) {
		return Malformed, "", ev
	}
	members, ok := membersOf(value)
	if !ok || real && longestName(value) > 50_000 {
		return Malformed, "", ev
	}
	values := map[string]json.RawMessage{}
	var extra []string
	for _, m := range members {
		if !slices.Contains(schema, m.name) {
			extra = append(extra, m.rawName+":"+string(m.value))
			continue
		}
		if _, twice := values[m.name]; twice {
			return Malformed, "", ev
		}
		values[m.name] = m.value
	}
	for _, x := range rules.Exclude {
		if oracleExcludes(&x, value) {
			return Excluded, x.Name, ev
		}
	}
	none := func(name string) bool {
		v, ok := values[name]
		return !ok || string(v) == "null" || string(v) == `""`
	}
	for _, name := range schema { // wrong_type
		if !none(name) && !oracleType(name, values[name], real) {
			return WrongType, name, ev
		}
	}
	for _, name := range schema[:5] { // missing_field
		if none(name) && !(real && name == "user_id") {
			return MissingField, name, ev
		}
	}
	text := func(name string) (s string) {
		if !none(name) {
			if err := json.Unmarshal(values[name], &s); err != nil {
				panic(err)
			}
		}
		return s
	}
	raw := func(name string) string {
		if none(name) {
			return ""
		}
		return string(values[name])
	}
	if ev.Type, _ = ParseType(text("event_type")); !ev.Type.Valid() {
		switch rules.UnknownTypes {
		case "count":
			ev.Type, ev.TypeName = Other, text("event_type")
			for len(ev.TypeName) > 64 {
				_, n := utf8.DecodeLastRuneInString(ev.TypeName)
				ev.TypeName = ev.TypeName[:len(ev.TypeName)-n]
			}
		case "skip":
			return Excluded, "", ev
		default:
			return UnknownEventType, "event_type", ev
		}
	}
	latest := kafkaTimestampMillis/1000 + 3600
	if real && (kafkaTimestampMillis < 946684800_000 || kafkaTimestampMillis >= 1<<32*1000) {
		latest = 1 << 32
	}
	stamp, ok := oracleTime(values["timestamp"], real)
	if !ok || stamp < 946684800 || stamp > latest || stamp >= 1<<32 {
		return BadTimestamp, "timestamp", ev
	}
	ev.Timestamp = stamp
	if id := text("event_id"); uuidPattern.MatchString(id) {
		hex := new(big.Int)
		hex.SetString(strings.ReplaceAll(id, "-", ""), 16)
		hex.FillBytes(ev.ID[:])
	} else {
		sum := sha256.Sum256([]byte(id))
		copy(ev.ID[:], sum[:])
		ev.EventID = id
	}
	ev.SessionID = text("session_id")
	if user := string(values["user_id"]); strings.HasPrefix(user, `"`) {
		ev.UserID, ev.UserKey = oracleUser(text("user_id"))
	} else if !none("user_id") {
		ev.UserID, _ = strconv.ParseUint(user, 10, 64)
	}
	for name, p := range map[string]*string{
		"brand": &ev.Brand, "category": &ev.Category, "article_id": &ev.ArticleID, "article_title": &ev.ArticleTitle,
		"article_type": &ev.ArticleType, "page_url": &ev.PageURL, "referrer": &ev.Referrer,
		"device_type": &ev.DeviceType, "device_os": &ev.DeviceOS, "browser": &ev.Browser, "country": &ev.Country,
		"city": &ev.City, "timezone": &ev.Timezone, "subscription_tier": &ev.SubscriptionTier,
		"user_segment": &ev.UserSegment,
	} {
		*p = text(name)
	}
	ev.EngagementMetrics, ev.Metadata = raw("engagement_metrics"), raw("metadata")
	if len(extra) > 0 {
		ev.Extra = "{" + strings.Join(extra, ",") + "}"
	}
	metric := func(name string) (value string) { // a text as such, anything else as it stands
		if ev.EngagementMetrics == "" {
			return ""
		}
		members, _ := membersOf([]byte(raw("engagement_metrics")))
		for _, m := range members {
			if m.name == name {
				value = string(m.value)
				if real && json.Unmarshal(m.value, &value) != nil {
					value = string(m.value)
				}
			}
		}
		return value
	}
	number := func(name string) (f float64) {
		if v := metric(name); jsonNumber.MatchString(v) {
			f, _ = strconv.ParseFloat(v, 64)
		}
		return math.Max(f, 0)
	}
	if real {
		for _, p := range []*string{&ev.EngagementMetrics, &ev.Metadata, &ev.Extra} {
			*p = oracleNormal(*p)
		}
		ev.MetricsOmitted = rules.MaxMetricsBytes > 0 && len(ev.EngagementMetrics) > int(rules.MaxMetricsBytes)
		if ev.Type == ArticleView {
			ev.Progress = uint8(math.Trunc(math.Min(number("read_progress"), 100)))
			ev.Complete = metric("is_article_complete") == "true" || number("is_article_complete") == 1
		}
	}
	switch ev.Type {
	case ArticleView:
		ev.Measure = uint64(math.Trunc(math.Min(number("time_on_page"), 1e9)))
		ev.Scroll = uint8(math.Trunc(math.Min(number("scroll_depth"), 100)))
	case VideoPlay:
		ev.Measure = uint64(math.Trunc(math.Min(number("playback_position"), 1e9)))
	case AdClick:
		ev.Measure = uint64(math.Round(math.Min(number("ad_revenue"), 1e6) * 1e6))
	}
	return ReasonNone, "", ev
}

var schema = []string{
	"event_id", "session_id", "user_id", "event_type", "timestamp", "brand", "category", "article_id", "article_title",
	"article_type", "page_url", "referrer", "device_type", "device_os", "browser", "country", "city", "timezone",
	"subscription_tier", "user_segment", "engagement_metrics", "metadata",
}

var (
	uuidPattern    = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	integerPattern = regexp.MustCompile(`^-?[0-9]+$`)
	numberPattern  = regexp.MustCompile(`^-?[0-9]`)
)

func oracleType(name string, v json.RawMessage, real bool) bool {
	var s string
	isText := json.Unmarshal(v, &s) == nil
	if real {
		switch name {
		case "user_id":
			if isText {
				return len(s) <= 255
			}
		case "timestamp":
			_, isTime := oracleRFC3339(s)
			return numberPattern.Match(v) || isText && (isTime || jsonNumber.MatchString(s))
		case "event_id":
			return isText
		case "session_id":
			return isText && len(s) <= 255
		}
	}
	switch name {
	case "user_id":
		n, ok := new(big.Int).SetString(string(v), 10)
		return integerPattern.Match(v) && ok && v[0] != '-' && n.IsInt64()
	case "timestamp":
		return integerPattern.Match(v)
	case "engagement_metrics", "metadata":
		return v[0] == '{'
	case "event_id":
		return isText && uuidPattern.MatchString(s)
	case "session_id":
		return isText && len(s) <= 64
	}
	return isText
}

type member struct {
	name, rawName string
	value         json.RawMessage
}

// membersOf lists the members of a valid JSON object; false for any other JSON.
func membersOf(value []byte) (members []member, ok bool) {
	d := json.NewDecoder(bytes.NewReader(value))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		from := d.InputOffset()
		name, err := d.Token()
		if err != nil {
			panic(err)
		}
		m := member{name: name.(string), rawName: strings.Trim(string(value[from:d.InputOffset()]), " \t\r\n,")}
		if err := d.Decode(&m.value); err != nil {
			panic(err)
		}
		members = append(members, m)
	}
	return members, true
}

// longestName is the length of the longest name in valid JSON, as it is written.
func longestName(value []byte) (n int) {
	for _, text := range textOrColon.FindAllSubmatch(value, -1) {
		if len(text[2]) > 0 {
			n = max(n, len(text[1])-2)
		}
	}
	return n
}

// textOrColon finds the texts of valid JSON, each with the colon behind it if it is a name.
var textOrColon = regexp.MustCompile(`("(?:[^"\\]|\\.)*")[ \t\r\n]*(:?)`)

// nesting is the depth of valid JSON.
func nesting(value []byte) (deepest int) {
	depth, inText := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case !inText && (c == '{' || c == '['):
			depth++
			deepest = max(deepest, depth)
		case !inText && (c == '}' || c == ']'):
			depth--
		}
	}
	return deepest
}

// halfSurrogate says that valid JSON escapes half a surrogate pair: encoding/json decodes it to U+FFFD, which then
// occurs more often than it was written.
func halfSurrogate(value []byte) bool {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	decoded := 0
	for {
		t, err := d.Token()
		if err != nil {
			break
		}
		if s, ok := t.(string); ok {
			decoded += strings.Count(s, "\ufffd")
		}
	}
	escapes := strings.ToLower(strings.ReplaceAll(string(value), `\\`, ""))
	return decoded > strings.Count(escapes, "\ufffd")+strings.Count(escapes, `\ufffd`)
}

// checkDecode compares Decode with the oracle, by the rules of the decoder.
func checkDecode(t *testing.T, used *Decoder, value []byte, kafka int64) {
	t.Helper()
	before := slices.Clone(value)
	wantReason, wantField, want := oracle(value, kafka, used.Rules)
	for _, d := range []*Decoder{{Rules: used.Rules}, used} {
		got := Event{Extra: "of the record before", Measure: 1}
		reason, detail := d.Decode(value, kafka, &got)
		if reason != wantReason {
			t.Fatalf("%s %s, want %s %s: %q", reason, detail, wantReason, wantField, value)
		}
		if reason == ReasonNone && got != want {
			t.Fatalf("%q:\n got %+v\nwant %+v", value, got, want)
		}
		if clone := got.clone(); reason == ReasonNone && clone != got {
			t.Fatalf("clone %+v\n   of %+v", clone, got)
		}
		if (detail == "") != (reason == ReasonNone) || len(detail) > MaxDetail || !utf8.ValidString(detail) ||
			wantField != "" && reason != Excluded && !strings.HasPrefix(detail, wantField+": ") ||
			wantField != "" && reason == Excluded && detail != wantField {
			t.Fatalf("detail %q of %s, want field %q: %q", detail, reason, wantField, value)
		}
	}
	if !bytes.Equal(value, before) {
		t.Fatalf("the record was changed: %q, was %q", value, before)
	}
	used.Reset()
}

// oracleRules are the rules that records are compared under: those of v0.1.0, the default ones, and others.
func oracleRules() []*Rules {
	standard := DefaultRules()
	excluding := Rules{Forms: FormsReal, UnknownTypes: SkipUnknown, MaxMetricsBytes: 60, Exclude: []Exclude{
		{Name: "own", Field: "user_id", Equal: []string{"27", "7", "null"}},
		{Name: "host", Field: "page_url", Hosts: []string{"Welt.com"}},
		{Name: "agent", Field: "metadata.user_agent", Suffix: []string{"/97.0", "bot"}},
		{Name: "wide", Field: "metadata.is_tablet", Equal: []string{"true"}},
		{Name: "net", Field: "x", Networks: []string{"10.0.0.0/8", "fe80::/10"}},
	}}
	first := Rules{Exclude: []Exclude{{Name: "brand", Field: "brand", Equal: []string{"bild"}}}}
	return []*Rules{nil, &standard, &excluding, &first}
}

func TestDecodeSample(t *testing.T) {
	for _, rules := range oracleRules() {
		d := Decoder{Rules: rules}
		for _, r := range sample(t) {
			checkDecode(t, &d, r, sampleKafkaTimestamp)
		}
	}
}

// TestDecodeMutations plants one to three random changes at a time in records of the sample.
func TestDecodeMutations(t *testing.T) {
	records := sample(t)
	rng := newRand(t)
	decoders := []*Decoder{}
	for _, rules := range oracleRules() {
		decoders = append(decoders, &Decoder{Rules: rules})
	}
	seen := map[Reason]int{}
	pieces := []string{
		`"`, `\`, `\u`, `\ud83d`, `\ude00`, `\n`, ",", ":", "{", "}", "[", "]", "0", "-", ".", "e", "null", "true",
		`""`, " ", "\x00", "\xff", "\xc3", "\xa9", "é", "\ufffd", "\n", "1e999", `"brand":`, `"brand":1,`,
		`"x":{},`, "99999999999999999999", `"x":"10.1.2.3",`, `"x.y":-0,`, `"2026-11-22T14:17:49.5Z"`, "1e400", `"27"`,
		`"ab"`, "1795357069.25", "1795357069123456", "e9", `"x":9007199254740993,`, `"scroll_depth":"41.5",`,
	}
	for range 10_000 {
		r := slices.Clone(records[rng.IntN(len(records))])
		for range 1 + rng.IntN(3) {
			from := rng.IntN(len(r))
			to := min(len(r), from+rng.IntN(6))
			r = slices.Replace(r, from, to, []byte(pieces[rng.IntN(len(pieces))])...)
		}
		if rng.IntN(50) == 0 { // the other changes rarely make another well-formed timestamp
			if at := bytes.Index(r, []byte(`"timestamp": `)); at >= 0 && at+13 < len(r) {
				r[at+13] = byte('1' + rng.IntN(9))
			}
		}
		d := decoders[rng.IntN(len(decoders))]
		kafka := []int64{sampleKafkaTimestamp, sampleKafkaTimestamp, -1, 0, math.MinInt64, math.MaxInt64}[rng.IntN(6)]
		checkDecode(t, d, r, kafka)
		reason, _ := d.Decode(r, kafka, new(Event))
		seen[reason]++
	}
	for _, reason := range []Reason{
		ReasonNone, Malformed, WrongType, MissingField, UnknownEventType, BadTimestamp, Excluded,
	} {
		if seen[reason] == 0 {
			t.Errorf("no mutation was %s: %v", reason, seen)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for i, r := range sample(f) {
		if i%40 == 0 {
			f.Add(r, int64(sampleKafkaTimestamp))
		}
	}
	for _, r := range []string{
		`{<valid>,"x":[{"a":null},1.5e-3,"\ud83d\ude00"],"br\u0061nd":"é"}`, `{<valid>,"user_id":1}`, `{"user_id":-0}`,
		`{<event_id>,<session_id>,<user_id>,"event_type":"article_view","timestamp":1795357069000,` +
			`"engagement_metrics":{"scroll_depth":1e2,"time_on_page":81.5,"time_on_page":"x"}}`,
		`{<event_id>,<session_id>,<user_id>,"event_type":"ad_click",<timestamp>,` +
			`"engagement_metrics":{"ad_revenue":2.31}}`,
		`{"event_id":"01J","session_id":"s","user_id":"x","event_type":"play",` +
			`"timestamp":"2026-11-22T14:17:49+01:00",` +
			`"metadata":{"a":9007199254740993,"\u0061":[{"b":1e999}]},"x":1,"x":2}`,
		`{"event_id":"1","session_id":"s","event_type":"search","timestamp":"1795357069.5","x":"10.2.3.4"}`,
		"{<valid>}\x00", `{<valid>,"city":"\udc00"}`, "",
	} {
		f.Add([]byte(fillIn(f, r)), int64(1_795_357_100_000))
	}
	var decoders []*Decoder
	for _, rules := range oracleRules() {
		decoders = append(decoders, &Decoder{Rules: rules})
	}
	f.Fuzz(func(t *testing.T, value []byte, kafka int64) {
		for _, d := range decoders {
			checkDecode(t, d, value, kafka)
		}
	})
}
