package delta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta/constraint"
	"deckle/sinks/delta/deltalog"
)

// judge holds rows against the rules of their table.
type judge struct {
	rules *deltalog.Rules
	table *table // with every column that this binary knows
	// defaults are the values of new rows in columns of others.
	defaults map[string]constraint.Value
	places   map[string]int // of the columns in the rows; partition columns are none of them
}

// judge returns nil if the table has no rules, and an error if nothing may be written to it.
func (w *writer) judge() (*judge, error) {
	rules, err := w.log.Rules()
	if err != nil || rules.Text() == "" {
		return nil, err
	}
	t := w.tables[level.Current]
	j := &judge{rules: rules, table: t, places: map[string]int{}, defaults: map[string]constraint.Value{}}
	for _, d := range rules.Defaults() {
		j.defaults[d.Column] = d.Constraint()
	}
	for i, f := range t.file.Fields() {
		j.places[f.Name()] = i
	}
	return j, nil
}

// untilJudged repeats a write that judges its rows, while the table gets other rules before its commit. No row is
// refused for a rule that does not stand any more.
func (w *writer) untilJudged(ctx context.Context, write func(*judge) error) error {
	for try := 0; ; try++ {
		j, err := w.judge()
		if err != nil { // nothing else looks whether somebody has undone what stops the table
			if err := w.log.Refresh(ctx); err != nil {
				return err
			}
			if j, err = w.judge(); err != nil {
				return err
			}
		}
		err = write(j)
		again := errors.Is(err, deltalog.ErrRebuild)
		if _, violated := errors.AsType[*deltalog.ViolationError](err); violated {
			if err := w.log.Refresh(ctx); err != nil {
				return err
			}
			now, jerr := w.judge()
			if jerr != nil {
				return jerr
			}
			again = now.text() != j.text()
		}
		if !again || try == maxJudged {
			return err
		}
	}
}

// maxJudged bounds how often one call judges its rows again.
const maxJudged = 5

// text is what a change says of the rules by which its rows were judged.
func (j *judge) text() string {
	if j == nil {
		return ""
	}
	return j.rules.Text()
}

// row judges a row of a partition, which ends with the columns of its level. of has the values of the columns of
// others; nil: rules about them are left out. The error is a *deltalog.ViolationError.
func (j *judge) row(r parquet.Row, p partition, of map[string]constraint.Value) error {
	if j == nil {
		return nil
	}
	return j.rules.Check(func(column string) constraint.Value {
		switch {
		case column == j.table.partition:
			return constraint.Value{N: int64(p.date)}
		case column == BrandColumn && j.table.byBrand:
			return constraint.Value{Text: p.brand, Null: p.brand == ""}
		}
		if at, ok := j.places[column]; ok && at < len(r) {
			return valueOf(r[at])
		} else if v, other := of[column]; !ok && other {
			return v
		}
		return constraint.Value{Null: true}
	}, func(column string) bool {
		_, own := j.places[column]
		return of != nil || own || slices.Contains(j.table.columns(), column)
	})
}

// valueOf is a value of a column as constraints compare it.
func valueOf(v parquet.Value) constraint.Value {
	switch {
	case v.IsNull():
		return constraint.Value{Null: true}
	case v.Kind() == parquet.ByteArray:
		return constraint.Value{Text: string(v.ByteArray())}
	case v.Kind() == parquet.Int32 || v.Kind() == parquet.Int64:
		return constraint.Value{N: v.Int64()}
	}
	return constraint.Value{} // of a type that is only asked for null
}

// refused turns the violation of a rule by a session into what the node makes a dead letter of.
func refused(s *schema.SessionRow, violation error) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("delta: refused row: %w", err)
	}
	return &sinks.RefusedError{RowKey: s.Key(), Row: raw, Err: violation, Brief: violation.Error()}
}

// noForeign says that no column of others has a value, as in a new row where none has a default.
var noForeign = map[string]constraint.Value{}

// events judges the rows of a file of events. No single one of them could be left out, so that a violation is a
// *sinks.StopError.
func (j *judge) events(f *dataFile) error {
	if j == nil {
		return nil
	}
	return eachRow(f.table.name, f.data, j.table.file, j.table.later, func(r parquet.Row) error {
		err := j.row(r, f.partition, j.fresh())
		if _, ok := errors.AsType[*deltalog.ViolationError](err); ok {
			partition, offset := r[j.places["kafka_partition"]].Int64(), r[j.places["kafka_offset"]].Int64()
			err = fmt.Errorf("delta: table %s: record %d/%d: %w", f.table.name, partition, offset, err)
			return &sinks.StopError{Err: err, Hint: "drop the constraint: events are written as they were read, so " +
				"that none can be left out"}
		}
		return err
	})
}
