package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Value is one value of a configuration.
type Value struct {
	Key string `json:"key"`
	// Text is as the file would say it. Of a secret it is where it comes from, never the secret.
	Text string `json:"value"`
	// Origin is FILE:LINE, with the variables that the text names, or --set, or default.
	Origin string `json:"origin,omitempty"`
}

// Values returns every value of a complete configuration that has one, in the order of the configuration, without where
// they come from. Those of secrets are not in them.
func (c *Config) Values() []Value {
	var list []Value
	eachValue(reflect.ValueOf(c).Elem(), "", func(key, text string) {
		list = append(list, Value{Key: key, Text: text})
	})
	return list
}

// Values are those of the Config, with where they come from.
func (l *Loaded) Values() []Value {
	list := l.Config.Values()
	for i := range list {
		list[i].Origin = l.origin(list[i].Key)
	}
	return list
}

// origin says where the value of a key comes from.
func (l *Loaded) origin(key string) string {
	p, ok := l.places[key]
	switch {
	case !ok:
		return "default"
	case p.set != "":
		return "--set"
	}
	text := fmt.Sprintf("%s:%d", l.path, p.line)
	if names := l.variables[key]; len(names) > 0 {
		text += " with ${" + strings.Join(names, "}, ${") + "}"
	}
	return text
}

// eachValue calls f with each value below the struct v: single values, secrets, and lists of texts as a whole. Blocks
// that are not there and empty texts have none.
func eachValue(v reflect.Value, key string, f func(key, text string)) {
	for i := range v.NumField() {
		field, x := v.Type().Field(i), v.Field(i)
		name := field.Tag.Get("yaml")
		if !field.IsExported() || name == "" {
			continue
		}
		full := strings.TrimPrefix(key+"."+name, ".")
		if x.Kind() == reflect.Pointer {
			if x.IsNil() {
				continue
			}
			x = x.Elem()
		}
		switch {
		case x.Type() == secretType:
			if s, ok := reflect.TypeAssert[Secret](x); ok && s.IsSet() {
				f(full, s.source())
			}
		case x.Kind() == reflect.Struct:
			eachValue(x, full, f)
		case x.Kind() == reflect.Slice && x.Type().Elem().Kind() == reflect.Struct:
			for j := range x.Len() {
				eachValue(x.Index(j), fmt.Sprintf("%s[%d]", full, j), f)
			}
		case x.Kind() == reflect.Slice:
			if x.Len() > 0 {
				f(full, listText(x))
			}
		case x.IsZero() && (x.Kind() == reflect.String || field.Tag.Get("zero") == "unset"):
		default:
			f(full, scalarText(x, name))
		}
	}
}

func listText(v reflect.Value) string {
	texts := make([]string, v.Len())
	for i := range texts {
		texts[i] = scalarText(v.Index(i), "")
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

var plainText = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// scalarText returns a single value as the file says it at a key of the given name.
func scalarText(v reflect.Value, name string) string {
	switch {
	case v.Type() == durationType:
		return short(time.Duration(v.Int()))
	case v.Kind() == reflect.String:
		text := strings.ReplaceAll(v.String(), "$", "$$")
		switch strings.ToLower(text) {
		case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		default:
			if plainText.MatchString(text) {
				return text
			}
		}
		b, err := json.Marshal(text) // YAML takes JSON's texts
		if err != nil {
			return strconv.Quote(text)
		}
		return string(b)
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case strings.HasSuffix(name, "_bytes"):
		n := v.Int()
		for _, u := range []struct {
			name string
			size int64
		}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
			if n >= u.size && n%u.size == 0 {
				return strconv.FormatInt(n/u.size, 10) + u.name
			}
		}
	}
	return strconv.FormatInt(v.Int(), 10)
}

// source says where a secret comes from, as the file does.
func (s Secret) source() string {
	switch {
	case s.Env != "":
		return "{env: " + scalarText(reflect.ValueOf(s.Env), "") + "}"
	case s.File != "":
		return "{file: " + scalarText(reflect.ValueOf(s.File), "") + "}"
	}
	return `"` + hidden + `"`
}

// Change is a key whose value differs between two configurations. A text is "" where the key has no value.
type Change struct {
	Key  string `json:"key"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Diff returns what differs from one list of values to another one, in the order of the second. Whether two secrets
// from the same place are the same it does not tell.
func Diff(from, to []Value) []Change {
	old := map[string]string{}
	for _, v := range from {
		old[v.Key] = v.Text
	}
	var changes []Change
	now := map[string]bool{}
	for _, v := range to {
		now[v.Key] = true
		if was, ok := old[v.Key]; !ok || was != v.Text {
			changes = append(changes, Change{v.Key, was, v.Text})
		}
	}
	for _, v := range from {
		if !now[v.Key] {
			changes = append(changes, Change{Key: v.Key, From: v.Text})
		}
	}
	return changes
}

// ShowYAML prints values as a file that says the same, each with its origin in a comment.
func ShowYAML(values []Value) string {
	var b strings.Builder
	var open []string // the blocks around the line before
	for _, v := range values {
		parts := strings.Split(v.Key, ".")
		var lines []string // of blocks that begin here
		same := true
		for depth, part := range parts[:len(parts)-1] {
			same = same && depth < len(open) && open[depth] == part
			if same {
				continue
			}
			name, index, element := strings.Cut(part, "[")
			indent := strings.Repeat("  ", depth)
			if !element || index == "0]" {
				lines = append(lines, indent+name+":")
			}
			if element {
				lines = append(lines, indent+"  -")
			}
		}
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
		open = parts[:len(parts)-1]
		indent := strings.Repeat("  ", len(open))
		if strings.Contains(v.Key, "]") {
			indent += "  "
		}
		line := indent + parts[len(parts)-1] + ": " + v.Text
		if v.Origin != "" {
			line = fmt.Sprintf("%-50s # %s", line, v.Origin)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}
