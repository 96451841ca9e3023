package delta

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"deckle/schema/level"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
)

// hiding is what a step of a pass hides by deletion vectors, and the images that stand for it.
type hiding struct {
	files  []hiddenFile
	images map[partition][]sessionRow
}

// hiddenFile is a file of which older images are hidden.
type hiddenFile struct {
	file  *deltalog.File
	in    partition
	rows  *deletionvector.Rows // those that were hidden before among them
	stats string
	rest  []string // keys of the window's rows that stay visible in it
}

// mayHide says whether the older images in a file are to be hidden, and the newer ones written into another file,
// instead of all of its rows. That costs the images, their file's footer and a request for each who reads the file;
// to write the file anew costs the file, twice. Columns of others have their values in the file alone, so the rows of a
// table that has some are rewritten.
func (p *pass) mayHide(f *deltalog.File, v *visible, found *findings) (bool, error) {
	o := p.s.opts
	hidden := v.hidden.Len() + int64(len(found.older))
	if !o.DeletionVectors || f.Size < o.VectorsFrom || len(p.others) > 0 ||
		hidden >= f.NumRecords || float64(hidden) > o.MostHidden*float64(f.NumRecords) {
		return false, nil // how many rows it has may not be known (-1)
	}
	if err := o.step("vectors"); err != nil {
		return false, err
	}
	return p.s.log.GiveVectors(p.ctx)
}

// hide has the older images in a file hidden by the commit of this step, and the newer ones written. Nothing is put
// yet: all files of a step have their vectors in one object.
func (p *pass) hide(f *deltalog.File, key string, v *visible, in partition, found *findings, b *sessionsBuilder) error {
	y := p.s.layout
	images, places := make([]sessionRow, len(found.olderKeys)), make([]int, len(found.olderKeys))
	older := map[string]bool{}
	for i, k := range found.olderKeys {
		images[i], places[i], older[k] = p.images[k], i, true
		y.complete(images[i])
	}
	t := y.holding(b.table, images)
	for _, r := range images {
		if err := p.allow(y.fit(t, slices.Clip(r)), in, nil); err != nil {
			return err
		}
	}
	if p.changes != nil {
		befores, err := p.befores(key, v, found)
		if err != nil {
			return err
		}
		if err := p.note(t, in, befores, images, places, nil, b.change); err != nil {
			return err
		}
	}
	stats, err := p.wideStats(f, key, found)
	if err != nil {
		return err
	}
	h := &p.hiding
	// gofail: var bugVectorForgets struct{}
	// v = &visible{}

	// gofail: var bugVectorTwin struct{}
	// found.older = found.older[1:]
	h.files = append(h.files, hiddenFile{file: f, in: in, rows: v.hidden.With(found.older...), stats: stats,
		rest: slices.DeleteFunc(slices.Clone(found.keys), func(k string) bool { return older[k] })})
	if h.images == nil {
		h.images = map[partition][]sessionRow{}
	}
	h.images[in] = append(h.images[in], images...)
	return nil
}

// befores are the older images in a file that has been read whole, in its order.
func (p *pass) befores(key string, v *visible, found *findings) (rows []sessionRow, err error) {
	newest := p.s.layout.sessions[level.Current]
	err = eachRow(key, found.data, newest.file, newest.later, v.rows(func(row parquet.Row) error {
		if _, ok := slices.BinarySearch(found.older, v.N()-1); ok {
			rows = append(rows, sessionRow(row).clone())
		}
		return nil
	}))
	if err == nil {
		err = v.end(key)
	}
	return rows, err
}

// stageHidden puts the images of the files of which rows are hidden, one file for each partition, and then the vectors,
// and has the change hide the rows.
func (p *pass) stageHidden(b *sessionsBuilder) error {
	h := p.hiding
	if len(h.files) == 0 {
		return nil
	}
	p.hiding = hiding{}
	for _, in := range sorted(h.images) {
		var keys []string
		var origins []deltalog.Origin
		for _, r := range h.images[in] {
			k := r.key()
			t := p.targets[k]
			keys = append(keys, k)
			origins = append(origins, deltalog.Origin{Tagged: true, Shard: t.shard, From: t.firstClosed - 1,
				To: t.firstClosed})
		}
		t := p.s.layout.holding(b.table, h.images[in])
		if err := b.file(t, in, h.images[in], nil, deltalog.UnionOrigins(origins...)...); err != nil {
			return err
		}
		p.rewritten[b.change.Adds[len(b.change.Adds)-1].Path] = keys
	}
	if err := p.s.opts.step("upload vectors"); err != nil {
		return err
	}
	id, err := uuid.NewRandomFromReader(p.s.opts.Rand)
	if err != nil {
		return fmt.Errorf("delta: name of deletion vectors: %w", err)
	}
	object := deletionvector.NewObject(id)
	for _, f := range h.files {
		d, err := object.Add(f.rows)
		if err != nil {
			return fmt.Errorf("delta: %s: %w", f.file.Path, err)
		}
		b.change.Hide(f.file, b.table.values(f.in), f.stats, d)
		p.rewritten[deletionvector.FileID(f.file.Path, d)] = f.rest
	}
	if err := p.s.opts.Store.Put(p.ctx, b.table.name+"/"+object.Key(), object.Data()); err != nil {
		return fmt.Errorf("delta: deletion vectors: %w", err)
	}

	// gofail: var deltaVectorsPut struct{}

	return p.s.opts.step("uploaded vectors")
}

// wideStats are the statistics of a file of which rows are hidden. Bounds are those that its footer has, if Deckle has
// written it; the log has them, too, but no writer keeps them in memory.
func (p *pass) wideStats(f *deltalog.File, key string, found *findings) (string, error) {
	file := found.file
	if file == nil {
		var err error
		if file, err = deltalog.OpenParquet(found.data); err != nil {
			return "", &deltalog.CorruptionError{Key: key, Err: err}
		}
	}
	if n := file.NumRows(); n != f.NumRecords {
		return "", &deltalog.CorruptionError{Key: key, Err: fmt.Errorf("%d rows, the log says %d", n, f.NumRecords)}
	}
	var cols []deltalog.ColumnStats
	if deltalog.OwnName(f.Path) {
		t := p.s.layout.sessions[level.Current]
		for _, c := range t.newStats() {
			if footerStats(file, t, &c) {
				cols = append(cols, c)
			}
		}
	}
	return deltalog.WideStats(f.NumRecords, cols), nil
}

// footerStats folds what a file's footer says of a column into its statistics, and reports whether it says anything.
func footerStats(file *parquet.File, t *table, c *deltalog.ColumnStats) bool {
	leaf, ok := file.Schema().Lookup(c.Name)
	if !ok || t.place(c.Name) < 0 {
		return false
	}
	for _, g := range file.Metadata().RowGroups {
		if leaf.ColumnIndex >= len(g.Columns) {
			return false
		}
		m := &g.Columns[leaf.ColumnIndex].MetaData
		s := &m.Statistics
		if c.Nulls(s.NullCount); s.NullCount == m.NumValues {
			continue
		}
		for _, bound := range [][]byte{s.MinValue, s.MaxValue} {
			switch {
			case m.Type == format.ByteArray && c.Kind == deltalog.KindString:
				c.Text(string(bound))
			case m.Type == format.Int32 && c.Kind == deltalog.KindNumber && len(bound) == 4:
				c.Int(int64(int32(binary.LittleEndian.Uint32(bound))))
			case m.Type == format.Int64 && c.Kind != deltalog.KindString && len(bound) == 8:
				c.Int(int64(binary.LittleEndian.Uint64(bound)))
			default:
				return false
			}
		}
		if m.Type == format.ByteArray && len(s.MaxValue) == 0 {
			return false // no bounds, or nothing but empty texts
		}
	}
	return true
}
