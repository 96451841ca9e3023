package cipherfs

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func testKey(n byte) *Key {
	k, err := ParseKey([]byte(keyPrefix + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{n}, keyBytes))))
	if err != nil {
		panic(err)
	}
	return k
}

// layer returns a layer with chunks of 64 bytes, so that little data has many.
func layer(t testing.TB, below vfs.FS, change ...func(*Options)) *FS {
	t.Helper()
	o := Options{FS: below, Keys: []*Key{testKey(1)}, chunk: minChunk}
	for _, f := range change {
		f(&o)
	}
	f, err := New(o)
	check(t, err)
	return f
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// random returns n bytes of which none is zero, so that a zero that is read is one that the layer made.
func random(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + rng.IntN(255))
	}
	return b
}

// put creates a file with the pieces given, each but the last one followed by a sync.
func put(t testing.TB, fs vfs.FS, name string, pieces ...[]byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	check(t, err)
	for _, p := range pieces {
		_, err := f.Write(bytes.Clone(p))
		check(t, err)
		check(t, f.Sync())
	}
	check(t, f.Close())
}

func get(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	b, err := read(fs, name)
	check(t, err)
	return b
}

func read(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// raw replaces a file below the layer.
func raw(t testing.TB, below vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := below.Create(name, vfs.WriteCategoryUnspecified)
	check(t, err)
	_, err = f.Write(bytes.Clone(b))
	check(t, errors.Join(err, f.Close()))
}

// judge compares what was read with what was written: each byte is the one that was written, or zero. It returns how
// many are zeros.
func judge(t testing.TB, what string, got, want []byte) (zeros int) {
	t.Helper()
	if len(got) > len(want) { // the length of a chunk that does not open may be wrong
		if !zero(got[len(want):]) {
			t.Fatalf("%s: bytes were read where none were written", what)
		}
		got = got[:len(want)]
	}
	for i, b := range got {
		if b == 0 {
			zeros++
		} else if b != want[i] {
			t.Fatalf("%s: byte %d is %d, written was %d", what, i, b, want[i])
		}
	}
	return zeros
}
