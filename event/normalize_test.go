package event

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
)

// jsonCorpus are the texts of testdata/json.txt, one per line: what readers of JSON are known to disagree about. The
// test of package integration reads what NormalizeJSON makes of them through other engines.
func jsonCorpus(t testing.TB) (texts []string) {
	t.Helper()
	all, err := os.ReadFile("testdata/json.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(all)) {
		texts = append(texts, strings.TrimSuffix(line, "\n"))
	}
	return texts
}

func checkNormalize(t *testing.T, text string) {
	t.Helper()
	got, changed := NormalizeJSON([]byte("x"), text)
	want := oracleNormal(text)
	if string(got) != "x"+want && changed || changed != (want != text) || !changed && string(got) != "x" {
		t.Fatalf("%q\n got %q %v\nwant %q", text, got, changed, want)
	}
	checkNormal(t, text, want)
	if len(want) > 2*len(text) {
		t.Fatalf("%q grows to %q", text, want)
	}
}

// checkNormal: what NormalizeJSON makes of anything is JSON, and it makes nothing else of that.
func checkNormal(t *testing.T, text, out string) {
	t.Helper()
	if again, changed := NormalizeJSON(nil, out); changed || !json.Valid([]byte(out)) {
		t.Fatalf("%q\n once %q\ntwice %q", text, out, again)
	}
}

func TestNormalizeJSON(t *testing.T) {
	for _, text := range jsonCorpus(t) {
		checkNormalize(t, text)
	}
	many := "{" // more names than are compared each with each
	for i := range 100 {
		many += `"` + strings.Repeat("n", i%70) + `":` + strings.Repeat("9", 1+i%20) + ","
	}
	checkNormalize(t, many+`"":0}`)
	for _, text := range []string{"", "{", "[1", "1e", `{"a" 1}`, strings.Repeat("[", 65) + strings.Repeat("]", 65)} {
		if out, changed := NormalizeJSON(nil, text); changed || out != nil { // not for it, and left alone
			t.Errorf("%q becomes %q", text, out)
		}
	}
	// As deep as a text may be: extra is as deep as its record.
	checkNormalize(t, strings.Repeat(`{"v":`, MaxDepth)+"-0"+strings.Repeat("}", MaxDepth))
	rng := newRand(t)
	for range 2000 {
		checkNormalize(t, randomJSON(rng, 4))
	}
}

// randomJSON returns a text with few names and odd numbers, so that much of it has to change.
func randomJSON(rng *rand.Rand, depth int) string {
	scalars := []string{"0", "-0", "9007199254740991", "9007199254740992", "-9007199254740992", "1e308", "1.8e308",
		"-1E+400", "1e-400", "123456789012345678901.5", "true", "null", `""`, `"\u0061"`, " 1 ", `"9007199254740993"`}
	names := []string{`"a"`, `"\u0061"`, `"b"`, `""`, `"a b"`, ` "c" `}
	n := rng.IntN(4)
	switch {
	case depth > 0 && rng.IntN(3) > 0:
		var members []string
		for range n {
			members = append(members, names[rng.IntN(len(names))]+":"+randomJSON(rng, depth-1))
		}
		return "{" + strings.Join(members, ",") + "}"
	case depth > 0 && rng.IntN(2) > 0:
		var values []string
		for range n {
			values = append(values, randomJSON(rng, depth-1))
		}
		return "[" + strings.Join(values, " , ") + "]"
	}
	return scalars[rng.IntN(len(scalars))]
}

// TestNormalizeKeepsValues: Go's own reader, which takes the last of a name and a float64 for a number, sees the same
// value before and after, but for what was quoted.
func TestNormalizeKeepsValues(t *testing.T) {
	for _, text := range jsonCorpus(t) {
		out, changed := NormalizeJSON(nil, text)
		if !changed {
			continue
		}
		var before, after any
		if json.Unmarshal([]byte(text), &before) != nil {
			continue // a number that no float64 holds
		}
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(out), `"9`) && !reflect.DeepEqual(before, after) && !hasBig(text) {
			t.Errorf("%s becomes %s", text, out)
		}
	}
}

// hasBig says whether the text has an integer of 16 digits or more.
func hasBig(text string) bool {
	digits := 0
	for i := range len(text) {
		if digits++; !digit(text[i]) {
			digits = 0
		}
		if digits > 15 {
			return true
		}
	}
	return false
}

// TestLongNames: a name is as long as it is written.
func TestLongNames(t *testing.T) {
	for _, c := range []struct {
		text string
		long bool
	}{
		{`{"` + strings.Repeat("n", MaxName) + `":1}`, false},
		{`{"` + strings.Repeat("n", MaxName+1) + `":1}`, true},
		{`{"a":[1,{"b":{"` + strings.Repeat(`\u00fc`, MaxName/6+1) + `" : 1}}]}`, true},
		{`{"a":"` + strings.Repeat("n", 2*MaxName) + `"}`, false},
		{`["` + strings.Repeat("n", 2*MaxName) + `"]`, false},
	} {
		if got := HasLongName(c.text); got != c.long || got != (longestName([]byte(c.text)) > MaxName) {
			t.Errorf("%.80q: %t, want %t", c.text, got, c.long)
		}
	}
}

// TestNormalizeDoesNotAllocate: what need not change costs a scan.
func TestNormalizeDoesNotAllocate(t *testing.T) {
	const text = `{"a":[{"b":1.5,"c":"x"},2],"d":{"e":9007199254740991}}`
	if n := testing.AllocsPerRun(100, func() { NormalizeJSON(nil, text) }); n > 0 && !raceDetector {
		t.Errorf("%.0f allocations", n)
	}
}

func FuzzNormalizeJSON(f *testing.F) {
	for _, text := range jsonCorpus(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) || nesting([]byte(text)) > MaxDepth || halfSurrogate([]byte(text)) {
			if out, changed := NormalizeJSON(nil, text); changed { // of the value that such a text begins with
				checkNormal(t, text, string(out))
			}
			return
		}
		s := scanner{in: []byte(text)}
		if s.value(s.space(0), 0) < 0 {
			return // invalid UTF-8
		}
		if HasLongName(text) != (longestName([]byte(text)) > MaxName) {
			t.Fatalf("%q has a long name", text)
		}
		checkNormalize(t, text)
	})
}
