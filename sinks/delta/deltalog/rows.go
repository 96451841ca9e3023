package deltalog

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// RowReader reads the next rows into a slice. Read returns io.EOF with the last rows or after them.
type RowReader[T any] interface {
	Read(rows []T) (int, error)
	Close() error
}

// EachRow decodes a Parquet file and calls yield for each row, which is valid only during the call. It reads atOnce
// rows at a time. The Parquet library panics on some damaged files; that is a CorruptionError here, like any other
// damage. An error of open or yield is returned unchanged.
func EachRow[T any](key string, data []byte, open func(*parquet.File) (RowReader[T], error), atOnce int,
	yield func(*T) error) (err error) {
	row, inYield := 0, false
	corrupt := func(cause error) error { return &CorruptionError{Key: key, Line: row, Err: cause} }
	defer func() {
		if p := recover(); p != nil {
			if inYield {
				panic(p)
			}
			err = corrupt(fmt.Errorf("decoder panicked: %v", p))
		}
	}()
	f, err := OpenParquet(data)
	if err != nil {
		return corrupt(err)
	}
	r, err := open(f)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // the file is in memory: Close cannot fail
	rows := make([]T, atOnce)
	for {
		n, err := r.Read(rows)
		for i := range n {
			row++
			inYield = true
			if err := yield(&rows[i]); err != nil {
				return err
			}
			inYield = false
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return corrupt(err)
		}
		if n == 0 {
			return corrupt(io.ErrNoProgress)
		}
	}
}
