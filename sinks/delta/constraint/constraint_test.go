package constraint

import (
	"strings"
	"testing"
	"time"
)

var columns = []Column{{"n", Number}, {"s", Text}, {"d", Date}, {"t", Time}, {"odd name", Text}, {"null", Number},
	{"m", Number}, {"struct", Other}, {"Twice", Number}, {"twice", Number}}

func values(v map[string]Value) func(string) Value {
	return func(c string) Value {
		x, ok := v[c]
		if !ok {
			return Value{Null: true}
		}
		return x
	}
}

// row has no value for m, null and struct.
var row = values(map[string]Value{"n": {N: 7}, "s": {Text: "it"}, "d": {N: 20484}, "odd name": {Text: "x"},
	"t": {N: time.Date(2026, 1, 31, 12, 0, 0, 500_000, time.UTC).UnixMicro()}})

func TestEval(t *testing.T) {
	for text, want := range map[string]Truth{
		"n > 6": True, "n > 7": False, "n>=7": True, "7 <= n": True, "n < 7.5": True, "n < -7": False, "n = 7L": True,
		"n <> 7": False, "n != 8": True, "n == 7": True, "-8 < n": True,
		"m > 6": Unknown, "NOT m > 6": Unknown, "n = NULL": Unknown, "m IS NULL": True, "n is not null": True,
		"struct IS NULL": True, "NOT struct IS NULL": False, "`null` IS NULL": True,
		"s = 'it'": True, "s < 'j'": True, "S >= 'it '": False, "`odd name` = 'x'": True, "s = ''": False,
		"d = '2026-01-31'": True, "d > DATE '2026-01-30'": True, "'2026-02-01' > d": True,
		"t = TIMESTAMP '2026-01-31 12:00:00.0005Z'": True, "t < '2026-01-31T13:00:00+01:00'": False,
		"t < '2026-01-31T13:00:01+01:00'": True,
		"n IN (1, 7)":                     True, "n IN (1, 2)": False, "n IN (1, NULL)": Unknown,
		"n IN (7, NULL)":     True,
		"n NOT IN (1, NULL)": Unknown, "n NOT IN (1, 2)": True, "m IN (1)": Unknown, "s in ('it')": True,
		"d IN ('2026-01-31')": True,
		// AND binds closer than OR, NOT closer than both.
		"n = 1 AND n = 7 OR n = 7": True, "n = 1 AND (n = 7 OR n = 7)": False, "NOT n = 1 AND n = 7": True,
		"NOT (n = 1 AND n = 7)": True, "NOT NOT n = 7": True, "n = 7 OR n = 1 AND n = 2": True,
		"(n = 7 OR n = 1) AND n = 2": False,
		// Kleene: what is false whatever the unknown is, is false.
		"m = 1 AND n = 1": False, "m = 1 AND n = 7": Unknown, "m = 1 OR n = 7": True, "m = 1 OR n = 1": Unknown,
		"((((n = 7))))": True, "n = n": True, "m = n": Unknown, "s\n=\t'it'": True,
	} {
		e, err := Parse(text, columns)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := e.Eval(row); got != want {
			t.Errorf("%s is %d, want %d", text, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, why := range map[string]string{
		"": "the end", "n": "where a comparison should stand", "n >": "the end", "n > 1 n": "n is not understood here",
		"length(s) > 1": "function length", "n + 1 > 2": "not understood", "n > 1e3": "number 1e", "n > 1.2.3": "1.2.3",
		"s = \"it\"": "not understood", "s = 'it''s'": "doubled", `s = 'a\n'`: "backslash", "s = 'it": "does not end",
		"n > '7'": "types that are not compared", "s > 7": "types that are not compared", "d > 7": "types",
		"d > 'soon'": "date 'soon'", "t > '2026-01-31 12:00:00'": "zone", "t > DATE '2026-01-31'": "types",
		"x > 1": "no column x", "twice > 1": "more than once", "a.b > 1": "not understood",
		"n BETWEEN 1 AND 2": "BETWEEN",
		"s LIKE 'a%'":       "LIKE", "n IN (m)": "column m in a list", "n IN ()": "where a column or a value",
		"n IN 7": "IN 7",
		"TRUE":   "TRUE", "NOT": "the end", "(n = 1": "bracket should close", "n = 1)": ") is not understood",
		"n IS 7": "IS 7", "n NOT 7": "NOT 7", "-s = 1": "-s", "struct = 1": "types",
		"n <=> 7":             "where a column or a value",
		"n > 1; DROP TABLE t": "not understood", "n = 1 -- x": "not understood",
		strings.Repeat("(", 200) + "n = 1" + strings.Repeat(")", 200): "brackets within brackets",
		strings.Repeat("NOT ", 200) + "n = 1":                         "brackets within brackets",
		strings.Repeat(" ", maxText+1):                                "bytes",
	} {
		e, err := Parse(text, columns)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60q: %v, %v; want an error with %q", text, e, err, why)
		}
	}
}

// FuzzConstraint: whatever a table says is refused, or has a value for every row, which NOT turns around, and which
// brackets, blanks and a repetition do not change.
func FuzzConstraint(f *testing.F) {
	for _, s := range []string{"n > 6 AND s <> 'a' OR NOT d IS NULL", "n NOT IN (1, 2.5, NULL)",
		"t < '2026-01-31T13:00:00+01:00'",
		"`odd name` = 'x'", "((n = -7L))", "s = 'it''s'", "NOT NOT m IS NOT NULL", "n = 1 OR n = 2 AND n = 3"} {
		f.Add(s, int64(7), "it")
	}
	f.Fuzz(func(t *testing.T, text string, n int64, s string) {
		e, err := Parse(text, columns)
		if err != nil {
			return
		}
		row := values(map[string]Value{"n": {N: n}, "m": {N: -n}, "s": {Text: s}, "d": {N: n}, "t": {N: n}})
		want := e.Eval(row)
		for again, turned := range map[string]bool{"NOT (" + text + ")": true, "( " + text + " )": false,
			"(" + text + ") AND (" + text + ")": false, "(" + text + ") OR (" + text + ")": false} {
			x, err := Parse(again, columns)
			if err != nil {
				if len(again) > maxText || strings.Contains(err.Error(), errDepth.Error()) {
					continue
				}
				t.Fatalf("%q is understood, %q is not: %v", text, again, err)
			}
			if got := x.Eval(row); got != want && !turned || got != -want && turned {
				t.Fatalf("%q is %d, %q is %d", text, want, again, got)
			}
		}
	})
}
