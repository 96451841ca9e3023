package schema

import (
	"cmp"
	"encoding/json"
	"strconv"
	"time"
)

// JSON returns what JSON shows of the column's value, for encoding/json: times in the form of RFC 3339, lists and
// objects as such, numbers beyond what every reader holds exactly as texts, null for a value that nobody knows. It
// may share texts with the row.
func (c *Column[R]) JSON(r *R) any {
	if !c.Has(r) {
		return nil
	}
	switch c.Kind {
	case JSON:
		return json.RawMessage(cmp.Or(c.Text(r), "[]"))
	case Seconds:
		return time.Unix(int64(c.Number(r)), 0).UTC()
	case Millis, KafkaMillis:
		return time.UnixMilli(int64(c.Number(r))).UTC()
	case Date:
		return c.String(r)
	case Uint64:
		return exact(c.Number(r))
	}
	if c.Kind.IsText() {
		return c.Text(r)
	}
	return int64(c.Number(r))
}

// maxExact is the greatest integer up to which a double, which is what JavaScript makes of any number, holds each one.
const maxExact = 1<<53 - 1

// exact returns what JSON shows of a number: beyond maxExact a text, as in all JSON of Deckle's, so that every reader
// has the same value.
func exact(n uint64) any {
	if n > maxExact {
		return strconv.FormatUint(n, 10)
	}
	return n
}
