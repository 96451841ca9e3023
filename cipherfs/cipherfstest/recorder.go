// Package cipherfstest has what tests of the layer's users need: keys, and a file system that watches for nonces. It
// reads the format in its own words.
package cipherfstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/cipherfs"
)

// Key returns a key that depends on n only. It is no secret.
func Key(n byte) *cipherfs.Key {
	k, err := cipherfs.ParseKey([]byte("deckle-key-1:" +
		base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{n}, 32)) + "\n"))
	if err != nil {
		panic(err) // cannot happen: it is as a key file has to be
	}
	return k
}

// Sealed returns a layer over fs with key 1, whose files r watches if it is not nil.
func Sealed(fs vfs.FS, r *Recorder) *cipherfs.FS {
	if r != nil {
		fs = r.Watch(fs)
	}
	l, err := cipherfs.New(cipherfs.Options{FS: fs, Keys: []*cipherfs.Key{Key(1)}})
	if err != nil {
		panic(err) // cannot happen: there is a key
	}
	return l
}

var enabled = flag.Bool("cipher", false, "run the tests over encryption at rest")

// Enabled tells whether tests are to run over a layer: the flag -cipher.
func Enabled() bool { return *enabled }

// Over returns fs, or a layer over it with -cipher. It reads plain files, too, since tests put some there.
func Over(fs vfs.FS) vfs.FS {
	if !Enabled() {
		return fs
	}
	l, err := cipherfs.New(cipherfs.Options{FS: fs, Keys: []*cipherfs.Key{Key(1)}, Plain: true})
	if err != nil {
		panic(err) // cannot happen: there is a key
	}
	return l
}

// Recorder notes every chunk that is written through the file systems it watches. It finds nonces that come twice under
// a key with other bytes, and chunks that lie over each other.
type Recorder struct {
	mu     sync.Mutex
	chunks map[place][sha256.Size]byte
	errs   []string
}

// place is what may come once: the key of a file follows from id and salt, the nonce is the offset.
type place struct {
	id   [16]byte
	salt [32]byte
	off  uint64
}

// Check fails the test if something came twice, or if nothing was sealed at all.
func (r *Recorder) Check(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.errs {
		t.Error(e)
	}
	if len(r.chunks) == 0 {
		t.Error("nothing was sealed")
	}
}

// Watch returns fs, watched.
func (r *Recorder) Watch(fs vfs.FS) vfs.FS { return watched{fs, r} }

type watched struct {
	vfs.FS
	r *Recorder
}

func (w watched) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &file{File: f, r: w.r, name: name}, nil
}

func (w watched) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	panic("opened for writing again: " + name)
}

func (w watched) ReuseForWrite(_, name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	panic("used again for writing: " + name)
}

type file struct {
	vfs.File
	r    *Recorder
	name string
	at   place
	head bool
	next uint64 // where the next chunk must begin at the earliest
	buf  []byte
}

func (f *file) Write(p []byte) (int, error) {
	f.r.note(f, p)
	return f.File.Write(p)
}

func (f *file) WriteAt([]byte, int64) (int, error) { panic("written within: " + f.name) }

func (r *Recorder) note(f *file, p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.chunks == nil {
		r.chunks = map[place][sha256.Size]byte{}
	}
	f.buf = append(f.buf, p...)
	if !f.head {
		if len(f.buf) < 96 || string(f.buf[:8]) != "DKLCRYPT" {
			r.errs = append(r.errs, f.name+": a write that begins with no header")
			return
		}
		copy(f.at.id[:], f.buf[16:])
		copy(f.at.salt[:], f.buf[32:])
		f.head, f.buf = true, f.buf[96:]
	}
	for len(f.buf) >= 16 {
		length := int(binary.LittleEndian.Uint32(f.buf[4:]))
		end := (16 + length + 16 + 7) / 8 * 8
		if string(f.buf[:4]) != "CHNK" || length == 0 || end > len(f.buf) {
			r.errs = append(r.errs, f.name+": a write that is no row of whole chunks")
			return
		}
		f.at.off = binary.LittleEndian.Uint64(f.buf[8:])
		sum := sha256.Sum256(f.buf[:end])
		if was, ok := r.chunks[f.at]; ok && was != sum {
			r.errs = append(r.errs, fmt.Sprintf("%s: nonce %d came twice under the salt %x", f.name, f.at.off,
				f.at.salt))
		}
		if f.at.off != f.next {
			r.errs = append(r.errs, fmt.Sprintf("%s: a chunk at %d, expected at %d", f.name, f.at.off, f.next))
		}
		r.chunks[f.at] = sum
		f.next = f.at.off + uint64(length)
		f.buf = f.buf[end:]
	}
}
