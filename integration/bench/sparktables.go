package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"deckle/sim"
	"deckle/sim/verify"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
)

// sparkDelta is the name of the job's Delta table in a report.
const sparkDelta = "spark.delta.sessions"

// sparkTables opens the tables that the job wrote: the last image of every session in Delta, and the views of its
// database in ClickHouse, which have the names and columns of Deckle's. The caller must call the returned function in
// the end; it is never nil.
func sparkTables(ctx context.Context, o sparkOptions) (t verify.Options, closeAll func() error, err error) {
	none := func() error { return nil }
	st, err := store.NewS3(store.S3Options{
		Endpoint: "http://" + o.MinIO.Addr, Bucket: o.Bucket, Prefix: o.Prefix, Region: "us-east-1",
		Credentials: o.MinIO.Credentials(),
	})
	if err != nil {
		return t, none, err
	}
	table, err := delta.OpenTable(ctx, st, "sessions")
	if err != nil {
		return t, none, errors.Join(err, st.Close())
	}
	click, err := clickhouse.OpenReader(ctx, clickhouse.Options{
		Address: o.Click.Addr, Database: o.Database, User: o.Click.User,
		Password: o.Click.Password,
	})
	if err != nil {
		return t, none, errors.Join(fmt.Errorf("spark's tables in ClickHouse: %w", err), st.Close())
	}
	t.ClickHouse = verify.ClickHouse(click)
	reader := &sparkDeltaReader{store: st, table: table}
	t.More = []verify.Table{{Name: sparkDelta, Kind: verify.Sessions, Reader: reader}}
	return t, func() error { return errors.Join(click.Close(), st.Close()) }, nil
}

// sparkDeltaReader reads an append-only table of images: once for the last image of each session, once for their rows.
type sparkDeltaReader struct {
	store store.Store
	table *delta.Table
}

// Count implements verify.Reader.
func (d *sparkDeltaReader) Count(ctx context.Context, _ string) (int64, error) {
	last, err := d.last(ctx)
	return int64(len(last)), err
}

// last returns the batch of the last image of each session, in the table's newest version.
func (d *sparkDeltaReader) last(ctx context.Context) (map[string]int64, error) {
	if err := d.table.Refresh(ctx); err != nil {
		return nil, err
	}
	last := map[string]int64{}
	return last, d.rows(ctx, []string{"session_id", "batch_id"}, func(row []string) error {
		batch, err := strconv.ParseInt(row[1], 10, 64)
		last[row[0]] = max(last[row[0]], batch)
		return err
	})
}

// Rows implements verify.Reader.
func (d *sparkDeltaReader) Rows(ctx context.Context, _ string, yield func([]string) error) error {
	last, err := d.last(ctx)
	if err != nil {
		return err
	}
	id, batch := slices.Index(sim.SessionColumns, "session_id"), len(sim.SessionColumns)
	return d.rows(ctx, append(slices.Clone(sim.SessionColumns), "batch_id"), func(row []string) error {
		if strconv.FormatInt(last[row[id]], 10) != row[batch] {
			return nil
		}
		return yield(row[:batch])
	})
}

// rows reads columns from every file of the version that was read last.
func (d *sparkDeltaReader) rows(ctx context.Context, columns []string, yield func(row []string) error) error {
	for _, f := range d.table.Snapshot().Files {
		if f.Vector != nil {
			return fmt.Errorf("%s has a deletion vector, which is not read here", f.Path)
		}
		name, err := url.PathUnescape(f.Path)
		if err != nil {
			return fmt.Errorf("path %q in the log: %w", f.Path, err)
		}
		data, err := d.store.Get(ctx, "sessions/"+name)
		if err != nil {
			return err
		}
		rows, err := verify.ParquetRows(data, columns, map[string]string{"session_date": f.Partition}, yield)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if f.NumRecords >= 0 && rows != f.NumRecords {
			return fmt.Errorf("%s has %d rows, the log says %d", name, rows, f.NumRecords)
		}
	}
	return nil
}
