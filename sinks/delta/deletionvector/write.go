package deletionvector

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/google/uuid"
)

// With returns the rows with more of them, by their places from 0. What is there already stays; r is not changed.
func (r *Rows) With(places ...int64) *Rows {
	out := &Rows{bitmaps: map[uint32]*roaring.Bitmap{}, last: -1}
	if r != nil {
		for upper, b := range r.bitmaps {
			out.bitmaps[upper] = b.Clone()
		}
		out.n, out.last = r.n, r.last
	}
	for _, place := range places {
		b := out.bitmaps[uint32(place>>32)]
		if b == nil {
			b = roaring.New()
			out.bitmaps[uint32(place>>32)] = b
		}
		if b.CheckedAdd(uint32(place)) {
			out.n, out.last = out.n+1, max(out.last, place)
		}
	}
	return out
}

// encode returns the bytes that decode reads.
func (r *Rows) encode() ([]byte, error) {
	out := binary.LittleEndian.AppendUint32(nil, magic)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(r.bitmaps)))
	for _, upper := range slices.Sorted(maps.Keys(r.bitmaps)) {
		b := r.bitmaps[upper].Clone()
		b.RunOptimize()
		data, err := b.ToBytes()
		if err != nil {
			return nil, fmt.Errorf("deletion vector: %w", err)
		}
		out = append(binary.LittleEndian.AppendUint32(out, upper), data...)
	}
	if len(out) > MaxSize {
		return nil, fmt.Errorf("deletion vector: %d bytes, more than %d", len(out), MaxSize)
	}
	return out, nil
}

// Object is an object with vectors, which are added one after the other before it is put. Its name must be used once.
type Object struct {
	path string
	key  string
	data []byte
}

// NewObject begins an object that is named by an id.
func NewObject(id uuid.UUID) *Object {
	o := &Object{path: encodeZ85(id[:]), data: []byte{1}}
	o.key = "deletion_vector_" + id.String() + ".bin"
	return o
}

// Key is the object's key below the table's folder, and Data what is to be put there.
func (o *Object) Key() string  { return o.key }
func (o *Object) Data() []byte { return o.data }

// Add appends a vector and returns its descriptor.
func (o *Object) Add(r *Rows) (*Descriptor, error) {
	b, err := r.encode()
	if err != nil {
		return nil, err
	}
	if len(o.data) > math.MaxInt32-len(b)-frame {
		return nil, fmt.Errorf("deletion vector: an object of %d bytes", len(o.data))
	}
	at := int32(len(o.data))
	o.data = binary.BigEndian.AppendUint32(o.data, uint32(len(b)))
	o.data = append(o.data, b...)
	o.data = binary.BigEndian.AppendUint32(o.data, crc32.ChecksumIEEE(b))
	return &Descriptor{StorageType: "u", Path: o.path, Offset: &at, Size: int32(len(b)), Cardinality: r.n}, nil
}

// encodeZ85 encodes whole groups of four bytes.
func encodeZ85(b []byte) string {
	out := make([]byte, 0, len(b)/4*5)
	for ; len(b) > 0; b = b[4:] {
		n := binary.BigEndian.Uint32(b)
		for power := uint32(85 * 85 * 85 * 85); power > 0; power /= 85 {
			out = append(out, z85[n/power%85])
		}
	}
	return string(out)
}
