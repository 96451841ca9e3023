package delta

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"deckle/schema"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
	"deckle/sinks/delta/store"
)

// wrote is what Deckle's sinks have written in a version: the images of rows.
type wrote struct {
	version int64
	rows    map[string]schema.SessionRow
}

// restoreWorld is a lakeWorld whose sessions table is restored by Deckle, too.
type restoreWorld struct {
	*lakeWorld
	inside                                   bool // within a restore that runs
	restoring, again, gone, refused, nothing int
}

// changes is what Deckle's sinks have written after a version, newest images last: what then has and has not before.
func (w *restoreWorld) changes(after int64) (all []wrote) {
	for _, v := range slices.Sorted(maps.Keys(w.ours)) {
		if v > after {
			all = append(all, wrote{v, w.ours[v]})
		}
	}
	return all
}

// want is what sessions must hold after a restore on a version.
func (w *restoreWorld) want(to, on int64, rows history.Rows) map[string]schema.SessionRow {
	out := maps.Clone(w.then[to])
	if rows == history.RowsGone {
		return out
	}
	for _, c := range w.changes(to) {
		if c.version <= on {
			maps.Copy(out, c.rows)
		}
	}
	return out
}

// restoreTo restores sessions as a node does, through a store in which others do something between two requests.
func (w *restoreWorld) restoreTo(st store.Store) {
	versions := slices.Sorted(maps.Keys(w.then))
	versions = versions[max(0, len(versions)-12):]
	to := versions[w.rng.IntN(len(versions))]
	rows := history.RowsAgain
	if w.rng.IntN(3) == 0 {
		rows = history.RowsGone
	}
	opts := testOptions(st, w.rng)
	opts.layout, opts.Now, opts.Node = w.layout, w.clock.Now, "n3"
	opts.CheckpointInterval = 1 << 30
	w.must(opts.complete())
	w.restoring++
	w.inside = true
	out, err := restore(w.t.Context(), &opts, w.d.metrics, RestoreRequest{Table: "sessions", Version: to, Rows: rows})
	w.inside = false
	if _, ok := errors.AsType[*history.RefusedError](err); ok {
		w.refused++
		return
	}
	if errors.Is(err, errKilled) {
		w.landed()
		return
	}
	w.must(err)
	switch {
	case out.Committed < 0:
		w.nothing++
	case rows == history.RowsAgain:
		w.again++
	default:
		w.gone++
	}
	w.landed()
}

// delete does what a DELETE of another tool does: a row is hidden, or the rows of one file go; they are revised no
// more.
func (w *restoreWorld) delete() {
	if w.rng.IntN(2) == 0 {
		w.hide()
		return
	}
	tab := openTable(w.t, w.mem, "sessions")
	files := tab.Snapshot().Files
	if len(files) == 0 {
		return
	}
	f := files[w.rng.IntN(len(files))]
	w.must(tab.ReadSessions(w.t.Context(), []*File{f}, func(r *schema.SessionRow) error {
		delete(w.m.closed, r.Key())
		return nil
	}))
	at := w.clock.Now().UnixMilli()
	remove, err := json.Marshal(&deltalog.Remove{Path: f.Path, DataChange: true, DeletionTimestamp: &at, Size: &f.Size,
		Vector: f.Vector})
	w.must(err)
	body := fmt.Appendf(nil, `{"commitInfo":{"operation":"DELETE","timestamp":1}}`+"\n"+`{"remove":%s}`+"\n", remove)
	w.must(w.mem.PutIfAbsent(w.t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", tab.Snapshot().Version+1),
		body))
	w.forget()
	w.note()
}

// landed looks which restores stand in the log that the model has not taken note of: those whose answer was lost, too.
func (w *restoreWorld) landed() {
	tab, err := history.Open(w.t.Context(), w.mem, "sessions")
	w.must(err)
	for _, v := range tab.Versions() {
		c, err := tab.Commit(w.t.Context(), v)
		w.must(err)
		if w.seen[v] || c.Info == nil || c.Info.Operation != "RESTORE" || c.Info.Engine != "deckle" {
			continue
		}
		w.seen[v] = true
		to := int64(0)
		for _, d := range c.Info.Parameters["version"] {
			to = 10*to + int64(d-'0')
		}
		w.then[v] = w.want(to, v-1, history.Rows(c.Info.Parameters["rows"]))
		// What others have written since stands on it.
		w.m.closed = maps.Clone(w.then[v])
		for _, ours := range w.changes(v) {
			maps.Copy(w.m.closed, ours.rows)
			w.then[ours.version] = maps.Clone(w.m.closed)
		}
		w.forget()
	}
}

// Rows stand once, as they were then and as Deckle has written them since, or as they were then alone, whatever
// happens between two requests of a restore, and wherever it is killed.
func TestRestoreKeepsRows(t *testing.T) {
	seeds := []uint64{0, 1, 2, 3, 4, 5}
	if testing.Short() {
		seeds = []uint64{2}
	}
	var again, gone, refused, killed, restored int
	for _, seed := range seeds {
		w := &restoreWorld{lakeWorld: newLakeWorld(t, seed+100)}
		for range 8 {
			for range 2 + w.rng.IntN(5) {
				w.write()
				w.clock.Pass(time.Duration(w.rng.IntN(5)) * time.Minute)
			}
			switch w.rng.IntN(6) {
			case 0, 1:
				w.compact("sessions", w.mem)
			case 2:
				w.restore()
			case 3:
				w.delete()
			case 4:
				w.clock.Pass(time.Duration(w.rng.IntN(80)) * time.Hour)
				w.vacuum()
			}
			if w.kill = -1; w.rng.IntN(2) == 0 {
				w.kill = w.rng.IntN(60)
			}
			w.restoreTo(betweenRequests{w.mem, w.during})
			w.kill = -1
			checkSessions(t, w.mem, w.m)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		checkEventRows(t, w.mem, w.m)
		w.must(w.d.Close())
		again, gone, refused, killed = again+w.again, gone+w.gone, refused+w.refused, killed+w.killed
		restored += w.restored
	}
	t.Logf("%d again, %d gone, %d refused, %d killed, %d RESTOREs of others", again, gone, refused, killed, restored)
	if !testing.Short() && (again < len(seeds)/2 || gone < len(seeds)/2 || refused == 0 || killed == 0 ||
		restored == 0) {
		t.Error("the test shows little")
	}
}

// during is called before each request of a restore.
func (w *restoreWorld) during() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.dies(); err != nil {
		return err
	}
	switch w.rng.IntN(20) {
	case 0:
		w.landed()
		w.write()
	case 1:
		w.landed()
		w.compact("sessions", w.mem)
	case 2:
		w.landed()
		w.hide()
	}
	return nil
}
