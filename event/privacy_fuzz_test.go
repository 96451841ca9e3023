package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// node is a JSON value as read by encoding/json: an object with all its members in order, also those of one name, a
// list, or the bytes of anything else.
type node struct {
	kind    byte // '{', '[' or 0
	names   []string
	inner   []*node
	literal string
}

// parseNode reads one value.
func parseNode(t *testing.T, text []byte) *node {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	n, err := readNode(d)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("%q: more than one value", text)
	}
	return n
}

func readNode(d *json.Decoder) (*node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		err := e.Encode(token)
		return &node{literal: strings.TrimSpace(b.String())}, err
	}
	n := &node{kind: byte(delim)}
	for d.More() {
		if delim == '{' {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			n.names = append(n.names, name.(string))
		}
		v, err := readNode(d)
		if err != nil {
			return nil, err
		}
		n.inner = append(n.inner, v)
	}
	_, err = d.Token()
	return n, err
}

// apply is the rule of docs/schema.md in other words: the names on the way to a value, joined by dots, are the field,
// and lists have no name.
func (n *node) apply(rules []Privacy, prefix string) {
	if n.kind == '[' {
		for _, v := range n.inner {
			v.apply(rules, prefix)
		}
		return
	}
	var names []string
	var inner []*node
	for i, v := range n.inner {
		field := prefix + n.names[i]
		dropped, ruled := false, false
		for j := range rules {
			if rules[j].Field == field {
				dropped, ruled = v.act(&rules[j]), true
			}
		}
		if dropped {
			continue
		}
		if !ruled {
			v.apply(rules, field+".")
		}
		names, inner = append(names, n.names[i]), append(inner, v)
	}
	n.names, n.inner = names, inner
}

func (n *node) act(r *Privacy) (dropped bool) {
	if r.Action == DropValue {
		return true
	}
	plain := n.literal
	text := strings.HasPrefix(plain, `"`)
	if text {
		_ = json.Unmarshal([]byte(plain), &plain)
	}
	var out []byte
	var ok bool
	switch {
	case n.kind == 0 && (plain == "" || plain == "null" && !text):
		return false
	case n.kind != 0:
		return true
	case r.Action == HashValue:
		if r.Field == "user_id" && plain == "0" {
			return false
		}
		if id, uuid := ParseID(plain); uuid && r.Field == "event_id" {
			plain = id.String()
		}
		n.literal = `"` + hashOf(r.Field, plain) + `"`
		return false
	case r.Action == TruncateIP:
		out, ok = appendNetwork(nil, plain)
		ok = ok && text
	default:
		out, ok = appendTime(nil, plain, r.To)
	}
	n.literal = string(out)
	if text {
		n.literal = `"` + n.literal + `"`
	}
	return !ok
}

func (n *node) write(b *bytes.Buffer) {
	if n.kind == 0 {
		b.WriteString(n.literal)
		return
	}
	b.WriteByte(n.kind)
	for i, v := range n.inner {
		if i > 0 {
			b.WriteByte(',')
		}
		if n.kind == '{' {
			b.WriteString((&node{literal: quoteJSON(n.names[i])}).literal + ":")
		}
		v.write(b)
	}
	b.WriteByte(closing(n.kind == '{'))
}

func quoteJSON(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	return strings.TrimSpace(b.String())
}

// canonical writes a value in one form, whatever escapes and white space it has.
func canonical(t *testing.T, text string) string {
	t.Helper()
	if text == "" {
		return ""
	}
	var b bytes.Buffer
	parseNode(t, []byte(text)).write(&b)
	return b.String()
}

// fuzzRules reads rules from lines of field, action and what to leave of a time.
func fuzzRules(text string) (*Rules, bool) {
	r := private()
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Split(line, " ")
		if len(f) < 2 || len(r.Privacy) == MaxPrivacy {
			continue
		}
		p := Privacy{Field: f[0], Action: PrivacyAction(f[1])}
		if len(f) > 2 {
			p.To = f[2]
		}
		r.Privacy = append(r.Privacy, p)
	}
	return r, r.Check() == nil && len(r.Privacy) > 0
}

// FuzzPrivacy applies any rules to any JSON. What comes out is what the rules say in other words, so no value of a
// ruled field is left; it is JSON; doing it again changes nothing, but for hashes. And an event that is decoded by the
// rules is the one that is decoded without them from what they leave of the record: a letter shows neither more nor
// less than the tables.
func FuzzPrivacy(f *testing.F) {
	const all = "a drop\nb.c hash\nmetadata.ip truncate_ip\nseen generalise_time day\nuser_id hash\n" +
		"engagement_metrics.time_on_page drop\ncity drop\nsession_id hash\nevent_id hash"
	f.Add([]byte(`{"a":1,"b":{"c":"x","d":[{"c":2}]},"seen":"2026-11-29T13:14:15Z"}`), all)
	f.Add([]byte(fillIn(f, `{<valid>,"city":"x","metadata":{"ip":"192.0.2.7"},"engagement_metrics":{"time_on_page":8},`+
		`"a":1,"\u0061":2,"b":[{"c":1},[{"c":"\u00fc"}]],"b.c":3}`)), all)
	f.Add([]byte(fillIn(f, `{<valid>,"metadata":{"m":1e400,"m":12345678901234567890},"x":1}`)),
		"metadata.x drop\nx hash")
	f.Add([]byte(`{"a":{"":1},"a.":2}`), "a. drop")
	f.Fuzz(func(t *testing.T, in []byte, lines string) {
		rules, ok := fuzzRules(lines)
		if !ok || len(in) > 1<<16 { // the rule in other words is quadratic: it writes the way to each value
			return
		}
		before := bytes.Clone(in)
		x := NewRedactor(rules, testKey)
		out, how := x.Value(in)
		if !bytes.Equal(in, before) {
			t.Fatal("the record was changed")
		}
		if how == ShownNone {
			if s := (scanner{in: in}); s.whole() || len(out) > 0 {
				t.Fatalf("%q is not shown: %q", in, out)
			}
			return
		}
		out = bytes.Clone(out)
		var want bytes.Buffer
		tree := parseNode(t, in)
		tree.apply(rules.Privacy, "")
		tree.write(&want)
		if got := canonical(t, string(out)); got != want.String() {
			t.Fatalf("%s of %q: %s, want %s", lines, in, got, want.String())
		}
		if (how == ShownWhole) != bytes.Equal(in, out) {
			t.Fatalf("%q is shown as %q (%s)", in, out, how)
		}
		if again, _ := x.Value(out); !rules.Hashes() && !bytes.Equal(again, out) {
			t.Fatalf("%q becomes %q when it is done again", out, again)
		}
		plain := *rules
		plain.Privacy, plain.PrivacyKey = nil, KeyID{}
		var ruled, left Event
		a, b := Decoder{Rules: rules, Key: testKey}, Decoder{Rules: &plain}
		reason, detail := a.Decode(in, sampleKafkaTimestamp, &ruled)
		if reason != ReasonNone || len(out) > MaxRecord {
			return
		}
		if again, why := b.Decode(out, sampleKafkaTimestamp, &left); again != ReasonNone {
			t.Fatalf("%q: %s, and what the rules leave, %q: %s: %s", in, detail, out, again, why)
		}
		for _, text := range []struct{ a, b *string }{{&ruled.Metadata, &left.Metadata}, {&ruled.Extra, &left.Extra},
			{&ruled.EngagementMetrics, &left.EngagementMetrics}} {
			if canonical(t, *text.a) != canonical(t, *text.b) {
				t.Fatalf("%q: %s, and of what the rules leave: %s", in, *text.a, *text.b)
			}
			if again, changed := NormalizeJSON(nil, *text.a); changed {
				t.Fatalf("%q: %s is not readable by all: %s", in, *text.a, again)
			}
			*text.a, *text.b = "", ""
		}
		if ruled != left || a.Counts.Zeroed != b.Counts.Zeroed {
			t.Fatalf("%q by %s:\n%+v\nand of what the rules leave:\n%+v", in, lines, ruled, left)
		}
	})
}
