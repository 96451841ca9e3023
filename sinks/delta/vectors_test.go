package delta

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/sinks"
	"deckle/sinks/delta/deletionvector/vectortest"
	"deckle/sinks/delta/deltalog"
)

// epochs are the rows of sessions that readers see, with the epochs of their images.
func (l *lake) epochs() string {
	l.t.Helper()
	out := map[string]uint64{}
	for id, r := range readSessions(l.t, l.mem, declared) {
		out[id] = r.Epoch
	}
	return fmt.Sprint(out)
}

// Rows that another tool has hidden by deletion vectors are not read, and not written again when their file is
// rewritten for another row, whether it is looked through by ranges or read whole; nor if they are hidden while a
// revision is on its way to the log.
func TestHiddenRows(t *testing.T) {
	for _, ranges := range []int64{-1, 1e9} {
		l := newLake(t)
		opts := testOptions(l.mem, l.m.rng)
		opts.FileBytes, opts.rangesFrom = 0, ranges
		l.must(l.d.Close())
		l.d = mustOpen(t, opts)
		var rows []schema.SessionRow
		for n := range 6 {
			rows = append(rows, l.row(1, n))
		}
		l.must(l.sessions(0, 1, rows...))
		image := func(n int, epoch uint64) schema.SessionRow {
			r := l.revised(rows[n], epoch)
			r.Stands = true
			return r
		}
		want := func(what string, epochs map[int]uint64) {
			t.Helper()
			out := map[string]uint64{}
			for n, epoch := range epochs {
				out[rows[n].SessionID] = epoch
			}
			if got := l.epochs(); got != fmt.Sprint(out) {
				t.Errorf("%s: %s, want %v", what, got, out)
			}
		}
		deleteRow(t, l.mem, 1, rows[0].Key(), true)
		deleteRow(t, l.mem, 2, rows[5].Key(), true)
		want("hidden", map[int]uint64{1: 1, 2: 1, 3: 1, 4: 1})
		tab := openTable(t, l.mem, "sessions")
		if n := tab.Snapshot().Records; n != 4 {
			t.Errorf("%d records", n)
		}
		ids := map[string]bool{}
		for _, f := range tab.Snapshot().Files {
			l.must(tab.ReadColumns(t.Context(), f, []string{"session_id"}, func(v []parquet.Value) error {
				ids[string(v[0].ByteArray())] = true
				return nil
			}))
		}
		if len(ids) != 4 || ids[rows[0].SessionID] || ids[rows[5].SessionID] {
			t.Errorf("by columns: %v", ids)
		}
		l.must(l.revisions(1, 2, image(0, 2), image(1, 2)))
		want("revised", map[int]uint64{1: 2, 2: 1, 3: 1, 4: 1})
		// The file that was rewritten has no vector, and is hidden anew while it is rewritten.
		once := true
		l.d.revisions.opts.step = func(name string) error {
			if name == "submit" && once {
				once = false
				deleteRow(t, l.mem, 3, rows[2].Key(), true)
			}
			return nil
		}
		l.must(l.revisions(2, 3, image(2, 3), image(3, 3)))
		want("revised beside a DELETE", map[int]uint64{1: 2, 3: 3, 4: 1})
		once = true // and again, of a file that has a vector
		deleteRow(t, l.mem, 4, rows[4].Key(), true)
		l.must(l.revisions(3, 4, image(4, 4), image(3, 4)))
		want("revised once more", map[int]uint64{1: 2, 3: 4})
		deleteRow(t, l.mem, 5, rows[3].Key(), true)
		again := image(3, 5) // what may never have been written is written, although a hidden row looks like it
		again.Stands = false
		l.must(l.revisions(4, 5, again))
		want("written again", map[int]uint64{1: 2, 3: 5})
		checkLog(t, l.mem, "sessions")
	}
}

// A vector that cannot be read stops who needs it, and nobody takes the rows for visible ones; one that lies elsewhere
// is named.
func TestUnreadableVector(t *testing.T) {
	l := newLake(t)
	a, b := l.row(1, 1), l.row(1, 2)
	l.must(l.sessions(0, 1, a, b))
	f := openTable(t, l.mem, "sessions").Snapshot().Files[0]
	for what, change := range map[string]struct {
		from, to string
		is       func(error) bool
	}{
		"damaged": {"deletion", "deletion", func(err error) bool {
			_, ok := errors.AsType[*deltalog.CorruptionError](err)
			return ok
		}},
		"elsewhere": {`"storageType":"u"`, `"storageType":"p"`, func(err error) bool {
			_, ok := errors.AsType[*sinks.StopError](err)
			return ok
		}},
	} {
		d := vectortest.Put(t, l.mem, "sessions", 1, 0, vectortest.Encode(t, 0), 1)
		key, err := d.Key()
		l.must(err)
		l.mem.Overwrite("sessions/"+key, []byte("something else that is long enough to hold a vector of some rows"))
		line := fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{"session_date":%q},"size":%d,"modificationTime":1,`+
			`"dataChange":true,"deletionVector":{"storageType":"u","pathOrInlineDv":%q,"offset":%d,"sizeInBytes":%d,`+
			`"cardinality":1}}}`, f.Path, f.Partition, f.Size, d.Path, *d.Offset, d.Size)
		l.commit("sessions", `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":`+
			`["deletionVectors"],"writerFeatures":["deletionVectors","appendOnly","invariants"]}}`,
			strings.Replace(line, change.from, change.to, 1))
		r := l.revised(b, 2)
		if err := l.revisions(1, 2, r); !change.is(err) {
			t.Errorf("%s: %v", what, err)
		}
		tab := openTable(t, l.mem, "sessions")
		err = tab.ReadSessions(t.Context(), tab.Snapshot().Files, func(*schema.SessionRow) error { return nil })
		if !change.is(err) {
			t.Errorf("%s, a reader: %v", what, err)
		}
	}
}

// Compaction leaves hidden rows behind: readers see the same rows as before, and no vector is left.
func TestCompactionOfHidden(t *testing.T) {
	w := newLakeWorld(t, 1)
	defer func() { w.must(w.d.Close()) }()
	for range 30 {
		w.write()
	}
	n := 0
	for _, key := range slices.Sorted(maps.Keys(w.m.closed)) {
		if n++; n%3 == 0 {
			deleteRow(t, w.mem, n, key, true)
			delete(w.m.closed, key)
		}
	}
	checkSessions(t, w.mem, w.m)
	vectors := func() (n int) {
		for _, f := range openTable(t, w.mem, "sessions").Snapshot().Files {
			if f.Vector != nil {
				n++
			}
		}
		return n
	}
	before := vectors()
	w.clock.Pass(30 * 24 * time.Hour)
	c, err := w.compactor("sessions", w.mem)
	w.must(err)
	w.must(c.Round(t.Context(), nil))
	w.must(c.Close())
	checkSessions(t, w.mem, w.m)
	if after := vectors(); before < 3 || after >= before/2 {
		t.Errorf("%d files with vectors before, %d after", before, after)
	}
	checkLog(t, w.mem, "sessions")
}
