package delta

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deletionvector/vectortest"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
	"deckle/state/statetest"
)

// foreignDelete deletes a row of a table of sessions as another tool would: its file is replaced by one without tags,
// or by none if no row is left; or, by a vector, it stays and the row is hidden. It tries once, and says whether the
// row is in no file any more.
func foreignDelete(t *testing.T, mem *objects.Mem, attempt int, key string, byVector bool) (gone bool) {
	ctx := context.Background()
	tab, err := OpenTable(ctx, mem, "sessions")
	if err != nil {
		return false // a fault of the store
	}
	snap := tab.Snapshot()
	for _, f := range snap.Files {
		data, err := mem.Get(ctx, "sessions/"+f.Path)
		if err != nil {
			return false
		}
		hidden, err := deletionvector.Read(ctx, mem, "sessions", f.Vector)
		if err != nil {
			return false
		}
		file, err := deltalog.OpenParquet(data)
		if err != nil {
			t.Error(err)
			return true
		}
		of := wider.sessions[level.First]
		if len(file.Schema().Columns()) > len(of.file.Columns()) {
			of = wider.sessions[level.Real]
		}
		var rest []sessionRow
		var places []int64 // of what is hidden now
		n, found := int64(0), false
		err = eachRow(f.Path, data, of.file, of.later, func(r parquet.Row) error {
			switch row := sessionRow(r).clone(); {
			case hidden.Has(n):
				places = append(places, n)
			case row.key() == key:
				found, places = true, append(places, n)
			default:
				rest = append(rest, row)
			}
			n++
			return nil
		})
		if err != nil {
			t.Error(err)
			return true
		}
		if !found {
			continue
		}
		type line map[string]any
		at := int64(1)
		lines := []line{{"commitInfo": line{"operation": "DELETE"}},
			{"remove": deltalog.Remove{Path: f.Path, DataChange: true, DeletionTimestamp: &at, Vector: f.Vector}}}
		add := deltalog.Add{Path: f.Path, PartitionValues: tab.PartitionValues(f), Size: f.Size,
			ModificationTime: at, DataChange: true}
		switch {
		case len(rest) == 0:
		case byVector:
			add.Stats = fmt.Sprintf(`{"numRecords":%d,"tightBounds":false}`, n)
			if attempt%2 == 0 {
				add.Tags = deltalog.TagsOf(f.Origins())
			}
			if add.Vector = vectortest.Inline(t, places...); attempt%3 > 0 {
				add.Vector = vectortest.Put(t, mem, "sessions", uint64(attempt), 17*(attempt%2),
					vectortest.Encode(t, places...), int64(len(places)))
			}
			features := []string{"deletionVectors"}
			lines = append(lines, line{"protocol": &deltalog.Protocol{MinReaderVersion: 3, MinWriterVersion: 7,
				ReaderFeatures: features, WriterFeatures: append(features, "appendOnly", "invariants")}})
		default:
			data, _, err := wider.encodeSessions(of, rest, &parquet.Snappy, nil)
			if err != nil {
				t.Error(err)
				return true
			}
			add.Path = fmt.Sprintf("%s/part-foreign-%d.parquet", path.Dir(f.Path), attempt)
			add.Size = int64(len(data))
			mem.Overwrite("sessions/"+add.Path, data)
		}
		if len(rest) > 0 {
			lines = append(lines, line{"add": add})
		}
		var body []byte
		for _, l := range lines {
			b, err := json.Marshal(l)
			if err != nil {
				t.Error(err)
				return true
			}
			body = append(append(body, b...), '\n')
		}
		_ = mem.PutIfAbsent(ctx, fmt.Sprintf("sessions/_delta_log/%020d.json", snap.Version+1), body)
		return false // the next try tells what stands
	}
	return true
}

// deleteRow deletes a row of a table that nobody else writes meanwhile.
func deleteRow(t *testing.T, mem *objects.Mem, number int, key string, byVector bool) {
	t.Helper()
	for try := 0; !foreignDelete(t, mem, 10*number+try, key, byVector); try++ {
		if try > 1 {
			t.Fatal("the test cannot delete a row")
		}
	}
}

// TestDeletedStaysDeleted: a session whose row another tool has deleted is not written again when it changes; one whose
// row was never written is. The commit and a metric say how many are gone. A plan of a level that does not know which
// rows stand writes all of them, as it always did.
func TestDeletedStaysDeleted(t *testing.T) {
	l := newLake(t)
	reg := prometheus.NewRegistry()
	opts := testOptions(l.mem, l.m.rng)
	opts.FileBytes, opts.Registerer = 0, reg
	l.must(l.d.Close())
	l.d = mustOpen(t, opts)
	a, b, c, d := l.row(1, 1), l.row(1, 2), l.row(1, 3), l.row(1, 4)
	e := l.row(2, 5)
	l.must(l.sessions(0, 1, a, b, c)) // d was refused
	l.must(l.sessions(1, 2, e))
	for i, r := range []schema.SessionRow{a, e} { // of e's file nothing is left
		deleteRow(t, l.mem, i, r.Key(), false)
	}
	image := func(r schema.SessionRow, epoch uint64, stands bool) schema.SessionRow {
		r = l.revised(r, epoch)
		r.Stands = stands
		return r
	}
	want := func(epochs map[string]uint64) {
		t.Helper()
		got := readSessions(t, l.mem, declared)
		for id, epoch := range epochs {
			if got[id].Epoch != epoch {
				t.Errorf("%s is of epoch %d, want %d", id, got[id].Epoch, epoch)
			}
		}
		if len(got) != len(epochs) {
			t.Errorf("%d rows, want %d", len(got), len(epochs))
		}
	}
	plan := []schema.SessionRow{image(a, 3, true), image(c, 3, true), image(d, 3, false), image(e, 3, true)}
	for range 2 { // it may be repeated
		l.must(l.revisions(2, 3, plan...))
		want(map[string]uint64{b.SessionID: 1, c.SessionID: 3, d.SessionID: 3})
	}
	if n := testutil.ToFloat64(l.d.metrics.RowsFoundDeleted("sessions")); n != 2 {
		t.Errorf("%v rows were counted, want 2", n)
	}
	said := func() string {
		t.Helper()
		keys := l.mem.Keys("sessions/_delta_log/")
		for _, k := range slices.Backward(keys) {
			if strings.HasSuffix(k, ".json") {
				data, err := l.mem.Get(t.Context(), k)
				l.must(err)
				var line struct {
					CommitInfo struct {
						OperationMetrics map[string]string `json:"operationMetrics"`
					} `json:"commitInfo"`
				}
				l.must(json.Unmarshal([]byte(strings.SplitN(string(data), "\n", 2)[0]), &line))
				return line.CommitInfo.OperationMetrics["deckleRowsFoundDeleted"]
			}
		}
		return ""
	}
	if got := said(); got != "2" {
		t.Errorf("the commit says %q", got)
	}
	// A plan of which every row is gone is done by its txn alone.
	l.must(l.revisions(3, 4, image(a, 4, true)))
	if got := said(); got != "1" {
		t.Errorf("the commit says %q", got)
	}
	l.must(l.revisions(4, 5, image(c, 5, true), image(d, 5, true)))
	if got := said(); got != "" {
		t.Errorf("nothing was deleted, the commit says %q", got)
	}
	want(map[string]uint64{b.SessionID: 1, c.SessionID: 5, d.SessionID: 5})
	l.must(l.revisions(5, 6, image(a, 6, false)))
	want(map[string]uint64{a.SessionID: 6, b.SessionID: 1, c.SessionID: 5, d.SessionID: 5})
	checkLog(t, l.mem, "sessions")
}

// TestDeletedStaysDeletedProperty: while leaders write random plans of revisions at once, crash between any two steps,
// and the store fails in every way, another tool deletes rows between their commits, by deletion vectors, too. What it
// has deleted never comes back; every other row is there once, with its newest image.
func TestDeletedStaysDeletedProperty(t *testing.T) {
	seeds := 2
	if testing.Short() {
		seeds = 1
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { deletedStaysDeleted(t, seed) })
	}
}

func deletedStaysDeleted(t *testing.T, seed uint64) {
	const leaders, rounds = 2, 6
	m := newModel(100+seed, 1)
	mem := objects.NewMem(nil)
	source := func(uint32) sinks.EventSource { return sourceOf{m, 0} }
	mem.SetFaults(seed, objects.Faults{Before: 0.02, Lost: 0.04, OwnTwice: 0.04, Late: 0.04})
	var workers []*worker
	for l := range leaders {
		w := &worker{t: t, mem: mem, rng: rand.New(rand.NewPCG(seed, uint64(300+l))), crash: 0.03,
			vectors: l == 1}
		w.open(source)
		workers = append(workers, w)
	}
	plan := func(sink state.SinkID, b uint64, rows []schema.SessionRow) func() *state.Plan {
		return func() *state.Plan {
			p := statetest.NewPlan(state.Config{}, sink, b-1, b, nil, statetest.Content{Rows: rows})
			p.Level = level.First
			if b > rounds/2 {
				p.Level = level.Real
			}
			return p
		}
	}
	// both has all leaders write a plan, while the other tool does something.
	both := func(sink state.SinkID, p func() *state.Plan, other func()) {
		var wg sync.WaitGroup
		for _, w := range workers {
			wg.Go(func() { w.until(source, sink, p) })
		}
		wg.Go(other)
		wg.Wait()
	}
	gone, n, found := map[string]bool{}, 0, 0
	for b := uint64(1); b <= rounds && !t.Failed(); b++ {
		var rows, revised []schema.SessionRow
		for range 3 + m.rng.IntN(8) {
			n++
			r := m.sessionRow(0, b, n)
			if m.rng.IntN(5) > 0 { // else it is refused
				rows = append(rows, r)
				m.closed[r.Key()], r.Stands = r, true
			}
			m.first[0] = append(m.first[0], r)
		}
		both(state.SinkSessions, plan(state.SinkSessions, b, rows), func() {})
		for i := range m.first[0] {
			r := &m.first[0][i]
			if r.FirstClosed < b && m.rng.IntN(2) == 0 {
				m.image(r, 0, b)
				revised = append(revised, *r)
			}
		}
		// Only rows that stood before this plan are deleted: what a plan inserts in one of several commits it inserts
		// again if it is repeated.
		var victims []string
		for _, r := range m.first[0] {
			if r.Stands && !gone[r.Key()] && m.rng.IntN(5) == 0 {
				victims = append(victims, r.Key())
			}
		}
		pause, vectors := m.rng.IntN(3), m.rng.IntN(4)
		both(state.SinkRevisions, plan(state.SinkRevisions, b, revised), func() {
			for i, k := range victims {
				for try := 0; !foreignDelete(t, mem, int(b)*1_000_000+i*1000+try, k,
					(i+vectors)%4 < 2); try++ {
					for range pause {
						_, _ = mem.Get(context.Background(), "nothing")
					}
				}
			}
		})
		for _, r := range revised {
			if gone[r.Key()] {
				found++
				continue
			}
			m.closed[r.Key()] = r
		}
		for _, k := range victims {
			gone[k] = true
			delete(m.closed, k)
		}
		for i := range m.first[0] {
			r := &m.first[0][i]
			if slices.ContainsFunc(revised, func(o schema.SessionRow) bool { return o.Key() == r.Key() }) {
				r.Stands = true // a revision has it, as the state knows by the acknowledgement
			}
		}
	}
	mem.SetFaults(0, objects.Faults{})
	for _, w := range workers {
		w.crash = 0
		if err := w.d.Close(); err != nil {
			t.Error(err)
		}
	}
	for k, r := range m.closed {
		r.Stands = false
		m.closed[k] = r
	}
	if len(gone) == 0 || found == 0 {
		t.Errorf("%d rows were deleted, %d of them revised: the plans do not cover their cases", len(gone), found)
	}
	checkSessions(t, mem, m)
	checkLog(t, mem, "sessions")
}
