package deltalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Field is one column of a table.
type Field struct {
	Name string
	Type string // string, long, integer, timestamp, date
	// Required says that no row has a null there: the column is NOT NULL in tables that are made here. A column that is
	// added later never is. It changes nothing in a table that is there.
	Required bool
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

func (f Field) action(comment string) schemaField {
	a := schemaField{Name: f.Name, Type: json.RawMessage(`"` + f.Type + `"`), Nullable: !f.Required,
		Metadata: map[string]any{}}
	if comment != "" {
		a.Metadata["comment"] = comment
	}
	return a
}

// SchemaString renders the columns as metaData.schemaString, without comments.
func SchemaString(fields []Field) string { return schemaString(fields, nil) }

// schemaString renders the columns with their comments, by name.
func schemaString(fields []Field, comments map[string]string) string {
	s := schemaStruct{Type: "struct"}
	for _, f := range fields {
		s.Fields = append(s.Fields, f.action(comments[f.Name]))
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // cannot happen: every value in it can be marshalled
	}
	return string(b)
}

// needed are what a column may ask of who writes it, by the names in its metadata.
var needed = map[string]string{
	"delta.invariants": "an invariant", "delta.generationExpression": "an expression that generates it",
	"delta.identity.start": "generated numbers",
}

// checkSchema reports how a table's schema differs from the columns that are written. The later ones may be missing.
// Columns of others may be there if they may be null, as they are in every row that is written here, or have a default.
func checkSchema(schemaString string, want, later []Field) error {
	var s schemaStruct
	if err := json.Unmarshal([]byte(schemaString), &s); err != nil {
		return fmt.Errorf("schemaString: %w", err)
	}
	known := slices.Concat(want, later)
	for _, f := range s.Fields {
		for _, key := range slices.Sorted(maps.Keys(needed)) {
			if _, ok := f.Metadata[key]; ok {
				return fmt.Errorf("column %s has %s", f.Name, needed[key])
			}
		}
		i := slices.IndexFunc(known, func(w Field) bool { return w.Name == f.Name })
		if d, err := defaultOf(&f); i < 0 && !f.Nullable && d == nil && err == nil {
			return fmt.Errorf("column %s is not one of Deckle's and NOT NULL: no row could be written", f.Name)
		}
		if i < 0 {
			continue
		}
		if string(f.Type) != `"`+known[i].Type+`"` {
			return fmt.Errorf("column %s has type %s, want %q", f.Name, f.Type, known[i].Type)
		}
	}
	for _, w := range want {
		if !slices.ContainsFunc(s.Fields, func(f schemaField) bool { return f.Name == w.Name }) {
			return fmt.Errorf("column %s is missing", w.Name)
		}
	}
	return nil
}

// withFields returns the schema with those columns at its end that it does not have, and their names. What stands there
// is kept as it is, whatever other tools have noted about a column.
func withFields(schemaString string, fields []Field, comments map[string]string) (extended string, added []string,
	err error) {
	var s struct {
		Type   string            `json:"type"`
		Fields []json.RawMessage `json:"fields"`
	}
	if err := json.Unmarshal([]byte(schemaString), &s); err != nil {
		return "", nil, fmt.Errorf("schemaString: %w", err)
	}
	have := map[string]bool{}
	for _, raw := range s.Fields {
		var f schemaField
		if err := json.Unmarshal(raw, &f); err != nil {
			return "", nil, fmt.Errorf("schemaString: %w", err)
		}
		have[f.Name] = true
	}
	for _, f := range fields {
		if have[f.Name] {
			continue
		}
		raw, err := json.Marshal(f.action(comments[f.Name]))
		if err != nil {
			return "", nil, fmt.Errorf("schemaString: %w", err)
		}
		s.Fields, added = append(s.Fields, raw), append(added, f.Name)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return "", nil, fmt.Errorf("schemaString: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), added, nil
}

// Creation says which properties the table of a writer must have, and how it is made if it is missing.
type Creation struct {
	ClusterID, Pipeline string
	Fields              []Field
	// Later are the columns that a table may lack until Log.AddColumns gives it them. A table that is made here has the
	// first NewLater of them at once.
	Later    []Field
	NewLater int
	// PartitionColumns are in the order of their names. The last one is a date.
	PartitionColumns []string
	// PartitionHint says what to do about a table that is partitioned by other columns, which it keeps.
	PartitionHint string
	StatsColumns  []string // delta.dataSkippingStatsColumns
	Description   string
	// InCommitTimestamps makes the table with in-commit timestamps. One that is there has them or not, as it is.
	InCommitTimestamps bool
	// Comments are those of columns, by name, for columns that are made here.
	Comments map[string]string
}

// values are the partition values of an action about a file of a partition.
func (c *Creation) values(partition string) Values {
	values := make(Values, len(c.PartitionColumns))
	for i, v := range PartitionValues(partition) {
		if i < len(c.PartitionColumns) {
			values[c.PartitionColumns[i]] = v
		}
	}
	return values
}
