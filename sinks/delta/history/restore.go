package history

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// Rows says what becomes of the rows that Deckle has written after the version to which a table is restored.
type Rows string

// The choices.
const (
	RowsAgain Rows = "again" // they stand in the table afterwards, too
	RowsGone  Rows = "gone"  // they are accepted as gone
)

// RefusedError says why a restore is not done, and what to do instead.
type RefusedError struct{ Table, Why string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("table %s is not restored: %s", e.Table, e.Why)
}

// Restorer works out what a restore changes. It holds the live files of both versions, with the statistics of those
// that may come back. It is for one goroutine.
//
// What is to be in the table afterwards (want): with RowsGone the files of the former version. With RowsAgain these,
// and on them every commit since that Deckle's sinks have made, so that what others did since is undone, and nothing
// of Deckle's is. In detail, of the commits since:
//
//   - Inserts of Deckle are taken over.
//   - Revisions of Deckle are taken over if want has the files that they replace, and if the rows that they insert
//     cannot be in a file of want that was not in the table then. Otherwise the restore is refused: which rows are
//     whose cannot be told by files.
//   - A commit that changes no data, whoever made it, is taken over if want has the files that it replaces. Otherwise
//     it is passed over as a whole: its rows are in files that want has, or that it is not to have.
//   - Everything else is passed over: changes of data by others, and RESTOREs, also those of Deckle.
type Restorer struct {
	t    *Table
	to   int64
	rows Rows
	then *State
	now  *State
	want map[string]*File // by Add.ID
	// lost are the files of want that are not live now, extra those that are live and not in want.
	lost, extra map[string]*File
	passed      []int64 // versions passed over
	metadata    []*deltalog.Metadata
	there       map[string]bool // files of lost whose objects have been seen, by Add.ID
}

// NewRestorer reads the version to which the table is to be restored, and for RowsGone the newest one.
func (t *Table) NewRestorer(ctx context.Context, to int64, rows Rows) (*Restorer, error) {
	if rows != RowsAgain && rows != RowsGone {
		return nil, fmt.Errorf("history: rows %q: want %s or %s", rows, RowsAgain, RowsGone)
	}
	then, err := t.At(ctx, to, Options{Stats: true})
	if err != nil {
		return nil, err
	}
	r := &Restorer{t: t, to: to, rows: rows, then: then, want: then.Files, lost: map[string]*File{},
		extra: map[string]*File{}, metadata: []*deltalog.Metadata{then.Metadata}, there: map[string]bool{}}
	if rows == RowsAgain {
		now := *then
		now.Files, now.Txns, now.Domains = maps.Clone(then.Files), maps.Clone(then.Txns), maps.Clone(then.Domains)
		now.Removed, now.partitions = maps.Clone(then.Removed), maps.Clone(then.partitions)
		r.now = &now
		return r, nil
	}
	if r.now, err = t.At(ctx, t.Newest(), Options{}); err != nil {
		return nil, err
	}
	for id := range r.want {
		r.place(id)
	}
	for id := range r.now.Files {
		r.place(id)
	}
	return r, nil
}

// place puts a file where it belongs after it has changed.
func (r *Restorer) place(id string) {
	w, n := r.want[id], r.now.Files[id]
	delete(r.lost, id)
	delete(r.extra, id)
	switch {
	case w != nil && n == nil:
		r.lost[id] = w
	case w == nil && n != nil:
		r.extra[id] = n
	}
}

// Restoration reads on to a version, and returns what a commit on it changes. Its error is a *RefusedError if the
// restore is not to be done.
func (r *Restorer) Restoration(ctx context.Context, version int64) (*deltalog.Restoration, error) {
	for r.now.Version < version {
		c, err := r.t.Commit(ctx, r.now.Version+1)
		if err != nil {
			return nil, err
		}
		if err := r.step(c); err != nil {
			return nil, err
		}
	}
	if err := r.t.checkReadable(r.now); err != nil {
		return nil, err
	}
	if err := r.judge(); err != nil {
		return nil, err
	}
	if err := r.look(ctx); err != nil {
		return nil, err
	}
	out := &deltalog.Restoration{To: r.to, Rows: string(r.rows)}
	for _, id := range slices.Sorted(maps.Keys(r.lost)) {
		f := r.lost[id]
		out.Adds = append(out.Adds, deltalog.Add{Path: f.Path, PartitionValues: f.Values, Size: f.Size,
			ModificationTime: f.Modified, DataChange: true, Stats: f.Stats, Tags: f.Tags, Vector: f.Vector})
	}
	for _, id := range slices.Sorted(maps.Keys(r.extra)) {
		out.Removes = append(out.Removes, r.extra[id].Path)
	}
	return out, nil
}

// step folds in the commit of the next version.
func (r *Restorer) step(c *Commit) error {
	if c.Metadata != nil {
		r.metadata = append(r.metadata, c.Metadata)
	}
	var changed []string
	if r.rows == RowsAgain && len(c.Adds)+len(c.Removes) > 0 {
		take, err := r.takes(c)
		if err != nil {
			return err
		}
		if take {
			wanted := State{Files: r.want, Removed: map[string]Remove{}, partitions: r.now.partitions,
				opts: Options{Stats: true}}
			for i := range c.Removes {
				wanted.remove(&c.Removes[i])
			}
			for i := range c.Adds {
				wanted.add(&c.Adds[i])
			}
		} else {
			r.passed = append(r.passed, c.Version)
		}
	}
	r.now.Apply(c)
	for i := range c.Removes {
		changed = append(changed, c.Removes[i].ID())
	}
	for i := range c.Adds {
		changed = append(changed, c.Adds[i].ID())
	}
	for _, id := range changed {
		r.place(id)
	}
	return nil
}

// takes reports whether a commit is taken over into want.
func (r *Restorer) takes(c *Commit) (bool, error) {
	whole := !slices.ContainsFunc(c.Removes, func(m Remove) bool { return r.want[m.ID()] == nil })
	if rearranges(c) {
		return whole, nil
	}
	if c.Info == nil || c.Info.Engine != deltalog.EngineInfo {
		return false, nil
	}
	switch c.Info.Operation {
	case "WRITE":
	case "MERGE":
		if !whole {
			return false, r.refuse("version %d has revised rows in files that are not those of version %d and of what "+
				"Deckle has made of them, but of the versions that are undone (%s): which rows are to stand cannot be "+
				"told. Restore to a version from %d on, or with --rows=gone", c.Version, r.to, r.passedText(),
				c.Version)
		}
		if f := r.meets(c); f != nil {
			return false, r.refuse("version %d has inserted rows that may be in %s, too, which was not in the table "+
				"then, because of the versions that are undone (%s): rows could stand twice. Restore to a version "+
				"from %d on, or with --rows=gone", c.Version, f.Path, r.passedText(), c.Version)
		}
	default:
		return false, nil
	}
	if !whole {
		return false, r.refuse("version %d has removed files that version %d and what followed from it has not",
			c.Version, r.to)
	}
	return true, nil
}

// rearranges reports whether a commit says that it changes no data.
func rearranges(c *Commit) bool {
	return !slices.ContainsFunc(c.Adds, func(a Add) bool { return a.DataChange }) &&
		!slices.ContainsFunc(c.Removes, func(m Remove) bool { return m.DataChange })
}

// meets returns a file of want that was not in the table when the commit was made, and that may hold a row which the
// commit inserts; nil if there is none.
func (r *Restorer) meets(c *Commit) *File {
	for _, id := range slices.Sorted(maps.Keys(r.lost)) {
		f := r.lost[id]
		for i := range c.Adds {
			if partitionText(c.Adds[i].PartitionValues) == f.Partition && overlap(f.Tags, c.Adds[i].Tags) {
				return f
			}
		}
	}
	return nil
}

// overlap reports whether files with these tags may hold the same row.
func overlap(a, b map[string]string) bool {
	of, with := deltalog.OriginsOf(a), deltalog.OriginsOf(b)
	if of == nil || with == nil {
		return true
	}
	return slices.ContainsFunc(of, func(x deltalog.Origin) bool {
		return slices.ContainsFunc(with, func(y deltalog.Origin) bool {
			return x.Shard == y.Shard && x.From < y.To && y.From < x.To
		})
	})
}

func (r *Restorer) refuse(format string, args ...any) error {
	return &RefusedError{r.t.Name(), fmt.Sprintf(format, args...)}
}

// passedText names some of the versions that are passed over.
func (r *Restorer) passedText() string {
	var names []string
	for _, v := range r.passed[:min(len(r.passed), 5)] {
		names = append(names, strconv.FormatInt(v, 10))
	}
	if len(r.passed) > 5 {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}

const mappingMode = "delta.columnMapping.mode"

// judge refuses what the table as it is now does not take, or what would not be exact.
func (r *Restorer) judge() error {
	cluster := r.now.Metadata.Configuration[deltalog.ConfigClusterID] + "/"
	for _, id := range slices.Sorted(maps.Keys(r.then.Txns)) {
		if was, is := r.then.Txns[id].Version, r.now.Txns[id].Version; is < was && strings.HasPrefix(id, cluster) {
			return r.refuse("its txn %s is at %d and was at %d: somebody has set it back, and rows would be written "+
				"twice", id, is, was)
		}
	}
	if len(r.lost) == 0 {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(r.lost)) {
		if f := r.lost[id]; f.Vector != nil && !r.now.Protocol.KnowsVectors() {
			return r.refuse("%s had a deletion vector, and the table's protocol does not know them any more. Give it "+
				"the feature first (Spark: set the property delta.enableDeletionVectors)", f.Path)
		}
	}
	// The columns and rules of now stay: files of then must fit.
	is := Columns(r.now.Metadata)
	for _, m := range r.metadata {
		if mode := m.Configuration[mappingMode]; mode != "" && mode != "none" {
			return r.refuse("its columns had other names in files then (%s = %s)", mappingMode, mode)
		}
		if !slices.Equal(m.PartitionColumns, r.now.Metadata.PartitionColumns) {
			return r.refuse("it was partitioned by %q then, and is by %q", m.PartitionColumns,
				r.now.Metadata.PartitionColumns)
		}
		was := Columns(m)
		for _, name := range slices.Sorted(maps.Keys(was)) {
			typ, there := is[name]
			switch {
			case !there:
				return r.refuse("it had a column %s then, which it has not now: its values would be hidden. Add the "+
					"column (%s) first", name, was[name])
			case typ != was[name] && typ != was[name]+" not null" && typ+" not null" != was[name]:
				return r.refuse("its column %s was %s then, and is %s", name, was[name], typ)
			case strings.HasSuffix(typ, " not null") && typ != was[name]:
				return r.refuse("its column %s has become NOT NULL since: rows of then were not judged by that. Drop "+
					"the constraint first", name)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(r.now.Metadata.Configuration)) {
			text := r.now.Metadata.Configuration[key]
			name, ok := strings.CutPrefix(key, deltalog.ConfigConstraint)
			if ok && m.Configuration[key] != text {
				return r.refuse("the constraint %s has been added since: rows of then were not judged by it. Drop it "+
					"first, and add it again, which judges them", name)
			}
		}
	}
	return nil
}

// look refuses if the object of a file that is to come back, or of its deletion vector, is gone.
func (r *Restorer) look(ctx context.Context) error {
	var unseen []*File
	for id, f := range r.lost {
		if !r.there[id] {
			unseen = append(unseen, f)
		}
	}
	return r.seen(ctx, unseen)
}

// Stand looks once more whether the objects of the files that have come back are there: somebody may have removed them
// until the commit named them. Its error is a *RefusedError.
func (r *Restorer) Stand(ctx context.Context, adds []deltalog.Add) error {
	files := make([]*File, len(adds))
	for i := range adds {
		files[i] = &File{Path: adds[i].Path, Size: adds[i].Size, Vector: adds[i].Vector}
	}
	return r.seen(ctx, files)
}

// fewObjects is of how many files each is looked up by itself.
const fewObjects = 100

func (r *Restorer) seen(ctx context.Context, files []*File) error {
	size := make(map[string]int64, len(files)) // by key
	prefixes := []string{r.t.root}
	if len(files) <= fewObjects {
		prefixes = nil
	}
	for _, f := range files {
		name, err := deltalog.Key(f.Path)
		if err != nil {
			return r.refuse("%s is not in its folder: %v", f.Path, err)
		}
		names := []string{name}
		if f.Vector != nil {
			vector, err := f.Vector.Key()
			if err != nil {
				return r.refuse("the deletion vector of %s cannot be looked up: %v", f.Path, err)
			}
			if vector != "" {
				names = append(names, vector)
			}
		}
		for _, name := range names {
			size[r.t.root+name] = -1
			if len(files) <= fewObjects {
				prefixes = append(prefixes, r.t.root+name)
			}
		}
	}
	for _, p := range prefixes {
		err := r.t.st.List(ctx, p, "", func(info store.Info) error {
			if _, ok := size[info.Key]; ok {
				size[info.Key] = info.Size
			}
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("history: table %s: %w", r.t.Name(), err)
		}
	}
	for _, f := range files {
		name, _ := deltalog.Key(f.Path)
		switch n := size[r.t.root+name]; {
		case n < 0:
			return r.refuse("%s, which is needed, is gone: a vacuum has removed it", f.Path)
		case n != f.Size:
			return r.refuse("%s, which is needed, has %d bytes, the log says %d", f.Path, n, f.Size)
		}
		if f.Vector != nil {
			if vector, _ := f.Vector.Key(); vector != "" && size[r.t.root+vector] < 0 {
				return r.refuse("%s, the deletion vector of %s, is gone: a vacuum has removed it", vector, f.Path)
			}
		}
		r.there[f.ID()] = true
	}
	return nil
}

// Summary is what a restore changes, for people.
type Summary struct {
	Version      int64 `json:"version"` // on which it was worked out
	To           int64 `json:"to"`
	Files        int   `json:"files_restored"`
	FilesRemoved int   `json:"files_removed"`
	// Rows are those of the files, by their statistics; -1 if one has none.
	Rows        int64   `json:"rows_restored"`
	RowsRemoved int64   `json:"rows_removed"`
	Passed      []int64 `json:"versions_undone,omitempty"` // with RowsAgain: versions of others, and RESTOREs
}

// Summary says what the last Restoration changes.
func (r *Restorer) Summary() *Summary {
	return &Summary{Version: r.now.Version, To: r.to, Files: len(r.lost), FilesRemoved: len(r.extra),
		Rows:        sumRows(slices.Collect(maps.Values(r.lost))),
		RowsRemoved: sumRows(slices.Collect(maps.Values(r.extra))), Passed: slices.Clone(r.passed)}
}

// Changed says what one version has changed.
func (t *Table) Changed(ctx context.Context, version int64) (*Summary, error) {
	before, err := t.At(ctx, version-1, Options{})
	if err != nil {
		return nil, err
	}
	c, err := t.Commit(ctx, version)
	if err != nil {
		return nil, err
	}
	var restored, removed []*File
	for i := range c.Removes {
		if f := before.Files[c.Removes[i].ID()]; f != nil {
			removed = append(removed, f)
		}
	}
	for i := range c.Adds {
		restored = append(restored, &File{Path: c.Adds[i].Path, Records: records(c.Adds[i].Stats)})
	}
	return &Summary{Version: version, To: -1, Files: len(restored), FilesRemoved: len(removed),
		Rows: sumRows(restored), RowsRemoved: sumRows(removed)}, nil
}
