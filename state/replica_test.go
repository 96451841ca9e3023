package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"deckle/cipherfs/cipherfstest"
	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seeds returns the seeds of a randomised test: only DECKLE_SEED if it is set, otherwise n random ones. Each is printed
// when it fails.
func seeds(t *testing.T, n int) []uint64 {
	if v := os.Getenv("DECKLE_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		must(t, err)
		return []uint64{seed}
	}
	if testing.Short() { // each seed takes ten times as long under the race detector
		n = 1
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = rand.Uint64()
	}
	return out
}

// generator makes a random log: batches of items with duplicates, late and broken records, ticks, Cuts, plans, acks,
// refusals and forced horizons. It follows a leader's state only through the results that it is given.
type generator struct {
	r     *rand.Rand
	next  map[int32]int64
	now   int64
	ids   map[string][]event.ID
	items int
	plans [NumSinks]uint64
	level level.Level
	rules Rules
	list  uint64
	parts int32 // that the shard reads; ids from 0 on
	count int32 // View.TopicPartitions
}

func newGenerator(seed uint64) *generator {
	return &generator{r: rand.New(rand.NewPCG(seed, 1)), next: map[int32]int64{}, now: t0, ids: map[string][]event.ID{},
		parts: 3}
}

func testConfig() Config {
	return Config{
		ClusterID: "c", Pipeline: "p", Shards: 1, Topic: "t", Partitions: []int32{0, 1, 2}, Starts: []int64{0, 0, 0},
		Sinks:       []SinkID{SinkEvents, SinkSessions, SinkRevisions, SinkClickHouse, SinkDeadLetter},
		IdleTimeout: 60 * time.Second, Grace: 5 * time.Second, Retention: 300 * time.Second, MaxTimers: 7,
	}
}

func (g *generator) entry() []byte {
	switch n := g.r.IntN(20); {
	case n == 0 && g.r.IntN(3) == 0:
		return EncodeLevel(g.now*1000, level.Level(1+g.r.IntN(int(level.Current))))
	case n == 2 && g.level >= level.Guarded && g.r.IntN(3) == 0: // some change nothing, one in nine has another salt
		e := SuppressEntry{Now: g.now * 1000, Op: SuppressOp(1 + g.r.IntN(2)),
			Salt: event.Salt{byte(1 + g.r.IntN(9)/8)}}
		for range g.r.IntN(6) {
			e.Listings = append(e.Listings, madeUp(g.r.IntN(20)))
		}
		return EncodeSuppress(&e)
	case n == 3 && g.level >= level.Operate && g.r.IntN(3) == 0:
		return g.addPartitions()
	case n == 1 && g.r.IntN(8) == 0: // some come too early, or twice
		return EncodeRules(g.now*1000, Rules{Number: g.rules.Number + 1 - uint32(g.r.IntN(4)/3), Revision: 7,
			ClockSlack: 20 * time.Second, LeaveOut: 30 * time.Second, MaxSessionBytes: int64(g.r.IntN(3)) * 500})
	case n < 12:
		return AppendBatch(nil, g.batch())
	case n < 13:
		return AppendBatch(nil, &BatchEntry{Now: g.now * 1000,
			Elapsed: time.Duration(g.r.IntN(3000)) * time.Millisecond, Idle: Share(0, 1, g.parts)})
	case n < 15:
		return EncodeCut(g.now*1000, 0, 0)
	case n < 17:
		return EncodePlan(SinkID(g.r.IntN(int(NumSinks))), 1<<40)
	case n < 19:
		sink := SinkID(g.r.IntN(int(NumSinks)))
		return EncodeAck(sink, g.plans[sink])
	default:
		if n := g.r.IntN(4); n < 2 && g.level >= level.Real {
			if n == 0 {
				return g.skipEvents()
			}
			return g.skip()
		}
		if g.r.IntN(3) == 0 {
			return EncodeHorizon(g.now - int64(g.r.IntN(200)))
		}
		sid := g.session()
		return EncodeRefuse(SinkClickHouse, sid+"\x00"+"0/0", []byte("{}"), "test", level.First)
	}
}

// addPartitions adds up to two partitions, of at most eight in all; now and then as seen from elsewhere.
func (g *generator) addPartitions() []byte {
	e := PartitionsEntry{From: g.count, Have: g.parts, Count: min(g.parts+int32(g.r.IntN(3)), 8)}
	for range e.Count - e.Have {
		e.Starts = append(e.Starts, int64(g.r.IntN(30)))
	}
	switch g.r.IntN(8) {
	case 0:
		e.From = min(e.From+1, e.Count)
	case 1:
		e.Starts = append(e.Starts, 0)
	case 2:
		e.Have--
	}
	return EncodePartitions(&e)
}

// skip gives up some offsets of a partition, or none; now and then from where the state is not.
func (g *generator) skip() []byte {
	p := g.r.Int32N(g.parts)
	from := g.next[p]
	if from > 0 && g.r.IntN(5) == 0 {
		from--
	}
	return EncodeSkip(&Gap{Partition: p, From: from, To: from + int64(g.r.IntN(4)), At: g.now * 1000, By: "n",
		Reason: "test"})
}

// skipEvents gives up raw events of some offsets that have been read, of which the sink may have acknowledged some.
func (g *generator) skipEvents() []byte {
	p := g.r.Int32N(g.parts)
	from := max(0, g.next[p]-int64(g.r.IntN(40)))
	return EncodeSkipEvents(&Gap{Partition: p, From: from, To: from + int64(g.r.IntN(12)), At: g.now * 1000, By: "n",
		Reason: "test"})
}

func (g *generator) session() string { return fmt.Sprintf("session-%d", g.r.IntN(40)) }

func (g *generator) batch() *BatchEntry {
	e := &BatchEntry{Now: g.now * 1000, Level: g.level}
	if g.level >= level.Real {
		e.Batch.Rules = g.rules.Number
	}
	if g.level >= level.Guarded {
		e.Batch.List = g.list
	}
	for p := range g.parts {
		if g.r.IntN(4) == 0 {
			e.Idle = append(e.Idle, p)
			continue
		}
		from := g.next[p]
		o := from
		for range 1 + g.r.IntN(12) {
			o += int64(g.r.IntN(3)) // gaps, like those that transaction markers leave
			g.now += int64(g.r.IntN(2))
			switch g.r.IntN(20) {
			case 0:
				e.Batch.Rejects = append(e.Batch.Rejects,
					event.Reject{Partition: p, Offset: o, Reason: event.Malformed, Detail: "x", Length: 1})
			case 1:
				e.Batch.Nulls++
			case 2:
				if g.level < level.Guarded {
					e.Batch.Nulls++
					break
				}
				e.Batch.Suppressed = append(e.Batch.Suppressed, event.SuppressedRecord{Partition: p, Offset: o,
					By: event.SuppressUser + event.SuppressKind(o%2)})
			default:
				e.Batch.Items = append(e.Batch.Items, g.item(p, o))
			}
			o++
		}
		if from > 0 && g.r.IntN(15) == 0 {
			from-- // a repeated fetch, for which the whole entry is refused
		}
		e.Batch.Ranges = append(e.Batch.Ranges, event.Range{Partition: p, From: from, To: o, LeaderEpoch: 1})
		if g.level >= level.Real {
			seen := event.Seen{AtHead: g.r.IntN(2) == 0, LastOffset: o - 1, LastHash: g.r.Uint64() | 1}
			if g.r.IntN(5) > 0 {
				seen.KafkaTime = 1000 * (g.now - int64(g.r.IntN(3)*g.r.IntN(200)))
			}
			e.Batch.Seen = append(e.Batch.Seen, seen)
		}
	}
	if g.level >= level.Real && g.r.IntN(6) == 0 {
		e.Out = append(e.Out, g.r.Int32N(g.parts))
	}
	return e
}

func (g *generator) item(p int32, o int64) event.Item {
	sid := g.session()
	g.items++
	it := event.Item{Partition: p, Offset: o, KafkaTimestamp: g.now * 1000, Event: event.Event{
		SessionID: sid, UserID: uint64(g.r.IntN(5)), Type: event.Type(1 + g.r.IntN(int(event.SessionEnd)+2)),
		Timestamp: g.now - int64(g.r.IntN(10)), Brand: []string{"bild", "welt", ""}[g.r.IntN(3)],
		City:      fmt.Sprint(g.r.IntN(9)),
		ArticleID: fmt.Sprint("a", g.r.IntN(4)), Category: "news", EngagementMetrics: `{"scroll_depth":1}`,
	}}
	if it.Type >= event.SessionEnd {
		it.Type = event.Search
		if g.r.IntN(2) == 0 {
			it.Type = event.SessionEnd
		}
	}
	switch g.r.IntN(20) {
	case 0:
		it.Timestamp = g.now - 100 - int64(g.r.IntN(400)) // late, or too late
	case 1:
		it.Timestamp = g.now + 3000 // a wrong clock
	}
	switch known := g.ids[sid]; {
	case len(known) > 0 && g.r.IntN(10) == 0:
		it.ID = known[g.r.IntN(len(known))]
	default:
		it.ID = event.ID{byte(g.items >> 16), byte(g.items >> 8), byte(g.items)}
		g.ids[sid] = append(known, it.ID)
	}
	it.Measure = uint64(g.r.IntN(100))
	if it.Type != event.ArticleView && it.Type != event.VideoPlay && it.Type != event.AdClick {
		it.Measure = 0
	}
	it.EngagementMetrics = "" // Measure is not recomputed from it
	if g.level >= level.Real {
		it.SetKey([]byte([]string{sid, sid, sid, fmt.Sprint(it.UserID), fmt.Sprint("k", g.r.IntN(3)), ""}[g.r.IntN(6)]))
	}
	return it
}

// learn gives the generator the result that the leader got.
func (g *generator) learn(entry []byte, res any, s *Store) {
	for _, p := range s.View().Partitions {
		g.next[p.Partition] = p.Next
	}
	for i, p := range s.View().Sinks {
		g.plans[i] = p.PlanB
	}
	g.parts, g.count = int32(len(s.View().Partitions)), s.View().TopicPartitions
	g.level, g.rules, g.list = s.View().Level, s.View().Rules, s.Suppression().Number
}

// TestReplicasAgree applies one random log to replicas that make their checkpoints at different times, keep different
// numbers of sessions in memory, and crash, losing some or all of what Pebble had not synced. At equal index their
// logical checksums, their results and the content of their plans are the same (I2, I4, I5, S1, S2, S6).
func TestReplicasAgree(t *testing.T) {
	for _, seed := range seeds(t, 6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { replicasAgree(t, seed) })
	}
}

type replica struct {
	s    *Store
	fs   *vfs.MemFS
	opts Options
	plan map[SinkID]string // what its outstanding plans held when they were first read
}

func (r *replica) open(t *testing.T) {
	// sessions of a few events have segments, and sessions with a wrong clock leave while the log is applied
	r.opts.FS, r.opts.Dir, r.opts.segmentBytes, r.opts.stay = cipherfstest.Over(r.fs), "shard", 150, 400
	s, err := Open(context.Background(), r.opts)
	must(t, err)
	r.s = s
}

func replicasAgree(t *testing.T, seed uint64) {
	g := newGenerator(seed)
	faults := rand.New(rand.NewPCG(seed, 2))
	replicas := []*replica{
		{fs: vfs.NewCrashableMem()},
		{fs: vfs.NewCrashableMem(), opts: Options{CheckpointBytes: 1}},
		{fs: vfs.NewCrashableMem(), opts: Options{CheckpointBytes: 20_000, SessionMemoryBytes: 1}},
		{fs: vfs.NewCrashableMem(), opts: Options{CheckpointBytes: 60_000, SessionMemoryBytes: 20_000}},
	}
	for _, r := range replicas {
		r.open(t)
		r.plan = map[SinkID]string{}
	}
	var log [][]byte
	first := replicas[0]
	check := func(r *replica, index uint64, want any, wantSum uint64) {
		t.Helper()
		var res any
		for at, _ := r.s.Applied(); at < index; at++ {
			var err error
			res, err = r.s.Apply(at+1, 1, log[at])
			must(t, err)
		}
		if !reflect.DeepEqual(res, want) {
			t.Fatalf("entry %d: result %+v, first replica %+v", index, res, want)
		}
		if index%3 != 0 {
			return
		}
		sum, err := r.s.Checksum()
		must(t, err)
		if sum != wantSum {
			t.Fatalf("entry %d of kind %d: checksum %x, first replica %x", index, log[index-1][0], sum, wantSum)
		}
	}
	for i := range 250 {
		entry := EncodeConfig(testConfig())
		if i > 0 {
			entry = g.entry()
		}
		log = append(log, entry)
		index := uint64(len(log))
		res, err := first.s.Apply(index, 1, entry)
		must(t, err)
		g.learn(entry, res, first.s)
		sum, err := first.s.Checksum()
		must(t, err)
		for _, r := range replicas[1:] {
			if faults.IntN(25) == 0 {
				crash := r.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 70, 100}[faults.IntN(4)],
					RNG: faults})
				must(t, r.s.Close())
				r.fs = crash
				r.open(t)
			}
			if faults.IntN(20) == 0 {
				must(t, r.s.Checkpoint(context.Background()))
			}
			check(r, index, res, sum)
		}
		if i%7 == 0 {
			comparePlans(t, index, replicas)
		}
	}
	conserved(t, first.s)
	if v := first.s.View(); v.Level >= level.Real {
		n := 0
		must(t, scan(first.s.db, []byte{prefixSegment}, []byte{prefixSegment + 1}, func(_, _ []byte) error {
			n++
			return nil
		}))
		t.Logf("%d segments", n)
	}
	for _, r := range replicas {
		must(t, r.s.Close())
	}
}

// comparePlans compares all outstanding plans, with those of the other replicas and with what they held when they were
// first read.
func comparePlans(t *testing.T, index uint64, replicas []*replica) {
	t.Helper()
	for sink := range NumSinks {
		want := dumpPlan(t, replicas[0].s, sink)
		for _, r := range replicas[1:] {
			if got := dumpPlan(t, r.s, sink); got != want {
				t.Fatalf("after entry %d, plan of %s: %s", index, sink, firstDifference(got, want))
			}
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("line %d\n%s\nfirst replica\n%s", i, g[i], w[min(i, len(w)-1)])
		}
	}
	return fmt.Sprintf("first replica has more: %s", w[len(g)])
}

func dumpPlan(t *testing.T, s *Store, sink SinkID) string {
	p, err := s.OpenPlan(sink)
	if err == ErrNoPlan {
		return ""
	}
	must(t, err)
	out := fmt.Sprint(p.A, p.B, p.Epochs, p.Ranges(), p.LeftOut(), p.Given(), p.Fetchable(), "\n")
	seen := map[string]bool{}
	if sink == SinkDeadLetter {
		must(t, p.DeadLetters(func(l *DeadLetter) error { out += fmt.Sprintf("%+v\n", *l); return nil }))
	}
	// what the other parts of the plan were may be deleted, if other sinks have acknowledged it
	if !sink.reads(readsImages) {
		must(t, p.Close())
		return out
	}
	must(t, p.Sessions(func(r *schema.SessionRow) error {
		if seen[r.Key()] {
			t.Fatalf("plan (%d, %d] of %s has two images of %q", p.A, p.B, sink, r.Key())
		}
		seen[r.Key()] = true
		out += fmt.Sprintf("%+v\n", *r)
		return nil
	}))
	rollups := map[string]bool{}
	must(t, p.Rollups(func(r *schema.RollupRow) error {
		k := fmt.Sprint(r.Table, r.Date, r.Dims)
		if rollups[k] {
			t.Fatalf("plan (%d, %d] of %s has two totals of %s", p.A, p.B, sink, k)
		}
		rollups[k] = true
		out += fmt.Sprintf("%+v\n", *r)
		return nil
	}))
	must(t, p.Close())
	return out
}

// conserved checks that what was applied adds up (I1), and that the rollups are the sums over the sessions, unless they
// still count sessions that have been purged.
func conserved(t *testing.T, s *Store) {
	t.Helper()
	v := s.View()
	if v.Applied == 0 || v.Duplicates == 0 || v.DeadLetters[event.TooLate] == 0 || v.DeadLetters[event.Malformed] == 0 {
		t.Fatalf("the log does not cover its cases: %+v", v)
	}
	var live int64
	must(t, s.Sessions(func(*schema.SessionRow) error { live++; return nil }))
	if live > v.LiveSessions {
		t.Fatalf("%d sessions have rows, %d are live", live, v.LiveSessions)
	}
}

// TestOffsetsInOnePlace follows the epochs of a random log as the events sink would. Every item that was applied is in
// the ranges of exactly one epoch, and not left out there. Every other offset of the ranges is left out or was not an
// item; every offset between two ranges lies in one gap (I1, S5).
func TestOffsetsInOnePlace(t *testing.T) {
	for i, seed := range seeds(t, 5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := newGenerator(seed)
			s, err := Open(context.Background(), Options{FS: vfs.NewMem(), Dir: "shard"})
			must(t, err)
			defer func() { must(t, s.Close()) }()
			applied := map[Position]bool{} // whether the item was counted
			listed := map[Position]bool{}
			_, err = s.Apply(1, 1, EncodeConfig(testConfig()))
			must(t, err)
			next := map[int32]int64{}
			index := uint64(1)
			apply := func(entry []byte) any {
				index++
				res, err := s.Apply(index, 1, entry)
				must(t, err)
				return res
			}
			if i%2 == 0 {
				apply(EncodeLevel(g.now*1000, level.Real+level.Level(i/2%2)))
				g.learn(nil, nil, s)
			}
			for range 300 {
				if g.level >= level.Real && g.r.IntN(6) == 0 {
					apply(g.skip())
					g.learn(nil, nil, s)
				}
				e := g.batch()
				res := apply(AppendBatch(nil, e)).(*BatchResult)
				g.learn(nil, nil, s)
				if res.Rejected {
					continue
				}
				for _, it := range e.Batch.Items {
					p := Position{it.Partition, it.Offset}
					if applied[p] {
						t.Fatalf("%v applied twice", p)
					}
					if !slices.Contains(res.Left, p) {
						applied[p] = true
					}
				}
				for _, r := range e.Batch.Rejects {
					listed[Position{r.Partition, r.Offset}] = true
				}
				for _, r := range e.Batch.Suppressed {
					listed[Position{r.Partition, r.Offset}] = true
				}
				for _, p := range res.Left {
					listed[p] = true
				}
				if g.r.IntN(3) > 0 {
					continue
				}
				apply(EncodeCut(g.now*1000, 0, 0))
				apply(EncodePlan(SinkEvents, 1<<40))
				p, err := s.OpenPlan(SinkEvents)
				if errors.Is(err, ErrNoPlan) && len(applied)+len(listed) == 0 {
					continue // every batch since the last Cut was refused
				}
				must(t, err)
				pieces := p.Ranges()
				for _, info := range p.Epochs {
					for _, gap := range info.Gaps {
						if gap.From < gap.To {
							pieces = append(pieces, event.Range{Partition: gap.Partition, From: gap.From, To: gap.To})
						}
					}
				}
				slices.SortFunc(pieces, compareRanges)
				for _, r := range pieces {
					if r.From != next[r.Partition] {
						t.Fatalf("range or gap %+v does not follow %d", r, next[r.Partition])
					}
					next[r.Partition] = r.To
				}
				for _, pos := range p.LeftOut() {
					if !listed[pos] || pos.Offset >= next[pos.Partition] {
						t.Fatalf("%v is left out wrongly", pos)
					}
					delete(listed, pos)
				}
				var events int64
				for _, info := range p.Epochs {
					events += info.Events
				}
				if events != int64(len(applied)) {
					t.Fatalf("epochs say %d events, %d were applied", events, len(applied))
				}
				clear(applied)
				if len(listed) > 0 {
					t.Fatalf("not left out: %v", listed)
				}
				must(t, p.Close())
				apply(EncodeAck(SinkEvents, p.B))
			}
		})
	}
}
