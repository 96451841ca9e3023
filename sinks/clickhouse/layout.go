package clickhouse

import (
	"slices"
	"strings"

	"deckle/schema"
	"deckle/schema/level"
)

// layout is the tables and views of one level.
type layout struct {
	level    level.Level
	declared schema.Set
	// sessionColumns are the columns of docs/schema.md, in its order, and pageColumns those of page_analytics. The
	// views have these columns, and the stored tables begin with them.
	sessionColumns, pageColumns []column
	sessions, pages, rollups    table
	// stored are the tables in the order in which they are created; the ledger comes first, so that a claim precedes
	// every row.
	stored []*table
	// texts are the columns of sessions whose texts count towards the size of a block, row by row, and width is about
	// the width of the others.
	texts []*schema.Column[schema.SessionRow]
	width int
}

// layouts holds the layout of each level at its place.
type layouts [level.Current + 1]*layout

// layoutsOf compiles declarations once for each level.
func layoutsOf(declared schema.Set) (all layouts) {
	for l := level.First; l <= level.Current; l++ {
		all[l] = newLayout(l, declared.UpTo(l))
	}
	return all
}

// declared are the layouts of package schema.
var declared = layoutsOf(schema.All())

// newest is the layout that has everything.
func newest() *layout { return declared[level.Current] }

func newLayout(l level.Level, declared schema.Set) *layout {
	y := &layout{level: l, declared: declared, width: fixedSessionBytes}
	for i := range declared.Sessions {
		c := &declared.Sessions[i]
		y.sessionColumns = append(y.sessionColumns, sessionColumn(c, l))
		switch {
		case typeOf(c.Kind) == text:
			y.texts = append(y.texts, c)
		case schema.Later(c.Since):
			y.width += 9 // at most, with the mark of a null
		}
	}
	for i := range declared.Pages {
		y.pageColumns = append(y.pageColumns, pageColumn(&declared.Pages[i]))
	}
	var measures []column
	for i := range declared.Measures {
		measures = append(measures, measureColumn(&declared.Measures[i]))
	}
	y.sessions = table{
		name:      sessionsTable,
		comment:   "Images of sessions; query the view session_metrics",
		version:   "version",
		partition: "toYYYYMM(session_date)",
		key:       []string{"session_date", "session_id", "origin"},
		columns:   slices.Concat(y.sessionColumns, versionColumns),
	}
	y.pages = table{
		name:      pagesTable,
		comment:   "Articles of sessions, an image a version; query the view page_analytics",
		version:   "version",
		partition: "toYYYYMM(session_date)",
		key:       []string{"session_date", "session_id", "origin", "article_id", "event_type"},
		columns:   slices.Concat(y.pageColumns, versionColumns),
	}
	y.rollups = table{
		name:    rollupsTable,
		comment: "Absolute totals of a shard; query the views " + strings.Join(rollupNames(), ", "),
		version: "version",
		key:     slices.Concat([]string{"rollup", "date"}, dimNames(), []string{"shard"}),
		columns: slices.Concat([]column{
			{name: "rollup", typ: lowText, comment: "Name of the view that shows the total"},
			{name: "date", typ: "Date", comment: "UTC day of session_start"},
		}, dimColumns(), measures, versionColumns),
	}
	y.stored = []*table{&ledger, &y.sessions, &y.pages, &y.rollups}
	return y
}
