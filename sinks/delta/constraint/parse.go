package constraint

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

const (
	maxText  = 64 << 10 // bytes of an expression
	maxDepth = 100      // of brackets and negations
)

// Kind is the type of a value.
type Kind uint8

const (
	Other  Kind = iota // a type whose values are only asked for null
	Number             // integer
	Text
	Date // days since 1970-01-01
	Time // microseconds since 1970-01-01 UTC
)

// KindOf is the kind of a column by its Delta type.
func KindOf(deltaType string) Kind {
	switch deltaType {
	case "byte", "short", "integer", "long":
		return Number
	case "string":
		return Text
	case "date":
		return Date
	case "timestamp":
		return Time
	}
	return Other
}

// Column is a column of the table.
type Column struct {
	Name string
	Kind Kind
}

// Expr is an expression that Parse has understood.
type Expr struct {
	op       op
	args     []*Expr    // of and, or, not
	operands [2]operand // of a comparison, the first one also of is null and in
	list     []literal  // of in
}

type op uint8

const (
	opAnd op = iota
	opOr
	opNot
	opIsNull
	opIn
	opEqual
	opLess
	opLessEqual // a > b is b < a, a <> b is not a = b
)

type literal struct {
	kind   Kind
	null   bool
	number *big.Rat // numbers
	n      int64    // dates and times
	text   string
}

type operand struct {
	column string // "": a literal
	kind   Kind
	value  literal
}

type parser struct {
	rest    []token
	columns []Column
	depth   int
}

// Parse reads an expression over the columns. Its error names what is not understood.
func Parse(text string, columns []Column) (*Expr, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("an expression of %d bytes, at most %d are read", len(text), maxText)
	}
	all, err := tokens(text)
	if err != nil {
		return nil, err
	}
	p := &parser{rest: all, columns: columns}
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokenEnd {
		return nil, fmt.Errorf("%s is not understood here", t)
	}
	return e, nil
}

func (p *parser) peek() token {
	if len(p.rest) == 0 {
		return token{}
	}
	return p.rest[0]
}

func (p *parser) next() token {
	t := p.peek()
	if len(p.rest) > 0 {
		p.rest = p.rest[1:]
	}
	return t
}

// take takes the next token if it is the keyword or the sign.
func (p *parser) take(what string) bool {
	if t := p.peek(); !t.is(what) && !t.sign(what) {
		return false
	}
	p.next()
	return true
}

func (p *parser) or() (*Expr, error)  { return p.chain("OR", opOr, p.and) }
func (p *parser) and() (*Expr, error) { return p.chain("AND", opAnd, p.not) }

func (p *parser) chain(word string, op op, part func() (*Expr, error)) (*Expr, error) {
	e, err := part()
	for err == nil && p.take(word) {
		var next *Expr
		if next, err = part(); err != nil {
			break
		}
		if e.op != op {
			e = &Expr{op: op, args: []*Expr{e}}
		}
		e.args = append(e.args, next)
	}
	return e, err
}

var errDepth = errors.New("brackets within brackets, more than are read")

func (p *parser) not() (*Expr, error) {
	if !p.take("NOT") {
		return p.predicate()
	}
	if p.depth++; p.depth > maxDepth {
		return nil, errDepth
	}
	defer func() { p.depth-- }()
	e, err := p.not()
	return negate(e), err
}

func negate(e *Expr) *Expr { return &Expr{op: opNot, args: []*Expr{e}} }

func (p *parser) predicate() (*Expr, error) {
	if p.take("(") {
		if p.depth++; p.depth > maxDepth {
			return nil, errDepth
		}
		defer func() { p.depth-- }()
		e, err := p.or()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("%s where a bracket should close", p.peek())
		}
		return &Expr{op: opAnd, args: []*Expr{e}}, err // so that a chain behind the bracket does not join what is in it
	}
	a, err := p.operand()
	if err != nil {
		return nil, err
	}
	if p.take("IS") {
		not := p.take("NOT")
		if !p.take("NULL") {
			return nil, fmt.Errorf("IS %s is not understood", p.peek())
		}
		e := &Expr{op: opIsNull, operands: [2]operand{a}}
		if not {
			e = negate(e)
		}
		return e, nil
	}
	not := p.take("NOT")
	if p.take("IN") {
		e, err := p.in(a)
		if err == nil && not {
			e = negate(e)
		}
		return e, err
	}
	if not {
		return nil, fmt.Errorf("NOT %s is not understood", p.peek())
	}
	return p.comparison(a)
}

func (p *parser) comparison(a operand) (*Expr, error) {
	t := p.next()
	if t.kind != tokenSign || !strings.ContainsAny(t.text, "<>=") {
		return nil, fmt.Errorf("%s where a comparison should stand", t)
	}
	b, err := p.operand()
	if err != nil {
		return nil, err
	}
	if err := match(&a, &b); err != nil {
		return nil, err
	}
	straight, turned := [2]operand{a, b}, [2]operand{b, a}
	switch t.text {
	case "<":
		return &Expr{op: opLess, operands: straight}, nil
	case "<=":
		return &Expr{op: opLessEqual, operands: straight}, nil
	case ">":
		return &Expr{op: opLess, operands: turned}, nil
	case ">=":
		return &Expr{op: opLessEqual, operands: turned}, nil
	case "<>", "!=":
		return negate(&Expr{op: opEqual, operands: straight}), nil
	}
	return &Expr{op: opEqual, operands: straight}, nil
}

func (p *parser) in(a operand) (*Expr, error) {
	e := &Expr{op: opIn, operands: [2]operand{a}}
	if !p.take("(") {
		return nil, fmt.Errorf("IN %s is not understood", p.peek())
	}
	for {
		b, err := p.operand()
		if err != nil {
			return nil, err
		}
		if b.column != "" {
			return nil, fmt.Errorf("column %s in a list of IN", b.column)
		}
		first := a
		if err := match(&first, &b); err != nil {
			return nil, err
		}
		e.operands[0] = first
		e.list = append(e.list, b.value)
		if p.take(")") {
			return e, nil
		}
		if !p.take(",") {
			return nil, fmt.Errorf("%s in a list of IN", p.peek())
		}
	}
}

// reserved are words that are no columns unless they stand in backticks.
var reserved = []string{"AND", "OR", "NOT", "IN", "IS", "NULL", "TRUE", "FALSE", "BETWEEN", "LIKE", "CASE",
	"CAST", "EXISTS", "INTERVAL"}

func (p *parser) operand() (operand, error) {
	t := p.next()
	minus := t.sign("-")
	if minus {
		t = p.next()
	}
	switch {
	case t.kind == tokenNumber:
		n, ok := new(big.Rat).SetString(t.text)
		if !ok {
			return operand{}, fmt.Errorf("the number %s is not understood", t.text)
		}
		if minus {
			n.Neg(n)
		}
		return value(literal{kind: Number, number: n}), nil
	case minus:
		return operand{}, fmt.Errorf("-%s is not understood", t)
	case t.kind == tokenText:
		return value(literal{kind: Text, text: t.text}), nil
	case t.is("NULL"):
		return value(literal{null: true}), nil
	case (t.is("DATE") || t.is("TIMESTAMP")) && p.peek().kind == tokenText:
		kind := Date
		if t.is("TIMESTAMP") {
			kind = Time
		}
		l, err := moment(kind, p.next().text)
		return value(l), err
	case t.kind == tokenWord:
		if slices.ContainsFunc(reserved, t.is) {
			return operand{}, fmt.Errorf("%s is not understood here", t)
		}
		if p.peek().sign("(") {
			return operand{}, fmt.Errorf("the function %s is not understood", t)
		}
		return p.column(t.text)
	case t.kind == tokenColumn:
		return p.column(t.text)
	}
	return operand{}, fmt.Errorf("%s where a column or a value should stand", t)
}

func value(l literal) operand { return operand{kind: l.kind, value: l} }

// column finds a column. Engines pass over the case of a name.
func (p *parser) column(name string) (operand, error) {
	found := -1
	for i, c := range p.columns {
		if !strings.EqualFold(c.Name, name) {
			continue
		}
		if found >= 0 {
			return operand{}, fmt.Errorf("column %s is there more than once", name)
		}
		found = i
	}
	if found < 0 {
		return operand{}, fmt.Errorf("there is no column %s", name)
	}
	return operand{column: p.columns[found].Name, kind: p.columns[found].Kind}, nil
}

// match makes two operands comparable, or says why they are not.
func match(a, b *operand) error {
	if a.null() || b.null() {
		return nil
	}
	for _, x := range [][2]*operand{{a, b}, {b, a}} {
		col, lit := x[0], x[1]
		if col.column != "" && lit.column == "" && lit.kind == Text && (col.kind == Date || col.kind == Time) {
			l, err := moment(col.kind, lit.value.text)
			if err != nil {
				return err
			}
			*lit = value(l)
		}
	}
	if a.kind == Other || a.kind != b.kind {
		return fmt.Errorf("%s and %s are of types that are not compared here", a, b)
	}
	return nil
}

func (o *operand) null() bool { return o.column == "" && o.value.null }

// String names the operand for errors.
func (o *operand) String() string {
	switch {
	case o.column != "":
		return "column " + o.column
	case o.value.number != nil:
		return o.value.number.RatString()
	case o.value.kind == Text:
		return "'" + o.value.text + "'"
	}
	return "a value"
}

// moment reads a date, or a timestamp that says its zone.
func moment(k Kind, text string) (literal, error) {
	if k == Date {
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return literal{}, fmt.Errorf("the date '%s' is not understood", text)
		}
		return literal{kind: Date, n: t.Unix() / 86400}, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999Z07:00", "2006-01-02 15:04:05.999999Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil && t.Nanosecond()%1000 == 0 {
			return literal{kind: Time, n: t.UnixMicro()}, nil
		}
	}
	return literal{}, fmt.Errorf("the timestamp '%s' is not understood: it must say its zone, as in "+
		"'2026-01-31 12:00:00Z'", text)
}
