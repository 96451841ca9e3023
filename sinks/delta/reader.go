package delta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// File is a live data file of a table.
type File = deltalog.File

// Table reads one of the tables. It writes nothing. Its methods are safe for concurrent use.
type Table struct {
	store store.Store
	name  string
	log   *deltalog.Log
	// layout are the tables as this binary knows them: files of lower levels are read, too.
	layout *layout
}

// OpenTable reads the newest version of the table "sessions" or "events". A table that does not exist yet has
// Version -1, and appears with Refresh.
func OpenTable(ctx context.Context, st store.Store, name string) (*Table, error) {
	return tableOf(ctx, st, name, false)
}

// OpenTableWithBounds is OpenTable with the statistics of the files, some hundred bytes each: see Snapshot.Within.
func OpenTableWithBounds(ctx context.Context, st store.Store, name string) (*Table, error) {
	return tableOf(ctx, st, name, true)
}

func tableOf(ctx context.Context, st store.Store, name string, bounds bool) (*Table, error) {
	if name != sessionsTable.name && name != eventsTable.name {
		return nil, fmt.Errorf("delta: no table %q: want %s or %s", name, sessionsTable.name, eventsTable.name)
	}
	log, err := deltalog.Open(ctx, deltalog.Options{Store: st, Name: name, KeepFiles: true, KeepStats: bounds})
	if err != nil {
		return nil, err
	}
	return &Table{store: st, name: name, log: log, layout: declared}, nil
}

// Refresh reads the commits after the version that Snapshot returns. It takes one request if there are none.
func (t *Table) Refresh(ctx context.Context) error { return t.log.Refresh(ctx) }

// Snapshot is one version of a table.
type Snapshot struct {
	Version int64   // -1: the table does not exist
	Files   []*File // live, ascending by path; not to be changed
	Txns    map[string]int64
	Records int64 // sum over the statistics of the files, without hidden rows; -1 if one file has none
}

// Snapshot returns the newest version that has been read.
func (t *Table) Snapshot() Snapshot {
	var s Snapshot
	t.log.View(func(sn *deltalog.Snapshot) {
		s.Version, s.Files, s.Txns = sn.Version, sn.SortedFiles(), map[string]int64{}
		for id, x := range sn.Txns {
			s.Txns[id] = x.Version
		}
	})
	for _, f := range s.Files {
		if f.NumRecords < 0 {
			s.Records = -1
			break
		}
		s.Records += visibleIn(f)
	}
	return s
}

// visibleIn is how many rows of a file with statistics no deletion vector hides.
func visibleIn(f *File) int64 {
	if f.Vector == nil {
		return f.NumRecords
	}
	return f.NumRecords - f.Vector.Cardinality
}

// Within returns the files that may have a row whose value of an integer column lies in [least, most], by their
// statistics; a file without them may. The table must have been opened with bounds.
func (s *Snapshot) Within(column string, least, most int64) (files []*File) {
	for _, f := range s.Files {
		var stats struct {
			MinValues, MaxValues map[string]any
		}
		d := json.NewDecoder(strings.NewReader(f.Stats))
		d.UseNumber()
		if d.Decode(&stats) == nil {
			low, known := integer(stats.MinValues[column])
			high, alsoKnown := integer(stats.MaxValues[column])
			if known && low > most || alsoKnown && high < least {
				continue
			}
		}
		files = append(files, f)
	}
	return files
}

func integer(v any) (int64, bool) {
	number, _ := v.(json.Number)
	n, err := number.Int64()
	return n, err == nil
}

// PartitionValues are the values of the partition columns of a file.
func (t *Table) PartitionValues(f *File) deltalog.Values {
	of := declared.events[level.Current]
	t.log.View(func(s *deltalog.Snapshot) {
		switch {
		case t.name != sessionsTable.name:
		case partitionedByBrand(s):
			of = byBrand.sessions[level.Current]
		default:
			of = sessionsTable
		}
	})
	values := deltalog.Values{}
	for i, v := range deltalog.PartitionValues(f.Partition) {
		values[of.columns()[i]] = v
	}
	return values
}

// EventRow is a row of the table events. Measure and Scroll are not columns and are 0.
type EventRow struct {
	event.Item
	Date    int32 // days since 1970-01-01, UTC
	BatchID uint64
}

// ErrTable says that a method was called that is only for the other table.
var ErrTable = errors.New("delta: not a method of this table")

// ReadEvents calls yield for every row of the files (those of Snapshot, or some of them) that no deletion vector hides,
// file by file; the row is valid only during the call. It fails if an object's size or number of rows differs from what
// the log says.
func (t *Table) ReadEvents(ctx context.Context, files []*File, yield func(*EventRow) error) error {
	if t.name != eventsTable.name {
		return ErrTable
	}
	return readFiles(ctx, t, t.layout.events[level.Current], files, func(in partition, r parquet.Row) error {
		row, err := t.layout.event(r, in.date)
		if err != nil {
			return err
		}
		return yield(row)
	})
}

// ReadSessions calls yield for every row of the files, as ReadEvents does. FirstClosed and Pages are not columns of
// the table and stay empty.
func (t *Table) ReadSessions(ctx context.Context, files []*File, yield func(*schema.SessionRow) error) error {
	if t.name != sessionsTable.name {
		return ErrTable
	}
	y := t.layout
	t.log.View(func(s *deltalog.Snapshot) {
		if partitionedByBrand(s) {
			y = byBrand
		}
	})
	return readFiles(ctx, t, y.sessions[level.Current], files, func(in partition, r parquet.Row) error {
		row := y.image(sessionRow(r).clone(), in)
		return yield(&row)
	})
}

// ReadColumns calls yield for every row of a file that no deletion vector hides, with the values of the named columns,
// which must stand in the file. It reads those columns alone, by ranges of the object. The values are valid only during
// the call. It fails if the object's size or number of rows differs from what the log says.
func (t *Table) ReadColumns(ctx context.Context, f *File, columns []string,
	yield func(row []parquet.Value) error) error {
	name, err := deltalog.Key(f.Path)
	if err != nil {
		return elsewhere(t.name, err)
	}
	key := t.name + "/" + name
	v, err := visibleOf(ctx, t.store, t.name, f)
	if err != nil {
		return err
	}
	n := int64(0)
	_, err = deltalog.ReadWhere(ctx, t.store, key, f.Size, &deltalog.Lookup{Columns: columns, All: true,
		Hidden: v.hidden}, func(_ int64, row []parquet.Value) error {
		n++
		return yield(row)
	})
	if err != nil {
		return fmt.Errorf("delta: read %s: %w", t.name, err)
	}
	if want := visibleIn(f); f.NumRecords >= 0 && n != want {
		return &deltalog.CorruptionError{Key: key, Err: fmt.Errorf("%d visible rows, the log says %d", n, want)}
	}
	return nil
}

func readFiles(ctx context.Context, t *Table, of *table, files []*File,
	yield func(in partition, r parquet.Row) error) error {
	for _, f := range files {
		name, err := deltalog.Key(f.Path)
		if err != nil {
			return elsewhere(t.name, err)
		}
		key := t.name + "/" + name
		data, err := t.store.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("delta: read %s: %w", t.name, err)
		}
		if int64(len(data)) != f.Size {
			return &deltalog.CorruptionError{Key: key, Err: fmt.Errorf("%d bytes, the log says %d", len(data), f.Size)}
		}
		in, err := of.parse(f.Partition)
		if err != nil {
			return &deltalog.CorruptionError{Key: key, Err: err}
		}
		v, err := visibleOf(ctx, t.store, t.name, f)
		if err != nil {
			return err
		}
		err = eachRow(key, data, of.file, of.later, v.rows(func(r parquet.Row) error { return yield(in, r) }))
		if err != nil {
			return err
		}
		if f.NumRecords >= 0 && v.N() != f.NumRecords {
			return &deltalog.CorruptionError{Key: key, Err: fmt.Errorf("%d rows, the log says %d", v.N(), f.NumRecords)}
		}
		if err := v.end(key); err != nil {
			return err
		}
	}
	return nil
}

// event converts a row of an events file; its texts alias r.
func (y *layout) event(r parquet.Row, date int32) (*EventRow, error) {
	e := &EventRow{Date: date, BatchID: uint64(r[placeBatchID].Int64())}
	columns := y.eventColumns[level.Current]
	for i := range columns {
		c := &columns[i]
		c.set(&e.Item, r[c.place])
	}
	text := textOf(r[eventsTable.place("event_id")])
	var ok bool
	if e.ID, ok = event.ParseID(text); !ok {
		e.ID, e.EventID = event.HashID(text), text
	}
	if e.Type == event.TypeInvalid {
		return nil, fmt.Errorf("delta: event_type %q of %d/%d is unknown", textOf(r[eventsTable.place("event_type")]),
			e.Partition, e.Offset)
	}
	return e, nil
}

// Columns returns the names of the columns of the table "sessions" or "events", in the table's order. It returns nil
// for any other name.
func Columns(of string) (names []string) {
	for _, t := range []*table{sessionsTable, eventsTable} {
		if t.name == of {
			for _, f := range t.fields {
				names = append(names, f.Name)
			}
		}
	}
	return names
}

// partitionedByBrand says whether a table of sessions is partitioned by brand and date.
func partitionedByBrand(s *deltalog.Snapshot) bool {
	return s.Metadata != nil && slices.Equal(s.Metadata.PartitionColumns, byBrand.sessions[level.Current].columns())
}
