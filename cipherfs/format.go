package cipherfs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
)

// This file names everything that a sealed file and the proof of keys hold, with their versions: doc.go draws the
// layout. What a released version has written must stay readable. The chunk's length stands in each header, so another
// one needs no new version.

const (
	fileVersion  = 1 // in the header of every sealed file
	proofVersion = 1 // "Format" in the file encryption

	headerBytes    = 96
	headBytes      = 16         // of a chunk, before its sealed bytes
	tagBytes       = 16         // of AES-GCM, behind them
	saltBytes      = 32         // in the header of a file
	idBytes        = 16         // of a key's id
	keyBytes       = 32         // of a key
	defaultChunk   = 16 << 10   // plain bytes of a chunk that is full
	minChunk       = 64         // least length of full chunks that is read
	maxChunk       = 1 << 20    // greatest
	minSealedChunk = 40         // head, one byte, tag, zeros
	mark           = 0x4B4E4843 // "CHNK": begins each chunk
)

// What is derived from a key is bound to its purpose by one of these texts.
const (
	labelID    = "deckle key id 1"
	labelCheck = "deckle key check 1"
	labelFile  = "deckle file 1"
)

// The names in the data folder that are never sealed, and what belongs to Rewrite.
const (
	// ProofName is the file of the data folder that holds the proof of keys.
	ProofName       = "encryption"
	identityName    = "identity"
	rewriteSuffix   = ".rewrite"
	temporarySuffix = ".tmp"
)

// unsealed are the names at the top of the data folder that the layer has nothing to do with.
var unsealed = map[string]bool{
	ProofName: true, ProofName + temporarySuffix: true, "local-token": true, "audit": true,
	"reserve": true, "reserve" + temporarySuffix: true,
}

// Unsealed tells whether a name at the top of the data folder is of something that is there before, or beside, what a
// node keeps: the proof of keys, the local token, the audit log, the reserve for a full disk. It says nothing of
// whether the folder is in use.
func Unsealed(name string) bool { return unsealed[name] }

// KeyID names a key without telling anything of it: 16 bytes of an HMAC under the key. It prints as 32 hexadecimal
// digits.
type KeyID [idBytes]byte

// String returns the id as hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// magic begins every sealed file.
var magic = [8]byte{'D', 'K', 'L', 'C', 'R', 'Y', 'P', 'T'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the start of a sealed file. Its first 64 bytes are part of what each chunk authenticates.
type header struct {
	chunk int // plain bytes of a full chunk
	key   KeyID
	salt  [saltBytes]byte
}

// bound are the bytes of a header that chunks authenticate.
type bound [64]byte

func (h *header) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic[:]...)
	b = binary.LittleEndian.AppendUint32(b, fileVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.chunk))
	b = append(b, h.key[:]...)
	b = append(b, h.salt[:]...)
	b = append(b, make([]byte, headerBytes-4-(len(b)-start))...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// decodeHeader reads a header from the first bytes of a file. It returns errHeader for anything that is none, and
// ErrVersion, wrapped, for one of a newer program.
func decodeHeader(b []byte) (h header, err error) {
	if len(b) < headerBytes || [8]byte(b) != magic {
		return h, errHeader
	}
	b = b[:headerBytes]
	if crc32.Checksum(b[:headerBytes-4], castagnoli) != binary.LittleEndian.Uint32(b[headerBytes-4:]) {
		return h, errHeader
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > fileVersion {
		return h, fmt.Errorf("%w %d of a file, this program knows %d", ErrVersion, v, fileVersion)
	} else if v != fileVersion {
		return h, errHeader
	}
	chunk := binary.LittleEndian.Uint32(b[12:])
	if chunk < minChunk || chunk > maxChunk || chunk%8 != 0 || !zero(b[64:headerBytes-4]) {
		return h, errHeader
	}
	h.chunk = int(chunk)
	copy(h.key[:], b[16:])
	copy(h.salt[:], b[32:])
	return h, nil
}

// stride is the length of a full chunk in the file.
func (h *header) stride() int64 { return int64(h.chunk) + headBytes + tagBytes }

// head is what stands before the sealed bytes of a chunk.
type head struct {
	length int   // plain bytes
	off    int64 // of the first one in the plain file
}

func (c head) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, mark)
	b = binary.LittleEndian.AppendUint32(b, uint32(c.length))
	return binary.LittleEndian.AppendUint64(b, uint64(c.off))
}

// decodeHead reads the head of a chunk from b; ok says that it may be one.
func (h *header) decodeHead(b []byte) (c head, ok bool) {
	if binary.LittleEndian.Uint32(b) != mark {
		return head{}, false
	}
	length, off := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])
	if length == 0 || length > uint32(h.chunk) || off > 1<<62 {
		return head{}, false
	}
	return head{int(length), int64(off)}, true
}

// sealedBytes is the length of a chunk in the file.
func sealedBytes(plain int) int64 { return int64(headBytes+plain+tagBytes+7) &^ 7 }

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// isSealed tells whether a file with these first bytes was begun by a layer, whether or not its header is whole.
func isSealed(first []byte) bool {
	n := min(len(first), len(magic))
	return bytes.Equal(first[:n], magic[:n])
}
