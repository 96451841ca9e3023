package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"deckle/sim"
)

// TestPythonKnowsTheColumns: the programs in Python have lists of their own, since they run without Go. They name the
// columns and rollups of package sim, so that a new column is not forgotten there.
func TestPythonKnowsTheColumns(t *testing.T) {
	for _, file := range []string{"../readers.py", "jobclick.py"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		words := map[string]bool{}
		for _, w := range regexp.MustCompile(`\w+`).FindAllString(string(text), -1) {
			words[w] = true
		}
		for _, name := range sim.SessionColumns {
			if !words[name] {
				t.Errorf("%s does not name the column %s", file, name)
			}
		}
		for _, r := range sim.Rollups {
			dims := `"` + r.Name + `": ["` + strings.Join(r.Dims, `", "`) + `"]`
			if !strings.Contains(string(text), dims) && len(r.Dims) > 0 || !words[r.Name] {
				t.Errorf("%s does not have the rollup %s by %q", file, r.Name, r.Dims)
			}
		}
	}
}

// TestReadersCompareExactlyTheColumns: readers.py compares the columns of the truth, no more and no less.
func TestReadersCompareExactlyTheColumns(t *testing.T) {
	text, err := os.ReadFile("../readers.py")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{ // named in SESSION_COLUMNS itself
		"session_id": true, "origin": true, "session_date": true, "user_id": true,
	}
	lists := regexp.MustCompile(`(?s)SESSION_(?:TEXTS|NUMBERS|JSON|TIMES) = "+([^"]+)"`)
	for _, list := range lists.FindAllSubmatch(text, -1) {
		for name := range strings.FieldsSeq(string(list[1])) {
			got[name] = true
		}
	}
	have, want := slices.Sorted(maps.Keys(got)), slices.Sorted(slices.Values(sim.SessionColumns))
	if !slices.Equal(have, want) {
		t.Errorf("readers.py compares\n%q\nand the truth has\n%q", have, want)
	}
}
