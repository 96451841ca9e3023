package event

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"sync"
)

// NormalizeJSON makes a JSON text one that all its readers take for the same value. It is for texts that a Decoder has
// accepted; anything else is left as it is.
//
//   - An integer beyond ±(2^53-1) is quoted: readers hold it as a float64, as 64 bits or exactly, and the three differ.
//   - The integer -0 is 0: a reader with integers knows no other, and one with float64s alone has a -0.
//   - A number with a fraction or an exponent is quoted if it is beyond every finite float64, or longer than 1,000
//     bytes: Jackson, which Spark reads JSON with, refuses a text with such a number as a whole. Others stay as they
//     are, whatever their digits: all readers round alike.
//   - Of the names of one object that are equal after their escapes, the last stays.
//
// If nothing has to change, it returns dst and false. Otherwise it appends the new text to dst, without white space
// between its tokens, and returns true; the text is at most twice as long as before. It allocates no more than it needs
// for dst and for objects with many names, and is safe for concurrent use.
func NormalizeJSON(dst []byte, text string) ([]byte, bool) {
	n := normalizers.Get().(*normalizer)
	defer normalizers.Put(n)
	return n.normalize(dst, bytesOf(text))
}

var normalizers = sync.Pool{New: func() any { return new(normalizer) }}

// normalizer is the working memory of NormalizeJSON. It is reused for many texts.
type normalizer struct {
	scanner
	names   []nameAt // of the objects that are open
	escaped []byte   // names with their escapes resolved
	sorted  []int32
}

// nameAt is a member of an object: its name, and where it stands in the new text.
type nameAt struct {
	name     []byte
	from, to int // of the member as it was written, from the quote of its name to the end of its value
}

func (n *normalizer) normalize(dst, text []byte) ([]byte, bool) {
	n.scanner = scanner{in: text}
	if end, clean := n.check(n.space(0), 1); end < 0 || clean {
		return dst, false
	}
	n.scanner = scanner{in: text}
	out, end := n.append(dst, n.space(0), 1)
	if end < 0 {
		return dst, false
	}
	return out, true
}

// HasLongName says whether a JSON text that a Decoder has accepted has a name of more than MaxName bytes, as one that
// was decoded by rules of FormsFirst may. Some readers refuse such a text, and NormalizeJSON does not mend it.
func HasLongName(text string) bool {
	if len(text) <= MaxName {
		return false
	}
	s := scanner{in: bytesOf(text), maxName: MaxName}
	return s.value(s.space(0), 0) < 0
}

// clean says whether nothing in a JSON value has to change.
func (n *normalizer) clean(text []byte) bool {
	n.scanner = scanner{in: text}
	end, clean := n.check(0, 1)
	return end >= 0 && clean
}

// check reads the value at i, at a depth of containers that counts its own, and says whether nothing in it has to
// change. It stops at the first that has, with any end that is not negative. The end is -1 for what is not JSON or is
// nested too deep.
func (n *normalizer) check(i, depth int) (end int, clean bool) {
	if i >= len(n.in) {
		return -1, false
	}
	switch c := n.in[i]; {
	case c == '{' || c == '[':
		if depth > MaxDepth {
			return -1, false
		}
	case c == '-' || digit(c):
		end, integer := n.number(i)
		return end, end >= 0 && !rewrites(n.in[i:end], integer)
	default:
		return n.scalar(i), true
	}
	isObject := n.in[i] == '{'
	names, unescaped := len(n.names), len(n.escaped)
	if i = n.space(i + 1); i < len(n.in) && n.in[i] == closing(isObject) {
		return i + 1, true
	}
	for {
		if isObject {
			var name []byte
			if name, i = n.name(i); i < 0 {
				return -1, false
			}
			n.names = append(n.names, nameAt{name: name})
		}
		if i, clean = n.check(i, depth+1); i < 0 || !clean {
			break
		}
		if i = n.space(i); i >= len(n.in) {
			i = -1
			break
		}
		if n.in[i] == closing(isObject) {
			i++
			clean = !isObject || n.distinct(n.names[names:])
			break
		}
		if n.in[i] != ',' {
			i = -1
			break
		}
		i = n.space(i + 1)
	}
	n.names, n.escaped = n.names[:names], n.escaped[:unescaped]
	return i, clean
}

// name reads a name and the colon behind it.
func (n *normalizer) name(i int) (name []byte, next int) {
	end, next, escaped := n.key(i)
	if next < 0 {
		return nil, -1
	}
	name = n.in[i+1 : end]
	if escaped {
		at := len(n.escaped)
		n.escaped = slices.Grow(n.escaped, len(name))[:at+len(name)]
		n.escaped = n.escaped[:at+unescape(n.escaped[at:], name)]
		name = n.escaped[at:]
	}
	return name, next
}

// few is up to how many names of an object are compared each with each.
const few = 16

// distinct says whether no two names are equal.
func (n *normalizer) distinct(names []nameAt) bool {
	if len(names) <= few {
		for i := range names {
			for j := range i {
				if bytes.Equal(names[i].name, names[j].name) {
					return false
				}
			}
		}
		return true
	}
	order := n.order(names)
	for i := 1; i < len(order); i++ {
		if bytes.Equal(names[order[i-1]].name, names[order[i]].name) {
			return false
		}
	}
	return true
}

// order sorts the places of names by name, and then by place.
func (n *normalizer) order(names []nameAt) []int32 {
	n.sorted = slices.Grow(n.sorted[:0], len(names))
	for i := range names {
		n.sorted = append(n.sorted, int32(i))
	}
	slices.SortFunc(n.sorted, func(a, b int32) int {
		if c := bytes.Compare(names[a].name, names[b].name); c != 0 {
			return c
		}
		return int(a - b)
	})
	return n.sorted
}

// append appends the value at i in its new form. The end is -1 for what is not JSON or is nested too deep.
func (n *normalizer) append(dst []byte, i, depth int) (out []byte, end int) {
	if i >= len(n.in) {
		return dst, -1
	}
	c := n.in[i]
	if c != '{' && c != '[' {
		return n.appendScalar(dst, i)
	}
	if depth > MaxDepth {
		return dst, -1
	}
	isObject, names, unescaped := c == '{', len(n.names), len(n.escaped)
	defer func() { n.names, n.escaped = n.names[:names], n.escaped[:unescaped] }()
	dst = append(dst, c)
	if i = n.space(i + 1); i < len(n.in) && n.in[i] == closing(isObject) {
		return append(dst, n.in[i]), i + 1
	}
	for {
		at := nameAt{from: len(dst)}
		if isObject {
			from := i
			if at.name, i = n.name(i); i < 0 {
				return dst, -1
			}
			to, _ := n.text(from + 1)
			dst = append(append(dst, n.in[from:to+1]...), ':')
		}
		if dst, i = n.append(dst, i, depth+1); i < 0 {
			return dst, -1
		}
		at.to = len(dst)
		n.names = append(n.names, at)
		if i = n.space(i); i < len(n.in) && n.in[i] == closing(isObject) {
			if isObject {
				dst = n.collapse(dst, n.names[names:])
			}
			return append(dst, n.in[i]), i + 1
		}
		if i >= len(n.in) || n.in[i] != ',' {
			return dst, -1
		}
		dst = append(dst, ',')
		i = n.space(i + 1)
	}
}

func (n *normalizer) appendScalar(dst []byte, i int) (out []byte, end int) {
	c := n.in[i]
	if c != '-' && !digit(c) {
		if end = n.scalar(i); end < 0 {
			return dst, -1
		}
		return append(dst, n.in[i:end]...), end
	}
	end, integer := n.number(i)
	switch {
	case end < 0:
		return dst, -1
	case !rewrites(n.in[i:end], integer):
		return append(dst, n.in[i:end]...), end
	case end-i == 2: // -0
		return append(dst, '0'), end
	}
	dst = append(append(dst, '"'), n.in[i:end]...)
	return append(dst, '"'), end
}

// collapse removes from dst, whose end is the members of an object, all members but the last of each name.
func (n *normalizer) collapse(dst []byte, members []nameAt) []byte {
	if n.distinct(members) {
		return dst
	}
	order := n.order(members)
	for i := 1; i < len(order); i++ {
		if bytes.Equal(members[order[i-1]].name, members[order[i]].name) {
			members[order[i-1]].to = -1
		}
	}
	to := members[0].from
	for _, m := range members {
		if m.to < 0 {
			continue
		}
		if to > members[0].from {
			dst[to] = ','
			to++
		}
		to += copy(dst[to:], dst[m.from:m.to])
	}
	return dst[:to]
}

// maxNumber is the greatest length in bytes of a number that is not quoted: the default limit of Jackson.
const maxNumber = 1000

// rewrites says whether a number has to be quoted, or is -0.
func rewrites(token []byte, integer bool) bool {
	if integer {
		if token[0] == '-' {
			token = token[1:]
			if token[0] == '0' {
				return true
			}
		}
		const greatest = "9007199254740991" // 2^53-1
		return len(token) > len(greatest) || len(token) == len(greatest) && alias(token) > greatest
	}
	if len(token) <= 300 && bytes.IndexByte(token, 'e') < 0 && bytes.IndexByte(token, 'E') < 0 {
		return false
	}
	if len(token) > maxNumber {
		return true
	}
	f, _ := strconv.ParseFloat(alias(token), 64) // the only error a JSON number can cause is the range's, with ±Inf
	return math.IsInf(f, 0)
}
