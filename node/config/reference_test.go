package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// describer knows the comments of the fields, by type and field.
type describer struct {
	comments map[string]string
	missing  []string
}

func newDescriber(t *testing.T) *describer {
	d := &describer{comments: map[string]string{}}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						d.comments[spec.Name.Name+"."+name.Name] = f.Doc.Text() + f.Comment.Text()
					}
				}
			}
			return true
		})
	}
	return d
}

// of describes a field of the struct t in one line. Where the comment names the field it names the key instead.
func (d *describer) of(t reflect.Type, f reflect.StructField) string {
	text := strings.Join(strings.Fields(d.comments[t.Name()+"."+f.Name]), " ")
	if text == "" {
		d.missing = append(d.missing, t.Name()+"."+f.Name)
		return ""
	}
	if rest, ok := strings.CutPrefix(text, f.Name+" "); ok {
		text = f.Tag.Get("yaml") + " " + rest
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if key := f.Tag.Get("yaml"); strings.HasPrefix(strings.ToLower(text), key+" ") {
		text = key + text[len(key):]
	}
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

const variable = `\$\{`

// schema is JSON Schema of a value of type t at a key of the given name.
func (d *describer) schema(t reflect.Type, f reflect.StructField) map[string]any {
	name := f.Tag.Get("yaml")
	var allowed []string
	if e := f.Tag.Get("enum"); e != "" {
		allowed = strings.Split(e, ",")
	}
	text := func(pattern string) map[string]any {
		return map[string]any{"type": "string", "pattern": pattern + "|" + variable}
	}
	switch t {
	case secretType:
		one := func(key, what string) map[string]any {
			return map[string]any{"type": "object", "additionalProperties": false, "required": []string{key},
				"properties": map[string]any{key: map[string]any{"type": "string", "description": what}}}
		}
		return map[string]any{"oneOf": []any{one("env", "The environment variable with the secret."),
			one("file", "The file with the secret.")}}
	case durationType:
		return text(`^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem(), f)
	case reflect.Struct:
		properties := map[string]any{}
		for f := range t.Fields() {
			if !f.IsExported() {
				continue
			}
			p := d.schema(f.Type, f)
			p["description"] = d.of(t, f)
			if text, ok := f.Tag.Lookup("default"); ok {
				p["default"] = defaultValue(f, text)
			}
			properties[f.Tag.Get("yaml")] = p
		}
		return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	case reflect.Slice:
		element := f
		element.Tag = reflect.StructTag(fmt.Sprintf(`yaml:%q enum:%q`, name, f.Tag.Get("enum")))
		return map[string]any{"type": "array", "items": d.schema(t.Elem(), element)}
	case reflect.String:
		if allowed == nil {
			return map[string]any{"type": "string"}
		}
		return map[string]any{"anyOf": []any{map[string]any{"enum": allowed},
			map[string]any{"type": "string", "pattern": variable}}}
	case reflect.Bool:
		return map[string]any{"anyOf": []any{map[string]any{"type": "boolean"},
			map[string]any{"type": "string", "pattern": variable}}}
	}
	pattern := variable
	if strings.HasSuffix(name, "_bytes") {
		pattern = `^[0-9]+ ?([KMGT]i?)?B?$|` + variable
	}
	return map[string]any{"anyOf": []any{map[string]any{"type": "integer"},
		map[string]any{"type": "string", "pattern": pattern}}}
}

func defaultValue(f reflect.StructField, text string) any {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var v any
	switch {
	case t == durationType || t.Kind() == reflect.String:
	case json.Unmarshal([]byte(text), &v) == nil:
		return v
	}
	return text
}

// reference is docs/configuration.md without its head.
func (d *describer) reference(b *strings.Builder, t reflect.Type, key string) {
	var inner []func()
	rows := 0
	for f := range t.Fields() {
		if !f.IsExported() {
			continue
		}
		full := strings.TrimPrefix(key+"."+f.Tag.Get("yaml"), ".")
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		kind := map[reflect.Kind]string{reflect.String: "text", reflect.Bool: "true, false", reflect.Int: "number",
			reflect.Int64: "number"}[ft.Kind()]
		switch {
		case f.Tag.Get("enum") != "":
			kind = strings.ReplaceAll(f.Tag.Get("enum"), ",", ", ")
			if ft.Kind() == reflect.Slice {
				kind = "list of " + kind
			}
		case ft == secretType:
			kind = "secret"
		case ft == durationType:
			kind = "duration"
		case strings.HasSuffix(full, "_bytes"):
			kind = "size"
		case ft == reflect.TypeFor[TLS]():
			kind = "[block](#tls)"
		case ft.Kind() == reflect.Struct:
			kind = "[block](#" + strings.ReplaceAll(full, ".", "") + ")"
			inner = append(inner, func() { d.reference(b, ft, full) })
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			kind = "[list](#" + strings.ReplaceAll(full, ".", "") + ")"
			inner = append(inner, func() { d.reference(b, ft.Elem(), full+"[]") })
		case ft.Kind() == reflect.Slice:
			kind = "list of texts"
		}
		if rows++; rows == 1 {
			if key != "" {
				fmt.Fprintf(b, "\n## %s\n", key)
			}
			b.WriteString("\n| key | value | default | meaning |\n|---|---|---|---|\n")
		}
		standard := f.Tag.Get("default")
		if standard == "" && ft.Kind() == reflect.Bool {
			standard = "false"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", f.Tag.Get("yaml"), kind, standard,
			strings.ReplaceAll(d.of(t, f), "|", `\|`)+reloads(f))
	}
	for _, f := range inner {
		f()
	}
}

const referenceHead = `# Configuration

Every key of deckle.yaml, made from the code by DECKLE_WRITE_DOCS=1 go test ./node/config: a test fails where this page
and the code differ. [deckle.example.yaml](../deckle.example.yaml) shows the keys in a file,
[deckle.schema.json](deckle.schema.json) is for editors (also: deckle config schema). A default that depends on other
keys stands under the meaning.

Durations are like 500ms, 10s or 1h30m; sizes are a number of bytes, or like 256KiB, 64MiB or 2GiB. A secret is {env:
NAME} or {file: PATH}, never the value itself.

In any single value, ${NAME} is the value of an environment variable, ${NAME:-TEXT} is TEXT where that is empty or not
set, and $$ is a dollar sign. What comes out is read by the type of the key, and is no list and no block. Names of keys
have no variables. Whatever is to stay secret is a secret instead: the value of a variable is shown.

On the command line, --set KEY=VALUE goes over the file, as often as it is given. A single value is written as it is, a
list or a block as YAML:

    deckle run -c deckle.yaml --set log.level=debug --set 'kafka.brokers=["kafka:9092"]' \
      --set 'cluster.nodes[0].address=node-a:7946' --set 'clickhouse.password={file: /etc/deckle/password}'

deckle config show prints every value with where it comes from; deckle config diff compares two files.

A running node reads its file anew within ten seconds after a change, at once on SIGHUP (systemctl reload deckle). It
takes over the keys that say *Without a restart*, and logs each with its old and its new value; the condition
restart-needed names what else differs from what it runs with. A file that is not good changes nothing.

A lower limit counts at once, too. Below what the data folder holds, limits.disk_bytes lets intake rest and has closed
sessions forgotten before session.retention is over, as at a restart: raising it again does not bring them back.
flush.interval and delta.revision_interval need a restart: the turns in which nodes flush are numbered by them, and a
greater one would take the numbers back.
`

// The reference page and the schema for editors are what the code says. DECKLE_WRITE_DOCS=1 writes them.
func TestReference(t *testing.T) {
	d := newDescriber(t)
	var b strings.Builder
	b.WriteString(referenceHead)
	d.reference(&b, reflect.TypeFor[Config](), "")
	b.WriteString("\n## tls\n\nAny of the blocks of TLS above.\n")
	var tls strings.Builder
	d.reference(&tls, reflect.TypeFor[TLS](), "tls")
	b.WriteString(strings.TrimPrefix(tls.String(), "\n## tls\n"))
	s := d.schema(reflect.TypeFor[Config](), reflect.StructField{})
	s["$schema"], s["title"] = "http://json-schema.org/draft-07/schema#", "deckle.yaml"
	s["description"] = "One node of a Deckle cluster."
	var j bytes.Buffer
	e := json.NewEncoder(&j)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	if len(d.missing) > 0 {
		t.Errorf("no comment says what these are: %v", d.missing)
	}
	for path, want := range map[string]string{"../../docs/configuration.md": b.String(),
		"../../docs/deckle.schema.json": j.String()} {
		if os.Getenv("DECKLE_WRITE_DOCS") != "" {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // a page of the tree
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not what the code says (%v): DECKLE_WRITE_DOCS=1 go test ./node/config", path, err)
		}
	}
}

// reloads says of a key that a running node takes it over.
func reloads(f reflect.StructField) string {
	if reloadable(f) {
		return " *Without a restart.*"
	}
	return ""
}
