package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"deckle/cipherfs/cipherfstest"
)

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := cipherfstest.Over(fs).Open(name) // damage is done to the plain bytes; sealed ones: TestDamageSealed
	check(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	check(t, err)
	return b
}

func writeFile(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := cipherfstest.Over(fs).Create(name, category)
	check(t, err)
	_, err = f.Write(b)
	check(t, errors.Join(err, f.Sync(), f.Close()))
}

// segments returns what the log's files hold, by number.
func segments(t testing.TB, fs vfs.FS) map[uint64][]byte {
	t.Helper()
	names, err := fs.List("wal")
	check(t, err)
	all := map[uint64][]byte{}
	for _, n := range names {
		if seq, ok := parseSegmentName(n); ok {
			all[seq] = readFile(t, fs, "wal/"+n)
		}
	}
	return all
}

// frames returns where the records of a segment start, those of its head included.
func frames(seq uint64, data []byte) (offs []int64) {
	for off := int64(segmentHeader); ; {
		_, n, err := decodeRecord(data[off:], seq, off)
		if err != nil {
			return offs
		}
		offs = append(offs, off)
		off += int64(n)
	}
}

// damaged is a log of two groups in segments 1 to 4, each entry written alone. All of group 2's entries are in segment
// 1.
type damaged struct {
	fs   *vfs.MemFS
	segs map[uint64][]byte
	offs map[uint64][]int64
}

func buildDamaged(t *testing.T, closed bool) *damaged {
	fs := vfs.NewCrashableMem()
	l := mustOpen(t, fs, func(o *Options) { o.SegmentBytes = 1 << 10 })
	check(t, l.Group(2).StoreLog(entry(1, 1, "the only one")))
	check(t, l.Group(2).SetUint64([]byte(keyTerm), 7))
	for i, more := uint64(1), 4; more > 0; i++ {
		check(t, l.Group(1).StoreLog(entry(i, 1, strings.Repeat("x", 100))))
		if l.Stats().Segments == 4 {
			more--
		}
	}
	if closed {
		check(t, l.Close())
	}
	d := &damaged{
		fs:   fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRand(1, 1)}),
		offs: map[uint64][]int64{},
	}
	if !closed {
		check(t, l.Close())
	}
	d.segs = segments(t, d.fs)
	for seq, b := range d.segs {
		d.offs[seq] = frames(seq, b)
	}
	return d
}

// rec returns where record i of a segment starts, from its end if negative.
func (d *damaged) rec(seq uint64, i int) int64 {
	if i < 0 {
		i += len(d.offs[seq])
	}
	return d.offs[seq][i]
}

func (d *damaged) put(t *testing.T, seq uint64, b []byte) {
	writeFile(t, d.fs, "wal/"+segmentName(seq), b)
}

func (d *damaged) flip(t *testing.T, seq uint64, off int64) {
	b := slices.Clone(d.segs[seq])
	b[off] ^= 4
	d.put(t, seq, b)
}

// TestCorruption: damage that a crash cannot have caused is reported with its place, and nothing on disk is changed.
func TestCorruption(t *testing.T) {
	type want struct {
		seg   uint64
		off   int64 // -1: any offset
		group uint64
		text  string
	}
	cases := map[string]struct {
		closed bool
		damage func(*testing.T, *damaged) want
	}{
		"bit flip in an entry of a full segment": {damage: func(t *testing.T, d *damaged) want {
			off := d.rec(2, 4)
			d.flip(t, 2, off+70)
			return want{2, off, 1, "checksum"}
		}},
		"bit flip in the last entry of a full segment": {damage: func(t *testing.T, d *damaged) want {
			off := d.rec(2, -2) // the last record is the seal
			d.flip(t, 2, off+70)
			return want{2, off, 1, "checksum"}
		}},
		"bit flip in the padding of an entry": {damage: func(t *testing.T, d *damaged) want {
			off := d.rec(2, 5)
			d.flip(t, 2, off-1)
			return want{2, d.rec(2, 4), 1, "checksum"}
		}},
		"length of a record flipped": {damage: func(t *testing.T, d *damaged) want {
			off := d.rec(2, 4)
			d.flip(t, 2, off+10)
			return want{2, off, 1, "past the end"}
		}},
		"bit flip in the group states of a full segment": {damage: func(t *testing.T, d *damaged) want {
			d.flip(t, 3, d.rec(3, 0)+30)
			return want{3, d.rec(3, 0), 1, "checksum"}
		}},
		"bit flip in the header of a full segment": {damage: func(t *testing.T, d *damaged) want {
			d.flip(t, 2, 26)
			return want{2, 0, 0, "header"}
		}},
		"full segment shortened": {damage: func(t *testing.T, d *damaged) want {
			d.put(t, 2, d.segs[2][:d.rec(2, 5)])
			return want{2, d.rec(2, 5), 0, "shorter"}
		}},
		"full segment emptied": {damage: func(t *testing.T, d *damaged) want {
			d.put(t, 2, nil)
			return want{2, 0, 0, "header"}
		}},
		"segment missing in the middle": {damage: func(t *testing.T, d *damaged) want {
			check(t, d.fs.Remove("wal/"+segmentName(2)))
			return want{2, 0, 0, "missing"}
		}},
		"oldest segment missing": {damage: func(t *testing.T, d *damaged) want {
			check(t, d.fs.Remove("wal/"+segmentName(1)))
			return want{1, 0, 1, "held entries 1 to"}
		}},
		"newest segment missing": {damage: func(t *testing.T, d *damaged) want {
			check(t, d.fs.Remove("wal/"+segmentName(4)))
			return want{4, 0, 0, "missing"}
		}},
		"segment in the place of another": {damage: func(t *testing.T, d *damaged) want {
			d.put(t, 3, d.segs[2])
			return want{3, 0, 0, "header of 0000000000000002"}
		}},
		"record in the place of another": {damage: func(t *testing.T, d *damaged) want {
			b := slices.Clone(d.segs[2])
			from, to := d.rec(2, 4), d.rec(2, 5)
			copy(b[to:], b[from:to])
			d.put(t, 2, b)
			return want{2, to, 1, "checksum"}
		}},
		"record of another segment": {damage: func(t *testing.T, d *damaged) want {
			b := slices.Clone(d.segs[3])
			off := d.rec(3, 5)
			copy(b[off:d.rec(3, 6)], d.segs[2][off:])
			d.put(t, 3, b)
			return want{3, off, 1, "checksum"}
		}},
		"newest: bit flip before the last write": {damage: func(t *testing.T, d *damaged) want {
			off := d.rec(4, -2)
			d.flip(t, 4, off+70)
			return want{4, off, 1, "was on disk"}
		}},
		"newest: length flipped before the last write": {damage: func(t *testing.T, d *damaged) want {
			off := d.rec(4, -2)
			d.flip(t, 4, off+11)
			return want{4, off, 1, "was on disk"}
		}},
		"newest: marker flipped before the last write": {damage: func(t *testing.T, d *damaged) want {
			off := d.rec(4, -2)
			d.flip(t, 4, off+4)
			return want{4, off, 0, "was on disk"}
		}},
		"newest: a page of zeros before the last write": {damage: func(t *testing.T, d *damaged) want {
			b := slices.Clone(d.segs[4])
			off := d.rec(4, 3)
			clear(b[off:d.rec(4, -1)])
			d.put(t, 4, b)
			return want{4, off, 0, "was on disk"}
		}},
		"newest: bit flip in the last entry, closed": {closed: true, damage: func(t *testing.T, d *damaged) want {
			off := d.rec(4, -2) // the last record is the mark
			d.flip(t, 4, off+70)
			return want{4, off, 1, "was on disk"}
		}},
		"newest: bit flip in the header": {damage: func(t *testing.T, d *damaged) want {
			d.flip(t, 4, 5)
			return want{4, 0, 0, "header"}
		}},
		"newest: header shortened": {damage: func(t *testing.T, d *damaged) want {
			d.put(t, 4, d.segs[4][:segmentHeader-1])
			return want{4, 0, 0, "header"}
		}},
		"newest: shortened within the head": {damage: func(t *testing.T, d *damaged) want {
			d.put(t, 4, d.segs[4][:segmentHeader+50])
			return want{4, segmentHeader + 50, 0, "shorter"}
		}},
		"newest: bit flip in the group states": {damage: func(t *testing.T, d *damaged) want {
			d.flip(t, 4, d.rec(4, 1)+30)
			return want{4, d.rec(4, 1), 2, "checksum"}
		}},
		"newest: bit flip in a record written again by Open": {damage: func(t *testing.T, d *damaged) want {
			// The last write of a crashed log was copied to the head of segment 5, and nothing was written after it.
			l := mustOpen(t, d.fs)
			again := d.fs.CrashClone(vfs.CrashCloneCfg{})
			check(t, l.Close())
			*d = damaged{fs: again, segs: segments(t, again), offs: map[uint64][]int64{}}
			d.offs[5] = frames(5, d.segs[5])
			off := d.rec(5, -1)
			d.flip(t, 5, off+70)
			return want{5, off, 1, "checksum"}
		}},
		"newest: head of a log with another past": {damage: func(t *testing.T, d *damaged) want {
			// In the head, group 2's term was 7; the checksum is right.
			b := slices.Clone(d.segs[4])
			off := d.rec(4, 1)
			end := d.rec(4, 2)
			binary.LittleEndian.PutUint64(b[off+recordHeader+17:], 8)
			binary.LittleEndian.PutUint32(b[off:], checksum(4, off, b[off:end]))
			d.put(t, 4, b)
			return want{4, off, 2, "disagrees"}
		}},
		"newest: entry behind the end that is whole and malformed": {damage: func(t *testing.T, d *damaged) want {
			b := slices.Clone(d.segs[4])
			off := int64(len(b))
			b = appendRecord(b, 4, 0, off, kindDelete, 1, func(b []byte) []byte { return append(b, 1, 2, 3) })
			d.put(t, 4, b)
			return want{4, off, 1, "malformed"}
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := buildDamaged(t, c.closed)
			w := c.damage(t, d)
			before := segments(t, d.fs)
			_, err := Open(context.Background(), options(d.fs))
			e := asCorrupt(t, err)
			if e.Segment != w.seg || e.Offset != w.off || e.HasGroup != (w.group != 0) ||
				e.HasGroup && e.Group != w.group || !strings.Contains(e.Error(), w.text) {
				t.Errorf("got %v, want %+v", e, w)
			}
			after := segments(t, d.fs)
			if len(before) != len(after) {
				t.Fatalf("%d segments before, %d after", len(before), len(after))
			}
			for seq, b := range before {
				if !bytes.Equal(b, after[seq]) {
					t.Errorf("segment %d was changed", seq)
				}
			}
		})
	}
}

// TestTornTail: damage that a crash can have done to the last write loses that write at most.
func TestTornTail(t *testing.T) {
	cases := map[string]struct {
		closed bool
		lost   uint64
		damage func(*testing.T, *damaged)
	}{
		"nothing": {damage: func(*testing.T, *damaged) {}},
		"bit flip in the last record": {lost: 1, damage: func(t *testing.T, d *damaged) {
			d.flip(t, 4, d.rec(4, -1)+70)
		}},
		"last record shortened": {lost: 1, damage: func(t *testing.T, d *damaged) {
			d.put(t, 4, d.segs[4][:len(d.segs[4])-9])
		}},
		"last record shortened within its header": {lost: 1, damage: func(t *testing.T, d *damaged) {
			d.put(t, 4, d.segs[4][:d.rec(4, -1)+5])
		}},
		"last record reads as zeros": {lost: 1, damage: func(t *testing.T, d *damaged) {
			b := slices.Clone(d.segs[4])
			clear(b[d.rec(4, -1):])
			d.put(t, 4, b)
		}},
		"first of two records of the last write gone, second whole": {lost: 1, damage: func(t *testing.T, d *damaged) {
			b := slices.Clone(d.segs[4])
			last := d.rec(4, -1)
			m := mutation{kind: kindEntry, group: 1, log: entry(99, 9, "second")}
			b = appendRecord(b, 4, 0, last, kindEntry, 1, m.appendPayload)
			b[last+70] ^= 1
			d.put(t, 4, b)
		}},
		"zeros behind the end": {damage: func(t *testing.T, d *damaged) {
			d.put(t, 4, append(slices.Clone(d.segs[4]), make([]byte, 5000)...))
		}},
		"rubbish behind the end": {damage: func(t *testing.T, d *damaged) {
			d.put(t, 4, append(slices.Clone(d.segs[4]), strings.Repeat("rubbish ", 700)...))
		}},
		"older records behind the end": {damage: func(t *testing.T, d *damaged) {
			d.put(t, 4, append(slices.Clone(d.segs[4]), d.segs[2]...))
		}},
		"mark of an orderly close gone": {closed: true, damage: func(t *testing.T, d *damaged) {
			d.put(t, 4, d.segs[4][:d.rec(4, -1)])
		}},
		"unfinished segment": {damage: func(t *testing.T, d *damaged) {
			writeFile(t, d.fs, "wal/"+segmentName(5)+tmpSuffix, []byte("DECKLWAL"))
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := buildDamaged(t, c.closed)
			var last uint64
			for _, off := range d.offs[4] {
				if r, _, err := decodeRecord(d.segs[4][off:], 4, off); err == nil && r.kind == kindEntry {
					m, err := decodeMutation(r)
					check(t, err)
					last = m.log.Index
				}
			}
			c.damage(t, d)
			for range 2 { // what was dropped stays dropped
				l := mustOpen(t, d.fs)
				got, err := l.Group(1).LastIndex()
				check(t, err)
				if got != last-c.lost {
					t.Errorf("last index is %d, want %d", got, last-c.lost)
				}
				for i := uint64(1); i <= got; i++ {
					check(t, l.Group(1).GetLog(i, new(raft.Log)))
				}
				check(t, l.Close())
			}
			names, err := d.fs.List("wal")
			check(t, err)
			for _, n := range names {
				if strings.HasSuffix(n, tmpSuffix) {
					t.Errorf("%s is left over", n)
				}
			}
		})
	}
}

func TestNewerVersionIsRefused(t *testing.T) {
	d := buildDamaged(t, true)
	b := slices.Clone(d.segs[3])
	b[8] = formatVersion + 1
	binary.LittleEndian.PutUint32(b[segmentHeader-4:], crc32.Checksum(b[:segmentHeader-4], castagnoli))
	d.put(t, 3, b)
	if _, err := Open(context.Background(), options(d.fs)); !errors.Is(err, ErrVersion) {
		t.Fatalf("got %v", err)
	}
}

// TestRotWhileOpen: for an entry that can no longer be read back GetLog returns a CorruptError with its place, never
// other bytes.
func TestRotWhileOpen(t *testing.T) {
	if cipherfstest.Enabled() {
		t.Skip("it writes to the file where the plain bytes would be")
	}
	d := buildDamaged(t, true)
	l := mustOpen(t, d.fs)
	defer l.Close()
	off := d.rec(2, 4)
	var index uint64
	r, n, err := decodeRecord(d.segs[2][off:], 2, off)
	check(t, err)
	m, err := decodeMutation(r)
	check(t, err)
	index = m.log.Index
	f, err := d.fs.OpenReadWrite("wal/"+segmentName(2), category)
	check(t, err)
	defer f.Close()
	for i := range int64(n) {
		b := []byte{d.segs[2][off+i]}
		_, err = f.WriteAt([]byte{b[0] ^ 1}, off+i)
		check(t, err)
		e := asCorrupt(t, l.Group(1).GetLog(index, new(raft.Log)))
		if e.Segment != 2 || e.Offset != off || e.Group != 1 ||
			!strings.Contains(e.Error(), fmt.Sprint("entry ", index)) {
			t.Fatalf("byte %d: %v", i, e)
		}
		_, err = f.WriteAt(b, off+i)
		check(t, err)
	}
	check(t, l.Group(1).GetLog(index, new(raft.Log)))
}
