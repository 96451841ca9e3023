package event

import "strconv"

// Shown says what a dead letter carries of its record's value.
type Shown uint8

// What can be shown of a value.
const (
	ShownWhole   Shown = iota // all of it, as it came
	ShownMasked               // names and structure
	ShownByRules              // what Rules.Privacy leave of it
	ShownNone                 // nothing
)

// String returns how a letter names it; "" for ShownWhole.
func (s Shown) String() string { return [...]string{"", "masked", "rules", "none"}[min(s, ShownNone)] }

// Redactor makes of the values of records what their dead letters carry, by one set of rules. It is a function of rules
// and value, so a letter that is made again is the same. It is not safe for concurrent use.
type Redactor struct {
	rules   *Rules
	private *protector // nil without privacy rules
	masker
}

// NewRedactor returns a Redactor for rules that have passed Check, and the key that they name if they hash: with
// another one it panics. Neither must change.
func NewRedactor(r *Rules, key []byte) *Redactor {
	return &Redactor{rules: r, private: newProtector(r, key)}
}

// Value returns what a dead letter carries of the value of a record. The bytes are value itself, or stay valid until
// the next call. What is not JSON is shown whole or, if the rules are about fields or values, not at all.
func (r *Redactor) Value(value []byte) ([]byte, Shown) {
	shown, how := r.shown(value)
	if how != ShownWhole || !r.rules.guards() {
		return shown, how
	}
	if s := (scanner{in: value}); !s.whole() {
		return nil, ShownNone
	}
	if r.private != nil && r.private.rewrite(value, r.private.record) {
		return r.private.out, ShownByRules
	}
	return value, ShownWhole
}

// Row returns what a dead letter carries of a row that a sink has refused, or of the beginning of one. A row is made of
// what the rules by field have let in.
func (r *Redactor) Row(row []byte) ([]byte, Shown) { return r.shown(row) }

func (r *Redactor) shown(value []byte) ([]byte, Shown) {
	switch r.rules.Letters.Values {
	case MaskValues:
		if masked, ok := r.mask(value); ok {
			return masked, ShownMasked
		}
		return nil, ShownNone
	case NoValues:
		return nil, ShownNone
	}
	return value, ShownWhole
}

// masker replaces the values of a JSON text by their types and lengths.
type masker struct {
	scanner
	out []byte
}

// mask returns the masked text, which is valid until the next call; false if value is not JSON, or longer than
// MaxRecord.
func (m *masker) mask(value []byte) ([]byte, bool) {
	m.scanner, m.out = scanner{in: value}, m.out[:0]
	if !m.whole() {
		return nil, false
	}
	m.append(m.space(0))
	return m.out, true
}

// whole says whether the text is one JSON value that the decoder's scanner accepts, and no longer than a record.
func (s *scanner) whole() bool {
	if len(s.in) > MaxRecord {
		return false
	}
	end := s.value(s.space(0), 0)
	return end >= 0 && s.space(end) == len(s.in)
}

// append appends the value at i, which is valid, and returns its end.
func (m *masker) append(i int) (end int) {
	c := m.in[i]
	if c != '{' && c != '[' {
		if end = m.scalar(i); c == 'n' {
			m.out = append(m.out, "null"...)
		} else {
			m.out = append(append(append(m.out, '"'), describe(m.in[i:end])...), '"')
		}
		return end
	}
	isObject := c == '{'
	m.out = append(m.out, c)
	if i = m.space(i + 1); m.in[i] == closing(isObject) {
		m.out = append(m.out, m.in[i])
		return i + 1
	}
	for {
		if isObject {
			quote, next, _ := m.key(i)
			m.out = append(append(m.out, m.in[i:quote+1]...), ':')
			i = next
		}
		i = m.space(m.append(i))
		m.out = append(m.out, m.in[i])
		if m.in[i] == closing(isObject) {
			return i + 1
		}
		i = m.space(i + 1)
	}
}

// describe says what a JSON value is without showing it: its type and its length in bytes, for a text without its
// quotes. What is true is not told from what is false.
func describe(raw []byte) string {
	what, n := "", len(raw)
	switch raw[0] {
	case '"':
		what, n = "text", n-2
	case '{':
		what = "object"
	case '[':
		what = "list"
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	default:
		what = "number"
	}
	if n == 1 {
		return what + " of 1 byte"
	}
	return what + " of " + strconv.Itoa(n) + " bytes"
}
