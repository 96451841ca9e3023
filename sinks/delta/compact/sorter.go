package compact

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go"
)

// sizeOf estimates a row's bytes in memory.
func sizeOf(r parquet.Row) int64 {
	n := 24 * (len(r) + 1)
	for i := range r {
		if r[i].Kind() == parquet.ByteArray && !r[i].IsNull() {
			n += len(r[i].ByteArray())
		}
	}
	return int64(n)
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
		if r[i].Kind() == parquet.ByteArray && !r[i].IsNull() {
			n += len(r[i].ByteArray())
		}
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
		if v.Kind() == parquet.ByteArray && !v.IsNull() {
			k := copy(m.texts, v.ByteArray())
			v = parquet.ByteArrayValue(m.texts[:k:k]).Level(0, v.DefinitionLevel(), i)
			m.texts = m.texts[k:]
		}
		c[i] = v
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
//	value: definition level << 2 | kind u8 | nothing (0), varint (1: INT32, 2: INT64), length uvarint and bytes (3)
const blockBytes = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRun = errors.New("compact: a run on disk is damaged")

func appendRow(b []byte, r parquet.Row) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(r)))
	for i := range r {
		v := &r[i]
		level := byte(v.DefinitionLevel()) << 2
		switch {
		case v.IsNull():
			b = append(b, level)
		case v.Kind() == parquet.Int32:
			b = binary.AppendVarint(append(b, level|1), int64(v.Int32()))
		case v.Kind() == parquet.Int64:
			b = binary.AppendVarint(append(b, level|2), v.Int64())
		case v.Kind() == parquet.ByteArray:
			b = binary.AppendUvarint(append(b, level|3), uint64(len(v.ByteArray())))
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
	for i := range row {
		if len(b) == 0 {
			return nil, errRun
		}
		kind, level := b[0]&3, int(b[0]>>2)
		b = b[1:]
		var v parquet.Value
		switch kind {
		case 1, 2:
			x, k := binary.Varint(b)
			if k <= 0 {
				return nil, errRun
			}
			b = b[k:]
			if v = parquet.Int64Value(x); kind == 1 {
				v = parquet.Int32Value(int32(x))
			}
		case 3:
			x, k := binary.Uvarint(b)
			if k <= 0 || x > uint64(len(b)-k) {
				return nil, errRun
			}
			v = parquet.ByteArrayValue(b[k : k+int(x) : k+int(x)])
			b = b[k+int(x):]
		}
		row[i] = v.Level(0, level, i)
	}
	r.block = b
	return row, nil
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
