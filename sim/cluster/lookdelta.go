package cluster

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"deckle/event"
	"deckle/schema"
	"deckle/sim/history"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deletionvector"
	"deckle/state"
)

// deltaLooks is what the Delta tables have shown so far. A data file with one deletion vector, or none, never changes,
// so each is read once.
type deltaLooks struct {
	plans   *plans
	history *runHistory
	objects *objectStore

	events, sessions deltaTable
	shownEvents      *history.Events
	shownSessions    *history.Sessions

	compactions, hiding int64 // versions of both tables: by compaction, and with deletion vectors that Deckle has made

	eventFiles map[string]map[uint64]int64    // rows of each batch_id in each file of events
	files      map[string]map[string]tableRow // of sessions: rows by key of each file, by File.ID
}

func newDeltaLooks(p *plans, h *runHistory, o *objectStore) *deltaLooks {
	return &deltaLooks{
		plans: p, history: h, objects: o, events: newDeltaTable("events"), sessions: newDeltaTable("sessions"),
		shownEvents: history.NewEvents(h.broken), shownSessions: history.NewSessions(h.broken),
		eventFiles: map[string]map[uint64]int64{}, files: map[string]map[string]tableRow{},
	}
}

// tableRow is a session's row as a table shows it.
type tableRow struct {
	image
	shard uint32
}

// deltaTable is a table, and the version of it that is judged next.
type deltaTable struct {
	name  string
	table *delta.Table
	next  int64
	live  map[string]bool // paths of the files that the versions before next have left
}

func newDeltaTable(name string) deltaTable { return deltaTable{name: name, live: map[string]bool{}} }

// open returns the newest version.
func (t *deltaTable) open(ctx context.Context, o *objectStore) (s delta.Snapshot, err error) {
	if t.table == nil {
		if t.table, err = delta.OpenTable(ctx, o.Mem, t.name); err != nil {
			return s, err
		}
	}
	if err := t.table.Refresh(ctx); err != nil {
		return s, err
	}
	return t.table.Snapshot(), nil
}

// follow judges the versions up to that of the snapshot, one by one, as the files of the log describe them. The
// snapshot must have the files that they have left.
func (t *deltaTable) follow(ctx context.Context, d *deltaLooks, snap *delta.Snapshot,
	judge func(*history.Commit)) error {
	for ; t.next <= snap.Version; t.next++ {
		log, err := d.objects.Mem.Get(ctx, history.CommitKey(t.name, t.next))
		if err != nil {
			return err
		}
		c, err := history.ReadCommit(ctx, t.name, t.next, log, d.objects.Mem.Get, d.hidden)
		if err != nil {
			return err
		}
		if judge(c); c.Rearranges {
			d.compactions++
		}
		if c.Hides && !c.Deletes {
			d.hiding++
		}
		for _, path := range c.Removes {
			delete(t.live, path)
		}
		for _, f := range c.Adds {
			t.live[f.Path] = true
		}
	}
	same := len(snap.Files) == len(t.live)
	for _, f := range snap.Files {
		same = same && t.live[f.Path]
	}
	if !same {
		d.history.fail("I7: version %d of Delta's %s has %d files when it is opened, and %d by its versions one by one",
			snap.Version, t.name, len(snap.Files), len(t.live))
	}
	return nil
}

// hidden reads a deletion vector past all faults. It implements history.Hidden.
func (d *deltaLooks) hidden(ctx context.Context, table string, vector json.RawMessage, rows int) (
	func(row int64) bool, error,
) {
	var v deletionvector.Descriptor
	if err := json.Unmarshal(vector, &v); err != nil {
		return nil, err
	}
	hidden, err := deletionvector.Read(ctx, d.objects.Mem, table, &v)
	if err == nil {
		err = hidden.Fits(int64(rows))
	}
	return hidden.Has, err
}

// look looks at both tables, past all faults: what is stored is what any reader may see at this moment.
func (d *deltaLooks) look(ctx context.Context) {
	if err := d.lookAtEvents(ctx); err != nil {
		d.history.fail("Delta events cannot be read: %v", err)
	}
	if err := d.lookAtSessions(ctx); err != nil {
		d.history.fail("Delta sessions cannot be read: %v", err)
	}
}

// txns returns what a table's log says is done, by shard. A kind is the last part of an application id.
func txns(s *delta.Snapshot, kind string) map[uint32]uint64 {
	out := map[uint32]uint64{}
	for id, v := range s.Txns {
		if shard, k := history.AppID(id); k == kind {
			out[shard] = uint64(v)
		}
	}
	return out
}

// lookAtEvents wants the table to show exactly the rows of the plans of each shard up to its txn.
func (d *deltaLooks) lookAtEvents(ctx context.Context) error {
	snap, err := d.events.open(ctx, d.objects)
	if err != nil {
		return err
	}
	if err := d.events.follow(ctx, d, &snap, d.shownEvents.Commit); err != nil {
		return err
	}
	live := map[string]map[uint64]int64{}
	counts := map[uint32]map[uint64]int64{} // rows of each epoch, by shard
	for _, f := range snap.Files {
		rows := d.eventFiles[f.Path]
		if rows == nil {
			rows = map[uint64]int64{}
			err := d.events.table.ReadEvents(ctx, []*delta.File{f}, func(r *delta.EventRow) error {
				rows[r.BatchID]++
				return nil
			})
			if err != nil {
				return err
			}
		}
		live[f.Path] = rows
		for id, n := range rows {
			shard, epoch := schema.SplitBatchID(id)
			if counts[shard] == nil {
				counts[shard] = map[uint64]int64{}
			}
			counts[shard][epoch] += n
		}
	}
	d.eventFiles = live
	d.plans.mu.Lock()
	defer d.plans.mu.Unlock()
	done := txns(&snap, "events")
	want := map[uint32]map[uint64]span{}
	given := snap.Given()
	for k, rec := range d.plans.by {
		if k.sink != state.SinkEvents || k.b > done[k.shard] {
			continue
		}
		if want[k.shard] == nil {
			want[k.shard] = map[uint64]span{}
		}
		for i := range rec.epochs {
			want[k.shard][rec.epochs[i].Epoch] = rowsOf(&rec.epochs[i], given)
		}
	}
	for shard, counts := range counts {
		for epoch, n := range counts {
			if w := want[shard][epoch]; n < w.least || n > w.most {
				d.history.fail("I7: Delta shows %d events of epoch %d of shard %d, whose txn is %d; the plans have %d "+
					"to %d", n, epoch, shard, done[shard], w.least, w.most)
			}
		}
	}
	for shard, epochs := range want {
		for epoch, n := range epochs {
			if n.least > 0 && counts[shard][epoch] == 0 {
				d.history.fail("I7: Delta shows none of the %d events of epoch %d of shard %d, whose txn is %d",
					n.least, epoch, shard, done[shard])
			}
		}
	}
	return nil
}

// span is how many rows an epoch has at least and at most.
type span struct{ least, most int64 }

// rowsOf is how many rows of table events an epoch has, if those may be missing whose offsets the table says were given
// up. Counted here in words of their own: which offsets are left out of the epoch is passed over, and makes no row
// missing that may not be.
func rowsOf(e *state.EpochInfo, given []event.Range) span {
	s := span{e.Events, e.Events}
	for _, r := range e.Ranges {
		for _, g := range given {
			if g.Partition == r.Partition {
				s.least -= max(0, min(r.To, g.To)-max(r.From, g.From))
			}
		}
	}
	return span{max(s.least, 0), s.most}
}

// lookAtSessions wants every session whose first closed image lies in a plan that is done to be there, as an image of
// some plan of sessions or revisions, and not older than the plans of revisions that are done say, unless another tool
// has deleted it.
func (d *deltaLooks) lookAtSessions(ctx context.Context) error {
	snap, err := d.sessions.open(ctx, d.objects)
	if err != nil {
		return err
	}
	if err := d.sessions.follow(ctx, d, &snap, d.shownSessions.Commit); err != nil {
		return err
	}
	shown := map[string]tableRow{}
	files := map[string]map[string]tableRow{}
	for _, f := range snap.Files {
		rows := d.files[f.ID()]
		if rows == nil {
			rows = map[string]tableRow{}
			err := d.sessions.table.ReadSessions(ctx, []*delta.File{f}, func(r *schema.SessionRow) error {
				shard, epoch := schema.SplitBatchID(r.BatchID)
				rows[r.Key()] = tableRow{image{epoch, rowDigest(r)}, shard}
				return nil
			})
			if err != nil {
				return err
			}
		}
		files[f.ID()] = rows
		maps.Copy(shown, rows)
	}
	d.files = files
	done, revised := txns(&snap, "sessions"), txns(&snap, "sessions.revisions")
	d.plans.mu.Lock()
	defer d.plans.mu.Unlock()
	may := map[string][]image{}
	least := map[string]uint64{}
	for k, rec := range d.plans.by {
		switch {
		case k.sink == state.SinkSessions && k.b <= done[k.shard]:
			for key, im := range rec.rows {
				may[key] = append(may[key], im)
				least[key] = max(least[key], im.epoch)
			}
		case k.sink == state.SinkRevisions:
			for key, im := range rec.rows {
				may[key] = append(may[key], im)
				if k.b <= revised[k.shard] {
					least[key] = max(least[key], im.epoch)
				}
			}
		}
	}
	for key, epoch := range least {
		if r, ok := shown[key]; !ok && d.shownSessions.Deleted(idOf(key)) {
			continue
		} else if !ok {
			d.history.fail("I7: Delta does not show the session %q, which the done plans have at epoch %d", key, epoch)
		} else if r.epoch < epoch {
			d.history.fail("I7: Delta shows the session %q as of epoch %d, the done plans have epoch %d", key, r.epoch,
				epoch)
		}
	}
	for key, r := range shown {
		if !hasImage(may[key], r.image) {
			d.history.fail("I7: Delta shows the session %q as of epoch %d (%x), which no plan has: %v", key, r.epoch,
				r.digest, may[key])
		}
	}
	return nil
}

func hasImage(list []image, im image) bool {
	return slices.Contains(list, im)
}
