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
	rows := &compactRows{tables: &y.sessions, codec: cdc, order: []int{placeBrand, placeSession, placeOrigin}}
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
	c.Log, c.Table, c.Column, c.Rows, c.Store = log, table, rows.tables[level.Current].partition, rows, opts.Store
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
	order  []int // places of the columns by which files are sorted; no two rows have the same values of all
}

// Read implements compact.Rows.
func (r *compactRows) Read(key string, data []byte, yield func(parquet.Row) error) (l int, err error) {
	newest := r.tables[level.Current]
	open := func(f *parquet.File) (deltalog.RowReader[parquet.Row], error) {
		have, _ := topLevel(f.Metadata().Schema)
		l, err = r.levelOf(have)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, key)
		}
		if err := checkTypes(key, f, newest.file, newest.later); err != nil {
			return nil, err
		}
		return rowReader{parquet.NewGenericReader[any](f, newest.file)}, nil
	}
	n := len(newest.statOf)
	return l, cmp.Or(deltalog.EachRow(key, data, open, 128, func(row *parquet.Row) error {
		if len(*row) != n {
			return &deltalog.CorruptionError{Key: key, Err: errColumns}
		}
		return yield(*row)
	}), err)
}

// levelOf returns the lowest level with all of the columns.
func (r *compactRows) levelOf(have map[string]columnType) (int, error) {
	l := level.First
	for name := range have {
		for r.tables[l].place(name) < 0 {
			if l == level.Current {
				return 0, fmt.Errorf("%w: %q", compact.ErrForeign, name)
			}
			l++
		}
	}
	return int(l), nil
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

// Encode implements compact.Rows.
func (r *compactRows) Encode(w io.Writer, l int) compact.Encoder {
	t := r.tables[l]
	return &rowsEncoder{table: t, stats: t.newStats(),
		w: parquet.NewGenericWriter[any](w, append(fileOptions(r.codec), t.file)...)}
}

// rowsEncoder makes one data file of rows as they are.
type rowsEncoder struct {
	table *table
	w     *parquet.GenericWriter[any]
	stats []deltalog.ColumnStats
	rows  int64
}

// Write implements compact.Encoder.
func (e *rowsEncoder) Write(rows []parquet.Row) error {
	n := len(e.table.statOf)
	chunk := slices.Clone(rows)
	for i, r := range chunk {
		chunk[i] = r[:n]
		for at, v := range chunk[i] {
			if to := e.table.statOf[at]; to >= 0 {
				count(&e.stats[to], v)
			}
		}
	}
	e.rows += int64(len(rows))
	_, err := e.w.WriteRows(chunk)
	return err
}

// Flush implements compact.Encoder.
func (e *rowsEncoder) Flush() error { return e.w.Flush() }

// Close implements compact.Encoder.
func (e *rowsEncoder) Close() (string, error) {
	return deltalog.Stats(e.rows, e.stats), e.w.Close()
}
