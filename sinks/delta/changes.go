package delta

import (
	"context"
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go"

	"deckle/schema/level"
	"deckle/sinks/delta/deltalog"
)

// changes are the rows that a commit of revisions replaces and adds, for a table with a change data feed. A nil one
// collects nothing. Files of changes have the columns of data files, and in the last one what has happened to the row.
type changes struct {
	w     *writer
	judge *judge
	parts map[partition]*changedRows // those without columns of others
	fresh map[partition]*changedRows // those that are new, where columns of others have defaults
}

// changedRows become one file of changes. Each row has all columns of this binary, and behind them those of others and
// what has happened.
type changedRows struct {
	table *table
	more  *foreign
	rows  []sessionRow
	judge *judge // which fills the rows with defaults, nil: nobody
}

// feed returns what collects the changes of a commit, nil if the table has no feed.
func (w *writer) feed(j *judge) *changes {
	if !w.log.ChangeFeed() {
		return nil
	}
	return &changes{w: w, judge: j, parts: map[partition]*changedRows{}, fresh: map[partition]*changedRows{}}
}

// changeField is the column of what has happened.
var changeField = parquet.SchemaOf(struct {
	C string `parquet:"_change_type,dict"`
}{}).Fields()[0]

// noting are the columns of others in a file, and behind them that of what has happened.
func (f *foreign) noting() *foreign {
	n := &foreign{}
	if f != nil {
		n.fields, n.names = slices.Clone(f.fields), slices.Clone(f.names)
	}
	n.fields, n.names = append(n.fields, changeField), append(n.names, deltalog.ChangeColumn)
	return n
}

// add collects a row with all columns of this binary, and with the values of others if there are any. what says what
// has happened to it.
func (c *changedRows) add(row sessionRow, what string) {
	at := len(c.more.names) - 1
	c.rows = append(c.rows, append(slices.Clip(row), parquet.ValueOf(what).Level(0, 0, at)))
}

// of returns where the changed rows of a file of the table's level, or of a partition, are collected.
func (c *changes) of(in map[partition]*changedRows, t *table, p partition) *changedRows {
	r := in[p]
	if r == nil {
		r = &changedRows{table: t, more: (*foreign)(nil).noting()}
		in[p] = r
	}
	if t.level > r.table.level {
		r.table = t
	}
	return r
}

// replaced notes the rows of a file that are replaced: befores and afters, one of each. more are the columns of others
// in the file, whose values the rows have; such rows are a file of their own.
func (c *changes) replaced(ctx context.Context, t *table, p partition, befores, afters []sessionRow, more *foreign,
	change *deltalog.Change) error {
	if c == nil {
		return nil
	}
	to := c.of(c.parts, t, p)
	if more != nil {
		to = &changedRows{table: t, more: more.noting()}
	}
	for i := range befores {
		to.add(befores[i], deltalog.ChangeBefore)
		to.add(afters[i], deltalog.ChangeAfter)
	}
	if more == nil {
		return nil
	}
	return c.upload(ctx, to, p, change)
}

// inserted notes rows that are new.
func (c *changes) inserted(t *table, p partition, rows []sessionRow) {
	if c == nil {
		return
	}
	in := c.parts
	if c.judge != nil && len(c.judge.rules.Defaults()) > 0 {
		in = c.fresh
	}
	newest, to := c.w.layout.sessions[level.Current], c.of(in, t, p)
	for _, r := range rows {
		to.add(c.w.layout.fit(newest, slices.Clip(r)), deltalog.ChangeInsert)
	}
}

// finish uploads what was collected, if the change replaces rows; one that only adds some needs no files of changes.
func (c *changes) finish(ctx context.Context, change *deltalog.Change) error {
	if c == nil || len(change.Removes) == 0 {
		return nil
	}
	for _, p := range sorted(c.parts) {
		if err := c.upload(ctx, c.parts[p], p, change); err != nil {
			return err
		}
	}
	for _, p := range sorted(c.fresh) {
		c.fresh[p].judge = c.judge
		if err := c.upload(ctx, c.fresh[p], p, change); err != nil {
			return err
		}
	}
	return nil
}

// upload puts a file of changes, and names it in the change.
func (c *changes) upload(ctx context.Context, r *changedRows, p partition, change *deltalog.Change) error {
	if len(r.rows) == 0 {
		return nil
	}
	data, _, err := c.w.layout.encodeSessions(r.table, r.rows, c.w.codec, r.more)
	if err == nil {
		data, err = r.judge.fill(r.more.schema(r.table.file), data, c.w.codec)
	}
	if err != nil {
		return err
	}
	if err := c.w.opts.step("upload changes"); err != nil {
		return err
	}
	attempt, err := c.w.attemptID()
	if err != nil {
		return err
	}
	path := fmt.Sprintf("%s/%s/part-cdc-%s.parquet", deltalog.ChangeFolder, r.table.folder(p), attempt)
	if err := c.w.opts.Store.Put(ctx, r.table.name+"/"+path, data); err != nil {
		return fmt.Errorf("delta: file of changes: %w", err)
	}
	change.Changes = append(change.Changes, deltalog.Cdc{Path: path, Size: int64(len(data)),
		PartitionValues: r.table.values(p)})
	return nil
}
