package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// FuzzParseLine: any line is read or refused, and what was read can be written and is then read as the same.
func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"kind":"header","version":1,"topic":"web_clicks","seed":7,"keyed":true}`))
	f.Add([]byte(`{"kind":"dead","partition":3,"offset":120,"reason":"malformed"}`))
	f.Add([]byte(`{"kind":"duplicate","partition":3,"offset":120}`))
	f.Add([]byte(`{"kind":"session","session_id":"s","origins":[{"position":"0/1","date":"2026-11-22"}],` +
		`"events":[[0,1,"AA"]]}`))
	f.Add([]byte(`{"kind":"summary","produced":5,"dead_letters":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseLine(text)
		if err != nil {
			return
		}
		if l.Session != nil {
			l.Session.Row()
			l.Session.PageRows()
		}
		var b bytes.Buffer
		if err := l.encode(&b); err != nil {
			t.Fatal(err)
		}
		again, err := ParseLine(b.Bytes())
		var c bytes.Buffer
		if err != nil || again.encode(&c) != nil || !bytes.Equal(b.Bytes(), c.Bytes()) {
			t.Fatalf("%q is written as %q and %q: %v", text, b.Bytes(), c.Bytes(), err)
		}
	})
}

// FuzzTruthFile: a file is a truth from header to summary, or an error says where it is not, and nothing more is
// returned.
func FuzzTruthFile(f *testing.F) {
	header := `{"kind":"header","version":1,"topic":"t"}` + "\n"
	dead := `{"kind":"dead","partition":3,"offset":120,"reason":"malformed"}` + "\n"
	summary := `{"kind":"summary","produced":5}` + "\n"
	for _, s := range []string{header + dead + summary, header + dead, header + summary + dead, dead + summary, header +
		dead + summary[:9], "", "\n", header + "{}\n" + summary} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "truth")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var first, last Line
		n := 0
		err := TruthFile(path).Each(func(l Line) error {
			if n++; n == 1 {
				first = l
			}
			last = l
			return nil
		})
		if n > bytes.Count(b, []byte("\n")) || n > 0 && first.Header == nil {
			t.Fatalf("%q: %d lines, the first %+v", b, n, first)
		}
		if err == nil && (last.Summary == nil || b[len(b)-1] != '\n') {
			t.Fatalf("%q: taken as whole", b)
		}
		if err != nil && !errors.Is(err, ErrUnfinished) && !strings.HasPrefix(err.Error(), path+":") {
			t.Fatalf("%q: an error without its place: %v", b, err)
		}
	})
}

// FuzzCanonical: the canonical form of a canonical text is the text itself, and it says the same as the original.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{``, `{"b": 1.0, "a": [ 2.50, "\u00fc<" ]}`, `{"a"`, `[{"a":"x","b":"","c":null,"d":{}}]`,
		`1e400`, `-0`, `"\ud800"`, `{"a":1,"a":2}`, `12345678901234567890`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := CanonicalJSON(s)
		if strings.HasPrefix(c, "not JSON: ") {
			if json.Valid([]byte(s)) && !strings.ContainsAny(s, "eE") && len(s) < 300 {
				t.Fatalf("%q: %s", s, c)
			}
			return
		}
		if again := CanonicalJSON(c); again != c {
			t.Fatalf("%q: %q, then %q", s, c, again)
		}
		var a, b any
		if s != "" && (json.Unmarshal([]byte(s), &a) != nil || json.Unmarshal([]byte(c), &b) != nil ||
			!reflect.DeepEqual(a, b)) {
			t.Fatalf("%q became %q", s, c)
		}
		if p := CanonicalPageEvents(s); !strings.HasPrefix(p, "not an array") && CanonicalPageEvents(p) != p {
			t.Fatalf("%q: page events %q, then %q", s, p, CanonicalPageEvents(p))
		}
	})
}
