package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parquet-go/parquet-go"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errCrash = errors.New("crash")

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// seeded returns a source of ids that differ between openings of a sink.
func seeded(rng *rand.Rand) *rand.ChaCha8 {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rng.Uint32())
	}
	return rand.NewChaCha8(seed)
}

func testOptions(st store.Store, rng *rand.Rand) Options {
	return Options{
		Store: st, ClusterID: "c1", Pipeline: "p", Node: "n1", Events: true, Rand: seeded(rng), sleep: noSleep,
		EventSource: func(uint32) sinks.EventSource { return nil }, RevisionFilesPerPass: 2, CheckpointInterval: 5,
		FileBytes: 2000,
	}
}

func mustOpen(t *testing.T, opts Options) *Delta {
	t.Helper()
	for range 100 {
		d, err := Open(context.Background(), opts)
		if err == nil {
			return d
		}
		if !errors.Is(err, objects.ErrFault) {
			t.Fatal(err)
		}
	}
	t.Fatal("the store never answered")
	return nil
}

// model is what the tables must hold, and the plans that lead there.
type model struct {
	rng    *rand.Rand
	shards int
	closed map[string]schema.SessionRow   // newest image by row key, as of the last plan
	first  map[uint32][]schema.SessionRow // of a shard: rows that can still be revised
	epoch  map[uint32]uint64
	next   map[int32]int64
	events map[state.Position]event.Item
	batch  map[state.Position]uint64
	// byBrand says that the table of sessions is partitioned by brand, too.
	byBrand bool
}

type planID struct {
	shard uint32
	sink  state.SinkID
	b     uint64
}

func newModel(seed uint64, shards int) *model {
	return &model{rng: rand.New(rand.NewPCG(seed, 7)), shards: shards, closed: map[string]schema.SessionRow{},
		first: map[uint32][]schema.SessionRow{}, epoch: map[uint32]uint64{}, next: map[int32]int64{},
		events: map[state.Position]event.Item{}, batch: map[state.Position]uint64{}}
}

func (m *model) text(words ...string) string { return words[m.rng.IntN(len(words))] }

func (m *model) item(p int32) event.Item {
	it := event.Item{Partition: p, Offset: m.next[p], KafkaTimestamp: 1_700_000_000_123 + m.rng.Int64N(1e9)}
	m.next[p] += 1 + m.rng.Int64N(2) // offsets may have holes
	for i := range it.ID {
		it.ID[i] = byte(m.rng.Uint32())
	}
	it.SessionID = fmt.Sprintf("s%d", m.rng.IntN(50))
	it.UserID = m.rng.Uint64N(3) // zero too
	it.Type = event.Type(1 + m.rng.IntN(9))
	it.Timestamp = 1_700_000_000 + m.rng.Int64N(2*24*60*60)
	it.Brand = m.text("", "bild", "welt")
	it.ArticleTitle = m.text("", "Ein \"Titel\"", "日本", strings.Repeat("x", 300))
	it.EngagementMetrics = m.text("", `{"scroll_depth":0}`, `{"time_on_page":12}`)
	it.Extra = m.text("", `{"a":[1,2]}`)
	return it
}

// epochs makes n epochs of a shard, and the plan of the events sink over all of them.
func (m *model) eventEpochs(shard uint32, n int) (func() *state.Plan, [][]event.Batch) {
	a := m.epoch[shard]
	var infos []state.EpochInfo
	var batches [][]event.Batch
	for i := range n {
		info := state.EpochInfo{Epoch: a + uint64(i) + 1}
		var bs []event.Batch
		from := map[int32]int64{}
		for range m.rng.IntN(4) {
			var b event.Batch
			for p := int32(shard); p < int32(3*m.shards); p += int32(m.shards) {
				start := m.next[p]
				if _, ok := from[p]; !ok {
					from[p] = start
				}
				for range m.rng.IntN(8) {
					it := m.item(p)
					b.Items = append(b.Items, it)
					pos := state.Position{Partition: p, Offset: it.Offset}
					if m.rng.IntN(5) == 0 {
						info.LeftOut = append(info.LeftOut, pos)
						continue
					}
					info.Events++
					m.events[pos], m.batch[pos] = it, schema.BatchID(shard, info.Epoch)
				}
				if m.next[p] > start {
					b.Ranges = append(b.Ranges, event.Range{Partition: p, From: start, To: m.next[p]})
				}
			}
			bs = append(bs, b)
		}
		for _, p := range slices.Sorted(maps.Keys(from)) {
			if m.next[p] > from[p] {
				info.Ranges = append(info.Ranges, event.Range{Partition: p, From: from[p], To: m.next[p]})
			}
		}
		slices.SortFunc(info.LeftOut, comparePositions)
		infos, batches = append(infos, info), append(batches, bs)
	}
	b := a + uint64(n)
	m.epoch[shard] = b
	return func() *state.Plan {
		return statetest.NewPlan(state.Config{Shard: shard}, state.SinkEvents, a, b, infos, statetest.Content{})
	}, batches
}

func comparePositions(a, b state.Position) int {
	if a.Partition != b.Partition {
		return int(a.Partition - b.Partition)
	}
	return int(a.Offset - b.Offset)
}

func (m *model) sessionRow(shard uint32, epoch uint64, n int) schema.SessionRow {
	r := schema.SessionRow{SessionID: fmt.Sprintf("s%d-%d", shard, n), Origin: fmt.Sprintf("%d/%d", shard, n),
		SessionDate: 19_000 + int32(m.rng.IntN(2)), FirstClosed: epoch}
	if m.byBrand {
		r.OpeningBrand = m.text("", "bild", "le monde/fr", "a.-20b", "日本")
	}
	m.image(&r, shard, epoch)
	return r
}

// image gives a row new values, zeros and empties among them.
func (m *model) image(r *schema.SessionRow, shard uint32, epoch uint64) {
	r.Epoch, r.BatchID = epoch, schema.BatchID(shard, epoch)
	r.UserID = m.rng.Uint64N(3)
	r.Brand, r.City = m.text("", "bild", "welt", "politico"), m.text("", "Köln")
	r.Start = 1_650_000_000 + m.rng.Int64N(1000)
	r.End = r.Start + m.rng.Int64N(3)
	r.TotalEvents = m.rng.Uint32N(3)
	for i := event.ArticleView; i < event.SessionEnd; i++ {
		r.Counts[i] = m.rng.Uint32N(2)
	}
	r.Categories, r.PageEvents = m.text("[]", `["a","a"]`), m.text("[]", `[{"event_type":"search"}]`)
	r.TimeOnPageSec, r.AdRevenueMicros = m.rng.Uint64N(2), m.rng.Uint64N(1e6)
	r.MaxScrollDepth, r.Revision = uint8(m.rng.IntN(101)), uint32(m.rng.IntN(3))
	r.Status = schema.Status(2 + m.rng.IntN(2))
	r.CreatedAt = 1_700_000_000_000 + m.rng.Int64N(1e6)
}

// worker is one leader: it opens the sink again after each crash, and repeats a plan until a sink reports it as done.
type worker struct {
	t     *testing.T
	mem   store.Store
	rng   *rand.Rand
	crash float64
	d     *Delta
	mu    sync.Mutex // guards rng in step, which uploads call concurrently
	opts  Options
	// byBrand partitions the table of sessions by brand, too.
	byBrand bool
	// vectors says that its revisions hide rows.
	vectors bool
}

func (w *worker) open(source func(uint32) sinks.EventSource) {
	w.opts = testOptions(w.mem, w.rng)
	if w.opts.layout, w.opts.SessionsByBrand = wider, w.byBrand; w.byBrand {
		w.opts.layout = widerByBrand
	}
	w.opts.rangesFrom = int64(w.rng.IntN(2))*1e9 - 1 // files are looked through by ranges, or read whole
	w.opts.DeletionVectors, w.opts.VectorsFrom, w.opts.MostHidden = w.vectors, -1, 0.7
	w.opts.EventSource = source
	w.opts.step = func(string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.rng.Float64() < w.crash {
			return errCrash
		}
		return nil
	}
	w.d = mustOpen(w.t, w.opts)
}

func (w *worker) sink(id state.SinkID) sinks.Sink {
	return map[state.SinkID]sinks.Sink{state.SinkEvents: w.d.Events(), state.SinkSessions: w.d.Sessions(),
		state.SinkRevisions: w.d.Revisions()}[id]
}

// until writes a plan until it is done, through crashes and faults.
func (w *worker) until(source func(uint32) sinks.EventSource, sink state.SinkID, plan func() *state.Plan) {
	for try := 0; ; try++ {
		err := w.sink(sink).Write(context.Background(), plan())
		if err == nil {
			return
		}
		if try > 500 || !errors.Is(err, errCrash) && !errors.Is(err, objects.ErrFault) &&
			!errors.Is(err, store.ErrExists) {
			w.t.Errorf("%s: try %d: %v", sink, try, err)
			return
		}
		if errors.Is(err, errCrash) {
			_ = w.d.Close()
			w.open(source)
		}
	}
}

// sourceOf gives the events of the model again, as Kafka would.
type sourceOf struct {
	m     *model
	shard uint32
}

func (s sourceOf) Events(_ context.Context, plan *state.Plan, yield func(*event.Item) error) error {
	for _, r := range plan.Ranges() {
		for o := r.From; o < r.To; o++ {
			if it, ok := s.m.events[state.Position{Partition: r.Partition, Offset: o}]; ok {
				if err := yield(&it); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (sourceOf) Originals(context.Context, []state.Position, func(int, []byte, bool) error) error {
	return nil
}

// Several leaders write the same random plans at once and crash between any two steps, and the store fails in every
// way. Each row is there exactly once, with the newest image, and each txn is at the end of its plan. One shard after
// the other rises to level 2 meanwhile.
func TestExactlyOnce(t *testing.T) {
	seeds := []uint64{0, 1, 2, 3}
	if testing.Short() {
		seeds = []uint64{0, 2}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { exactlyOnce(t, seed) })
	}
}

func exactlyOnce(t *testing.T, seed uint64) {
	const shards, leaders = 3, 3
	m := newModel(seed, shards)
	m.byBrand = seed%4 >= 2
	mem := objects.NewMem(nil)
	source := func(shard uint32) sinks.EventSource { return sourceOf{m, shard} }
	hides := (seed+1)%4 < 2 // -short has it, too
	mem.SetFaults(seed, objects.Faults{Before: 0.03, Lost: 0.05, OwnTwice: 0.05, Late: 0.05})
	var workers []*worker
	for l := range leaders {
		w := &worker{t: t, mem: mem, rng: rand.New(rand.NewPCG(seed, uint64(100+l))), crash: 0.05, byBrand: m.byBrand,
			vectors: hides}
		w.open(source)
		workers = append(workers, w)
	}
	acked := map[uint32]map[state.SinkID]uint64{}
	if seed%2 == 0 { // -short has it, too
		mem.SetFaults(0, objects.Faults{})
		feedOn(t, mem, "sessions", true)
		mem.SetFaults(seed, objects.Faults{Before: 0.03, Lost: 0.05, OwnTwice: 0.05, Late: 0.05})
	}
	n := 0
	for shard := range uint32(shards) {
		acked[shard] = map[state.SinkID]uint64{}
	}
	for round := range 8 {
		// One plan of each sink and shard; all leaders write all of them at the same time.
		type job struct {
			id   planID
			plan func() *state.Plan
		}
		var jobs []job
		for shard := range uint32(shards) {
			a := m.epoch[shard]
			events, _ := m.eventEpochs(shard, 1+m.rng.IntN(3))
			b := m.epoch[shard]
			jobs = append(jobs, job{planID{shard, state.SinkEvents, b}, events})
			var rows []schema.SessionRow
			for range m.rng.IntN(6) {
				n++
				rows = append(rows, m.sessionRow(shard, a+1+m.rng.Uint64N(b-a), n))
			}
			jobs = append(jobs, job{planID{shard, state.SinkSessions, b}, func() *state.Plan {
				return statetest.NewPlan(state.Config{Shard: shard}, state.SinkSessions, a, b, nil,
					statetest.Content{Rows: rows})
			}})
			// These are revisions of rows that the sessions sink has acknowledged in an earlier round, and of one row
			// that it never had.
			var revised []schema.SessionRow
			for i := range m.first[shard] {
				if m.rng.IntN(3) == 0 {
					m.image(&m.first[shard][i], shard, b)
					revised = append(revised, m.first[shard][i])
				}
			}
			if a > 0 && m.rng.IntN(2) == 0 {
				n++
				r := m.sessionRow(shard, a, n)
				m.image(&r, shard, b)
				revised = append(revised, r)
				m.first[shard] = append(m.first[shard], r)
			}
			jobs = append(jobs, job{planID{shard, state.SinkRevisions, b}, func() *state.Plan {
				return statetest.NewPlan(state.Config{Shard: shard}, state.SinkRevisions, a, b, nil,
					statetest.Content{Rows: revised})
			}})
			for _, r := range append(slices.Clone(revised), rows...) {
				m.closed[r.Key()] = r
			}
			m.first[shard] = append(m.first[shard], rows...)
			if len(rows) > 0 {
				acked[shard][state.SinkSessions] = b
			}
			if len(revised) > 0 {
				acked[shard][state.SinkRevisions] = b
			}
		}
		var wg sync.WaitGroup
		for _, w := range workers {
			order := m.rng.Perm(len(jobs))
			wg.Go(func() {
				for _, i := range order {
					w.until(source, jobs[i].id.sink, func() *state.Plan {
						p := jobs[i].plan()
						if round > 2+int(p.Config.Shard) {
							p.Level = level.Real
						}
						return p
					})
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			break
		}
	}
	mem.SetFaults(0, objects.Faults{})
	for _, w := range workers {
		w.crash = 0
		if err := w.d.Close(); err != nil {
			t.Error(err)
		}
	}
	checkSessions(t, mem, m)
	checkEvents(t, mem, m)
	if n := hidingVersions(t, mem); hides != (n > 0) {
		t.Errorf("%d versions have deletion vectors", n)
	}
	if seed%2 == 0 {
		if updates, inserts := checkFeed(t, mem); updates == 0 || inserts == 0 {
			t.Errorf("the feed has %d updates and %d inserts", updates, inserts)
		}
	}
	tab := openTable(t, mem, "sessions")
	for shard := range uint32(shards) {
		for sink, kind := range map[state.SinkID]string{
			state.SinkSessions: "sessions", state.SinkRevisions: "sessions.revisions",
		} {
			if got := tab.Snapshot().Txns[fmt.Sprintf("c1/p/%d/%s", shard, kind)]; got != int64(acked[shard][sink]) {
				t.Errorf("shard %d, %s: txn %d, want %d", shard, kind, got, acked[shard][sink])
			}
		}
	}
	for _, name := range []string{"sessions", "events"} {
		checkLog(t, mem, name)
	}
}

// hidingVersions is how many versions of sessions have files with deletion vectors that Deckle has made.
func hidingVersions(t *testing.T, mem *objects.Mem) (n int) {
	t.Helper()
	for _, key := range mem.Keys("sessions/_delta_log/") {
		data, err := mem.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(data); strings.HasSuffix(key, ".json") && strings.Contains(text, `"engineInfo":"deckle"`) &&
			strings.Contains(text, `"tightBounds`) {
			n++
		}
	}
	return n
}

func openTable(t *testing.T, st store.Store, name string) *Table {
	t.Helper()
	tab, err := OpenTable(context.Background(), st, name)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func checkSessions(t *testing.T, st store.Store, m *model) {
	t.Helper()
	tab := openTable(t, st, "sessions")
	got := map[string]schema.SessionRow{}
	err := tab.ReadSessions(context.Background(), tab.Snapshot().Files, func(r *schema.SessionRow) error {
		k := r.Key()
		if _, ok := got[k]; ok {
			t.Errorf("row %q stands twice", k)
		}
		got[k] = *r
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for k, want := range m.closed {
		want.FirstClosed, want.Pages = 0, nil
		if r, ok := got[k]; !ok {
			t.Errorf("row %q is lost", k)
		} else if fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", want) {
			t.Errorf("row %q:\n got %+v\nwant %+v", k, r, want)
		}
	}
	if len(got) != len(m.closed) {
		t.Errorf("%d rows, want %d", len(got), len(m.closed))
	}
}

func checkEvents(t *testing.T, st store.Store, m *model) {
	t.Helper()
	tab, err := OpenTableWithBounds(t.Context(), st, "events")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	snapshot := tab.Snapshot()
	for _, f := range snapshot.Files {
		var rows, columns []state.Position
		last := state.Position{Partition: -1}
		err := tab.ReadEvents(context.Background(), []*File{f}, func(r *EventRow) error {
			n++
			pos := state.Position{Partition: r.Partition, Offset: r.Offset}
			want, ok := m.events[pos]
			switch {
			case !ok:
				t.Errorf("event %v is one too many", pos)
			case r.Item != want || r.BatchID != m.batch[pos] || r.Date != schema.Day(want.Timestamp):
				t.Errorf("event %v:\n got %+v\nwant %+v, batch %d", pos, r, want, m.batch[pos])
			}
			if comparePositions(last, pos) >= 0 {
				t.Errorf("%s: %v follows %v", f.Path, pos, last)
			}
			last, rows = pos, append(rows, pos)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		names := []string{"kafka_offset", "kafka_partition"}
		err = tab.ReadColumns(t.Context(), f, names, func(v []parquet.Value) error {
			p := state.Position{Partition: v[1].Int32(), Offset: v[0].Int64()}
			if columns = append(columns, p); !slices.Contains(snapshot.Within("kafka_offset", p.Offset, p.Offset), f) {
				t.Errorf("%s is not among the files that may have offset %d", f.Path, p.Offset)
			}
			return nil
		})
		if err != nil || !slices.Equal(rows, columns) {
			t.Errorf("%s: rows %v, by columns %v, %v", f.Path, rows, columns, err)
		}
	}
	if far := snapshot.Within("kafka_offset", 1<<40, 1<<41); len(far) > 0 {
		t.Errorf("%d files may have offsets that there are none of", len(far))
	}
	if n != len(m.events) {
		t.Errorf("%d events, want %d", n, len(m.events))
	}
}

// checkLog checks that versions are contiguous, and that replay of every commit from 0 gives what the newest checkpoint
// gives.
func checkLog(t *testing.T, mem *objects.Mem, name string) {
	t.Helper()
	withCheckpoint := openTable(t, mem, name).Snapshot()
	plain := objects.NewMem(nil)
	v := 0
	for _, k := range mem.Keys(name + "/_delta_log/") {
		if strings.HasSuffix(k, ".json") {
			if want := fmt.Sprintf("%s/_delta_log/%020d.json", name, v); k != want {
				t.Fatalf("%s: want %s next", k, want)
			}
			v++
			data, err := mem.Get(context.Background(), k)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasSuffix(data, []byte("\n")) {
				t.Errorf("%s does not end with a line feed", k)
			}
			plain.Overwrite(k, data)
		}
	}
	replayed := openTable(t, plain, name).Snapshot()
	describe := func(s Snapshot) string {
		var b strings.Builder
		fmt.Fprintf(&b, "version %d, %d records, txns %v\n", s.Version, s.Records, s.Txns)
		for _, f := range s.Files {
			c := *f
			c.Added, c.Vector = 0, nil // a checkpoint does not hold when it was added
			fmt.Fprintf(&b, "%q %+v\n", f.ID(), c)
		}
		return b.String()
	}
	if a, b := describe(withCheckpoint), describe(replayed); a != b {
		t.Errorf("%s: by checkpoint:\n%s\nby replay:\n%s", name, a, b)
	}
}
