package clickhouse

import (
	"fmt"
	"slices"
	"strings"

	"deckle/schema"
	"deckle/schema/level"
)

// These are the names of the stored tables. Analysts query the views (views.go).
const (
	sessionsTable = "session_metrics_versions"
	pagesTable    = "page_analytics_versions"
	rollupsTable  = "rollup_versions"
	ledgerTable   = "deckle_ledger"
)

// column is one column of a stored table or a view.
type column struct {
	name, typ, comment string
	former             string // the comment of tables of the levels before, if it is another one
	later              bool   // tables that were made at level 1 do not have it
}

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

// columnType is the type of a column; a value that may be unknown can be null.
func columnType(k schema.Kind, nullable bool) string {
	if !nullable {
		return typeOf(k)
	}
	if k == schema.Few {
		k = schema.Text // the protocol keeps the nulls of a LowCardinality in its dictionary
	}
	return "Nullable(" + typeOf(k) + ")"
}

func sessionColumn(c *schema.Column[schema.SessionRow], l level.Level) column {
	col := column{name: c.Name, typ: columnType(c.Kind, c.Known != nil), comment: c.CommentAt(l),
		later: schema.Later(c.Since)}
	if col.comment != c.Comment {
		col.former = c.Comment
	}
	return col
}

func pageColumn(c *schema.PageColumn) column {
	nullable := c.Session != nil && c.Session.Known != nil || c.Page != nil && c.Page.Known != nil
	return column{name: c.Name, typ: columnType(c.Kind, nullable), comment: c.Comment, later: schema.Later(c.Since)}
}

func measureColumn(m *schema.Measure) column {
	return column{name: m.Name, typ: "Int64", comment: m.Comment, later: schema.Later(m.Since)}
}

// versionColumns end every stored table of rows.
var versionColumns = []column{
	{name: "shard", typ: "UInt32", comment: "Shard that owns the row"},
	{name: "version", typ: "UInt64", comment: "Epoch of the image in its shard: the greatest one is the row"},
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
		columns = append(columns, column{name: name, typ: text,
			comment: all + ", cut at 256 bytes; empty in " + empty})
	}
	return columns
}

var ledger = table{
	name:    ledgerTable,
	comment: "One row a plan written, inserted last, and one claim (b = 0) that says whose tables these are",
	version: "written_at",
	key:     []string{"cluster", "pipeline", "shard", "b"},
	columns: []column{
		{name: "cluster", typ: text, comment: "Id of the cluster that owns the tables of this database"},
		{name: "pipeline", typ: text, comment: "Pipeline of the cluster"},
		{name: "shard", typ: "UInt32", comment: "Shard of the plan"},
		{name: "a", typ: "UInt64", comment: "Epoch after which the plan begins"},
		{name: "b", typ: "UInt64", comment: "Last epoch of the plan: everything up to it is visible; 0 in a claim"},
		{name: "rows", typ: "UInt64", comment: "Rows that the plan wrote to all tables"},
		{name: "checksum", typ: "UInt64", comment: "Checksum of the plan's last epoch in the state"},
		{name: "node", typ: text, comment: "Node that wrote it"},
		{name: "written_at", typ: millis, comment: "That node's clock"},
	},
}

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
		fmt.Fprintf(&b, "    %s%s\n", c.definition(), sep)
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

// recomment returns the statement that gives a column its present comment. It may be repeated.
func (t *table) recomment(database string, c *column) string {
	return fmt.Sprintf("ALTER TABLE %s.%s COMMENT COLUMN %s %s", quoteIdent(database), quoteIdent(t.name),
		quoteIdent(c.name), quoteText(c.comment))
}

func (c *column) definition() string {
	return fmt.Sprintf("%s %s COMMENT %s", quoteIdent(c.name), c.typ, quoteText(c.comment))
}

// alter returns the statement that gives the table the columns, each behind the one that precedes it in a new table. It
// may be repeated, and run by several nodes at once.
func (t *table) alter(database string, add []column) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ALTER TABLE %s.%s", quoteIdent(database), quoteIdent(t.name))
	for i := range add {
		if i > 0 {
			b.WriteString(",")
		}
		at := slices.IndexFunc(t.columns, func(c column) bool { return c.name == add[i].name })
		fmt.Fprintf(&b, "\n    ADD COLUMN IF NOT EXISTS %s AFTER %s", add[i].definition(),
			quoteIdent(t.columns[at-1].name))
	}
	return b.String()
}

func quoteText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func quoteIdent(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}
