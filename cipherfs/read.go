package cipherfs

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// reader is a file that was opened for reading, possibly while it is still being written. It may be a file without a
// header, where those are allowed: then it passes everything through.
type reader struct {
	fs   *FS
	f    vfs.File
	name string
	id   uint64 // of this handle: the cache goes by it

	mu    sync.Mutex
	s     *sealer // nil until the file has a header
	plain bool    // it has none, and is read as it is
	index index
	pos   int64 // of Read
	told  bool  // something of this file did not authenticate, and was logged
}

// begin reads the header if it is not known yet. Until there is a whole one, the file reads as empty.
func (r *reader) begin(size int64) error {
	if r.s != nil || r.plain || size == 0 {
		return nil
	}
	var b [headerBytes]byte
	n, err := r.f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	h, err := decodeHeader(b[:n])
	switch {
	case err == nil:
		k := r.fs.keys[h.key]
		if k == nil {
			return &KeyError{Needed: map[KeyID]string{h.key: r.name}, Given: r.fs.given()}
		}
		r.s, err = newSealer(h, k)
		return err
	case !errors.Is(err, errHeader):
		return fmt.Errorf("%s: %w", r.name, err)
	case r.fs.plain && !isSealed(b[:n]):
		r.plain = true
	case n == headerBytes:
		r.tell(0, size)
	}
	return nil
}

// look takes in what the file has by now. It is called with mu held.
func (r *reader) look() error {
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	if err := r.begin(info.Size()); err != nil || r.s == nil {
		return err
	}
	if r.index.end != 0 && r.index.end+minSealedChunk > info.Size() {
		return nil
	}
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	w := window{f: r.f, buf: x.look[:0], x: x}
	err = r.index.extend(r.s, &w, info.Size())
	x.look = w.buf
	return err
}

// find returns the piece that holds the plain byte at off, and where it ends. At the end of what is known it looks
// again, because the log reads files that grow. It returns io.EOF if there is no such byte.
func (r *reader) find(off int64) (s *sealer, at span, end int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off >= r.index.size {
		if err := r.look(); err != nil {
			return nil, at, 0, err
		}
		if off >= r.index.size {
			return nil, at, 0, io.EOF
		}
	}
	at, end = r.index.find(r.s, off)
	return r.s, at, end, nil
}

// passes tells whether the file has no header and is read as it is.
func (r *reader) passes() (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.s == nil && !r.plain {
		if err := r.look(); err != nil {
			return false, err
		}
	}
	return r.plain, nil
}

// ReadAt reads plain bytes. What does not authenticate reads as zeros: whoever owns the file knows by its own checksums
// that they are not what was written, and has to see what lies behind them.
func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	if plain, err := r.passes(); err != nil {
		return 0, err
	} else if plain {
		return r.f.ReadAt(p, off)
	}
	if off < 0 {
		return 0, fmt.Errorf("cipherfs: read %s at %d", r.name, off)
	}
	for n < len(p) {
		s, at, end, err := r.find(off + int64(n))
		if err != nil {
			return n, err
		}
		want := p[n:min(int64(len(p)), end-off)]
		if at.pos == 0 {
			clear(want)
			r.unauthentic(at.off, end)
		} else if err := r.chunk(s, want, off+int64(n), at, end); err != nil {
			return n, err
		}
		n += len(want)
	}
	return n, nil
}

// chunk reads p, the plain bytes from off on, out of the chunk that begins at at and ends at end.
func (r *reader) chunk(s *sealer, p []byte, off int64, at span, end int64) error {
	c := head{int(end - at.off), at.off}
	whole := len(p) == c.length
	if !whole && r.fs.cache.read(r.id, off-at.off, c, p) {
		return nil
	}
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	raw := x.room(int(sealedBytes(c.length)))
	n, err := r.f.ReadAt(raw, at.pos)
	if n < len(raw) && err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	to := raw[headBytes:headBytes]
	if whole {
		to = p[:0]
	}
	if n < len(raw) || !s.open(to, x, raw, c) {
		clear(p)
		r.unauthentic(at.off, end)
		return nil
	}
	if !whole {
		copy(p, raw[headBytes+off-at.off:])
		x.raw = r.fs.cache.put(r.id, c, raw)
	}
	return nil
}

// unauthentic counts bytes that read as zeros.
func (r *reader) unauthentic(from, to int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell(from, to)
}

func (r *reader) tell(from, to int64) {
	r.fs.unauthentic.Add(1)
	if !r.told {
		r.told = true
		r.fs.log.Error("what a file holds is not what was sealed, and reads as zeros", "file", r.name, "from", from,
			"to", to)
	}
}

// Read reads on from where the last Read has ended.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.mu.Lock()
	pos := r.pos
	r.mu.Unlock()
	n, err := r.ReadAt(p, pos)
	r.mu.Lock()
	r.pos = pos + int64(n)
	r.mu.Unlock()
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Stat tells the length of the plain file, as far as its chunks are known by now.
func (r *reader) Stat() (vfs.FileInfo, error) {
	info, err := r.f.Stat()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.look(); err != nil {
		return nil, err
	}
	if r.plain {
		return info, nil
	}
	return fileInfo{info, r.index.size}, nil
}

// Prefetch asks for the chunks of a piece of the plain file.
func (r *reader) Prefetch(offset, length int64) error {
	r.mu.Lock()
	plain, s := r.plain, r.s
	from, to := offset, offset+length
	if s != nil {
		if from >= r.index.size || length <= 0 {
			r.mu.Unlock()
			return nil
		}
		first, _ := r.index.find(s, from)
		last, end := r.index.find(s, min(to, r.index.size)-1)
		from, to = first.pos, last.pos+sealedBytes(int(end-last.off))
	}
	r.mu.Unlock()
	if !plain && (s == nil || from >= to) {
		return nil
	}
	return r.f.Prefetch(from, to-from)
}

// Close closes the file.
func (r *reader) Close() error { return r.f.Close() }

// Fd is invalid: what the descriptor would read is sealed. OpenOptions have been applied to the file below.
func (r *reader) Fd() uintptr { return vfs.InvalidFd }

func (r *reader) Write([]byte) (int, error)          { return 0, errNotWritable }
func (r *reader) WriteAt([]byte, int64) (int, error) { return 0, errNotWritable }
func (r *reader) Preallocate(int64, int64) error     { return errNotWritable }
func (r *reader) Sync() error                        { return r.f.Sync() }
func (r *reader) SyncData() error                    { return r.f.SyncData() }
func (r *reader) SyncTo(int64) (bool, error)         { return false, nil }

// cacheSlots bounds the memory of the cache: so many chunks.
const cacheSlots = 256

// cache keeps chunks that were opened, because whoever reads blocks one after the other comes back to a chunk. It is
// one for all files: there may be thousands of handles. A chunk has one place, and gives it up to the next one. Only
// what is authentic is kept, and that never changes.
type cache struct{ slots [cacheSlots]slot }

type slot struct {
	mu   sync.Mutex
	file uint64
	c    head
	raw  []byte // the chunk as in the file, with its plain bytes in place of the sealed ones
}

func (c *cache) slot(file uint64, off int64) *slot {
	h := (file*0x9E3779B97F4A7C15 ^ uint64(off)/minChunk) * 0x9E3779B97F4A7C15
	return &c.slots[h>>56%cacheSlots]
}

// read copies plain bytes of a chunk, from byte at on, into p, if it is there.
func (c *cache) read(file uint64, at int64, ch head, p []byte) bool {
	s := c.slot(file, ch.off)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw == nil || s.file != file || s.c != ch {
		return false
	}
	copy(p, s.raw[headBytes+at:headBytes+ch.length])
	return true
}

// put keeps a chunk, and returns memory in exchange for it.
func (c *cache) put(file uint64, ch head, raw []byte) (other []byte) {
	s := c.slot(file, ch.off)
	s.mu.Lock()
	defer s.mu.Unlock()
	other, s.file, s.c, s.raw = s.raw, file, ch, raw
	return other
}
