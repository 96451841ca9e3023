package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// FuzzEntry decodes arbitrary entries. The result is an entry, ErrCorrupt or what a newer binary wrote, never a panic.
func FuzzEntry(f *testing.F) {
	g := newGenerator(1)
	f.Add(EncodeConfig(testConfig()))
	f.Add(EncodeCut(1700000000000, 7, 0xdeadbeef))
	f.Add(EncodePlan(SinkRevisions, 9))
	f.Add(EncodeAck(SinkClickHouse, 9))
	f.Add(EncodeRefuse(SinkClickHouse, "s\x000/1", []byte(`{}`), "because", level.First))
	f.Add(EncodeHorizon(-1))
	f.Add(EncodeLevel(1700000000000, level.Current+1))
	f.Add([]byte{kindCut, level.Entry.Newest() + 1})
	f.Add([]byte{200, firstVersion})
	f.Add(EncodeSuppress(&SuppressEntry{Now: 1, Op: SuppressAdd, Salt: event.Salt{1}, By: "n1",
		Listings: []event.Listing{madeUp(1), madeUp(2)}}))
	f.Add(EncodePartitions(&PartitionsEntry{From: 6, Have: 1, Count: 12, Starts: []int64{0, 1 << 40}}))
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
		if err != nil && !errors.Is(err, ErrCorrupt) && !tooNew(err) {
			t.Fatalf("typed neither as corruption nor as too new: %v", err)
		}
	})
}

// FuzzSession decodes arbitrary session values. A session that decodes must encode to a value that decodes to the same,
// and make a row or an error.
func FuzzSession(f *testing.F) {
	g := newGenerator(2)
	s := &session{id: "s1", status: schema.StatusOpen}
	for range 20 {
		it := g.item(1, int64(g.items))
		if it.Type.Counts() {
			s.fold(&it, nil)
		}
	}
	s.rolled = s.contribution()
	f.Add(s.encode(nil, level.First))
	f.Add((&session{id: "x", status: schema.StatusClosed, purged: true}).encode(nil, level.First))
	f.Add(s.encode(nil, level.Real))
	s.seal()
	f.Add(s.encode(nil, level.Real))
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), // it has no segments
		Logger: pebbleLogger{slog.New(slog.DiscardHandler)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSession(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !tooNew(err) {
				t.Fatalf("not typed as corruption: %v", err)
			}
			return
		}
		for l := level.First; l <= level.Current; l++ {
			again, err := decodeSession(s.encode(nil, l))
			if err != nil {
				t.Fatalf("own encoding of level %d does not decode: %v", l, err)
			}
			if !bytes.Equal(again.encode(nil, l), s.encode(nil, l)) {
				t.Fatalf("encoding of level %d changes", l)
			}
		}
		var rb rowBuilder
		if _, err := rb.build(s, 1, db); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("not typed as corruption: %v", err)
		}
	})
}

// FuzzStored decodes arbitrary epoch infos, row keys, rollup keys and timer keys.
func FuzzStored(f *testing.F) {
	e := EpochInfo{Epoch: 3, Clock: 9, Ranges: []event.Range{{Partition: 1, From: 5, To: 9}},
		LeftOut: []Position{{1, 6}, {1, 8}}}
	f.Add(e.encode(nil))
	e.Level, e.Rules = level.Real, 3
	f.Add(e.encode(nil))
	e.Gaps = []Gap{{Partition: 1, From: 9, To: 12, At: 5, By: "n1", Reason: "lost"}}
	f.Add(e.encode(nil))
	e.Level, e.Suppressed = level.Guarded, 7
	f.Add(e.encode(nil))
	f.Add(appendRowKey(nil, "s1", Position{1, 2}))
	f.Add(appendRollupKey(nil, 20000, schema.RollupDevice, "mobile", "", "Firefox"))
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
		if date, table, dims, err := decodeRollupKey(string(b)); err == nil &&
			!bytes.Equal(appendRollupKey(nil, date, table, dims...), b) {
			t.Fatal("rollup key changes")
		}
		_, _, _ = decodeTimerKey(b)
	})
}

// FuzzEntryAgain: an entry that decodes encodes to an entry that decodes to the same.
func FuzzEntryAgain(f *testing.F) {
	f.Add(EncodeConfig(testConfig()))
	f.Add(EncodeCut(1700000000000, 7, 0xdeadbeef))
	f.Add(EncodePlan(SinkRevisions, 9))
	f.Add(EncodeAck(SinkClickHouse, 1<<63))
	f.Add(EncodeRefuse(SinkClickHouse, "s\x000/1", []byte(`{}`), "because", level.First))
	f.Add(EncodeHorizon(-1))
	f.Add(EncodeLevel(1700000000000, level.Real))
	f.Add(appendRefuse(&entry{sink: SinkSessions, rowKey: "s\x000/1", row: []byte(`{`), length: 1 << 20}))
	f.Add(EncodeRules(1700000000000, Rules{Number: 1, Revision: 7}))
	f.Add(EncodeSuppress(&SuppressEntry{Now: 1700000000000, Op: SuppressRemove, Salt: event.Salt{1}, By: "n1",
		Listings: []event.Listing{madeUp(1), madeUp(2)}}))
	f.Add(EncodePartitions(&PartitionsEntry{From: 6, Have: 1, Count: 12, Starts: []int64{0, 1 << 40}}))
	f.Add(EncodeSkip(&Gap{Partition: 2, From: 7, To: 9, At: 1700000000000, By: "n1", Reason: "flipped bit"}))
	f.Add(EncodeSkipEvents(&Gap{Partition: 2, From: 7, To: 9, At: 1700000000000, By: "n1", Reason: "trimmed"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil || e.kind == kindBatch {
			return // event.FuzzBatchRoundTrip does this
		}
		again := encodeEntry(&e)
		d, err := decodeEntry(again)
		if err != nil || !reflect.DeepEqual(d, e) || !bytes.Equal(encodeEntry(&d), again) {
			t.Fatalf("%+v, again %+v: %v", e, d, err)
		}
	})
}

func encodeEntry(e *entry) []byte {
	switch e.kind {
	case kindConfig:
		return EncodeConfig(e.config)
	case kindCut:
		return EncodeCut(e.now, e.epoch, e.checksum)
	case kindPlan:
		return EncodePlan(e.sink, e.epoch)
	case kindAck:
		return EncodeAck(e.sink, e.epoch)
	case kindRefuse:
		return appendRefuse(e)
	case kindLevel:
		return EncodeLevel(e.now, e.level)
	case kindRules:
		return EncodeRules(e.now, e.rules)
	case kindPartitions:
		return EncodePartitions(&e.added)
	case kindSuppress:
		return EncodeSuppress(&e.suppress)
	case kindSkip, kindSkipEvents:
		return appendGap([]byte{e.kind, level.Entry.At(level.Real)}, &e.gap)
	default:
		return EncodeHorizon(e.horizon)
	}
}

// FuzzFolder puts anything under any key of a store that was closed in order. Open and every reader return ErrCorrupt
// or read it. A store that has opened goes on or returns ErrCorrupt. Nothing panics.
func FuzzFolder(f *testing.F) {
	base := vfs.NewMem()
	s, err := Open(context.Background(), Options{FS: base, Dir: "shard", segmentBytes: 150})
	if err != nil {
		f.Fatal(err)
	}
	g := newGenerator(3)
	for i := range uint64(60) {
		entry := EncodeConfig(testConfig())
		if i > 0 {
			entry = g.entry()
		}
		res, err := s.Apply(i+1, 1, entry)
		if err != nil {
			f.Fatal(err)
		}
		g.learn(entry, res, s)
	}
	if err := s.Checkpoint(context.Background()); err != nil {
		f.Fatal(err)
	}
	seen := map[byte]int{}
	if err := scan(s.db, []byte{0}, []byte{255}, func(k, v []byte) error {
		if seen[k[0]]++; seen[k[0]] < 4 {
			f.Add(bytes.Clone(k), bytes.Clone(v))
			f.Add(bytes.Clone(k), bytes.Clone(v[:len(v)/2]))
			f.Add(bytes.Clone(k[:len(k)-1]), bytes.Clone(v))
		}
		return nil
	}); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("m"), []byte(`{"Version":1,"Index":5,"Configured":true,"OpenEpoch":1}`))
	f.Add([]byte("m"), []byte(`{"Version":1,"Index":5,"Configured":true,"OpenEpoch":18446744073709551615,`+
		`"LastClosed":18446744073709551615,"Refused":{"":7}}`))
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	rest := make([][]byte, 40) // the entries that a leader would go on with
	for i := range rest {
		rest[i] = g.entry()
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(key) == 0 {
			return
		}
		defer time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("%q = %q: no end", key, value)) }).Stop()
		fsys := vfs.NewMem()
		if _, err := vfs.Clone(base, fsys, "shard", "shard"); err != nil {
			t.Fatal(err)
		}
		db, err := pebble.Open("shard", &pebble.Options{FS: fsys, DisableWAL: true,
			Logger: pebbleLogger{slog.New(slog.DiscardHandler)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set(key, value, pebble.NoSync), db.Flush(), db.Close()); err != nil {
			t.Fatal(err)
		}
		typed := func(err error) bool {
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDiverged) && !tooNew(err) {
				t.Fatalf("%q = %q: not typed as corruption: %v", key, value, err)
			}
			return err == nil
		}
		s, err := Open(context.Background(), Options{FS: fsys, Dir: "shard", segmentBytes: 150})
		if !typed(err) {
			return
		}
		defer func() { must(t, s.Close()) }()
		s.View()
		_, err = s.Checksum()
		typed(err)
		typed(s.Sessions(func(*schema.SessionRow) error { return nil }))
		typed(s.Rollups(func(*schema.RollupRow) error { return nil }))
		for sink := range NumSinks {
			p, err := s.OpenPlan(sink)
			if errors.Is(err, ErrNoPlan) || !typed(err) {
				continue
			}
			typed(p.Sessions(func(*schema.SessionRow) error { return nil }))
			typed(p.Rollups(func(*schema.RollupRow) error { return nil }))
			typed(p.DeadLetters(func(*DeadLetter) error { return nil }))
			must(t, p.Close())
		}
		index, _ := s.Applied()
		for _, entry := range rest {
			index++
			if _, err := s.Apply(index, 1, entry); !typed(err) {
				return
			}
		}
	})
}

// FuzzApply applies anything that a log might hold, one entry after the other, to two replicas with different settings.
// They agree on every result and, in the end, on the state, or both stop. Nothing panics.
func FuzzApply(f *testing.F) {
	g := newGenerator(4)
	list := func(es ...[]byte) (b []byte) {
		for _, e := range es {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(e))), e...)
		}
		return b
	}
	for range 6 {
		f.Add(list(g.entry(), g.entry(), EncodeCut(g.now*1000, 0, 0), EncodePlan(SinkClickHouse, 1<<40), g.entry(),
			EncodeAck(SinkClickHouse, 1)))
	}
	suppress := func(op SuppressOp, ns ...int) []byte {
		e := SuppressEntry{Now: 1, Op: op, Salt: event.Salt{1}}
		for _, n := range ns {
			e.Listings = append(e.Listings, madeUp(n))
		}
		return EncodeSuppress(&e)
	}
	f.Add(list(EncodeLevel(1, level.Guarded), suppress(SuppressAdd, 1, 2, 1), suppress(SuppressRemove, 1, 3),
		AppendBatch(nil, &BatchEntry{Level: level.Guarded, Batch: event.Batch{List: 2,
			Ranges:     []event.Range{{Partition: 0, From: 0, To: 2}},
			Suppressed: []event.SuppressedRecord{{Partition: 0, Offset: 1, By: event.SuppressUser}}}})))
	f.Add(list(EncodeHorizon(1<<62), EncodeCut(1<<62, 5, 5), EncodePlan(SinkEvents, 0), EncodeAck(SinkEvents, 1<<63)))
	f.Add(list(EncodeConfig(Config{Partitions: []int32{1, 1}, Starts: []int64{-1}, Sinks: []SinkID{200},
		MaxTimers: -1})))
	f.Fuzz(func(t *testing.T, b []byte) {
		var entries [][]byte
		for len(b) >= 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			entries, b = append(entries, b[2:2+n]), b[2+n:]
		}
		var sums [2]uint64
		var log [2][]string
		for i := range 2 {
			s, err := Open(context.Background(), Options{FS: vfs.NewMem(), Dir: "shard", segmentBytes: 150,
				CheckpointBytes: []int64{0, 1}[i], SessionMemoryBytes: []int64{0, 1}[i]})
			must(t, err)
			_, err = s.Apply(1, 1, EncodeConfig(testConfig()))
			must(t, err)
			for k, e := range entries {
				res, err := s.Apply(uint64(k)+2, 1, e)
				log[i] = append(log[i], fmt.Sprintf("%T %v", res, err))
				if err != nil {
					if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDiverged) && !tooNew(err) {
						t.Fatalf("entry %d: %v", k, err)
					}
					break
				}
			}
			sums[i], err = s.Checksum()
			must(t, errors.Join(err, s.Close()))
		}
		if !slices.Equal(log[0], log[1]) || sums[0] != sums[1] {
			t.Fatalf("%x and %x\n%v\n%v", sums[0], sums[1], log[0], log[1])
		}
	})
}
