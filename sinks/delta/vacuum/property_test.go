package vacuum

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errKilled = errors.New("killed")

// world is a table that writers change while vacuum runs, and what must be there.
type world struct {
	t   *testing.T
	rng *rand.Rand
	mem *objects.Mem
	log *deltalog.Log
	now time.Time

	live     map[string]bool // by path
	versions []version
	staged   map[string]time.Time
	n        int
	// checkpoint is the newest version that has one, -1 for none.
	checkpoint int64

	in     bool           // between two requests of vacuum
	clock  *objects.Clock // shows now
	killAt int            // the request of vacuum at which it is killed; -1 for none
	fault  string
}

// version is what was live from a time on.
type version struct {
	at    time.Time
	files []string
}

const table = "sessions"

// pass lets time pass, for the log's own goroutines, too.
func (w *world) pass(d time.Duration) {
	w.clock.Pass(d)
	w.now = w.clock.Now()
}

// watched is the store as vacuum sees it: before each request something may happen. The log of the writers has requests
// in goroutines of its own, which are none of vacuum's.
type watched struct {
	*objects.Mem
	before func(op, key string) error
}

func (s watched) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := s.before("put-if-absent", key); err != nil {
		return err
	}
	return s.Mem.PutIfAbsent(ctx, key, data)
}

func (s watched) Put(ctx context.Context, key string, data []byte) error {
	if err := s.before("put", key); err != nil {
		return err
	}
	return s.Mem.Put(ctx, key, data)
}

func (s watched) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.before("get", key); err != nil {
		return nil, err
	}
	return s.Mem.Get(ctx, key)
}

func (s watched) List(ctx context.Context, prefix, after string, yield func(store.Info) error) error {
	if err := s.before("list", prefix); err != nil {
		return err
	}
	return s.Mem.List(ctx, prefix, after, yield)
}

func (s watched) Delete(ctx context.Context, key string) error {
	if err := s.before("delete", key); err != nil {
		return err
	}
	return s.Mem.Delete(ctx, key)
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 3)), now: time.Unix(1_700_000_000, 0), live: map[string]bool{},
		staged: map[string]time.Time{}, killAt: -1, checkpoint: -1}
	w.clock = objects.NewClock(w.now)
	w.mem = objects.NewMem(w.clock.Now)
	var err error
	w.log, err = deltalog.Open(t.Context(), deltalog.Options{
		Store: w.mem, Name: table, KeepFiles: true, Rand: rand.NewChaCha8([32]byte{byte(seed)}),
		Now:                w.clock.Now,
		Sleep:              func(context.Context, time.Duration) error { return nil },
		CheckpointInterval: 1 << 30, // made by hand below
		Create: &deltalog.Creation{ClusterID: "c", Pipeline: "p", PartitionColumns: []string{"d"},
			Fields: []deltalog.Field{{Name: "x", Type: "long"}, {Name: "d", Type: "date"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.committed()
	return w
}

func (w *world) committed() {
	w.versions = append(w.versions, version{w.now, slices.Sorted(maps.Keys(w.live))})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// put makes a data file.
func (w *world) put() string {
	w.n++
	path := fmt.Sprintf("d=2026-01-%02d/part-%05d.parquet", 1+w.n%28, w.n)
	w.must(w.mem.Put(w.t.Context(), table+"/"+path, []byte(path)))
	return path
}

func add(path string, at time.Time) deltalog.Add {
	return deltalog.Add{Path: path, PartitionValues: map[string]string{"d": path[2:12]}, Size: int64(len(path)),
		ModificationTime: at.UnixMilli(), DataChange: true}
}

// commit removes some files and adds some, by the writer's own package.
func (w *world) commit(removes, adds []string) {
	c := &deltalog.Change{Last: true, Removes: removes}
	w.must(w.log.Refresh(w.t.Context()))
	w.log.View(func(s *deltalog.Snapshot) { c.Parts = []deltalog.Part{s.Part("a", int64(len(w.versions)))} })
	for _, p := range adds {
		c.Adds = append(c.Adds, add(p, w.now))
	}
	w.must(w.log.Submit(w.t.Context(), c))
	w.made(removes, adds)
}

// foreign is a commit of another writer. It may add files that were removed: Deckle's own never do.
func (w *world) foreign(removes, adds []string) {
	lines := []map[string]any{{"commitInfo": map[string]any{"timestamp": w.now.UnixMilli(), "operation": "RESTORE"}}}
	for _, p := range removes {
		lines = append(lines, map[string]any{"remove": map[string]any{"path": p, "dataChange": true,
			"deletionTimestamp": w.now.UnixMilli(), "size": len(p)}})
	}
	for _, p := range adds {
		lines = append(lines, map[string]any{"add": map[string]any{"path": p, "dataChange": true, "size": len(p),
			"partitionValues": map[string]string{"d": p[2:12]}, "modificationTime": w.now.UnixMilli()}})
	}
	var body []byte
	for _, l := range lines {
		b, err := json.Marshal(l)
		w.must(err)
		body = append(append(body, b...), '\n')
	}
	key := fmt.Sprintf("%s/_delta_log/%020d.json", table, len(w.versions))
	w.must(w.mem.PutIfAbsent(w.t.Context(), key, body))
	w.must(w.log.Refresh(w.t.Context()))
	w.made(removes, adds)
}

func (w *world) made(removes, adds []string) {
	for _, p := range removes {
		delete(w.live, p)
	}
	for _, p := range adds {
		w.live[p] = true
	}
	w.committed()
}

func (w *world) some(m map[string]bool, most int) (out []string) {
	all := slices.Sorted(maps.Keys(m))
	for range min(len(all), 1+w.rng.IntN(most)) {
		i := w.rng.IntN(len(all))
		out = append(out, all[i])
		all = slices.Delete(all, i, i+1)
	}
	return out
}

// step does one thing that writers do. What takes files back that no version inside the retention has is only done
// where the package promises to see it: before it looks at the log.
func (w *world) step(beforeLook bool) {
	what := w.rng.IntN(7)
	if beforeLook && w.in && w.rng.IntN(2) == 0 {
		what = 5
	}
	switch what {
	case 0: // a node dies after staging
		w.put()
	case 1: // one that stages, and commits later
		w.staged[w.put()] = w.now
	case 2:
		for _, p := range slices.Sorted(maps.Keys(w.staged)) {
			if w.now.Sub(w.staged[p]) <= Floor/2 {
				w.commit(nil, []string{p})
			}
			delete(w.staged, p)
		}
	case 3:
		w.commit(nil, []string{w.put()})
	case 4: // a revision
		if len(w.live) > 0 {
			w.commit(w.some(w.live, 2), []string{w.put()})
		}
	case 5: // a RESTORE to a version inside the retention, or to any whose files are all there
		v := w.versions[w.rng.IntN(len(w.versions))]
		if beforeLook {
			contents := w.mem.Contents()
			if slices.ContainsFunc(v.files, func(p string) bool { return contents[table+"/"+p] == nil }) {
				return
			}
		} else if inside := w.inside(); len(inside) > 0 {
			v = inside[w.rng.IntN(len(inside))]
		}
		then := map[string]bool{}
		var removes, adds []string
		for _, p := range v.files {
			if then[p] = true; !w.live[p] {
				adds = append(adds, p)
			}
		}
		for _, p := range slices.Sorted(maps.Keys(w.live)) {
			if !then[p] {
				removes = append(removes, p)
			}
		}
		if len(adds)+len(removes) > 0 {
			w.foreign(removes, adds)
		}
	case 6:
		if v := int64(len(w.versions) - 1); v > w.checkpoint {
			w.must(w.log.WriteCheckpoint(w.t.Context(), v, w.checkpoint))
			w.checkpoint = v
		}
	}
}

// inside are the versions that were the newest at some time inside the retention.
func (w *world) inside() []version {
	i := len(w.versions) - 1
	for i > 0 && w.versions[i].at.After(w.now.Add(-Least)) {
		i--
	}
	return w.versions[i:]
}

// hook runs writers between any two requests of vacuum, kills it, and looks at each removal.
func (w *world) hook(op, key string) error {
	w.in = true
	defer func() { w.in = false }()
	if w.killAt == 0 {
		return errKilled
	}
	w.killAt--
	if strings.HasSuffix(key, clockKey) {
		return nil
	}
	if op != "delete" {
		// Vacuum reads the log with a request a commit: about ten steps while it does, so that it comes to the end.
		if op == "list" && w.rng.IntN(2) == 0 || w.rng.IntN(6+len(w.versions)/4) == 0 {
			w.step(op == "list")
		}
		w.pass(time.Duration(w.rng.IntN(60)) * time.Second)
		return nil
	}
	path := strings.TrimPrefix(key, table+"/")
	for i, v := range w.inside() {
		if slices.Contains(v.files, path) {
			w.lost("%s is live in version %d of those inside the retention, and removed", path, i)
		}
	}
	if at, ok := w.staged[path]; ok && w.now.Sub(at) <= Floor/2 {
		w.lost("%s is staged for a plan, and removed", path)
	}
	return nil
}

func (w *world) lost(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf(format, args...)
	}
}

// run lets writers and vacuum work for some weeks, with a kill at any request of each run, and returns what vacuum did
// wrong and how many objects it has removed.
func run(t *testing.T, seed uint64) (fault string, removed int) {
	w := newWorld(t, seed)
	defer func() { w.must(w.log.Close()) }()
	for range 8 {
		for range 4 + w.rng.IntN(6) {
			w.step(true)
			w.pass(time.Duration(w.rng.IntN(40)) * time.Hour)
		}
		for kill := w.rng.IntN(12); ; kill += 1 + w.rng.IntN(8) {
			w.killAt = kill
			if w.rng.IntN(4) == 0 {
				w.killAt = -1
			}
			r, err := Prepare(t.Context(), Options{Store: watched{w.mem, w.hook}, Table: table, Clock: true, Batch: 3,
				Now: func() time.Time { return w.now.Add(time.Hour) }})
			if err == nil {
				err = r.Remove(t.Context(), nil)
				removed += len(r.Removed)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, errKilled) {
				w.lost("%v", err)
				break
			}
		}
		w.killAt = -1
		contents := w.mem.Contents()
		for _, v := range w.inside() {
			for _, p := range v.files {
				if contents[table+"/"+p] == nil {
					w.lost("%s is live inside the retention, and gone", p)
				}
			}
		}
		if w.fault != "" {
			return w.fault, removed
		}
	}
	// What nothing needs goes in the end: after two quiet weeks the live files alone are there.
	w.pass(2 * Least)
	w.commit(nil, []string{w.put()})
	w.pass(2 * Least)
	r, err := Prepare(t.Context(), Options{Store: w.mem, Table: table, Clock: true,
		Now: func() time.Time { return w.now }})
	w.must(err)
	w.must(r.Remove(t.Context(), nil))
	keys := w.mem.Keys(table + "/d=")
	if len(keys) != len(w.live) {
		w.lost("%d objects are left, %d files are live", len(keys), len(w.live))
	}
	return w.fault, removed + len(r.Removed)
}

// No live file of a version inside the retention is removed, whatever others commit between two requests of vacuum,
// and wherever it is killed.
func TestVacuumKeepsWhatIsNeeded(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 5
	}
	total := 0
	for seed := range seeds {
		fault, removed := run(t, seed)
		if fault != "" {
			t.Fatalf("seed %d: %s", seed, fault)
		}
		total += removed
	}
	if total < int(seeds)*10 {
		t.Errorf("only %d objects were removed: the test shows little", total)
	}
	t.Logf("%d objects removed in %d runs", total, seeds)
}
