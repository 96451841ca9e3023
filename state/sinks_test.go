package state

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"deckle/schema"
)

// table is what a destination holds after plans were written to it in the way of the real sinks.
type table struct {
	t        *testing.T
	sessions map[string]string // Delta sessions: row key -> row
	epochs   map[string]uint64 // the epochs of those rows
	click    map[string]string // ClickHouse: row key -> the row with the greatest epoch
	versions map[string]uint64
	totals   map[string]string // rollup key -> the totals with the greatest epoch
	letters  map[uint64]string
}

func newTable(t *testing.T) *table {
	return &table{
		t: t, sessions: map[string]string{}, epochs: map[string]uint64{}, click: map[string]string{},
		versions: map[string]uint64{},
		totals:   map[string]string{}, letters: map[uint64]string{},
	}
}

// write does what the sink does with a plan. To write it again must change nothing.
func (tb *table) write(p *Plan, again bool) {
	t := tb.t
	t.Helper()
	show := func(r *schema.SessionRow) string {
		c := *r
		c.Pages = nil
		return fmt.Sprintf("%+v", c)
	}
	if p.Sink.reads(readsImages) {
		must(t, p.Sessions(func(r *schema.SessionRow) error {
			k := r.Key()
			switch p.Sink {
			case SinkSessions:
				if _, there := tb.sessions[k]; there && !again {
					t.Fatalf("session %q is inserted twice, now by (%d, %d]", k, p.A, p.B)
				}
				if !again {
					tb.sessions[k], tb.epochs[k] = show(r), r.Epoch
				}
			case SinkRevisions:
				if _, there := tb.sessions[k]; !there {
					t.Fatalf("revision of %q, which was never inserted", k)
				}
				if r.Epoch > tb.epochs[k] {
					tb.sessions[k], tb.epochs[k] = show(r), r.Epoch
				}
			default:
				if r.Epoch >= tb.versions[k] {
					tb.click[k], tb.versions[k] = show(r), r.Epoch
				}
			}
			return nil
		}))
	}
	if p.Sink == SinkClickHouse {
		must(t, p.Rollups(func(r *schema.RollupRow) error {
			k := fmt.Sprint(r.Table, r.Date, r.Dims)
			if r.Epoch >= tb.versions[k] {
				tb.totals[k], tb.versions[k] = fmt.Sprintf("%+v", *r), r.Epoch
			}
			return nil
		}))
	}
	if p.Sink == SinkDeadLetter {
		must(t, p.DeadLetters(func(l *DeadLetter) error { tb.letters[l.Seq] = fmt.Sprintf("%+v", *l); return nil }))
	}
}

// TestSinksGetEverything gives one stream to a shard whose sinks follow at once, and to one whose sinks plan, repeat
// and acknowledge at random, with crashes in between. In the end the same rows have reached the tables, each session
// was inserted once, and every purged session has left its last image there (S4, I5, I6).
func TestSinksGetEverything(t *testing.T) {
	for _, seed := range seeds(t, 6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { sinksGetEverything(t, seed) })
	}
}

func sinksGetEverything(t *testing.T, seed uint64) {
	g := newGenerator(seed)
	r := rand.New(rand.NewPCG(seed, 3))
	prompt := &replica{fs: vfs.NewCrashableMem()}
	lagging := &replica{fs: vfs.NewCrashableMem(), opts: Options{CheckpointBytes: 30_000, SessionMemoryBytes: 10_000}}
	prompt.open(t)
	lagging.open(t)
	index := map[*replica]uint64{}
	var log [][]byte // the log of the lagging replica
	apply := func(rep *replica, entry []byte) any {
		if rep == lagging {
			log = append(log, entry)
		}
		index[rep]++
		res, err := rep.s.Apply(index[rep], 1, entry)
		must(t, err)
		return res
	}
	want, got := newTable(t), newTable(t)
	// step moves one sink on: it plans, writes, perhaps writes again, and perhaps acknowledges.
	step := func(rep *replica, tb *table, sink SinkID, sure bool) bool {
		if apply(rep, EncodePlan(sink, 1<<40)).(*PlanResult).B == 0 {
			return false
		}
		p, err := rep.s.OpenPlan(sink)
		must(t, err)
		b := p.B
		tb.write(p, rep.plan[sink] == fmt.Sprint(b))
		rep.plan[sink] = fmt.Sprint(b)
		must(t, p.Close())
		if !sure && r.IntN(3) == 0 {
			return true // interrupted before the acknowledgement: the plan is written again later
		}
		apply(rep, EncodeAck(sink, b))
		return true
	}
	prompt.plan, lagging.plan = map[SinkID]string{}, map[SinkID]string{}
	for _, rep := range []*replica{prompt, lagging} {
		apply(rep, EncodeConfig(testConfig()))
	}
	for range 300 {
		var entry []byte
		if r.IntN(5) > 0 {
			entry = AppendBatch(nil, g.batch())
		} else {
			entry = EncodeCut(g.now*1000, 0, 0)
		}
		apply(prompt, entry)
		apply(lagging, entry)
		g.learn(entry, nil, prompt.s)
		for sink := range NumSinks {
			step(prompt, want, sink, true)
			if r.IntN(6) == 0 {
				step(lagging, got, sink, false)
			}
		}
		if r.IntN(20) == 0 {
			crash := lagging.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r})
			must(t, lagging.s.Close())
			lagging.fs = crash
			lagging.open(t)
			for at, _ := lagging.s.Applied(); at < uint64(len(log)); at++ {
				_, err := lagging.s.Apply(at+1, 1, log[at])
				must(t, err)
			}
		}
	}
	apply(prompt, EncodeCut(g.now*1000, 0, 0))
	apply(lagging, EncodeCut(g.now*1000, 0, 0))
	for range 3 {
		for sink := range NumSinks {
			step(prompt, want, sink, true)
			step(lagging, got, sink, true)
		}
	}
	same(t, "Delta sessions", got.sessions, want.sessions)
	same(t, "ClickHouse sessions", got.click, want.click)
	same(t, "ClickHouse totals", got.totals, want.totals)
	same(t, "dead letters", got.letters, want.letters)
	if prompt.s.View().LiveSessions >= int64(len(want.click)) {
		t.Fatal("no session was purged: the test does not cover its case")
	}
	must(t, prompt.s.Close())
	must(t, lagging.s.Close())
}

func same[K comparable](t *testing.T, what string, got, want map[K]string) {
	t.Helper()
	if len(want) == 0 {
		t.Fatalf("%s: nothing to compare", what)
	}
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("%s, %v:\n%s\nwant\n%s", what, k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d rows, want %d", what, len(got), len(want))
	}
}

// TestCrashAtAnyWrite takes the disk as a power cut at some file-system operation leaves it. The store opens at some
// checkpoint, and with the log applied from there on it has the state of the store that never crashed (S2).
func TestCrashAtAnyWrite(t *testing.T) {
	for _, seed := range seeds(t, 6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashAtAnyWrite(t, seed) })
	}
}

func crashAtAnyWrite(t *testing.T, seed uint64) {
	g := newGenerator(seed)
	r := rand.New(rand.NewPCG(seed, 4))
	mem := vfs.NewCrashableMem()
	var ops atomic.Int64
	crashes := map[int64]*vfs.MemFS{}
	at := map[int64]bool{}
	for range 40 {
		at[r.Int64N(300)] = true
	}
	var mu = make(chan struct{}, 1)
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			if n := ops.Add(1); at[n] {
				mu <- struct{}{}
				crashes[n] = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(n) % 3 * 50,
					RNG: rand.New(rand.NewPCG(seed, uint64(n)))})
				<-mu
			}
		}
		return nil
	}))
	s, err := Open(context.Background(), Options{FS: fs, Dir: "shard", CheckpointBytes: 3_000})
	must(t, err)
	var log [][]byte
	for i := range 150 {
		entry := EncodeConfig(testConfig())
		if i > 0 {
			entry = g.entry()
		}
		log = append(log, entry)
		res, err := s.Apply(uint64(len(log)), 1, entry)
		must(t, err)
		g.learn(entry, res, s)
	}
	want, err := s.Checksum()
	must(t, err)
	must(t, s.Close())
	mu <- struct{}{}
	opened := 0
	for _, n := range slices.Sorted(maps.Keys(crashes)) {
		c, err := Open(context.Background(), Options{FS: crashes[n], Dir: "shard", CheckpointBytes: 50_000})
		if err != nil {
			t.Fatalf("after a crash at operation %d: %v", n, err)
		}
		opened++
		for at, _ := c.Applied(); at < uint64(len(log)); at++ {
			if _, err := c.Apply(at+1, 1, log[at]); err != nil {
				t.Fatalf("after a crash at operation %d: %v", n, err)
			}
		}
		got, err := c.Checksum()
		must(t, err)
		if got != want {
			t.Fatalf("after a crash at operation %d: checksum %x, want %x", n, got, want)
		}
		must(t, c.Close())
	}
	if opened < 5 {
		t.Fatalf("only %d crashes in %d operations", opened, ops.Load())
	}
}
