package delta

import (
	"unsafe"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
)

// fileColumn is a column of the data files. It converts values to Parquet values and back.
type fileColumn[R any] struct {
	schema.Column[R]
	place int // among the columns of the files
}

// fileColumns are the columns that stand in the files, in their order: all but the date.
func fileColumns[R any](columns []schema.Column[R]) (out []fileColumn[R]) {
	for _, c := range columns {
		if c.Kind != schema.Date {
			out = append(out, fileColumn[R]{c, len(out)})
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
	var n int64
	switch c.Kind {
	case schema.Text, schema.Repeated, schema.Few, schema.JSON, schema.StatusName, schema.UUID:
		s := c.Text(r)
		switch {
		case !c.Optional:
			return parquet.ByteArrayValue(alias(s)).Level(0, 0, c.place)
		case s == "":
			return parquet.NullValue().Level(0, 0, c.place)
		}
		return parquet.ByteArrayValue(alias(s)).Level(0, 1, c.place)
	case schema.Uint8, schema.Small, schema.Int32:
		return parquet.Int32Value(int32(c.Number(r))).Level(0, 0, c.place)
	case schema.Seconds:
		n = int64(c.Number(r)) * 1e6
	case schema.Millis:
		n = int64(c.Number(r)) * 1e3
	case schema.KafkaMillis:
		n = kafkaMicros(int64(c.Number(r)))
	default:
		n = int64(c.Number(r))
	}
	return parquet.Int64Value(n).Level(0, 0, c.place)
}

// set puts a value of the column into the row, for readers. A text aliases the value.
func (c *fileColumn[R]) set(r *R, v parquet.Value) {
	if c.Kind.IsText() {
		c.SetText(r, textOf(v))
		return
	}
	n := v.Int64()
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
