package clickhouse

import (
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// token is a word, a text or a sign of a statement.
type token struct {
	kind     byte // w word, q quoted name, s text, n number, e end; else the sign itself ('!' is !=)
	text     string
	pos, end int
}

const (
	spaces = " \t\r\n"
	signs  = "(),.=<>*+-/;"
)

// lex splits a statement. Quoted texts and names come without their quotes.
func lex(src string) ([]token, error) {
	var toks []token
	for i := 0; i < len(src); {
		c, start := src[i], i
		switch {
		case strings.IndexByte(spaces, c) >= 0:
			i++
			continue
		case c == '\'' || c == '`' || c == '"':
			text, n := unquote(src[i:])
			if n < 0 {
				return nil, exception(proto.ErrSyntaxError, "Syntax error: a quote is not closed")
			}
			i += n
			k := byte('q')
			if c == '\'' {
				k = 's'
			}
			toks = append(toks, token{k, text, start, i})
		case c == '!' && strings.HasPrefix(src[i:], "!="):
			i += 2
			toks = append(toks, token{'!', "!=", start, i})
		case strings.IndexByte(signs, c) >= 0:
			i++
			toks = append(toks, token{c, src[start:i], start, i})
		case isWord(c):
			for i < len(src) && isWord(src[i]) {
				i++
			}
			k := byte('w')
			if c >= '0' && c <= '9' {
				k = 'n'
			}
			toks = append(toks, token{k, src[start:i], start, i})
		default:
			return nil, exception(proto.ErrSyntaxError, "Syntax error: failed at position %d (%q)", i, c)
		}
	}
	return append(toks, token{'e', "", len(src), len(src)}), nil
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// unquote reads a quoted text at the start of s; n is its length with quotes, -1 without an end.
func unquote(s string) (text string, n int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == s[0]:
			return b.String(), i + 1
		default:
			b.WriteByte(s[i])
		}
	}
	return "", -1
}

// parser reads tokens one by one. The first error stays.
type parser struct {
	src  string
	toks []token
	i    int
	err  error
}

func (p *parser) peek() token { return p.toks[min(p.i, len(p.toks)-1)] }

func (p *parser) next() token {
	t := p.peek()
	p.i++
	return t
}

func (p *parser) fail() {
	if p.err == nil {
		t := p.peek()
		p.err = exception(proto.ErrSyntaxError, "Syntax error, or unknown to the model, at position %d (%s) of: %s",
			t.pos, t.text, p.src)
	}
}

// word skips the words if all of them come next.
func (p *parser) word(words ...string) bool {
	for j, w := range words {
		t := p.toks[min(p.i+j, len(p.toks)-1)]
		if t.kind != 'w' || !strings.EqualFold(t.text, w) {
			return false
		}
	}
	p.i += len(words)
	return true
}

func (p *parser) sign(c byte) bool {
	if p.peek().kind != c {
		return false
	}
	p.i++
	return true
}

func (p *parser) want(ok bool) {
	if !ok {
		p.fail()
	}
}

// ident reads a name.
func (p *parser) ident() string {
	t := p.peek()
	if t.kind != 'w' && t.kind != 'q' {
		p.fail()
		return ""
	}
	p.i++
	return t.text
}

func (p *parser) literalText() string {
	t := p.peek()
	if t.kind != 's' {
		p.fail()
		return ""
	}
	p.i++
	return t.text
}

func (p *parser) name() name {
	n := name{table: p.ident()}
	if p.sign('.') {
		n.database, n.table = n.table, p.ident()
	}
	return n
}

// list reads one or more items with commas between them.
func list[T any](p *parser, item func() T) []T {
	out := []T{item()}
	for p.err == nil && p.sign(',') {
		out = append(out, item())
	}
	return out
}

// rawUntil returns the text up to the first token outside of brackets that one of the words, or a closing bracket or
// comma if commas is set, begins.
func (p *parser) rawUntil(commas bool, words ...string) string {
	start, depth := p.peek().pos, 0
	end := start
	for ; p.peek().kind != 'e'; p.i++ {
		t := p.peek()
		if depth == 0 && (commas && (t.kind == ',' || t.kind == ')') || t.kind == 'w' && containsFold(words, t.text)) {
			break
		}
		switch t.kind {
		case '(':
			depth++
		case ')':
			depth--
		}
		end = t.end
	}
	return p.src[start:end]
}

func containsFold(words []string, w string) bool {
	for _, x := range words {
		if strings.EqualFold(x, w) {
			return true
		}
	}
	return false
}
