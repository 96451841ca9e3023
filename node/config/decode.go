package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// decoder fills a Config from a YAML tree and remembers the place of each key, so that the checks of values, which come
// later, can name the place, too. It goes on after a problem. Anchors, aliases, tags and merge keys are refused: people
// read a configuration first.
type decoder struct {
	places    map[string]place
	problems  []Problem
	zeros     []zero
	env       func(string) (string, bool) // of ${NAME}
	variables map[string][]string         // by key: what its text names
	set       string                      // the assignment of --set that is being decoded, "" for the file
	static    bool                        // what is not set is taken as present
	assumed   []Assumed
}

// zero is a value that the file gives and that is zero, which is what a key that is missing has, too.
type zero struct {
	key   string
	value reflect.Value // of the Config
	unset bool          // the configuration takes it for a key that is missing, wherever that is looked at
}

// refuseZeros is called when the defaults have been filled in. A zero that the file gives and that has become something
// else would be a value that nobody has asked for.
func (d *decoder) refuseZeros() {
	for _, z := range d.zeros {
		switch {
		case z.value.IsZero() && !z.unset:
		case z.value.Kind() == reflect.String:
			d.problem(z.key, "is empty: give a value, or take the key away for the default (%s)", z.value)
		case z.unset:
			d.problem(z.key, "must not be 0: give a value, or take the key away for the default")
		case z.value.Type() == durationType:
			d.problem(z.key, "must not be 0: give a value, or take the key away for the default (%s)",
				short(time.Duration(z.value.Int())))
		default:
			d.problem(z.key, "must not be 0: give a value, or take the key away for the default (%d)", z.value.Int())
		}
	}
}

// place is where the file, or an assignment of --set, says something.
type place struct {
	line, column int
	set          string
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[Secret]()
)

// problem notes a problem at the place of the key or, if the file does not have it, of the nearest key around it.
func (d *decoder) problem(key, format string, args ...any) {
	at := d.places[""]
	for k := key; k != ""; k = parentKey(k) {
		if p, ok := d.places[k]; ok {
			at = p
			break
		}
	}
	text := format
	if len(args) > 0 {
		text = fmt.Sprintf(format, args...)
	}
	d.problems = append(d.problems, Problem{Key: key, Line: at.line, Column: at.column, Set: at.set, Text: text})
}

func parentKey(key string) string { return key[:max(0, strings.LastIndexAny(key, ".["))] }

func (d *decoder) mark(key string, n ast.Node) {
	if d.set != "" {
		d.places[key] = place{set: d.set}
		return
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		d.places[key] = place{line: t.Position.Line, column: t.Position.Column}
	}
}

// value decodes n, the value of key, into v. An empty value (null) leaves v as it is: the default, or missing.
func (d *decoder) value(n ast.Node, key string, v reflect.Value) {
	if _, ok := d.places[key]; !ok {
		d.mark(key, n)
	}
	if n.Type() == ast.NullType {
		if key != "" {
			d.problem(key, "has no value: give one or take the key away")
		}
		return
	}
	if text, ok := d.expanded(n, key, v); ok {
		d.scalar(text, key, v)
		return
	}
	switch {
	case v.Type() == secretType:
		d.secret(n, key, v)
	case v.Type() == durationType:
		d.duration(n, key, v)
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(n, key, p.Elem())
		v.Set(p)
	case v.Kind() == reflect.Struct:
		d.mapping(n, key, v)
	case v.Kind() == reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			d.wrong(key, "a list", n)
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
		for i, e := range seq.Values {
			d.value(e, fmt.Sprintf("%s[%d]", key, i), v.Index(i))
		}
	case v.Kind() == reflect.String:
		d.text(n, key, v)
	case v.Kind() == reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.wrong(key, "true or false", n)
			return
		}
		v.SetBool(b.Value)
	case v.Kind() == reflect.Int || v.Kind() == reflect.Int64:
		d.integer(n, key, v)
	default:
		panic("config: no decoding for " + v.Type().String())
	}
}

func (d *decoder) wrong(key, want string, n ast.Node) {
	d.problem(key, "must be %s, not %s", want, describe(n))
}

func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a block of keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "a YAML anchor or alias (write the value out)"
	case *ast.TagNode:
		return "a YAML tag (write the plain value)"
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.StringNode:
		return strconv.Quote(n.Value)
	default:
		return n.String()
	}
}

func (d *decoder) mapping(n ast.Node, key string, v reflect.Value) {
	entries, ok := mapEntries(n)
	if !ok {
		d.wrong(key, "a block of keys", n)
		return
	}
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() {
			name := f.Tag.Get("yaml")
			fields[name] = i
			names = append(names, name)
		}
	}
	for _, e := range entries {
		name := e.Key.GetToken().Value
		full := strings.TrimPrefix(key+"."+name, ".")
		d.mark(full, e.Key)
		i, ok := fields[name]
		if !ok {
			if near := nearest(name, names); near != "" {
				d.problem(full, "unknown key; did you mean %s?", near)
			} else {
				d.problem(full, "unknown key; known here: %s", strings.Join(names, ", "))
			}
			continue
		}
		before := len(d.problems)
		d.value(e.Value, full, v.Field(i))
		if len(d.problems) == before {
			d.noteZero(full, v.Field(i), v.Type().Field(i).Tag)
		}
	}
}

// noteZero remembers that the file gives zero at a key.
func (d *decoder) noteZero(key string, f reflect.Value, tag reflect.StructTag) {
	if isScalar(f) && f.IsZero() && !slices.ContainsFunc(d.assumed, func(a Assumed) bool { return a.Key == key }) {
		d.zeros = append(d.zeros, zero{key, f, tag.Get("zero") == "unset"})
	}
}

// isScalar says whether v is a single value: neither a block, a list nor a secret.
func isScalar(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String, reflect.Int, reflect.Int64, reflect.Bool:
		return true
	}
	return false
}

func mapEntries(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

func (d *decoder) text(n ast.Node, key string, v reflect.Value) {
	switch n := n.(type) {
	case *ast.StringNode:
		v.SetString(n.Value)
	case *ast.LiteralNode:
		v.SetString(n.Value.Value)
	case *ast.SequenceNode:
		if key == "kafka.topic" {
			d.problem(key, "must be one topic, not a list: %s", oneTopic)
			return
		}
		d.wrong(key, "a text", n)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		d.problem(key, "must be a text, not %s: put it in quotes", n.GetToken().Value)
	default:
		d.wrong(key, "a text", n)
	}
}

// integer decodes a whole number; a key that ends in _bytes takes a size such as 256MiB too.
func (d *decoder) integer(n ast.Node, key string, v reflect.Value) {
	size := strings.HasSuffix(key, "_bytes")
	if i, ok := n.(*ast.IntegerNode); ok {
		d.number(i.GetToken().Value, key, v)
		return
	}
	if s, ok := n.(*ast.StringNode); ok && size {
		d.size(s.Value, key, v)
		return
	}
	if size {
		d.wrong(key, `a number of bytes or a size such as "256MiB"`, n)
	} else {
		d.wrong(key, "a whole number", n)
	}
}

func (d *decoder) duration(n ast.Node, key string, v reflect.Value) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		if i, isInt := n.(*ast.IntegerNode); isInt {
			d.problem(key, `must be a duration with its unit, such as "%[1]ss" or "%[1]sms"`, i.GetToken().Value)
			return
		}
		d.wrong(key, `a duration such as "10s"`, n)
		return
	}
	d.span(s.Value, key, v)
}

// secret refuses a literal without repeating it.
func (d *decoder) secret(n ast.Node, key string, v reflect.Value) {
	if _, ok := mapEntries(n); !ok {
		where := "in this file"
		if d.set != "" {
			where = "in a command line, which every user of the machine can read"
		}
		d.problem(key, "a secret does not belong %s: write {env: NAME} to take it from the environment or {file: "+
			"PATH} to read it from a file", where)
		return
	}
	d.mapping(n, key, v)
}

// secrets resolves every secret that the file names.
func (d *decoder) secrets(v reflect.Value, key string, env func(string) (string, bool),
	readFile func(string) ([]byte, error)) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return
	}
	if s, ok := reflect.TypeAssert[*Secret](v.Addr()); ok {
		if _, named := d.places[key]; !named {
			return
		}
		for _, p := range d.problems {
			if covers(key, p.Key) {
				return
			}
		}
		switch err := s.resolve(env, readFile); {
		case err != nil && d.static && (s.Env == "") != (s.File == ""):
			s.value = assumedText
			d.assumed = append(d.assumed, Assumed{Key: key, Name: s.Env, File: s.File})
		case err != nil:
			d.problem(key, "%v", err)
		}
		return
	}
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		d.secrets(v.Field(i), strings.TrimPrefix(key+"."+name, "."), env, readFile)
	}
}

// ParseBytes reads a size: a whole number of bytes, or one with KiB, MiB, GiB, TiB, or KB, MB, GB, TB (powers of ten).
func ParseBytes(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTiB ")
	unit := strings.TrimSpace(s[len(digits):])
	factor, ok := map[string]int64{
		"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
		"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	}[unit]
	n, err := strconv.ParseUint(digits, 10, 63)
	if !ok || err != nil || int64(n) > math.MaxInt64/factor {
		return 0, fmt.Errorf(`%q is not a size; write a number of bytes or, for example, "256KiB", "64MiB", "2GiB"`, s)
	}
	return int64(n) * factor, nil
}

// nearest returns the name that a misspelt key most likely means, "" if none is near.
func nearest(name string, names []string) string {
	best, at := "", 3
	for _, n := range names {
		if dist := editDistance(strings.ToLower(name), n); dist < at && dist < len(n) {
			best, at = n, dist
		}
	}
	return best
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
