package constraint

import (
	"math/big"
	"strings"
)

// Truth is the value of an expression in three-valued logic.
type Truth int8

// Their order is that of AND (the least) and OR (the greatest).
const (
	False Truth = iota - 1
	Unknown
	True
)

// Value is what a row has in a column. A column of kind Other says only whether it is null.
type Value struct {
	Null bool
	N    int64  // of Number, Date and Time
	Text string // of Text
}

// Eval is the expression's value for a row.
func (e *Expr) Eval(row func(column string) Value) Truth {
	switch e.op {
	case opAnd:
		t := True
		for _, a := range e.args {
			t = min(t, a.Eval(row))
		}
		return t
	case opOr:
		t := False
		for _, a := range e.args {
			t = max(t, a.Eval(row))
		}
		return t
	case opNot:
		return -e.args[0].Eval(row)
	case opIsNull:
		return truth(e.operands[0].of(row).null)
	case opIn:
		t, a := False, e.operands[0].of(row)
		for i := range e.list {
			t = max(t, compare(opEqual, a, e.list[i]))
		}
		return t
	}
	return compare(e.op, e.operands[0].of(row), e.operands[1].of(row))
}

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// of is the operand's value for a row.
func (o *operand) of(row func(string) Value) literal {
	if o.column == "" {
		return o.value
	}
	v := row(o.column)
	l := literal{kind: o.kind, null: v.Null, n: v.N, text: v.Text}
	if o.kind == Number && !v.Null {
		l.number = new(big.Rat).SetInt64(v.N)
	}
	return l
}

// compare compares two values of one kind.
func compare(how op, a, b literal) Truth {
	if a.null || b.null {
		return Unknown
	}
	c := 0
	switch a.kind {
	case Number:
		c = a.number.Cmp(b.number)
	case Text:
		c = strings.Compare(a.text, b.text)
	default:
		switch {
		case a.n < b.n:
			c = -1
		case a.n > b.n:
			c = 1
		}
	}
	switch how {
	case opLess:
		return truth(c < 0)
	case opLessEqual:
		return truth(c <= 0)
	}
	return truth(c == 0)
}

// Columns are the columns that the expression names, some of them more than once.
func (e *Expr) Columns() (names []string) {
	for _, a := range e.args {
		names = append(names, a.Columns()...)
	}
	for i := range e.operands {
		if c := e.operands[i].column; c != "" {
			names = append(names, c)
		}
	}
	return names
}
