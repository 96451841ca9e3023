package history

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"deckle/sinks/delta/deltalog"
)

// Column is a column as the schema of a table describes it.
type Column struct {
	Name      string `json:"name"`
	Type      string `json:"type"` // a type that is no single word is JSON
	Nullable  bool   `json:"nullable"`
	Default   string `json:"default,omitempty"`   // SQL, of rows for which the writer has no value
	Generated string `json:"generated,omitempty"` // SQL by which writers make the values
	Comment   string `json:"comment,omitempty"`
}

// ColumnsOf are the columns of a table in the order of the schema; nil if the schema cannot be understood.
func ColumnsOf(m *deltalog.Metadata) (out []Column) {
	var s struct {
		Fields []struct {
			Name     string
			Type     json.RawMessage
			Nullable bool
			Metadata map[string]json.RawMessage
		}
	}
	if json.Unmarshal([]byte(m.SchemaString), &s) != nil {
		return nil
	}
	for _, f := range s.Fields {
		out = append(out, Column{Name: f.Name, Type: plain(f.Type), Nullable: f.Nullable,
			Default:   plain(f.Metadata[deltalog.ConfigDefault]),
			Generated: plain(f.Metadata["delta.generationExpression"]), Comment: plain(f.Metadata["comment"])})
	}
	return out
}

// Constraint is a condition that writers keep for each row.
type Constraint struct {
	Name       string `json:"name"`
	Expression string `json:"expression"` // SQL
}

// Constraints are a table's CHECK constraints, ascending by name. NOT NULL is in Column.
func Constraints(m *deltalog.Metadata) (out []Constraint) {
	for _, key := range slices.Sorted(maps.Keys(m.Configuration)) {
		if name, ok := strings.CutPrefix(key, deltalog.ConfigConstraint); ok {
			out = append(out, Constraint{name, m.Configuration[key]})
		}
	}
	return out
}
