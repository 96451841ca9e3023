// Package vectortest makes deletion vectors as other tools write them, for tests.
package vectortest

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"deckle/sinks/delta/deletionvector"
)

// Encode is what is stored for rows at these places of a file.
func Encode(t testing.TB, rows ...int64) []byte {
	t.Helper()
	byKey := map[uint32]*roaring.Bitmap{}
	var keys []uint32
	for _, r := range rows {
		k := uint32(r >> 32)
		if byKey[k] == nil {
			byKey[k], keys = roaring.New(), append(keys, k)
		}
		byKey[k].Add(uint32(r))
	}
	slices.Sort(keys)
	out := binary.LittleEndian.AppendUint32(nil, 1681511377)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(keys)))
	for _, k := range keys {
		byKey[k].RunOptimize()
		b, err := byKey[k].ToBytes()
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.LittleEndian.AppendUint32(out, k), b...)
	}
	return out
}

// digits are those of Z85.
const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

// Z85 encodes bytes, padded with zeros to whole groups of four.
func Z85(b []byte) string {
	var out strings.Builder
	for len(b)%4 != 0 {
		b = append(slices.Clip(b), 0)
	}
	for ; len(b) > 0; b = b[4:] {
		n := binary.BigEndian.Uint32(b)
		for _, power := range []uint32{85 * 85 * 85 * 85, 85 * 85 * 85, 85 * 85, 85, 1} {
			out.WriteByte(digits[n/power%85])
		}
	}
	return out.String()
}

// Inline returns the descriptor of a vector that stands in the log.
func Inline(t testing.TB, rows ...int64) *deletionvector.Descriptor {
	t.Helper()
	b := Encode(t, rows...)
	return &deletionvector.Descriptor{StorageType: "i", Path: Z85(b), Size: int32(len(b)),
		Cardinality: int64(len(rows))}
}

// Store takes objects, whatever stood under their keys.
type Store interface {
	Overwrite(key string, data []byte)
}

// Put stores an encoded vector in the folder of a table, behind so many bytes of others, and returns its descriptor.
// The number names the object.
func Put(t testing.TB, mem Store, table string, number uint64, before int, vector []byte,
	cardinality int64) *deletionvector.Descriptor {
	t.Helper()
	offset := int32(1 + before)
	id := binary.BigEndian.AppendUint64(make([]byte, 8), number)
	d := &deletionvector.Descriptor{StorageType: "u", Path: Z85(id), Offset: &offset, Size: int32(len(vector)),
		Cardinality: cardinality}
	file := append([]byte{1}, make([]byte, before)...)
	file = binary.BigEndian.AppendUint32(file, uint32(len(vector)))
	file = append(file, vector...)
	file = binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(vector))
	key, err := d.Key()
	if err != nil {
		t.Fatal(err)
	}
	mem.Overwrite(table+"/"+key, append(file, "of another vector"...))
	return d
}
