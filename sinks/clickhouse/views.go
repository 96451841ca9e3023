package clickhouse

import (
	"fmt"
	"hash/fnv"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"deckle/schema"
	"deckle/schema/level"
)

// view is one of the names that analysts query.
type view struct {
	name    string
	comment string
	columns []column
	query   string
	level   level.Level
}

// finalSettings are safe here, because a key never changes its partition.
const finalSettings = "SETTINGS do_not_merge_across_partitions_select_final = 1"

// views returns every view of the database.
func (y *layout) views(database string) []view {
	vs := []view{
		{
			name: "session_metrics", columns: y.sessionColumns,
			comment: "Sessions, open and closed, one row each; exact under plain SELECT",
			query:   selectFinal(database, sessionsTable, y.sessionColumns),
		},
		{
			name: "page_analytics", columns: y.pageColumns,
			comment: "Articles of sessions by event type; exact under plain SELECT",
			query:   selectFinal(database, pagesTable, y.pageColumns),
		},
	}
	for i := range schema.Rollups {
		vs = append(vs, y.rollupView(&schema.Rollups[i], database))
	}
	for i := range vs {
		vs[i].level = level.Tables.Since(level.Tables.At(y.level))
	}
	return vs
}

func selectFinal(database, table string, columns []column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return fmt.Sprintf("SELECT %s\nFROM %s.%s FINAL\n%s", strings.Join(names, ", "), quoteIdent(database),
		quoteIdent(table), finalSettings)
}

// shortened is the SQL of the longest prefix of at most 256 bytes that ends between two characters, as the state
// shortens the keys of rollups (docs/schema.md, rollups). substring counts bytes; a byte 10xxxxxx continues a
// character, which has at most three of them.
func shortened(expr string) string {
	continues := func(i int) string {
		return fmt.Sprintf("bitAnd(reinterpretAsUInt8(substring(%s, %d, 1)), 192) = 128", expr, i)
	}
	return fmt.Sprintf("multiIf(length(%[1]s) <= 256, %[1]s, NOT (%[2]s), substring(%[1]s, 1, 256), "+
		"NOT (%[3]s), substring(%[1]s, 1, 255), NOT (%[4]s), substring(%[1]s, 1, 254), substring(%[1]s, 1, 253))",
		expr, continues(257), continues(256), continues(255))
}

// knownUsers counts the users of the session rows, whatever level they were written at. 0 is nobody.
const knownUsers = "uniqExactIf(t_user_id, t_is_session AND t_user_id != 0)"

// rollupView is the view of a rollup. The names of its inner SELECTs begin with t_, so that none is the name of a
// column.
func (y *layout) rollupView(r *schema.Rollup, database string) view {
	columns := []column{{name: "date", typ: "Date", comment: "UTC day of session_start"}}
	var names, stored, ofSession strings.Builder
	for i, d := range r.Dims {
		columns = append(columns, column{name: d, typ: text,
			comment: schema.Named(schema.Sessions, d).Comment + ", cut at 256 bytes"})
		fmt.Fprintf(&names, ", %s", d)
		fmt.Fprintf(&stored, ", dim%d AS %s", i+1, d)
		fmt.Fprintf(&ofSession, ", %s AS %s", shortened("toString(s."+d+")"), d)
	}
	const perSession = "sum(t_%s) / sum(t_sessions) AS %s"
	var shown, totals, zeros []string
	for i := range y.declared.Measures {
		m := &y.declared.Measures[i]
		totals = append(totals, fmt.Sprintf("%[1]s AS t_%[1]s", m.Name))
		zeros = append(zeros, "toInt64(0) AS t_"+m.Name)
		if m.Average {
			columns = append(columns, column{name: m.View, typ: "Float64", comment: m.ViewComment})
			shown = append(shown, fmt.Sprintf(perSession, m.Name, m.View))
			continue
		}
		columns = append(columns, column{name: m.View, typ: "Int64", comment: m.ViewComment})
		shown = append(shown, fmt.Sprintf("sum(t_%s) AS %s", m.Name, m.View))
		if m.Of == schema.MeasureOne {
			users, comment := "uniqExactIf(t_user_id, t_is_session)", "Distinct users, exact"
			if y.level >= level.Real {
				users, comment = knownUsers, "Distinct known users, exact"
			}
			columns = append(columns, column{name: "total_users", typ: "UInt64", comment: comment})
			shown = append(shown, users+" AS total_users")
		}
	}
	if r.Conversion {
		columns = append(columns, column{name: "conversion_rate", typ: "Float64",
			comment: "total_newsletter_signups / total_sessions"})
		shown = append(shown, fmt.Sprintf(perSession, "newsletter_signups", "conversion_rate"))
	}
	if y.level >= level.Real {
		columns = append(columns, column{name: "total_visitors", typ: "UInt64",
			comment: "Distinct known users, and one for each session of which no user is known"})
		shown = append(shown, knownUsers+" + countIf(t_is_session AND t_user_id = 0) AS total_visitors")
	}
	query := fmt.Sprintf(`SELECT
    date%[1]s,
    %[4]s
FROM
(
    SELECT date%[2]s, %[9]s, toUInt64(0) AS t_user_id, false AS t_is_session
    FROM %[5]s.%[6]s FINAL
    WHERE rollup = %[7]s
    UNION ALL
    SELECT toDate(s.session_start, 'UTC') AS date%[3]s, %[10]s, s.user_id AS t_user_id, true AS t_is_session
    FROM %[5]s.%[8]s AS s FINAL
)
GROUP BY date%[1]s
HAVING sum(t_sessions) > 0
%[11]s`, names.String(), stored.String(), ofSession.String(), strings.Join(shown, ",\n    "), quoteIdent(database),
		quoteIdent(rollupsTable), quoteText(r.Name), quoteIdent(sessionsTable), threePerLine(totals),
		threePerLine(zeros), finalSettings)
	return view{name: r.Name, comment: r.Comment, columns: columns, query: query}
}

// threePerLine joins the columns of an inner SELECT.
func threePerLine(columns []string) string {
	var lines []string
	for three := range slices.Chunk(columns, 3) {
		lines = append(lines, strings.Join(three, ", "))
	}
	return strings.Join(lines, ",\n        ")
}

// create and replace begin the statement that makes a view. A view that is missing is not replaced, because another
// node may have made one of a higher level meanwhile.
const (
	create  = "CREATE VIEW IF NOT EXISTS"
	replace = "CREATE OR REPLACE VIEW"
)

// ddl returns the statement that makes the view.
func (v *view) ddl(verb, database string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s.%s\n(\n", verb, quoteIdent(database), quoteIdent(v.name))
	for i, c := range v.columns {
		sep := ","
		if i == len(v.columns)-1 {
			sep = ""
		}
		fmt.Fprintf(&b, "    %s%s\n", c.definition(), sep)
	}
	fmt.Fprintf(&b, ")\nAS %s\nCOMMENT %s", v.query, quoteText(v.mark()))
	return b.String()
}

// mark is the view's comment; its end identifies this definition, so that only a changed view is replaced, and its
// level, so that none of a higher level is. A level that changes nothing in the tables counts as the one before.
func (v *view) mark() string {
	h := fnv.New64a()
	h.Write([]byte(v.query))
	for _, c := range v.columns {
		h.Write([]byte(c.name + "\x00" + c.typ + "\x00" + c.comment + "\x00"))
	}
	at := ""
	if v.level > level.First { // v0.1.0 names no level
		at = fmt.Sprintf("level %d ", v.level)
	}
	return fmt.Sprintf("%s [deckle %s%016x]", v.comment, at, h.Sum64())
}

var marked = regexp.MustCompile(`\[deckle level (\d+) [0-9a-f]{16}\]$`)

// levelOf returns the level of a view with this comment.
func levelOf(comment string) level.Level {
	m := marked.FindStringSubmatch(comment)
	if m == nil {
		return level.First
	}
	l, err := strconv.ParseUint(m[1], 10, 32)
	if err != nil {
		return math.MaxUint32
	}
	return level.Level(l)
}
