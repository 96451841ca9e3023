package stages

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/state"
	"deckle/wal"
)

const (
	perEntry = 3000 // records of a batch entry
	entries  = 32
	records  = perEntry * entries
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// stream has the simulator's records, and what a leader makes of them: batches from one partition, and their entries.
type stream struct {
	keys    [][]byte
	values  [][]byte
	batches []*event.Batch
	entries [][]byte
}

// theStream is made once for all benchmarks; none of them changes it.
var theStream = sync.OnceValues(makeStream)

func newStream(b *testing.B) *stream {
	b.Helper()
	s, err := theStream()
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func makeStream() (*stream, error) {
	g, err := sim.NewGenerator(sim.Options{Seed: 1, Sessions: 2000, Start: start}, 0)
	if err != nil {
		return nil, err
	}
	s := &stream{}
	for range records {
		r, _ := g.Next()
		s.keys, s.values = append(s.keys, slices.Clone(r.Key)), append(s.values, slices.Clone(r.Value))
	}
	rules := newRules()
	d := event.Decoder{Rules: &rules.Event}
	for from := 0; from < records; from += perEntry {
		e := &state.BatchEntry{Level: level.Current, Now: start.Add(time.Hour).UnixMilli()}
		e.Batch.Rules = rules.Number
		e.Batch.Ranges = []event.Range{{From: int64(from), To: int64(from + perEntry), LeaderEpoch: 1}}
		last := from + perEntry - 1
		e.Batch.Seen = []event.Seen{{KafkaTime: start.Add(time.Minute).UnixMilli(), LastOffset: int64(last),
			LastHash: event.HashRecord(int64(last), s.keys[last], s.values[last])}}
		e.Batch.Items = make([]event.Item, perEntry)
		for i, v := range s.values[from : from+perEntry] {
			it := &e.Batch.Items[i]
			it.Offset, it.KafkaTimestamp = int64(from+i), start.Add(time.Minute).UnixMilli()
			if reason, detail := d.Decode(v, it.KafkaTimestamp, &it.Event); reason != event.ReasonNone {
				return nil, fmt.Errorf("%s: %s", reason, detail)
			}
			it.SetKey(s.keys[from+i])
		}
		s.batches, s.entries = append(s.batches, &e.Batch), append(s.entries, state.AppendBatch(nil, e))
	}
	return s, nil
}

// newRules are those of a new shard of today's binary. The stages measure what it does, not what it still can do for an
// older level.
func newRules() state.Rules {
	r := state.DefaultRules()
	r.Number = 1
	return r
}

func perEvent(b *testing.B, events int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(events), "ns/event")
	b.ReportAllocs()
}

func BenchmarkDecode(b *testing.B) {
	all := newStream(b).values
	rules := newRules()
	d := event.Decoder{Rules: &rules.Event}
	var ev event.Event
	for b.Loop() {
		for _, v := range all {
			if reason, detail := d.Decode(v, start.Add(time.Minute).UnixMilli(), &ev); reason != event.ReasonNone {
				b.Fatal(reason, detail)
			}
		}
	}
	perEvent(b, records)
}

func BenchmarkEncodeBatch(b *testing.B) {
	s := newStream(b)
	bytes := 0
	for _, e := range s.entries {
		bytes += len(e)
	}
	var buf []byte
	for b.Loop() {
		for _, batch := range s.batches {
			buf = event.AppendBatch(buf[:0], batch, level.Current)
		}
	}
	perEvent(b, records)
	b.ReportMetric(float64(bytes)/records, "B/event")
}

func BenchmarkDecodeBatch(b *testing.B) {
	var encoded [][]byte
	for _, batch := range newStream(b).batches {
		encoded = append(encoded, event.AppendBatch(nil, batch, level.Current))
	}
	var batch event.Batch
	var s event.BatchScratch
	for b.Loop() {
		for _, e := range encoded {
			if err := event.DecodeBatch(e, &batch, &s); err != nil {
				b.Fatal(err)
			}
		}
	}
	perEvent(b, records)
}

// BenchmarkLog appends the entries, each with its fsync.
func BenchmarkLog(b *testing.B) {
	all := newStream(b).entries
	l, err := wal.Open(context.Background(), wal.Options{FS: vfs.Default, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	g := l.Group(1)
	at := uint64(0)
	for b.Loop() {
		for _, e := range all {
			at++
			if err := g.StoreLog(&raft.Log{Index: at, Term: 1, Data: e}); err != nil {
				b.Fatal(err)
			}
		}
		if err := g.DeleteRange(1, at-10); err != nil {
			b.Fatal(err)
		}
	}
	perEvent(b, records)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// shard is a store that has its configuration.
type shard struct {
	*state.Store
	b     *testing.B
	index uint64
}

func openShard(b *testing.B, ids ...state.SinkID) *shard {
	b.Helper()
	return openShardOn(b, vfs.NewMem(), ids...)
}

func openShardOn(b *testing.B, fs vfs.FS, ids ...state.SinkID) *shard {
	b.Helper()
	s, err := state.Open(context.Background(), state.Options{FS: fs, Dir: "state"})
	if err != nil {
		b.Fatal(err)
	}
	sh := &shard{Store: s, b: b}
	sh.apply(state.EncodeConfig(state.Config{
		ClusterID: uuid.NewString(), Pipeline: "bench", Shards: 1, Topic: "t",
		Partitions: []int32{0}, Starts: []int64{0}, Sinks: ids,
		IdleTimeout: 30 * time.Minute, Grace: 30 * time.Second, Retention: 6 * time.Hour,
	}))
	sh.apply(state.EncodeLevel(start.UnixMilli(), level.Current))
	sh.apply(state.EncodeRules(start.UnixMilli(), newRules()))
	return sh
}

func (s *shard) apply(entry []byte) any {
	s.index++
	res, err := s.Apply(s.index, 1, entry)
	if err != nil {
		s.b.Fatal(err)
	}
	if r, ok := res.(*state.BatchResult); ok && (r.Rejected || r.Applied != perEntry) {
		s.b.Fatalf("batch: %+v", r)
	}
	return res
}

func (s *shard) cut() { s.apply(state.EncodeCut(start.Add(time.Hour).UnixMilli(), 0, 0)) }

// plan is a sink's plan of everything that is closed.
func (s *shard) plan(id state.SinkID) *state.Plan {
	s.apply(state.EncodePlan(id, 1<<40))
	p, err := s.OpenPlan(id)
	if err != nil {
		s.b.Fatal(err)
	}
	return p
}

// BenchmarkFold decodes the entries, applies them to an empty shard, and applies a Cut at the end.
func BenchmarkFold(b *testing.B) {
	all := newStream(b).entries
	for b.Loop() {
		b.StopTimer()
		s := openShard(b, state.SinkClickHouse)
		b.StartTimer()
		for _, e := range all {
			s.apply(e)
		}
		s.cut()
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	perEvent(b, records)
}

// BenchmarkSessionRows builds the rows of all sessions of a plan.
func BenchmarkSessionRows(b *testing.B) {
	s := openShard(b, state.SinkClickHouse)
	for _, e := range newStream(b).entries {
		s.apply(e)
	}
	s.cut()
	p := s.plan(state.SinkClickHouse)
	for b.Loop() {
		rows := 0
		if err := p.Sessions(func(*schema.SessionRow) error { rows++; return nil }); err != nil || rows == 0 {
			b.Fatal(rows, err)
		}
	}
	perEvent(b, records)
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSessionsParquet writes a plan of closed sessions to a store in memory, which includes building the rows.
func BenchmarkSessionsParquet(b *testing.B) {
	s := openShard(b, state.SinkSessions)
	for _, e := range newStream(b).entries {
		s.apply(e)
	}
	later := state.BatchEntry{Level: level.Current, Now: start.Add(time.Hour).UnixMilli(), Idle: []int32{0},
		Elapsed: 2 * time.Hour}
	for s.View().OpenStatus > 0 { // all expire
		s.index++
		if _, err := s.Apply(s.index, 1, state.AppendBatch(nil, &later)); err != nil {
			b.Fatal(err)
		}
	}
	s.cut()
	for b.Loop() {
		b.StopTimer()
		d := openDelta(b, false)
		p := s.plan(state.SinkSessions)
		b.StartTimer()
		if err := d.Sessions().Write(context.Background(), p); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	perEvent(b, records)
}

func openDelta(b *testing.B, events bool) *delta.Delta {
	b.Helper()
	d, err := delta.Open(context.Background(), delta.Options{
		Store: objects.NewMem(time.Now), ClusterID: uuid.NewString(), Pipeline: "bench", Node: "bench", Events: events,
		Level:       level.Current,
		EventSource: func(uint32) sinks.EventSource { return nil }, // the buffer has all events
	})
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// BenchmarkEventsParquet encodes every raw event, and seals the epoch.
func BenchmarkEventsParquet(b *testing.B) {
	all := newStream(b).batches
	d := openDelta(b, true)
	epoch := uint64(0)
	for b.Loop() {
		buf := d.Events().Buffer(0)
		for _, batch := range all {
			if err := buf.Append(batch, nil); err != nil {
				b.Fatal(err)
			}
		}
		epoch++
		buf.Seal(epoch, true)
		buf.Discard()
	}
	perEvent(b, records)
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
}
