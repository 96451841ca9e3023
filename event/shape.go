package event

import (
	"math"
	"strconv"
)

// A shape is what the engagement_metrics of many events have in common: the text without its values. In place of each
// value stands a slot, a byte that no JSON text contains unescaped:
//
//	{"scroll_depth": 41, "time_on_page": 81, "note": "x"}      the text
//	{"scroll_depth": S, "time_on_page": M, "note": "T"}        its shape; values: Scroll, Measure, token x
//
// A text that cannot be split, for whatever reason, is a single slotToken.
const (
	slotInt     = 1 // a decimal integer without sign or leading zero that fits an int64: in the column of integers
	slotToken   = 2 // a text without its quotes, or any other number, as it was sent: in the column of tokens
	slotMeasure = 3 // the decimal form of Event.Measure
	slotScroll  = 4 // the decimal form of Event.Scroll
	// slotProgress is the decimal form of Event.Progress, from batchReal on.
	slotProgress = 5
)

const (
	maxSlots     = 64   // of a shape
	maxShapes    = 256  // of a batch
	maxShapeText = 4096 // bytes of a text that is split
)

const rawShape = "\x02"

// splitter splits texts into shapes and values. It appends the values to ints and tokens; shape holds the last text's
// shape.
type splitter struct {
	slots  byte // the greatest slot of the version
	shape  []byte
	used   int // slots in shape
	ints   []uint64
	tokens []string
}

// split returns false, with nothing appended, if the text has no shape.
func (c *splitter) split(text string, it *Item) bool {
	ints, tokens := len(c.ints), len(c.tokens)
	if len(text) <= maxShapeText && c.try(text, it) && c.used <= maxSlots {
		return true
	}
	c.undo(ints, tokens)
	return false
}

func (c *splitter) undo(ints, tokens int) {
	clear(c.tokens[tokens:])
	c.ints, c.tokens = c.ints[:ints], c.tokens[:tokens]
}

func (c *splitter) try(text string, it *Item) bool {
	c.shape, c.used = c.shape[:0], 0
	key := numMetricKeys
	for i := 0; i < len(text); {
		switch ch := text[i]; {
		case ch == '"':
			end := textEnd(text, i+1)
			if end < 0 {
				return false
			}
			after := end + 1
			for after < len(text) && (text[after] == ' ' || text[after] == '\t' || text[after] == '\n' ||
				text[after] == '\r') {
				after++
			}
			if after < len(text) && text[after] == ':' { // a key is part of the shape
				key = parseMetricKey(text[i+1 : end])
				if c.hasSlot(text[i : after+1]) {
					return false
				}
				c.shape = append(c.shape, text[i:after+1]...)
				i = after + 1
				continue
			}
			c.shape = append(c.shape, '"', slotToken, '"')
			c.tokens = append(c.tokens, text[i+1:end])
			c.used++
			i = end + 1
		case ch == '-' || digit(ch):
			end, n := i, uint64(0)
			for ; end < len(text) && digit(text[end]); end++ {
				n = n*10 + uint64(text[end]-'0')
			}
			canonical := end > i && end-i <= 19 && n <= math.MaxInt64 && (ch != '0' || end == i+1)
			if !canonical || numberByte(text, end) {
				for end < len(text) && numberByte(text, end) {
					end++
				}
				c.shape = append(c.shape, slotToken)
				c.tokens = append(c.tokens, text[i:end])
			} else {
				c.integer(key, n, it)
			}
			c.used++
			i = end
		case ch <= c.slots:
			return false
		default:
			c.shape = append(c.shape, ch)
			i++
		}
	}
	return true
}

func (c *splitter) integer(key metricKey, n uint64, it *Item) {
	switch {
	case key < numMetricKeys && metrics[key].shown && n == it.Measure:
		c.shape = append(c.shape, slotMeasure)
	case key == keyScrollDepth && n == uint64(it.Scroll):
		c.shape = append(c.shape, slotScroll)
	case key == keyReadProgress && n == uint64(it.Progress) && c.slots >= slotProgress:
		c.shape = append(c.shape, slotProgress)
	default:
		c.shape = append(c.shape, slotInt)
		c.ints = append(c.ints, n)
	}
}

// textEnd is the index of the quote that ends the text starting at i, -1 if there is none.
func textEnd(s string, i int) int {
	for ; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return -1
}

func numberByte(s string, i int) bool {
	if i >= len(s) {
		return false
	}
	c := s[i]
	return digit(c) || c == '.' || c == '-' || c == '+' || c|0x20 == 'e'
}

func (c *splitter) hasSlot(s string) bool {
	for i := range len(s) {
		if s[i]-1 < c.slots {
			return true
		}
	}
	return false
}

// piece is a part of a shape: a literal text and the slot behind it, 0 at the end.
type piece struct {
	literal string
	slot    byte
}

// pieces splits a shape whose greatest slot is slots; the result is appended to dst.
func pieces(dst []piece, shape string, slots byte) []piece {
	from := 0
	for i := range len(shape) {
		if c := shape[i]; c >= slotInt && c <= slots {
			dst = append(dst, piece{shape[from:i], c})
			from = i + 1
		}
	}
	return append(dst, piece{shape[from:], 0})
}

func appendUint(dst []byte, n uint64) []byte {
	if n < 100 { // most numbers
		if n >= 10 {
			dst = append(dst, byte('0'+n/10))
		}
		return append(dst, byte('0'+n%10))
	}
	return strconv.AppendUint(dst, n, 10)
}
