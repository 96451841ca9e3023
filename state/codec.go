package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

// ErrCorrupt says that a stored value or an entry is not what this package wrote. It is wrapped with the key or the
// index at which it was found.
var ErrCorrupt = errors.New("state: corrupt")

// decoder reads the encodings of this package. After the first fault it reads nothing more and keeps that error.
type decoder struct {
	b     []byte
	pos   int
	err   error
	alias bool // string returns texts that share the memory of b
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s at byte %d of %d", ErrCorrupt, what, d.pos, len(d.b))
	}
}

func (d *decoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b[d.pos:])
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.pos += n
	return v
}

func (d *decoder) varint() int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.b[d.pos:])
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.pos += n
	return v
}

// length reads a count of things that take at least size bytes each, and checks that so many can follow.
func (d *decoder) length(size int) int {
	n := d.uvarint()
	if d.err == nil && n > uint64((len(d.b)-d.pos)/size) {
		d.fail("length")
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

// bytes reads n bytes. They share the memory of the input.
func (d *decoder) bytes(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.b)-d.pos {
		d.fail("bytes")
		return nil
	}
	d.pos += n
	return d.b[d.pos-n : d.pos : d.pos]
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// text reads a length and that number of bytes. They share the memory of the input.
func (d *decoder) text() []byte {
	if d.err == nil && d.pos < len(d.b) {
		// Nearly every length takes one byte.
		if n, rest := int(d.b[d.pos]), d.b[d.pos+1:]; n < 0x80 && n <= len(rest) {
			d.pos += 1 + n
			return rest[:n:n]
		}
	}
	return d.bytes(d.length(1))
}

func (d *decoder) string() string { return d.own(d.text()) }

// own returns bytes of the input as a text: one that shares their memory if alias is set, otherwise a copy.
func (d *decoder) own(b []byte) string {
	if d.alias {
		return aliased(b)
	}
	return string(b)
}

// aliased returns bytes as a text without copying them. It is valid for as long as they do not change.
func aliased(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// end returns the error, which is also set if not everything was read.
func (d *decoder) end() error {
	if d.err == nil && d.pos != len(d.b) {
		d.fail("trailing bytes")
	}
	return d.err
}

func appendText[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}
