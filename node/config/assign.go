package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
)

// assign carries out key=value of --set over what the file has said, into the Config cfg. A single value is a text that
// is read by the type of the key, without quotes; a list or a block is YAML, such as [a, b] or {env: NAME}. Variables
// are the shell's there.
func (d *decoder) assign(cfg reflect.Value, assignment string) {
	key, text, ok := strings.Cut(assignment, "=")
	d.set = key
	defer func() { d.set = "" }()
	if !ok || key == "" {
		d.set = "--set" // what stands there may be a secret
		d.places["--set"] = place{set: d.set}
		d.problem("--set", "must be KEY=VALUE, such as kafka.topic=clicks")
		return
	}
	v, tag, err := locate(cfg, key)
	if err != nil {
		d.places[key] = place{set: key}
		d.problem(key, "%v", err)
		return
	}
	said := func(k string) bool { return covers(key, k) }
	d.problems = slices.DeleteFunc(d.problems, func(p Problem) bool { return said(p.Key) })
	d.zeros = slices.DeleteFunc(d.zeros, func(z zero) bool { return said(z.key) })
	d.assumed = slices.DeleteFunc(d.assumed, func(a Assumed) bool { return said(a.Key) })
	for k := range d.places {
		if said(k) {
			delete(d.places, k)
			delete(d.variables, k)
		}
	}
	for k := key; k != ""; k = parentKey(k) {
		if _, there := d.places[k]; !there {
			d.places[k] = place{set: key}
		}
	}
	v.SetZero()
	inner := v
	if v.Kind() == reflect.Pointer {
		inner = reflect.New(v.Type().Elem()).Elem()
	}
	before := len(d.problems)
	switch {
	case isScalar(inner):
		d.scalar(text, key, v)
	case inner.Type() == secretType && !strings.HasPrefix(text, "{"):
		d.secret(nil, key, v)
	default:
		file, err := parser.ParseBytes([]byte(text), 0)
		switch {
		case err != nil:
			d.problem(key, "%s", syntax(err))
		case len(file.Docs) != 1 || file.Docs[0].Body == nil:
			d.problem(key, "has no value: give one, such as [a, b] for a list or {name: value} for a block")
		default:
			d.value(file.Docs[0].Body, key, v)
		}
	}
	if len(d.problems) == before {
		d.noteZero(key, v, tag)
	}
}

// syntax tells what is wrong with a text as YAML, without the text.
func syntax(err error) string {
	if y, ok := errors.AsType[yaml.Error](err); ok {
		return "is no YAML: " + y.GetMessage()
	}
	return "is no YAML"
}

// locate returns the value of a key inside v, and makes the blocks around it that are not there.
func locate(v reflect.Value, key string) (_ reflect.Value, tag reflect.StructTag, err error) {
	at := ""
	for part := range strings.SplitSeq(key, ".") {
		name, index, indexed := strings.Cut(part, "[")
		for v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return v, tag, fmt.Errorf("%s has no keys in it", at)
		}
		i, names := fieldOf(v.Type(), name)
		if i < 0 {
			if near := nearest(name, names); near != "" {
				return v, tag, fmt.Errorf("unknown key; did you mean %s?", strings.TrimPrefix(at+"."+near, "."))
			}
			return v, tag, fmt.Errorf("unknown key; known there: %s", strings.Join(names, ", "))
		}
		tag = v.Type().Field(i).Tag
		v, at = v.Field(i), strings.TrimPrefix(at+"."+name, ".")
		if !indexed {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		switch {
		case v.Kind() != reflect.Slice || !strings.HasSuffix(index, "]") || err != nil || n < 0:
			return v, tag, fmt.Errorf("%q is no element of a list", part)
		case n >= v.Len():
			return v, tag, fmt.Errorf("%s has %d elements, counted from 0: give the whole list", at, v.Len())
		}
		v, at = v.Index(n), fmt.Sprintf("%s[%d]", at, n)
	}
	return v, tag, nil
}

// fieldOf returns the index of the field with a name in the file, or -1, and all such names.
func fieldOf(t reflect.Type, name string) (index int, names []string) {
	index = -1
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			if f.Tag.Get("yaml") == name {
				index = i
			}
			names = append(names, f.Tag.Get("yaml"))
		}
	}
	return index, names
}
