package deltalog

import (
	"encoding/json"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says how a column's bounds are rendered.
type Kind uint8

// The kinds of columns that have statistics.
const (
	KindNumber    Kind = iota // integers as they are
	KindTimestamp             // Unix microseconds
	KindString
)

// ColumnStats collects the bounds and nulls of one column of one file. Numbers and timestamps use Int, texts Text; a
// text is copied only when it becomes a bound.
type ColumnStats struct {
	Name     string
	Kind     Kind
	nulls    int64
	set      bool
	min, max int64
	lo, hi   string
	invalid  bool // a text was not UTF-8, so that there are no bounds
}

// Int folds in a number, or a timestamp in microseconds.
func (c *ColumnStats) Int(v int64) {
	if !c.set {
		c.set, c.min, c.max = true, v, v
		return
	}
	c.min, c.max = min(c.min, v), max(c.max, v)
}

// Text folds in a text.
func (c *ColumnStats) Text(v string) {
	switch {
	case !c.set:
		c.set = true
		c.lo = string([]byte(v))
		c.hi = c.lo
	case v < c.lo:
		c.lo = string([]byte(v))
	case v > c.hi:
		c.hi = string([]byte(v))
	default:
		return
	}
	c.invalid = c.invalid || !utf8.ValidString(v)
}

// Null folds in a null.
func (c *ColumnStats) Null() { c.nulls++ }

// Nulls folds in many of them.
func (c *ColumnStats) Nulls(n int64) { c.nulls += n }

// Merge folds in what was collected of the same column in another file, which stays as it is. The bounds are those of
// all values; there are none if either file had a text that was not UTF-8 among its bounds.
func (c *ColumnStats) Merge(o *ColumnStats) {
	c.nulls += o.nulls
	switch {
	case !o.set:
		return
	case !c.set:
		c.set, c.min, c.max, c.lo, c.hi = true, o.min, o.max, o.lo, o.hi
	default:
		c.min, c.lo = min(c.min, o.min), min(c.lo, o.lo)
		// gofail: var bugJoinedStatsNarrow struct{}
		// o = c

		c.max, c.hi = max(c.max, o.max), max(c.hi, o.hi)
	}
	c.invalid = c.invalid || o.invalid
}

// Stats renders add.stats of a file with rows records. Bounds may be wider than the values, never narrower.
func Stats(rows int64, cols []ColumnStats) string {
	lo, hi, nulls := map[string]any{}, map[string]any{}, map[string]int64{}
	for i := range cols {
		c := &cols[i]
		nulls[c.Name] = c.nulls
		if !c.set || c.invalid {
			continue
		}
		switch c.Kind {
		case KindNumber:
			lo[c.Name], hi[c.Name] = c.min, c.max
		case KindTimestamp:
			lo[c.Name] = statsTime(c.min)
			if up, ok := ceilMilli(c.max); ok {
				hi[c.Name] = statsTime(up)
			}
		case KindString:
			lo[c.Name] = truncateMin(c.lo)
			if s, ok := truncateMax(c.hi); ok {
				hi[c.Name] = s
			}
		}
	}
	b, err := json.Marshal(struct {
		NumRecords int64            `json:"numRecords"`
		MinValues  map[string]any   `json:"minValues"`
		MaxValues  map[string]any   `json:"maxValues"`
		NullCount  map[string]int64 `json:"nullCount"`
	}{rows, lo, hi, nulls})
	if err != nil {
		panic(err) // cannot happen: every value in it can be marshalled
	}
	return string(b)
}

// WideStats are Stats of a data file of which a deletion vector hides rows: the bounds are those of all its rows.
func WideStats(rows int64, cols []ColumnStats) string {
	return strings.TrimSuffix(Stats(rows, cols), "}") + `,"tightBounds":false}`
}

// statsTime floors to milliseconds, before 1970 too, and always shows three digits.
func statsTime(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000Z")
}

func ceilMilli(micros int64) (int64, bool) {
	if micros > math.MaxInt64-999 {
		return 0, false
	}
	if r := micros % 1000; r > 0 {
		return micros + 1000 - r, true
	}
	return micros, true
}

const (
	statsPrefix = 32 // UTF-16 units kept of a text
	statsMax    = 64
)

func utf16Len(r rune) int {
	if r > 0xFFFF {
		return 2
	}
	return 1
}

// prefix returns how many bytes of s make up at most the given UTF-16 units, splitting no character.
func prefix(s string, units int) int {
	n := 0
	for i, r := range s {
		if n += utf16Len(r); n > units {
			return i
		}
	}
	return len(s)
}

func truncateMin(s string) string { return s[:prefix(s, statsPrefix)] }

// truncateMax returns a text of bounded length that is not less than s, or false if there is none. The text is a prefix
// of s, followed by a character greater than the first one that was dropped.
func truncateMax(s string) (string, bool) {
	at := prefix(s, statsPrefix)
	for units := statsPrefix; at < len(s); {
		r, n := utf8.DecodeRuneInString(s[at:])
		if r < 0x7F {
			return s[:at] + "\u007F", true
		}
		if r != utf8.MaxRune {
			return s[:at] + "\U0010FFFF", true
		}
		if units += utf16Len(r); units > statsMax {
			return "", false
		}
		at += n
	}
	return s, true
}
