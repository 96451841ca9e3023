package deltalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"deckle/sim/testworld/objects"
)

// removed is the remove of the file of withVector, with a vector at an offset.
func removed(offset string) string {
	line := strings.Replace(withVector, `"add"`, `"remove"`, 1)
	return strings.Replace(line, `"offset":4`, offset, 1)
}

// knowsVectors is a protocol that has deletion vectors.
const knowsVectors = `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],` +
	`"writerFeatures":["deletionVectors","appendOnly","invariants"]}}` + "\n"

// Under the protocol that knows them, a file is live with its vector, from commits and from checkpoints, which keep the
// vectors of tombstones, too. Whoever has read a file with another vector than it has now makes its change again; a
// commit removes a file with its vector.
func TestVectorsOfFiles(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	newest := func(l *Log) *Snapshot {
		s := snapshot(l)
		return &s
	}
	submit(t, l, &Change{Parts: on(l, "a", 1), Last: true, Adds: []Add{add("f", Origin{}), add("g", Origin{})}})
	plain := newest(l).File("f")
	at := func(offset string) string {
		line := strings.Replace(withVector, `"path":"foreign"`, `"path":"f"`, 1)
		return strings.Replace(line, `"offset":4`, offset, 1)
	}
	gone := func(line string) string { return strings.Replace(line, `"add"`, `"remove"`, 1) }
	stamped := func(line string) string { // a tombstone that stays
		return strings.Replace(line, `"dataChange":true`, fmt.Sprintf(`"dataChange":true,"deletionTimestamp":%d`,
			int64(1)<<52), 1)
	}
	removePlain := stamped(`{"remove":{"path":"f","dataChange":true}}`)
	mem.Overwrite(l.commitKey(2), []byte(knowsVectors+at(`"offset":4`)+"\n"+removePlain))
	rebuild := func(what string, f *File) {
		t.Helper()
		c := &Change{Parts: on(l, "b", 1), Last: true, ReadVersion: 1, Adds: []Add{add("h", Origin{})}}
		c.Remove(f)
		if err := l.Submit(t.Context(), c); !errors.Is(err, ErrRebuild) {
			t.Errorf("%s: %v", what, err)
		}
	}
	rebuild("read before rows were deleted", plain)
	first := newest(l).File("f")
	if first == nil || first.Vector.ID() != "uab^-aqEH.-t@S}K{vb[*k^@4" || newest(l).Live(plain) ||
		!newest(l).Live(first) || newest(l).Len() != 2 {
		t.Fatalf("%+v", first)
	}
	mem.Overwrite(l.commitKey(3), []byte(stamped(gone(at(`"offset":4`)))+"\n"+at(`"offset":60`)))
	rebuild("read before more rows were deleted", first)
	rebuild("read before any were", plain)
	look := func(what string) *File {
		t.Helper()
		s := newest(open(t, writerOptions(mem)))
		f := s.File("f")
		if f == nil || f.Vector == nil || f.Vector.ID() != "uab^-aqEH.-t@S}K{vb[*k^@60" || f.Vector.Size != 40 ||
			f.Vector.Cardinality != 6 || s.Len() != 2 || s.File("g").Vector != nil {
			t.Fatalf("%s: %+v", what, f)
		}
		return f
	}
	look("commits")
	// The checkpoint over nothing, and one over that, have the same.
	for _, v := range [][2]int64{{2, -1}, {3, 2}} {
		if err := l.WriteCheckpoint(t.Context(), v[0], v[1]); err != nil {
			t.Fatal(err)
		}
	}
	for v := range int64(4) {
		mem.Overwrite(l.commitKey(v), []byte("it is read from the checkpoint"))
	}
	f := look("checkpoint")
	for file := range newest(open(t, writerOptions(mem))).All() {
		if file.ID() != f.ID() && file.Path != "g" {
			t.Errorf("%+v", file)
		}
	}
	var tombs []string
	if err := eachCheckpointView(t.Context(), mem, l.checkpointKey(3), func(leaf) bool { return true },
		func(r *checkpointView) error {
			if r.has(removePath) {
				d, err := r.vector(removeVector)
				tombs = append(tombs, string(r.bytes(removePath))+" "+d.ID())
				return err
			}
			return nil
		}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(tombs)
	if fmt.Sprintf("%q", tombs) != `["f " "f uab^-aqEH.-t@S}K{vb[*k^@4"]` {
		t.Errorf("tombstones %q", tombs)
	}
	running := open(t, writerOptions(mem))
	c := &Change{Parts: on(running, "b", 1), Last: true, ReadVersion: 3, Adds: []Add{add("h", Origin{})}}
	c.Remove(f)
	submit(t, running, c)
	if ok, err := running.Landed(t.Context(), 4, c); !ok || err != nil {
		t.Errorf("landed: %v, %v", ok, err)
	}
	body, err := mem.Get(t.Context(), running.commitKey(4))
	if err != nil || !strings.Contains(string(body), `"offset":60`) {
		t.Errorf("the commit says %s", body)
	}
	if s := newest(open(t, writerOptions(mem))); s.File("f") != nil || len(s.vectors) != 0 {
		t.Error("the file is live")
	}
	// Damage is no vector.
	for _, line := range []string{strings.Replace(withVector, `"u"`, `"x"`, 1),
		strings.Replace(withVector, `"cardinality":6`, `"cardinality":-1`, 1),
		strings.Replace(withVector, "ab^", "../^", 1)} {
		for _, line := range []string{line, gone(line)} {
			if _, err := parseCommit("x", []byte(line)); err == nil {
				t.Errorf("taken: %s", line)
			}
		}
	}
}

// The protocol with vectors asks for what it asked for before, too.
func TestWithVectors(t *testing.T) {
	for _, c := range []struct {
		was    Protocol
		reader []string
		writer []string
	}{
		{Protocol{MinReaderVersion: 1, MinWriterVersion: 2}, []string{"deletionVectors"},
			[]string{"appendOnly", "deletionVectors", "invariants"}},
		{Protocol{MinReaderVersion: 2, MinWriterVersion: 5}, []string{"columnMapping", "deletionVectors"},
			[]string{"appendOnly", "changeDataFeed", "checkConstraints", "columnMapping", "deletionVectors",
				"generatedColumns", "invariants"}},
		{Protocol{MinReaderVersion: 1, MinWriterVersion: 5}, []string{"deletionVectors"},
			[]string{"appendOnly", "changeDataFeed", "checkConstraints", "deletionVectors", "generatedColumns",
				"invariants"}},
		{Protocol{MinReaderVersion: 1, MinWriterVersion: 7, WriterFeatures: []string{"inCommitTimestamp"}},
			[]string{"deletionVectors"}, []string{"deletionVectors", "inCommitTimestamp"}},
		{Protocol{MinReaderVersion: 3, MinWriterVersion: 7, ReaderFeatures: []string{"timestampNtz", "deletionVectors"},
			WriterFeatures: []string{"timestampNtz", "deletionVectors", "appendOnly"}},
			[]string{"deletionVectors", "timestampNtz"}, []string{"appendOnly", "deletionVectors", "timestampNtz"}},
	} {
		got := c.was.WithVectors()
		if got.MinReaderVersion != 3 || got.MinWriterVersion != 7 || !slices.Equal(got.ReaderFeatures, c.reader) ||
			!slices.Equal(got.WriterFeatures, c.writer) {
			t.Errorf("%+v becomes %+v", c.was, *got)
		}
	}
}
