package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// objects compares the live files with the objects of the table, and then looks once more at the log.
func (c *checker) objects(ctx context.Context) error {
	t := c.t
	there := map[string]store.Info{}
	err := t.EachObject(ctx, func(key string, info store.Info) error {
		there[key] = info
		return nil
	})
	if err != nil {
		return err
	}
	// Commits that were made during the listing: they have made objects live, or have removed files that vacuum took.
	if err := t.Refresh(ctx); err != nil {
		return err
	}
	for v := c.state.Version + 1; v <= t.Newest(); v++ {
		m, err := t.Commit(ctx, v)
		if damage, ok := errors.AsType[*deltalog.CorruptionError](err); ok {
			c.find(CommitDamaged, damage.Key, v, "%v", damage)
			break
		}
		if err != nil {
			return err
		}
		c.apply(c.state, m)
	}
	c.r.Version, c.r.Files = c.state.Version, len(c.state.Files)
	used := map[string]bool{} // keys of live files
	for _, f := range c.state.SortedFiles() {
		c.r.Bytes += f.Size
		key, err := Key(f.Path)
		if err != nil {
			c.find(FilePath, f.Path, c.state.Version, "%v: it was not looked at", err)
			continue
		}
		used[key] = true
		if err := c.vector(ctx, f, there, used); err != nil {
			return err
		}
		info, ok := there[key]
		if !ok {
			if info, ok, err = t.object(ctx, key); err != nil { // it may be younger than the listing
				return err
			}
		}
		switch {
		case !ok:
			c.find(FileMissing, t.root+key, c.state.Version, "a live file is not in the store")
			continue
		case info.Size != f.Size:
			c.find(FileSize, t.root+key, c.state.Version, "a live file has %d bytes, the log says %d", info.Size,
				f.Size)
			continue
		}
		if c.opts.Deep && strings.HasSuffix(key, ".parquet") {
			c.opts.Progress("opening " + t.root + key)
			if err := c.open(ctx, f, key); err != nil {
				return err
			}
		}
	}
	tombstones := map[string]bool{}
	for _, r := range c.state.Removed {
		if key, err := Key(r.Path); err == nil {
			tombstones[key] = true
		}
		if r.Vector != nil {
			if key, err := r.Vector.Key(); err == nil {
				tombstones[key] = true
			}
		}
	}
	for key, info := range there {
		if !used[key] {
			c.r.Loose = append(c.r.Loose, Loose{t.root + key, info.Size, info.Modified.UTC(), tombstones[key]})
		}
	}
	slices.SortFunc(c.r.Loose, func(a, b Loose) int { return strings.Compare(a.Key, b.Key) })
	return nil
}

// vector looks for the object of a file's deletion vector, if it has one, and reads it in a deep check.
func (c *checker) vector(ctx context.Context, f *File, there map[string]store.Info, used map[string]bool) error {
	if f.Vector == nil {
		return nil
	}
	key, err := f.Vector.Key()
	if err != nil {
		c.find(FilePath, f.Path, c.state.Version, "its deletion vector was not looked at: %v", err)
		return nil
	}
	if used[key] = true; key != "" {
		_, ok := there[key]
		if !ok {
			if _, ok, err = c.t.object(ctx, key); err != nil { // it may be younger than the listing
				return err
			}
		}
		if !ok {
			c.find(FileMissing, c.t.root+key, c.state.Version, "the deletion vector of a live file is not in the store")
			return nil
		}
	}
	if !c.opts.Deep {
		return nil
	}
	rows, err := deletionvector.Read(ctx, c.t.st, c.t.Name(), f.Vector)
	if err == nil && f.Records >= 0 {
		err = rows.Fits(f.Records)
	} else if _, damaged := errors.AsType[*deletionvector.DamageError](err); err != nil && !damaged {
		return fmt.Errorf("history: table %s: %w", c.t.Name(), err)
	}
	if err != nil {
		c.find(FileDamaged, c.t.root+f.Path, c.state.Version, "%v", err)
	}
	return nil
}

// object looks for a single object.
func (t *Table) object(ctx context.Context, key string) (found store.Info, ok bool, err error) {
	err = t.st.List(ctx, t.root+key, "", func(info store.Info) error {
		if info.Key == t.root+key {
			found, ok = info, true
		}
		return nil
	})
	if err != nil {
		return found, false, fmt.Errorf("history: table %s: %w", t.Name(), err)
	}
	return found, ok, nil
}

// EachObject calls yield for every object of the table's data, with its key below the table's folder: what readers pass
// over is left out, names that begin with _ or a dot, unless it is a folder of a partition column or of change data.
func (t *Table) EachObject(ctx context.Context, yield func(key string, info store.Info) error) error {
	err := t.st.List(ctx, t.root, "", func(info store.Info) error {
		key := strings.TrimPrefix(info.Key, t.root)
		if hidden(key) {
			return nil
		}
		return yield(key, info)
	})
	if err != nil {
		return fmt.Errorf("history: table %s: %w", t.Name(), err)
	}
	return nil
}

func hidden(key string) bool {
	elements := strings.Split(strings.TrimPrefix(key, "_change_data/"), "/")
	for i, e := range elements {
		partition := i < len(elements)-1 && strings.Contains(e, "=")
		if e == "" || e[0] == '.' || e[0] == '_' && !partition {
			return true
		}
	}
	return false
}

// open compares the statistics of a file with its footer: rows, and nulls of the columns for which the footer counts
// some (a footer that does not count them looks as if there were none).
func (c *checker) open(ctx context.Context, f *File, key string) error {
	if err := store.CheckForeign(c.t.root + key); err != nil { // of another writer; the store lists such keys alone
		c.find(FilePath, c.t.root+key, c.state.Version, "%v: it was not opened", err)
		return nil
	}
	data, err := c.t.Get(ctx, key)
	if err != nil {
		return err
	}
	c.r.Opened++
	rows, nulls, err := footer(data)
	if err != nil {
		c.find(FileDamaged, c.t.root+key, c.state.Version, "%v", err)
		return nil
	}
	if f.Records >= 0 && f.Records != rows {
		c.find(FileCounts, c.t.root+key, c.state.Version, "it has %d rows, its statistics say %d", rows, f.Records)
	}
	var stats struct {
		NullCount map[string]json.Number `json:"nullCount"`
	}
	if json.Unmarshal([]byte(f.Stats), &stats) != nil {
		return nil // of columns within columns, or none
	}
	for _, column := range slices.Sorted(maps.Keys(nulls)) {
		want, ok := stats.NullCount[column]
		if n, err := want.Int64(); ok && err == nil && nulls[column] > 0 && n != nulls[column] {
			c.find(FileCounts, c.t.root+key, c.state.Version, "column %s has %d nulls, its statistics say %d", column,
				nulls[column], n)
		}
	}
	return nil
}

// Get reads an object by its key below the table's folder. Keys of other writers may have any characters.
func (t *Table) Get(ctx context.Context, key string) ([]byte, error) {
	data, err := t.st.Get(ctx, t.root+key)
	if err != nil {
		return nil, fmt.Errorf("history: table %s: %w", t.Name(), err)
	}
	return data, nil
}

// footer counts the rows of a Parquet file, and the nulls of its columns that are no parts of others.
func footer(data []byte) (rows int64, nulls map[string]int64, err error) {
	defer func() {
		if p := recover(); p != nil { // the library trusts some of what is in a file
			err = fmt.Errorf("decoder panicked: %v", p)
		}
	}()
	f, err := deltalog.OpenParquet(data)
	if err != nil {
		return 0, nil, err
	}
	nulls = map[string]int64{}
	for _, g := range f.Metadata().RowGroups {
		rows += g.NumRows
		for _, col := range g.Columns {
			if path := col.MetaData.PathInSchema; len(path) == 1 {
				nulls[path[0]] += col.MetaData.Statistics.NullCount
			}
		}
	}
	return rows, nulls, nil
}
