package state

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
)

// Every byte that must be escaped, wherever it stands, and bytes beside it that look like it to arithmetic on words.
func TestJSONText(t *testing.T) {
	check := func(s []byte) {
		t.Helper()
		var got string
		text := appendJSONText(nil, s)
		if err := json.Unmarshal(text, &got); err != nil || got != string(s) {
			t.Fatalf("%q is %s: read back as %q, %v", s, text, got, err)
		}
		n := 0
		for n < len(s) && s[n] >= 0x20 && s[n] != '"' && s[n] != '\\' {
			n++
		}
		if got := plain(s); got != n {
			t.Fatalf("%q: %d bytes are plain, want %d", s, got, n)
		}
	}
	near := []byte{0, 1, 0x1f, 0x20, 0x21, '"', '#', '[', '\\', ']', 0x7e, 0x7f}
	for size := range 20 {
		s := make([]byte, size)
		for at := range s {
			for _, rest := range near {
				for i := range s {
					s[i] = rest
				}
				for c := range byte(0x80) {
					s[at] = c
					check(s)
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	alphabet := []rune("\x00\x1f !\"#[\\]a\u007f\u0080\u00ff\u2028\U0001f600")
	for range 20_000 {
		var s []byte
		for range rng.IntN(30) {
			s = append(s, string(alphabet[rng.IntN(len(alphabet))])...)
		}
		check(s)
	}
}
