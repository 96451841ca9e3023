package deltalog

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strconv"

	"deckle/sinks/delta/constraint"
)

// ConfigDefault is the key in a column's metadata that has its default, SQL (feature allowColumnDefaults).
const ConfigDefault = "CURRENT_DEFAULT"

// Default is a column of another tool that has a default, and the value that rows have there which are new here. One
// whose default is NULL is none. Deckle's own columns never need theirs, as each row has a value for them or a null.
type Default struct {
	Column string
	Type   string // of Delta, e.g. string, long, decimal(9,2)
	// Value is a bool, a string, a float32, a float64, an int32 (byte, short, integer, days of a date, decimal of up to
	// 9 digits without its point), or an int64 (long, microseconds of a timestamp, decimal of up to 18 digits).
	Value any
}

// Constraint is the value as constraints compare it.
func (d *Default) Constraint() constraint.Value {
	switch v := d.Value.(type) {
	case string:
		return constraint.Value{Text: v}
	case int32:
		return constraint.Value{N: int64(v)}
	case int64:
		return constraint.Value{N: v}
	}
	return constraint.Value{} // of a type that is only asked for null
}

// defaultOf reads the default of a column, nil if it has none or NULL.
func defaultOf(f *schemaField) (*Default, error) {
	raw, ok := f.Metadata[ConfigDefault]
	if !ok {
		return nil, nil
	}
	text, ok := raw.(string)
	if !ok {
		return nil, fmt.Errorf("the default of column %s is no text", f.Name)
	}
	refuse := func(err error) (*Default, error) {
		return nil, fmt.Errorf("the default of column %s, %s, is not understood: %w", f.Name, text, err)
	}
	l, err := constraint.ParseLiteral(text)
	if err != nil {
		return refuse(err)
	}
	if l.Null {
		return nil, nil
	}
	d := &Default{Column: f.Name}
	if json.Unmarshal(f.Type, &d.Type) != nil {
		return refuse(fmt.Errorf("a value of a type with others within it"))
	}
	if d.Value = valueOf(d.Type, &l); d.Value == nil {
		return refuse(fmt.Errorf("it is no value of the type %s", d.Type))
	}
	return d, nil
}

var decimals = regexp.MustCompile(`^decimal\((\d{1,2}),(\d{1,2})\)$`)

// valueOf is a literal as a value of a type, nil if it is none exactly.
func valueOf(typ string, l *constraint.Literal) any {
	switch {
	case typ == "string" && l.Text != nil:
		return *l.Text
	case typ == "boolean" && l.Bool != nil:
		return *l.Bool
	case typ == "date" && l.Kind == constraint.Date && l.Moment != nil && *l.Moment == int64(int32(*l.Moment)):
		return int32(*l.Moment)
	case typ == "timestamp" && l.Kind == constraint.Time && l.Moment != nil:
		return *l.Moment
	case l.Number == nil:
		return nil
	}
	bits := map[string]int{"byte": 8, "short": 16, "integer": 32, "long": 64}[typ]
	switch m := decimals.FindStringSubmatch(typ); {
	case typ == "double":
		v, _ := l.Number.Float64()
		return v
	case typ == "float":
		v, _ := l.Number.Float32()
		return v
	case bits > 0 && l.Number.IsInt() && l.Number.Num().IsInt64():
		v := l.Number.Num().Int64()
		switch {
		case v != v<<(64-bits)>>(64-bits):
			return nil
		case bits == 64:
			return v
		}
		return int32(v)
	case m != nil:
		digits, _ := strconv.Atoi(m[1])
		scale, _ := strconv.Atoi(m[2])
		ten := func(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
		n := new(big.Rat).Mul(l.Number, new(big.Rat).SetInt(ten(scale)))
		switch {
		case !n.IsInt() || new(big.Int).Abs(n.Num()).Cmp(ten(digits)) >= 0 || digits > 18 || digits == 0:
			return nil
		case digits <= 9:
			return int32(n.Num().Int64())
		}
		return n.Num().Int64()
	}
	return nil
}
