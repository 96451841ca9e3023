package delta

import (
	"errors"

	"github.com/parquet-go/parquet-go"

	"deckle/sinks/delta/deltalog"
)

var errColumns = errors.New("a row that has not one value per column")

// eachRow decodes the columns of a schema from a data file, row by row, one value per column; the row is valid only
// during the call. A column of later that the file does not have is null. If the decoder fails or panics, the error is
// a CorruptionError. If the file stores the columns with other types than this package does, the error is a
// *sinks.StopError.
func eachRow(key string, data []byte, columns *parquet.Schema, later []string,
	yield func(parquet.Row) error) error {
	n := len(columns.Fields())
	open := func(f *parquet.File) (deltalog.RowReader[parquet.Row], error) {
		if err := checkTypes(key, f, columns, later); err != nil {
			return nil, err
		}
		return rowReader{parquet.NewGenericReader[any](f, columns)}, nil
	}
	return deltalog.EachRow(key, data, open, 128, func(r *parquet.Row) error {
		if len(*r) != n {
			return &deltalog.CorruptionError{Key: key, Err: errColumns}
		}
		return yield(*r)
	})
}

type rowReader struct{ r *parquet.GenericReader[any] }

func (r rowReader) Read(rows []parquet.Row) (int, error) { return r.r.ReadRows(rows) }
func (r rowReader) Close() error                         { return r.r.Close() }
