package delta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks/delta/constraint"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// Revisions is the sink that replaces the rows of sessions that changed after they were closed. It implements
// sinks.Sink.
type Revisions struct {
	sharedWriter
	*gather
	yielding yielding
}

// Close implements sinks.Sink.
func (s *Revisions) Close() error {
	s.close()
	return s.sharedWriter.Close()
}

// target is one row of the plan: where in the table it must be, and the epoch of its image.
type target struct {
	key         string
	session     string // its id
	shard       uint32
	partition   partition
	in          string // the partition as the log names it
	firstClosed uint64
	epoch       uint64
	size        int64
	stands      bool // it was written, see schema.SessionRow.Stands
}

// Write implements sinks.Sink. The plans of all shards that the node leads are brought into the table by one pass, if
// they are of the same turn (together). Else, or if that does not succeed, the plan has a pass of its own.
//
// The rows are taken in windows of about Options.FileBytes, ordered by where they lie in the table, so that a file is
// hardly ever rewritten for two windows. The last commit of the last window carries the txn. Every commit before it may
// be repeated, as a row is replaced only by a newer image.
func (s *Revisions) Write(ctx context.Context, plan *state.Plan) error {
	err := s.come(ctx, plan.Config.Shard).join(ctx, plan)
	if errors.Is(err, errAlone) {
		err = s.untilJudged(ctx, func(j *judge) error { return s.write(ctx, j, plan) })
	}
	if err != nil {
		return fmt.Errorf("delta: revisions of shard %d, plan (%d, %d]: %w", plan.Config.Shard, plan.A, plan.B, err)
	}
	return nil
}

// write brings the rows of plans of the same level into the table.
func (s *Revisions) write(ctx context.Context, judge *judge, plans ...*state.Plan) error {
	if _, done, err := s.begin(plans); done || err != nil {
		return err
	}
	var targets []target
	names := map[partition]target{} // what targets in a partition have in common
	for _, plan := range plans {
		// gofail: var bugPassOfOne struct{}
		// plan = plans[0]
		err := plan.Sessions(func(row *schema.SessionRow) error {
			// A row that the table cannot hold is refused before anything is written.
			r, err := s.layout.sessionRow(s.table(plan), row, nil)
			if err != nil {
				return err
			}
			in := s.table(plan).of(row)
			if err := judge.row(parquet.Row(r), in, nil); err != nil {
				return refused(row, err)
			}
			t, ok := names[in]
			if !ok {
				in.brand = strings.Clone(in.brand)
				t.partition, t.in = in, s.table(plan).text(in)
				names[in] = t
			}
			t.key, t.session, t.firstClosed = row.Key(), strings.Clone(row.SessionID), row.FirstClosed
			t.shard, t.epoch, t.size, t.stands = plan.Config.Shard, r.epoch(), r.size(), row.Stands
			targets = append(targets, t)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(targets) == 0 {
		return nil
	}
	slices.SortFunc(targets, func(a, b target) int {
		return cmp.Or(a.partition.compare(b.partition), cmp.Compare(a.shard, b.shard),
			cmp.Compare(a.firstClosed, b.firstClosed), cmp.Compare(a.key, b.key))
	})
	if err := s.log.Refresh(ctx); err != nil {
		return err
	}
	if err := s.log.CheckRevises(); err != nil {
		return err // nothing is staged that could not be committed
	}
	if err := s.yield(ctx); err != nil {
		return err
	}
	for len(targets) > 0 {
		n, bytes := 0, int64(0)
		for n < len(targets) && (n == 0 || bytes+targets[n].size <= s.opts.FileBytes) {
			bytes += targets[n].size
			n++
		}
		p := &pass{s: s, ctx: ctx, plans: plans, last: n == len(targets), seen: map[string][]string{}}
		if err := p.window(targets[:n]); err != nil {
			return err
		}
		targets = targets[n:]
	}
	return nil
}

// yield waits while the passes of the table are put off.
func (s *Revisions) yield(ctx context.Context) error {
	pause := s.yielding.pause(s.opts.Now(), s.opts.RevisionInterval, func() bool {
		return s.opts.RevisionInterval > 0 && s.log.ForeignSince(yieldCommits)
	})
	if pause == 0 {
		return nil
	}
	s.opts.Logger.Info("revisions are put off: another tool writes to the table", "table",
		s.layout.sessions[level.First].name, "for", pause)
	return s.opts.sleep(ctx, pause)
}

// pass brings the rows of one window into the table.
type pass struct {
	s     *Revisions
	ctx   context.Context
	plans []*state.Plan // of the same level, each of another shard
	last  bool          // this is the last window, whose last commit carries the txns

	targets map[string]*target
	images  map[string]sessionRow
	// seen are the files that need nothing more, by their ids, each with the keys of the window's rows in it. A file
	// with another deletion vector is another file; otherwise they never change.
	seen map[string][]string
	// judge and others are the rules of the table and its columns of other tools, as of this step.
	judge   *judge
	others  []string
	changes *changes // of this step
	hiding  hiding   // of this step
	// rewritten are the keys of the window's rows in the files that this step makes, by their ids.
	rewritten map[string][]string
	// byPlace are the distinct places of the window's rows, by partition as the log names it.
	byPlace map[string][]origin
	// deleted are the keys of the window's rows that somebody has deleted, as of the last step.
	deleted []string
}

// origin is where a row was first visible: the files that may hold it are known by that.
type origin struct {
	shard uint32
	epoch uint64
}

// table is the table at the level of the plans.
func (p *pass) table() *table { return p.s.table(p.plans[0]) }

func (p *pass) window(targets []target) error {
	p.targets, p.byPlace = make(map[string]*target, len(targets)), map[string][]origin{}
	p.images = make(map[string]sessionRow, len(targets))
	for i := range targets {
		t := &targets[i]
		if other := p.targets[t.key]; other != nil && other.shard != t.shard {
			return errApart // a session is of one shard
		}
		p.targets[t.key] = t
		at := origin{t.shard, t.firstClosed}
		if places := p.byPlace[t.in]; len(places) == 0 || places[len(places)-1] != at {
			p.byPlace[t.in] = append(places, at)
		}
	}
	for _, plan := range p.plans {
		err := plan.Sessions(func(row *schema.SessionRow) error {
			key := row.Key()
			if t := p.targets[key]; t == nil || t.shard != plan.Config.Shard {
				return nil
			}
			r, err := p.s.layout.sessionRow(p.table(), row, nil)
			p.images[key] = r
			return err
		})
		if err != nil {
			return err
		}
	}
	for range maxRebuilds {
		change, done, err := p.s.begin(p.plans)
		if done || err != nil {
			return err
		}
		finished, err := p.step(change)
		switch {
		case errors.Is(err, deltalog.ErrRebuild):
			if err := p.s.log.Refresh(p.ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		case finished:
			p.countDeleted()
			return nil
		}
	}
	return fmt.Errorf("the table changed %d times under one window", maxRebuilds)
}

// holds reports whether a file may hold a row of the window.
func (p *pass) holds(f *deltalog.File) bool {
	return slices.ContainsFunc(p.byPlace[f.Partition], func(at origin) bool { return f.May(at.shard, at.epoch) })
}

// step makes one commit. It rewrites at most Options.RevisionFilesPerPass files and, once no candidate is left, inserts
// the rows that no file holds.
func (p *pass) step(change *deltalog.Change) (finished bool, err error) {
	var candidates []*deltalog.File
	p.s.log.View(func(sn *deltalog.Snapshot) {
		change.ReadVersion = sn.Version
		for f := range sn.In(func(partition string) bool { return len(p.byPlace[partition]) > 0 }) {
			if p.holds(f) {
				candidates = append(candidates, f)
			}
		}
	})
	slices.SortFunc(candidates, func(a, b *deltalog.File) int { return cmp.Compare(a.Path, b.Path) })

	change.Operation = "MERGE"
	if p.judge, err = p.s.judge(); err != nil {
		return false, err
	}
	p.others, p.changes = p.s.log.ForeignColumns(), p.s.feed(p.judge)
	change.Rules = p.judge.text()
	b := &sessionsBuilder{ctx: p.ctx, w: &p.s.writer, table: p.table(), change: change, judge: p.judge}
	found := map[string]bool{}
	p.hiding, p.rewritten = hiding{}, map[string][]string{}
	for _, f := range candidates {
		keys, ok := p.seen[f.ID()]
		if !ok {
			if len(change.Removes)+len(p.hiding.files) >= p.s.opts.RevisionFilesPerPass ||
				rewrittenBytes(change) >= commitBytes {
				// The next commit rewrites the rest.
				return false, p.commit(b)
			}
			if keys, err = p.revise(f, b); err != nil {
				return false, err
			}
		}
		for _, k := range keys {
			found[k] = true
		}
	}
	if err := p.insert(found, b); err != nil {
		return false, err
	}
	change.Last, change.Deleted = p.last, int64(len(p.deleted))
	if !change.Last && len(change.Adds) == 0 && len(p.hiding.files) == 0 {
		return true, nil
	}
	return true, p.commit(b)
}

// commitBytes is how many bytes of rewritten files end a commit: they are made again if another one was first.
const commitBytes = 512 << 20

func rewrittenBytes(c *deltalog.Change) (n int64) {
	for i := range c.Adds {
		n += c.Adds[i].Size
	}
	return n
}

func (p *pass) commit(b *sessionsBuilder) error {
	if err := p.stageHidden(b); err != nil {
		return err
	}
	if err := p.changes.finish(p.ctx, b.change); err != nil {
		return err
	}
	if err := p.s.submit(p.ctx, &draft{change: b.change}, nil, false); err != nil {
		return err
	}
	maps.Copy(p.seen, p.rewritten)
	return nil
}

// revise looks for the window's rows in a file and, if it holds an older image of one, has the older images hidden or
// the file rewritten. It returns the keys of the window's rows in it.
func (p *pass) revise(f *deltalog.File, b *sessionsBuilder) (keys []string, err error) {
	name, err := deltalog.Key(f.Path)
	if err != nil {
		return nil, elsewhere(b.table.name, err)
	}
	key := b.table.name + "/" + name
	v, err := visibleOf(p.ctx, p.s.opts.Store, b.table.name, f)
	if errors.Is(err, store.ErrNotFound) {
		return nil, p.vanished(f, err)
	}
	if err != nil {
		return nil, err
	}
	found, err := p.find(f, key, v)
	if errors.Is(err, store.ErrNotFound) {
		return nil, p.vanished(f, err)
	}
	if err != nil {
		return nil, err
	}
	if len(found.older) == 0 {
		p.seen[f.ID()] = found.keys
		return found.keys, nil
	}
	in, err := p.table().parse(f.Partition)
	if err != nil {
		return nil, &deltalog.CorruptionError{Key: key, Err: err}
	}
	hide, err := p.mayHide(f, v, found)
	if err != nil {
		return nil, err
	}
	if !hide || p.changes != nil {
		if err := p.whole(f, b.table.name, name, found); err != nil {
			return nil, err
		}
	}
	if hide {
		return found.keys, p.hide(f, key, v, in, found, b)
	}
	return found.keys, p.rewrite(f, key, v, in, found, b)
}

// whole reads the whole file, unless that was done.
func (p *pass) whole(f *deltalog.File, table, name string, found *findings) (err error) {
	if found.data != nil {
		return nil
	}
	if err := checkSize(table, name, f.Size, p.s.opts.largest); err != nil {
		return err
	}
	if found.data, err = p.get(table + "/" + name); errors.Is(err, store.ErrNotFound) {
		return p.vanished(f, err)
	}
	return err
}

// rewrite uploads a file's successor with the same rows, in which images of the window stand for older ones, and the
// same tags.
func (p *pass) rewrite(f *deltalog.File, key string, v *visible, in partition, found *findings,
	b *sessionsBuilder) error {
	data := found.data
	more, err := readForeign(key, data, p.others, v)
	if err != nil {
		return err
	}
	var rows []sessionRow
	var images []int // places in rows
	var befores []sessionRow
	y, newest := p.s.layout, p.s.layout.sessions[level.Current]
	err = eachRow(key, data, newest.file, newest.later, v.rows(func(row parquet.Row) error {
		r := sessionRow(row)
		k := r.key()
		if t := p.targets[k]; t != nil && r.epoch() < t.epoch {
			if p.changes != nil {
				befores = append(befores, r.clone())
			}
			r, images = p.images[k], append(images, len(rows))
		} else {
			r = r.clone()
		}
		rows = append(rows, r)
		return nil
	}))
	if err == nil {
		err = v.end(key)
	}
	if err != nil {
		return err
	}
	// Another tool may have merged files of several levels: what stands there is kept.
	t := y.holding(b.table, rows)
	for _, r := range rows {
		y.complete(r)
	}
	for _, i := range images {
		if err := p.allow(y.fit(t, slices.Clip(rows[i])), in, more.values(i)); err != nil {
			return err
		}
	}
	if err := p.note(t, in, befores, rows, images, more, b.change); err != nil {
		return err
	}
	for i := range rows {
		if more == nil {
			break
		}
		if rows[i], err = more.widen(y.fit(newest, slices.Clip(rows[i])), i); err != nil {
			return err
		}
	}
	if err := b.file(t, in, rows, more, f.Origins()...); err != nil {
		return err
	}
	b.change.Remove(f)
	p.rewritten[b.change.Adds[len(b.change.Adds)-1].Path] = found.keys
	return nil
}

// note collects, for the change data feed, the rows of a file that are replaced by images. rows have the images at the
// places of befores, by images; none of them has its values of others yet.
func (p *pass) note(t *table, in partition, befores, rows []sessionRow, images []int, more *foreign,
	change *deltalog.Change) error {
	if p.changes == nil {
		return nil
	}
	y, newest := p.s.layout, p.s.layout.sessions[level.Current]
	wide := func(r sessionRow, n int) (sessionRow, error) {
		r = y.fit(newest, slices.Clip(r))
		if more == nil {
			return r, nil
		}
		return more.widen(r, n)
	}
	afters := make([]sessionRow, len(images))
	for i, at := range images {
		y.complete(befores[i])
		var err error
		if befores[i], err = wide(befores[i], at); err != nil {
			return err
		}
		if afters[i], err = wide(rows[at], at); err != nil {
			return err
		}
	}
	return p.changes.replaced(p.ctx, t, in, befores, afters, more, change)
}

// allow judges an image by all rules, with the values of the columns of others that it is to stand beside.
func (p *pass) allow(r sessionRow, in partition, of map[string]constraint.Value) error {
	err := p.judge.row(parquet.Row(r), in, of)
	if err == nil {
		return nil
	}
	row := p.s.layout.image(r, in)
	return refused(&row, err)
}

// get reads a whole file.
func (p *pass) get(key string) ([]byte, error) {
	data, err := p.s.opts.Store.Get(p.ctx, key)
	p.s.metrics.RevisionRead(p.s.layout.sessions[level.First].name, int64(len(data)))
	return data, err
}

// findings are the window's rows in a file.
type findings struct {
	keys []string
	// older are the places in the file, ascending, of images that are older than their targets, and olderKeys the keys
	// of these.
	older     []int64
	olderKeys []string
	file      *parquet.File // of which the footer was read
	data      []byte        // the whole file, if it was read whole
}

// find looks for the window's rows in a file. Most files of a pass need no change, so a file is read whole only if it
// is small.
func (p *pass) find(f *deltalog.File, key string, v *visible) (*findings, error) {
	found := &findings{}
	see := func(place int64, r []parquet.Value) error {
		k := schema.RowKey(textOf(r[0]), textOf(r[1]))
		if t := p.targets[k]; t != nil {
			found.keys = append(found.keys, k)
			if _, epoch := schema.SplitBatchID(uint64(r[2].Int64())); epoch < t.epoch {
				found.older, found.olderKeys = append(found.older, place), append(found.olderKeys, k)
			}
		}
		return nil
	}
	if f.Size < p.s.opts.rangesFrom {
		data, err := p.get(key)
		if err == nil {
			found.data = data
			err = eachRow(key, data, sessionKeys, nil, v.rows(func(r parquet.Row) error { return see(v.N()-1, r) }))
		}
		if err == nil {
			err = v.end(key)
		}
		return found, err
	}
	want := deltalog.Lookup{Hidden: v.hidden, Check: func(o *parquet.File) error {
		found.file = o
		return checkTypes(key, o, sessionKeys, nil)
	}}
	for _, c := range sessionKeys.Fields() {
		want.Columns = append(want.Columns, c.Name())
	}
	for _, t := range p.targets {
		if t.in == f.Partition && f.May(t.shard, t.firstClosed) {
			want.Keys = append(want.Keys, t.session)
		}
	}
	slices.Sort(want.Keys)
	read, err := deltalog.ReadWhere(p.ctx, p.s.opts.Store, key, f.Size, &want, see)
	p.s.metrics.RevisionRead(p.s.layout.sessions[level.First].name, read)
	return found, err
}

// vanished gives the error for a file whose object, or that of its deletion vector, is missing: ErrRebuild if the file
// is not live any more, and a CorruptionError if it still is.
func (p *pass) vanished(f *deltalog.File, cause error) error {
	if err := p.s.log.Refresh(p.ctx); err != nil {
		return err
	}
	live := false
	p.s.log.View(func(sn *deltalog.Snapshot) { live = sn.Live(f) })
	if live {
		return &deltalog.CorruptionError{Key: f.Path, Err: cause}
	}
	return fmt.Errorf("%w: %s is gone", deltalog.ErrRebuild, f.Path)
}

// insert uploads the window's rows that no candidate holds, but for those that were written when their sessions were
// closed: somebody has deleted them, and they stay away. It sets the guard that refuses the commit if another writer
// has added a file that may hold one of these rows since the candidates were listed.
func (p *pass) insert(found map[string]bool, b *sessionsBuilder) error {
	fresh := map[uint32]map[partition][]*target{} // by shard and partition
	p.deleted = nil
	for key, t := range p.targets {
		if found[key] {
			continue
		}
		// gofail: var bugDeletedComesBack struct{}
		// t.stands = false

		// gofail: var bugUnwrittenStands struct{}
		// t.stands = true
		if t.stands {
			p.deleted = append(p.deleted, key)
			continue
		}
		if err := p.allow(p.images[key], t.partition, p.judge.fresh()); err != nil {
			return err
		}
		if fresh[t.shard] == nil {
			fresh[t.shard] = map[partition][]*target{}
		}
		fresh[t.shard][t.partition] = append(fresh[t.shard][t.partition], t)
	}
	for _, shard := range slices.Sorted(maps.Keys(fresh)) {
		if err := p.insertOf(shard, fresh[shard], b); err != nil {
			return err
		}
	}
	return nil
}

// insertOf uploads rows of a shard that no file holds, by partition.
func (p *pass) insertOf(shard uint32, parts map[partition][]*target, b *sessionsBuilder) error {
	of := deltalog.Origin{Tagged: true, Shard: shard, From: ^uint64(0)}
	for _, targets := range parts {
		for _, t := range targets {
			of.From, of.To = min(of.From, t.firstClosed-1), max(of.To, t.firstClosed)
		}
	}
	for _, in := range sorted(parts) {
		var rows []sessionRow
		place := deltalog.Place{Partition: parts[in][0].in, Shard: shard}
		for _, t := range parts[in] {
			rows, place.Epochs = append(rows, p.images[t.key]), append(place.Epochs, t.firstClosed)
		}
		slices.Sort(place.Epochs)
		place.Epochs = slices.Compact(place.Epochs)
		p.changes.inserted(b.table, in, rows)
		if err := b.newRows(b.table, in, rows, of); err != nil {
			return err
		}
		b.change.Guard = append(b.change.Guard, place)
	}
	return nil
}

// countDeleted counts and names the rows of a window that somebody has deleted.
func (p *pass) countDeleted() {
	if len(p.deleted) == 0 {
		return
	}
	name := p.s.layout.sessions[level.First].name
	p.s.metrics.RowsFoundDeleted(name).Add(float64(len(p.deleted)))
	id, _, _ := strings.Cut(slices.Min(p.deleted), "\x00")
	p.s.opts.Logger.Info("rows that were revised are not in the table any more: another tool has deleted them, "+
		"and they stay deleted", "table", name, "rows", len(p.deleted), "first", id)
}

// sessionKeys are the columns that tell whether a file needs to be rewritten, in this order.
var sessionKeys = func() *parquet.Schema {
	var columns []schema.Column[schema.SessionRow]
	for _, name := range []string{"session_id", "origin", "batch_id"} {
		columns = append(columns, *schema.Named(schema.Sessions, name))
	}
	return fileSchema("sessionKeyRow", columns, level.Current, "")
}()
