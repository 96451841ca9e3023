package deletionvector

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/RoaringBitmap/roaring/v2"

	"deckle/sinks/delta/store"
)

// DamageError says that the bytes of a vector are not what they must be.
type DamageError struct {
	Key string // of the object; "" for a vector that stands in the log
	Err error
}

// Error says which vector is damaged, and how.
func (e *DamageError) Error() string {
	if e.Key == "" {
		return "deletion vector in the log is damaged: " + e.Err.Error()
	}
	return "deletion vector " + e.Key + " is damaged: " + e.Err.Error()
}

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.Err }

// Rows are the rows of a file that are deleted, by their place in the file. Nil has none. It is not changed after it
// was made, and safe for concurrent use.
type Rows struct {
	bitmaps map[uint32]*roaring.Bitmap // by the upper half of a row's place
	n       int64
	last    int64 // the greatest place, -1 for none
}

// Has says whether the row at a place, from 0, is deleted.
func (r *Rows) Has(row int64) bool {
	if r == nil || row < 0 {
		return false
	}
	b := r.bitmaps[uint32(row>>32)]
	return b != nil && b.Contains(uint32(row))
}

// Len is how many rows are deleted.
func (r *Rows) Len() int64 {
	if r == nil {
		return 0
	}
	return r.n
}

// In says whether every row of r is one of the others, too.
func (r *Rows) In(others *Rows) bool {
	if r.Len() == 0 {
		return true
	}
	for upper, b := range r.bitmaps {
		if b.IsEmpty() {
			continue
		}
		if others == nil || others.bitmaps[upper] == nil || !roaring.AndNot(b, others.bitmaps[upper]).IsEmpty() {
			return false
		}
	}
	return true
}

// Fits returns an error if a row is deleted that a file of so many rows does not have.
func (r *Rows) Fits(rows int64) error {
	if r != nil && r.last >= rows {
		return fmt.Errorf("deletion vector: it hides row %d of a file of %d rows", r.last, rows)
	}
	return nil
}

// Sieve goes through the rows of one file in their order, and tells those that readers see from those that a vector
// hides.
type Sieve struct {
	hidden *Rows
	n      int64
}

// NewSieve begins before the first row of a file of which rows are hidden.
func NewSieve(hidden *Rows) *Sieve { return &Sieve{hidden: hidden} }

// Next goes to the next row, and says whether readers see it.
func (s *Sieve) Next() bool {
	s.n++
	return !s.hidden.Has(s.n - 1)
}

// N is how many rows were passed, hidden ones among them.
func (s *Sieve) N() int64 { return s.n }

// End returns an error if a row is hidden that has not come: the vector is another file's.
func (s *Sieve) End() error { return s.hidden.Fits(s.n) }

// Read reads a vector of a table, whose folder is given. A descriptor of nil gives nil. Damage is a *DamageError; an
// error of the store is returned unchanged, store.ErrNotFound among them.
func Read(ctx context.Context, s store.Store, table string, d *Descriptor) (*Rows, error) {
	if d == nil {
		return nil, nil
	}
	if err := d.Check(); err != nil {
		return nil, &DamageError{Err: err}
	}
	name, err := d.Key()
	if err != nil {
		return nil, err
	}
	key, data := "", []byte(nil)
	if name == "" {
		data, err = d.inline()
	} else {
		key = table + "/" + name
		data, err = d.stored(ctx, s, key)
	}
	if damage, ok := errors.AsType[*damageOf](err); ok {
		return nil, &DamageError{key, damage.error}
	}
	if err != nil {
		return nil, err
	}
	rows, err := decode(data, d.Cardinality)
	if err == nil && rows.n != d.Cardinality {
		err = fmt.Errorf("it hides %d rows, the log says %d", rows.n, d.Cardinality)
	}
	if err != nil {
		return nil, &DamageError{key, err}
	}
	return rows, nil
}

// damageOf marks an error that is about the bytes, and not the store's.
type damageOf struct{ error }

func damaged(format string, args ...any) error { return &damageOf{fmt.Errorf(format, args...)} }

// inline decodes a vector that stands in the log. The text is padded to whole groups.
func (d *Descriptor) inline() ([]byte, error) {
	b, err := decodeZ85(d.Path)
	if err != nil {
		return nil, &damageOf{err}
	}
	if n := len(b) - int(d.Size); n < 0 || n > 3 {
		return nil, damaged("%d bytes, the log says %d", len(b), d.Size)
	}
	return b[:d.Size], nil
}

const frame = 8 // size before a vector, checksum behind it

// stored reads a vector from its object.
func (d *Descriptor) stored(ctx context.Context, s store.Store, key string) ([]byte, error) {
	off := int64(0)
	if d.Offset != nil {
		off = int64(*d.Offset)
	}
	p := make([]byte, int(d.Size)+frame)
	r, err := s.GetRange(ctx, key, off, p)
	if errors.Is(err, store.ErrRange) {
		return nil, damaged("it ends before byte %d", off)
	}
	if err != nil {
		return nil, err
	}
	if r.N != len(p) {
		return nil, damaged("%d bytes at %d, the log says %d", r.N, off, len(p))
	}
	if n := binary.BigEndian.Uint32(p); n != uint32(d.Size) {
		return nil, damaged("%d bytes, the log says %d", n, d.Size)
	}
	b := p[4 : len(p)-4]
	if want, got := binary.BigEndian.Uint32(p[len(p)-4:]), crc32.ChecksumIEEE(b); want != got {
		return nil, damaged("its checksum is %08x, want %08x", got, want)
	}
	return b, nil
}

const magic = 1681511377

// decode reads a RoaringBitmapArray of at most so many rows: a few bytes can name billions. The library may panic on
// bytes that no checksum protects.
func decode(data []byte, most int64) (rows *Rows, err error) {
	defer func() {
		if p := recover(); p != nil {
			rows, err = nil, fmt.Errorf("decoder panicked: %v", p)
		}
	}()
	const head = 12
	if len(data) < head || binary.LittleEndian.Uint32(data) != magic {
		return nil, errors.New("it does not begin as a vector does")
	}
	n, rest := binary.LittleEndian.Uint64(data[4:]), data[head:]
	rows = &Rows{bitmaps: map[uint32]*roaring.Bitmap{}, last: -1}
	upper := int64(-1)
	for ; n > 0; n-- {
		if len(rest) < 4 {
			return nil, fmt.Errorf("%d bitmaps are missing", n)
		}
		key := binary.LittleEndian.Uint32(rest)
		if int64(key) <= upper || key > 1<<31-1 {
			return nil, fmt.Errorf("bitmap %d is not in its place", key)
		}
		upper = int64(key)
		b, r := roaring.New(), bytes.NewReader(rest[4:])
		if _, err := b.ReadFrom(r); err != nil {
			return nil, err
		}
		if err := b.Validate(); err != nil && !b.IsEmpty() {
			return nil, err
		}
		rest = rest[len(rest)-r.Len():]
		for it, last := b.Iterator(), int64(-1); it.HasNext(); rows.n++ {
			// What the library counts is what the bytes say of themselves.
			x := int64(it.Next())
			if rows.n == most {
				return nil, fmt.Errorf("it hides more than %d rows", most)
			}
			if x <= last {
				return nil, errors.New("its rows are not ascending")
			}
			if !b.Contains(uint32(x)) {
				return nil, fmt.Errorf("row %d is and is not in it", x)
			}
			last, rows.last = x, upper<<32|x
		}
		rows.bitmaps[key] = b
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes behind its end", len(rest))
	}
	return rows, nil
}
