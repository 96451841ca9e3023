package event

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may nest, the record itself included; a deeper record is Malformed.
const MaxDepth = 64

// MaxName is the greatest length in bytes of a name, as it is written; from FormsReal on a record with a longer one is
// Malformed. Jackson, which Spark reads JSON with, refuses a text with a longer name as a whole, and a name cannot be
// rewritten as a number can.
const MaxName = 50_000

// scanner is a strict tokenizer of JSON (RFC 8259) over one record. Its methods take the index to start from and return
// the index behind what they read, or -1 after they have recorded an error. It refuses two things that encoding/json
// accepts: invalid UTF-8, and escapes that make half a surrogate pair.
type scanner struct {
	in      []byte
	errAt   int
	err     string
	errJSON bool // the error is one of a record that is JSON
	maxName int  // bytes of a name; 0 is no limit
}

func (s *scanner) fail(at int, what string) int {
	s.errAt, s.err = at, what
	return -1
}

// syntax records the error what at i, or, if i is the end of the record, that the record ends early.
func (s *scanner) syntax(i int, what string) int {
	if i >= len(s.in) {
		return s.fail(len(s.in), "record ends early")
	}
	return s.fail(i, what)
}

// space skips white space.
func (s *scanner) space(i int) int {
	for i < len(s.in) && s.in[i] <= ' ' {
		switch s.in[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// text reads a text whose opening quote is at i-1 and returns the index of its closing quote. escaped says that it
// contains escapes.
func (s *scanner) text(i int) (end int, escaped bool) {
	in, start, high := s.in, i, uint64(0)
	for {
		// Eight bytes at a time up to the first that is a quote, a backslash or a control character: the lowest bit set
		// in m marks it exactly; bits that borrows set above it are ignored.
		for i+8 <= len(in) {
			x := binary.LittleEndian.Uint64(in[i:])
			quote, slash := x^('"'*ones), x^('\\'*ones)
			m := ((quote - ones) &^ quote) | ((slash - ones) &^ slash) | ((x - ' '*ones) &^ x)
			high |= x // may include bytes behind the end: then the check below is superfluous
			if m &= highs; m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(in) {
			return s.fail(i, "record ends inside a text"), escaped
		}
		switch c := in[i]; {
		case c == '"':
			if high&highs != 0 && !utf8.Valid(in[start:i]) {
				return s.fail(start+invalidAt(in[start:i]), "invalid UTF-8"), escaped
			}
			return i, escaped
		case c == '\\':
			escaped = true
			if i = s.escape(i); i < 0 {
				return -1, true
			}
		case c < ' ':
			return s.fail(i, "control character in a text"), escaped
		default:
			high |= uint64(c)
			i++
		}
	}
}

func invalidAt(p []byte) int {
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(p)
}

// escape checks the escape that starts at i.
func (s *scanner) escape(i int) int {
	if i+1 >= len(s.in) {
		return s.fail(len(s.in), "record ends inside a text")
	}
	switch s.in[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		r := hex4(s.in, i+2)
		switch {
		case r < 0:
			return s.fail(i, `\u without four hexadecimal digits`)
		case r < 0xd800 || r > 0xdfff:
			return i + 6
		case r < 0xdc00 && i+8 <= len(s.in) && s.in[i+6] == '\\' && s.in[i+7] == 'u':
			if low := hex4(s.in, i+8); low >= 0xdc00 && low <= 0xdfff {
				return i + 12
			}
		}
		return s.fail(i, "half a surrogate pair")
	}
	return s.fail(i, "unknown escape")
}

// hex4 is the value of four hexadecimal digits at i, -1 if they are not there.
func hex4(in []byte, i int) rune {
	if i+4 > len(in) {
		return -1
	}
	a, b, c, d := hexValue[in[i]], hexValue[in[i+1]], hexValue[in[i+2]], hexValue[in[i+3]]
	if a|b|c|d > 0xf {
		return -1
	}
	return rune(a)<<12 | rune(b)<<8 | rune(c)<<4 | rune(d)
}

// unescape writes the text between two quotes, checked by scanner.text, to dst, which has room for it, and returns its
// length: no escape is shorter than the bytes that it stands for.
func unescape(dst, src []byte) int {
	n := 0
	for i := 0; i < len(src); {
		c := src[i]
		if c != '\\' {
			dst[n] = c
			n++
			i++
			continue
		}
		c = src[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hex4(src, i)
			i += 4
			if r >= 0xd800 && r <= 0xdfff {
				r = (r-0xd800)<<10 | (hex4(src, i+2) - 0xdc00) + 0x10000
				i += 6
			}
			n += utf8.EncodeRune(dst[n:], r)
			continue
		}
		dst[n] = c
		n++
	}
	return n
}

func digit(c byte) bool { return c-'0' <= 9 }

// number reads a number; integer says that it has neither fraction nor exponent.
func (s *scanner) number(i int) (end int, integer bool) {
	in, ok := s.in, false
	if in[i] == '-' {
		i++
	}
	switch {
	case i < len(in) && in[i] == '0':
		i++
	default:
		if i, ok = s.digits(i); !ok {
			return -1, false
		}
	}
	integer = true
	if i < len(in) && in[i] == '.' {
		integer = false
		if i, ok = s.digits(i + 1); !ok {
			return -1, false
		}
	}
	if i < len(in) && in[i]|0x20 == 'e' {
		integer = false
		i++
		if i < len(in) && (in[i] == '+' || in[i] == '-') {
			i++
		}
		if i, ok = s.digits(i); !ok {
			return -1, false
		}
	}
	return i, integer
}

// digits reads one or more digits.
func (s *scanner) digits(i int) (int, bool) {
	start := i
	for i < len(s.in) && digit(s.in[i]) {
		i++
	}
	if i == start {
		return s.syntax(i, "broken number"), false
	}
	return i, true
}

// literal reads true, false or null.
func (s *scanner) literal(i int, word string) int {
	if end := i + len(word); end <= len(s.in) && string(s.in[i:end]) == word {
		return end
	}
	return s.fail(i, "not a JSON value")
}

// scalar reads a value that is neither object nor array.
func (s *scanner) scalar(i int) int {
	if i >= len(s.in) {
		return s.syntax(i, "")
	}
	switch c := s.in[i]; {
	case c == '"':
		if i, _ = s.text(i + 1); i < 0 {
			return -1
		}
		return i + 1
	case c == '-' || digit(c):
		i, _ = s.number(i)
		return i
	case c == 't':
		return s.literal(i, "true")
	case c == 'f':
		return s.literal(i, "false")
	case c == 'n':
		return s.literal(i, "null")
	}
	return s.fail(i, "not a JSON value")
}

// key reads the text at i, the colon behind it and white space.
func (s *scanner) key(i int) (end, next int, escaped bool) {
	if i >= len(s.in) || s.in[i] != '"' {
		return -1, s.syntax(i, "expected the name of a field"), false
	}
	if end, escaped = s.text(i + 1); end < 0 {
		return -1, -1, false
	}
	if s.maxName > 0 && end-i-1 > s.maxName {
		s.errJSON = true
		return -1, s.fail(i, "a name of more than 50000 bytes"), false
	}
	return end, s.colon(end + 1), escaped
}

func (s *scanner) colon(i int) int {
	if i < len(s.in) && s.in[i] == ':' { // the usual forms are `":` and `": `
		i++
	} else {
		if i = s.space(i); i >= len(s.in) || s.in[i] != ':' {
			return s.syntax(i, "expected a colon")
		}
		i++
	}
	return s.space(i)
}

// value reads a value of any type. depth is the number of containers that are open around it.
func (s *scanner) value(i, depth int) int {
	objects := uint64(0) // one bit per container opened here, set for an object; the lowest is the innermost
	for open := 0; ; {
		// A value begins at i.
		switch {
		case i < len(s.in) && (s.in[i] == '{' || s.in[i] == '['):
			if depth+open == MaxDepth {
				s.errJSON = true
				return s.fail(i, "nested too deep")
			}
			isObject := s.in[i] == '{'
			open++
			objects <<= 1
			if isObject {
				objects |= 1
			}
			if i = s.space(i + 1); i < len(s.in) && s.in[i] == closing(isObject) {
				break // an empty container: closed below
			}
			if isObject {
				if _, i, _ = s.key(i); i < 0 {
					return -1
				}
			}
			continue
		default:
			if i = s.scalar(i); i < 0 {
				return -1
			}
		}
		// A value has ended, or an empty container ends, at i.
		for {
			if open == 0 {
				return i
			}
			i = s.space(i)
			isObject := objects&1 == 1
			if i < len(s.in) && s.in[i] == closing(isObject) {
				open--
				objects >>= 1
				i++
				continue
			}
			if i >= len(s.in) || s.in[i] != ',' {
				return s.syntax(i, "expected a comma or the end of an object or array")
			}
			i = s.space(i + 1)
			if isObject {
				if _, i, _ = s.key(i); i < 0 {
					return -1
				}
			}
			break
		}
	}
}

func closing(isObject bool) byte {
	if isObject {
		return '}'
	}
	return ']'
}
