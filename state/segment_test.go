package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// bigSession is one shard at level 2 with one session of large events.
type bigSession struct {
	t     testing.TB
	s     *Store
	index uint64
	next  int64
}

func newBigSession(t testing.TB, opts Options) *bigSession {
	t.Helper()
	s, err := Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	b := &bigSession{t: t, s: s}
	b.apply(EncodeConfig(testConfig()))
	b.apply(EncodeLevel(t0*1000, level.Real))
	return b
}

func (b *bigSession) apply(entry []byte) any {
	b.t.Helper()
	b.index++
	res, err := b.s.Apply(b.index, 1, entry)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// item is the next event of a session, with n bytes of metrics that differ from event to event.
func (b *bigSession) item(sid string, n int) event.Item {
	o := b.next
	b.next++
	return event.Item{Partition: 0, Offset: o, KafkaTimestamp: t0 * 1000, Event: event.Event{
		ID: event.ID{1, byte(o >> 16), byte(o >> 8), byte(o)}, SessionID: sid, Type: event.ArticleView, Timestamp: t0,
		ArticleID: fmt.Sprint("a", o%50), Category: "news",
		EngagementMetrics: fmt.Sprintf(`{"n":%d,"x":"%s"}`, o, strings.Repeat(string(rune('a'+o%26)), n)),
	}}
}

func (b *bigSession) send(sid string, events, metrics int) *BatchResult {
	b.t.Helper()
	e := &BatchEntry{Now: t0 * 1000, Level: level.Real, Idle: []int32{1, 2}}
	e.Batch.Rules = b.s.View().Rules.Number
	from := b.next
	for range events {
		e.Batch.Items = append(e.Batch.Items, b.item(sid, metrics))
	}
	e.Batch.Ranges = []event.Range{{Partition: 0, From: from, To: b.next, LeaderEpoch: 1}}
	e.Batch.Seen = make([]event.Seen, 1)
	return b.apply(AppendBatch(nil, e)).(*BatchResult)
}

// flush closes the epoch, and has every sink read and acknowledge it. It returns the page events of the session.
func (b *bigSession) flush(sid string) string {
	b.t.Helper()
	b.apply(EncodeCut(t0*1000, 0, 0))
	text := ""
	for _, sink := range b.s.View().Config.Sinks {
		pr := b.apply(EncodePlan(sink, 1<<40)).(*PlanResult)
		if pr.B == 0 {
			continue
		}
		p, err := b.s.OpenPlan(sink)
		if err != nil {
			b.t.Fatal(err)
		}
		if sink == SinkClickHouse {
			err = p.Sessions(func(r *schema.SessionRow) error {
				if r.SessionID == sid {
					text = strings.Clone(r.PageEvents)
				}
				return nil
			})
		}
		if err := errors.Join(err, p.Close()); err != nil {
			b.t.Fatal(err)
		}
		b.apply(EncodeAck(sink, pr.B))
	}
	return text
}

func (b *bigSession) close() {
	if err := b.s.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// wrote is the number of bytes that the store's checkpoints have given to Pebble.
func (b *bigSession) wrote() int64 { return b.s.Metrics().Flush.WriteThroughput.Bytes }

func segmentKeys(t *testing.T, s *Store) (keys []string) {
	t.Helper()
	must(t, scan(s.db, []byte{prefixSegment}, []byte{prefixSegment + 1}, func(k, _ []byte) error {
		keys = append(keys, string(k))
		return nil
	}))
	return keys
}

// TestBigSessionCostsWhatItIs: 1,900 events of one session with 24 KB of metrics each were an image of 45 MB that every
// entry wrote again (field report F14b). They must be written about once, at no more checkpoints than their bytes
// are worth, and leave the memory with their checkpoint; and the row has all of them.
func TestBigSessionCostsWhatItIs(t *testing.T) {
	const events, metrics, checkpoint = 1900, 24 << 10, 32 << 20
	b := newBigSession(t, Options{FS: unsynced{vfs.Default}, Dir: t.TempDir() + "/shard", CheckpointBytes: checkpoint})
	defer b.close()
	var flushes, most int64
	memory, n := int64(0), events
	if testing.Short() {
		n = 700
	}
	for i := range n {
		b.send("big", 1, metrics)
		v := b.s.View()
		memory = max(memory, v.MemoryBytes)
		if v.DirtyBytes < most { // a checkpoint was made
			flushes++
		}
		most = v.DirtyBytes
		if i%500 == 499 {
			text := b.flush("big")
			if got := strings.Count(text, `"event_type"`); got != i+1 {
				t.Fatalf("after %d events the row has %d", i+1, got)
			}
			most = 0
		}
	}
	bytes := int64(n) * metrics
	if flushes > bytes/checkpoint+1 {
		t.Errorf("%d checkpoints besides the cuts for %d MiB of events", flushes, bytes>>20)
	}
	if memory > checkpoint+1<<20 {
		t.Errorf("the session took %d bytes of memory", memory)
	}
	must(t, b.s.Checkpoint(context.Background()))
	if v := b.s.View(); v.MemoryBytes > 1<<20 {
		t.Errorf("the session takes %d bytes of memory after a checkpoint", v.MemoryBytes)
	}
	if w := b.wrote(); w > 2*bytes {
		t.Errorf("%d bytes were written for %d of events", w, bytes)
	}
	row, ok, err := b.s.Session("big")
	must(t, err)
	if !ok || int(row.TotalEvents) != n || strings.Count(row.PageEvents, `"event_type"`) != n {
		t.Errorf("the API's row has %d events", row.TotalEvents)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d checkpoints besides cuts, at most %d bytes of memory, %d written for %d, heap %d", flushes, memory,
		b.wrote(), bytes, m.HeapInuse)
}

// TestSegmentsChangeNothing: a session has the same row with segments and without, from memory, Pebble and a plan.
func TestSegmentsChangeNothing(t *testing.T) {
	rows := map[int]string{}
	for _, size := range []int{1 << 30, 1 << 10, 1} {
		b := newBigSession(t, Options{FS: vfs.NewMem(), Dir: "shard", segmentBytes: size, SessionMemoryBytes: 1})
		var out []string
		for i := range 20 {
			b.send("s", 1+i%3, 10*i)
			if i%5 == 4 {
				out = append(out, b.flush("s"))
			}
			row, _, err := b.s.Session("s")
			must(t, err)
			out = append(out, row.PageEvents, fmt.Sprint(row.Pages))
		}
		rows[size] = strings.Join(out, "\n")
		if n := len(segmentKeys(t, b.s)); (n > 0) != (size < 1<<30) {
			t.Errorf("%d segments at a size of %d", n, size)
		}
		b.close()
	}
	if rows[1<<10] != rows[1<<30] || rows[1] != rows[1<<30] {
		t.Errorf("rows differ: %s", firstDifference(rows[1<<10], rows[1<<30]))
	}
}

// TestSegmentsOfLevelOne: a session that was whole at level 1, however large, gets segments with its first change at
// level 2, whether it was in memory when the level rose or not.
func TestSegmentsOfLevelOne(t *testing.T) {
	var sums []uint64
	for _, memory := range []int64{1, 1 << 30} {
		s, err := Open(context.Background(), Options{FS: vfs.NewMem(), Dir: "shard", SessionMemoryBytes: memory,
			segmentBytes: 1 << 10})
		must(t, err)
		b := &bigSession{t: t, s: s}
		b.apply(EncodeConfig(testConfig()))
		e := &BatchEntry{Now: t0 * 1000, Idle: []int32{1, 2}}
		for range 30 {
			e.Batch.Items = append(e.Batch.Items, b.item("s", 200))
		}
		e.Batch.Ranges = []event.Range{{Partition: 0, From: 0, To: b.next, LeaderEpoch: 1}}
		b.apply(AppendBatch(nil, e))
		b.apply(EncodeLevel(t0*1000, level.Real))
		if n := len(segmentKeys(t, s)); n != 0 {
			t.Errorf("%d segments at level 1", n)
		}
		b.send("s", 1, 200)
		if got := strings.Count(b.flush("s"), `"event_type"`); got != 31 {
			t.Errorf("the row has %d events", got)
		}
		if n := len(segmentKeys(t, s)); n != 1 {
			t.Errorf("%d segments", n)
		}
		sum, err := s.Checksum()
		must(t, err)
		sums = append(sums, sum)
		b.close()
	}
	if sums[0] != sums[1] {
		t.Error("replicas part")
	}
}

// TestSegmentsGoWithTheSession: the segments of a session are there for as long as a sink may read one of its images,
// and go by the checkpoint after that, with nobody else's. After a crash they are there again, as the state says.
func TestSegmentsGoWithTheSession(t *testing.T) {
	b := newBigSession(t, Options{FS: vfs.NewMem(), Dir: "shard", segmentBytes: 256})
	defer b.close()
	b.send("s", 10, 100)
	b.send("other", 10, 100)
	b.flush("s")
	all := len(segmentKeys(t, b.s))
	send := func(it event.Item, now int64) {
		b.apply(AppendBatch(nil, &BatchEntry{Now: now * 1000, Level: level.Real, Idle: []int32{1, 2},
			Batch: event.Batch{Items: []event.Item{it},
				Ranges: []event.Range{{Partition: 0, From: it.Offset, To: it.Offset + 1}}}}))
	}
	clock := func(now int64) {
		it := b.item("clock", 1)
		it.Timestamp, it.KafkaTimestamp = now, now*1000
		send(it, now)
	}
	clock(t0 + 100) // both expire
	b.apply(EncodeCut(t0*1000, 0, 0))
	clock(t0 + 200)
	late := b.item("other", 1)
	late.Timestamp = t0 + 190
	send(late, t0+200)
	clock(t0 + 302) // s is purged, other is not
	b.apply(EncodeCut(t0*1000, 0, 0))
	if n := len(segmentKeys(t, b.s)); n < all {
		t.Fatalf("%d segments of %d, although no sink has the last images", n, all)
	}
	b.flush("other")
	must(t, b.s.Checkpoint(context.Background()))
	keys := segmentKeys(t, b.s)
	prefix := string(appendSID([]byte{prefixSegment}, "s"))
	for _, k := range keys {
		if strings.HasPrefix(k, prefix) {
			t.Errorf("%q is still there", k)
		}
	}
	if len(keys) == 0 {
		t.Error("the segments of the other session have gone, too")
	}
}

// TestDamagedSegment: a segment that is missing or is another one is reported, and never read as the session's events.
func TestDamagedSegment(t *testing.T) {
	fs := vfs.NewMem()
	b := newBigSession(t, Options{FS: fs, Dir: "shard", segmentBytes: 256, SessionMemoryBytes: 1})
	b.send("s", 10, 100)
	b.flush("s")
	defer b.close()
	for _, change := range []func(k []byte) error{
		func(k []byte) error { return b.s.db.Set(k, []byte("x"), pebble.NoSync) },
		func(k []byte) error { return b.s.db.Delete(k, pebble.NoSync) },
	} {
		must(t, change([]byte(segmentKeys(t, b.s)[0])))
		if _, _, err := b.s.Session("s"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("error %v", err)
		}
	}
}

// BenchmarkBigSession is F14b at the state: one event of 4 KiB at a time for one session of up to 1,900 events.
func BenchmarkBigSession(b *testing.B) {
	for _, metrics := range []int{4 << 10, 24 << 10} {
		b.Run(fmt.Sprint(metrics), func(b *testing.B) {
			big := newBigSession(b, Options{FS: unsynced{vfs.Default}, Dir: b.TempDir() + "/shard"})
			defer big.close()
			rng := rand.New(rand.NewPCG(1, 1))
			for i := range b.N {
				big.send(fmt.Sprint("s", i/1900), 1, metrics)
				if rng.IntN(200) == 0 {
					big.flush("s")
				}
			}
			b.ReportMetric(float64(big.wrote())/float64(b.N), "written-B/op")
		})
	}
}
