package wal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

var (
	errShort  = errors.New("record runs past the end of the file")
	errMarker = errors.New("no record marker")
	errCRC    = errors.New("checksum mismatch")
)

// record is a frame as it was found in a segment; payload is part of the buffer that it was decoded from.
type record struct {
	kind    kind
	synced  int64 // bytes of this segment that were on disk before this record was written
	group   uint64
	payload []byte
}

func align(n int) int { return (n + 7) &^ 7 }

// checksum binds a frame to its place: a copy of the frame elsewhere, in an entry's data or in another segment, is no
// record.
func checksum(seq uint64, off int64, frame []byte) uint32 {
	var place [16]byte
	binary.LittleEndian.PutUint64(place[:], seq)
	binary.LittleEndian.PutUint64(place[8:], uint64(off))
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, frame[4:])
}

// appendRecord appends one frame to buf, whose first byte lies at offset base of segment seq. payload is called to
// append the payload. The frame's length is a multiple of 8.
func appendRecord(
	buf []byte, seq uint64, base, synced int64, k kind, group uint64, payload func([]byte) []byte,
) []byte {
	start := len(buf)
	buf = append(buf, make([]byte, recordHeader)...)
	if payload != nil {
		buf = payload(buf)
	}
	n := len(buf) - start - recordHeader
	for len(buf)%8 != 0 {
		buf = append(buf, 0)
	}
	h := buf[start:]
	binary.LittleEndian.PutUint16(h[4:], marker)
	h[6] = byte(k)
	binary.LittleEndian.PutUint32(h[8:], uint32(n))
	binary.LittleEndian.PutUint32(h[12:], uint32(synced))
	binary.LittleEndian.PutUint64(h[16:], group)
	binary.LittleEndian.PutUint32(h, checksum(seq, base+int64(start), h))
	return buf
}

// decodeRecord reads the frame at the start of buf, which lies at offset off of segment seq. It returns the frame's
// length. Along with errCRC it returns the group of the damaged header, for the report only.
func decodeRecord(buf []byte, seq uint64, off int64) (r record, n int, err error) {
	if len(buf) < recordHeader {
		return record{}, 0, errShort
	}
	if binary.LittleEndian.Uint16(buf[4:]) != marker {
		return record{}, 0, errMarker
	}
	r.kind = kind(buf[6])
	r.group = binary.LittleEndian.Uint64(buf[16:])
	length := binary.LittleEndian.Uint32(buf[8:])
	if uint64(length) > uint64(len(buf)-recordHeader) {
		return r, 0, errShort
	}
	n = align(recordHeader + int(length))
	if n > len(buf) {
		return r, 0, errShort
	}
	if checksum(seq, off, buf[:n]) != binary.LittleEndian.Uint32(buf) {
		return r, 0, errCRC
	}
	r.synced = int64(binary.LittleEndian.Uint32(buf[12:]))
	r.payload = buf[recordHeader : recordHeader+int(length)]
	return r, n, nil
}

// provenPast reports whether some valid record of data at or after from says that more than `damaged` bytes were on
// disk before it was written: then the unreadable record at `damaged` had been synced and is no torn tail. A valid
// record alone proves nothing: a disk may keep the later half of an unsynced write and lose the earlier one.
func provenPast(data []byte, seq uint64, from, damaged int64) bool {
	for off := (from + 7) &^ 7; off+recordHeader <= int64(len(data)); off += 8 {
		if binary.LittleEndian.Uint16(data[off+4:]) != marker {
			continue
		}
		if r, _, err := decodeRecord(data[off:], seq, off); err == nil && r.synced > damaged {
			return true
		}
	}
	return false
}
