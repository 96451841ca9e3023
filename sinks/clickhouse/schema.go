package clickhouse

import (
	"fmt"
	"slices"
	"strings"

	"deckle/schema"
)

// These are the names of the stored tables. Analysts query the views (views.go).
const (
	sessionsTable = "session_metrics_versions"
	pagesTable    = "page_analytics_versions"
	rollupsTable  = "rollup_versions"
	ledgerTable   = "deckle_ledger"
)

// column is one column of a stored table or a view.
type column struct{ name, typ, comment string }

// table is one stored table.
type table struct {
	name      string
	comment   string
	version   string // the column by which ReplacingMergeTree chooses the newest row
	partition string // "" for none
	key       []string
	columns   []column
}

const (
	text     = "String"
	lowText  = "LowCardinality(String)"
	seconds  = "DateTime('UTC')"
	millis   = "DateTime64(3, 'UTC')"
	statuses = "Enum8('open' = 1, 'closed' = 2, 'expired' = 3)"
)

// typeOf is the type of a column of a kind.
func typeOf(k schema.Kind) string {
	switch k {
	case schema.Text, schema.Repeated, schema.JSON:
		return text
	case schema.Few:
		return lowText
	case schema.StatusName:
		return statuses
	case schema.Uint8:
		return "UInt8"
	case schema.Uint32, schema.Small:
		return "UInt32"
	case schema.Uint64:
		return "UInt64"
	case schema.Seconds:
		return seconds
	case schema.Millis:
		return millis
	case schema.Date:
		return "Date"
	}
	panic(fmt.Sprintf("clickhouse: no type for kind %d", k))
}

// sessionColumns are the columns of docs/schema.md, in its order. The view has these columns, and the stored table
// begins with them.
var sessionColumns = func() (columns []column) {
	for i := range schema.Sessions {
		c := &schema.Sessions[i]
		columns = append(columns, column{c.Name, typeOf(c.Kind), c.Comment})
	}
	return columns
}()

// versionColumns end every stored table of rows.
var versionColumns = []column{
	{"shard", "UInt32", "Shard that owns the row"},
	{"version", "UInt64", "Epoch of the image in its shard: the greatest one is the row"},
}

var sessions = table{
	name:      sessionsTable,
	comment:   "Images of sessions; query the view session_metrics",
	version:   "version",
	partition: "toYYYYMM(session_date)",
	key:       []string{"session_date", "session_id", "origin"},
	columns:   slices.Concat(sessionColumns, versionColumns),
}

// pageColumns are the columns of page_analytics.
var pageColumns = func() (columns []column) {
	for i := range schema.Pages {
		c := &schema.Pages[i]
		columns = append(columns, column{c.Name, typeOf(c.Kind), c.Comment})
	}
	return columns
}()

var pages = table{
	name:      pagesTable,
	comment:   "Articles of sessions, an image a version; query the view page_analytics",
	version:   "version",
	partition: "toYYYYMM(session_date)",
	key:       []string{"session_date", "session_id", "origin", "article_id", "event_type"},
	columns:   slices.Concat(pageColumns, versionColumns),
}

var rollups = table{
	name:    rollupsTable,
	comment: "Absolute totals of a shard; query the views " + strings.Join(rollupNames(), ", "),
	version: "version",
	key:     slices.Concat([]string{"rollup", "date"}, dimNames(), []string{"shard"}),
	columns: slices.Concat([]column{
		{"rollup", lowText, "Name of the view that shows the total"},
		{"date", "Date", "UTC day of session_start"},
	}, dimColumns(), measureColumns(), versionColumns),
}

func rollupNames() (names []string) {
	for i := range schema.Rollups {
		names = append(names, schema.Rollups[i].Name)
	}
	return names
}

// dimNames are the columns of the stored totals that hold a rollup's dimensions: dim1, dim2, …
func dimNames() (names []string) {
	for i := range schema.MaxDims {
		names = append(names, fmt.Sprintf("dim%d", i+1))
	}
	return names
}

func dimColumns() (columns []column) {
	for i, name := range dimNames() {
		var used, unused []string
		for j := range schema.Rollups {
			if r := &schema.Rollups[j]; i < len(r.Dims) {
				used = append(used, r.Dims[i])
			} else {
				unused = append(unused, r.Name)
			}
		}
		all := used[len(used)-1]
		if n := len(used) - 1; n > 0 {
			all = strings.Join(used[:n], ", ") + " or " + all
		}
		empty := "the other views"
		if len(unused) == 1 {
			empty = unused[0]
		}
		columns = append(columns, column{name, text, all + ", cut at 256 bytes; empty in " + empty})
	}
	return columns
}

func measureColumns() (columns []column) {
	for i := range schema.Measures {
		m := &schema.Measures[i]
		columns = append(columns, column{m.Name, "Int64", m.Comment})
	}
	return columns
}

var ledger = table{
	name:    ledgerTable,
	comment: "One row a plan written, inserted last, and one claim (b = 0) that says whose tables these are",
	version: "written_at",
	key:     []string{"cluster", "pipeline", "shard", "b"},
	columns: []column{
		{"cluster", text, "Id of the cluster that owns the tables of this database"},
		{"pipeline", text, "Pipeline of the cluster"},
		{"shard", "UInt32", "Shard of the plan"},
		{"a", "UInt64", "Epoch after which the plan begins"},
		{"b", "UInt64", "Last epoch of the plan: everything up to it is visible; 0 in a claim"},
		{"rows", "UInt64", "Rows that the plan wrote to all tables"},
		{"checksum", "UInt64", "Checksum of the plan's last epoch in the state"},
		{"node", text, "Node that wrote it"},
		{"written_at", millis, "That node's clock"},
	},
}

// storedTables are created in this order; the ledger comes first, so that a claim precedes every row.
var storedTables = []*table{&ledger, &sessions, &pages, &rollups}

// durability are the table settings without which an acknowledged row may be lost in a power failure.
var durability = []string{"fsync_after_insert", "fsync_part_directory"}

// ddl returns the statement that creates the table if it is missing.
func (t *table) ddl(database string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s.%s\n(\n", quoteIdent(database), quoteIdent(t.name))
	for i, c := range t.columns {
		sep := ","
		if i == len(t.columns)-1 {
			sep = ""
		}
		fmt.Fprintf(&b, "    %s %s COMMENT %s%s\n", quoteIdent(c.name), c.typ, quoteText(c.comment), sep)
	}
	fmt.Fprintf(&b, ")\nENGINE = ReplacingMergeTree(%s)\n", t.version)
	if t.partition != "" {
		fmt.Fprintf(&b, "PARTITION BY %s\n", t.partition)
	}
	fmt.Fprintf(&b, "ORDER BY (%s)\nSETTINGS ", strings.Join(t.key, ", "))
	for i, s := range durability {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s + " = 1")
	}
	fmt.Fprintf(&b, "\nCOMMENT %s", quoteText(t.comment))
	return b.String()
}

func quoteText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func quoteIdent(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}
