package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"deckle/schema"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/state"
	"deckle/state/statetest"
)

// retyped returns a file of one row with the columns of a schema. For the columns in change it has the node given
// there instead, or leaves the column out if that is nil.
func retyped(t *testing.T, columns *parquet.Schema, change map[string]parquet.Node) []byte {
	t.Helper()
	group := parquet.Group{}
	for _, f := range columns.Fields() {
		group[f.Name()] = f
	}
	for name, n := range change {
		if n == nil {
			delete(group, name)
		} else {
			group[name] = n
		}
	}
	schema := parquet.NewSchema("spark_schema", group)
	var row parquet.Row
	for i, path := range schema.Columns() {
		leaf, _ := schema.Lookup(path...)
		kind := leaf.Node.Type().Kind()
		v := parquet.ZeroValue(kind)
		switch kind {
		case parquet.Int96:
			v = parquet.Int96Value(deprecated.Int96{1, 2, 2460000})
		case parquet.ByteArray:
			v = parquet.ByteArrayValue([]byte("x"))
		}
		row = append(row, v.Level(0, leaf.MaxDefinitionLevel, i))
	}
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[any](&buf, schema)
	if _, err := w.WriteRows([]parquet.Row{row}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestTypesOfForeignFiles(t *testing.T) {
	micros := func(utc bool) parquet.Node {
		return parquet.TimestampAdjusted(parquet.Microsecond, utc)
	}
	for name, tc := range map[string]struct {
		column string
		node   parquet.Node
		want   string // "": taken
	}{
		"as ours":    {"session_start", micros(true), ""},
		"optional":   {"session_start", parquet.Optional(micros(true)), ""},
		"bare bytes": {"brand", parquet.Leaf(parquet.ByteArrayType), ""},
		"signed int": {"user_id", parquet.Int(64), ""},
		"int96": {"session_start", parquet.Optional(parquet.Leaf(parquet.Int96Type)),
			"column session_start is stored as INT96"},
		"millis":     {"session_end", parquet.Timestamp(parquet.Millisecond), "column session_end is stored as"},
		"nanos":      {"created_at", parquet.Timestamp(parquet.Nanosecond), "column created_at is stored as"},
		"local time": {"session_start", micros(false), "isAdjustedToUTC=false"},
		"plain long": {"session_start", parquet.Leaf(parquet.Int64Type),
			"column session_start is stored as INT64, want"},
		"narrow":        {"user_id", parquet.Leaf(parquet.Int32Type), "column user_id is stored as INT32"},
		"wide":          {"revision", parquet.Leaf(parquet.Int64Type), "column revision is stored as INT64"},
		"unsigned":      {"user_id", parquet.Uint(64), "column user_id is stored as"},
		"decimal":       {"user_id", parquet.Decimal(2, 18, parquet.Int64Type), "column user_id is stored as"},
		"text as bytes": {"user_id", parquet.String(), "column user_id is stored as BYTE_ARRAY"},
		"repeated":      {"user_id", parquet.Repeated(parquet.Leaf(parquet.Int64Type)), "column user_id is repeated"},
		"group":         {"user_id", parquet.Group{"a": parquet.Int(64)}, "column user_id is a group"},
		"missing":       {"batch_id", nil, "column batch_id is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			data := retyped(t, sessionsTable.file, map[string]parquet.Node{tc.column: tc.node})
			rows := 0
			err := eachRow("sessions/f.parquet", data, sessionsTable.file, sessionsTable.later,
				func(parquet.Row) error { rows++; return nil })
			if tc.want == "" {
				if err != nil || rows != 1 {
					t.Fatalf("%d rows, %v", rows, err)
				}
				return
			}
			var stop *sinks.StopError
			if !errors.As(err, &stop) || rows != 0 || !strings.Contains(err.Error(), tc.want) ||
				!strings.Contains(err.Error(), "sessions/f.parquet") ||
				!strings.Contains(stop.Hint, "TIMESTAMP_MICROS") {
				t.Fatalf("%d rows, %v", rows, err)
			}
		})
	}
	data := retyped(t, eventsTable.file, map[string]parquet.Node{"timestamp": parquet.Leaf(parquet.Int96Type)})
	err := eachRow("k", data, eventsTable.file, eventsTable.later, func(parquet.Row) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "column timestamp is stored as INT96") {
		t.Errorf("events: %v", err)
	}
}

// int96Rows returns the rows of a data file as Spark would rewrite them by default.
func int96Rows(t *testing.T, data []byte) []byte {
	t.Helper()
	group := parquet.Group{}
	for _, f := range sessionsTable.file.Fields() {
		if group[f.Name()] = f; isTimestamp(f) {
			group[f.Name()] = parquet.Leaf(parquet.Int96Type)
		}
	}
	other := parquet.NewSchema("spark_schema", group)
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[any](&buf, other)
	err := eachRow("k", data, sessionsTable.file, sessionsTable.later, func(r parquet.Row) error {
		row := make(parquet.Row, len(r))
		for i, f := range other.Fields() {
			v := r[sessionsTable.place(f.Name())]
			if f.Type().Kind() == parquet.Int96 {
				const day = 24 * 60 * 60 * 1e6
				us := v.Int64()
				ns := uint64(us%day) * 1000
				v = parquet.Int96Value(deprecated.Int96{uint32(ns), uint32(ns >> 32), uint32(us/day + 2440588)})
			}
			row[i] = v.Level(0, 0, i)
		}
		_, err := w.WriteRows([]parquet.Row{row})
		return err
	})
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func isTimestamp(f parquet.Field) bool {
	l := f.Type().LogicalType()
	if l == nil {
		return false
	}
	_, ok := l.Value.(*format.TimestampType)
	return ok
}

// replaceCommit returns a commit by which another tool replaces the file at path by optimized.parquet, of size bytes.
func replaceCommit(path string, size int64) []byte {
	return fmt.Appendf(nil, `{"remove":{"path":%q,"dataChange":false}}`+"\n"+
		`{"add":{"path":"session_date=2022-01-08/optimized.parquet",`+
		`"partitionValues":{"session_date":"2022-01-08"},"size":%d,"modificationTime":1,"dataChange":false}}`+"\n",
		path, size)
}

// A file that another tool has compacted with INT96 times, or into more bytes than can be rewritten, stops the
// revisions of the shard before they write anything, and the reader names the file.
func TestForeignFilesStopRevisions(t *testing.T) {
	for _, large := range []bool{false, true} {
		t.Run(fmt.Sprint("large=", large), func(t *testing.T) {
			ctx := context.Background()
			mem := objects.NewMem(nil)
			m := newModel(8, 1)
			opts := testOptions(mem, m.rng)
			if large {
				opts.largest, opts.rangesFrom = 1000, 1000
			}
			d := mustOpen(t, opts)
			defer d.Close()
			row := m.sessionRow(0, 1, 1)
			row.SessionDate = 19_000
			plan := statetest.NewPlan(state.Config{}, state.SinkSessions, 0, 1, nil,
				statetest.Content{Rows: []schema.SessionRow{row}})
			if err := d.Sessions().Write(ctx, plan); err != nil {
				t.Fatal(err)
			}
			sn := openTable(t, mem, "sessions").Snapshot()
			f := sn.Files[0]
			data, err := mem.Get(ctx, "sessions/"+f.Path)
			if err != nil {
				t.Fatal(err)
			}
			want := "spark.databricks.delta.optimize.maxFileSize"
			if !large {
				data, want = int96Rows(t, data), "is stored as INT96"
			}
			size := int64(len(data))
			mem.Overwrite("sessions/session_date=2022-01-08/optimized.parquet", data)
			mem.Overwrite(fmt.Sprintf("sessions/_delta_log/%020d.json", sn.Version+1), replaceCommit(f.Path, size))
			m.image(&row, 0, 2)
			keys := func() []string { // checksums are put later, by a goroutine of their own
				return slices.DeleteFunc(mem.Keys(""), func(k string) bool { return strings.HasSuffix(k, ".crc") })
			}
			before := keys()
			err = d.Revisions().Write(ctx, statetest.NewPlan(state.Config{}, state.SinkRevisions, 1, 2, nil,
				statetest.Content{Rows: []schema.SessionRow{row}}))
			var stop *sinks.StopError
			if !errors.As(err, &stop) || !strings.Contains(err.Error(), want) ||
				!strings.Contains(err.Error(), "optimized.parquet") {
				t.Errorf("revisions: %v", err)
			}
			if after := keys(); !slices.Equal(before, after) {
				t.Errorf("something was written: %q", after)
			}
			tab := openTable(t, mem, "sessions")
			err = tab.ReadSessions(ctx, tab.Snapshot().Files,
				func(*schema.SessionRow) error { return nil })
			if large != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("reader: %v", err)
			}
		})
	}
}
