package cipherfs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var rewriteGolden = flag.Bool("rewrite", false, "write testdata anew")

// TestGolden: a file with a known key and salt has the bytes that it has always had, or no released file could be read.
func TestGolden(t *testing.T) {
	mem := vfs.NewMem()
	l := layer(t, mem, func(o *Options) { o.chunk, o.rand = 0, bytes.NewReader(bytes.Repeat([]byte{9}, saltBytes)) })
	put(t, l, "f", []byte("a first piece, synced"), []byte("and a second one"))
	got := hex.Dump(get(t, mem, "f"))
	const path = "testdata/sealed-1.hex"
	if *rewriteGolden {
		check(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	check(t, err)
	if got != string(want) {
		t.Errorf("the bytes of a sealed file are\n%s\nwant\n%s", got, want)
	}
	if id := testKey(1).ID().String(); id != "9651f1b4c74a4bca65136f9de2a1bed9" {
		t.Errorf("the id of the key is %s", id)
	}
}

// pieces are written with a sync behind each: two full chunks and a short one, a piece shorter than a chunk, one of
// several chunks that fills them, and the rest.
func pieces() (parts [][]byte, all []byte) {
	rng := newRand(1)
	for _, n := range []int{2*minChunk + 7, 5, 3 * minChunk, 20} {
		p := random(rng, n)
		parts, all = append(parts, p), append(all, p...)
	}
	return parts, all
}

// TestEveryBit: whichever bit of a file flips, a reader sees what was written or zeros, the zeros are those of one
// chunk, and everything behind it is there. A header that is not whole makes the file empty.
func TestEveryBit(t *testing.T) {
	mem := vfs.NewMem()
	l := layer(t, mem)
	parts, all := pieces()
	put(t, l, "f", parts...)
	sealed := get(t, mem, "f")
	for bit := range len(sealed) * 8 {
		b := bytes.Clone(sealed)
		b[bit/8] ^= 1 << (bit % 8)
		raw(t, mem, "f", b)
		got := get(t, l, "f")
		zeros := judge(t, fmt.Sprintf("bit %d", bit), got, all)
		got = got[:min(len(got), len(all))]
		switch {
		case bit < 8*headerBytes:
			if len(got) != 0 {
				t.Fatalf("bit %d of the header: %d bytes are read", bit, len(got))
			}
		case zeros+len(all)-len(got) == 0:
			t.Fatalf("bit %d: nobody has noticed", bit)
		case zeros+len(all)-len(got) > minChunk:
			t.Fatalf("bit %d: %d bytes are zeros, %d of %d are there", bit, zeros, len(got), len(all))
		case len(got) < len(all)-20:
			t.Fatalf("bit %d: only %d of %d bytes are there", bit, len(got), len(all))
		}
	}
	if l.Unauthentic() == 0 {
		t.Error("nothing was counted")
	}
}

// TestEveryCut: a file that was cut anywhere reads up to the last whole chunk, as does one whose tail is zeros.
func TestEveryCut(t *testing.T) {
	mem := vfs.NewMem()
	l := layer(t, mem)
	parts, all := pieces()
	put(t, l, "f", parts...)
	sealed := get(t, mem, "f")
	ends := map[int]int{} // of chunks in the file, and plain
	for pos, n := headerBytes, 0; pos < len(sealed); {
		h := header{chunk: minChunk}
		c, ok := h.decodeHead(sealed[pos:])
		if !ok {
			t.Fatal("no head at", pos)
		}
		pos, n = pos+int(sealedBytes(c.length)), n+c.length
		ends[pos] = n
	}
	want := 0
	for cut := range len(sealed) + 1 {
		want = max(want, ends[cut])
		raw(t, mem, "f", sealed[:cut])
		if got := get(t, l, "f"); !bytes.Equal(got, all[:want]) {
			t.Fatalf("cut at %d: read %d bytes, want %d", cut, len(got), want)
		}
		zeroed := append(bytes.Clone(sealed[:cut]), make([]byte, len(sealed)-cut)...)
		raw(t, mem, "f", zeroed)
		judge(t, fmt.Sprintf("zeros from %d on", cut), get(t, l, "f"), all)
	}
}

// TestMoved: a chunk is authentic in its place only: neither another chunk of the file, nor the same chunk of another
// file with the same bytes, nor one behind another header.
func TestMoved(t *testing.T) {
	mem := vfs.NewMem()
	l := layer(t, mem)
	all := random(newRand(2), 4*minChunk)
	put(t, l, "f", all)
	put(t, l, "g", all)
	f, g := get(t, mem, "f"), get(t, mem, "g")
	stride := int((&header{chunk: minChunk}).stride())
	at := func(b []byte, i int) []byte { return b[headerBytes+i*stride : headerBytes+(i+1)*stride] }
	for _, c := range []struct {
		what string
		do   func(b []byte)
		lost int // chunks
	}{
		{"swapped within", func(b []byte) { copy(at(b, 1), at(f, 2)); copy(at(b, 2), at(f, 1)) }, 2},
		{"from another file", func(b []byte) { copy(at(b, 1), at(g, 1)) }, 1},
		{"behind another header", func(b []byte) { copy(b[:headerBytes], g[:headerBytes]) }, 4},
		{"with the other's head", func(b []byte) { copy(at(b, 1), at(f, 2)); copy(at(b, 1), at(f, 1)[:16]) }, 1},
	} {
		b := bytes.Clone(f)
		c.do(b)
		raw(t, mem, "f", b)
		got := get(t, l, "f")
		if zeros := judge(t, c.what, got, all); zeros+len(all)-len(got) != c.lost*minChunk {
			t.Errorf("%s: %d bytes are zeros of %d, want %d chunks of %d", c.what, zeros, len(got), c.lost, minChunk)
		}
	}
}

// TestLeap: a table is found by arithmetic, with no memory per chunk; a file with a short chunk anywhere is not, even
// if its length is a multiple of full chunks.
func TestLeap(t *testing.T) {
	mem := vfs.NewMem()
	l := layer(t, mem)
	rng := newRand(3)
	known := func(name string) index {
		f, err := l.Open(name)
		check(t, err)
		defer f.Close()
		_, err = f.Stat()
		check(t, err)
		return f.(*reader).index
	}
	for n := range 4 * minChunk {
		all := random(rng, n+1)
		put(t, l, "table", all)
		if x := known("table"); x.full != int64(len(all)/minChunk) || len(x.rest) > 1 || x.size != int64(len(all)) {
			t.Fatalf("%d bytes: %+v", len(all), x)
		}
	}
	// Chunks of 8 and 24 bytes take as much as one of 64: their file ends where one of full chunks could.
	for _, lengths := range [][]int{{8, 24}, {64, 8, 24}, {8, 24, 64}, {64, 8, 24, 64, 64}, {8, 24, 8, 24, 10}} {
		var parts [][]byte
		var all []byte
		for _, n := range lengths {
			p := random(rng, n)
			parts, all = append(parts, p), append(all, p...)
		}
		put(t, l, "log", parts...)
		if got := get(t, l, "log"); !bytes.Equal(got, all) {
			t.Errorf("chunks of %v: read %d bytes of %d: %+v", lengths, len(got), len(all), known("log"))
		}
	}
}

// TestGrowing: a handle that was opened before there was anything sees what was synced since, and never more than was
// written. The log opens its segments so.
func TestGrowing(t *testing.T) {
	mem := vfs.NewMem()
	l := layer(t, mem)
	rng := newRand(4)
	w, err := l.Create("f", vfs.WriteCategoryUnspecified)
	check(t, err)
	r, err := l.Open("f")
	check(t, err)
	var all []byte
	for range 300 {
		p := random(rng, rng.IntN(3*minChunk))
		_, err := w.Write(bytes.Clone(p))
		check(t, err)
		all = append(all, p...)
		if rng.IntN(2) == 0 {
			check(t, w.SyncData())
			info, err := r.Stat()
			check(t, err)
			if info.Size() != int64(len(all)) {
				t.Fatalf("after a sync the file has %d bytes, %d were written", info.Size(), len(all))
			}
		}
		if info, err := w.Stat(); err != nil || info.Size() != int64(len(all)) {
			t.Fatalf("the writer says %d bytes, %d were written (%v)", info.Size(), len(all), err)
		}
		off := rng.IntN(len(all) + 1)
		got := make([]byte, rng.IntN(3*minChunk))
		n, _ := r.ReadAt(got, int64(off))
		if !bytes.Equal(got[:n], all[off:off+n]) {
			t.Fatalf("other bytes at %d", off)
		}
	}
	check(t, errors.Join(w.Close(), r.Close()))
	if got := get(t, l, "f"); !bytes.Equal(got, all) {
		t.Error("other bytes at the end")
	}
}

// TestUnderWay: a chunk that a reader met while it was half written is read once it is whole.
func TestUnderWay(t *testing.T) {
	mem := vfs.NewMem()
	l := layer(t, mem)
	parts, all := pieces()
	put(t, l, "f", parts...)
	sealed := get(t, mem, "f")
	for cut := 1; cut < len(sealed); cut += 3 {
		// The file has its full length, and the rest reads as zeros so far: a reader must not remember that.
		raw(t, mem, "g", append(bytes.Clone(sealed[:cut]), make([]byte, len(sealed)-cut)...))
		r, err := l.Open("g")
		check(t, err)
		got := make([]byte, len(all))
		_, _ = r.ReadAt(got, 0)
		judge(t, "half", got, all)
		w, err := mem.OpenReadWrite("g", vfs.WriteCategoryUnspecified)
		check(t, err)
		_, err = w.WriteAt(bytes.Clone(sealed), 0)
		check(t, errors.Join(err, w.Close()))
		if n, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got[:n], all) {
			t.Fatalf("cut at %d: %d bytes, %v", cut, n, err)
		}
		check(t, r.Close())
	}
}

// TestFailedWrite: after a write or a sync has failed nothing more is written, because nobody knows what is there.
func TestFailedWrite(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData} {
		mem := vfs.NewMem()
		fail := false
		l := layer(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
			if fail && o.Kind == kind {
				return errorfs.ErrInjected
			}
			return nil
		})))
		w, err := l.Create("f", vfs.WriteCategoryUnspecified)
		check(t, err)
		_, err = w.Write(make([]byte, 100))
		check(t, err)
		check(t, w.Sync())
		fail = true
		_, err = w.Write(make([]byte, 100))
		err = errors.Join(err, w.SyncData(), w.Sync())
		if !errors.Is(err, errorfs.ErrInjected) {
			t.Fatalf("kind %d: %v", kind, err)
		}
		fail = false
		size := len(get(t, mem, "f"))
		for range 2 {
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("a write after a failed one is taken")
			}
			if w.Sync() == nil || w.SyncData() == nil {
				t.Error("a sync after a failed one is taken")
			}
		}
		check(t, w.Close())
		if got := len(get(t, mem, "f")); got != size {
			t.Errorf("kind %d: %d bytes were written behind a failure", kind, got-size)
		}
	}
}

// TestRefused: nothing is ever written to a file twice, or to one that was opened for reading.
func TestRefused(t *testing.T) {
	l := layer(t, vfs.NewMem())
	put(t, l, "f", []byte("text"))
	if _, err := l.OpenReadWrite("f", vfs.WriteCategoryUnspecified); err == nil {
		t.Error("OpenReadWrite is taken")
	}
	r, err := l.Open("f")
	check(t, err)
	if _, err := r.Write([]byte("x")); err == nil {
		t.Error("a reader writes")
	}
	if _, err := r.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a reader writes")
	}
	w, err := l.ReuseForWrite("f", "g", vfs.WriteCategoryUnspecified)
	check(t, err)
	if _, err := w.WriteAt([]byte("x"), 0); err == nil {
		t.Error("WriteAt is taken")
	}
	check(t, errors.Join(r.Close(), w.Close()))
	if got := get(t, l, "g"); len(got) != 0 {
		t.Errorf("a file that is used again has %q", got)
	}
	if _, err := l.Stat("f"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file that was used again is still there: %v", err)
	}
	if vfs.Root(l) != vfs.FS(l) {
		t.Error("the file system below can be had")
	}
}

// TestLinks: a file has everything that it needs, under whatever name.
func TestLinks(t *testing.T) {
	mem := vfs.NewMem()
	l := layer(t, mem)
	all := random(newRand(5), 1000)
	put(t, l, "f", all)
	check(t, l.Link("f", "g"))
	check(t, l.Rename("f", "h"))
	put(t, l, "f", []byte("another"))
	check(t, vfs.Copy(l, "g", "copy"))
	for _, name := range []string{"g", "h", "copy"} {
		if !bytes.Equal(get(t, l, name), all) {
			t.Errorf("%s has other bytes", name)
		}
		if info, err := l.Stat(name); err != nil || info.Size() != 1000 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if bytes.Equal(get(t, mem, "copy"), get(t, mem, "g")) {
		t.Error("a copy has the same salt")
	}
}

// TestPlain: files without a header read as they are where that is allowed, else as empty; sealed ones in both cases.
func TestPlain(t *testing.T) {
	mem := vfs.NewMem()
	raw(t, mem, "old", []byte("plain text"))
	put(t, layer(t, mem), "new", []byte("sealed text"))
	for _, plain := range []bool{true, false} {
		l := layer(t, mem, func(o *Options) { o.Plain = plain })
		want := map[bool]string{true: "plain text", false: ""}[plain]
		if got := get(t, l, "old"); string(got) != want {
			t.Errorf("plain %v: read %q", plain, got)
		}
		if got := get(t, l, "new"); string(got) != "sealed text" {
			t.Errorf("plain %v: read %q", plain, got)
		}
		if info, err := l.Stat("old"); err != nil || info.Size() != int64(len(want)) {
			t.Errorf("plain %v: size %d, %v", plain, info.Size(), err)
		}
	}
	// A file that is opened while it is empty may turn out to be either.
	l := layer(t, mem, func(o *Options) { o.Plain, o.NewPlain = true, true })
	w, err := l.Create("late", vfs.WriteCategoryUnspecified)
	check(t, err)
	r, err := l.Open("late")
	check(t, err)
	_, err = w.Write([]byte("plain"))
	check(t, err)
	b := make([]byte, 5)
	if n, err := r.ReadAt(b, 0); n != 5 || err != nil || string(b) != "plain" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	check(t, errors.Join(w.Close(), r.Close()))
	put(t, l, "identity", []byte("sealed to the last"))
	if got := get(t, mem, "identity"); !isSealed(got) {
		t.Errorf("with new files plain, the identity is %q", got)
	}
}

// TestOtherKey: a file of a key that is not given is an error that names ids, and no damage.
func TestOtherKey(t *testing.T) {
	mem := vfs.NewMem()
	put(t, layer(t, mem), "f", []byte("text"))
	l := layer(t, mem, func(o *Options) { o.Keys = []*Key{testKey(2)} })
	_, err := read(l, "f")
	if !errors.Is(err, ErrKey) || errors.Is(err, os.ErrNotExist) ||
		!strings.Contains(err.Error(), "needed "+testKey(1).ID().String()) ||
		!strings.Contains(err.Error(), "given "+testKey(2).ID().String()) {
		t.Errorf("error %v", err)
	}
	if _, err := l.Stat("f"); !errors.Is(err, ErrKey) {
		t.Errorf("Stat: %v", err)
	}
}

// TestManyReaders: handles and the cache may be used from many goroutines, beside the writer.
func TestManyReaders(t *testing.T) {
	mem := vfs.NewMem()
	l := layer(t, mem)
	all := random(newRand(6), 100*minChunk+5)
	put(t, l, "f", all)
	r, err := l.Open("f")
	check(t, err)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := newRand(uint64(g))
			for range 300 {
				off := rng.IntN(len(all))
				b := make([]byte, rng.IntN(200))
				n, _ := r.ReadAt(b, int64(off))
				if n < min(len(b), len(all)-off) || !bytes.Equal(b[:n], all[off:off+n]) {
					t.Errorf("%d bytes at %d", n, off)
				}
			}
		})
	}
	wg.Wait()
	check(t, r.Close())
}

// TestKeyText: whatever is printed of a key, it is not the key.
func TestKeyText(t *testing.T) {
	text := NewKeyFile()
	k, err := ParseKey(text)
	check(t, err)
	secret := strings.TrimSpace(strings.TrimPrefix(string(text), keyPrefix))
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %x %q %d", k, k, k, k, k, k, k),
		fmt.Sprintf("%+v", struct{ K *Key }{k}), fmt.Sprintf("%v", Options{Keys: []*Key{k}})} {
		if strings.Contains(s, secret) || strings.Contains(s, hex.EncodeToString(k.secret[:4])) {
			t.Errorf("a key prints as %s", s)
		}
	}
	for _, bad := range []string{"", keyPrefix, secret, keyPrefix + secret + "\n\n", " " + string(text),
		keyPrefix + secret[1:], keyPrefix + secret + "A", keyPrefix + strings.Repeat("/", 43),
		"deckle-key-2:" + secret} {
		if _, err := ParseKey([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a key", bad)
		} else if len(bad) > 20 && strings.Contains(err.Error(), secret[1:20]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	if _, err := ParseKey([]byte(keyPrefix + secret + "\r\n")); err != nil {
		t.Error(err)
	}
}
