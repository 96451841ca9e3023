package clickhouse

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"deckle/schema"
)

// view is one of the names that analysts query.
type view struct {
	name    string
	comment string
	columns []column
	query   string
}

// finalSettings are safe here, because a key never changes its partition.
const finalSettings = "SETTINGS do_not_merge_across_partitions_select_final = 1"

// views returns every view of the database.
func views(database string) []view {
	vs := []view{
		{
			name: "session_metrics", columns: sessionColumns,
			comment: "Sessions, open and closed, one row each; exact under plain SELECT",
			query:   selectFinal(database, sessionsTable, sessionColumns),
		},
		{
			name: "page_analytics", columns: pageColumns,
			comment: "Articles of sessions by event type; exact under plain SELECT",
			query:   selectFinal(database, pagesTable, pageColumns),
		},
	}
	for i := range schema.Rollups {
		vs = append(vs, rollupView(&schema.Rollups[i], database))
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

// rollupView is the view of a rollup. The names of its inner SELECTs begin with t_, so that none is the name of a
// column.
func rollupView(r *schema.Rollup, database string) view {
	columns := []column{{"date", "Date", "UTC day of session_start"}}
	var names, stored, ofSession strings.Builder
	for i, d := range r.Dims {
		columns = append(columns, column{d, text, schema.Named(schema.Sessions, d).Comment + ", cut at 256 bytes"})
		fmt.Fprintf(&names, ", %s", d)
		fmt.Fprintf(&stored, ", dim%d AS %s", i+1, d)
		fmt.Fprintf(&ofSession, ", %s AS %s", shortened("toString(s."+d+")"), d)
	}
	const perSession = "sum(t_%s) / sum(t_sessions) AS %s"
	var shown, totals, zeros []string
	for i := range schema.Measures {
		m := &schema.Measures[i]
		totals = append(totals, fmt.Sprintf("%[1]s AS t_%[1]s", m.Name))
		zeros = append(zeros, "toInt64(0) AS t_"+m.Name)
		if m.Average {
			columns = append(columns, column{m.View, "Float64", m.ViewComment})
			shown = append(shown, fmt.Sprintf(perSession, m.Name, m.View))
			continue
		}
		columns = append(columns, column{m.View, "Int64", m.ViewComment})
		shown = append(shown, fmt.Sprintf("sum(t_%s) AS %s", m.Name, m.View))
		if m.Of == schema.MeasureOne {
			columns = append(columns, column{"total_users", "UInt64", "Distinct users, exact"})
			shown = append(shown, "uniqExactIf(t_user_id, t_is_session) AS total_users")
		}
	}
	if r.Conversion {
		columns = append(columns, column{"conversion_rate", "Float64", "total_newsletter_signups / total_sessions"})
		shown = append(shown, fmt.Sprintf(perSession, "newsletter_signups", "conversion_rate"))
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

// ddl returns the statement that creates or replaces the view.
func (v *view) ddl(database string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE OR REPLACE VIEW %s.%s\n(\n", quoteIdent(database), quoteIdent(v.name))
	for i, c := range v.columns {
		sep := ","
		if i == len(v.columns)-1 {
			sep = ""
		}
		fmt.Fprintf(&b, "    %s %s COMMENT %s%s\n", quoteIdent(c.name), c.typ, quoteText(c.comment), sep)
	}
	fmt.Fprintf(&b, ")\nAS %s\nCOMMENT %s", v.query, quoteText(v.mark()))
	return b.String()
}

// mark is the view's comment; its end identifies this definition, so that only a changed view is replaced.
func (v *view) mark() string {
	h := fnv.New64a()
	h.Write([]byte(v.query))
	for _, c := range v.columns {
		h.Write([]byte(c.name + "\x00" + c.typ + "\x00" + c.comment + "\x00"))
	}
	return fmt.Sprintf("%s [deckle %016x]", v.comment, h.Sum64())
}
