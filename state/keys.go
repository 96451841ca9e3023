package state

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"

	"deckle/schema"
)

// The key prefixes; doc.go describes the keys.
const (
	prefixMeta      = 'm'
	prefixImage     = 'i'
	prefixRollupImg = 'j'
	prefixLive      = 'l'
	prefixRollup    = 'r'
	prefixTimer     = 't'
	prefixEpoch     = 'x'
	prefixLetter    = 'q'
	prefixGarbage   = 'g'
	prefixSegment   = 's'

	prefixSuppressed = 'u'
)

const originSize = 12

var metaKey = []byte{prefixMeta}

func appendSID(dst []byte, sid string) []byte {
	dst = append(dst, byte(len(sid)))
	return append(dst, sid...)
}

func appendOrigin(dst []byte, p Position) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Partition))
	return binary.BigEndian.AppendUint64(dst, uint64(p.Offset))
}

func decodeOrigin(b []byte) Position {
	return Position{Partition: int32(binary.BigEndian.Uint32(b)), Offset: int64(binary.BigEndian.Uint64(b[4:]))}
}

func comparePositions(a, b Position) int {
	if a.Partition != b.Partition {
		return cmp.Compare(a.Partition, b.Partition)
	}
	return cmp.Compare(a.Offset, b.Offset)
}

// appendRowKey appends a row key, <sid> <origin>: the end of an image's key, by which garbage names a session's image.
func appendRowKey(dst []byte, sid string, origin Position) []byte {
	return appendOrigin(appendSID(dst, sid), origin)
}

func epochPrefix(prefix byte, epoch uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, epoch)
}

// afterEpoch is the first key of a prefix that lies past an epoch.
func afterEpoch(prefix byte, epoch uint64) []byte {
	if epoch == math.MaxUint64 {
		return []byte{prefix + 1}
	}
	return epochPrefix(prefix, epoch+1)
}

func appendImageKey(dst []byte, epoch uint64, sid string, origin Position) []byte {
	dst = append(dst, prefixImage)
	dst = binary.BigEndian.AppendUint64(dst, epoch)
	return appendRowKey(dst, sid, origin)
}

func appendRollupImageKey(dst []byte, epoch uint64, key string) []byte {
	dst = append(dst, prefixRollupImg)
	dst = binary.BigEndian.AppendUint64(dst, epoch)
	return append(dst, key...)
}

func appendLiveKey(dst []byte, sid string) []byte { return appendSID(append(dst, prefixLive), sid) }

// decodeLive decodes a live key and its value.
func decodeLive(k, v []byte) (sid string, origin Position, epoch uint64, err error) {
	if len(k) < 2 || len(k) != 2+int(k[1]) || len(v) != originSize+8 {
		return "", Position{}, 0, fmt.Errorf("%w: live key %x with %d bytes", ErrCorrupt, k, len(v))
	}
	return string(k[2:]), decodeOrigin(v), binary.BigEndian.Uint64(v[originSize:]), nil
}

// timerKind is what a session's timer does when it fires.
type timerKind uint8

const (
	timerClose timerKind = iota // close or expire an open session
	timerPurge                  // forget a closed one
	numTimerKinds
)

func appendTimerKey(dst []byte, kind timerKind, deadline int64, sid string) []byte {
	dst = append(dst, prefixTimer, byte(kind))
	dst = binary.BigEndian.AppendUint64(dst, uint64(deadline))
	return appendSID(dst, sid)
}

func decodeTimerKey(k []byte) (deadline int64, sid string, err error) {
	if len(k) < 11 || len(k) != 11+int(k[10]) {
		return 0, "", fmt.Errorf("%w: timer key %x", ErrCorrupt, k)
	}
	return int64(binary.BigEndian.Uint64(k[2:])), string(k[11:]), nil
}

func appendLetterKey(dst []byte, epoch, seq uint64) []byte {
	dst = append(dst, prefixLetter)
	dst = binary.BigEndian.AppendUint64(dst, epoch)
	return binary.BigEndian.AppendUint64(dst, seq)
}

// decodeRollupImageKey decodes the key of a rollup's image.
func decodeRollupImageKey(k []byte) (epoch uint64, key string, err error) {
	if len(k) < 9 {
		return 0, "", fmt.Errorf("%w: key of a rollup image %x", ErrCorrupt, k)
	}
	return binary.BigEndian.Uint64(k[1:9]), string(k[9:]), nil
}

// appendRollupKey appends a rollup key, <date> <table> (<length> <text>)*.
func appendRollupKey(dst []byte, date int32, table schema.RollupTable, dims ...string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(date))
	dst = append(dst, byte(table))
	for _, d := range dims {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(d)))
		dst = append(dst, d...)
	}
	return dst
}

func decodeRollupKey(k string) (date int32, table schema.RollupTable, dims []string, err error) {
	bad := func() (int32, schema.RollupTable, []string, error) {
		return 0, 0, nil, fmt.Errorf("%w: rollup key %x", ErrCorrupt, k)
	}
	if len(k) < 5 || schema.RollupTable(k[4]) >= schema.NumRollups {
		return bad()
	}
	date, table = int32(binary.BigEndian.Uint32([]byte(k[:4]))), schema.RollupTable(k[4])
	for rest := k[5:]; rest != ""; {
		if len(rest) < 2 {
			return bad()
		}
		n := int(binary.BigEndian.Uint16([]byte(rest[:2])))
		if len(rest) < 2+n {
			return bad()
		}
		dims, rest = append(dims, rest[2:2+n]), rest[2+n:]
	}
	if len(dims) != table.NumDims() {
		return bad()
	}
	return date, table, dims, nil
}
