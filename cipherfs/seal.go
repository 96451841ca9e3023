package cipherfs

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// flushBytes is how many sealed bytes are gathered at most before they are written.
const flushBytes = 1 << 20

// sealer seals and opens the chunks of one file.
type sealer struct {
	header
	bound bound
	aead  cipher.AEAD
}

func newSealer(h header, k *Key) (*sealer, error) {
	aead, err := k.derive(h.salt[:], labelFile)
	if err != nil {
		return nil, err
	}
	s := &sealer{header: h, aead: aead}
	copy(s.bound[:], h.append(nil))
	return s, nil
}

// scratch is memory for one chunk on its way. What is given to a cipher.AEAD escapes, so it is kept and used again.
type scratch struct {
	raw   []byte // a chunk as it is in the file
	look  []byte // of a window
	nonce [12]byte
	extra [len(bound{}) + headBytes]byte // the additional data
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// room returns n bytes of memory for a chunk.
func (x *scratch) room(n int) []byte {
	if cap(x.raw) < n {
		x.raw = make([]byte, n)
	}
	return x.raw[:n]
}

// set fills in nonce and additional data of a chunk. The nonce is the chunk's offset in the plain file. No two chunks
// of a file begin at the same one, because a chunk has at least one byte, and each file has a key of its own.
func (s *sealer) set(x *scratch, c head) {
	clear(x.nonce[:4])
	binary.BigEndian.PutUint64(x.nonce[4:], uint64(c.off))
	c.append(append(x.extra[:0], s.bound[:]...))
}

// appendChunk appends a chunk to b.
func (s *sealer) appendChunk(b []byte, x *scratch, off int64, plain []byte) []byte {
	c := head{len(plain), off}
	s.set(x, c)
	b = s.aead.Seal(c.append(b), x.nonce[:], plain, x.extra[:])
	var zeros [8]byte
	return append(b, zeros[:int(sealedBytes(len(plain)))-headBytes-len(plain)-tagBytes]...)
}

// open opens the chunk that is all of raw, and appends what is in it to b, which may be raw[headBytes:headBytes]. It
// tells whether the chunk is authentic and is the one that begins at c.off and has c.length bytes; if not, what lies
// behind b is undefined.
func (s *sealer) open(b []byte, x *scratch, raw []byte, c head) bool {
	if got, ok := s.decodeHead(raw); !ok || got != c || int64(len(raw)) != sealedBytes(c.length) {
		return false
	}
	end := headBytes + c.length + tagBytes
	if !zero(raw[end:]) {
		return false
	}
	s.set(x, c)
	_, err := s.aead.Open(b, x.nonce[:], raw[headBytes:end], x.extra[:])
	return err == nil
}

// writer is a file that is being created: it seals what is written. Nothing is ever written to the file again once it
// is closed.
type writer struct {
	*sealer
	f    vfs.File
	name string

	mu    sync.Mutex
	plain []byte   // not sealed yet; less than a chunk
	out   []byte   // sealed, not written yet
	off   int64    // of the first byte of plain
	raw   int64    // bytes written to f
	x     *scratch // nil once it is closed
	err   error    // of the first write or sync that failed
}

// Write gathers p into chunks, and writes those that are full.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return 0, err
	}
	n := len(p)
	for len(p) > 0 {
		var full []byte
		if len(w.plain) > 0 || len(p) < w.chunk {
			more := min(w.chunk-len(w.plain), len(p))
			w.plain = append(w.plain, p[:more]...)
			if p = p[more:]; len(w.plain) < w.chunk {
				break
			}
			full = w.plain
		} else {
			full, p = p[:w.chunk], p[w.chunk:]
		}
		w.seal(full)
		w.plain = w.plain[:0]
		if len(w.out) >= flushBytes {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	return n, nil
}

// usable returns why nothing more can be written.
func (w *writer) usable() error {
	if w.err == nil && w.x == nil {
		return fmt.Errorf("cipherfs: write %s: the file is closed", w.name)
	}
	return w.err
}

func (w *writer) seal(plain []byte) {
	if w.raw == 0 && len(w.out) == 0 {
		w.out = w.append(w.out)
	}
	w.out = w.appendChunk(w.out, w.x, w.off, plain)
	w.off += int64(len(plain))
}

// flush writes what is sealed. What a failed write has left is unknown, so nothing may follow it.
func (w *writer) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	n, err := w.f.Write(w.out)
	w.raw += int64(n)
	w.out = w.out[:0]
	return w.fails(err)
}

func (w *writer) fails(err error) error {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("cipherfs: an earlier write or sync of %s has failed: %w", w.name, err)
	}
	return err
}

// settle seals and writes all that was given to Write: the next byte begins a chunk of its own. So a byte that was
// synced is in no chunk that is written later.
func (w *writer) settle() error {
	if err := w.usable(); err != nil {
		return err
	}
	if len(w.plain) > 0 {
		w.seal(w.plain)
		w.plain = w.plain[:0]
	}
	return w.flush()
}

// Sync makes everything that was written durable.
func (w *writer) Sync() error { return w.sync(w.f.Sync) }

// SyncData is Sync without the file's times.
func (w *writer) SyncData() error { return w.sync(w.f.SyncData) }

func (w *writer) sync(below func() error) error {
	w.mu.Lock()
	err := w.settle()
	w.mu.Unlock()
	if err != nil {
		return err
	}
	err = below() // without the lock: it takes as long as the disk does
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fails(err)
}

// SyncTo hands down a hint. It ends no chunk, so it promises nothing.
func (w *writer) SyncTo(length int64) (fullSync bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return false, err
	}
	_, err = w.f.SyncTo(min(headerBytes+length/int64(w.chunk)*w.stride(), w.raw))
	return false, w.fails(err)
}

// Close seals and writes the rest, and closes the file. A file to which nothing was written stays empty.
func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.x == nil {
		return w.f.Close()
	}
	var err error
	if w.err == nil {
		err = w.settle()
	}
	scratches.Put(w.x)
	w.x, w.plain, w.out = nil, nil, nil
	return errors.Join(err, w.f.Close())
}

// Stat tells the length of what was written.
func (w *writer) Stat() (vfs.FileInfo, error) {
	info, err := w.f.Stat()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return fileInfo{info, w.off + int64(len(w.plain))}, nil
}

// Fd is the descriptor of the file below. Pebble asks for it to learn whether SyncTo is worth a call: without one it
// would sync, and end a chunk, every 512 KiB. Whoever wrote to it would write plain bytes.
func (w *writer) Fd() uintptr { return w.f.Fd() }

func (w *writer) Read([]byte) (int, error)           { return 0, errNotReadable }
func (w *writer) ReadAt([]byte, int64) (int, error)  { return 0, errNotReadable }
func (w *writer) WriteAt([]byte, int64) (int, error) { return 0, errRewrite }
func (w *writer) Preallocate(int64, int64) error     { return nil }
func (w *writer) Prefetch(int64, int64) error        { return nil }

// fileInfo tells the length of a plain file.
type fileInfo struct {
	vfs.FileInfo
	size int64
}

func (i fileInfo) Size() int64 { return i.size }
