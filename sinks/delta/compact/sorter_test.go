package compact

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
)

// row is a row of two own columns, and behind them values of another tool's: some twice, some not there, of each kind.
func row(n int) parquet.Row {
	text := bytes.Repeat([]byte{byte(n)}, n%5)
	r := parquet.Row{parquet.Int64Value(int64(n)).Level(0, 0, 0), parquet.ByteArrayValue(text).Level(0, 1, 1)}
	if n%3 == 0 {
		r[1] = parquet.NullValue().Level(0, 0, 1)
	}
	for i, v := range []parquet.Value{
		parquet.BooleanValue(n%2 == 0), parquet.Int32Value(int32(-n)), parquet.Int64Value(math.MinInt64 + int64(n)),
		parquet.Int96Value(deprecated.Int96{uint32(n), math.MaxUint32, 7}), parquet.FloatValue(float32(n) / 3),
		parquet.DoubleValue(math.NaN()), parquet.ByteArrayValue(append([]byte("x"), text...)),
		parquet.FixedLenByteArrayValue([]byte{1, 2, byte(n)}),
	} {
		for j := range n % 3 {
			r = append(r, v.Level(min(j, 1), 9, 2+i))
		}
		if n%3 == 0 && n%2 == 0 {
			r = append(r, parquet.NullValue().Level(0, 3, 2+i))
		}
	}
	return r
}

func same(a, b parquet.Row) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.Kind() != y.Kind() || x.RepetitionLevel() != y.RepetitionLevel() || x.Column() != y.Column() ||
			x.DefinitionLevel() != y.DefinitionLevel() || !x.IsNull() && !bytes.Equal(x.Bytes(), y.Bytes()) {
			return false
		}
	}
	return true
}

// TestSorterKeepsValues: rows come back sorted and as they were, from memory and from runs, whatever is in them, and
// although what they were given in has changed since.
func TestSorterKeepsValues(t *testing.T) {
	for _, limit := range []int64{1, 2000, 1 << 30} {
		s := &sorter{fs: vfs.NewMem(), dir: "", limit: limit,
			compare: func(a, b parquet.Row) int { return cmp.Compare(a[0].Int64(), b[0].Int64()) }}
		const rows = 60
		for n := range rows {
			r := row((n * 37) % rows)
			if err := s.add(r); err != nil {
				t.Fatal(err)
			}
			for i := range r {
				if k := r[i].Kind(); k == parquet.ByteArray || k == parquet.FixedLenByteArray || k == parquet.Int96 {
					clear(r[i].ByteArray())
				}
			}
			clear(r)
		}
		n := 0
		err := s.sorted(func(r parquet.Row) error {
			if !same(r, row(n)) {
				t.Errorf("limit %d: row %d is %+v, want %+v", limit, n, r, row(n))
			}
			n++
			return nil
		})
		if err != nil || n != rows || s.close() != nil {
			t.Errorf("limit %d: %d rows, %v", limit, n, err)
		}
	}
}

// TestDamagedRun: a run of which a byte has changed, or that ends within a row, is an error and never another row.
func TestDamagedRun(t *testing.T) {
	fs := vfs.NewMem()
	s := &sorter{fs: fs, dir: "", limit: 1, compare: func(a, b parquet.Row) int { return 0 }}
	if err := s.add(row(5)); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Open(s.path(0))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	read := func(data []byte) error {
		f, err := fs.Create("damaged", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := openRun(fs, "damaged")
		if err != nil {
			t.Fatal(err)
		}
		defer r.f.Close()
		_, err = r.row()
		return err
	}
	if err := read(whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		if err := read(flipped); err == nil {
			t.Errorf("byte %d: not found", i)
		}
		if err := read(whole[:i]); i > 0 && !errors.Is(err, errRun) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
}
