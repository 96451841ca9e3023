package constraint

import (
	"fmt"
	"math/big"
)

// Literal is a value that stands for itself, as a column has it for its default.
type Literal struct {
	Null   bool
	Bool   *bool    // TRUE or FALSE
	Number *big.Rat // of a number
	Text   *string  // of a text
	Moment *int64   // of Date or Time, as Kind says
	Kind   Kind     // Other for NULL and truth values
}

// ParseLiteral reads one literal, by the grammar of operands, or TRUE or FALSE. Its error names what is not understood:
// any other expression.
func ParseLiteral(text string) (l Literal, err error) {
	if len(text) > maxText {
		return l, fmt.Errorf("an expression of %d bytes, at most %d are read", len(text), maxText)
	}
	all, err := tokens(text)
	if err != nil {
		return l, err
	}
	p := &parser{rest: all}
	if t := p.peek(); t.is("TRUE") || t.is("FALSE") {
		p.next()
		b := t.is("TRUE")
		l.Bool = &b
	} else {
		o, err := p.operand()
		if err != nil {
			return l, err
		}
		l.Null, l.Kind, l.Number = o.value.null, o.kind, o.value.number
		switch o.kind {
		case Text:
			l.Text = &o.value.text
		case Date, Time:
			l.Moment = &o.value.n
		}
	}
	if t := p.peek(); t.kind != tokenEnd {
		return l, fmt.Errorf("%s is not understood here", t)
	}
	return l, nil
}
