package clickhouse

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Row is one row of a table or view. It stays as it was read, whatever is inserted afterwards. Its methods panic if the
// table has no such column, or one of another kind.
type Row struct {
	from *relation
	i    int
}

// Number is the place of a stored row among all rows that were ever inserted into its table, from 0.
func (r Row) Number() int { return r.i }

func (r Row) column(name string) *vec {
	v, err := r.from.column(name)
	if err != nil {
		panic(err)
	}
	return v
}

// Text is toString of the value, in UTC.
func (r Row) Text(column string) string { return r.column(column).text(r.i) }

// Uint is the value of an unsigned integer, the days of a Date, the seconds of a DateTime or the milliseconds of a
// DateTime64(3), both since 1970.
func (r Row) Uint(column string) uint64 { return r.column(column).n[r.i] }

// Int is Uint for the type Int64.
func (r Row) Int(column string) int64 { return int64(r.Uint(column)) }

// Float is the value of a Float64.
func (r Row) Float(column string) float64 { return math.Float64frombits(r.Uint(column)) }

// Date is the value of a Date, midnight UTC.
func (r Row) Date(column string) time.Time { return dateOf(r.Uint(column)) }

// String shows all columns, ascending by name.
func (r Row) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.from.byName)) {
		_, _ = fmt.Fprintf(&b, "%s=%q ", name, r.Text(name))
	}
	return strings.TrimSpace(b.String())
}

// Rows returns what a query of a view, or of a stored table with FINAL, would read at this moment, ascending by the
// given columns. Faults do not apply, and no time passes. It returns nil if there is no such table or view, or if a
// table under the view is missing.
func (s *Server) Rows(database, table string, order ...string) []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.relation(database, &selection{from: name{database, table}, final: true})
	if err == nil {
		err = sortRows(r, order)
	}
	if err != nil {
		return nil
	}
	return rowsOf(r)
}

// Inserted returns every row that was ever inserted into a stored table, in that order, without the first skip of them;
// nil if there is no such table.
func (s *Server) Inserted(database, table string, skip int) []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.table(database, name{database, table})
	if err != nil {
		return nil
	}
	r := relation{cols: t.cols, byName: t.byName}
	for i := skip; i < t.rows; i++ {
		r.rows = append(r.rows, i)
	}
	return rowsOf(r)
}

// rowsOf returns the relation's rows, apart from the table, whose columns grow. The caller holds the lock.
func rowsOf(r relation) []Row {
	r.cols = slices.Clone(r.cols)
	var out []Row
	for _, i := range r.rows {
		out = append(out, Row{&r, i})
	}
	return out
}
