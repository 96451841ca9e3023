package clickhouse

import (
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema"
)

// cell is a column of a block together with the place of its values in the rows.
type cell[R any] interface{ append(r *R) }

// newCell returns an empty column for the values of a column of rows, which is filled through the cell.
func newCell[R any](b *block, c *schema.Column[R]) (proto.ColInput, cell[R]) {
	if c.Known == nil {
		return valueCell(b, typeOf(c.Kind), c.Field)
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(columnType(c.Kind, true), "Nullable("), ")")
	values, of := valueCell(b, inner, c.Field)
	n := &nullableCell[R]{of: of, has: c.Has, col: nullable{values: values}}
	return &n.col, n
}

// nullable is a column of values that may be null.
type nullable struct {
	nulls  proto.ColUInt8
	values proto.ColInput
}

func (c *nullable) Type() proto.ColumnType { return proto.ColumnTypeNullable.Sub(c.values.Type()) }
func (c *nullable) Rows() int              { return c.nulls.Rows() }

func (c *nullable) EncodeColumn(b *proto.Buffer) {
	c.nulls.EncodeColumn(b)
	c.values.EncodeColumn(b)
}

func (c *nullable) WriteColumn(w *proto.Writer) {
	c.nulls.WriteColumn(w)
	c.values.WriteColumn(w)
}

// Reset implements proto.Resettable.
func (c *nullable) Reset() {
	c.nulls.Reset()
	if v, ok := c.values.(proto.Resettable); ok {
		v.Reset()
	}
}

type nullableCell[R any] struct {
	of  cell[R]
	has func(*R) bool
	col nullable
}

// append takes the value in any case, because a null has one, too, which nobody reads.
func (c *nullableCell[R]) append(r *R) {
	null := uint8(1)
	if c.has(r) {
		null = 0
	}
	c.col.nulls.Append(null)
	c.of.append(r)
}

func valueCell[R any](b *block, typ string, f schema.Field[R]) (proto.ColInput, cell[R]) {
	switch typ {
	case text:
		c := &textCell[R]{f: f}
		return &c.col, c
	case lowText:
		c := &lowCell[R]{f: f, col: lowCardinality(), block: b}
		return c.col, c
	case statuses:
		c := &enumCell[R]{f: f}
		if err := c.col.Infer(statuses); err != nil {
			panic(err) // a constant of this package
		}
		return &c.col, c
	case "UInt8":
		c := &uint8Cell[R]{f: f}
		return &c.col, c
	case "UInt32":
		c := &uint32Cell[R]{f: f}
		return &c.col, c
	case "UInt64":
		c := &uint64Cell[R]{f: f}
		return &c.col, c
	case seconds:
		c := &secondsCell[R]{f: f}
		c.col.Location = time.UTC
		return &c.col, c
	case millis:
		c := &millisCell[R]{f: f}
		c.col.WithPrecision(proto.PrecisionMilli).WithLocation(time.UTC)
		return &c.col, c
	case "Date":
		c := &dateCell[R]{f: f}
		return &c.col, c
	}
	panic("clickhouse: no cells of type " + typ)
}

type textCell[R any] struct {
	f   schema.Field[R]
	col proto.ColStr
}

func (c *textCell[R]) append(r *R) { c.col.Append(c.f.Text(r)) }

// lowCell copies its texts into the block's pool, because its column keeps references to them.
type lowCell[R any] struct {
	f     schema.Field[R]
	col   *proto.ColLowCardinality[string]
	block *block
	last  string // a copy of the last text, which the next row most often repeats
}

func (c *lowCell[R]) append(r *R) {
	if s := c.f.Text(r); s != c.last {
		c.last = c.block.intern(s)
	}
	c.col.Append(c.last)
}

type enumCell[R any] struct {
	f   schema.Field[R]
	col proto.ColEnum
}

func (c *enumCell[R]) append(r *R) { c.col.Append(c.f.Text(r)) }

type uint8Cell[R any] struct {
	f   schema.Field[R]
	col proto.ColUInt8
}

func (c *uint8Cell[R]) append(r *R) { c.col.Append(uint8(c.f.Number(r))) }

type uint32Cell[R any] struct {
	f   schema.Field[R]
	col proto.ColUInt32
}

func (c *uint32Cell[R]) append(r *R) { c.col.Append(uint32(c.f.Number(r))) }

type uint64Cell[R any] struct {
	f   schema.Field[R]
	col proto.ColUInt64
}

func (c *uint64Cell[R]) append(r *R) { c.col.Append(c.f.Number(r)) }

type secondsCell[R any] struct {
	f   schema.Field[R]
	col proto.ColDateTime
}

func (c *secondsCell[R]) append(r *R) { c.col.AppendRaw(proto.DateTime(c.f.Number(r))) }

type millisCell[R any] struct {
	f   schema.Field[R]
	col proto.ColDateTime64
}

func (c *millisCell[R]) append(r *R) { c.col.AppendRaw(proto.DateTime64(c.f.Number(r))) }

type dateCell[R any] struct {
	f   schema.Field[R]
	col proto.ColDate
}

func (c *dateCell[R]) append(r *R) { c.col = append(c.col, proto.Date(c.f.Number(r))) }

func lowCardinality() *proto.ColLowCardinality[string] { return new(proto.ColStr).LowCardinality() }
