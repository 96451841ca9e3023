package delta

import (
	"context"
	"errors"

	"github.com/parquet-go/parquet-go"

	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
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

// visible are the rows of a file that its deletion vector does not hide.
type visible struct {
	hidden *deletionvector.Rows
	*deletionvector.Sieve
}

// visibleOf reads the deletion vector of a file, if it has one. An error is one of the store, a CorruptionError, or a
// *sinks.StopError for a vector that lies elsewhere.
func visibleOf(ctx context.Context, s store.Store, table string, f *deltalog.File) (*visible, error) {
	hidden, err := deletionvector.Read(ctx, s, table, f.Vector)
	switch damage, ok := errors.AsType[*deletionvector.DamageError](err); {
	case ok:
		return nil, &deltalog.CorruptionError{Key: table + "/" + f.Path, Err: damage}
	case errors.Is(err, deletionvector.ErrElsewhere):
		return nil, elsewhere(table, err)
	case err != nil:
		return nil, err
	}
	return &visible{hidden: hidden, Sieve: deletionvector.NewSieve(hidden)}, nil
}

// rows returns what is called for each row of the file in its order, and passes on those that are not hidden.
func (v *visible) rows(yield func(parquet.Row) error) func(parquet.Row) error {
	v.Sieve = deletionvector.NewSieve(v.hidden)
	return func(r parquet.Row) error {
		seen := v.Next()
		// gofail: var bugVectorIgnoredWhole struct{}
		// seen = true
		if !seen {
			return nil
		}
		return yield(r)
	}
}

// end gives a CorruptionError if the vector hides rows that the file, which has been read, does not have.
func (v *visible) end(key string) error {
	if err := v.End(); err != nil {
		return &deltalog.CorruptionError{Key: key, Err: err}
	}
	return nil
}

type rowReader struct{ r *parquet.GenericReader[any] }

func (r rowReader) Read(rows []parquet.Row) (int, error) { return r.r.ReadRows(rows) }
func (r rowReader) Close() error                         { return r.r.Close() }
