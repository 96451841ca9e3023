package schema

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"deckle/event"
	"deckle/schema/level"
)

var update = flag.Bool("update", false, "write the tables of docs/schema.md")

const docs = "../docs/schema.md"

// kindText holds the column types that docs/schema.md names for a kind: in ClickHouse, then in Delta.
var kindText = map[Kind][2]string{
	Text: {"String", "string"}, Repeated: {"String", "string"}, Few: {"LowCardinality(String)", "string"},
	JSON:       {"String (JSON array)", "string"},
	StatusName: {"Enum8", "string"}, Uint8: {"UInt8", "int"}, Uint32: {"UInt32", "long"}, Uint64: {"UInt64", "long"},
	Small:   {"UInt32", "int"},
	Seconds: {"DateTime('UTC')", "timestamp"}, Millis: {"DateTime64(3,'UTC')", "timestamp"}, Date: {"Date", "date"},
}

// sessionsTable renders the table of sessions. Consecutive columns that have the same rule share a line.
func sessionsTable() string {
	var b strings.Builder
	b.WriteString("| column | type (ClickHouse / Delta) | rule |\n|---|---|---|\n")
	for rest := Sessions; len(rest) > 0; {
		n := 1
		usual := typeText(&rest[0])
		for n < len(rest) && rest[n].Rule == rest[0].Rule && rest[0].Rule != "" && rest[n].Since == rest[0].Since &&
			typeText(&rest[n])[1] == usual[1] {
			n++
		}
		var names, others []string
		for i := range rest[:n] {
			names = append(names, rest[i].Name)
			if own := typeText(&rest[i]); own != usual {
				others = append(others, rest[i].Name+" "+own[0])
			}
		}
		typ := strings.Join(append([]string{usual[0]}, others...), ", ") + " / " + usual[1]
		rule := rest[0].Rule
		if Later(rest[0].Since) {
			rule += fmt.Sprintf(" (level %d)", rest[0].Since)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", strings.Join(names, ", "), typ, rule)
		rest = rest[n:]
	}
	return b.String()
}

// typeText names the types of a column in ClickHouse and in Delta.
func typeText(c *Column[SessionRow]) [2]string {
	text := kindText[c.Kind]
	if c.Known != nil {
		if c.Kind == Few {
			text = kindText[Text]
		}
		text[0] = "Nullable(" + text[0] + ")"
	}
	return text
}

// rollupsTable renders the table of rollups, up to page_analytics, which is written by hand.
func rollupsTable() string {
	var shown []string
	for i := range Measures {
		view := Measures[i].View
		if Later(Measures[i].Since) {
			view += fmt.Sprintf(" (level %d)", Measures[i].Since)
		}
		if shown = append(shown, view); Measures[i].Of == MeasureOne {
			shown = append(shown, "total_users")
		}
	}
	shown = append(shown, fmt.Sprintf("total_visitors (level %d)", level.Real))
	var b strings.Builder
	b.WriteString("| name | key | measures |\n|---|---|---|\n")
	for i := range Rollups {
		r, measures := &Rollups[i], "the same"
		if i == 0 {
			measures = strings.Join(shown, ", ")
		}
		if r.Conversion {
			measures += ", and conversion_rate = total_newsletter_signups / total_sessions"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Name, strings.Join(append([]string{"date"}, r.Dims...), ", "), measures)
	}
	return b.String()
}

// eventLines are those lines of the table of events that follow from the tables of types and fields, by the text with
// which they begin.
func eventLines() map[string]string {
	var types, texts []string
	for t := event.ArticleView; t <= event.SessionEnd; t++ {
		types = append(types, t.String())
	}
	for i := range Events {
		if c := &Events[i]; c.Optional && c.Kind != JSON && !Later(c.Since) {
			texts = append(texts, c.Name)
		}
	}
	return map[string]string{
		"| event_type |": "| event_type | " + strings.Join(types, ", ") + " | required |",
		"| brand, category, ": "| " + strings.Join(texts, ", ") +
			" | text | optional; missing, null and \"\" are the same: empty |",
	}
}

// TestDocs: the tables of docs/schema.md agree with the declarations of this package. With -update it writes them.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	replace := func(first, until, table string) {
		from := slices.Index(lines, first)
		if from < 0 {
			t.Fatalf("%s has no line %q", docs, first)
		}
		to := from
		for to < len(lines) && strings.HasPrefix(lines[to], "|") &&
			(until == "" || !strings.HasPrefix(lines[to], until)) {
			to++
		}
		lines = slices.Replace(lines, from, to, strings.Split(strings.TrimSuffix(table, "\n"), "\n")...)
	}
	replace("| column | type (ClickHouse / Delta) | rule |", "", sessionsTable())
	replace("| name | key | measures |", "| page_analytics ", rollupsTable())
	for begin, want := range eventLines() {
		at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, begin) })
		if at < 0 {
			t.Fatalf("%s has no line that begins with %q", docs, begin)
		}
		lines[at] = want
	}
	want := strings.Join(lines, "\n")
	if *update {
		if err := os.WriteFile(docs, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(text) {
		for i, l := range strings.Split(string(text), "\n") {
			if i >= len(lines) || l != lines[i] {
				t.Fatalf("%s, line %d, is not what is declared; go test ./schema -update writes it:\n%s", docs, i+1, l)
			}
		}
		t.Fatalf("%s is not what is declared; go test ./schema -update writes it", docs)
	}
	pages := lines[slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "| page_analytics ") })]
	for i := range Pages {
		if c := &Pages[i]; c.Name != "session_date" && !strings.Contains(pages, c.Name) {
			t.Errorf("%s does not name %s of page_analytics", docs, c.Name)
		}
	}
}
