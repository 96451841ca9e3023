package cipherfs

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzOps does random operations on a sealed file and on a plain one beside it. What was synced must be there; what was
// not may be missing at the end, and nothing else may be there.
func FuzzOps(f *testing.F) {
	f.Add([]byte{0, 10, 1, 0, 200, 4, 9, 9, 2, 0, 255, 255, 5, 3, 0, 64, 1, 4, 0, 80, 6, 0, 63, 1})
	f.Add([]byte{0, 64, 0, 64, 0, 64, 1, 4, 64, 64, 0, 1, 1, 5, 7, 0, 128, 4, 0, 255})
	f.Fuzz(func(t *testing.T, ops []byte) {
		mem := vfs.NewMem()
		l := layer(t, mem)
		w, err := l.Create("f", vfs.WriteCategoryUnspecified)
		check(t, err)
		r, err := l.Open("f")
		check(t, err)
		var all []byte
		synced := 0
		next := func() int {
			if len(ops) == 0 {
				return 0
			}
			b := ops[0]
			ops = ops[1:]
			return int(b)
		}
		look := func(f vfs.File) {
			off := next() * 3 % (len(all) + 1)
			got := make([]byte, next()*2)
			n, err := f.ReadAt(got, int64(off))
			if err != nil && !errors.Is(err, io.EOF) || err == nil && n != len(got) {
				t.Fatalf("%d bytes of %d, %v", n, len(got), err)
			}
			if n < min(len(got), synced-off) || !bytes.Equal(got[:n], all[off:off+n]) {
				t.Fatalf("%d bytes at %d, %d are synced", n, off, synced)
			}
		}
		for rng := newRand(8); len(ops) > 0; {
			switch next() % 8 {
			case 0, 1: // write
				p := random(rng, next())
				_, err := w.Write(bytes.Clone(p))
				check(t, err)
				all = append(all, p...)
			case 2:
				p := random(rng, next()*17)
				_, err := w.Write(bytes.Clone(p))
				check(t, err)
				all = append(all, p...)
			case 3:
				check(t, w.Sync())
				synced = len(all)
			case 4: // by the handle that was there first
				look(r)
			case 5: // by a new one
				n, err := l.Open("f")
				check(t, err)
				look(n)
				check(t, n.Close())
			case 6:
				_, err := w.SyncTo(int64(next()))
				check(t, err)
			case 7:
				info, err := l.Stat("f")
				check(t, err)
				if n := int(info.Size()); n < synced || n > len(all) {
					t.Fatalf("size %d, %d are synced of %d", n, synced, len(all))
				}
			}
		}
		check(t, w.Close())
		if got := get(t, l, "f"); !bytes.Equal(got, all) {
			t.Fatalf("%d bytes at the end, want %d", len(got), len(all))
		}
		check(t, r.Close())
	})
}

// FuzzFile gives a layer any bytes as a file, and a sealed file that was changed. However it is read, it ends, without
// a panic, and shows only bytes that were sealed there, or zeros.
func FuzzFile(f *testing.F) {
	mem := vfs.NewMem()
	l, err := New(Options{FS: mem, Keys: []*Key{testKey(1)}, chunk: minChunk,
		rand: bytes.NewReader(bytes.Repeat([]byte{3}, saltBytes))})
	check(f, err)
	parts, all := pieces()
	put(f, l, "f", parts...)
	sealed := get(f, mem, "f")
	f.Add([]byte{})
	f.Add(sealed)
	f.Add(sealed[:headerBytes])
	f.Add(sealed[:len(sealed)-5])
	f.Add(append(bytes.Clone(sealed[:headerBytes]), sealed[headerBytes+40:]...))
	f.Add(append(bytes.Clone(sealed), sealed[headerBytes:]...))
	f.Add([]byte("{\"Format\":1}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := vfs.NewMem()
		l := layer(t, mem)
		raw(t, mem, "f", b)
		// Any bytes, and the same ones behind a good header and laid over a good file.
		for range 3 {
			got, err := read(l, "f")
			if err != nil {
				if errors.Is(err, ErrVersion) || errors.Is(err, ErrKey) {
					return
				}
				t.Fatal(err)
			}
			// A chunk that was copied elsewhere is no chunk, and those of another file do not come in by chance.
			judge(t, "any bytes", got, all)
			info, err := l.Stat("f")
			check(t, err)
			if int(info.Size()) != len(got) {
				t.Fatalf("size %d, %d bytes were read", info.Size(), len(got))
			}
			r, err := l.Open("f")
			check(t, err)
			for off := 0; off < len(got); off += 29 {
				p := make([]byte, 31)
				n, _ := r.ReadAt(p, int64(off))
				if n != min(31, len(got)-off) || !bytes.Equal(p[:n], got[off:off+n]) {
					t.Fatalf("%d other bytes at %d", n, off)
				}
			}
			check(t, r.Prefetch(0, int64(len(b))))
			check(t, r.Close())
			over := bytes.Clone(sealed)
			at := headerBytes + len(b)%len(sealed)
			copy(over[min(at, len(over)):], b)
			raw(t, mem, "f", over)
			b = append(bytes.Clone(sealed[:headerBytes]), b...)
		}
	})
}

// FuzzHeader: what decodeHeader takes, it would write the same.
func FuzzHeader(f *testing.F) {
	f.Add((&header{chunk: defaultChunk}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err == nil && !bytes.Equal(h.append(nil), b[:headerBytes]) {
			t.Errorf("%x is not %x", h.append(nil), b[:headerBytes])
		}
	})
}

// FuzzProof: any bytes as the file encryption and as a key file.
func FuzzProof(f *testing.F) {
	e, err := testKey(1).prove()
	check(f, err)
	b, err := encodeProof(&proof{Format: 1, Keys: []proofKey{e}})
	check(f, err)
	f.Add(b)
	f.Add([]byte("{}\n"))
	f.Add(NewKeyFile())
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ParseKey(b); err == nil && len(b) > 43+len(keyPrefix)+2 {
			t.Errorf("a key of %d bytes", len(b))
		}
		p, err := decodeProof(b)
		if err != nil {
			return
		}
		for _, e := range p.Keys {
			if _, err := testKey(1).opens(e); err != nil {
				t.Error(err)
			}
		}
		if _, err := encodeProof(p); err != nil {
			t.Error(err)
		}
	})
}
