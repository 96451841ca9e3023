package deltalog

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Field is one column of a table. All columns are nullable, so that columns can be added later.
type Field struct {
	Name string
	Type string // string, long, integer, timestamp, date
}

type schemaField struct {
	Name     string          `json:"name"`
	Type     json.RawMessage `json:"type"`
	Nullable bool            `json:"nullable"`
	Metadata map[string]any  `json:"metadata"`
}

type schemaStruct struct {
	Type   string        `json:"type"`
	Fields []schemaField `json:"fields"`
}

// SchemaString renders the columns as metaData.schemaString.
func SchemaString(fields []Field) string {
	s := schemaStruct{Type: "struct"}
	for _, f := range fields {
		s.Fields = append(s.Fields, schemaField{Name: f.Name, Type: json.RawMessage(`"` + f.Type + `"`), Nullable: true,
			Metadata: map[string]any{}})
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // cannot happen: every value in it can be marshalled
	}
	return string(b)
}

// checkSchema reports how a table's schema differs from the columns that are written.
func checkSchema(schemaString string, want []Field) error {
	var s schemaStruct
	if err := json.Unmarshal([]byte(schemaString), &s); err != nil {
		return fmt.Errorf("schemaString: %w", err)
	}
	for _, f := range s.Fields {
		if _, ok := f.Metadata["delta.invariants"]; ok {
			return fmt.Errorf("column %s has an invariant", f.Name)
		}
		i := slices.IndexFunc(want, func(w Field) bool { return w.Name == f.Name })
		if i < 0 {
			return fmt.Errorf("column %s is not one of Deckle's", f.Name)
		}
		if string(f.Type) != `"`+want[i].Type+`"` {
			return fmt.Errorf("column %s has type %s, want %q", f.Name, f.Type, want[i].Type)
		}
	}
	for _, w := range want {
		if !slices.ContainsFunc(s.Fields, func(f schemaField) bool { return f.Name == w.Name }) {
			return fmt.Errorf("column %s is missing", w.Name)
		}
	}
	return nil
}

// Creation says which properties the table of a writer must have, and how it is made if it is missing.
type Creation struct {
	ClusterID, Pipeline string
	Fields              []Field
	PartitionColumn     string
	StatsColumns        []string // delta.dataSkippingStatsColumns
	Description         string
}
