package main

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// arrows makes "a→b c→a" the arrows between files.
func arrows(s string) (files []string, m map[string]map[string]bool) {
	m = map[string]map[string]bool{}
	seen := map[string]bool{}
	for pair := range strings.FieldsSeq(s) {
		from, to, ok := strings.Cut(pair, "→")
		seen[from] = true
		if !ok {
			continue
		}
		seen[to] = true
		if m[from] == nil {
			m[from] = map[string]bool{}
		}
		m[from][to] = true
	}
	return slices.Sorted(maps.Keys(seen)), m
}

func TestLargestCircle(t *testing.T) {
	for _, c := range []struct{ arrows, want string }{
		{"a b c", ""},
		{"a→b b→c", ""},
		{"a→a", ""}, // a file that names itself is no circle
		{"a→b b→a", "a b"},
		{"a→b b→c c→a", "a b c"},
		{"a→b b→c a→c", ""}, // two ways to c, none back
		{"a→b b→a b→c c→d d→e e→c", "c d e"},
		{"a→b b→c c→a c→d d→c", "a b c d"},                 // two circles that share a file are one
		{"a→b b→a c→d d→c b→c", "a b|c d"},                 // an arrow from one to the other, none back
		{"z→y y→x x→w w→z a→z b→a", "w x y z"},             // what only leads into it is not in it
		{"a→b a→c a→d b→a c→a d→a e→a", "a b c d"},         // a star
		{"a→b b→c c→d d→e e→f f→b a→f", "b c d e f"},       // entered in two places
		{"h→g g→f f→h h→a a→b b→c c→d d→a", "a b c d"},     // the larger one is found second
		{"a→b b→c c→d d→a a→e e→f f→g g→e", "a b c d"},     // the larger one is found last
		{"a→b b→a c→d d→e e→c f→g g→h h→i i→f", "f g h i"}, // three that do not meet
	} {
		files, m := arrows(c.arrows)
		got := strings.Join(largestCircle(files, m), " ")
		if !slices.Contains(strings.Split(c.want, "|"), got) {
			t.Errorf("%s: %q, want %q", c.arrows, got, c.want)
		}
	}
}

func TestParseAllow(t *testing.T) {
	for _, c := range []struct {
		in   string
		want map[string]int
	}{
		{"", map[string]int{}},
		{"state=13", map[string]int{"state": 13}},
		{"state=13,sinks/delta=7,", map[string]int{"state": 13, "sinks/delta": 7}},
		{"state", nil},
		{"state=", nil},
		{"state=many", nil},
	} {
		got, err := parseAllow(c.in)
		if (err != nil) != (c.want == nil) || err == nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v, %v; want %v", c.in, got, err, c.want)
		}
	}
}

func TestFloors(t *testing.T) {
	byPath := map[string]*room{}
	for path, imports := range map[string][]string{
		"event": nil, "wal": nil,
		"state": {"event"}, "raftstore": {"wal"},
		"sinks": {"state"}, "node": {"sinks", "raftstore", "elsewhere"}, // elsewhere was not loaded
	} {
		byPath[module+"/"+path] = &room{path: path, imports: imports}
	}
	for path, want := range map[string]int{"event": 1, "wal": 1, "state": 2, "raftstore": 2, "sinks": 3, "node": 4} {
		if got := byPath[module+"/"+path].rise(byPath); got != want {
			t.Errorf("%s is on floor %d, want %d", path, got, want)
		}
	}
}

// TestRooms looks at this very package: it has one file, and fails only where its limit says so.
func TestRooms(t *testing.T) {
	var out strings.Builder
	if err := run(&out, []string{module + "/integration/rooms"}, 1, "", true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "integration/rooms") {
		t.Error(out.String())
	}
	if err := run(&out, []string{module + "/does/not/exist"}, 1, "", false); err == nil {
		t.Error("a package that does not exist was no error")
	}
}
