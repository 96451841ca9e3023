package deltalog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/store"
)

// Lookup says which rows of a data file are wanted.
type Lookup struct {
	// Columns are the columns that are read: at the top level, not repeated. The first one is of texts.
	Columns []string
	// Keys are the values of the first column that are wanted, ascending. All wants every row, whatever Keys are; the
	// first column may be one of any type then.
	Keys []string
	All  bool
	// Check, if it is set, judges the file before anything of its columns is read.
	Check func(*parquet.File) error
	// Hidden are rows that are passed over.
	Hidden *deletionvector.Rows
}

// maxIndex is the size in bytes of the longest page index of a column that is read; without one the column is read
// whole.
const maxIndex = 64 << 20

// ReadWhere reads a data file of size bytes in ranges, and calls yield with the place in the file, from 0, and the
// values of Columns of each row that may have one of the keys, and perhaps of others; the values are valid only during
// the call. What the file says about the
// bounds of row groups and pages decides what is not read: of a file that says nothing the columns are read whole. It
// returns how many bytes were read. Damage is a CorruptionError; errors of the store, of Check and of yield are
// returned unchanged.
func ReadWhere(ctx context.Context, s store.Store, key string, size int64, want *Lookup,
	yield func(place int64, row []parquet.Value) error) (read int64, err error) {
	var callers error // an error that is not about the file
	defer func() {
		if p := recover(); p != nil {
			if callers != nil {
				panic(p)
			}
			err = &CorruptionError{Key: key, Err: fmt.Errorf("decoder panicked: %v", p)}
		}
	}()
	o, err := openSource(ctx, s, key)
	if err != nil {
		return 0, err
	}
	l := &lookup{Lookup: want, source: o, yield: func(place int64, row []parquet.Value) error {
		callers = errYield
		if err := yield(place, row); err != nil {
			callers = err
			return err
		}
		callers = nil
		return nil
	}}
	l.read = int64(len(o.end))
	err = l.run(size)
	switch _, corrupt := errors.AsType[*CorruptionError](err); {
	case callers != nil:
		return l.read, callers
	case o.err != nil:
		return l.read, o.err
	case l.refused != nil:
		return l.read, l.refused
	case err != nil && !corrupt:
		err = &CorruptionError{Key: key, Err: err}
	}
	return l.read, err
}

var errYield = errors.New("delta: the caller panicked")

type lookup struct {
	*Lookup
	source  *source
	yield   func(int64, []parquet.Value) error
	file    *parquet.File
	read    int64
	before  int64 // rows of the row groups before the one that is read
	refused error // by Check
}

// get reads bytes of the file, all of which it must have.
func (l *lookup) get(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > l.source.size || n > l.source.size-off {
		return nil, fmt.Errorf("%d bytes at %d in a file of %d", n, off, l.source.size)
	}
	p := make([]byte, n)
	if off < l.source.size-int64(len(l.source.end)) {
		l.read += n
	}
	return p, l.source.read(off, p)
}

func (l *lookup) run(size int64) (err error) {
	if l.source.size != size {
		return fmt.Errorf("%d bytes, the log says %d", l.source.size, size)
	}
	guess := int64(len(l.source.end))
	if l.file, err = l.source.open(); err != nil {
		return err
	}
	if n := int64(len(l.source.end)); n > guess {
		l.read += n
	}
	if l.Check != nil {
		if l.refused = l.Check(l.file); l.refused != nil {
			return l.refused
		}
	}
	places := make([]int, len(l.Columns))
	for i, name := range l.Columns {
		c, ok := l.file.Schema().Lookup(name)
		if !ok || c.MaxRepetitionLevel > 0 {
			return fmt.Errorf("column %s cannot be read alone", name)
		}
		places[i] = c.ColumnIndex
	}
	for g, group := range l.file.RowGroups() {
		if err := l.group(group, l.file.Metadata().RowGroups[g].Columns, places); err != nil {
			return err
		}
		l.before += group.NumRows()
	}
	return l.Hidden.Fits(l.before)
}

// rows is a range of rows of a row group: from and to, exclusive.
type rows struct{ from, to int64 }

// column is one of the columns in a row group.
type column struct {
	chunk *parquet.FileColumnChunk
	meta  *format.ColumnMetaData
	pages []format.PageLocation // nil: not known
}

func (l *lookup) group(g parquet.RowGroup, metas []format.ColumnChunk, places []int) error {
	var columns []column
	for i, at := range places {
		if at >= len(metas) || at >= len(g.ColumnChunks()) {
			return fmt.Errorf("%d columns in a row group, want more than %d", len(metas), at)
		}
		chunk, ok := g.ColumnChunks()[at].(*parquet.FileColumnChunk)
		if !ok {
			return fmt.Errorf("column %s cannot be read", l.Columns[i])
		}
		m := &metas[at].MetaData
		if i == 0 && !l.within(m.Statistics.MinValue, m.Statistics.MaxValue) {
			return nil
		}
		columns = append(columns, column{chunk: chunk, meta: m})
	}
	want := []rows{{0, g.NumRows()}}
	for i := range columns {
		c := &columns[i]
		if l.All {
			break // a column that is read whole needs no index of its pages
		}
		if err := l.locate(c, &metas[places[i]], g.NumRows()); err != nil {
			return err
		}
	}
	if c := &columns[0]; c.pages != nil && !l.All {
		var err error
		if want, err = l.pagesWithKeys(c, &metas[places[0]], g.NumRows()); err != nil {
			return err
		}
	}
	return l.rowsOf(columns, want)
}

// within reports whether one of the keys may lie between two bounds of a column. Bounds that are not there say nothing,
// and neither do those of a file that does not say how its columns are ordered.
func (l *lookup) within(lo, hi []byte) bool {
	if l.All || len(hi) == 0 || len(l.file.Metadata().ColumnOrders) == 0 {
		return true
	}
	i, _ := slices.BinarySearch(l.Keys, string(lo))
	return i < len(l.Keys) && l.Keys[i] <= string(hi)
}

// index reads a page index of a column, nil if the file has none that can be used.
func (l *lookup) index(off int64, n int32) (*window, error) {
	if off <= 0 || n <= 0 || n > maxIndex {
		return nil, nil
	}
	data, err := l.get(off, int64(n))
	if err != nil {
		return nil, err
	}
	t := thrift{b: data}
	if t.structure(0, nil); t.err != nil {
		return nil, fmt.Errorf("page index: %w", t.err)
	}
	return &window{off, data}, nil
}

// locate finds where a column's pages are, if the file says it.
func (l *lookup) locate(c *column, m *format.ColumnChunk, n int64) error {
	w, err := l.index(m.OffsetIndexOffset, m.OffsetIndexLength)
	if w == nil || err != nil {
		return err
	}
	index, err := c.chunk.OffsetIndexFrom(w)
	if err != nil {
		return err
	}
	from, length := c.span()
	row := int64(-1)
	for i := range index.NumPages() {
		p := format.PageLocation{Offset: index.Offset(i), CompressedPageSize: int32(index.CompressedPageSize(i)),
			FirstRowIndex: index.FirstRowIndex(i)}
		if p.FirstRowIndex <= row || p.FirstRowIndex >= n || i == 0 && p.FirstRowIndex != 0 || p.Offset < from ||
			p.CompressedPageSize <= 0 || p.Offset+int64(p.CompressedPageSize) > from+length {
			return fmt.Errorf("page %d of column %v is not where its index says", i, c.meta.PathInSchema)
		}
		row = p.FirstRowIndex
		c.pages = append(c.pages, p)
	}
	return nil
}

// span is where the column's dictionary and pages are.
func (c *column) span() (from, n int64) {
	from = c.meta.DataPageOffset
	if d := c.meta.DictionaryPageOffset; d != 0 {
		from = d
	}
	return from, c.meta.TotalCompressedSize
}

// pagesWithKeys returns the rows of those pages of the first column that may have one of the keys.
func (l *lookup) pagesWithKeys(c *column, m *format.ColumnChunk, n int64) ([]rows, error) {
	all := []rows{{0, n}}
	w, err := l.index(m.ColumnIndexOffset, m.ColumnIndexLength)
	if err != nil || w == nil {
		return all, err
	}
	index, err := c.chunk.ColumnIndexFrom(w)
	if err != nil {
		return nil, err
	}
	if index.NumPages() != len(c.pages) {
		return nil, fmt.Errorf("%d pages of column %v in one index, %d in the other", index.NumPages(),
			c.meta.PathInSchema, len(c.pages))
	}
	var out []rows
	for i := range c.pages {
		if index.NullPage(i) || !l.within(index.MinValue(i).ByteArray(), index.MaxValue(i).ByteArray()) {
			continue
		}
		r := rows{c.pages[i].FirstRowIndex, c.end(i, n)}
		if k := len(out); k > 0 && out[k-1].to == r.from {
			out[k-1].to = r.to
		} else {
			out = append(out, r)
		}
	}
	return out, nil
}

// end is the row after the last one of a page, in a row group of n rows.
func (c *column) end(page int, n int64) int64 {
	if page+1 < len(c.pages) {
		return c.pages[page+1].FirstRowIndex
	}
	return n
}

// gap is how many bytes are read rather than asked for in a request of their own.
const gap = 64 << 10

// fetch reads those bytes of a column that rows need.
func (l *lookup) fetch(c *column, want []rows) (parts, error) {
	from, n := c.span()
	var spans [][2]int64 // from, to; ascending
	if c.pages == nil {
		spans = append(spans, [2]int64{from, from + n})
	} else {
		if first := c.pages[0].Offset; first > from { // the dictionary
			spans = append(spans, [2]int64{from, first})
		}
		for _, r := range want {
			i, ok := slices.BinarySearchFunc(c.pages, r.from, func(p format.PageLocation, row int64) int {
				return cmp.Compare(p.FirstRowIndex, row)
			})
			if !ok {
				i--
			}
			for ; i < len(c.pages) && c.pages[i].FirstRowIndex < r.to; i++ {
				spans = append(spans, [2]int64{c.pages[i].Offset,
					c.pages[i].Offset + int64(c.pages[i].CompressedPageSize)})
			}
		}
	}
	var p parts
	for i := 0; i < len(spans); {
		lo, hi, k := spans[i][0], spans[i][1], i+1
		for ; k < len(spans) && spans[k][0] <= hi+gap; k++ {
			hi = max(hi, spans[k][1])
		}
		data, err := l.get(lo, hi-lo)
		if err != nil {
			return nil, err
		}
		for _, s := range spans[i:k] {
			if err := checkPages(data[s[0]-lo : s[1]-lo]); err != nil {
				return nil, fmt.Errorf("column %v: %w", c.meta.PathInSchema, err)
			}
		}
		p, i = append(p, window{lo, data}), k
	}
	return p, nil
}

// parts are the parts of a file that stand in memory, ascending.
type parts []window

// ReadAt implements io.ReaderAt. At the end of a part it says that the file ends.
func (p parts) ReadAt(b []byte, off int64) (int, error) {
	for i := range p {
		if w := &p[i]; off >= w.off && off < w.off+int64(len(w.data)) {
			return bytes.NewReader(w.data).ReadAt(b, off-w.off)
		}
	}
	return 0, io.ErrUnexpectedEOF
}

// rowsOf decodes some rows of a row group.
func (l *lookup) rowsOf(columns []column, want []rows) error {
	if len(want) == 0 || want[0].from == want[0].to {
		return nil
	}
	held := make([]parts, len(columns))
	for i := range columns {
		var err error
		if held[i], err = l.fetch(&columns[i], want); err != nil {
			return err
		}
	}
	row := make([]parquet.Value, len(columns))
	for _, r := range want {
		cursors := make([]*cursor, len(columns))
		err := func() error {
			defer func() {
				for _, c := range cursors {
					if c != nil {
						c.close()
					}
				}
			}()
			for i := range columns {
				pages := columns[i].chunk.PagesFrom(held[i])
				cursors[i] = &cursor{pages: pages}
				if err := pages.SeekToRow(r.from); err != nil {
					return err
				}
			}
			for n := range r.to - r.from {
				for i, c := range cursors {
					if err := c.next(); err != nil {
						return err
					}
					row[i] = c.row[0]
				}
				// gofail: var bugVectorIgnored struct{}
				// l.Hidden = nil
				place := l.before + r.from + n
				if l.Hidden.Has(place) {
					continue
				}
				if err := l.yield(place, row); err != nil {
					return err
				}
			}
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return nil
}
