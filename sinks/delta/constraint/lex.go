package constraint

import (
	"fmt"
	"strings"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenColumn // in backticks
	tokenNumber
	tokenText
	tokenSign // a comparison, a bracket, a comma, a minus
)

type token struct {
	kind tokenKind
	text string // of a word as it stands, of the others without their quotes
}

// is reports whether the token is a keyword.
func (t token) is(keyword string) bool {
	return t.kind == tokenWord && strings.EqualFold(t.text, keyword)
}

func (t token) sign(s string) bool { return t.kind == tokenSign && t.text == s }

func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end"
	case tokenText:
		return "'" + t.text + "'"
	}
	return t.text
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// signs are the tokens that are not words, longer ones first.
var signs = []string{"<=", ">=", "<>", "!=", "==", "=", "<", ">", "(", ")", ",", "-"}

// tokens cuts a text.
func tokens(text string) (out []token, err error) {
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case letter(c):
			end := i
			for end < len(text) && (letter(text[end]) || digit(text[end])) {
				end++
			}
			out, i = append(out, token{tokenWord, text[i:end]}), end
		case digit(c):
			end := i
			for end < len(text) && (digit(text[end]) || text[end] == '.') {
				end++
			}
			number := text[i:end]
			if end < len(text) && (text[end] == 'L' || text[end] == 'l') {
				end++
			}
			if end < len(text) && letter(text[end]) {
				return nil, fmt.Errorf("the number %s is not understood", text[i:end+1])
			}
			out, i = append(out, token{tokenNumber, number}), end
		case c == '\'' || c == '`':
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 {
				return nil, fmt.Errorf("a quote %c that does not end", c)
			}
			inner := text[i+1 : i+1+end]
			if i += end + 2; i < len(text) && text[i] == c {
				return nil, fmt.Errorf("a doubled %c, which engines read differently", c)
			}
			if strings.IndexByte(inner, '\\') >= 0 {
				return nil, fmt.Errorf("a backslash within quotes, which engines read differently")
			}
			kind := tokenText
			if c == '`' {
				kind = tokenColumn
			}
			out = append(out, token{kind, inner})
		default:
			found := ""
			for _, s := range signs {
				if strings.HasPrefix(text[i:], s) {
					found = s
					break
				}
			}
			if found == "" {
				return nil, fmt.Errorf("%q is not understood", text[i:min(len(text), i+8)])
			}
			out, i = append(out, token{tokenSign, found}), i+len(found)
		}
	}
	return out, nil
}
