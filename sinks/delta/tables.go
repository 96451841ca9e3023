package delta

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks/delta/deltalog"
)

// table describes one Delta table at one level.
type table struct {
	name        string
	description string
	level       level.Level
	partition   string // name of the column of the date, by which it is partitioned; it is not in the files
	byBrand     bool   // it is partitioned by BrandColumn, too, which is not in the files then
	fields      []deltalog.Field
	comments    map[string]string // by column, of those that have one
	stats       []string          // columns with bounds
	file        *parquet.Schema   // schema of the data files
	later       []string          // columns of file that older files do not have
	statOf      []int             // by column of the files: the place of its statistics, -1 for none
}

// layout is the tables at every level, compiled once.
type layout struct {
	// sessionColumns are the columns of sessions that stand in its files, and their places there. The files of a level
	// have the first of them. eventColumns are, by level, those of events that follow from the record; batch_id stands
	// behind those of level 1.
	sessionColumns   []fileColumn[schema.SessionRow]
	eventColumns     [level.Current + 1][]fileColumn[event.Item]
	sessions, events [level.Current + 1]*table
}

// declared are the tables of package schema, and byBrand those with sessions that are partitioned by brand and date.
var declared, byBrand = newLayout(schema.All(), false), newLayout(schema.All(), true)

// sessionsTable and eventsTable have everything that this binary knows. Files are read by them.
var sessionsTable, eventsTable = declared.sessions[level.Current], declared.events[level.Current]

func newLayout(all schema.Set, byBrand bool) *layout {
	first := len(all.UpTo(level.First).Events)
	events := slices.Concat(all.Events[:first], []schema.Column[event.Item]{schema.EventBatchID, schema.EventDate},
		all.Events[first:])
	inFolder := "" // a column that is in the names of folders only
	if byBrand {
		inFolder = BrandColumn
	}
	y := &layout{sessionColumns: fileColumns(all.Sessions, level.Current, inFolder)}
	for l := level.First; l <= level.Current; l++ {
		for _, c := range fileColumns(events[:len(all.UpTo(l).Events)+2], l, "") {
			if c.Name != "batch_id" {
				y.eventColumns[l] = append(y.eventColumns[l], c)
			}
		}
		y.sessions[l] = newTable("sessions", "One row a session once it is closed; revisions replace it.",
			all.UpTo(l).Sessions, l, inFolder, []string{
				"session_id", "user_id", "brand", "country", "device_type", "subscription_tier", "session_start",
				"session_end", "session_duration_sec", "total_events", "status", "revision", "batch_id", "created_at",
			}, "sessionRow")
		y.events[l] = newTable("events", "Every counted event and every session_end once.",
			events[:len(all.UpTo(l).Events)+2], l, "", []string{
				"session_id", "user_id", "event_type", "timestamp", "brand", "category", "country", "device_type",
				"kafka_partition", "kafka_offset", "kafka_timestamp", "batch_id",
			}, "eventRow")
	}
	return y
}

// newTable describes a table with these columns. The only date among them is a partition column, and so is inFolder, if
// it is set. root is the name of the files' schema.
func newTable[R any](name, description string, columns []schema.Column[R], l level.Level, inFolder string,
	stats []string, root string) *table {
	t := &table{name: name, description: description, level: l, stats: stats, comments: map[string]string{},
		byBrand: inFolder != ""}
	for i := range columns {
		c := &columns[i]
		if text := c.CommentAt(l); text != "" {
			t.comments[c.Name] = text
		}
		t.fields = append(t.fields, deltalog.Field{Name: c.Name, Type: fieldType(c.Kind),
			Required: !c.MayBeNull(level.Current)})
		if c.Kind == schema.Date {
			t.partition = c.Name
		}
		if schema.Later(c.Since) && c.Name != inFolder {
			t.later = append(t.later, c.Name)
		}
	}
	for _, s := range stats {
		if schema.Named(columns, s) == nil {
			panic("delta: statistics of a column that is not there: " + s)
		}
	}
	t.file = fileSchema(root, columns, l, inFolder)
	for _, f := range t.file.Fields() {
		t.statOf = append(t.statOf, slices.Index(stats, f.Name()))
	}
	return t
}

// creation says how the table is made at a level, and what is accepted of one that is there: the columns of any level.
func creation(tables *[level.Current + 1]*table, l level.Level, opts *Options) *deltalog.Creation {
	t := tables[l]
	first := len(tables[level.First].fields)
	comments := maps.Clone(tables[level.Current].comments) // of columns that come later, too
	maps.Copy(comments, t.comments)
	now := len(t.fields)
	if t.byBrand { // it has the column from the beginning
		now = max(now, len(tables[level.Lake].fields))
	}
	hint := ""
	if t.name == sessionsTable.name {
		hint = "a table keeps its partitioning: set delta.sessions.partition_by to what it has, or give Deckle a new " +
			"location"
	}
	return &deltalog.Creation{ClusterID: opts.ClusterID, Pipeline: opts.Pipeline, Fields: t.fields[:first],
		Later: tables[level.Current].fields[first:], NewLater: now - first, PartitionColumns: t.columns(),
		PartitionHint: hint, StatsColumns: t.stats, Description: t.description, Comments: comments,
		InCommitTimestamps: opts.InCommitTimestamps}
}

// fieldType is the Delta type of a column of a kind.
func fieldType(k schema.Kind) string {
	switch k {
	case schema.Date:
		return "date"
	case schema.Seconds, schema.Millis, schema.KafkaMillis:
		return "timestamp"
	case schema.Uint8, schema.Small, schema.Int32:
		return "integer"
	case schema.Uint32, schema.Uint64, schema.Int64:
		return "long"
	}
	return "string"
}

// fileSchema is the schema of files with these columns, dates and the column inFolder left out. The library orders the
// columns of a group by name, but keeps the order of a struct's fields: so a struct type is made.
func fileSchema[R any](root string, columns []schema.Column[R], l level.Level, inFolder string) *parquet.Schema {
	var fields []reflect.StructField
	for i := range columns {
		c := &columns[i]
		if c.Kind == schema.Date || c.Name == inFolder {
			continue
		}
		typ, tag := reflect.TypeFor[string](), c.Name
		switch fieldType(c.Kind) {
		case "timestamp":
			typ, tag = reflect.TypeFor[int64](), tag+",timestamp(microsecond)"
		case "long":
			typ = reflect.TypeFor[int64]()
		case "integer":
			typ = reflect.TypeFor[int32]()
		}
		if c.MayBeNull(l) {
			tag += ",optional"
		}
		if c.Kind == schema.Few || c.Kind == schema.Repeated || c.Kind == schema.StatusName {
			tag += ",dict"
		}
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("C%d", i), Type: typ,
			Tag: reflect.StructTag(fmt.Sprintf("parquet:%q", tag))})
	}
	return parquet.NewSchema(root, parquet.SchemaOf(reflect.New(reflect.StructOf(fields)).Interface()))
}

// newStats returns empty statistics of the table's columns that have them.
func (t *table) newStats() []deltalog.ColumnStats {
	cols := make([]deltalog.ColumnStats, len(t.stats))
	for i, name := range t.stats {
		cols[i].Name = name
		f := t.fields[slices.IndexFunc(t.fields, func(f deltalog.Field) bool { return f.Name == name })]
		switch f.Type {
		case "string":
			cols[i].Kind = deltalog.KindString
		case "timestamp":
			cols[i].Kind = deltalog.KindTimestamp
		default:
			cols[i].Kind = deltalog.KindNumber
		}
	}
	return cols
}

// place is the place of a column in the files, -1 if it is not there.
func (t *table) place(name string) int {
	return slices.IndexFunc(t.file.Fields(), func(f parquet.Field) bool { return f.Name() == name })
}

// count folds a value into a column's statistics.
func count(s *deltalog.ColumnStats, v parquet.Value) {
	switch {
	case v.IsNull():
		s.Null()
	case s.Kind == deltalog.KindString:
		s.Text(textOf(v))
	default:
		s.Int(v.Int64())
	}
}

// of is the partition of a row. Its brand aliases the row.
func (t *table) of(r *schema.SessionRow) partition {
	p := partition{date: r.SessionDate}
	if t.byBrand {
		p.brand = r.OpeningBrand
	}
	return p
}

// columns are the partition columns, in the order of their names.
func (t *table) columns() []string {
	if t.byBrand {
		return []string{BrandColumn, t.partition}
	}
	return []string{t.partition}
}

// text names a partition as the log does.
func (t *table) text(p partition) string {
	if t.byBrand {
		return deltalog.Partition(p.brand, schema.DateText(p.date))
	}
	return schema.DateText(p.date)
}

// parse is the inverse of text. It fails if the date is none.
func (t *table) parse(text string) (p partition, err error) {
	values := deltalog.PartitionValues(text)
	if t.byBrand {
		p.brand, values = values[0], values[1:]
	}
	p.date, err = schema.ParseDate(strings.Join(values, "/"))
	return p, err
}

// folder is the folder of a partition below that of the table.
func (t *table) folder(p partition) string { return deltalog.Folder(t.columns(), t.text(p)) }

// values are what the log says of a file of a partition.
func (t *table) values(p partition) deltalog.Values {
	v := deltalog.Values{t.partition: schema.DateText(p.date)}
	if t.byBrand {
		v[BrandColumn] = p.brand
	}
	return v
}
