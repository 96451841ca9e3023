// Package zstd replaces github.com/DataDog/zstd in a build with cgo. It has only the functions that Pebble calls, and
// implements them with klauspost/compress.
//
// Pebble links the C library of zstd in every build with cgo. Deckle's stores are compressed by MinLZ or Snappy
// (package state, DBCompressionFastest), so that none of it ever runs. Compiling it took 71 of the about 400 CPU
// seconds of the first `go run ./cmd/deckle demo`, and needed a C compiler. Pebble itself makes the same replacement
// under its build tag pebblegozstd, but `go run` without flags cannot set a tag. go.mod replaces the module by this
// folder.
//
// It reads and writes the same format, so a table that was compressed with zstd would still be read.
package zstd

import (
	"errors"

	"github.com/klauspost/compress/zstd"
)

// Ctx compresses and decompresses one block at a time. It is not safe for concurrent use.
type Ctx interface {
	// CompressLevel returns the frame. It overwrites dst if dst has room for CompressBound(len(src)) bytes, and
	// allocates new memory otherwise.
	CompressLevel(dst, src []byte, level int) ([]byte, error)
	// DecompressInto writes the whole of src's content to dst and returns its length. dst must have room for it.
	DecompressInto(dst, src []byte) (int, error)
}

// ErrTooSmall is returned where dst has no room for the content.
var ErrTooSmall = errors.New("zstd: destination is too small")

// CompressBound returns the greatest length of a frame of n bytes.
func CompressBound(n int) int { return n + n/128 + 128 }

// NewCtx returns a context; its encoder and decoder are made when they are first needed.
func NewCtx() Ctx { return &ctx{} }

type ctx struct {
	level int
	enc   *zstd.Encoder
	dec   *zstd.Decoder
}

func (c *ctx) CompressLevel(dst, src []byte, level int) ([]byte, error) {
	if c.enc == nil || c.level != level {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
			zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		c.enc, c.level = enc, level
	}
	return c.enc.EncodeAll(src, dst[:0]), nil
}

func (c *ctx) DecompressInto(dst, src []byte) (int, error) {
	if c.dec == nil {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return 0, err
		}
		c.dec = dec
	}
	out, err := c.dec.DecodeAll(src, dst[:0:len(dst)])
	if err != nil {
		return 0, err
	}
	if len(out) > len(dst) || len(out) > 0 && &out[0] != &dst[0] {
		return 0, ErrTooSmall
	}
	return len(out), nil
}
