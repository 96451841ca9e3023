package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// segmentBytes is the size of a session's encoded events at which they leave its image as a segment.
const segmentBytes = 64 << 10

// maxKept is the greatest buffer that is kept for the next session.
const maxKept = 1 << 20

// segment is a piece of a session's events that has left the image. It ends with the event with which the events in the
// image reach segmentBytes, so it depends on what was appended alone. It never changes: a checkpoint writes it once,
// under a key of its own, and every later image of the session names it.
type segment struct {
	size int    // bytes
	hash uint64 // XXH64 of the bytes; images hold it, so that the checksum of an epoch covers them
	data []byte // until a checkpoint has written it; nil from then on
}

// segments are the pieces of one session, in the order of arrival.
type segments []segment

// seal appends a segment, which takes over the memory of data.
func (g segments) seal(data []byte) segments {
	return append(g, segment{size: len(data), hash: xxhash.Sum64(data), data: slices.Clip(data)})
}

// unwritten is the number of bytes that no checkpoint has written yet.
func (g segments) unwritten() (n int) {
	for i := range g {
		n += len(g[i].data)
	}
	return n
}

// write writes what no checkpoint has written yet. prefix is the beginning of the keys (appendSegments).
func (g segments) write(b *pebble.Batch, prefix []byte) error {
	for i := range g {
		if g[i].data == nil {
			continue
		}
		// gofail: var bugSegmentUnwritten struct{}
		// if i%2 == 0 {
		// 	continue
		// }
		if err := b.Set(appendSegment(prefix, i), g[i].data, nil); err != nil {
			return err
		}
	}
	return nil
}

// letGo frees the memory of the segments that a checkpoint has written, and says whether there was any.
func (g segments) letGo() (any bool) {
	for i := len(g) - 1; i >= 0 && g[i].data != nil; i-- {
		g[i].data, any = nil, true
	}
	return any
}

// read appends the bytes of all segments to dst. prefix is the beginning of the keys (appendSegments).
func (g segments) read(dst []byte, r pebble.Reader, prefix []byte) ([]byte, error) {
	for i := range g {
		if g[i].data != nil {
			dst = append(dst, g[i].data...)
			continue
		}
		v, closer, err := r.Get(appendSegment(prefix, i))
		if errors.Is(err, pebble.ErrNotFound) {
			return nil, fmt.Errorf("%w: segment %d under %x is missing", ErrCorrupt, i, prefix)
		}
		if err != nil {
			return nil, fmt.Errorf("state: reading segment %d under %x: %w", i, prefix, err)
		}
		if len(v) != g[i].size || xxhash.Sum64(v) != g[i].hash {
			err = fmt.Errorf("%w: segment %d under %x is not the one that its image names", ErrCorrupt, i, prefix)
		}
		dst = append(dst, v...)
		if err := errors.Join(err, closer.Close()); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// encode appends what an image holds of its segments: their number, and the size and the hash of each.
func (g segments) encode(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(g)))
	for i := range g {
		dst = binary.AppendUvarint(dst, uint64(g[i].size))
		dst = binary.LittleEndian.AppendUint64(dst, g[i].hash)
	}
	return dst
}

// segments reads what an image holds of its segments, and the sum of their sizes. keep is memory that it may use.
func (d *decoder) segments(keep segments) (g segments, size int64) {
	g = keep[:0]
	for range d.length(9) {
		n, hash := d.uvarint(), d.bytes(8)
		if n == 0 || n > math.MaxInt32 {
			d.fail("size of a segment")
		}
		if d.err != nil {
			return nil, 0
		}
		g = append(g, segment{size: int(n), hash: binary.LittleEndian.Uint64(hash)})
		size += int64(n)
	}
	return g, size
}

// appendSegments appends the beginning of the keys of a session's segments.
func appendSegments(dst []byte, sid string, origin Position) []byte {
	return appendRowKey(append(dst, prefixSegment), sid, origin)
}

// appendSegment appends the number of a segment to the beginning of its key. It does not change prefix.
func appendSegment(prefix []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(slices.Clip(prefix), uint32(n))
}

// afterSegments is the first key after those of a session's segments.
func afterSegments(prefix []byte) []byte { return appendSegment(prefix, math.MaxUint32) }
