package cipherfs

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// nowhere is a file that keeps nothing: what is measured is the layer.
type nowhere struct{ vfs.File }

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Sync() error                 { return nil }
func (nowhere) SyncData() error             { return nil }
func (nowhere) Close() error                { return nil }

type nowhereFS struct{ vfs.FS }

func (nowhereFS) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nowhere{}, nil }

// BenchmarkWrite is what sealing costs per byte: as tables are written (4 KiB at a time), and as the log is (a write of
// some entries, and a sync).
func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct {
		name  string
		write int
		sync  bool
	}{{"table", 4 << 10, false}, {"log-1K", 1 << 10, true}, {"log-64K", 64 << 10, true}, {"log-1M", 1 << 20, true}} {
		for _, chunk := range []int{16 << 10, 32 << 10} {
			b.Run(fmt.Sprintf("%s/chunk=%dK", c.name, chunk>>10), func(b *testing.B) {
				l := layer(b, nowhereFS{vfs.NewMem()}, func(o *Options) { o.chunk = chunk })
				f, err := l.Create("f", vfs.WriteCategoryUnspecified)
				check(b, err)
				p := make([]byte, c.write)
				b.SetBytes(int64(c.write))
				b.ReportAllocs()
				for b.Loop() {
					_, _ = f.Write(p)
					if c.sync {
						_ = f.SyncData()
					}
				}
			})
		}
	}
}

// BenchmarkRead is what opening costs: a table read in a row in blocks, and blocks here and there; with and without a
// layer.
func BenchmarkRead(b *testing.B) {
	const size = 8 << 20
	for _, chunk := range []int{0, 16 << 10, 32 << 10} {
		mem := vfs.NewMem()
		var fs vfs.FS = mem
		if chunk > 0 {
			fs = layer(b, mem, func(o *Options) { o.chunk = chunk })
		}
		put(b, fs, "f", random(newRand(1), size))
		f, err := fs.Open("f")
		check(b, err)
		for _, block := range []int{4 << 10, 12 << 10} {
			p := make([]byte, block)
			b.Run(fmt.Sprintf("row/%dK/chunk=%dK", block>>10, chunk>>10), func(b *testing.B) {
				b.SetBytes(int64(block))
				off := int64(0)
				for b.Loop() {
					_, _ = f.ReadAt(p, off)
					if off += int64(block); off+int64(block) > size {
						off = 0
					}
				}
			})
			b.Run(fmt.Sprintf("random/%dK/chunk=%dK", block>>10, chunk>>10), func(b *testing.B) {
				b.SetBytes(int64(block))
				for b.Loop() {
					_, _ = f.ReadAt(p, rand.Int64N(size-int64(block)))
				}
			})
		}
		check(b, f.Close())
	}
}

// BenchmarkOpen is what a handle costs: the key of the file, and its index.
func BenchmarkOpen(b *testing.B) {
	mem := vfs.NewMem()
	l := layer(b, mem, func(o *Options) { o.chunk = 0 })
	put(b, l, "table", make([]byte, 32<<20))
	var parts [][]byte
	for range 5000 {
		parts = append(parts, make([]byte, 13000))
	}
	put(b, l, "log", parts...)
	for _, name := range []string{"table", "log"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f, err := l.Open(name)
				check(b, err)
				_, err = f.Stat()
				check(b, err)
				check(b, f.Close())
			}
		})
	}
}
