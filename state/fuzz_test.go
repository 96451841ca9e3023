package state

import (
	"bytes"
	"errors"
	"testing"

	"deckle/event"
)

// FuzzEntry decodes arbitrary entries: an error or an entry, never a panic; an error is ErrCorrupt.
func FuzzEntry(f *testing.F) {
	g := newGenerator(1)
	f.Add(EncodeConfig(testConfig()))
	f.Add(EncodeCut(1700000000000, 7, 0xdeadbeef))
	f.Add(EncodePlan(SinkRevisions, 9))
	f.Add(EncodeAck(SinkClickHouse, 9))
	f.Add(EncodeRefuse(SinkClickHouse, "s\x000/1", []byte(`{}`), "because"))
	f.Add(EncodeHorizon(-1))
	for range 3 {
		f.Add(AppendBatch(nil, g.batch()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err == nil && e.kind == kindBatch {
			var be BatchEntry
			var scratch event.BatchScratch
			err = decodeBatchEntry(b, &be, &scratch)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("not typed as corruption: %v", err)
		}
	})
}

// FuzzSession decodes arbitrary session values. What decodes encodes to a value that decodes to the same, and makes a row
// or an error.
func FuzzSession(f *testing.F) {
	g := newGenerator(2)
	s := &session{id: "s1", status: StatusOpen}
	for range 20 {
		it := g.item(1, int64(g.items))
		if it.Type < event.SessionEnd {
			s.fold(&it, func(s string) string { return s })
		}
	}
	s.rolled = s.contribution()
	f.Add(s.encode(nil))
	f.Add((&session{id: "x", status: StatusClosed, purged: true}).encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSession(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("not typed as corruption: %v", err)
			}
			return
		}
		again, err := decodeSession(s.encode(nil))
		if err != nil {
			t.Fatalf("own encoding does not decode: %v", err)
		}
		if !bytes.Equal(again.encode(nil), s.encode(nil)) {
			t.Fatal("encoding changes")
		}
		var rb rowBuilder
		if _, err := rb.build(s, 1); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("not typed as corruption: %v", err)
		}
	})
}

// FuzzStored decodes arbitrary epoch infos, row keys, rollup keys and timer keys.
func FuzzStored(f *testing.F) {
	e := EpochInfo{Epoch: 3, Clock: 9, Ranges: []event.Range{{Partition: 1, From: 5, To: 9}}, LeftOut: []Position{{1, 6}, {1, 8}}}
	f.Add(e.encode(nil))
	f.Add(appendRowKey(nil, "s1", Position{1, 2}))
	f.Add(appendRollupKey(nil, 20000, RollupDevice, "mobile", "", "Firefox"))
	f.Add(appendTimerKey(nil, timerPurge, 77, "s1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEpochInfo(b); err == nil {
			again, err := decodeEpochInfo(e.encode(nil))
			if err != nil || !bytes.Equal(again.encode(nil), e.encode(nil)) {
				t.Fatalf("epoch info changes: %v", err)
			}
		}
		if sid, origin, err := decodeRowKey(b); err == nil && !bytes.Equal(appendRowKey(nil, sid, origin), b) {
			t.Fatal("row key changes")
		}
		if date, table, dims, err := decodeRollupKey(string(b)); err == nil && !bytes.Equal(appendRollupKey(nil, date, table, dims...), b) {
			t.Fatal("rollup key changes")
		}
		_, _, _ = decodeTimerKey(b)
	})
}
