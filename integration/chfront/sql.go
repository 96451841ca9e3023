package main

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// insertInto is the target of an INSERT whose rows follow as blocks.
type insertInto struct {
	table   string // as the engine reads it
	columns string // "" or a list in brackets
}

var (
	insertRE = regexp.MustCompile(`(?is)^\s*INSERT\s+INTO\s+(?:TABLE\s+)?((?:[^\s(]|"[^"]*"|` + "`[^`]*`" +
		`)+)\s*(\([^)]*\))?\s*(?:FORMAT\s+\w+|VALUES)?\s*;?\s*$`)
	selectRE = regexp.MustCompile(`(?is)^[\s(]*(SELECT|WITH)\b`)
	// dropRE is a DROP that waits for background work. libchdb does no such work, so it would wait for ever.
	dropRE = regexp.MustCompile(`(?is)^(\s*(?:DROP|DETACH|TRUNCATE)\s.*?)\s+(?:SYNC|NO\s+DELAY)\s*$`)
	codeRE = regexp.MustCompile(`Code: (\d+)`)
)

// insertTarget says whether a query is an INSERT that is followed by blocks, and not one with a SELECT or with inline
// values.
func insertTarget(q string) (insertInto, bool) {
	m := insertRE.FindStringSubmatch(q)
	if m == nil {
		return insertInto{}, false
	}
	r := strings.NewReplacer(`"`, "`")
	return insertInto{table: r.Replace(m[1]), columns: r.Replace(m[2])}, true
}

// withSettings returns the text of a statement for the engine. It appends the settings of the protocol to a SELECT that
// has none of its own (other statements are run without them), and removes SYNC from a DROP.
func withSettings(q string, settings []proto.Setting) string {
	q = strings.TrimRight(strings.TrimSpace(q), ";")
	if m := dropRE.FindStringSubmatch(q); m != nil {
		return m[1]
	}
	if !selectRE.MatchString(q) || strings.Contains(strings.ToUpper(q), "SETTINGS") {
		return q
	}
	return q + settingsClause(settings)
}

// settingsClause returns " SETTINGS a = '1', …", or "" without settings.
func settingsClause(settings []proto.Setting) string {
	var b strings.Builder
	for i, v := range settings {
		if b.WriteString(", "); i == 0 {
			b.Reset()
			b.WriteString(" SETTINGS ")
		}
		b.WriteString(v.Key + " = " + quoteText(v.Value))
	}
	return b.String()
}

func quoteText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func quoteIdent(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}

// codeOf returns the number of the engine's exception, or 1000 (UNKNOWN_EXCEPTION) if there is none.
func codeOf(text string) int {
	if m := codeRE.FindStringSubmatch(text); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return n
		}
	}
	return 1000
}
