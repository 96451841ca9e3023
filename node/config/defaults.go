package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setDefaults fills in what is zero and has a default.
func (c *Config) setDefaults() {
	fillDefaults(reflect.ValueOf(c).Elem())
	c.derive()
}

// fillDefaults gives every field of the struct v that is zero the value of its default tag, and does so in the blocks
// inside it. A block that the configuration does not have (a nil pointer) stays nil.
func fillDefaults(v reflect.Value) {
	for i := range v.NumField() {
		field, f := v.Type().Field(i), v.Field(i)
		if !field.IsExported() {
			continue
		}
		if text, ok := field.Tag.Lookup("default"); ok {
			if f.IsZero() {
				if err := setText(f, field.Tag.Get("yaml"), text); err != nil {
					panic(fmt.Sprintf("config: default of %s.%s: %v", v.Type(), field.Name, err))
				}
			}
			continue
		}
		if f.Kind() == reflect.Pointer {
			f = f.Elem() // the zero Value for nil
		}
		if f.Kind() == reflect.Struct {
			fillDefaults(f)
		}
	}
}

// setText sets v to the value that text has in the file at a key of the given name.
func setText(v reflect.Value, name, text string) (err error) {
	var n int64
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return setText(v.Elem(), name, text)
	case v.Type() == durationType:
		var d time.Duration
		d, err = time.ParseDuration(text)
		n = int64(d)
	case v.Kind() == reflect.String:
		v.SetString(text)
		return nil
	case v.Kind() == reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
		return err
	case strings.HasSuffix(name, "_bytes"):
		n, err = ParseBytes(text)
	default:
		n, err = strconv.ParseInt(text, 10, 64)
	}
	v.SetInt(n)
	return err
}
