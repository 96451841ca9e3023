package delta

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding"

	"deckle/sinks/delta/constraint"
	"deckle/sinks/delta/deltalog"
)

// foreign are the columns in a file that another tool has added to the table, and their values: a revision that writes
// the file again keeps them as they are, of whatever type they are. A row has those values behind the columns that this
// binary knows.
type foreign struct {
	fields []parquet.Field
	leaves map[int]int // by the number of a column in the file read: its number among these
	names  []string    // of the leaves, "" for one within another column
	rows   [][]parquet.Value
}

// readForeign reads the values of the named columns of a data file, as far as it has them, in its visible rows; nil if
// it has none.
func readForeign(key string, data []byte, names []string, v *visible) (f *foreign, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	f = &foreign{leaves: map[int]int{}}
	open := func(file *parquet.File) (deltalog.RowReader[parquet.Row], error) {
		for _, field := range file.Schema().Fields() {
			if slices.Contains(names, field.Name()) {
				f.fields = append(f.fields, plainField{plainNode{field}, field})
			}
		}
		for i, path := range file.Schema().Columns() {
			if !slices.Contains(names, path[0]) {
				continue
			}
			f.leaves[i] = len(f.names)
			name := ""
			if len(path) == 1 {
				name = path[0]
			}
			f.names = append(f.names, name)
		}
		if len(f.fields) == 0 {
			return nothing{}, nil
		}
		return rowReader{parquet.NewGenericReader[any](file)}, nil
	}
	take := v.rows(func(r parquet.Row) error {
		var values []parquet.Value
		for _, v := range r {
			if to, ok := f.leaves[v.Column()]; ok {
				values = append(values, v.Clone().Level(v.RepetitionLevel(), v.DefinitionLevel(), to))
			}
		}
		f.rows = append(f.rows, values)
		return nil
	})
	err = deltalog.EachRow(key, data, open, 128, func(r *parquet.Row) error { return take(*r) })
	if err != nil || len(f.fields) == 0 {
		return nil, err
	}
	return f, nil
}

// nothing reads no rows.
type nothing struct{}

func (nothing) Read([]parquet.Row) (int, error) { return 0, io.EOF }
func (nothing) Close() error                    { return nil }

var errForeignRows = errors.New("columns of other tools do not have as many rows as the file")

// widen puts the values of the file's n-th row behind a row that has all columns of this binary.
func (f *foreign) widen(r sessionRow, n int) (sessionRow, error) {
	if n >= len(f.rows) {
		return nil, fmt.Errorf("delta: %w: %d", errForeignRows, len(f.rows))
	}
	return slices.Concat(r, sessionRow(f.rows[n])), nil
}

// values are those of the n-th row by column, for constraints. Columns that have columns within them are not null.
func (f *foreign) values(n int) map[string]constraint.Value {
	out := map[string]constraint.Value{}
	if f == nil {
		return out
	}
	for _, field := range f.fields {
		out[field.Name()] = constraint.Value{}
	}
	if n < len(f.rows) {
		for _, v := range f.rows[n] {
			if name := f.names[v.Column()]; name != "" {
				out[name] = valueOf(v)
			}
		}
	}
	return out
}

// schema is that of files with these columns behind those of another schema, which is returned if there are none.
func (f *foreign) schema(own *parquet.Schema) *parquet.Schema {
	if f == nil {
		return own
	}
	return behind(own, f.fields)
}

// behind is a schema with further columns behind its own; the schema itself if there are none.
func behind(own *parquet.Schema, fields []parquet.Field) *parquet.Schema {
	if len(fields) == 0 {
		return own
	}
	return parquet.NewSchema(own.Name(), wideNode{own, slices.Concat(own.Fields(), fields)})
}

// beside joins a row as a file of a level has it with the values of these columns.
func (f *foreign) beside(r sessionRow, values []parquet.Value) sessionRow {
	out := slices.Clone(r)
	for _, v := range values {
		out = append(out, v.Level(v.RepetitionLevel(), v.DefinitionLevel(), len(r)+v.Column()))
	}
	return out
}

// wideNode is a schema with further columns.
type wideNode struct {
	parquet.Node
	fields []parquet.Field
}

func (w wideNode) Fields() []parquet.Field { return w.fields }

// plainNode is a node of a file's schema without what only that file's bytes are: encoding and compression.
type plainNode struct{ parquet.Node }

func (plainNode) Encoding() encoding.Encoding { return nil }
func (plainNode) Compression() compress.Codec { return nil }

func (n plainNode) Fields() (fields []parquet.Field) {
	for _, f := range n.Node.Fields() {
		fields = append(fields, plainField{plainNode{f}, f})
	}
	return fields
}

type plainField struct {
	plainNode
	field parquet.Field
}

func (f plainField) Name() string                           { return f.field.Name() }
func (f plainField) Value(base reflect.Value) reflect.Value { return f.field.Value(base) }

// nullable is a column as files have it of which some rows do not have the column: it may be null.
func nullable(f parquet.Field) parquet.Field {
	plain := plainField{plainNode{f}, f}
	if f.Optional() || f.Repeated() {
		return plain
	}
	return nullableField{plain}
}

// nullableField is a column that may be null, although its file says that it never is.
type nullableField struct{ plainField }

func (nullableField) Optional() bool { return true }
func (nullableField) Required() bool { return false }

// leavesOf counts the columns that have values: the node itself, or those within it.
func leavesOf(n parquet.Node) (leaves int) {
	if n.Leaf() {
		return 1
	}
	for _, f := range n.Fields() {
		leaves += leavesOf(f)
	}
	return leaves
}
