package delta

import (
	"bytes"
	"fmt"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"deckle/sinks/delta/constraint"
	"deckle/sinks/delta/deltalog"
)

// fresh are the values that new rows have in columns of others: their defaults, else null.
func (j *judge) fresh() map[string]constraint.Value {
	if j == nil {
		return noForeign
	}
	return j.defaults
}

// fills reports whether new rows get columns of others that have defaults.
func (j *judge) fills() bool { return j != nil && len(j.rules.Defaults()) > 0 }

// fill gives a file of new rows the columns of others that have defaults, behind the columns of own, which it has.
func (j *judge) fill(own *parquet.Schema, data []byte, c compress.Codec) ([]byte, error) {
	if !j.fills() {
		return data, nil
	}
	more := &foreign{}
	var values []parquet.Value
	for _, d := range j.rules.Defaults() {
		node, v, err := defaultColumn(&d)
		if err != nil {
			return nil, err
		}
		values = append(values, v.Level(0, 1, len(own.Columns())+len(more.fields)))
		more.fields = append(more.fields, parquet.Group{d.Column: node}.Fields()...)
	}
	var out bytes.Buffer
	w := parquet.NewGenericWriter[any](&out, append(fileOptions(c), more.schema(own))...)
	open := func(f *parquet.File) (deltalog.RowReader[parquet.Row], error) {
		return rowReader{parquet.NewGenericReader[any](f)}, nil
	}
	row := make([]parquet.Row, 1)
	err := deltalog.EachRow("new rows", data, open, writeRows, func(r *parquet.Row) error {
		row[0] = append((*r)[:len(*r):len(*r)], values...)
		_, err := w.WriteRows(row)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("delta: columns with defaults: %w", err)
	}
	return out.Bytes(), nil
}

// fillEvents is fill for files of events, which stay as they are, as another commit may want them again.
func (j *judge) fillEvents(files []*dataFile, c compress.Codec) ([]*dataFile, error) {
	if !j.fills() {
		return files, nil
	}
	out := make([]*dataFile, len(files))
	for i, f := range files {
		filled := *f
		var err error
		if filled.data, err = j.fill(f.table.file, f.data, c); err != nil {
			return nil, err
		}
		out[i] = &filled
	}
	return out, nil
}

// defaultColumn is the column of a default in a file, and its value.
func defaultColumn(d *deltalog.Default) (parquet.Node, parquet.Value, error) {
	var node parquet.Node
	switch d.Type {
	case "string":
		node = parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	case "boolean":
		node = parquet.Leaf(parquet.BooleanType)
	case "float":
		node = parquet.Leaf(parquet.FloatType)
	case "double":
		node = parquet.Leaf(parquet.DoubleType)
	case "byte":
		node = parquet.Int(8)
	case "short":
		node = parquet.Int(16)
	case "integer":
		node = parquet.Int(32)
	case "long":
		node = parquet.Int(64)
	case "date":
		node = parquet.Date()
	case "timestamp":
		node = parquet.Timestamp(parquet.Microsecond)
	default:
		digits, scale := 0, 0
		if _, err := fmt.Sscanf(d.Type, "decimal(%d,%d)", &digits, &scale); err != nil {
			return nil, parquet.Value{}, fmt.Errorf("delta: a default of type %s: %w", d.Type, err)
		}
		typ := parquet.Int64Type
		if digits <= 9 {
			typ = parquet.Int32Type
		}
		node = parquet.Decimal(scale, digits, typ)
	}
	return parquet.Optional(node), parquet.ValueOf(d.Value), nil
}
