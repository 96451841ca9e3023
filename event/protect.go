package event

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// protector applies privacy rules: to events that have been decoded, and to records as JSON. Both give the same, as
// FuzzPrivacy holds: what a letter has of a record is what the tables would have.
type protector struct {
	rules []Privacy
	mac   hash.Hash // with the key of the rules; nil if none hashes
	sum   [sha256.Size]byte
	plain []byte // of a value that is hashed

	whole   []fieldRule // rules about a whole field of the schema
	watched uint32      // bit f: a rule is about field f or something in it
	record  []path      // the rules, seen from the record
	metrics []path      // those within engagement_metrics, seen from there
	meta    []path      // those within metadata

	scanner
	out     []byte
	paths   []path // of the objects that are open
	name    []byte // with its escapes resolved
	changed bool
	unfit   []int64 // by rule: values that the action did not fit
}

type fieldRule struct {
	field field
	rule  int
}

// path is a rule, and what is left of its field within the present object.
type path struct {
	rule int
	rest string
}

// newProtector returns nil if there is no rule. It panics if a rule hashes and key is not the one that the rules name:
// whoever reads records makes sure of that before, and to go on would let values through or make other hashes of them.
func newProtector(r *Rules, key []byte) *protector {
	if len(r.Privacy) == 0 {
		return nil
	}
	p := &protector{rules: r.Privacy, unfit: make([]int64, len(r.Privacy))}
	if r.Hashes() {
		if KeyIDOf(key) != r.PrivacyKey {
			panic("event: not the key " + r.PrivacyKey.String() + " that the rules hash with")
		}
		p.mac = hmac.New(sha256.New, key)
	}
	for i := range r.Privacy {
		name := r.Privacy[i].Field
		p.record = append(p.record, path{i, name})
		if f := fieldByName(name); f != fieldExtra {
			p.whole = append(p.whole, fieldRule{f, i})
			p.watched |= 1 << f
		}
		head, rest, nested := strings.Cut(name, ".")
		if !nested {
			continue
		}
		switch f := fieldByName(head); f {
		case fieldExtra:
			continue
		case fieldEngagementMetrics:
			p.metrics = append(p.metrics, path{i, rest})
		case fieldMetadata:
			p.meta = append(p.meta, path{i, rest})
		}
		p.watched |= 1 << fieldByName(head)
	}
	return p
}

// hash returns the text that HashValue puts in the place of a plain value of a field. It is valid until the next call.
func (p *protector) hash(rule int, value string) []byte {
	field := p.rules[rule].Field
	p.plain = append(append(p.plain[:0], field...), 0)
	if id, ok := ParseID(value); ok && field == fields[fieldEventID].name {
		p.plain, _ = id.AppendText(p.plain)
	} else {
		p.plain = append(p.plain, value...)
	}
	p.mac.Reset()
	p.mac.Write(p.plain)
	p.plain = hex.AppendEncode(p.plain[:0], p.mac.Sum(p.sum[:0])[:16])
	return p.plain
}

// rewrite applies the rules of paths to a JSON text that the scanner accepts, and says whether that has changed it. The
// new text is p.out, until the next call.
func (p *protector) rewrite(text []byte, paths []path) bool {
	p.scanner, p.out, p.changed = scanner{in: text}, p.out[:0], false
	p.paths = append(p.paths[:0], paths...)
	p.value(p.space(0), 0, len(p.paths))
	return p.changed
}

// value appends the value at i, to which the rules of p.paths[from:to] lead, and returns its end.
func (p *protector) value(i, from, to int) (end int) {
	c := p.in[i]
	if from == to || c != '{' && c != '[' {
		end = p.scanner.value(i, 0)
		p.out = append(p.out, p.in[i:end]...)
		return end
	}
	isObject, empty := c == '{', true
	p.out = append(p.out, c)
	for i = p.space(i + 1); p.in[i] != closing(isObject); {
		at, kept := len(p.out), true
		if !empty {
			p.out = append(p.out, ',')
		}
		if isObject {
			kept, i = p.member(i, from, to)
		} else {
			i = p.value(i, from, to)
		}
		if kept {
			empty = false
		} else {
			p.out = p.out[:at]
		}
		if i = p.space(i); p.in[i] == ',' {
			i = p.space(i + 1)
		}
	}
	p.out = append(p.out, p.in[i])
	return i + 1
}

// member appends the member of an object at i, unless a rule drops it. The paths of an object that is left are let go.
func (p *protector) member(i, from, to int) (kept bool, end int) {
	quote, next, escaped := p.key(i)
	name := p.in[i+1 : quote]
	p.out = append(append(p.out, p.in[i:quote+1]...), ':')
	// gofail: var bugEscapedName struct{}
	// escaped = false
	if escaped {
		p.name = slices.Grow(p.name[:0], len(name))[:len(name)]
		name = p.name[:unescape(p.name, name)]
	}
	within := len(p.paths)
	for k := from; k < to; k++ {
		rest, found := strings.CutPrefix(p.paths[k].rest, alias(name))
		switch {
		case !found:
		case rest == "":
			end = p.scanner.value(next, 0)
			return p.act(p.paths[k].rule, p.in[next:end]), end
		case rest[0] == '.':
			p.paths = append(p.paths, path{p.paths[k].rule, rest[1:]})
		}
	}
	end = p.value(next, within, len(p.paths))
	p.paths = p.paths[:within]
	return true, end
}

// act appends what a rule makes of a value, and says whether its field stays.
func (p *protector) act(rule int, raw []byte) (kept bool) {
	r := &p.rules[rule]
	if r.Action == DropValue {
		p.changed = true
		return false
	}
	plain, fits := plainValue(raw)
	nobody := r.Action == HashValue && plain == "0" && r.Field == fields[fieldUserID].name
	if raw[0] == 'n' || fits && plain == "" || nobody {
		p.out = append(p.out, raw...)
		return true
	}
	at, isText := len(p.out), raw[0] == '"'
	if isText || r.Action == HashValue {
		p.out = append(p.out, '"')
	}
	switch {
	case !fits:
	case r.Action == HashValue:
		p.out = append(p.out, p.hash(rule, plain)...)
	case r.Action == TruncateIP:
		p.out, fits = appendNetwork(p.out, plain)
		fits = fits && isText
	default:
		p.out, fits = appendTime(p.out, plain, r.To)
	}
	if !fits {
		p.unfit[rule]++
		p.changed = true
		return false
	}
	if isText || r.Action == HashValue {
		p.out = append(p.out, '"')
	}
	p.changed = p.changed || !bytes.Equal(p.out[at:], raw)
	return true
}

// sixToFour are the addresses of IPv6 that have one of IPv4 in their bits 16 to 47.
var sixToFour = netip.MustParsePrefix("2002::/16")

// appendNetwork appends the network of an address, with zeros for the rest and without a port.
func appendNetwork(dst []byte, value string) ([]byte, bool) {
	a, ok := addressOf(value)
	if !ok {
		return dst, false
	}
	bits := 48
	switch {
	case a.Is4():
		bits = 24
	case sixToFour.Contains(a):
		bits = 16 + 24
	}
	network, err := a.Prefix(bits)
	if err != nil { // no address has so few bits
		return dst, false
	}
	return network.Addr().AppendTo(dst), true
}

// appendTime appends a time cut to an hour, a day or a month: in the form of RFC 3339 and UTC, or as a number of the
// unit that it had.
func appendTime(dst []byte, value, to string) ([]byte, bool) {
	if !isNumber(value) {
		at, ok := parseTime(value)
		t := cutTime(time.Unix(at, 0), to)
		if !ok || t.Year() < 0 || t.Year() > 9999 {
			return dst, false
		}
		return t.AppendFormat(dst, time.RFC3339), true
	}
	n, ok := wholePart(value)
	unit := uint64(1)
	switch {
	case n >= firstNanos:
		unit = 1e9
	case n >= firstMicros:
		unit = 1e6
	case n >= firstMillis:
		unit = 1e3
	}
	seconds := secondsOf(n)
	if !ok || unit > 1 && seconds < minTimestamp { // what is cut off could make it a number of another unit
		return dst, false
	}
	return strconv.AppendUint(dst, uint64(cutTime(time.Unix(seconds, 0), to).Unix())*unit, 10), true
}

func cutTime(t time.Time, to string) time.Time {
	t = t.UTC()
	hour, day := t.Hour(), t.Day()
	switch to {
	case toDay:
		hour = 0
	case toMonth:
		hour, day = 0, 1
	}
	return time.Date(t.Year(), t.Month(), day, hour, 0, 0, 0, time.UTC)
}
