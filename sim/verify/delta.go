package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"deckle/sim"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/store"
)

// OpenDelta reads the tables events and sessions below the store's root. They need not exist yet. The log is read by
// package delta, but the rows are read here column by column as they lie in the files, and not with the structures
// that the sink writes them with, whose errors would cancel themselves out.
func OpenDelta(ctx context.Context, st store.Store) (Reader, error) {
	d := &deltaReader{store: st, tables: map[string]*deltaTable{
		"events":   {columns: sim.EventColumns},
		"sessions": {columns: sim.SessionColumns},
	}}
	for name, t := range d.tables {
		var err error
		if t.Table, err = delta.OpenTable(ctx, st, name); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	return d, nil
}

type deltaReader struct {
	store  store.Store
	tables map[string]*deltaTable
}

type deltaTable struct {
	*delta.Table
	columns []string
}

// snapshot is the newest version; a table that does not exist is empty.
func (d *deltaReader) snapshot(ctx context.Context, table string) (*deltaTable, delta.Snapshot, error) {
	t := d.tables[table]
	if t == nil {
		return nil, delta.Snapshot{}, fmt.Errorf("there is no table %q", table)
	}
	if err := t.Refresh(ctx); err != nil {
		return nil, delta.Snapshot{}, err
	}
	return t, t.Snapshot(), nil
}

// Count implements Reader.
func (d *deltaReader) Count(ctx context.Context, table string) (int64, error) {
	_, s, err := d.snapshot(ctx, table)
	if err != nil || s.Records >= 0 {
		return s.Records, err
	}
	n := int64(0) // a file without statistics, by another writer
	err = d.Rows(ctx, table, func([]string) error { n++; return nil })
	return n, err
}

// Gaps returns what operators have given up of table events, as its log says.
func (d *deltaReader) Gaps(ctx context.Context, table string) (out []Gap, err error) {
	_, s, err := d.snapshot(ctx, table)
	for _, g := range s.Given() {
		out = append(out, Gap{g.Partition, g.From, g.To})
	}
	return out, err
}

// Rows implements Reader.
func (d *deltaReader) Rows(ctx context.Context, table string, yield func([]string) error) error {
	t, s, err := d.snapshot(ctx, table)
	if err != nil {
		return err
	}
	for _, f := range s.Files {
		name, err := url.PathUnescape(f.Path)
		if err != nil {
			return fmt.Errorf("path %q in the log: %w", f.Path, err)
		}
		key := table + "/" + name
		data, err := d.store.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		if int64(len(data)) != f.Size {
			return fmt.Errorf("%s has %d bytes, the log says %d", key, len(data), f.Size)
		}
		hidden, err := deletionvector.Read(ctx, d.store, table, f.Vector)
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		sieve := deletionvector.NewSieve(hidden)
		rows, err := ParquetRows(data, t.columns, t.PartitionValues(f), func(r []string) error {
			if !sieve.Next() {
				return nil
			}
			return yield(r)
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		if f.NumRecords >= 0 && rows != f.NumRecords {
			return fmt.Errorf("%s has %d rows, the log says %d", key, rows, f.NumRecords)
		}
		if err := sieve.End(); err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
	}
	return nil
}

// ParquetRows calls yield for every row of a Parquet file with the values of the named columns, in that order and in
// the form of package sim, and returns how many rows there are. Columns that are not in the file, because they are
// those of the partition, have the values of known. The row is used again after the call.
func ParquetRows(data []byte, columns []string, known map[string]string, yield func([]string) error) (n int64,
	err error) {
	file, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return 0, err
	}
	leaves := file.Schema().Columns()
	place := make([]int, len(leaves)) // of each leaf in the row, -1 if it is not compared
	scale := make([]int64, len(leaves))
	found := map[string]bool{}
	for i, path := range leaves {
		name := strings.Join(path, ".")
		place[i], scale[i] = -1, 1
		for j, c := range columns {
			if c == name {
				place[i], found[c] = j, true
			}
		}
		leaf, _ := file.Schema().Lookup(path...)
		l := leaf.Node.Type().LogicalType()
		if l == nil {
			continue
		}
		if stamp, ok := l.Value.(*format.TimestampType); ok {
			if stamp.Unit.Value.Duration() != time.Microsecond || !stamp.IsAdjustedToUTC {
				return 0, fmt.Errorf("column %s is %v, not UTC microseconds", name, stamp)
			}
			if scale[i] = 1e6; name == "kafka_timestamp" {
				scale[i] = 1e3
			}
		}
	}
	for _, c := range columns {
		if _, ok := known[c]; !ok && !found[c] {
			return 0, fmt.Errorf("column %s is missing", c)
		}
	}
	row := make([]string, len(columns))
	buf := make([]parquet.Row, 64)
	for _, g := range file.RowGroups() {
		err := func() error {
			r := g.Rows()
			defer func() { _ = r.Close() }() // it reads from memory and cannot fail
			for {
				got, err := r.ReadRows(buf)
				for _, values := range buf[:got] {
					clear(row)
					for _, v := range values {
						if at := place[v.Column()]; at >= 0 {
							row[at] = canonical(columns[at], v, scale[v.Column()])
						}
					}
					for j, c := range columns {
						if v, ok := known[c]; ok {
							row[j] = v
						}
					}
					n++
					if err := yield(row); err != nil {
						return err
					}
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
			}
		}()
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// canonical is a value of a column in the form of package sim.
func canonical(column string, v parquet.Value, scale int64) string {
	if v.IsNull() {
		return ""
	}
	switch v.Kind() {
	case parquet.Int32, parquet.Int64:
		n := v.Int64()
		if column == "user_id" { // a long of 64 bits without a sign
			return strconv.FormatUint(uint64(n), 10)
		}
		if n%scale != 0 { // a fraction is a difference and must not be dropped
			return strconv.FormatFloat(float64(n)/float64(scale), 'f', -1, 64)
		}
		return strconv.FormatInt(n/scale, 10)
	case parquet.ByteArray:
		return sim.Canonical(column, string(v.ByteArray()))
	}
	return v.String()
}
