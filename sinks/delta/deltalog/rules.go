package deltalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"deckle/sinks/delta/constraint"
)

// ConfigConstraint stands before the name of a CHECK constraint, in the key of the table's property that has it, SQL.
const ConfigConstraint = "delta.constraints."

// Rules are what a table wants of each row by its metaData: CHECK constraints, the defaults of columns of others, and
// columns that are NOT NULL. Of the latter those are left out of which no file that is written here has a null: new
// tables are made with them, and their rows need no judge.
type Rules struct {
	text     string
	checks   []check
	present  []string // columns that have no null
	defaults []Default
	err      error  // a rule that is not understood
	hint     string // and the way out
}

type check struct {
	name, text string
	expr       *constraint.Expr
	columns    []string
}

// rulesOf reads the rules of a table. known are the columns that are written here, nil for a reader: true for those
// that have no null.
func rulesOf(m *Metadata, known map[string]bool) *Rules {
	r := &Rules{}
	if m == nil {
		return r
	}
	var names []string
	for key := range maps.Keys(m.Configuration) {
		if strings.HasPrefix(key, ConfigConstraint) {
			names = append(names, key)
		}
	}
	var s schemaStruct
	if err := json.Unmarshal([]byte(m.SchemaString), &s); err != nil {
		return r // checkSchema says so
	}
	var columns []constraint.Column
	for _, f := range s.Fields {
		var typ string
		if json.Unmarshal(f.Type, &typ) != nil {
			typ = "" // a struct, an array or a map
		}
		columns = append(columns, constraint.Column{Name: f.Name, Kind: constraint.KindOf(typ)})
		if !f.Nullable && !known[f.Name] {
			r.present = append(r.present, f.Name)
			r.text += "not null " + f.Name + "\n"
		}
		if _, own := known[f.Name]; own || known == nil {
			continue
		}
		d, err := defaultOf(&f)
		if err != nil {
			r.err, r.hint = err, hintDefault
			return r
		}
		if d != nil {
			r.defaults = append(r.defaults, *d)
			r.text += fmt.Sprintf("default %s %s %v\n", d.Column, d.Type, d.Value)
		}
	}
	slices.Sort(names)
	for _, key := range names {
		c := check{name: strings.TrimPrefix(key, ConfigConstraint), text: m.Configuration[key]}
		var err error
		if c.expr, err = constraint.Parse(c.text, columns); err != nil {
			r.hint = hintConstraint
			r.err = fmt.Errorf("the constraint %s, CHECK (%s), is not understood: %w", c.name, c.text, err)
			return r
		}
		c.columns = c.expr.Columns()
		r.checks = append(r.checks, c)
		r.text += key + " " + c.text + "\n"
	}
	return r
}

// Text tells these rules from others; "" if there are none. A change says with it by which rules its rows were judged.
func (r *Rules) Text() string { return r.text }

// Defaults are the columns of others that new rows have a value in. The caller does not change them.
func (r *Rules) Defaults() []Default { return r.defaults }

// ViolationError says which rule a row violates.
type ViolationError struct{ Rule string }

func (e *ViolationError) Error() string { return "the row violates the table's " + e.Rule }

// Check returns a *ViolationError if a row violates a rule; a CHECK must be true, not unknown. Rules about columns for
// which has is false are left out.
func (r *Rules) Check(row func(column string) constraint.Value, has func(column string) bool) error {
	for _, c := range r.present {
		if has(c) && row(c).Null {
			return &ViolationError{"NOT NULL of column " + c}
		}
	}
	for i := range r.checks {
		c := &r.checks[i]
		if slices.ContainsFunc(c.columns, func(name string) bool { return !has(name) }) {
			continue
		}
		if c.expr.Eval(row) != constraint.True {
			return &ViolationError{fmt.Sprintf("constraint %s, CHECK (%s)", c.name, c.text)}
		}
	}
	return nil
}
