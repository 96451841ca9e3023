package config

import (
	"reflect"
	"strings"
)

// Reloadable says whether a running node takes another value of a key (kafka.topic, delta.compaction.every) over. Every
// other one counts from the next start on.
func Reloadable(key string) bool {
	t := reflect.TypeFor[Config]()
	for part := range strings.SplitSeq(key, ".") {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct { // an element of a list
			return false
		}
		f, ok := namedField(t, part)
		if !ok {
			return false
		}
		if reloadable(f) {
			return true
		}
		t = f.Type
	}
	return false
}

func namedField(t reflect.Type, name string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if f.Tag.Get("yaml") == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func reloadable(f reflect.StructField) bool { return f.Tag.Get("reload") == "yes" }

// Take returns a copy of c that has the values of other where a running node takes them over, and shares the rest with
// c. A block that only one of them has stays as it is in c.
func (c *Config) Take(other *Config) *Config {
	taken := *c
	take(reflect.ValueOf(&taken).Elem(), reflect.ValueOf(other).Elem())
	return &taken
}

func take(to, from reflect.Value) {
	for i := range to.NumField() {
		field, dst, src := to.Type().Field(i), to.Field(i), from.Field(i)
		switch {
		case !field.IsExported():
		case reloadable(field):
			dst.Set(src)
		case dst.Kind() == reflect.Struct:
			take(dst, src)
		case dst.Kind() == reflect.Pointer && dst.Type().Elem().Kind() == reflect.Struct &&
			!dst.IsNil() && !src.IsNil():
			block := reflect.New(dst.Type().Elem())
			block.Elem().Set(dst.Elem())
			take(block.Elem(), src.Elem())
			dst.Set(block)
		}
	}
}
