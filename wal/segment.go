package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// segment is a file of the log. live and refs are guarded by Log.mu.
type segment struct {
	seq  uint64
	size int64    // valid bytes; the file may be longer
	r    vfs.File // for reading; nil until opened
	live int      // entries that some group still needs
	refs int      // reads under way
	gone bool     // deleted or closed: the last reader closes r
}

func segmentName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, segmentSuffix) }

func parseSegmentName(name string) (seq uint64, ok bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	seq, err := strconv.ParseUint(hex, 16, 64)
	return seq, err == nil && name == segmentName(seq)
}

// header is the start of a segment. The file gets its name only when its first head bytes are on disk.
type header struct {
	seq     uint64
	prevEnd int64 // where the segment before ends; what lies behind was never acknowledged, or was copied into this one
	head    int64 // bytes written, and synced, before the segment got its name
	groups  int   // state records that follow
}

func (h header) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic[:]...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.groups))
	b = binary.LittleEndian.AppendUint64(b, h.seq)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.prevEnd))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.head))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func decodeHeader(b []byte, seq uint64) (header, error) {
	if len(b) < segmentHeader {
		return header{}, errors.New("segment header is too short")
	}
	if [8]byte(b[:8]) != magic {
		return header{}, errors.New("no segment header")
	}
	whole := crc32.Checksum(b[:segmentHeader-4], castagnoli) == binary.LittleEndian.Uint32(b[segmentHeader-4:])
	if err := checkVersion(binary.LittleEndian.Uint32(b[8:]), whole); err != nil {
		return header{}, err
	}
	if !whole {
		return header{}, fmt.Errorf("segment header: %w", errCRC)
	}
	h := header{
		groups:  int(binary.LittleEndian.Uint32(b[12:])),
		seq:     binary.LittleEndian.Uint64(b[16:]),
		prevEnd: int64(binary.LittleEndian.Uint32(b[24:])),
		head:    int64(binary.LittleEndian.Uint32(b[28:])),
	}
	switch {
	case h.seq != seq:
		return header{}, fmt.Errorf("segment header of %016x", h.seq)
	case h.head < segmentHeader:
		return header{}, errors.New("segment header without a head")
	}
	return h, nil
}

// appendHead appends a segment's header, the images of the groups and the records that tail appends to an empty buffer.
func appendHead(buf []byte, h header, t *table, tail func(buf []byte) []byte) []byte {
	ids := t.known()
	h.groups = len(ids)
	buf = append(buf, make([]byte, segmentHeader)...)
	for _, id := range ids {
		m := mutation{kind: kindState, group: id, state: t.groups[id].image()}
		buf = appendRecord(buf, h.seq, 0, 0, kindState, id, m.appendPayload)
	}
	if tail != nil {
		buf = tail(buf)
	}
	h.head = int64(len(buf))
	h.append(buf[:0])
	return buf
}

// createSegment brings content to disk under seq's name and returns the file, open for appending. When it returns, file
// and folder are synced; before they are, the name does not exist.
func createSegment(fs vfs.FS, dir string, seq uint64, content []byte) (w vfs.File, err error) {
	name := fs.PathJoin(dir, segmentName(seq))
	w, err = fs.Create(name+tmpSuffix, category)
	if err != nil {
		return nil, fmt.Errorf("create segment %016x: %w", seq, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("create segment %016x: %w", seq, errors.Join(err, w.Close()))
			w = nil
		}
	}()
	if _, err = w.Write(content); err != nil {
		return w, err
	}
	if err = w.Sync(); err != nil {
		return w, err
	}
	if err = fs.Rename(name+tmpSuffix, name); err != nil {
		return w, err
	}
	return w, syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// readSegment reads the whole file, into buf's memory if it is large enough.
func readSegment(f vfs.File, buf []byte) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	n := int(st.Size())
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	got, err := f.ReadAt(buf, 0)
	if err != nil && !(errors.Is(err, io.EOF) && got == n) {
		return nil, err
	}
	return buf, nil
}
