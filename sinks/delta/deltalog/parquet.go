package deltalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go"
)

// maxPage is the size in bytes, decompressed, of the longest page that is read. Writers make pages of about 1 MiB.
const maxPage = 256 << 20

var (
	errNotParquet = errors.New("not a Parquet file")
	errThrift     = errors.New("damaged Thrift structure")
)

// OpenParquet opens a Parquet file in memory. The library trusts the lengths and counts in a file: it allocates memory
// for them before it reads, so that one flipped bit can ask for more memory than there is, which no recover catches.
// Here every length is first compared with the bytes that are there: that of the footer, of each list and text in it,
// and of each page.
func OpenParquet(data []byte) (*parquet.File, error) {
	const tail = 8 // length of the footer u32, "PAR1"
	if len(data) < 4+tail || string(data[len(data)-4:]) != "PAR1" {
		return nil, errNotParquet
	}
	n := int64(binary.LittleEndian.Uint32(data[len(data)-tail:]))
	if n > int64(len(data)-4-tail) {
		return nil, fmt.Errorf("a footer of %d bytes in a file of %d", n, len(data))
	}
	footer := thrift{b: data[int64(len(data)-tail)-n : len(data)-tail]}
	if footer.structure(0, nil); footer.err != nil {
		return nil, fmt.Errorf("footer: %w", footer.err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)), parquet.SkipPageIndex(true),
		parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, err
	}
	if err := checkCounts(f); err != nil {
		return nil, err
	}
	for _, g := range f.Metadata().RowGroups {
		for _, c := range g.Columns {
			from, n := c.MetaData.DataPageOffset, c.MetaData.TotalCompressedSize
			if d := c.MetaData.DictionaryPageOffset; d != 0 {
				from = d
			}
			if from < 0 || n < 0 || from > int64(len(data)) || n > int64(len(data))-from {
				return nil, fmt.Errorf("column %v: %d bytes at %d in a file of %d", c.MetaData.PathInSchema, n, from,
					len(data))
			}
			if err := checkPages(data[from : from+n]); err != nil {
				return nil, fmt.Errorf("column %v: %w", c.MetaData.PathInSchema, err)
			}
		}
	}
	return f, nil
}

// checkCounts compares the numbers of rows in a footer with each other: the readers of the library go by that of a row
// group, and would leave out what it does not count.
func checkCounts(f *parquet.File) error {
	columns, sum := f.Schema().Columns(), int64(0)
	for i, g := range f.Metadata().RowGroups {
		if sum += g.NumRows; g.NumRows < 0 {
			return fmt.Errorf("row group %d has %d rows", i, g.NumRows)
		}
		for j, c := range g.Columns {
			if j >= len(columns) {
				return fmt.Errorf("row group %d has %d columns, the schema %d", i, len(g.Columns), len(columns))
			}
			leaf, ok := f.Schema().Lookup(columns[j]...)
			n := c.MetaData.NumValues
			if !ok || n < g.NumRows || leaf.MaxRepetitionLevel == 0 && n != g.NumRows {
				return fmt.Errorf("row group %d has %d rows, and %d values of column %v", i, g.NumRows, n, columns[j])
			}
		}
	}
	if sum != f.NumRows() {
		return fmt.Errorf("%d rows in the row groups, %d in the file", sum, f.NumRows())
	}
	return nil
}

// checkPages compares the lengths in each page header of a column with the bytes that are left.
func checkPages(b []byte) error {
	for len(b) > 0 {
		var size [4]int64 // by Thrift field: 2 is the decompressed size, 3 the compressed one
		head := thrift{b: b}
		head.structure(0, func(field int, v int64) {
			if field == 2 || field == 3 {
				size[field] = v
			}
		})
		if head.err != nil {
			return fmt.Errorf("page: %w", head.err)
		}
		if size[2] < 0 || size[2] > maxPage || size[3] < 0 || size[3] > int64(len(head.b)) {
			return fmt.Errorf("page of %d bytes, %d decompressed, where %d are left", size[3], size[2], len(head.b))
		}
		b = head.b[size[3]:]
	}
	return nil
}

// thrift walks over a structure in Thrift's compact protocol and trusts no length in it:
//
//	struct: (delta 4 bits, type 4 bits | type, field zigzag varint) value … | 0
//	list, set: (size 4 bits, or 15 and size varint; type 4 bits) values    map: size varint, types, pairs
type thrift struct {
	b   []byte // the bytes that are left
	err error
}

const maxThriftDepth = 32

func (t *thrift) fail() { t.b, t.err = nil, errThrift }

func (t *thrift) byte() byte {
	if len(t.b) == 0 {
		t.fail()
		return 0
	}
	c := t.b[0]
	t.b = t.b[1:]
	return c
}

func (t *thrift) uvarint() uint64 {
	v, n := binary.Uvarint(t.b)
	if n <= 0 {
		t.fail()
		return 0
	}
	t.b = t.b[n:]
	return v
}

func (t *thrift) skip(n uint64) {
	if n > uint64(len(t.b)) {
		t.fail()
		return
	}
	t.b = t.b[n:]
}

// structure walks over a struct, and calls see for each integer that stands directly in it, with its field.
func (t *thrift) structure(depth int, see func(field int, v int64)) {
	field := 0
	for t.err == nil {
		head := t.byte()
		if head == 0 {
			return
		}
		if head>>4 != 0 {
			field += int(head >> 4)
		} else {
			v := t.uvarint()
			field = int(int16(v>>1) ^ -int16(v&1))
		}
		if kind := head & 15; kind >= 4 && kind <= 6 {
			v := t.uvarint()
			if see != nil && t.err == nil {
				see(field, int64(v>>1)^-int64(v&1))
			}
		} else if kind > 2 { // 1 and 2 are true and false
			t.value(kind, depth)
		}
	}
}

func (t *thrift) value(kind byte, depth int) {
	if depth++; depth > maxThriftDepth {
		t.fail()
		return
	}
	switch kind {
	case 1, 2, 3: // of a list: a byte
		t.skip(1)
	case 4, 5, 6:
		t.uvarint()
	case 7:
		t.skip(8)
	case 8:
		t.skip(t.uvarint())
	case 9, 10:
		head := t.byte()
		n := uint64(head >> 4)
		if n == 15 {
			n = t.uvarint()
		}
		t.values(n, depth, head&15)
	case 11:
		if n := t.uvarint(); n > 0 {
			kinds := t.byte()
			t.values(n, depth, kinds>>4, kinds&15)
		}
	case 12:
		t.structure(depth, nil)
	default:
		t.fail()
	}
}

// values walks over n groups of one value of each kind; each value takes at least one byte.
func (t *thrift) values(n uint64, depth int, kinds ...byte) {
	if n > uint64(len(t.b)) {
		t.fail()
	}
	for ; n > 0 && t.err == nil; n-- {
		for _, k := range kinds {
			t.value(k, depth)
		}
	}
}
