package clickhouse

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// relation is what a SELECT reads: columns, and which of their rows.
type relation struct {
	cols   []vec
	byName map[string]int
	rows   []int
}

func (r *relation) column(n string) (*vec, error) {
	i, ok := r.byName[n]
	if !ok {
		return nil, exception(proto.ErrUnknownIdentifier, "Unknown expression identifier `%s`", n)
	}
	return &r.cols[i], nil
}

// newRelation returns a relation of whole columns.
func newRelation(names []string, cols []vec) relation {
	r := relation{cols: cols, byName: map[string]int{}}
	for i, n := range names {
		r.byName[n] = i
	}
	if len(cols) > 0 {
		for i := range cols[0].len() {
			r.rows = append(r.rows, i)
		}
	}
	return r
}

// result is what a SELECT returns.
type result struct {
	names []string
	cols  []vec
	rows  int
}

// matches tells whether all conditions hold for row i.
func matches(conds []cond, r relation, i int) (bool, error) {
	for k := range conds {
		c := &conds[k]
		v, err := r.column(c.col)
		if err != nil {
			return false, err
		}
		hold := false
		for _, x := range c.values {
			n, err := compareWith(v, i, x)
			if err != nil {
				return false, err
			}
			hold = hold || c.op == '=' && n == 0 || c.op == '!' && n != 0 || c.op == '<' && n < 0 || c.op == '>' &&
				n > 0
		}
		if !hold {
			return false, nil
		}
	}
	return true, nil
}

func compareWith(v *vec, i int, literal string) (int, error) {
	switch v.kind {
	case kindUInt8, kindUInt32, kindUInt64:
		n, err := strconv.ParseUint(literal, 10, 64)
		if err != nil {
			return 0, exception(proto.ErrTypeMismatch, "Cannot compare %s with %s", v.typ, literal)
		}
		w := vec{kind: kindUInt64, n: []uint64{v.n[i], n}}
		return w.compare(0, 1), nil
	case kindInt64:
		n, err := strconv.ParseInt(literal, 10, 64)
		if err != nil {
			return 0, exception(proto.ErrTypeMismatch, "Cannot compare %s with %s", v.typ, literal)
		}
		w := vec{kind: kindInt64, n: []uint64{v.n[i], uint64(n)}}
		return w.compare(0, 1), nil
	case kindFloat64:
		return 0, exception(proto.ErrNotImplemented, "The model compares no %s", v.typ)
	}
	return strings.Compare(v.text(i), literal), nil
}

// run executes the selection over what it reads from.
func (st *selection) run(r relation) (*result, error) {
	if len(st.where) > 0 {
		var rows []int
		for _, i := range r.rows {
			ok, err := matches(st.where, r, i)
			if err != nil {
				return nil, err
			}
			if ok {
				rows = append(rows, i)
			}
		}
		r.rows = rows
	}
	if st.grouped {
		return st.runGrouped(r)
	}
	if len(st.order) > 0 {
		if err := sortRows(r, st.order); err != nil {
			return nil, err
		}
	}
	res := &result{rows: len(r.rows)}
	for k := range st.items {
		v, err := st.items[k].expr.rows(r)
		if err != nil {
			return nil, err
		}
		res.add(&st.items[k], v)
	}
	return res, nil
}

func sortRows(r relation, order []string) error {
	var by []*vec
	for _, n := range order {
		v, err := r.column(n)
		if err != nil {
			return err
		}
		by = append(by, v)
	}
	slices.SortStableFunc(r.rows, func(i, j int) int {
		for _, v := range by {
			if c := v.compare(i, j); c != 0 {
				return c
			}
		}
		return 0
	})
	return nil
}

func (res *result) add(it *item, v vec) {
	n := it.alias
	if n == "" {
		n = it.expr.name()
	}
	res.names = append(res.names, n)
	res.cols = append(res.cols, v)
}

func (e *expr) name() string {
	switch {
	case e.fn == "number":
		return strconv.FormatUint(e.num, 10)
	case e.arg != nil:
		return "toString(" + e.arg.name() + ")"
	case e.fn != "":
		return e.fn + "(" + e.col + ")"
	}
	return e.col
}

// rows is the expression over each row.
func (e *expr) rows(r relation) (vec, error) {
	switch e.fn {
	case "number":
		v := mustVec("UInt8")
		for range r.rows {
			v.n = append(v.n, e.num)
		}
		return v, nil
	case "tostring":
		in, err := e.arg.rows(r)
		if err != nil {
			return vec{}, err
		}
		return toText(&in), nil
	}
	from, err := r.column(e.col)
	if err != nil {
		return vec{}, err
	}
	v := from.empty()
	for _, i := range r.rows {
		v.take(from, i)
	}
	return v, nil
}

func toText(in *vec) vec {
	v := mustVec("String")
	for i := range in.len() {
		v.s = append(v.s, in.text(i))
	}
	return v
}

// one is the expression over all rows of a group.
func (e *expr) one(r relation) (vec, error) {
	switch e.fn {
	case "tostring":
		in, err := e.arg.one(r)
		if err != nil {
			return vec{}, err
		}
		return toText(&in), nil
	case "count", "countif":
		v, n := mustVec("UInt64"), uint64(0)
		for _, i := range r.rows {
			ok, err := matches(e.cond, r, i)
			if err != nil {
				return vec{}, err
			}
			if ok {
				n++
			}
		}
		v.n = append(v.n, n)
		return v, nil
	case "max":
		from, err := r.column(e.col)
		if err != nil {
			return vec{}, err
		}
		v := from.empty()
		if len(r.rows) == 0 {
			v.zero(1)
			return v, nil
		}
		greatest := r.rows[0]
		for _, i := range r.rows[1:] {
			if from.compare(i, greatest) > 0 {
				greatest = i
			}
		}
		v.take(from, greatest)
		return v, nil
	}
	if len(r.rows) > 0 {
		r.rows = r.rows[:1]
	}
	return e.rows(r)
}

func (st *selection) runGrouped(r relation) (*result, error) {
	groups := [][]int{r.rows}
	if len(st.group) > 0 {
		groups = nil
		at := map[string]int{}
		var key []byte
		for _, i := range r.rows {
			key = key[:0]
			for _, n := range st.group {
				v, err := r.column(n)
				if err != nil {
					return nil, err
				}
				key = v.key(key, i)
			}
			k, ok := at[string(key)]
			if !ok {
				k = len(groups)
				at[string(key)] = k
				groups = append(groups, nil)
			}
			groups[k] = append(groups[k], i)
		}
	}
	res := &result{}
	for k := range st.items {
		it := &st.items[k]
		if it.expr.col != "" && it.expr.fn == "" && !slices.Contains(st.group, it.expr.col) {
			return nil, exception(proto.ErrNotAnAggregate,
				"Column `%s` is not under aggregate function and not in GROUP BY", it.expr.col)
		}
		typed, err := it.expr.one(relation{cols: r.cols, byName: r.byName}) // its type
		if err != nil {
			return nil, err
		}
		res.add(it, typed.empty())
	}
	for _, g := range groups {
		sub := r
		sub.rows = g
		for k := range st.items {
			v, err := st.items[k].expr.one(sub)
			if err != nil {
				return nil, err
			}
			res.cols[k].take(&v, 0)
		}
		res.rows++
	}
	if len(st.having) == 0 && len(st.order) == 0 {
		return res, nil
	}
	// HAVING and ORDER BY see the columns of the result.
	again := selection{where: st.having, order: st.order}
	for _, n := range res.names {
		again.items = append(again.items, item{expr: expr{col: n}})
	}
	return again.run(newRelation(res.names, res.cols))
}

// send writes the result in blocks.
func (res *result) send(s *Session) error {
	const most = 16_384
	for from := 0; from == 0 || from < res.rows; from += most {
		to := min(from+most, res.rows)
		var in []proto.InputColumn
		for i := range res.cols {
			in = append(in, proto.InputColumn{Name: res.names[i], Data: res.cols[i].encode(from, to)})
		}
		if err := s.Send(proto.Block{Columns: len(in), Rows: to - from}, in); err != nil {
			return err
		}
	}
	return nil
}
