package event

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a record.
const (
	// MaxRecord is the greatest length in bytes of a record's value; a longer one is TooLarge.
	MaxRecord = 1 << 20
	// MaxDepth is how deep objects and arrays may nest, the record itself included; a deeper record is Malformed.
	MaxDepth = 64
	// MaxSessionID is the greatest length in bytes of a session_id, with its escapes resolved; a longer one is
	// WrongType.
	MaxSessionID = 64
	// MaxDetail is the greatest length in bytes of a detail.
	MaxDetail = 256
)

const (
	minTimestamp    = 946684800 // 2000-01-01T00:00:00Z
	maxAhead        = 3600      // seconds past the record's Kafka timestamp
	maxTimestamp    = 1<<32 - 1 // 2106-02-07T06:28:15Z: the end of ClickHouse's DateTime
	firstMillis     = 1e11      // timestamps from here on are milliseconds
	maxDetailSample = 64        // bytes of a value that a detail shows
)

// Decoder turns the JSON form of events into Events. The zero value is ready for use. A Decoder is reused for many
// records, which makes it fast (it learns the order in which a producer writes its fields), and is not safe for
// concurrent use.
type Decoder struct {
	scanner
	arena arena
	// next is the field that followed each field in the last record, next[fieldExtra] the first one: producers write
	// their fields in one order. It is always a known field; before anything is learned, and for a field that a
	// producer adds, it is wrong, which costs one failed comparison.
	next [numFields + 1]field

	ev      *Event
	seen    uint32          // bit f: the record has field f
	filled  uint32          // bit f: field f has a value other than null and ""
	faults  uint32          // bit f: field f has a value of a wrong type
	spans   [numFields]span // the raw values of the fields in faults
	why     [numFields]string
	typeRaw span // of event_type's value
	stamp   span // of timestamp's value
	stampOK bool // the timestamp fits an int64
	metrics metricValues
	extra   []byte
}

type span struct{ from, to int }

// Reset frees the memory of the escaped texts and the Extra of all events decoded since the last Reset.
func (d *Decoder) Reset() { d.arena.reset() }

// Decode reads the record's value into ev, which it overwrites. It returns ReasonNone, or why the record cannot be used
// and a detail: valid UTF-8 of at most MaxDetail bytes that begins with the name of the field if one field is to blame;
// the content of ev is then undefined. kafkaTimestampMillis is the record's Kafka timestamp in Unix milliseconds. The
// caller handles records without a value (nil); here such a record would be malformed, like an empty one.
//
// Texts of ev point into value, so value must not change while they are in use, or into memory of the Decoder that
// stays valid until Reset (texts with escapes, and Extra). So the events of one batch are decoded, used and then
// dropped with one Reset; a caller that keeps an event longer must clone it.
func (d *Decoder) Decode(value []byte, kafkaTimestampMillis int64, ev *Event) (Reason, string) {
	if len(value) > MaxRecord {
		return TooLarge, "record of " + strconv.Itoa(len(value)) + " bytes, at most " +
			strconv.Itoa(MaxRecord) + " are read"
	}
	*ev = Event{}
	d.scanner = scanner{in: value}
	d.ev = ev
	d.seen, d.filled, d.faults = 0, 0, 0
	d.typeRaw, d.stamp, d.stampOK = span{}, span{}, false
	d.metrics = metricValues{}
	d.extra = d.extra[:0]
	f, ok := d.record()
	if !ok {
		return Malformed, d.malformed(f)
	}
	if len(d.extra) > 0 {
		d.extra = append(d.extra, '}')
		ev.Extra = d.arena.text(d.extra)
	}
	if reason, detail := d.judge(kafkaTimestampMillis); reason != ReasonNone {
		return reason, detail
	}
	ev.Measure, ev.Scroll = d.metrics.measures(ev.Type)
	return ReasonNone, ""
}

// record reads the whole record. If it fails inside the value of a field, f is that field.
func (d *Decoder) record() (f field, ok bool) {
	f = fieldExtra
	i := d.space(0)
	if i >= len(d.in) {
		d.fail(i, "empty record")
		return f, false
	}
	if d.in[i] != '{' {
		d.fail(i, "not a JSON object")
		return f, false
	}
	if i = d.space(i + 1); i < len(d.in) && d.in[i] == '}' {
		return f, d.end(i + 1)
	}
	previous := fieldExtra
	for {
		start, keyEnd := i, 0
		f = d.next[previous]
		if name := quotedNames[f]; len(d.in)-i > len(name) && string(d.in[i:i+len(name)]) == name {
			keyEnd = i + len(name)
			i = d.colon(keyEnd)
		} else if f, keyEnd, i = d.name(i); i >= 0 && f != fieldExtra {
			d.next[previous] = f
		}
		if i < 0 {
			return fieldExtra, false
		}
		if f == fieldExtra {
			end := d.value(i, 1)
			if end < 0 {
				return f, false
			}
			d.addExtra(d.in[start:keyEnd], d.in[i:end])
			i = end
		} else {
			previous = f
			if d.seen&(1<<f) != 0 {
				d.fail(start, "duplicate field")
				return f, false
			}
			d.seen |= 1 << f
			if i = d.field(f, i); i < 0 {
				return f, false
			}
		}
		i = d.space(i)
		if i < len(d.in) && d.in[i] == ',' {
			i = d.space(i + 1)
			continue
		}
		if i < len(d.in) && d.in[i] == '}' {
			return fieldExtra, d.end(i + 1)
		}
		d.syntax(i, "expected a comma or the end of the record")
		return fieldExtra, false
	}
}

// end checks that nothing follows the record.
func (d *Decoder) end(i int) bool {
	if i = d.space(i); i < len(d.in) {
		d.fail(i, "data after the record")
		return false
	}
	return true
}

// name reads a field's name and the colon behind it: the field, the end of the name with its quotes, the start of the
// value.
func (d *Decoder) name(i int) (f field, keyEnd, next int) {
	end, next, escaped := d.key(i)
	if next < 0 {
		return fieldExtra, end, next
	}
	raw := d.in[i+1 : end]
	if escaped {
		raw = append([]byte(nil), raw...)
		raw = raw[:unescape(raw, d.in[i+1:end])]
	}
	return fieldByName(alias(raw)), end + 1, next
}

func (d *Decoder) addExtra(key, value []byte) {
	if len(d.extra) == 0 {
		d.extra = append(d.extra, '{')
	} else {
		d.extra = append(d.extra, ',')
	}
	d.extra = append(append(append(d.extra, key...), ':'), value...)
}

// field reads the value of f at i.
func (d *Decoder) field(f field, i int) int {
	if i >= len(d.in) {
		return d.syntax(i, "")
	}
	c := d.in[i]
	if c == 'n' {
		return d.literal(i, "null")
	}
	if c == '"' {
		end, escaped := d.scanner.text(i + 1)
		if end < 0 {
			return -1
		}
		if end > i+1 { // "" is the same as null for every field
			d.filled |= 1 << f
			d.textValue(f, i, end, escaped)
		}
		return end + 1
	}
	d.filled |= 1 << f
	switch f {
	case fieldUserID, fieldTimestamp:
		if c == '-' || digit(c) {
			end, integer := d.number(i)
			if end < 0 {
				return -1
			}
			d.integer(f, span{i, end}, integer)
			return end
		}
		end := d.value(i, 1)
		d.fault(f, i, end, "not an integer")
		return end
	case fieldEngagementMetrics, fieldMetadata:
		if c != '{' {
			end := d.value(i, 1)
			d.fault(f, i, end, "not an object")
			return end
		}
		if f == fieldMetadata {
			end := d.value(i, 1)
			if end >= 0 {
				d.ev.Metadata = alias(d.in[i:end])
			}
			return end
		}
		end := d.metricsValue(i)
		if end >= 0 {
			d.ev.EngagementMetrics = alias(d.in[i:end])
		}
		return end
	}
	end := d.value(i, 1)
	d.fault(f, i, end, "not a text")
	return end
}

// fault records that the value of f is of a wrong type. It does not stop the scan: a record that is not JSON is
// malformed, whatever else is wrong with it.
func (d *Decoder) fault(f field, from, to int, why string) {
	d.faults |= 1 << f
	d.spans[f], d.why[f] = span{from, to}, why
}

// textValue takes the text of f between the quotes at i and end, which is not "".
func (d *Decoder) textValue(f field, i, end int, escaped bool) {
	raw := d.in[i+1 : end]
	switch f {
	case fieldUserID, fieldTimestamp:
		d.fault(f, i, end+1, "not an integer")
		return
	case fieldEngagementMetrics, fieldMetadata:
		d.fault(f, i, end+1, "not an object")
		return
	}
	if escaped {
		p := d.arena.alloc(len(raw))
		raw = d.arena.give(p, len(p)-unescape(p, raw))
	}
	s := alias(raw)
	switch f {
	case fieldEventID:
		var ok bool
		if d.ev.ID, ok = ParseID(s); !ok {
			d.fault(f, i, end+1, "not a UUID of the form 8-4-4-4-12")
		}
	case fieldSessionID:
		if len(s) > MaxSessionID {
			d.fault(f, i, end+1, "longer than "+strconv.Itoa(MaxSessionID)+" bytes")
		}
		d.ev.SessionID = s
	case fieldEventType:
		d.ev.Type, _ = ParseType(s)
		d.typeRaw = span{i, end + 1}
	default:
		*d.ev.text(f) = s
	}
}

// integer takes the number of user_id or timestamp.
func (d *Decoder) integer(f field, at span, integer bool) {
	if !integer {
		d.fault(f, at.from, at.to, "not an integer")
		return
	}
	token := d.in[at.from:at.to]
	negative := token[0] == '-'
	if negative {
		token = token[1:]
	}
	n, fits := uint64(0), len(token) <= 19 // every number of 19 digits fits a uint64
	if fits {
		for _, c := range token {
			n = n*10 + uint64(c-'0')
		}
		fits = n <= math.MaxInt64
	}
	if f == fieldUserID {
		if negative || !fits {
			d.fault(f, at.from, at.to, "not an integer of 0 to 2^63-1")
		}
		d.ev.UserID = n
		return
	}
	d.stamp, d.stampOK = at, fits && !negative // no negative timestamp is in range
	if n >= firstMillis {
		n /= 1000
	}
	d.ev.Timestamp = int64(n)
}

// metricsValue reads the object of engagement_metrics at i and keeps the numbers that sessions read. If a key occurs
// twice, the last value counts.
func (d *Decoder) metricsValue(i int) int {
	if i = d.space(i + 1); i < len(d.in) && d.in[i] == '}' {
		return i + 1
	}
	for {
		end, next, escaped := d.key(i)
		if next < 0 {
			return -1
		}
		raw := d.in[i+1 : end]
		if escaped {
			raw = append([]byte(nil), raw...)
			raw = raw[:unescape(raw, d.in[i+1:end])]
		}
		key := parseMetricKey(alias(raw))
		if i = d.value(next, 2); i < 0 {
			return -1
		}
		if key != numMetricKeys {
			d.metrics[key] = ""
			if c := d.in[next]; c == '-' || digit(c) {
				d.metrics[key] = alias(d.in[next:i])
			}
		}
		i = d.space(i)
		if i < len(d.in) && d.in[i] == '}' {
			return i + 1
		}
		if i >= len(d.in) || d.in[i] != ',' {
			return d.syntax(i, "expected a comma or the end of an object")
		}
		i = d.space(i + 1)
	}
}

// judge finds the first fault of a well-formed record: by class, then in the order of the schema.
func (d *Decoder) judge(kafkaTimestampMillis int64) (Reason, string) {
	const required = 1<<(lastRequired+1) - 1
	if d.faults == 0 && d.filled&required == required && d.ev.Type != TypeInvalid && d.stampOK &&
		d.ev.Timestamp >= minTimestamp && d.ev.Timestamp <= latest(kafkaTimestampMillis) {
		return ReasonNone, ""
	}
	for f := range numFields {
		if d.faults&(1<<f) != 0 {
			return WrongType, detail(f, d.why[f], d.in[d.spans[f].from:d.spans[f].to])
		}
	}
	for f := range lastRequired + 1 {
		switch {
		case d.seen&(1<<f) == 0:
			return MissingField, detail(f, "missing", nil)
		case d.filled&(1<<f) == 0:
			return MissingField, detail(f, "null or empty", nil)
		}
	}
	if d.ev.Type == TypeInvalid {
		return UnknownEventType, detail(fieldEventType, "unknown", d.in[d.typeRaw.from:d.typeRaw.to])
	}
	why := "more than an hour ahead of the record's Kafka timestamp"
	if !d.stampOK || d.ev.Timestamp < minTimestamp {
		why = "not a time from the year 2000 on in seconds or milliseconds"
	} else if d.ev.Timestamp > maxTimestamp {
		why = "past 2106-02-07"
	}
	return BadTimestamp, detail(fieldTimestamp, why, d.in[d.stamp.from:d.stamp.to])
}

// latest is the greatest timestamp, in Unix seconds, of a record with this Kafka timestamp. A broker takes any Kafka
// timestamp that a producer sets, so the result is bounded.
func latest(kafkaTimestampMillis int64) int64 {
	return min(kafkaTimestampMillis/1000+maxAhead, maxTimestamp)
}

func (d *Decoder) malformed(f field) string {
	var b strings.Builder
	if f != fieldExtra {
		b.WriteString(fields[f].name)
		b.WriteString(": ")
	}
	b.WriteString(d.err)
	b.WriteString(" at byte ")
	b.WriteString(strconv.Itoa(d.errAt))
	return b.String()
}

// detail names the field, says what is wrong with it and shows the beginning of its value as it was sent.
func detail(f field, why string, raw []byte) string {
	s := fields[f].name + ": " + why
	if len(raw) == 0 {
		return s
	}
	if len(raw) > maxDetailSample {
		n := maxDetailSample
		for n > 0 && !utf8.RuneStart(raw[n]) {
			n--
		}
		return s + ": " + string(raw[:n]) + "…"
	}
	return s + ": " + string(raw)
}
