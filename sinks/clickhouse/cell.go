package clickhouse

import (
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema"
)

// cell is a column of a block together with the place of its values in the rows.
type cell[R any] interface{ append(r *R) }

// newCell returns an empty column for the values of a field, which is filled through the cell.
func newCell[R any](b *block, kind schema.Kind, f schema.Field[R]) (proto.ColInput, cell[R]) {
	switch typeOf(kind) {
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
	panic(fmt.Sprintf("clickhouse: no cells of type %s", typeOf(kind)))
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
}

func (c *lowCell[R]) append(r *R) { c.col.Append(c.block.intern(c.f.Text(r))) }

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
