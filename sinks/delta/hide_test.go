package delta

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
	"deckle/state/statetest"
)

// hidingLake is a lake with a file of rows of epoch 1, of which revisions hide rows.
type hidingLake struct {
	*lake
	rows []schema.SessionRow
	file *File // of rows, as it was written
}

func newHidingLake(t *testing.T, rows int, ranges int64) *hidingLake {
	t.Helper()
	l := &hidingLake{lake: newLake(t)}
	opts := testOptions(l.mem, l.m.rng)
	opts.FileBytes, opts.rangesFrom, opts.DeletionVectors, opts.VectorsFrom = 0, ranges, true, -1
	l.must(l.d.Close())
	l.d = mustOpen(t, opts)
	for n := range rows {
		l.rows = append(l.rows, l.row(1, n))
	}
	l.must(l.sessions(0, 1, l.rows...))
	l.file = l.live()[0]
	return l
}

// image is a newer image of a row that was written.
func (l *hidingLake) image(n int, epoch uint64) schema.SessionRow {
	r := l.revised(l.rows[n], epoch)
	r.Stands = true
	return r
}

// revise writes the plan of an epoch, with new images of rows.
func (l *hidingLake) revise(epoch uint64, places ...int) {
	l.t.Helper()
	var images []schema.SessionRow
	for _, n := range places {
		images = append(images, l.image(n, epoch))
	}
	l.must(l.revisions(epoch-1, epoch, images...))
}

// live are the live files of sessions, the first one that of rows if it is still there, by path otherwise.
func (l *hidingLake) live() []*File {
	l.t.Helper()
	files := openTable(l.t, l.mem, "sessions").Snapshot().Files
	if l.file != nil {
		slices.SortStableFunc(files, func(a, b *File) int {
			if (a.Path == l.file.Path) == (b.Path == l.file.Path) {
				return 0
			} else if a.Path == l.file.Path {
				return -1
			}
			return 1
		})
	}
	return files
}

// vector is the vector of the file of rows, nil if it has none, and whether the file is live.
func (l *hidingLake) vector() (d *deletionvector.Descriptor, live bool) {
	l.t.Helper()
	if f := l.live()[0]; f.Path == l.file.Path {
		return f.Vector, true
	}
	return nil, false
}

// want wants all rows to be there once, those that were revised as of their epochs.
func (l *hidingLake) want(what string, revised map[int]uint64) {
	l.t.Helper()
	out := map[string]uint64{}
	for n, r := range l.rows {
		out[r.SessionID] = max(r.FirstClosed, revised[n])
	}
	visible := 0
	tab := openTable(l.t, l.mem, "sessions")
	l.must(tab.ReadSessions(l.t.Context(), tab.Snapshot().Files, func(*schema.SessionRow) error {
		visible++
		return nil
	}))
	if got := l.epochs(); got != fmt.Sprint(out) || visible != len(l.rows) ||
		tab.Snapshot().Records != int64(len(l.rows)) {
		l.t.Errorf("%s: %d rows, %s, want %v", what, visible, got, out)
	}
	checkLog(l.t, l.mem, "sessions")
}

// action is what the tests read of a commit.
type action struct {
	Txn      *deltalog.Txn
	Add      *deltalog.Add
	Remove   *deltalog.Remove
	Protocol *deltalog.Protocol
	MetaData *deltalog.Metadata
}

// actions are those of a version of sessions.
func (l *lake) actions(version int64) (adds []deltalog.Add, removes []deltalog.Remove, rest []action) {
	l.t.Helper()
	data, err := l.mem.Get(l.t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", version))
	l.must(err)
	for line := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n") {
		var a action
		l.must(json.Unmarshal([]byte(line), &a))
		switch {
		case a.Add != nil:
			adds = append(adds, *a.Add)
		case a.Remove != nil:
			removes = append(removes, *a.Remove)
		case a != action{}:
			rest = append(rest, a)
		}
	}
	return adds, removes, rest
}

// statsOf are statistics by what they are of.
func statsOf(t *testing.T, text string) map[string]string {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for what, v := range all {
		columns, ok := v.(map[string]any)
		if !ok {
			out[what] = fmt.Sprint(v)
		}
		for column, bound := range columns {
			out[what+" of "+column] = fmt.Sprint(bound)
		}
	}
	return out
}

// The first revision that hides rows gives the table the feature by a commit of its own. A commit that hides rows
// removes the file as it was and adds it with a vector that hides what was hidden before, too, and with the statistics
// and tags that it had; the images stand in a file of their own.
func TestHide(t *testing.T) {
	for _, ranges := range []int64{-1, 1e9} {
		l := newHidingLake(t, 40, ranges)
		written, _, _ := l.actions(1)
		l.revise(2, 3)
		l.want("revised", map[int]uint64{3: 2})
		adds, removes, rest := l.actions(2)
		if len(adds)+len(removes) > 0 || len(rest) != 2 {
			t.Fatalf("version 2: %d adds, %d removes, %+v", len(adds), len(removes), rest)
		}
		for _, a := range rest {
			if p := a.Protocol; p != nil && fmt.Sprint(*p) != "{3 7 [deletionVectors] [appendOnly deletionVectors "+
				"invariants]}" {
				t.Errorf("protocol %+v", *p)
			}
			if m := a.MetaData; m != nil && m.Configuration["delta.enableDeletionVectors"] != "true" {
				t.Errorf("metaData %+v", *m)
			}
		}
		former := (*deletionvector.Descriptor)(nil)
		hides := func(version int64, hidden ...int) {
			t.Helper()
			adds, removes, rest := l.actions(version)
			i := slices.IndexFunc(adds, func(a deltalog.Add) bool { return a.Path == l.file.Path })
			at := slices.IndexFunc(removes, func(r deltalog.Remove) bool { return r.Path == l.file.Path })
			if i < 0 || at < 0 || len(rest) != 1 || rest[0].Txn == nil {
				t.Fatalf("version %d: %+v, %+v, %+v", version, adds, removes, rest)
			}
			was, a := written[0], adds[i]
			if removes[at].Vector.ID() != former.ID() || !removes[at].DataChange || !a.DataChange ||
				a.Size != was.Size || a.ModificationTime != was.ModificationTime || !maps.Equal(a.Tags, was.Tags) ||
				!maps.Equal(a.PartitionValues, was.PartitionValues) {
				t.Errorf("version %d: %+v, %+v; it was %+v", version, removes[at], a, was)
			}
			if got, want := statsOf(t, a.Stats), statsOf(t, was.Stats); got["tightBounds"] != "false" ||
				got["numRecords"] != "40" || len(got) < 20 {
				t.Errorf("statistics %s", a.Stats)
			} else {
				for key, text := range got {
					if key != "tightBounds" && text != want[key] {
						t.Errorf("%s is %s, was %s", key, text, want[key])
					}
				}
			}
			rows, err := deletionvector.Read(t.Context(), l.mem, "sessions", a.Vector)
			l.must(err)
			if rows.Len() != int64(len(hidden)) || a.Vector.Cardinality != rows.Len() || a.Vector.StorageType != "u" ||
				a.Vector.ID() == former.ID() {
				t.Errorf("version %d hides %d rows, %+v", version, rows.Len(), *a.Vector)
			}
			former = a.Vector
			for j, a := range adds {
				if j != i && (a.Vector != nil || a.Tags[deltalog.TagFrom] != "0" || a.Tags[deltalog.TagTo] != "1" ||
					strings.Contains(a.Stats, "tightBounds")) {
					t.Errorf("version %d: %+v", version, a)
				}
			}
		}
		hides(3, 3)
		l.revise(3, 3, 7, 20) // of 3 the image stands in a file of its own, which is written anew
		l.want("once more", map[int]uint64{3: 3, 7: 3, 20: 3})
		hides(4, 3, 7, 20)
		if n := len(l.mem.Keys("sessions/deletion_vector_")); n != 2 || len(l.live()) != 3 {
			t.Errorf("%d objects of vectors, %d files", n, len(l.live()))
		}
		// The vectors of two files of one commit stand in one object.
		for n := range 30 {
			l.rows = append(l.rows, l.row(4, 100+n))
		}
		l.must(l.sessions(3, 4, l.rows[40:]...))
		l.revise(5, 9, 50)
		l.want("two files", map[int]uint64{3: 3, 7: 3, 20: 3, 9: 5, 50: 5})
		objects := map[string]bool{}
		adds, _, _ = l.actions(6)
		for _, a := range adds {
			if a.Vector != nil {
				objects[a.Vector.Path] = true
			}
		}
		if len(adds) != 3 || len(objects) != 1 {
			t.Errorf("%d adds, vectors in %d objects", len(adds), len(objects))
		}
	}
}

// Rows are hidden where that writes less: of a file from a size on, and not more than a tenth of its rows. Of a file
// of which every row is revised, the rows are written and the file goes.
func TestHideOrRewrite(t *testing.T) {
	is := func(l *hidingLake, what string, want int64) { // rows that are hidden; -1: the file is gone
		t.Helper()
		n := int64(-1)
		if d, live := l.vector(); live {
			n = 0
			if d != nil {
				n = d.Cardinality
			}
		}
		if n != want {
			t.Errorf("%s: %d rows are hidden, want %d", what, n, want)
		}
	}
	l := newHidingLake(t, 40, -1)
	opts := l.d.revisions.opts
	opts.VectorsFrom = l.file.Size
	l.revise(2, 1, 2, 3, 4)
	is(l, "a tenth of a file that is large enough", 4)
	l.want("hidden", map[int]uint64{1: 2, 2: 2, 3: 2, 4: 2})
	l.revise(3, 5)
	is(l, "more than a tenth, with what was hidden before", -1)
	l.want("rewritten", map[int]uint64{1: 2, 2: 2, 3: 2, 4: 2, 5: 3})

	l = newHidingLake(t, 40, -1)
	l.revise(2, 1, 2, 3, 4, 5)
	is(l, "more than a tenth at once", -1)
	if openTable(t, l.mem, "sessions").Snapshot().Version != 2 {
		t.Error("the table was given vectors that it has no need of")
	}

	l = newHidingLake(t, 40, -1)
	l.d.revisions.opts.VectorsFrom = l.file.Size + 1
	l.revise(2, 1)
	is(l, "a small file", -1)

	l = newHidingLake(t, 6, -1)
	l.d.revisions.opts.MostHidden = 1
	l.revise(2, 0, 1, 2)
	is(l, "half of the rows, if that is allowed", 3)
	l.revise(3, 3, 4, 5)
	is(l, "the rest of the rows", -1)
	l.want("all rows", map[int]uint64{0: 2, 1: 2, 2: 2, 3: 3, 4: 3, 5: 3})

	l = newHidingLake(t, 40, -1)
	l.d.revisions.opts.DeletionVectors = false
	l.revise(2, 1)
	is(l, "the option is off", -1)
	if p := openTable(t, l.mem, "sessions").log; p == nil || len(l.mem.Keys("sessions/deletion_vector_")) > 0 {
		t.Error("the option is off, and there are vectors")
	}
}

// Whoever switches vectors off, or drops the feature, is obeyed, also while a revision is on its way to the log; and
// columns of others have their values in the file alone.
func TestHideObeys(t *testing.T) {
	off := func(l *hidingLake) {
		l.alter("sessions", 0, func(m *deltalog.Metadata) { m.Configuration["delta.enableDeletionVectors"] = "false" })
	}
	drop := func(l *hidingLake) {
		l.commit("sessions", `{"metaData":`+alteredMetadata(t, l.mem, "sessions", func(m *deltalog.Metadata) {
			delete(m.Configuration, "delta.enableDeletionVectors")
		})+`}`, `{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`)
	}
	others := func(l *hidingLake) { l.addColumns("sessions", notedFields) }
	for what, change := range map[string]func(*hidingLake){"off": off, "dropped": drop, "columns": others} {
		for _, late := range []bool{false, true} {
			l := newHidingLake(t, 40, -1)
			if what == "columns" && late {
				continue // a file with a vector keeps its columns: nothing is wrong with that
			}
			log, _ := l.d.Committer("sessions")
			l.must(d1(log.GiveVectors(t.Context())))
			if !late {
				change(l)
			}
			once := late
			l.d.revisions.opts.step = func(name string) error {
				if name == "submit" && once {
					once = false
					change(l)
				}
				return nil
			}
			l.must(d1(l.d.Sessions().Position(t.Context(), 0)))
			l.revise(2, 1)
			if d, live := l.vector(); live || once {
				t.Errorf("%s, late: %t: the file has %+v", what, late, d)
			}
			l.want(what, map[int]uint64{1: 2})
		}
	}
}

// newJoinedLake is a lake with a file of rows of two shards, one after the other.
func newJoinedLake(t *testing.T) *hidingLake {
	t.Helper()
	l := newHidingLake(t, 40, -1)
	var all []sessionRow
	of := declared.sessions[level.First]
	for n := range l.rows {
		l.m.image(&l.rows[n], uint32(n%2), 1)
		r, err := declared.sessionRow(of, &l.rows[n], nil)
		l.must(err)
		all = append(all, r)
	}
	data, _, err := declared.encodeSessions(of, all, &parquet.Snappy, nil)
	l.must(err)
	l.mem.Overwrite("sessions/"+l.file.Path, data)
	l.commit("sessions", fmt.Sprintf(`{"remove":{"path":%q,"dataChange":true}}`, l.file.Path),
		fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{"session_date":"2022-01-08"},"size":%d,"modificationTime":1,`+
			`"dataChange":true,"stats":"{\"numRecords\":40}","tags":{"deckle.parts":"0:0-1 1:0-1"}}}`, l.file.Path,
			len(data)))
	l.must(d1(l.d.Sessions().Position(t.Context(), 0)))
	return l
}

// plan is one of revisions of a shard from its last one on, with a new image of a row.
func (l *hidingLake) plan(shard uint32, a, b uint64, n int) *state.Plan {
	r := l.rows[n]
	l.m.image(&r, shard, b)
	r.Stands = true
	p := statetest.NewPlan(state.Config{Shard: shard}, state.SinkRevisions, a, b, nil,
		statetest.Content{Rows: []schema.SessionRow{r}})
	p.Level = level.First
	return p
}

// Two writers hide rows of one file at once: the later one is made again, and hides what the other has hidden, too.
func TestHideBesideAnother(t *testing.T) {
	l := newJoinedLake(t)
	other := testOptions(l.mem, l.m.rng)
	other.FileBytes, other.DeletionVectors, other.VectorsFrom = 0, true, -1
	d := mustOpen(t, other)
	defer d.Close()
	once := true
	l.d.revisions.opts.step = func(name string) error {
		if name == "submit" && once {
			once = false
			return d.Revisions().Write(t.Context(), l.plan(1, 0, 2, 7))
		}
		return nil
	}
	l.must(l.d.Revisions().Write(t.Context(), l.plan(0, 1, 2, 4)))
	if v, _ := l.vector(); v == nil || v.Cardinality != 2 {
		t.Errorf("the file has %+v", v)
	}
	l.want("both", map[int]uint64{4: 2, 7: 2})
}

// A pass of several shards hides the rows of all, and the file of images has the tags of all: whoever looks for one of
// them afterwards finds it.
func TestHideTogether(t *testing.T) {
	l := newJoinedLake(t)
	l.must(l.d.revisions.untilJudged(t.Context(), func(j *judge) error {
		return l.d.revisions.write(t.Context(), j, l.plan(0, 1, 2, 4), l.plan(1, 0, 2, 7))
	}))
	l.want("both", map[int]uint64{4: 2, 7: 2})
	if files := l.live(); len(files) != 2 || files[0].Vector == nil || files[0].Vector.Cardinality != 2 ||
		fmt.Sprint(files[1].Parts) != "[{true 0 0 1} {true 1 0 1}]" {
		t.Errorf("%d files, the last %+v", len(files), files[len(files)-1])
	}
	for shard, n := range []int{4, 7} {
		l.must(l.d.Revisions().Write(t.Context(), l.plan(uint32(shard), 2, 3, n)))
	}
	l.want("once more", map[int]uint64{4: 3, 7: 3})
}

// The feed has the images before and after of rows that are hidden.
func TestHideWithFeed(t *testing.T) {
	for _, ranges := range []int64{-1, 1e9} {
		l := newHidingLake(t, 40, ranges)
		feedOn(t, l.mem, "sessions", true)
		l.must(d1(l.d.Sessions().Position(t.Context(), 0)))
		l.revise(2, 3, 8)
		l.revise(3, 8, 9)
		if v, _ := l.vector(); v == nil || v.Cardinality != 3 {
			t.Errorf("the file has %+v", v)
		}
		if updates, inserts := checkFeed(t, l.mem); updates != 4 || inserts != 40 {
			t.Errorf("%d updates and %d inserts", updates, inserts)
		}
	}
}

// A file of which more than a fifth is hidden is compacted by itself, however large it is; one of which less is hidden
// is left alone.
func TestCompactionOfMuchHidden(t *testing.T) {
	w := newLakeWorld(t, 0)
	defer func() { w.must(w.d.Close()) }()
	w.d.revisions.opts.FileBytes = 64 << 20
	var rows []schema.SessionRow
	for n := range 100 {
		r := w.m.sessionRow(0, 1, n)
		r.SessionDate = 19_000
		rows = append(rows, r)
		w.m.closed[r.Key()] = r
	}
	write := func(s sinks.Sink, sink state.SinkID, a, b uint64, rows []schema.SessionRow) {
		p := statetest.NewPlan(state.Config{}, sink, a, b, nil, statetest.Content{Rows: rows})
		p.Level = level.First
		w.must(s.Write(t.Context(), p))
	}
	write(w.d.Sessions(), state.SinkSessions, 0, 1, rows)
	revise := func(epoch uint64, from, to int) {
		var images []schema.SessionRow
		for _, r := range rows[from:to] {
			w.m.image(&r, 0, epoch)
			w.m.closed[r.Key()], r.Stands = r, true
			images = append(images, r)
		}
		write(w.d.Revisions(), state.SinkRevisions, epoch-1, epoch, images)
	}
	path := openTable(t, w.mem, "sessions").Snapshot().Files[0].Path
	hidden := func() int64 {
		for _, f := range openTable(t, w.mem, "sessions").Snapshot().Files {
			if f.Path == path {
				return f.Vector.Cardinality
			}
		}
		return -1
	}
	round := func() {
		w.clock.Pass(time.Hour)
		c, err := w.compactor("sessions", w.mem)
		w.must(err)
		w.must(c.Round(t.Context(), nil))
		w.must(c.Close())
		checkSessions(t, w.mem, w.m)
		checkLog(t, w.mem, "sessions")
	}
	revise(2, 0, 20)
	if n := hidden(); n != 20 {
		t.Fatalf("%d rows are hidden", n)
	}
	round()
	if n := hidden(); n != 20 {
		t.Errorf("%d rows are hidden after a round", n)
	}
	revise(3, 20, 21)
	if n := hidden(); n != 21 {
		t.Fatalf("%d rows are hidden", n)
	}
	round()
	if n := hidden(); n != -1 {
		t.Errorf("%d rows are still hidden", n)
	}
}
