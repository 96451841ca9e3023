package delta

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/parquet-go/parquet-go"

	"deckle/event"
	"deckle/schema"
	"deckle/sinks/delta/deltalog"
)

// table describes one Delta table.
type table struct {
	name        string
	description string
	partition   string // name of the partition column, a date that is not in the files
	fields      []deltalog.Field
	stats       []string        // columns with bounds
	file        *parquet.Schema // schema of the data files
}

// sessionColumns are the columns of sessions that stand in its files, and their places there.
var sessionColumns = fileColumns(schema.Sessions)

var sessionsTable = newTable("sessions", "One row a session once it is closed; revisions replace it.", schema.Sessions,
	[]string{
		"session_id", "user_id", "brand", "country", "device_type", "subscription_tier", "session_start", "session_end",
		"session_duration_sec", "total_events", "status", "revision", "batch_id", "created_at",
	}, "sessionRow")

// eventColumns are the columns of events that follow from the record, and their places in the files. batch_id stands
// behind them.
var eventColumns = fileColumns(schema.Events)

var eventsTable = newTable("events", "Every counted event and every session_end once.",
	append(slices.Clone(schema.Events), schema.Column[event.Item]{Name: "batch_id", Kind: schema.Uint64},
		schema.Column[event.Item]{Name: "event_date", Kind: schema.Date}),
	[]string{
		"session_id", "user_id", "event_type", "timestamp", "brand", "category", "country", "device_type",
		"kafka_partition", "kafka_offset", "kafka_timestamp", "batch_id",
	}, "eventRow")

// newTable describes a table with these columns. The only date among them is the partition column. root is the name of
// the files' schema.
func newTable[R any](name, description string, columns []schema.Column[R], stats []string, root string) table {
	t := table{name: name, description: description, stats: stats}
	for i := range columns {
		c := &columns[i]
		t.fields = append(t.fields, deltalog.Field{Name: c.Name, Type: fieldType(c.Kind)})
		if c.Kind == schema.Date {
			t.partition = c.Name
		}
	}
	for _, s := range stats {
		if schema.Named(columns, s) == nil {
			panic("delta: statistics of a column that is not there: " + s)
		}
	}
	t.file = fileSchema(root, columns)
	return t
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

// fileSchema is the schema of files with these columns, dates left out. The library orders the columns of a group by
// name, but keeps the order of a struct's fields: so a struct type is made.
func fileSchema[R any](root string, columns []schema.Column[R]) *parquet.Schema {
	var fields []reflect.StructField
	for i := range columns {
		c := &columns[i]
		if c.Kind == schema.Date {
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
		if c.Optional {
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

// statOf returns, for each column of the files, the place of its statistics, -1 for none.
func (t *table) statOf() []int {
	of := make([]int, len(t.file.Fields()))
	for i, f := range t.file.Fields() {
		of[i] = slices.Index(t.stats, f.Name())
	}
	return of
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
