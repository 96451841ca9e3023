package access

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)

func newToken(t *testing.T, role Role, brands ...string) (*Token, string) {
	t.Helper()
	tok, secret, err := NewToken(role, brands, "name", testNow, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return tok, secret
}

// What is made is read back, and only the whole token is the token. The file does not have it.
func TestTokens(t *testing.T) {
	var all []*Token
	var secrets []string
	for _, r := range []Role{Viewer, Analyst, Operator, Admin} {
		tok, secret := newToken(t, r)
		all, secrets = append(all, tok), append(secrets, secret)
	}
	held, _ := newToken(t, Analyst, "x", "y")
	all = append(all, held)
	text, err := FormatTokens(all)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseTokens(append(text, "\n\n"...))
	if err != nil || len(back) != 5 {
		t.Fatalf("%v, %d tokens", err, len(back))
	}
	for i, tok := range back {
		if fmt.Sprint(*tok) != fmt.Sprint(*all[i]) {
			t.Errorf("%+v, want %+v", tok, all[i])
		}
	}
	for i, s := range secrets {
		if strings.Contains(string(text), s[len(prefix)+idLength:]) {
			t.Errorf("the file has the secret of token %d", i)
		}
		if idOf(s) != back[i].ID || !back[i].is(s) {
			t.Errorf("token %d is not taken", i)
		}
		for j := range s {
			c := byte('a')
			if s[j] == c {
				c = 'b'
			}
			if back[i].is(s[:j] + string(c) + s[j+1:]) {
				t.Errorf("token %d is taken with another byte %d", i, j)
			}
		}
		if back[(i+1)%4].is(s) || back[i].is(s+"x") || back[i].is("") {
			t.Errorf("token %d is taken for another", i)
		}
	}
	for _, bad := range []time.Duration{0, -time.Hour, MaxTTL + 1} {
		if _, _, err := NewToken(Viewer, nil, "", testNow, bad); err == nil {
			t.Errorf("ttl %v", bad)
		}
	}
	if _, _, err := NewToken(Viewer, nil, "a\nb", testNow, time.Hour); err == nil {
		t.Error("a line break in a name")
	}
	if _, _, err := NewToken(Operator, []string{"x"}, "", testNow, time.Hour); err == nil {
		t.Error("an operator of a brand")
	}
}

// A file counts whole or not at all: whoever makes a mistake in one line must not lose, or win, what it was to say.
func TestTokenFile(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	line := func(change string) string {
		l := `{"id":"k3f9x2ab","hash":"` + hash + `","role":"analyst","name":"n","created":"2026-11-29T09:00:00Z",` +
			`"expires":"2027-02-27T09:00:00Z"}` + "\n"
		if change == "" {
			return l
		}
		from, to, _ := strings.Cut(change, "→")
		if !strings.Contains(l, from) {
			t.Fatalf("%s is not there", from)
		}
		return strings.Replace(l, from, to, 1)
	}
	if list, err := ParseTokens([]byte(line(""))); err != nil || len(list) != 1 || list[0].Role != Analyst {
		t.Fatal(list, err)
	}
	for change, want := range map[string]string{
		`"name"→"named"`:     `unknown field "named"`,
		`"analyst"→"root"`:   `"root" is no role`,
		`"analyst"→"none"`:   `"none" is no role`,
		`"role":"analyst",→`: "its role is missing",
		`k3f9x2ab→K3F9X2AB`:  "an id has 8 characters",
		`k3f9x2ab→k3f9x2a`:   "an id has 8 characters",
		`k3f9x2ab→thisnode`:  "is a node's own",
		`0a→0A`:              "its hash is no SHA-256",
		`0a→0`:               "its hash is no SHA-256",
		`0a→zz`:              "its hash is no SHA-256",
		`"expires":"2027-02-27T09:00:00Z"→"brands":[]`:   "when it expires is missing",
		`"name":"n"→"brands":[]`:                         "brands: list at least one",
		`"name":"n"→"brands":[""]`:                       "none of them empty",
		`"role":"analyst"→"role":"admin","brands":["x"]`: "admin cannot be held to brands",
		"}\n→} {}\n":                         "something follows",
		"}\n→":                               "unexpected EOF",
		`"2026-11-29T09:00:00Z"→"yesterday"`: "parsing time",
	} {
		if _, err := ParseTokens([]byte("\n" + line(change))); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
	if _, err := ParseTokens([]byte(line("") + line(""))); err == nil ||
		!strings.Contains(err.Error(), "stands twice") {
		t.Errorf("%v", err)
	}
	var many strings.Builder
	for i := range MaxTokens + 1 {
		many.WriteString(line(fmt.Sprintf("k3f9x2ab→%08d", i)))
	}
	if _, err := ParseTokens([]byte(many.String())); err == nil || !strings.Contains(err.Error(), "more than 10000") {
		t.Errorf("%v", err)
	}
	if list, err := ParseTokens(nil); err != nil || len(list) != 0 {
		t.Errorf("an empty file: %v, %v", list, err)
	}
}

// FuzzToken: whatever a file has, it counts whole or not at all, what is read is what would be written, and nothing
// but a whole token is taken.
func FuzzToken(f *testing.F) {
	tok, _, err := NewToken(Analyst, []string{"x"}, "n", testNow, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	text, _ := FormatTokens([]*Token{tok})
	f.Add(text, "dkl_k3f9x2ab_x")
	f.Add(text[:len(text)/2], "")
	f.Add([]byte("{}\n"), "dkl_")
	f.Add([]byte("\n\n"), strings.Repeat("x", tokenLength))
	f.Fuzz(func(t *testing.T, text []byte, token string) {
		list, err := ParseTokens(text)
		if err != nil {
			if len(list) > 0 {
				t.Fatal("a part of a bad file")
			}
			return
		}
		again, err := FormatTokens(list)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseTokens(again)
		if err != nil || len(back) != len(list) {
			t.Fatalf("%v: %q", err, again)
		}
		for i, tok := range list {
			if fmt.Sprint(*tok) != fmt.Sprint(*back[i]) || tok.Role == Nobody || tok.Role > Admin {
				t.Fatalf("%+v, %+v", tok, back[i])
			}
			if tok.is(token) {
				t.Fatalf("%q is taken", token)
			}
		}
	})
}
