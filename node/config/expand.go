package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// expanded returns the text of n with its variables replaced, for a value v that is single. It is false if n is no
// text, or has no variable. What is not set is a problem, or is taken as present (decoder.static): then scalar gives v
// a text that stands for it, or leaves v as it is.
func (d *decoder) expanded(n ast.Node, key string, v reflect.Value) (string, bool) {
	var text string
	switch n := n.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = n.Value.Value
	default:
		return "", false
	}
	for v.Kind() == reflect.Pointer {
		v = reflect.New(v.Type().Elem()).Elem()
	}
	if d.set != "" || !isScalar(v) || !strings.Contains(text, "${") && !strings.Contains(text, "$$") {
		return "", false
	}
	out, names, unset, err := expand(text, d.env)
	if len(names) > 0 {
		d.variables[key] = names
	}
	switch {
	case err != nil:
		d.problem(key, "%v", err)
		return "", true
	case len(unset) > 0 && d.static:
		for _, name := range unset {
			d.assumed = append(d.assumed, Assumed{Key: key, Name: name})
		}
		return "", true
	case len(unset) > 0:
		d.problem(key, "the environment variable %s is not set: export it before the start, or write ${%s:-VALUE} for "+
			"a value without it", unset[0], unset[0])
		return "", true
	}
	return out, true
}

// expand replaces ${NAME} by the value of a variable, ${NAME:-TEXT} by TEXT where it is empty or not set, and $$ by $.
// Any other $ stays. It returns the names of the variables, and those that are empty or not set and have no TEXT.
func expand(text string, env func(string) (string, bool)) (out string, names, unset []string, err error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), names, unset, nil
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
			continue
		case !strings.HasPrefix(rest, "{"):
			b.WriteByte('$')
			text = rest
			continue
		}
		inner, after, closed := strings.Cut(rest[1:], "}")
		name, instead, optional := strings.Cut(inner, ":-")
		if !closed || !variableName(name) {
			return "", names, nil, fmt.Errorf("%q is no variable: write ${NAME} or ${NAME:-VALUE}, and $${ for a text "+
				"with ${ in it", "$"+rest)
		}
		text = after
		names = append(names, name)
		value, set := env(name)
		switch {
		case set && value != "":
			b.WriteString(value)
		case optional:
			b.WriteString(instead)
		case !slices.Contains(unset, name):
			unset = append(unset, name)
		}
	}
}

// variableName says whether a name is one of the environment's.
func variableName(name string) bool {
	return name != "" && !('0' <= name[0] && name[0] <= '9') && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	})
}

// scalar decodes a text that is no part of the YAML tree, by the type of v. If decoding the text has failed it does
// nothing but put what stands for a text in its place.
func (d *decoder) scalar(text, key string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		d.scalar(text, key, p.Elem())
		v.Set(p)
		return
	}
	assumed := slices.ContainsFunc(d.assumed, func(a Assumed) bool { return a.Key == key })
	switch {
	case assumed && v.Kind() == reflect.String:
		v.SetString(assumedText)
	case assumed || slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Key == key }):
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Type() == durationType:
		d.span(text, key, v)
	case v.Kind() == reflect.Bool:
		switch text {
		case "true", "false":
			v.SetBool(text == "true")
		default:
			d.problem(key, "must be true or false, not %q", text)
		}
	case strings.HasSuffix(key, "_bytes"):
		d.size(text, key, v)
	default:
		d.number(text, key, v)
	}
}

func (d *decoder) number(text, key string, v reflect.Value) {
	x, err := strconv.ParseInt(text, 0, 64)
	switch {
	case err == nil && !v.OverflowInt(x):
		v.SetInt(x)
	case strings.Trim(text, "+-0123456789_") == "" || strings.HasPrefix(text, "0"):
		d.problem(key, "the number %s does not fit", text)
	default:
		d.problem(key, "must be a whole number, not %q", text)
	}
}

func (d *decoder) size(text, key string, v reflect.Value) {
	x, err := ParseBytes(text)
	switch {
	case err != nil:
		d.problem(key, "%v", err)
	case v.OverflowInt(x):
		d.problem(key, "the number %s does not fit", text)
	default:
		v.SetInt(x)
	}
}

func (d *decoder) span(text, key string, v reflect.Value) {
	x, err := time.ParseDuration(text)
	switch {
	case err != nil:
		d.problem(key, `%q is not a duration; write it like "500ms", "10s", "1h30m"`, text)
	case x < 0:
		d.problem(key, "must not be negative")
	default:
		v.SetInt(int64(x))
	}
}
