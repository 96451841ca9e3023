package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// CommitKey is the key of the log file of one version of a table.
func CommitKey(table string, version int64) string {
	return fmt.Sprintf("%s/_delta_log/%020d.json", table, version)
}

// Hidden reads a deletion vector of a table, as an add has it, of a file with so many rows. It returns which of them
// are hidden, by their places from 0.
type Hidden func(ctx context.Context, table string, vector json.RawMessage, rows int) (func(row int64) bool, error)

// ReadCommit parses the log file of a version of the table events or sessions, and reads the rows that it adds from
// their files, without those that deletion vectors hide. It knows nothing of the writer: what it reads is what any
// reader of the protocol would. Without hidden, a file with a deletion vector is an error.
func ReadCommit(ctx context.Context, table string, version int64, log []byte,
	get func(ctx context.Context, key string) ([]byte, error), hidden Hidden) (*Commit, error) {
	c := &Commit{Version: version, Txns: map[string]int64{}}
	for line := range bytes.Lines(log) {
		var a struct {
			Txn *struct {
				AppID   string `json:"appId"`
				Version int64  `json:"version"`
			} `json:"txn"`
			Add        *file `json:"add"`
			Remove     *file `json:"remove"`
			CommitInfo *struct {
				Operation string `json:"operation"`
			} `json:"commitInfo"`
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("%s version %d: %w", table, version, err)
		}
		switch {
		case a.CommitInfo != nil:
			c.Deletes = a.CommitInfo.Operation == "DELETE" // which Deckle does not know
		case a.Txn != nil:
			c.Txns[a.Txn.AppID] = a.Txn.Version
		case a.Remove != nil:
			c.Rearranges, c.Changes = c.Rearranges || !a.Remove.DataChange, c.Changes || a.Remove.DataChange
			c.Removes = append(c.Removes, a.Remove.Path)
		case a.Add != nil:
			c.Rearranges, c.Changes = c.Rearranges || !a.Add.DataChange, c.Changes || a.Add.DataChange
			name, err := url.PathUnescape(a.Add.Path)
			if err != nil {
				return nil, fmt.Errorf("%s version %d: %w", table, version, err)
			}
			data, err := get(ctx, table+"/"+name)
			if err != nil {
				return nil, err
			}
			rows, err := rowsOf(table, data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if brand, ok := a.Add.PartitionValues["opening_brand"]; ok { // then the file does not have it
				for i := range rows {
					rows[i].Opening = brand
				}
			}
			if v := a.Add.Vector; len(v) > 0 && string(v) != "null" {
				c.Hides = true
				if rows, err = visible(ctx, table, rows, v, hidden); err != nil {
					return nil, fmt.Errorf("%s version %d: %s: %w", table, version, name, err)
				}
			}
			c.Adds = append(c.Adds, AddedFile{a.Add.Path, rows})
		}
	}
	return c, nil
}

// visible are the rows of a file that its deletion vector does not hide.
func visible(ctx context.Context, table string, rows []Row, vector json.RawMessage, hidden Hidden) ([]Row, error) {
	if hidden == nil {
		return nil, errors.New("it has a deletion vector, which is not read here")
	}
	has, err := hidden(ctx, table, vector, len(rows))
	if err != nil {
		return nil, err
	}
	place := int64(-1)
	return slices.DeleteFunc(rows, func(Row) bool { place++; return has(place) }), nil
}

// file is what is read of an add or a remove.
type file struct {
	Path       string `json:"path"`
	DataChange bool   `json:"dataChange"`
	// PartitionValues are those of an add; null is "".
	PartitionValues map[string]string `json:"partitionValues"`
	Vector          json.RawMessage   `json:"deletionVector"`
}

type eventColumns struct {
	Partition int32 `parquet:"kafka_partition"`
	Offset    int64 `parquet:"kafka_offset"`
	Batch     int64 `parquet:"batch_id"`
}

type sessionColumns struct {
	Session  string `parquet:"session_id"`
	Origin   string `parquet:"origin"`
	Revision int32  `parquet:"revision"`
	Total    int64  `parquet:"total_events"`
	Batch    int64  `parquet:"batch_id"`
	Opening  string `parquet:"opening_brand,optional"` // "" where the file does not have it
}

func rowsOf(table string, data []byte) ([]Row, error) {
	if table == "events" {
		return readRows(data, func(r *eventColumns) Row {
			return Row{Partition: r.Partition, Offset: r.Offset, Batch: uint64(r.Batch)}
		})
	}
	return readRows(data, func(r *sessionColumns) Row {
		return Row{Session: strings.Clone(r.Session), Origin: strings.Clone(r.Origin), Revision: int64(r.Revision),
			Total: r.Total, Batch: uint64(r.Batch), Opening: strings.Clone(r.Opening)}
	})
}

func readRows[T any](data []byte, row func(*T) Row) ([]Row, error) {
	r := parquet.NewGenericReader[T](bytes.NewReader(data))
	defer func() { _ = r.Close() }() // it reads from memory and cannot fail
	rows, buf := make([]Row, 0, r.NumRows()), make([]T, 256)
	for {
		n, err := r.Read(buf)
		for i := range buf[:n] {
			rows = append(rows, row(&buf[i]))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if int64(len(rows)) != r.NumRows() {
		return nil, fmt.Errorf("%d rows of %d could be read", len(rows), r.NumRows())
	}
	return rows, nil
}
