package clickhouse

import (
	"cmp"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"
)

// kind is how the values of a column are kept and sent.
type kind int

const (
	kindString kind = iota
	kindLow
	kindUInt8
	kindUInt32
	kindUInt64
	kindInt64
	kindFloat64
	kindDate
	kindDateTime
	kindDateTime64
	kindEnum8
)

// vec is a column: texts in s, everything else as bits in n.
type vec struct {
	typ  string
	kind kind
	s    []string
	n    []uint64
	enum []string // names by value - 1
	// null tells of each value whether it is null, if nullable is set; it then has a default value, too.
	null     []bool
	nullable bool
}

// newVec returns an empty column of a type as a CREATE statement writes it.
func newVec(typ string) (vec, error) {
	kinds := map[string]kind{
		"String": kindString, "LowCardinality(String)": kindLow, "UInt8": kindUInt8, "UInt32": kindUInt32,
		"UInt64": kindUInt64,
		"Int64":  kindInt64, "Float64": kindFloat64, "Date": kindDate, "DateTime": kindDateTime,
		"DateTime('UTC')":      kindDateTime,
		"DateTime64(3, 'UTC')": kindDateTime64,
	}
	if inner, ok := strings.CutPrefix(typ, "Nullable("); ok {
		v, err := newVec(strings.TrimSuffix(inner, ")"))
		if err == nil && (v.nullable || v.column() == nil || v.nullColumn() == nil) {
			err = exception(proto.ErrNotImplemented, "the model does not know the type %s", typ)
		}
		v.typ, v.nullable = typ, true
		return v, err
	}
	v := vec{typ: typ}
	if k, ok := kinds[typ]; ok {
		v.kind = k
		return v, nil
	}
	if list, ok := strings.CutPrefix(typ, "Enum8("); ok {
		v.kind = kindEnum8
		for i, def := range strings.Split(strings.TrimSuffix(list, ")"), ", ") {
			name, value, _ := strings.Cut(def, " = ")
			if value != strconv.Itoa(i+1) {
				return v, exception(proto.ErrNotImplemented, "the model knows enums from 1 on, without gaps: %s", typ)
			}
			v.enum = append(v.enum, strings.Trim(name, "'"))
		}
		return v, nil
	}
	return v, exception(proto.ErrUnknownType, "the model does not know the type %s", typ)
}

// mustVec is newVec for a type of this package.
func mustVec(typ string) vec {
	v, err := newVec(typ)
	if err != nil {
		panic(err)
	}
	return v
}

func (v *vec) isText() bool { return v.kind <= kindLow }

func (v *vec) len() int { return max(len(v.s), len(v.n)) }

// empty returns a column of the same type.
func (v *vec) empty() vec { return vec{typ: v.typ, kind: v.kind, enum: v.enum, nullable: v.nullable} }

func (v *vec) isNull(i int) bool { return v.nullable && v.null[i] }

// take appends row i of a column of the same type.
func (v *vec) take(from *vec, i int) {
	if v.nullable {
		v.null = append(v.null, from.null[i])
	}
	if v.isText() {
		v.s = append(v.s, from.s[i])
	} else {
		v.n = append(v.n, from.n[i])
	}
}

// zero appends n default values.
func (v *vec) zero(n int) {
	for range n {
		if v.nullable {
			v.null = append(v.null, true)
		}
		switch {
		case v.isText():
			v.s = append(v.s, "")
		case v.kind == kindEnum8:
			v.n = append(v.n, 1)
		default:
			v.n = append(v.n, 0)
		}
	}
}

func (v *vec) compare(i, j int) int {
	switch {
	case v.isText():
		return strings.Compare(v.s[i], v.s[j])
	case v.kind == kindInt64:
		return cmp.Compare(int64(v.n[i]), int64(v.n[j]))
	case v.kind == kindFloat64:
		return cmp.Compare(math.Float64frombits(v.n[i]), math.Float64frombits(v.n[j]))
	}
	return cmp.Compare(v.n[i], v.n[j])
}

// key appends the value so that two values are equal if their bytes are, whatever follows.
func (v *vec) key(b []byte, i int) []byte {
	if v.isNull(i) {
		return append(b, "null"...)
	}
	if v.isText() {
		b = binary.AppendUvarint(b, uint64(len(v.s[i])))
		return append(b, v.s[i]...)
	}
	return binary.LittleEndian.AppendUint64(b, v.n[i])
}

// text is toString of the value, NULL of a null.
func (v *vec) text(i int) string {
	if v.isNull(i) {
		return "NULL"
	}
	switch v.kind {
	case kindString, kindLow:
		return v.s[i]
	case kindInt64:
		return strconv.FormatInt(int64(v.n[i]), 10)
	case kindFloat64:
		return strconv.FormatFloat(math.Float64frombits(v.n[i]), 'g', -1, 64)
	case kindDate:
		return dateOf(v.n[i]).Format(time.DateOnly)
	case kindDateTime:
		return time.Unix(int64(v.n[i]), 0).UTC().Format(time.DateTime)
	case kindDateTime64:
		return time.UnixMilli(int64(v.n[i])).UTC().Format("2006-01-02 15:04:05.000")
	case kindEnum8:
		return v.enum[v.n[i]-1]
	}
	return strconv.FormatUint(v.n[i], 10)
}

func dateOf(days uint64) time.Time { return time.Unix(int64(days)*86_400, 0).UTC() }

// nullColumn returns an empty column of the protocol for a type whose values may be null, nil if the model does not
// know it.
func (v *vec) nullColumn() proto.ColInput {
	switch v.kind {
	case kindString:
		return new(proto.ColStr).Nullable()
	case kindUInt8:
		return new(proto.ColUInt8).Nullable()
	case kindUInt32:
		return new(proto.ColUInt32).Nullable()
	case kindUInt64:
		return new(proto.ColUInt64).Nullable()
	case kindInt64:
		return new(proto.ColInt64).Nullable()
	}
	return nil
}

// column returns an empty column of the protocol.
func (v *vec) column() proto.ColInput {
	if v.nullable {
		return v.nullColumn()
	}
	infer := func(c interface {
		proto.ColInput
		Infer(proto.ColumnType) error
	}) proto.ColInput {
		if err := c.Infer(proto.ColumnType(v.typ)); err != nil {
			panic(err) // newVec knows the type
		}
		return c
	}
	switch v.kind {
	case kindLow:
		return new(proto.ColStr).LowCardinality()
	case kindUInt8:
		return new(proto.ColUInt8)
	case kindUInt32:
		return new(proto.ColUInt32)
	case kindUInt64:
		return new(proto.ColUInt64)
	case kindInt64:
		return new(proto.ColInt64)
	case kindFloat64:
		return new(proto.ColFloat64)
	case kindDate:
		return new(proto.ColDate)
	case kindDateTime:
		return infer(new(proto.ColDateTime))
	case kindDateTime64:
		return infer(new(proto.ColDateTime64))
	case kindEnum8:
		return infer(new(proto.ColEnum))
	}
	return new(proto.ColStr)
}

// encode returns rows [from, to) for the protocol.
func (v *vec) encode(from, to int) proto.ColInput {
	col := v.column()
	for i := from; i < to; i++ {
		switch c := col.(type) {
		case *proto.ColNullable[string]:
			c.Append(proto.Nullable[string]{Set: !v.null[i], Value: v.s[i]})
		case *proto.ColNullable[uint8]:
			c.Append(proto.Nullable[uint8]{Set: !v.null[i], Value: uint8(v.n[i])})
		case *proto.ColNullable[uint32]:
			c.Append(proto.Nullable[uint32]{Set: !v.null[i], Value: uint32(v.n[i])})
		case *proto.ColNullable[uint64]:
			c.Append(proto.Nullable[uint64]{Set: !v.null[i], Value: v.n[i]})
		case *proto.ColNullable[int64]:
			c.Append(proto.Nullable[int64]{Set: !v.null[i], Value: int64(v.n[i])})
		case *proto.ColStr:
			c.Append(v.s[i])
		case *proto.ColLowCardinality[string]:
			c.Append(v.s[i])
		case *proto.ColUInt8:
			c.Append(uint8(v.n[i]))
		case *proto.ColUInt32:
			c.Append(uint32(v.n[i]))
		case *proto.ColUInt64:
			c.Append(v.n[i])
		case *proto.ColInt64:
			c.Append(int64(v.n[i]))
		case *proto.ColFloat64:
			c.Append(math.Float64frombits(v.n[i]))
		case *proto.ColDate:
			*c = append(*c, proto.Date(v.n[i]))
		case *proto.ColDateTime:
			c.AppendRaw(proto.DateTime(v.n[i]))
		case *proto.ColDateTime64:
			c.AppendRaw(proto.DateTime64(v.n[i]))
		case *proto.ColEnum:
			c.Append(v.text(i))
		}
	}
	return col
}

// decode appends what a client has sent. The type must be the one that the header has asked for.
func (v *vec) decode(name string, col proto.ColResult) error {
	if a, ok := col.(*proto.ColAuto); ok {
		col = a.Data
	}
	if got := string(col.Type()); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(v.typ, " ", "") {
		return exception(proto.ErrTypeMismatch, "Column %s is of type %s, and %s was sent", name, v.typ, got)
	}
	for i := range col.Rows() {
		switch c := col.(type) {
		case *proto.ColNullable[string]:
			v.null, v.s = append(v.null, c.IsElemNull(i)), append(v.s, c.Values.Row(i))
		case *proto.ColNullable[uint8]:
			v.null, v.n = append(v.null, c.IsElemNull(i)), append(v.n, uint64(c.Values.Row(i)))
		case *proto.ColNullable[uint32]:
			v.null, v.n = append(v.null, c.IsElemNull(i)), append(v.n, uint64(c.Values.Row(i)))
		case *proto.ColNullable[uint64]:
			v.null, v.n = append(v.null, c.IsElemNull(i)), append(v.n, c.Values.Row(i))
		case *proto.ColNullable[int64]:
			v.null, v.n = append(v.null, c.IsElemNull(i)), append(v.n, uint64(c.Values.Row(i)))
		case *proto.ColStr:
			v.s = append(v.s, c.Row(i))
		case *proto.ColLowCardinality[string]:
			v.s = append(v.s, c.Row(i))
		case *proto.ColUInt8:
			v.n = append(v.n, uint64(c.Row(i)))
		case *proto.ColUInt32:
			v.n = append(v.n, uint64(c.Row(i)))
		case *proto.ColUInt64:
			v.n = append(v.n, c.Row(i))
		case *proto.ColInt64:
			v.n = append(v.n, uint64(c.Row(i)))
		case *proto.ColFloat64:
			v.n = append(v.n, math.Float64bits(c.Row(i)))
		case *proto.ColDate:
			v.n = append(v.n, uint64((*c)[i]))
		case *proto.ColDateTime:
			v.n = append(v.n, uint64(c.Data[i]))
		case *proto.ColDateTime64:
			v.n = append(v.n, uint64(c.Data[i]))
		case *proto.ColEnum:
			n := uint64(0)
			for j, e := range v.enum {
				if e == c.Row(i) {
					n = uint64(j + 1)
				}
			}
			v.n = append(v.n, n)
		default:
			return exception(proto.ErrNotImplemented, "the model cannot take a column as %T", col)
		}
	}
	return nil
}
