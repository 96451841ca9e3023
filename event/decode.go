package event

import (
	"bytes"
	"math"
	"strconv"
)

// Limits of a session_id.
const (
	// MaxSessionID is the greatest length in bytes of a session_id, with its escapes resolved; a longer one is
	// WrongType. By rules of FormsFirst it is FirstMaxSessionID.
	MaxSessionID      = 255
	FirstMaxSessionID = 64
)

const maxAhead = 3600 // seconds past the record's Kafka timestamp

// Decoder turns the JSON form of events into Events. The zero value is ready for use. A Decoder is reused for many
// records, which makes it fast (it learns the order in which a producer writes its fields), and is not safe for
// concurrent use.
type Decoder struct {
	// Rules are what records are judged by; nil are those of v0.1.0. They must have passed Check and must not change:
	// other rules need another pointer.
	Rules *Rules
	// Key is the HMAC key that Rules.PrivacyKey names; it is not looked at if no rule hashes. It must be there before
	// the first record of the rules, and not change: Decode panics if it is another one.
	Key []byte
	// Counts are what the records decoded since the last Reset add to the counts of their batch. Of a Kafka time it
	// knows nothing: Counts.KafkaTimes is left to the caller.
	Counts Counts

	scanner
	of      *Rules // the rules that real, unknown and exclude were made from
	real    bool   // the forms are FormsReal
	hides   bool   // a detail shows nothing that a record has
	longest int    // name, in bytes; 0 is no limit
	exclude *excluder
	private *protector // nil without privacy rules
	// suppress judges by the list of Suppress; nil if nobody is on it. withheld is what Withheld returns: false without
	// a list.
	suppress *suppressor
	withheld bool
	sent     sent // of the last record, if there are privacy rules
	names    objectNames
	json     normalizer
	suspect  uint8 // bits of the JSON texts that NormalizeJSON may have to change

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
	text    []byte // of NormalizeJSON
}

// Bits of suspect.
const (
	suspectMetrics = 1 << iota
	suspectMetadata
)

type span struct{ from, to int }

// Reset frees the memory of the escaped texts and the Extra of all events decoded since the last Reset, and begins the
// counts anew.
func (d *Decoder) Reset() {
	d.arena.reset()
	d.Counts.Reset()
	if d.private != nil {
		clear(d.private.unfit)
	}
}

// adopt takes the rules.
func (d *Decoder) adopt() {
	d.of, d.real, d.exclude, d.private, d.longest, d.hides = d.Rules, false, nil, nil, 0, false
	if r := d.Rules; r != nil {
		d.hides = r.Letters.Details == TypeDetails
		d.real, d.exclude, d.private = r.Forms >= FormsReal, newExcluder(r.Exclude, r.Consent), newProtector(r, d.Key)
	}
	if d.real {
		d.longest = MaxName
	}
}

// Decode reads the record's value into ev, which it overwrites. It returns ReasonNone, or why the record cannot be used
// and a detail: valid UTF-8 of at most MaxDetail bytes that begins with the name of the field if one field is to blame,
// and quotes from the record only if Letters.Details says so; the content of ev is then undefined. For a record that
// the rules leave out it returns Excluded and what left it out: the name of an exclude rule, the unknown type, or
// consent; for one of a reader on the list of Suppress, Suppressed and by which id: user or session.
// kafkaTimestampMillis is the record's Kafka timestamp in Unix milliseconds; from FormsReal on one that cannot be true
// is no bound for the event's. The caller handles records without a value (nil); here such a record would be malformed,
// like an empty one.
//
// Texts of ev point into value, so value must not change while they are in use, or into memory of the Decoder that
// stays valid until Reset (texts with escapes, and Extra). So the events of one batch are decoded, used and then
// dropped with one Reset; a caller that keeps an event longer must clone it.
func (d *Decoder) Decode(value []byte, kafkaTimestampMillis int64, ev *Event) (Reason, string) {
	if len(value) > MaxRecord {
		if d.suppress != nil {
			if by := d.search(value); by != 0 {
				return Suppressed, by.String()
			}
		}
		return TooLarge, "record of " + strconv.Itoa(len(value)) + " bytes, at most " +
			strconv.Itoa(MaxRecord) + " are read"
	}
	if d.of != d.Rules {
		d.adopt()
	}
	*ev = Event{}
	d.scanner = scanner{in: value, maxName: d.longest}
	d.names.begin()
	d.suspect = 0
	d.ev = ev
	d.seen, d.filled, d.faults = 0, 0, 0
	d.typeRaw, d.stamp, d.stampOK = span{}, span{}, false
	d.metrics = metricValues{}
	d.extra = d.extra[:0]
	if d.exclude != nil {
		d.exclude.reset()
	}
	f, ok := d.record()
	if !ok {
		// gofail: var bugSuppressedLetter struct{}
		// return Malformed, d.malformed(f)
		if d.suppress != nil {
			if by := d.search(value); by != 0 {
				return Suppressed, by.String()
			}
		}
		return Malformed, d.malformed(f)
	}
	if d.suppress != nil {
		if by := d.suppressed(); by != 0 {
			return Suppressed, by.String()
		}
	}
	if d.exclude != nil {
		if i := d.exclude.match(); i >= 0 {
			d.Counts.exclude(i, 1)
			return Excluded, d.Rules.Exclude[i].Name
		}
		if !d.exclude.consents() {
			d.Counts.Unconsented++
			return Excluded, "consent"
		}
	}
	if d.real {
		kafkaTimestampMillis = plausible(kafkaTimestampMillis)
	}
	if reason, detail := d.judge(kafkaTimestampMillis); reason != ReasonNone {
		return reason, detail
	}
	if len(d.extra) > 0 {
		d.extra = append(d.extra, '}')
	}
	if d.private != nil {
		d.protect()
		if n := len(ev.Metadata) + len(ev.EngagementMetrics) + len(d.extra); n > MaxRecord {
			return TooLarge, "record of " + strconv.Itoa(len(value)) + " bytes, of which the rules make " +
				strconv.Itoa(n) + ", at most " + strconv.Itoa(MaxRecord) + " are read"
		}
	}
	if !d.real {
		ev.Extra = d.arena.text(d.extra)
		d.metrics.first()
		ev.Measure, ev.Scroll = d.metrics.measures(ev.Type)
		return ReasonNone, ""
	}
	d.texts()
	d.Counts.zero(d.metrics.read(ev.Type))
	ev.Measure, ev.Scroll = d.metrics.measures(ev.Type)
	if ev.Type == ArticleView {
		ev.Progress, ev.Complete = d.metrics.article()
	}
	return ReasonNone, ""
}

// texts makes the JSON texts of the event readable, and leaves engagement_metrics that are too long to the events.
func (d *Decoder) texts() {
	ev := d.ev
	if d.suspect&suspectMetrics != 0 {
		ev.EngagementMetrics = d.readable(ev.EngagementMetrics)
	}
	if d.suspect&suspectMetadata != 0 {
		ev.Metadata = d.readable(ev.Metadata)
	}
	if len(d.extra) > 0 {
		if out, changed := d.json.normalize(d.text[:0], d.extra); changed {
			d.text = out
			ev.Extra = d.arena.text(out)
		} else {
			ev.Extra = d.arena.text(d.extra)
		}
	}
	limit := d.Rules.MaxMetricsBytes
	ev.MetricsOmitted = limit > 0 && uint64(len(ev.EngagementMetrics)) > uint64(limit)
}

func (d *Decoder) readable(s string) string {
	out, changed := d.json.normalize(d.text[:0], bytesOf(s))
	if !changed {
		return s
	}
	d.text = out
	return d.arena.text(out)
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
			if d.exclude != nil {
				name := d.in[start+1 : keyEnd-1]
				d.exclude.note(plainText(name, bytes.IndexByte(name, '\\') >= 0), d.in[i:end])
			}
			i = end
		} else {
			previous = f
			if d.seen&(1<<f) != 0 {
				d.errJSON = true
				d.fail(start, "duplicate field")
				return f, false
			}
			d.seen |= 1 << f
			from := i
			if i = d.field(f, i); i < 0 {
				return f, false
			}
			if d.exclude != nil && d.exclude.watched&(1<<f) != 0 {
				d.exclude.note(fields[f].name, d.in[from:i])
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
			if d.real && f == fieldTimestamp && !integer {
				d.stamp = span{i, end}
				d.time(d.in[i:end])
			} else {
				d.integer(f, span{i, end}, integer)
			}
			return end
		}
		end := d.value(i, 1)
		d.fault(f, i, end, d.wanted(f))
		return end
	case fieldEngagementMetrics, fieldMetadata:
		if c != '{' {
			end := d.value(i, 1)
			d.fault(f, i, end, "not an object")
			return end
		}
		end, suspect := d.object(i, f == fieldEngagementMetrics)
		if end < 0 {
			return -1
		}
		if f == fieldMetadata {
			d.ev.Metadata = alias(d.in[i:end])
			if suspect {
				d.suspect |= suspectMetadata
			}
			return end
		}
		d.ev.EngagementMetrics = alias(d.in[i:end])
		if suspect {
			d.suspect |= suspectMetrics
		}
		return end
	}
	end := d.value(i, 1)
	d.fault(f, i, end, "not a text")
	return end
}

// wanted says what a user_id or timestamp that is none is not.
func (d *Decoder) wanted(f field) string {
	switch {
	case !d.real:
		return "not an integer"
	case f == fieldTimestamp:
		return "neither a number nor a time of RFC 3339 with its offset"
	}
	return "neither an integer nor a text"
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
		if !d.real {
			d.fault(f, i, end+1, "not an integer")
			return
		}
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
		if d.ev.ID, ok = ParseID(s); ok {
			break
		}
		if d.real {
			d.ev.ID, d.ev.EventID = HashID(s), s
		} else {
			d.fault(f, i, end+1, "not a UUID of the form 8-4-4-4-12")
		}
	case fieldSessionID:
		limit := MaxSessionID
		if !d.real {
			limit = FirstMaxSessionID
		}
		if len(s) > limit {
			d.fault(f, i, end+1, "longer than "+strconv.Itoa(limit)+" bytes")
		}
		d.ev.SessionID = s
	case fieldEventType:
		var ok bool
		if d.ev.Type, ok = ParseType(s); !ok && d.real && d.Rules.UnknownTypes == CountUnknown {
			d.ev.Type, d.ev.TypeName = Other, CutText(s, MaxTypeName)
		}
		d.typeRaw = span{i, end + 1}
	case fieldUserID:
		if len(s) > MaxUserKey {
			d.fault(f, i, end+1, "longer than "+strconv.Itoa(MaxUserKey)+" bytes")
			break
		}
		d.ev.UserID, d.ev.UserKey = parseUser(s)
	case fieldTimestamp:
		d.stamp = span{i, end + 1}
		if isNumber(s) {
			d.time(bytesOf(s))
		} else if seconds, ok := parseTime(s); ok {
			d.ev.Timestamp, d.stampOK = seconds, true
		} else {
			d.fault(f, i, end+1, d.wanted(f))
		}
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
	if d.real {
		d.ev.Timestamp = secondsOf(n)
		return
	}
	if n >= firstMillis {
		n /= 1000
	}
	d.ev.Timestamp = int64(n)
}

// time takes a timestamp that is a number of any form.
func (d *Decoder) time(token []byte) {
	n, ok := wholePart(alias(token))
	d.ev.Timestamp, d.stampOK = secondsOf(n), ok
}

// judge finds the first fault of a well-formed record: by class, then in the order of the schema.
func (d *Decoder) judge(kafkaTimestampMillis int64) (Reason, string) {
	required := uint32(requiredFirst)
	if d.real {
		required = requiredReal
	}
	if d.faults == 0 && d.filled&required == required && d.ev.Type != TypeInvalid && d.stampOK &&
		d.ev.Timestamp >= minTimestamp && d.ev.Timestamp <= d.latest(kafkaTimestampMillis) {
		return ReasonNone, ""
	}
	for f := range numFields {
		if d.faults&(1<<f) != 0 {
			return WrongType, d.detail(f, d.why[f], d.in[d.spans[f].from:d.spans[f].to]) + d.missing(required, "")
		}
	}
	for f := range lastRequired + 1 {
		switch {
		case required&(1<<f) == 0:
		case d.seen&(1<<f) == 0:
			return MissingField, d.detail(f, "missing", nil) + d.missing(required&^(1<<f), "also ")
		case d.filled&(1<<f) == 0:
			return MissingField, d.detail(f, "null or empty", nil) + d.missing(required&^(1<<f), "also ")
		}
	}
	if d.ev.Type == TypeInvalid && d.Rules != nil && d.Rules.UnknownTypes == SkipUnknown {
		d.Counts.Skipped++
		return Excluded, d.detail(fieldEventType, "unknown", d.in[d.typeRaw.from:d.typeRaw.to])
	}
	if d.ev.Type == TypeInvalid {
		return UnknownEventType, d.detail(fieldEventType, "unknown", d.in[d.typeRaw.from:d.typeRaw.to])
	}
	why := "more than an hour ahead of the record's Kafka timestamp"
	if !d.stampOK || d.ev.Timestamp < minTimestamp {
		why = "not a time from the year 2000 on in seconds or milliseconds"
		if d.real {
			why = "not a time from the year 2000 on in seconds, milliseconds, microseconds or nanoseconds"
		}
	} else if d.ev.Timestamp > maxTimestamp {
		why = "past 2106-02-07"
	}
	return BadTimestamp, d.detail(fieldTimestamp, why, d.in[d.stamp.from:d.stamp.to])
}

const (
	requiredFirst = 1<<(lastRequired+1) - 1
	requiredReal  = requiredFirst &^ (1 << fieldUserID)
)

// latest is the greatest timestamp, in Unix seconds, of a record with this Kafka timestamp. A broker takes any Kafka
// timestamp that a producer sets, so the result is bounded.
func (d *Decoder) latest(kafkaTimestampMillis int64) int64 {
	if d.real && kafkaTimestampMillis == NoKafkaTime {
		return maxTimestamp
	}
	return min(kafkaTimestampMillis/1000+maxAhead, maxTimestamp)
}
