package delta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"deckle/schema/level"
	"deckle/sinks/delta/compact"
	"deckle/sinks/delta/deltalog"
)

// ErrNoTable says that a table does not exist.
var ErrNoTable = errors.New("delta: the table does not exist")

// OpenCompactor opens a table, "sessions" or "events", to be compacted. Of opts the store and what concerns files and
// commits is used; without a ClusterID the table's own is taken. Of c the caller sets FS, Dir and what has no default
// to its liking; the rest is set here. The caller closes the Compactor.
func OpenCompactor(ctx context.Context, opts Options, table string, c compact.Options) (*compact.Compactor, error) {
	if err := opts.owner(ctx, table); err != nil {
		return nil, err
	}
	opts.Events = false // no source of events is needed
	if err := opts.complete(); err != nil {
		return nil, err
	}
	return openCompactor(ctx, &opts, deltalog.NewMetrics(nil), table, c)
}

// Compactor is OpenCompactor for a table of d, with the options and metrics of d.
func (d *Delta) Compactor(ctx context.Context, table string, c compact.Options) (*compact.Compactor, error) {
	return openCompactor(ctx, d.opts, d.metrics, table, c)
}

func openCompactor(ctx context.Context, opts *Options, m *deltalog.Metrics, table string, c compact.Options) (
	*compact.Compactor, error) {
	cdc, err := codec(opts.Compression)
	if err != nil {
		return nil, err
	}
	y := opts.layout
	rows := &compactRows{tables: &y.sessions, codec: cdc, order: y.sessionOrder()}
	if table == eventsTable.name {
		rows.tables = &y.events
		rows.order = []int{eventsTable.place("session_id"), eventsTable.place("kafka_partition"),
			eventsTable.place("kafka_offset")}
	} else if table != sessionsTable.name {
		return nil, fmt.Errorf("delta: no table %q: want %s or %s", table, sessionsTable.name, eventsTable.name)
	}
	log, err := deltalog.Open(ctx, deltalog.Options{
		Store: opts.Store, Name: table, Node: opts.Node, KeepFiles: true, Now: opts.Now, Rand: opts.Rand,
		Sleep: opts.sleep, Logger: opts.Logger, Metrics: m, CheckpointInterval: opts.CheckpointInterval,
		Create: creation(rows.tables, opts.Level, opts), Codec: checkpointCodec(cdc),
	})
	if err != nil {
		return nil, err
	}
	rows.others = log.ForeignColumns
	c.Log, c.Table, c.Columns, c.Rows, c.Store = log, table, rows.tables[level.Current].columns(), rows, opts.Store
	c.Now, c.Rand, c.Logger, c.StagedLife = opts.Now, opts.Rand, opts.Logger, StagedLife
	compactor, err := compact.New(c)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return compactor, nil
}

// compactRows are the rows of a table as package compact wants them.
type compactRows struct {
	tables *[level.Current + 1]*table
	codec  compress.Codec
	order  []int           // places of the columns by which files are sorted; no two rows have the same values of all
	others func() []string // names the columns of other tools in the table
}

// Compare implements compact.Rows.
func (r *compactRows) Compare(a, b parquet.Row) int {
	for _, at := range r.order {
		c := 0
		if a[at].Kind() == parquet.ByteArray {
			c = strings.Compare(textOf(a[at]), textOf(b[at]))
		} else {
			c = cmp.Compare(a[at].Int64(), b[at].Int64())
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// Begin implements compact.Rows.
func (r *compactRows) Begin() compact.Merge { return r.begin(level.First, r.others()) }

// begin begins a merge of files with the columns of a level at least.
func (r *compactRows) begin(l level.Level, others []string) *merging {
	return &merging{compactRows: r, level: l, others: others, more: map[string]other{}}
}

// merging is the columns of the files of one job. It implements compact.Merge.
type merging struct {
	*compactRows
	level  level.Level // the lowest one that has all of Deckle's columns in the files
	others []string    // columns of other tools in the table
	// fields are those of them that the files have, in the order of the new files, and leaves counts what is in them.
	fields []parquet.Field
	leaves int
	more   map[string]other // by name
}

// other is a column of another tool in the files of a job.
type other struct {
	field  parquet.Field
	at     int // its first leaf among those of all such columns
	leaves int
}

// Read implements compact.Merge.
func (m *merging) Read(key string, data []byte, yield func(parquet.Row) error) error {
	newest := m.tables[level.Current]
	n := len(newest.statOf)
	var places []int // of the leaves of other tools in this file, among those of the new files
	open := func(f *parquet.File) (deltalog.RowReader[parquet.Row], error) {
		l, err := m.levelOf(f)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, key)
		}
		if err := checkTypes(key, f, newest.file, newest.later); err != nil {
			return nil, err
		}
		var fields []parquet.Field
		if fields, places, err = m.join(f); err != nil {
			return nil, fmt.Errorf("%w: %s", err, key)
		}
		m.level = max(m.level, l)
		return rowReader{parquet.NewGenericReader[any](f, behind(newest.file, fields))}, nil
	}
	return deltalog.EachRow(key, data, open, 128, func(row *parquet.Row) error {
		if len(*row) < n+len(places) || len(places) == 0 && len(*row) != n {
			return &deltalog.CorruptionError{Key: key, Err: errColumns}
		}
		theirs := (*row)[n:]
		for i, v := range theirs {
			theirs[i] = v.Level(v.RepetitionLevel(), v.DefinitionLevel(), n+places[v.Column()-n])
		}
		slices.SortStableFunc(theirs, func(a, b parquet.Value) int { return cmp.Compare(a.Column(), b.Column()) })
		return yield(*row)
	})
}

// levelOf returns the lowest level with all columns of a file, except those of other tools.
func (m *merging) levelOf(f *parquet.File) (level.Level, error) {
	have, odd := topLevel(f.Metadata().Schema)
	l := m.level
	for name := range have {
		if slices.Contains(m.others, name) && odd[name] != twice {
			continue
		}
		for m.tables[l].place(name) < 0 {
			if l == level.Current {
				return 0, fmt.Errorf("%w: %q", compact.ErrForeign, name)
			}
			l++
		}
	}
	return l, nil
}

// join adds the columns of other tools in a file to those of the new files. It returns them, and for each leaf of them
// its place there.
func (m *merging) join(f *parquet.File) (fields []parquet.Field, places []int, err error) {
	for _, field := range f.Schema().Fields() {
		if !slices.Contains(m.others, field.Name()) {
			continue
		}
		field = nullable(field)
		if o, ok := m.more[field.Name()]; ok && !parquet.EqualNodes(o.field, field) {
			return nil, nil, fmt.Errorf("%w: %q", compact.ErrUnlike, field.Name())
		}
		fields = append(fields, field)
	}
	for _, field := range fields {
		o, ok := m.more[field.Name()]
		if !ok {
			o = other{field: field, at: m.leaves, leaves: leavesOf(field)}
			m.more[field.Name()] = o
			m.fields, m.leaves = append(m.fields, field), m.leaves+o.leaves
		}
		for i := range o.leaves {
			places = append(places, o.at+i)
		}
	}
	return fields, places, nil
}

// Encode implements compact.Merge.
func (m *merging) Encode(w io.Writer) compact.Encoder {
	t := m.tables[m.level]
	return &rowsEncoder{table: t, own: len(m.tables[level.Current].statOf), leaves: m.leaves, stats: t.newStats(),
		w: parquet.NewGenericWriter[any](w, append(fileOptions(m.codec), behind(t.file, m.fields))...)}
}

// rowsEncoder makes one data file of rows as they are.
type rowsEncoder struct {
	table  *table
	own    int // values of a row that are Deckle's
	leaves int // of the columns of other tools, behind those of the table
	w      *parquet.GenericWriter[any]
	stats  []deltalog.ColumnStats
	rows   int64
}

// Write implements compact.Encoder.
func (e *rowsEncoder) Write(rows []parquet.Row) error {
	n := len(e.table.statOf)
	chunk := slices.Clone(rows)
	for i, r := range rows {
		for at, v := range r[:n] {
			if to := e.table.statOf[at]; to >= 0 {
				count(&e.stats[to], v)
			}
		}
		chunk[i] = r[:n:n]
		if e.leaves > 0 {
			chunk[i] = e.beside(chunk[i], r[min(e.own, len(r)):])
		}
	}
	e.rows += int64(len(rows))
	_, err := e.w.WriteRows(chunk)
	return err
}

// beside joins Deckle's values with those of other tools, null where a row has none.
func (e *rowsEncoder) beside(row parquet.Row, theirs []parquet.Value) parquet.Row {
	n := len(row)
	row = slices.Grow(row, max(e.leaves, len(theirs)))
	// gofail: var bugOthersLost struct{}
	// theirs = nil
	for leaf := range e.leaves {
		if len(theirs) == 0 || theirs[0].Column() != e.own+leaf {
			row = append(row, parquet.NullValue().Level(0, 0, n+leaf))
			continue
		}
		for ; len(theirs) > 0 && theirs[0].Column() == e.own+leaf; theirs = theirs[1:] {
			v := theirs[0]
			row = append(row, v.Level(v.RepetitionLevel(), v.DefinitionLevel(), n+leaf))
		}
	}
	return row
}

// Flush implements compact.Encoder.
func (e *rowsEncoder) Flush() error { return e.w.Flush() }

// Close implements compact.Encoder.
func (e *rowsEncoder) Close() (string, error) {
	return deltalog.Stats(e.rows, e.stats), e.w.Close()
}
