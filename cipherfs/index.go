package cipherfs

import (
	"encoding/binary"
	"errors"
	"io"
	"sort"
)

// lookBytes is how much is read of a file at once while its heads are looked for.
const lookBytes = 4 << 10

// span is a piece of the plain file that begins at off: one chunk, at pos in the file, or, with pos = 0, bytes that
// cannot be told, which read as zeros.
type span struct{ off, pos int64 }

// index knows where the chunks of a file are. It only grows, except that the chunk before a place where none begins is
// taken back if it does not open.
type index struct {
	full int64  // so many full chunks are at the beginning, one behind the other
	rest []span // what follows them, in order
	size int64  // plain bytes that are known
	end  int64  // where the next chunk begins, if there is one
}

// find returns the piece that holds the plain byte at off, and where it ends. off must be less than size.
func (x *index) find(s *sealer, off int64) (at span, end int64) {
	if i := off / int64(s.chunk); i < x.full {
		return span{i * int64(s.chunk), headerBytes + i*s.stride()}, (i + 1) * int64(s.chunk)
	}
	i := sort.Search(len(x.rest), func(i int) bool { return x.rest[i].off > off })
	if end = x.size; i < len(x.rest) {
		end = x.rest[i].off
	}
	return x.rest[i-1], end
}

func (x *index) add(s *sealer, c head, pos int64) {
	if c.length == s.chunk && len(x.rest) == 0 && pos == headerBytes+x.full*s.stride() {
		x.full++
	} else {
		x.rest = append(x.rest, span{c.off, pos})
	}
	x.size, x.end = c.off+int64(c.length), pos+sealedBytes(c.length)
}

// last returns the last piece, and takes it back if drop is true; ok is false if there is none.
func (x *index) last(s *sealer, drop bool) (at span, ok bool) {
	switch n := len(x.rest); {
	case n > 0:
		at = x.rest[n-1]
		if drop {
			x.rest = x.rest[:n-1]
		}
	case x.full > 0:
		at, _ = x.find(s, (x.full-1)*int64(s.chunk))
		if drop {
			x.full--
		}
	default:
		return at, false
	}
	if drop {
		x.size, x.end = at.off, at.pos
	}
	return at, true
}

// extend takes in the chunks between what is known and the end of a file of so many bytes.
func (x *index) extend(s *sealer, f *window, size int64) error {
	if x.end == 0 {
		x.end = headerBytes
		if err := x.leap(s, f, size); err != nil {
			return err
		}
	}
	for x.end+minSealedChunk <= size {
		c, ok, err := f.head(s, x.end)
		if err != nil {
			return err
		}
		if ok && c.off == x.size && x.end+sealedBytes(c.length) <= size {
			x.add(s, c, x.end)
			continue
		}
		found, err := x.search(s, f, size)
		if err != nil || !found {
			return err
		}
	}
	return nil
}

// leap finds out whether the file begins with full chunks only, by a look at where the last one must be. With k chunks
// between the header and k strides behind it, and 16,384 k plain bytes in them, none can be shorter, because each has
// 32 bytes besides.
func (x *index) leap(s *sealer, f *window, size int64) error {
	k := (size - headerBytes) / s.stride()
	if (size-headerBytes)%s.stride() == 0 {
		k--
	}
	if k <= 0 {
		return nil
	}
	c, ok, err := f.head(s, headerBytes+k*s.stride())
	if err == nil && ok && c.off == k*int64(s.chunk) {
		x.full, x.size, x.end = k, c.off, headerBytes+k*s.stride()
	}
	return err
}

// search is called where no chunk begins: either the bytes here are not what was written, or the length in the head
// before them is not. It looks for the next chunk that opens, and makes a gap of what lies before it.
func (x *index) search(s *sealer, f *window, size int64) (found bool, err error) {
	from, least, taken := x.end, x.size, false // where to look, and the least offset that a chunk there may have
	if at, ok := x.last(s, false); ok && at.pos != 0 {
		whole, err := f.opens(s, head{int(x.size - at.off), at.off}, at.pos)
		if err != nil {
			return false, err
		}
		if !whole {
			from, least, taken = at.pos+8, at.off+1, true
		}
	}
	for pos := from; pos+minSealedChunk <= size; pos += 8 {
		c, ok, err := f.head(s, pos)
		if err != nil {
			return false, err
		}
		if !ok || c.off < least || pos+sealedBytes(c.length) > size {
			continue
		}
		if ok, err := f.opens(s, c, pos); err != nil {
			return false, err
		} else if !ok {
			continue
		}
		if taken {
			x.last(s, true)
		}
		if c.off > x.size {
			x.rest = append(x.rest, span{off: x.size})
		}
		x.add(s, c, pos)
		return true, nil
	}
	return false, nil
}

// window reads the file below in pieces, for those who look at few bytes each at ever greater places.
type window struct {
	f   io.ReaderAt
	pos int64
	buf []byte
	x   *scratch
}

// at returns n bytes at pos; fewer at the end of the file.
func (w *window) at(pos int64, n int) ([]byte, error) {
	if pos < w.pos || pos+int64(n) > w.pos+int64(len(w.buf)) {
		w.pos, w.buf = pos, w.buf[:cap(w.buf)]
		if len(w.buf) < lookBytes {
			w.buf = make([]byte, lookBytes)
		}
		got, err := w.f.ReadAt(w.buf, pos)
		if w.buf = w.buf[:got]; err != nil && !errors.Is(err, io.EOF) {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	b := w.buf[pos-w.pos:]
	return b[:min(n, len(b))], nil
}

// head reads the head of the chunk at pos, if one can begin there.
func (w *window) head(s *sealer, pos int64) (c head, ok bool, err error) {
	b, err := w.at(pos, headBytes)
	if err != nil || len(b) < headBytes || binary.LittleEndian.Uint32(b) != mark {
		return head{}, false, err
	}
	c, ok = s.decodeHead(b)
	return c, ok, nil
}

// opens tells whether the chunk at pos is authentic.
func (w *window) opens(s *sealer, c head, pos int64) (bool, error) {
	raw := w.x.room(int(sealedBytes(c.length)))
	n, err := w.f.ReadAt(raw, pos)
	if n < len(raw) {
		if err == nil || errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	return s.open(raw[headBytes:headBytes], w.x, raw, c), nil
}
