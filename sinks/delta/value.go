package delta

import (
	"unsafe"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/schema/level"
)

// fileColumn is a column of the data files. It converts values to Parquet values and back.
type fileColumn[R any] struct {
	schema.Column[R]
	place int // among the columns of the files
	// optional says that the files may have a null: an empty optional text, a value that nobody knows, or any column
	// that the first files do not have, because a file that another tool has merged from older and newer ones has nulls
	// there.
	optional bool
}

// fileColumns are the columns that stand in the files of a level, in their order: all but the date and the column
// inFolder.
func fileColumns[R any](columns []schema.Column[R], l level.Level, inFolder string) (out []fileColumn[R]) {
	for _, c := range columns {
		if c.Kind != schema.Date && c.Name != inFolder {
			out = append(out, fileColumn[R]{c, len(out), c.MayBeNull(l)})
		}
	}
	return out
}

// lastMillis is 9999-12-31T23:59:59.999Z, the last millisecond that every reader of the tables can show.
const lastMillis = 253402300799999

// kafkaMicros turns a record's timestamp, Unix milliseconds, into the column's microseconds. A producer may set any
// number, and -1 means none: a time that no reader could show becomes the nearest one that readers can show.
func kafkaMicros(ms int64) int64 { return min(max(ms, 0), lastMillis) * 1e3 }

// value is the row's value of the column. A text aliases the row.
func (c *fileColumn[R]) value(r *R) parquet.Value {
	var v parquet.Value
	switch c.Kind {
	case schema.Text, schema.Repeated, schema.Few, schema.JSON, schema.StatusName, schema.UUID:
		s := c.Text(r)
		if c.Optional && s == "" {
			return parquet.NullValue().Level(0, 0, c.place)
		}
		v = parquet.ByteArrayValue(alias(s))
	case schema.Uint8, schema.Small, schema.Int32:
		v = parquet.Int32Value(int32(c.Number(r)))
	case schema.Seconds:
		v = parquet.Int64Value(int64(c.Number(r)) * 1e6)
	case schema.Millis:
		v = parquet.Int64Value(int64(c.Number(r)) * 1e3)
	case schema.KafkaMillis:
		v = parquet.Int64Value(kafkaMicros(int64(c.Number(r))))
	default:
		v = parquet.Int64Value(int64(c.Number(r)))
	}
	switch {
	case !c.optional:
		return v.Level(0, 0, c.place)
	case !c.Has(r):
		return parquet.NullValue().Level(0, 0, c.place)
	}
	return v.Level(0, 1, c.place)
}

// older is the column's value in a row of a file that does not have the column.
func (c *fileColumn[R]) older() parquet.Value {
	switch {
	case c.Optional || c.Known != nil:
		return parquet.NullValue().Level(0, 0, c.place)
	case c.Kind.IsText():
		return parquet.ByteArrayValue(nil).Level(0, 1, c.place)
	case fieldType(c.Kind) == "integer":
		return parquet.Int32Value(0).Level(0, 1, c.place)
	}
	return parquet.Int64Value(0).Level(0, 1, c.place)
}

// set puts a value of the column into the row, for readers. A text aliases the value.
func (c *fileColumn[R]) set(r *R, v parquet.Value) {
	if c.Known != nil {
		known := uint64(1)
		if v.IsNull() {
			known = 0
		}
		c.Known.SetNumber(r, known)
	}
	if c.Kind.IsText() {
		c.SetText(r, textOf(v))
		return
	}
	n := int64(0)
	if !v.IsNull() {
		n = v.Int64()
	}
	switch c.Kind {
	case schema.Seconds:
		n /= 1e6
	case schema.Millis, schema.KafkaMillis:
		n /= 1e3
	}
	c.SetNumber(r, uint64(n))
}

// alias returns a text as bytes without a copy; the Parquet columns copy these bytes and do not change them.
func alias(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// textOf returns the bytes of a value as a text without a copy.
func textOf(v parquet.Value) string {
	b := v.ByteArray()
	return unsafe.String(unsafe.SliceData(b), len(b))
}
