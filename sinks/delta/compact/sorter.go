package compact

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
)

// sizeOf estimates a row's bytes in memory.
func sizeOf(r parquet.Row) int64 {
	n := 24 * (len(r) + 1)
	for i := range r {
		n += len(bytesOf(&r[i]))
	}
	return int64(n)
}

// bytesOf are the bytes of a text or of bytes of a fixed length, nil of any other value.
func bytesOf(v *parquet.Value) []byte {
	if k := v.Kind(); v.IsNull() || k != parquet.ByteArray && k != parquet.FixedLenByteArray {
		return nil
	}
	return v.ByteArray()
}

// sorter sorts rows with bounded memory: what does not fit is written to runs on disk, each of them sorted.
type sorter struct {
	fs      vfs.FS
	dir     string
	limit   int64 // bytes of rows in memory
	compare func(a, b parquet.Row) int

	rows   int64
	held   []parquet.Row
	bytes  int64
	memory rowMemory
	runs   int
	open   []*run
	buf    []byte
}

// rowMemory is where rows lie, so that a row is no allocation of its own.
type rowMemory struct {
	values []parquet.Value
	texts  []byte
}

// clone copies a row with its texts.
func (m *rowMemory) clone(r parquet.Row) parquet.Row {
	n := 0
	for i := range r {
		n += len(bytesOf(&r[i]))
	}
	if len(m.values) < len(r) {
		m.values = make([]parquet.Value, max(len(r), 8<<10))
	}
	if len(m.texts) < n {
		m.texts = make([]byte, max(n, 256<<10))
	}
	c := parquet.Row(m.values[:len(r):len(r)])
	m.values = m.values[len(r):]
	for i, v := range r {
		was := v
		switch v.Kind() {
		case parquet.ByteArray, parquet.FixedLenByteArray:
			k := copy(m.texts, v.ByteArray())
			if v.Kind() == parquet.ByteArray {
				v = parquet.ByteArrayValue(m.texts[:k:k])
			} else {
				v = parquet.FixedLenByteArrayValue(m.texts[:k:k])
			}
			m.texts = m.texts[k:]
		case parquet.Int96:
			v = parquet.Int96Value(v.Int96())
		}
		c[i] = v.Level(was.RepetitionLevel(), was.DefinitionLevel(), was.Column())
	}
	return c
}

// add takes a row, which may change afterwards.
func (s *sorter) add(r parquet.Row) error {
	s.held, s.rows = append(s.held, s.memory.clone(r)), s.rows+1
	if s.bytes += sizeOf(r); s.bytes < s.limit {
		return nil
	}
	return s.spill()
}

func (s *sorter) spill() (err error) {
	slices.SortFunc(s.held, s.compare)
	f, err := s.fs.Create(s.path(s.runs), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("compact: run: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s.runs++
	block := make([]byte, 0, blockBytes+blockBytes/4)
	flush := func() error {
		s.buf = s2.Encode(s.buf[:cap(s.buf)], block)
		head := binary.LittleEndian.AppendUint32(nil, uint32(len(s.buf)))
		head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(s.buf, castagnoli))
		block = block[:0]
		if _, err := f.Write(head); err != nil {
			return fmt.Errorf("compact: run: %w", err)
		}
		if _, err := f.Write(s.buf); err != nil {
			return fmt.Errorf("compact: run: %w", err)
		}
		return nil
	}
	for _, r := range s.held {
		if block, err = appendRow(block, r); err != nil {
			return err
		}
		if len(block) >= blockBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(block) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	clear(s.held)
	s.held, s.bytes, s.memory = s.held[:0], 0, rowMemory{}
	return nil
}

func (s *sorter) path(n int) string { return s.fs.PathJoin(s.dir, "run-"+strconv.Itoa(n)) }

// sorted calls yield for every row, in order. A row stays as it is for ever.
func (s *sorter) sorted(yield func(parquet.Row) error) error {
	slices.SortFunc(s.held, s.compare)
	if s.runs == 0 {
		for _, r := range s.held {
			if err := yield(r); err != nil {
				return err
			}
		}
		return nil
	}
	m := &merger{compare: s.compare}
	at := 0
	m.inputs = append(m.inputs, &input{next: func() (parquet.Row, error) {
		if at == len(s.held) {
			return nil, io.EOF
		}
		at++
		return s.held[at-1], nil
	}})
	for n := range s.runs {
		r, err := openRun(s.fs, s.path(n))
		if err != nil {
			return err
		}
		s.open = append(s.open, r)
		m.inputs = append(m.inputs, &input{next: r.row})
	}
	return m.run(yield)
}

// close removes the runs.
func (s *sorter) close() (err error) {
	for _, r := range s.open {
		err = errors.Join(err, r.f.Close())
	}
	for n := range s.runs {
		err = errors.Join(err, s.fs.Remove(s.path(n)))
	}
	return err
}

// A run is a row of blocks:
//
//	block: length u32 | CRC-32C u32 | rows, compressed by S2
//	row:   number of values uvarint | values
//	value: kind u4, levels u1, definition u3 | if levels: column, repetition, definition uvarint | content
//
// Kind is that of Parquet, and 1 more, 0 for null. Without levels the column is the value's place in the row, and the
// repetition level 0: so it is with nearly all values of Deckle's own columns. The content is nothing (null), a byte
// (BOOLEAN), a varint (INT32, INT64), 12, 4 or 8 bytes (INT96, FLOAT, DOUBLE), or a length uvarint and bytes.
const (
	blockBytes   = 64 << 10
	levelsFollow = 1 << 4 // in the first byte of a value
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRun = errors.New("compact: a run on disk is damaged")

func appendRow(b []byte, r parquet.Row) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(r)))
	for i := range r {
		v := &r[i]
		kind := byte(0)
		if !v.IsNull() {
			kind = byte(v.Kind()) + 1
		}
		if d := v.DefinitionLevel(); v.Column() == i && v.RepetitionLevel() == 0 && d < 8 {
			b = append(b, kind|byte(d)<<5)
		} else {
			b = binary.AppendUvarint(append(b, kind|levelsFollow), uint64(v.Column()))
			b = binary.AppendUvarint(b, uint64(v.RepetitionLevel()))
			b = binary.AppendUvarint(b, uint64(d))
		}
		if v.IsNull() {
			continue
		}
		switch v.Kind() {
		case parquet.Boolean:
			b = append(b, 0)
			if v.Boolean() {
				b[len(b)-1] = 1
			}
		case parquet.Int32:
			b = binary.AppendVarint(b, int64(v.Int32()))
		case parquet.Int64:
			b = binary.AppendVarint(b, v.Int64())
		case parquet.Int96:
			for _, part := range v.Int96() {
				b = binary.LittleEndian.AppendUint32(b, part)
			}
		case parquet.Float:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v.Float()))
		case parquet.Double:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Double()))
		case parquet.ByteArray, parquet.FixedLenByteArray:
			b = binary.AppendUvarint(b, uint64(len(v.ByteArray())))
			b = append(b, v.ByteArray()...)
		default:
			return nil, fmt.Errorf("compact: a value of kind %v", v.Kind())
		}
	}
	return b, nil
}

// run reads a run.
type run struct {
	f      vfs.File
	r      *bufio.Reader
	packed []byte
	block  []byte // what is left of it; a new one for each, as rows alias it
}

func openRun(fs vfs.FS, path string) (*run, error) {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, fmt.Errorf("compact: run: %w", err)
	}
	return &run{f: f, r: bufio.NewReaderSize(f, 32<<10)}, nil
}

func (r *run) fill() error {
	var head [8]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return err // io.EOF at the end of a block
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > 1<<30 {
		return errRun
	}
	if r.packed = slices.Grow(r.packed[:0], int(n))[:n]; true {
		if _, err := io.ReadFull(r.r, r.packed); err != nil {
			return errRun
		}
	}
	if crc32.Checksum(r.packed, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return errRun
	}
	var err error
	if r.block, err = s2.Decode(nil, r.packed); err != nil {
		return errRun
	}
	return nil
}

// row returns the next row, io.EOF after the last one.
func (r *run) row() (parquet.Row, error) {
	if len(r.block) == 0 {
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
	b := r.block
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) {
		return nil, errRun
	}
	b = b[k:]
	row := make(parquet.Row, n)
	c := cursor{b: b}
	for i := range row {
		row[i] = c.value(i)
	}
	if c.bad {
		return nil, errRun
	}
	r.block = c.b
	return row, nil
}

// cursor decodes values, and notes when one is not whole.
type cursor struct {
	b   []byte
	bad bool
}

// take returns the next n bytes.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return make([]byte, min(n, 12)) // enough for a number
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) uvarint() uint64 {
	x, k := binary.Uvarint(c.b)
	if k <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[k:]
	return x
}

func (c *cursor) varint() int64 {
	x := c.uvarint()
	return int64(x>>1) ^ -int64(x&1)
}

// value decodes the value at a place of a row.
func (c *cursor) value(at int) (v parquet.Value) {
	head := c.take(1)[0]
	column, repetition, definition := at, 0, int(head>>5)
	if head&levelsFollow != 0 {
		column, repetition, definition = int(c.uvarint()), int(c.uvarint()), int(c.uvarint())
	}
	if kind := head & 15; kind > 0 {
		switch parquet.Kind(kind - 1) {
		case parquet.Boolean:
			v = parquet.BooleanValue(c.take(1)[0] != 0)
		case parquet.Int32:
			v = parquet.Int32Value(int32(c.varint()))
		case parquet.Int64:
			v = parquet.Int64Value(c.varint())
		case parquet.Int96:
			p := c.take(12)
			v = parquet.Int96Value(deprecated.Int96{binary.LittleEndian.Uint32(p),
				binary.LittleEndian.Uint32(p[4:]), binary.LittleEndian.Uint32(p[8:])})
		case parquet.Float:
			v = parquet.FloatValue(math.Float32frombits(binary.LittleEndian.Uint32(c.take(4))))
		case parquet.Double:
			v = parquet.DoubleValue(math.Float64frombits(binary.LittleEndian.Uint64(c.take(8))))
		case parquet.ByteArray:
			v = parquet.ByteArrayValue(c.take(c.uvarint()))
		case parquet.FixedLenByteArray:
			v = parquet.FixedLenByteArrayValue(c.take(c.uvarint()))
		default:
			c.bad = true
		}
	}
	if c.bad { // levels of a damaged run may be too large for a value
		return parquet.Value{}
	}
	return v.Level(repetition, definition, column)
}

// input is one sorted source of rows.
type input struct {
	next func() (parquet.Row, error)
	row  parquet.Row
}

// merger merges sorted inputs. It is a heap of them by their next row.
type merger struct {
	inputs  []*input
	compare func(a, b parquet.Row) int
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (m *merger) Len() int           { return len(m.inputs) }
func (m *merger) Less(i, j int) bool { return m.compare(m.inputs[i].row, m.inputs[j].row) < 0 }
func (m *merger) Swap(i, j int)      { m.inputs[i], m.inputs[j] = m.inputs[j], m.inputs[i] }
func (m *merger) Push(any)           {}
func (m *merger) Pop() any {
	m.inputs = m.inputs[:len(m.inputs)-1]
	return nil
}

func (m *merger) run(yield func(parquet.Row) error) error {
	all := m.inputs
	m.inputs = nil
	for _, in := range all {
		var err error
		if in.row, err = in.next(); err == nil {
			m.inputs = append(m.inputs, in)
		} else if !errors.Is(err, io.EOF) {
			return err
		}
	}
	heap.Init(m)
	for len(m.inputs) > 0 {
		in := m.inputs[0]
		if err := yield(in.row); err != nil {
			return err
		}
		var err error
		switch in.row, err = in.next(); {
		case err == nil:
			heap.Fix(m, 0)
		case errors.Is(err, io.EOF):
			heap.Pop(m)
		default:
			return err
		}
	}
	return nil
}
