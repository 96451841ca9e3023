package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"deckle/schema/level"
)

// No detail shows a value unless the rules ask for it, whatever is wrong with which field. A known text is planted in
// every field, in every form of value that is refused there.
func TestDetailsShowNoValue(t *testing.T) {
	const secret = "s3cret4711"
	rules := Rules{Forms: FormsReal, UnknownTypes: RejectUnknown, Letters: Letters{Details: TypeDetails}}
	asked := rules
	asked.Letters.Details = QuoteDetails
	refused, shown := 0, 0
	for f := range numFields {
		for _, value := range []string{`"` + secret + `"`, `["` + secret + `"]`, `{"` + secret + `":1}`, secret,
			`"` + strings.Repeat(secret, 30) + `"`, `"` + secret, `4711471147114711471147114711`} {
			record := `{`
			for _, r := range required {
				if !strings.HasPrefix(r, quotedNames[f]) {
					record += r + ","
				}
			}
			record += quotedNames[f] + ":" + value + "}"
			var ev Event
			for r, quotes := range map[*Rules]bool{&rules: false, &asked: true} {
				d := Decoder{Rules: r}
				reason, detail := d.Decode([]byte(record), sampleKafkaTimestamp, &ev)
				if reason == ReasonNone {
					continue
				}
				refused++
				if strings.Contains(detail, secret[:4]) || strings.Contains(detail, "4711") ||
					strings.Contains(detail, "begins with") {
					if shown++; !quotes {
						t.Errorf("%s: %s shows what the record has: %s", record, reason, detail)
					}
				}
			}
		}
	}
	if refused < 100 || shown < 30 {
		t.Errorf("%d records were refused, and %d details quote: this tests nothing", refused, shown)
	}
}

// What a letter carries by each of the rules, and that the rules about letters need their level.
func TestRedactor(t *testing.T) {
	for _, c := range []struct {
		values LetterValues
		in     string
		want   string
		shown  Shown
	}{
		{"", `{"a":1`, `{"a":1`, ShownWhole},
		{KeepValues, `{"a":1}`, `{"a":1}`, ShownWhole},
		{NoValues, `{"a":1}`, "", ShownNone},
		{MaskValues, ` {"a" : 1, "b":"xyz", "\u0063":[true,null,{"d":-1.5e3}], "e":{}, "f":[] } `,
			`{"a":"number of 1 byte","b":"text of 3 bytes","\u0063":["true or false",null,{"d":"number of 6 bytes"}],` +
				`"e":{},"f":[]}`, ShownMasked},
		{MaskValues, `"ab"`, `"text of 2 bytes"`, ShownMasked},
		{MaskValues, `{"a":1`, "", ShownNone},
		{MaskValues, ``, "", ShownNone},
		{MaskValues, `{"a":1}x`, "", ShownNone},
		{MaskValues, "{\"a\":\"\xff\"}", "", ShownNone},
		{MaskValues, strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1), "", ShownNone},
		{MaskValues, `"` + strings.Repeat("x", MaxRecord) + `"`, "", ShownNone},
	} {
		r := Rules{Letters: Letters{Values: c.values}}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		x := NewRedactor(&r, nil)
		for range 2 { // the memory of the call before does not show
			got, shown := x.Value([]byte(c.in))
			if string(got) != c.want || shown != c.shown {
				t.Errorf("%s of %.40s: %.200s (%s), want %s (%s)", c.values, c.in, got, shown, c.want, c.shown)
			}
			if row, shown := x.Row([]byte(c.in)); string(row) != c.want || shown != c.shown {
				t.Errorf("%s of the row %.40s: %.200s (%s)", c.values, c.in, row, shown)
			}
		}
		want := level.Guarded
		if c.values == "" {
			want = level.Real
		}
		if r.Level() != want {
			t.Errorf("values %q need level %d", c.values, r.Level())
		}
	}
	for _, bad := range []Letters{{Values: "all"}, {Details: "keep"}} {
		if r := (Rules{Letters: bad}); r.Check() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

var described = regexp.MustCompile(`^((text|number) of \d+ bytes?|true or false)$`)

// FuzzRedactor masks anything. What comes out is JSON with the names and the structure of the record, and says of each
// value only what it is; nothing else is shown but all or nothing.
func FuzzRedactor(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":["x",null,true,{"c":{}}],"\u0061":""}`))
	f.Add([]byte(`[[[]],{"a":[{}]}]`))
	f.Add([]byte(`{"a"`))
	x := NewRedactor(&Rules{Letters: Letters{Values: MaskValues}}, nil)
	f.Fuzz(func(t *testing.T, in []byte) {
		before := bytes.Clone(in)
		out, shown := x.Value(in)
		if !bytes.Equal(in, before) {
			t.Fatal("the value was changed")
		}
		if shown == ShownNone {
			if len(out) > 0 {
				t.Fatalf("nothing is %q", out)
			}
			return
		}
		if shown != ShownMasked || !json.Valid(out) {
			t.Fatalf("%q is shown as %q (%s)", in, out, shown)
		}
		was, is := json.NewDecoder(bytes.NewReader(in)), json.NewDecoder(bytes.NewReader(out))
		was.UseNumber()
		type container struct{ object, name bool } // name: a name comes next
		var open []container
		for {
			a, errA := was.Token()
			b, errB := is.Token()
			if errors.Is(errA, io.EOF) && errors.Is(errB, io.EOF) {
				return
			}
			if errA != nil || errB != nil {
				t.Fatalf("%q is shown as %q: %v, %v", in, out, errA, errB)
			}
			delim, isDelim := a.(json.Delim)
			n := len(open) - 1
			name := n >= 0 && open[n].name && !isDelim
			if s, ok := b.(string); isDelim || name || a == nil {
				if a != b {
					t.Fatalf("%q is shown as %q: %v became %v", in, out, a, b)
				}
			} else if !ok || !described.MatchString(s) {
				t.Fatalf("%q is shown as %q: %v became %v", in, out, a, b)
			}
			switch {
			case delim == '{' || delim == '[':
				open = append(open, container{delim == '{', delim == '{'})
				continue
			case isDelim:
				open = open[:n]
			case name:
				open[n].name = false
				continue
			}
			if n = len(open) - 1; n >= 0 { // a value has ended
				open[n].name = open[n].object
			}
		}
	})
}
