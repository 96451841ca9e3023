package event

import (
	"encoding/binary"
	"math/bits"
)

// widthOf is how many bits hold every number below n.
func widthOf(n int) uint { return uint(bits.Len(uint(max(n, 1) - 1))) }

func packedLen(n int, width uint) int { return (n*int(width) + 7) / 8 }

// appendPacked appends the numbers, each in width bits, lowest bit first.
func appendPacked(dst []byte, ids []uint32, width uint) []byte {
	if width == 0 {
		return dst
	}
	acc, have := uint64(0), uint(0)
	for _, id := range ids {
		acc |= uint64(id) << have
		if have += width; have >= 32 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(acc))
			acc >>= 32
			have -= 32
		}
	}
	for ; have > 0; have -= min(have, 8) {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}

// unpack fills ids from src, which holds packedLen(len(ids), width) bytes, and returns the greatest.
func unpack(ids []uint32, src []byte, width uint) (greatest uint32) {
	if width == 0 {
		clear(ids)
		return 0
	}
	mask := uint64(1)<<width - 1
	acc, have := uint64(0), uint(0)
	for i := range ids {
		if have < width {
			if len(src) >= 4 {
				acc |= uint64(binary.LittleEndian.Uint32(src)) << have
				src = src[4:]
				have += 32
			} else {
				for _, c := range src {
					acc |= uint64(c) << have
					have += 8
				}
				src = nil
			}
		}
		id := uint32(acc & mask)
		acc >>= width
		have -= width
		ids[i] = id
		greatest = max(greatest, id)
	}
	return greatest
}
