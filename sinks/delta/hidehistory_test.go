package delta

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/history"
)

// images are the epochs of the rows of hidingLake, by their places.
type images map[int]uint64

// hidingHistory is a lake whose revisions have hidden rows, and what it held at each version.
type hidingHistory struct {
	*hidingLake
	at []images
}

// newHidingHistory makes versions 0 (nothing), 1 (40 rows), 2 (the feature), 3 and 4 (revisions that hide rows of one
// file), 5 (30 rows more), and 6 (a revision that hides rows of both files). Version 3 has a checkpoint.
func newHidingHistory(t *testing.T) *hidingHistory {
	t.Helper()
	h := &hidingHistory{hidingLake: newHidingLake(t, 40, -1)}
	all := func(from images, first, n int, epoch uint64) images {
		out := maps.Clone(from)
		for i := range n {
			out[first+i] = epoch
		}
		return out
	}
	with := func(from images, epoch uint64, places ...int) images {
		out := maps.Clone(from)
		for _, n := range places {
			out[n] = epoch
		}
		return out
	}
	h.at = []images{{}, all(images{}, 0, 40, 1)}
	h.revise(2, 3)
	h.at = append(h.at, h.at[1], with(h.at[1], 2, 3))
	log, _ := h.d.Committer("sessions")
	h.must(log.WriteCheckpoint(t.Context(), 3, -1))
	h.revise(3, 3, 7, 20)
	h.at = append(h.at, with(h.at[3], 3, 3, 7, 20))
	for n := range 30 {
		h.rows = append(h.rows, h.row(4, 100+n))
	}
	h.must(h.sessions(3, 4, h.rows[40:]...))
	h.at = append(h.at, all(h.at[4], 40, 30, 4))
	h.revise(5, 9, 50)
	h.at = append(h.at, with(h.at[5], 5, 9, 50))
	return h
}

func (h *hidingHistory) history() *history.Table {
	h.t.Helper()
	tab, err := history.Open(h.t.Context(), h.mem, "sessions")
	h.must(err)
	return tab
}

func (h *hidingHistory) state(version int64) *history.State {
	h.t.Helper()
	s, err := h.history().At(h.t.Context(), version, history.Options{})
	h.must(err)
	return s
}

// read are the rows of a version, by the history's own list of files and vectors.
func (h *hidingHistory) read(version int64) (out images, doubled int) {
	h.t.Helper()
	place := map[string]int{}
	for n := range h.rows {
		place[h.rows[n].SessionID] = n
	}
	of := declared.sessions[level.Current]
	id, batch := of.place("session_id"), of.place("batch_id")
	out = images{}
	for _, f := range h.state(version).SortedFiles() {
		data, err := h.mem.Get(h.t.Context(), "sessions/"+f.Path)
		h.must(err)
		hidden, err := deletionvector.Read(h.t.Context(), h.mem, "sessions", f.Vector)
		h.must(err)
		n := int64(-1)
		h.must(eachRow(f.Path, data, of.file, of.later, func(r parquet.Row) error {
			if n++; hidden.Has(n) {
				return nil
			}
			at := place[string(r[id].ByteArray())]
			if _, twice := out[at]; twice {
				doubled++
			}
			_, out[at] = schema.SplitBatchID(uint64(r[batch].Int64()))
			return nil
		}))
	}
	return out, doubled
}

// check has a deep check find so many errors of a kind.
func (h *hidingHistory) check(what, kind string, n int) *history.Report {
	h.t.Helper()
	r, err := h.history().Check(h.t.Context(), history.CheckOptions{Deep: true})
	h.must(err)
	found := 0
	for _, f := range r.Findings {
		if f.Kind == kind {
			found++
		}
	}
	if found != n || len(r.Findings) != n {
		h.t.Errorf("%s: findings %+v, want %d of kind %q", what, r.Findings, n, kind)
	}
	return r
}

// vectors are the objects of the vectors of a version's files, by key.
func (h *hidingHistory) vectors(version int64) map[string]*deletionvector.Descriptor {
	h.t.Helper()
	out := map[string]*deletionvector.Descriptor{}
	for _, f := range h.state(version).SortedFiles() {
		if f.Vector != nil {
			key, err := f.Vector.Key()
			h.must(err)
			out["sessions/"+key] = f.Vector
		}
	}
	return out
}

// Every version of a table of which revisions have hidden rows is shown as it was: its rows and how many they are, by
// commits and from a checkpoint; and what differs between two versions.
func TestHistoryOfHidden(t *testing.T) {
	h := newHidingHistory(t)
	for v, want := range h.at {
		got, doubled := h.read(int64(v))
		rows := int64(0)
		for _, f := range h.state(int64(v)).Files {
			rows += f.Rows()
		}
		if !maps.Equal(got, want) || doubled != 0 || rows != int64(len(want)) {
			t.Errorf("version %d: %v, %d doubled, %d rows by the log, want %v", v, got, doubled, rows, want)
		}
	}
	for a := range h.at {
		for b := range h.at {
			added, removed := history.Compare(h.state(int64(a)), h.state(int64(b))).Rows()
			if n := len(h.at[b]) - len(h.at[a]); added-removed != int64(n) {
				t.Errorf("from %d to %d: %d rows added, %d removed, want %d more", a, b, added, removed, n)
			}
		}
	}
	// A file that has another vector went and came: what is shown of it are the rows that readers see.
	d := history.Compare(h.state(3), h.state(4))
	var lines []string
	for sign, files := range map[string][]*history.File{"+": d.Added, "-": d.Removed} {
		for _, f := range files {
			if f.Path == h.file.Path {
				lines = append(lines, fmt.Sprint(sign, f.Rows(), " of ", f.Records))
			}
		}
	}
	slices.Sort(lines)
	if len(d.Added) != 3 || len(d.Removed) != 2 || fmt.Sprint(lines) != "[+37 of 40 -39 of 40]" {
		t.Errorf("%d files added, %d removed: %v", len(d.Added), len(d.Removed), lines)
	}
}

// A check finds nothing wrong with what hides rows, knows that former vectors wait for vacuum, and finds a vector that
// is gone, damaged, or another file's.
func TestCheckOfHidden(t *testing.T) {
	h := newHidingHistory(t)
	r := h.check("unharmed", "", 0)
	live, former := h.vectors(6), h.vectors(4)
	waiting := map[string]bool{}
	for _, l := range r.Loose {
		if waiting[l.Key] = true; !l.Removed {
			t.Errorf("nothing names %s", l.Key)
		}
	}
	for key := range former {
		if !waiting[key] {
			t.Errorf("%s does not wait for vacuum", key)
		}
	}
	if len(live) != 1 || len(former) != 1 || r.Files != len(h.state(6).Files) || r.Opened != r.Files {
		t.Fatalf("%d objects of vectors, %d former; %+v", len(live), len(former), r)
	}
	for key := range live {
		if waiting[key] {
			t.Errorf("%s is live, and waits for vacuum", key)
		}
		data, err := h.mem.Get(t.Context(), key)
		h.must(err)
		h.must(h.mem.Delete(t.Context(), key))
		h.check("gone", history.FileMissing, 2) // two files have vectors in it
		harmed := bytes.Clone(data)
		harmed[len(harmed)-1] ^= 1
		h.mem.Overwrite(key, harmed)
		h.check("damaged", history.FileDamaged, 1)
		for key := range former {
			former, err := h.mem.Get(t.Context(), key)
			h.must(err)
			harmed = former
		}
		h.mem.Overwrite(key, harmed)
		h.check("of another commit", history.FileDamaged, 2)
		h.mem.Overwrite(key, data)
	}
	h.check("mended", "", 0)
}

// A restore gives files the vectors that they had: its rows are those of that version, and revisions go on from there.
// What others have hidden since comes back, and what Deckle has hidden since stays so, where its own rows are to stand.
func TestRestoreOfHidden(t *testing.T) {
	restore := func(h *hidingHistory, to int64, rows history.Rows) (*Restored, error) {
		return h.d.Restore(t.Context(), RestoreRequest{Table: "sessions", Version: to, Rows: rows})
	}
	for to := int64(1); to < 6; to++ {
		h := newHidingHistory(t)
		out, err := restore(h, to, history.RowsGone)
		h.must(err)
		got, doubled := h.read(out.Committed)
		if !maps.Equal(got, h.at[to]) || doubled != 0 || !reflect.DeepEqual(h.vectors(out.Committed), h.vectors(to)) {
			t.Errorf("to %d: %v, %d doubled, want %v", to, got, doubled, h.at[to])
		}
		h.check(fmt.Sprint("after a restore to ", to), "", 0)
		h.revise(6, 3, 11)
		want := maps.Clone(h.at[to])
		want[3], want[11] = 6, 6
		got, doubled = h.read(out.Committed + 1)
		if !maps.Equal(got, want) || doubled != 0 {
			t.Errorf("revised after a restore to %d: %v, %d doubled, want %v", to, got, doubled, want)
		}
		h.check(fmt.Sprint("revised after a restore to ", to), "", 0)
		// The restore is undone by another one.
		out, err = restore(h, 6, history.RowsGone)
		h.must(err)
		if got, _ := h.read(out.Committed); !maps.Equal(got, h.at[6]) {
			t.Errorf("undone: %v, want %v", got, h.at[6])
		}
	}
	h := newHidingHistory(t)
	if out, err := restore(h, 3, history.RowsAgain); err != nil || out.Committed != -1 {
		t.Errorf("nothing but Deckle's own commits: %+v, %v", out, err)
	}
	deleteRow(t, h.mem, 1, h.rows[12].Key(), true) // in the file of which rows are hidden
	out, err := restore(h, 5, history.RowsAgain)
	h.must(err)
	if got, doubled := h.read(out.Committed); !maps.Equal(got, h.at[6]) || doubled != 0 {
		t.Errorf("another's DELETE undone: %v, want %v", got, h.at[6])
	}
	h.check("another's DELETE undone", "", 0)
	// A vector that vacuum has taken cannot come back.
	h = newHidingHistory(t)
	for key := range h.vectors(4) {
		h.must(h.mem.Delete(t.Context(), key))
	}
	version := h.history().Newest()
	_, err = restore(h, 4, history.RowsGone)
	if _, refused := errors.AsType[*history.RefusedError](err); !refused || !strings.Contains(err.Error(), "vector") ||
		h.history().Newest() != version {
		t.Errorf("with a vector that is gone: %v, at version %d", err, h.history().Newest())
	}
}
