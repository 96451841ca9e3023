package wal

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// FuzzDecodeRecord: no bytes make the decoders panic or read past the record; whatever they accept has only one
// encoding.
func FuzzDecodeRecord(f *testing.F) {
	for _, m := range []mutation{
		{kind: kindEntry, group: 1, log: &raft.Log{
			Index: 7, Term: 3, Type: raft.LogConfiguration,
			Data: []byte("data"), Extensions: []byte("ext"), AppendedAt: time.Unix(1, 2),
		}},
		{kind: kindEntry, group: 1, log: &raft.Log{Index: 7}},
		{kind: kindDelete, group: 2, min: 1, max: 9},
		{kind: kindSet, group: 2, key: []byte("k"), val: []byte("v")},
		{kind: kindVote, group: 2, vote: vote{
			hasTerm: true, term: 4, hasVoteTerm: true, voteTerm: 4, candidate: []byte("n1"),
		}},
		{kind: kindDrop, group: 2},
		{kind: kindState, group: 2, state: &groupImage{
			first: 2, last: 4, keys: []string{"a", "b"}, vals: [][]byte{{1}, {}},
		}},
	} {
		f.Add(uint8(m.kind), m.appendPayload(nil), uint16(0))
	}
	f.Fuzz(func(t *testing.T, k uint8, payload []byte, damage uint16) {
		frame := appendRecord(nil, 3, 40, 8, kind(k), 5, func(b []byte) []byte { return append(b, payload...) })
		r, n, err := decodeRecord(append(bytes.Clone(frame), "behind"...), 3, 40)
		if err != nil || n != len(frame) || n%8 != 0 || r.kind != kind(k) || r.group != 5 || r.synced != 8 ||
			!bytes.Equal(r.payload, payload) {
			t.Fatalf("%v: %+v, %d bytes of %d", err, r, n, len(frame))
		}
		bad := bytes.Clone(frame)
		bad[int(damage/8)%len(bad)] ^= 1 << (damage % 8)
		if _, _, err := decodeRecord(bad, 3, 40); err == nil {
			t.Fatal("a flipped bit went unnoticed")
		}
		if _, _, err := decodeRecord(frame, 3, 48); err == nil {
			t.Fatal("a moved record went unnoticed")
		}
		m, err := decodeMutation(r)
		if err != nil {
			return
		}
		if again := m.appendPayload(nil); !bytes.Equal(again, payload) {
			t.Fatalf("decoded %x, encoded %x", payload, again)
		}
		if m.encodedBytes() < len(frame) && m.kind != kindState {
			t.Fatalf("counted as %d bytes, has %d", m.encodedBytes(), len(frame))
		}
	})
}

// FuzzOpen: whatever follows the head of the newest segment, Open returns a CorruptError or shows a log that a second
// Open shows again.
func FuzzOpen(f *testing.F) {
	mem := vfs.NewMem()
	l := mustOpen(f, mem, func(o *Options) { o.SegmentBytes = 1 << 10 })
	for i := range uint64(12) {
		const data = "a hundred bytes, more or less, are what an entry has when the frame is counted"
		check(f, l.Group(1).StoreLog(entry(i+1, 1, data)))
	}
	check(f, l.Group(2).StoreLog(entry(1, 1, "b")))
	check(f, l.Close())
	segs := segments(f, mem)
	newest := uint64(len(segs))
	h, err := decodeHeader(segs[newest], newest)
	check(f, err)
	head, rest := segs[newest][:h.head], segs[newest][h.head:]
	f.Add(rest, uint16(0), byte(0))
	f.Add(rest, uint16(80), byte(1))
	f.Add([]byte{}, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, rest []byte, at uint16, flip byte) {
		b := append(bytes.Clone(head), rest...)
		b[int(at)%len(b)] ^= flip
		fs := vfs.NewMem()
		check(t, fs.MkdirAll("wal", 0o755))
		for seq, s := range segs {
			writeFile(t, fs, "wal/"+segmentName(seq), s)
		}
		writeFile(t, fs, "wal/"+segmentName(newest), b)
		var shown [2]*groupImage
		for i := range 2 {
			l, err := Open(context.Background(), options(fs))
			if err != nil {
				if _, ok := errors.AsType[*CorruptError](err); !ok && !errors.Is(err, ErrVersion) || i > 0 {
					t.Fatal(err)
				}
				return
			}
			shown[i] = l.table.group(1).image()
			for index := shown[i].first; index > 0 && index <= shown[i].last; index++ {
				check(t, l.Group(1).GetLog(index, new(raft.Log)))
			}
			check(t, l.Close())
		}
		if !shown[0].equal(shown[1]) {
			t.Fatalf("%+v, then %+v", shown[0], shown[1])
		}
	})
}
