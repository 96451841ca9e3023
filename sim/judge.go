package sim

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

var knownFields = func() map[string]bool {
	m := map[string]bool{"event_id": true, "session_id": true, "user_id": true, "event_type": true, "timestamp": true,
		"engagement_metrics": true, "metadata": true}
	for _, f := range textFields {
		m[f] = true
	}
	return m
}()

// observed is an accepted record as the naive judge reads it.
type observed struct {
	partition int32
	offset    int64
	kafkaTime int64 // Unix milliseconds
	id        string
	session   string
	user      uint64 // 0 if nobody knows who it was
	userKey   string // of a user who is known by a text
	typ       string
	timestamp int64
	text      map[string]string
	metrics   any  // map[string]any or nil
	long      bool // the metrics are too long for page_events
	metadata  any
	extra     map[string]any
}

// tooOld is where the simulator's late records (minutes) and too-late ones (12 h and more) are told apart. The
// retention lies between the two.
const tooOld = 9 * time.Hour

// judge reads a record by the rules of docs/schema.md: the event, or the reason why it is a dead letter. It does not
// know the session, so it never returns session_full. Of an event it has what the rules about personal data leave; what
// decides about the record as a whole is judged by the values as they came.
func judge(value []byte, kafkaMillis int64, rules *PrivateRules) (*observed, string) {
	if len(value) > 1<<20 {
		return nil, "too_large"
	}
	if !utf8.Valid(value) {
		return nil, "malformed"
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil || m == nil {
		return nil, "malformed"
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, "malformed"
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(value, &raw); err != nil {
		return nil, "malformed"
	}
	if v := m[BotField]; v == true || v == "true" {
		return nil, excluded
	}
	for name, v := range m {
		if v == nil || v == "" {
			delete(m, name) // missing, null and "" are the same
		}
	}
	o := &observed{kafkaTime: kafkaMillis, text: map[string]string{}}
	for name, v := range m {
		ok := true
		switch name {
		case "event_id":
			o.id, ok = v.(string)
			if uuidForm.MatchString(o.id) {
				o.id = strings.ToLower(o.id)
			}
		case "session_id":
			o.session, ok = v.(string)
			ok = ok && len(o.session) <= 255
		case "user_id":
			o.user, o.userKey, ok = reader(v)
		case "timestamp":
			o.timestamp, ok = instant(v)
		case "event_type":
			o.typ, ok = v.(string)
		case "engagement_metrics":
			o.metrics, o.long = readable(v), len(raw[name]) > longMetrics
			_, ok = v.(map[string]any)
		case "metadata":
			o.metadata = readable(v)
			_, ok = v.(map[string]any)
		default:
			if knownFields[name] {
				o.text[name], ok = v.(string)
			}
		}
		if !ok {
			return nil, "wrong_type"
		}
	}
	for _, name := range []string{"event_id", "session_id", "event_type", "timestamp"} {
		if m[name] == nil {
			return nil, "missing_field"
		}
	}
	if !isType(o.typ) { // it counts, by a name that is cut between two characters
		for len(o.typ) > 64 {
			_, n := utf8.DecodeLastRuneInString(o.typ)
			o.typ = o.typ[:len(o.typ)-n]
		}
	}
	if o.timestamp < year2000 || o.timestamp > year2106 || told(kafkaMillis) && o.timestamp > kafkaMillis/1000+3600 {
		return nil, "bad_timestamp"
	}
	rules.protect(m)
	for name := range o.text {
		o.text[name], _ = m[name].(string)
	}
	for name, v := range m {
		if !knownFields[name] {
			if o.extra == nil {
				o.extra = map[string]any{}
			}
			o.extra[name] = readable(v)
		}
	}
	return o, ""
}

// excluded stands where a reason stands: the record is left out.
const excluded = "excluded"

// BotField is the field by which records are left out, if it is true. The cluster must have the rule.
const BotField = "is_bot"

// longMetrics are the bytes of engagement_metrics that page_events shows.
const longMetrics = 4096

const year2000, year2106 = 946684800, 4294967295

// told says whether a record's Kafka time says anything.
func told(millis int64) bool { return millis >= year2000*1000 && millis/1000 <= year2106 }

// isType says whether a type of events has a column, or ends a session.
func isType(typ string) bool {
	return typ == "session_end" || typ != otherType && slices.Contains(CountedTypes, typ)
}

// CountedAs is the type of CountedTypes as which an event of a type counts, or session_end.
func CountedAs(typ string) string {
	if isType(typ) {
		return typ
	}
	return otherType
}

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

var plainNumber = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// reader reads a user_id: a number, a number in a text, or another text, which is known by a hash of 63 bits below a 1.
func reader(v any) (id uint64, key string, ok bool) {
	text, isText := v.(string)
	if n, isNumber := v.(json.Number); isNumber {
		text = string(n)
	} else if !isText {
		return 0, "", false
	}
	if plainNumber.MatchString(text) {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return uint64(n), "", true
		}
	}
	return xxhash.Sum64String(text) | 1<<63, text, isText && len(text) <= 255
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// instant reads a time: seconds, milliseconds, microseconds or nanoseconds by their size, as a number or a text, or a
// time of RFC 3339. What is no time at all is -1.
func instant(v any) (seconds int64, ok bool) {
	text, isText := v.(string)
	if n, isNumber := v.(json.Number); isNumber {
		text = string(n)
	} else if !isText {
		return 0, false
	}
	if !jsonNumber.MatchString(text) {
		t, err := time.Parse(time.RFC3339, text)
		return t.Unix(), err == nil
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok || r.Sign() < 0 {
		return -1, true
	}
	n := new(big.Int).Quo(r.Num(), r.Denom())
	for unit, from := int64(1e9), int64(1e17); unit > 1; unit, from = unit/1000, from/1000 {
		if n.Cmp(big.NewInt(from)) >= 0 {
			n.Quo(n, big.NewInt(unit))
			break
		}
	}
	if !n.IsInt64() {
		return -1, true
	}
	return n.Int64(), true
}

// readable is the value in the form in which all readers take it for the same: integers that a float64 does not hold,
// numbers beyond all float64s and those of more than 1,000 characters are texts, and a negative integer 0 has no sign.
func readable(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = readable(v[name])
		}
	case []any:
		for i := range v {
			v[i] = readable(v[i])
		}
	case json.Number:
		if v == "-0" {
			return json.Number("0")
		}
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil || len(v) > 1000 || !strings.ContainsAny(string(v), ".eE") && math.Abs(f) > 1<<53-1 {
			return string(v)
		}
	}
	return v
}

// says tells whether a field of engagement_metrics is true, or 1.
func (o *observed) says(name string) bool {
	m, _ := o.metrics.(map[string]any)
	return m[name] == true || m[name] == "true" || o.metric(name, 2) == 1
}

// metric returns the number called name of the event's engagement_metrics, limited to 0…limit; 0 if it is no number.
func (o *observed) metric(name string, limit float64) float64 {
	m, _ := o.metrics.(map[string]any)
	text, isText := m[name].(string)
	if n, isNumber := m[name].(json.Number); isNumber {
		text = string(n)
	} else if !isText || !jsonNumber.MatchString(text) {
		return 0
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0
	}
	return max(0, min(f, limit))
}
