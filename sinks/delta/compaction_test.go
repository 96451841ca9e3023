package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/compact"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/sinks/delta/vacuum"
	"deckle/state"
	"deckle/state/statetest"
)

// lakeWorld is a pair of tables that sinks write and others restore and vacuum, while compaction runs; between any two
// requests of compaction one of them may do something, or compaction is killed.
type lakeWorld struct {
	t     *testing.T
	rng   *rand.Rand
	clock *objects.Clock
	mem   *objects.Mem
	m     *model
	d     *Delta
	n     int
	mu    sync.Mutex // one request at a time: a log reads several commits at once
	kill  int        // requests until compaction is killed; -1 for never
	// layout has sessions partitioned by date, or by brand and date.
	layout *layout
	// then is what the sessions table had to hold at its versions.
	then map[int64]map[string]schema.SessionRow
	// ours are the rows that Deckle's sinks have written, by version, and seen the versions that are Deckle's RESTOREs.
	ours map[int64]map[string]schema.SessionRow
	seen map[int64]bool
	// notes are what another tool has written beside rows, by row; see annotate.
	notes notes

	jobs, conflicts, killed, restored, vacuumed, hidden int
}

var errKilled = errors.New("killed")

func newLakeWorld(t *testing.T, seed uint64) *lakeWorld {
	w := &lakeWorld{t: t, rng: rand.New(rand.NewPCG(seed, 11)), m: newModel(seed, 3), kill: -1,
		clock: objects.NewClock(time.Unix(19_001*86_400+40_000, 0)), then: map[int64]map[string]schema.SessionRow{},
		notes: newNotes(), ours: map[int64]map[string]schema.SessionRow{}, seen: map[int64]bool{}}
	w.mem, w.layout = objects.NewMem(w.clock.Now), wider
	if seed%4 >= 2 {
		w.layout, w.m.byBrand = widerByBrand, true
	}
	opts := testOptions(w.mem, w.rng)
	opts.layout, opts.Now = w.layout, w.clock.Now
	opts.rangesFrom = int64(seed%2*1e9) - 1 // files are looked through by ranges, or read whole
	opts.DeletionVectors, opts.VectorsFrom, opts.MostHidden = seed%4 < 2, -1, 0.7
	opts.EventSource = func(shard uint32) sinks.EventSource { return sourceOf{w.m, shard} }
	w.d = mustOpen(t, opts)
	return w
}

func (w *lakeWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// compactor opens a Compactor as a node of its own has it.
func (w *lakeWorld) compactor(table string, st store.Store) (*compact.Compactor, error) {
	opts := testOptions(st, w.rng)
	opts.layout, opts.Now, opts.Node = w.layout, w.clock.Now, "n2"
	opts.CheckpointInterval = 1 << 30 // checkpoints are made in a goroutine of their own, which hook is not for
	return OpenCompactor(w.t.Context(), opts, table, compact.Options{FS: vfs.NewMem(), Dir: "scratch",
		HotBytes: 60_000, ColdBytes: 120_000, JobBytes: 400_000, JobFiles: 24, MemoryBytes: 20_000,
		Closed: 48 * time.Hour})
}

// write writes one plan of each sink for one shard.
func (w *lakeWorld) write() {
	m, shard := w.m, uint32(w.rng.IntN(3))
	a := m.epoch[shard]
	events, _ := m.eventEpochs(shard, 1+w.rng.IntN(2))
	b := m.epoch[shard]
	l := level.First
	if w.n > 15 {
		l = level.Real
	}
	var rows, revised []schema.SessionRow
	held := w.held()
	for range w.rng.IntN(4) {
		w.n++
		rows = append(rows, m.sessionRow(shard, a+1+w.rng.Uint64N(b-a), w.n))
	}
	for i := range m.first[shard] {
		if w.rng.IntN(6) == 0 && !held {
			m.image(&m.first[shard][i], shard, b)
			revised = append(revised, m.first[shard][i])
		}
	}
	if a > 0 && w.rng.IntN(4) == 0 && !held {
		w.n++
		r := m.sessionRow(shard, a, w.n)
		m.image(&r, shard, b)
		revised, m.first[shard] = append(revised, r), append(m.first[shard], r)
	}
	m.first[shard] = append(m.first[shard], rows...)
	plan := func(sink state.SinkID, rows []schema.SessionRow) *state.Plan {
		p := statetest.NewPlan(state.Config{Shard: shard}, sink, a, b, nil, statetest.Content{Rows: rows})
		p.Level = l
		return p
	}
	for _, image := range [][]schema.SessionRow{rows, revised} {
		for i := range image {
			if l > level.First {
				image[i].UserKey = m.text("", "reader one", "reader two") // a column of that level
			}
		}
	}
	for _, r := range rows {
		m.closed[r.Key()] = r
	}
	w.must(w.d.Sessions().Write(w.t.Context(), plan(state.SinkSessions, rows)))
	w.wrote(rows)
	for _, r := range revised {
		m.closed[r.Key()] = r
	}
	w.must(w.d.Revisions().Write(w.t.Context(), plan(state.SinkRevisions, revised)))
	w.wrote(revised)
	p := events()
	p.Level = l
	w.must(w.d.Events().Write(w.t.Context(), p))
}

// held reports whether revisions wait, as it is not settled what becomes of what a RESTORE took away. Sometimes that is
// settled.
func (w *lakeWorld) held() bool {
	log, _ := w.d.Committer("sessions")
	w.must(log.Refresh(w.t.Context()))
	held := log.CheckRevises() != nil
	if held && w.rng.IntN(4) == 0 {
		v, err := log.AcceptRemoved(w.t.Context())
		w.must(err)
		w.keep(v)
		held = log.CheckRevises() != nil
	}
	return held
}

// wrote takes note of what a plan has written.
func (w *lakeWorld) wrote(rows []schema.SessionRow) {
	v := w.note()
	for _, r := range rows {
		if w.ours[v] == nil {
			w.ours[v] = map[string]schema.SessionRow{}
		}
		w.ours[v][r.Key()] = r
	}
}

// note keeps what the newest version of sessions must hold.
func (w *lakeWorld) note() (version int64) {
	log, _ := w.d.Committer("sessions")
	w.must(log.Refresh(w.t.Context()))
	log.View(func(s *deltalog.Snapshot) { version = s.Version })
	w.keep(version)
	return version
}

// keep keeps what a version must hold.
func (w *lakeWorld) keep(version int64) {
	w.then[version] = maps.Clone(w.m.closed)
	w.notes.keep(version)
}

// restore does what a RESTORE of another tool does to sessions.
func (w *lakeWorld) restore() {
	tab := openTable(w.t, w.mem, "sessions").Snapshot()
	var versions []int64
	for v := range w.then {
		if v > tab.Version-20 {
			versions = append(versions, v)
		}
	}
	slices.Sort(versions)
	if len(versions) == 0 {
		return
	}
	to := versions[w.rng.IntN(len(versions))]
	adds, then := map[string]*deltalog.Add{}, map[string]bool{} // by path and deletion vector
	for v := int64(0); v <= tab.Version; v++ {
		log, err := w.mem.Get(w.t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", v))
		w.must(err)
		var removes, added []string
		for line := range bytes.Lines(log) {
			var a struct {
				Add    *deltalog.Add
				Remove *deltalog.Remove
			}
			w.must(json.Unmarshal(line, &a))
			if a.Add != nil {
				id := deletionvector.FileID(a.Add.Path, a.Add.Vector)
				adds[id], added = a.Add, append(added, id)
			}
			if a.Remove != nil {
				removes = append(removes, deletionvector.FileID(a.Remove.Path, a.Remove.Vector))
			}
		}
		for _, id := range removes {
			delete(then, id)
		}
		for _, id := range added {
			then[id] = true
		}
		if v == to {
			break
		}
	}
	contents := w.mem.Contents()
	body := []byte(`{"commitInfo":{"operation":"RESTORE","timestamp":1}}` + "\n")
	line := func(action string, a any) {
		text, err := json.Marshal(map[string]any{action: a})
		w.must(err)
		body = append(append(body, text...), '\n')
	}
	for _, id := range slices.Sorted(maps.Keys(then)) {
		a := adds[id]
		keys := []string{a.Path}
		if a.Vector != nil && a.Vector.StorageType == "u" {
			key, err := a.Vector.Key()
			w.must(err)
			keys = append(keys, key)
		}
		for _, key := range keys {
			if contents["sessions/"+key] == nil {
				return // vacuum has taken it: no tool restores that version
			}
		}
		if !slices.ContainsFunc(tab.Files, func(f *File) bool { return f.ID() == id }) {
			line("add", a)
		}
	}
	at := w.clock.Now().UnixMilli()
	for _, f := range tab.Files {
		if !then[f.ID()] {
			line("remove", &deltalog.Remove{Path: f.Path, DataChange: true, DeletionTimestamp: &at, Size: &f.Size,
				Vector: f.Vector})
		}
	}
	w.must(w.mem.PutIfAbsent(w.t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", tab.Version+1), body))
	w.m.closed = maps.Clone(w.then[to])
	w.notes.restore(to)
	w.forget()
	w.note()
	w.restored++
}

// hide has another tool delete a row of sessions by a deletion vector: it is revised no more.
func (w *lakeWorld) hide() {
	keys := slices.Sorted(maps.Keys(w.m.closed))
	if len(keys) == 0 {
		return
	}
	key := keys[w.rng.IntN(len(keys))]
	w.hidden++
	deleteRow(w.t, w.mem, w.hidden, key, true)
	delete(w.m.closed, key)
	w.forget()
	w.note()
}

// forget has what was taken away revised no more: whether it is to come back, an operator says.
func (w *lakeWorld) forget() {
	for shard, rows := range w.m.first {
		w.m.first[shard] = slices.DeleteFunc(rows, func(r schema.SessionRow) bool {
			_, stands := w.m.closed[r.Key()]
			return !stands
		})
	}
}

func (w *lakeWorld) vacuum() {
	for _, table := range []string{"sessions", "events"} {
		r, err := vacuum.Prepare(w.t.Context(), vacuum.Options{Store: w.mem, Table: table, Clock: true,
			Now: w.clock.Now})
		w.must(err)
		w.must(r.Remove(w.t.Context(), nil))
		w.vacuumed += len(r.Removed)
	}
}

// dies counts the requests until the one at which whoever makes them is killed. It is called with mu held.
func (w *lakeWorld) dies() error {
	if w.kill == 0 {
		w.killed++
		return errKilled
	}
	if w.kill > 0 {
		w.kill--
	}
	return nil
}

// hook is called before each request of compaction.
func (w *lakeWorld) hook() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.dies(); err != nil {
		return err
	}
	w.clock.Pass(time.Duration(w.rng.IntN(20)) * time.Second)
	switch w.rng.IntN(24) {
	case 0, 1:
		w.write()
	case 2:
		w.restore()
	case 3:
		w.vacuum()
	case 4:
		w.annotate()
	case 5: // a second runner
		w.compact([]string{"sessions", "events"}[w.rng.IntN(2)], w.mem)
	case 6:
		w.hide()
	}
	return nil
}

// compact does one round.
func (w *lakeWorld) compact(table string, st store.Store) {
	c, err := w.compactor(table, st)
	if errors.Is(err, errKilled) {
		return
	}
	w.must(err)
	err = c.Round(w.t.Context(), func(r compact.Result) {
		if r.Why != "" {
			w.t.Errorf("%s of %s: files are left alone: %s", r.Partition, table, r.Why)
		}
		if r.Removed > 0 {
			w.jobs++
		} else {
			w.conflicts++
		}
	})
	if err != nil && !errors.Is(err, errKilled) {
		w.t.Errorf("compaction of %s: %v", table, err)
	}
	w.must(c.Close())
}

// betweenRequests calls before before each request.
type betweenRequests struct {
	*objects.Mem
	before func() error
}

func (s betweenRequests) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := s.before(); err != nil {
		return err
	}
	return s.Mem.PutIfAbsent(ctx, key, data)
}

func (s betweenRequests) PutStreamIfAbsent(ctx context.Context, key string, size int64,
	write func(io.Writer) error) error {
	if err := s.before(); err != nil {
		return err
	}
	if err := s.Mem.PutStreamIfAbsent(ctx, key, size, write); err != nil {
		return err
	}
	return s.before() // killed before it knows
}

func (s betweenRequests) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.before(); err != nil {
		return nil, err
	}
	return s.Mem.Get(ctx, key)
}

// Every row stands once, as it was, whatever happens between two requests of compaction, and wherever it is killed.
func TestCompactionKeepsRows(t *testing.T) {
	seeds, rounds := []uint64{0, 1, 2}, 10
	if testing.Short() {
		seeds, rounds = []uint64{4}, 8
	}
	jobs, conflicts, killed, restored, vacuumed, hidden, noted := 0, 0, 0, 0, 0, 0, 0
	for _, seed := range seeds {
		w := newLakeWorld(t, seed)
		for range rounds {
			for range 3 + w.rng.IntN(8) {
				w.write()
				w.clock.Pass(time.Duration(w.rng.IntN(5)) * time.Minute)
			}
			w.clock.Pass(time.Duration(w.rng.IntN(60)) * time.Hour) // two weeks in all: vacuum finds something
			for _, table := range []string{"sessions", "events"} {
				if w.kill = -1; w.rng.IntN(2) == 0 {
					w.kill = w.rng.IntN(60)
				}
				w.compact(table, betweenRequests{w.mem, w.hook})
			}
			checkSessions(t, w.mem, w.m)
			checkEventRows(t, w.mem, w.m)
			noted += w.checkNotes()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		w.must(w.d.Close())
		jobs, conflicts, killed = jobs+w.jobs, conflicts+w.conflicts, killed+w.killed
		restored, vacuumed, hidden = restored+w.restored, vacuumed+w.vacuumed, hidden+w.hidden
	}
	told := fmt.Sprintf("%d jobs, %d conflicts, %d kills, %d RESTOREs, %d objects vacuumed, %d rows hidden by others, "+
		"%d rows with notes in compacted files", jobs, conflicts, killed, restored, vacuumed, hidden, noted)
	if jobs < 5*len(seeds) || conflicts == 0 || restored == 0 || hidden == 0 || noted == 0 ||
		!testing.Short() && (killed == 0 || vacuumed == 0) { // a short run may not meet what is rare
		t.Errorf("the test shows little: %s", told)
	}
	t.Log(told)
}

// checkEventRows is checkEvents for files that are not in the order of offsets.
func checkEventRows(t *testing.T, st store.Store, m *model) {
	t.Helper()
	tab := openTable(t, st, "events")
	seen := map[state.Position]bool{}
	err := tab.ReadEvents(context.Background(), tab.Snapshot().Files, func(r *EventRow) error {
		pos := state.Position{Partition: r.Partition, Offset: r.Offset}
		want, ok := m.events[pos]
		switch {
		case !ok || seen[pos]:
			t.Errorf("event %v is one too many", pos)
		case r.Item != want || r.BatchID != m.batch[pos] || r.Date != schema.Day(want.Timestamp):
			t.Errorf("event %v:\n got %+v\nwant %+v, batch %d", pos, r, want, m.batch[pos])
		}
		seen[pos] = true
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if len(seen) != len(m.events) {
		t.Errorf("%d events, want %d", len(seen), len(m.events))
	}
}

// However many files wait, a job takes JobFiles of them, and a round all.
func TestJobsHaveAnEnd(t *testing.T) {
	w := newLakeWorld(t, 1)
	defer func() { w.must(w.d.Close()) }()
	for i := range 60 {
		w.must(w.d.Sessions().Write(t.Context(), statetest.NewPlan(state.Config{}, state.SinkSessions, uint64(i),
			uint64(i)+1, nil, statetest.Content{Rows: []schema.SessionRow{w.m.sessionRow(0, uint64(i)+1, i+1)}})))
	}
	w.clock.Pass(time.Hour)
	c, err := w.compactor("sessions", w.mem)
	w.must(err)
	defer func() { w.must(c.Close()) }()
	jobs, err := c.Plan(t.Context())
	if err != nil || len(jobs) == 0 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	before := c.Files()
	for _, j := range jobs {
		if len(j.Files) > 24 {
			t.Errorf("a job of %d files", len(j.Files))
		}
	}
	var merged []int
	w.must(c.Round(t.Context(), func(r compact.Result) { merged = append(merged, r.Removed) }))
	if len(merged) < 2 || slices.Max(merged) != 24 || c.Files() > before/6 {
		t.Errorf("jobs of %v files; %d files have become %d", merged, before, c.Files())
	}
}

// What compaction leaves: few files, sorted, with true statistics and the origins of their rows; the log says that no
// data changed; and in a table that takes appends only it works, too.
func TestCompactedFiles(t *testing.T) {
	w := newLakeWorld(t, 1)
	defer func() { w.must(w.d.Close()) }()
	for range 60 {
		w.write()
	}
	props := `{"metaData":` + metadataWith(t, w.mem, "delta.appendOnly", "true") + "}\n"
	v := openTable(t, w.mem, "sessions").Snapshot().Version + 1
	w.must(w.mem.PutIfAbsent(t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", v), []byte(props)))
	w.clock.Pass(30 * 24 * time.Hour)
	before := openTable(t, w.mem, "sessions").Snapshot()
	c, err := w.compactor("sessions", w.mem)
	w.must(err)
	w.must(c.Round(t.Context(), nil))
	w.must(c.Close())
	after := openTable(t, w.mem, "sessions").Snapshot()
	if n := len(after.Files); n >= len(before.Files)/2 || after.Records != before.Records {
		t.Errorf("%d files with %d rows became %d with %d", len(before.Files), before.Records, n, after.Records)
	}
	parts := 0
	for _, f := range after.Files {
		parts = max(parts, len(f.Parts))
		last := ""
		w.must(openTable(t, w.mem, "sessions").ReadSessions(t.Context(), []*File{f}, func(r *schema.SessionRow) error {
			shard, _ := schema.SplitBatchID(r.BatchID)
			if !f.May(shard, w.m.closed[r.Key()].FirstClosed) {
				t.Errorf("%s: its tags %+v %+v deny the row %s", f.Path, f.Origin, f.Parts, r.Key())
			}
			key := r.Brand + "\x00" + r.SessionID + "\x00" + r.Origin
			if key <= last {
				t.Errorf("%s is not sorted: %q after %q", f.Path, key, last)
			}
			last = key
			return nil
		}))
	}
	if parts != 3 {
		t.Errorf("files of up to %d shards, want 3", parts)
	}
	log, err := w.mem.Get(t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", after.Version))
	w.must(err)
	if strings.Contains(string(log), `"dataChange":true`) || !strings.Contains(string(log), `"OPTIMIZE"`) {
		t.Errorf("the commit of a compaction: %s", log)
	}
	checkSessions(t, w.mem, w.m)
}

func metadataWith(t *testing.T, st store.Store, key, value string) string {
	t.Helper()
	return alteredMetadata(t, st, "sessions", func(m *deltalog.Metadata) { m.Configuration[key] = value })
}

// A file with a column that the table does not have is left alone, and so are files that cannot be read or that have a
// row twice; the others are compacted, and nothing is tried again in the same day.
func TestCompactionLeavesAlone(t *testing.T) {
	w := newLakeWorld(t, 4)
	defer func() { w.must(w.d.Close()) }()
	for range 20 {
		w.write()
	}
	w.clock.Pass(30 * 24 * time.Hour)
	files := openTable(t, w.mem, "sessions").Snapshot().Files
	key := func(f *File) string { return "sessions/" + f.Path }
	damaged, foreign := files[0], files[1]
	data, err := w.mem.Get(t.Context(), key(damaged))
	w.must(err)
	w.mem.Overwrite(key(damaged), bytes.Repeat([]byte{7}, len(data)))
	other := parquet.NewSchema("other", parquet.Group{"session_id": parquet.String(), "theirs": parquet.String()})
	var b bytes.Buffer
	pw := parquet.NewGenericWriter[any](&b, other)
	w.must(pw.Close())
	body := fmt.Sprintf(`{"remove":{"path":%q,"dataChange":true}}`+"\n"+
		`{"add":{"path":"session_date=%s/theirs.parquet","size":%d,"dataChange":true,"modificationTime":1,`+
		`"partitionValues":{"session_date":%q}}}`+"\n", foreign.Path, foreign.Partition, b.Len(), foreign.Partition)
	w.must(w.mem.Put(t.Context(), "sessions/session_date="+foreign.Partition+"/theirs.parquet", b.Bytes()))
	v := openTable(t, w.mem, "sessions").Snapshot().Version + 1
	w.must(w.mem.PutIfAbsent(t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", v), []byte(body)))
	c, err := w.compactor("sessions", w.mem)
	w.must(err)
	var left []string
	removed := 0
	round := func() {
		w.must(c.Round(t.Context(), func(r compact.Result) {
			if removed += r.Removed; r.Why != "" {
				left = append(left, r.Why)
			}
		}))
	}
	round()
	text := strings.Join(left, "\n")
	if len(left) != 2 || !strings.Contains(text, `"theirs"`) || !strings.Contains(text, "is damaged") || removed < 10 {
		t.Errorf("%d files compacted, left alone:\n%s", removed, text)
	}
	if round(); len(left) != 2 {
		t.Errorf("tried again at once: %s", left[2:])
	}
	w.clock.Pass(25 * time.Hour)
	if round(); len(left) != 4 {
		t.Errorf("after a day: %s", left[2:])
	}
	w.must(c.Close())
}
