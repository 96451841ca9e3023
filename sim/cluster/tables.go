package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"deckle/schema"
	"deckle/sim"
	"deckle/sim/verify"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta"
	"deckle/state"
)

// deltaLooks is what the Delta tables have shown so far. Data files never change, so each is read once.
type deltaLooks struct {
	events, sessions *delta.Table
	eventFiles       map[string]bool                      // read
	rows             map[uint32]map[state.Position]uint64 // epoch of each event row, by shard
	counts           map[uint32]map[uint64]int64          // event rows of each epoch, by shard
	files            map[string]map[string]tableRow       // of sessions: rows by key of each file
	shown            map[string]uint64                    // epoch of each session row at the last look
}

func newDeltaLooks() deltaLooks {
	return deltaLooks{eventFiles: map[string]bool{}, rows: map[uint32]map[state.Position]uint64{}, counts: map[uint32]map[uint64]int64{},
		files: map[string]map[string]tableRow{}, shown: map[string]uint64{}}
}

// tableRow is a session's row as a table shows it.
type tableRow struct {
	image
	shard uint32
}

// clickLooks is what ClickHouse has shown so far.
type clickLooks struct {
	sessions map[string]uint64 // epoch, by row key
	totals   map[shardTotal]uint64
}

type shardTotal struct {
	shard uint32
	totalKey
}

func newClickLooks() clickLooks {
	return clickLooks{sessions: map[string]uint64{}, totals: map[shardTotal]uint64{}}
}

// tables looks at every table, past all faults: what is stored is what any reader may see at this moment.
func (o *oracle) tables(ctx context.Context) {
	if err := o.lookAtEvents(ctx); err != nil {
		o.w.history.fail("Delta events cannot be read: %v", err)
	}
	if err := o.lookAtSessions(ctx); err != nil {
		o.w.history.fail("Delta sessions cannot be read: %v", err)
	}
	o.lookAtClickHouse()
}

// txn returns what a table's log says is done, by shard. A kind is the last part of an application id.
func txns(s *delta.Snapshot, kind string) map[uint32]uint64 {
	out := map[uint32]uint64{}
	for id, v := range s.Txns {
		parts := strings.Split(id, "/")
		var shard uint32
		if len(parts) != 4 || parts[3] != kind {
			continue
		}
		if _, err := fmt.Sscan(parts[2], &shard); err == nil {
			out[shard] = uint64(v)
		}
	}
	return out
}

func open(ctx context.Context, t **delta.Table, o *objectStore, name string) (s delta.Snapshot, err error) {
	if *t == nil {
		if *t, err = delta.OpenTable(ctx, o.Mem, name); err != nil {
			return s, err
		}
	}
	if err := (*t).Refresh(ctx); err != nil {
		return s, err
	}
	return (*t).Snapshot(), nil
}

// lookAtEvents: the table shows, of each shard, exactly the rows of the plans up to its txn.
func (o *oracle) lookAtEvents(ctx context.Context) error {
	d := &o.delta
	snap, err := open(ctx, &d.events, o.w.objects, "events")
	if err != nil {
		return err
	}
	live := map[string]bool{}
	var fresh []*delta.File
	for _, f := range snap.Files {
		live[f.Path] = true
		if !d.eventFiles[f.Path] {
			d.eventFiles[f.Path] = true
			fresh = append(fresh, f)
		}
	}
	for path := range d.eventFiles {
		if !live[path] {
			o.w.history.fail("I7: the events of %s have vanished", path)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	err = d.events.ReadEvents(ctx, fresh, func(r *delta.EventRow) error {
		shard, epoch := schema.SplitBatchID(r.BatchID)
		if d.rows[shard] == nil {
			d.rows[shard], d.counts[shard] = map[state.Position]uint64{}, map[uint64]int64{}
		}
		pos := state.Position{Partition: r.Partition, Offset: r.Offset}
		if before, ok := d.rows[shard][pos]; ok {
			o.w.history.fail("I5: the event %d/%d stands twice in Delta, of epochs %d and %d", pos.Partition, pos.Offset, before, epoch)
		}
		d.rows[shard][pos] = epoch
		d.counts[shard][epoch]++
		return nil
	})
	if err != nil {
		return err
	}
	done := txns(&snap, "events")
	want := map[uint32]map[uint64]int64{}
	for k, rec := range o.plans {
		if k.sink != state.SinkEvents || k.b > done[k.shard] {
			continue
		}
		if want[k.shard] == nil {
			want[k.shard] = map[uint64]int64{}
		}
		for i := range rec.epochs {
			want[k.shard][rec.epochs[i].Epoch] = rec.epochs[i].Events
		}
	}
	for shard, counts := range d.counts {
		for epoch, n := range counts {
			if w := want[shard][epoch]; n != w {
				o.w.history.fail("I7: Delta shows %d events of epoch %d of shard %d, whose txn is %d; the plans have %d", n, epoch, shard, done[shard], w)
			}
		}
	}
	for shard, epochs := range want {
		for epoch, n := range epochs {
			if n > 0 && d.counts[shard][epoch] == 0 {
				o.w.history.fail("I7: Delta shows none of the %d events of epoch %d of shard %d, whose txn is %d", n, epoch, shard, done[shard])
			}
		}
	}
	return nil
}

// lookAtSessions: every session whose first closed image lies in a done plan is there once, as some image that a plan of
// sessions or of revisions has, not older than the done plans of revisions say, and never older than before.
func (o *oracle) lookAtSessions(ctx context.Context) error {
	d := &o.delta
	snap, err := open(ctx, &d.sessions, o.w.objects, "sessions")
	if err != nil {
		return err
	}
	shown := map[string]tableRow{}
	files := map[string]map[string]tableRow{}
	for _, f := range snap.Files {
		rows := d.files[f.Path]
		if rows == nil {
			rows = map[string]tableRow{}
			err := d.sessions.ReadSessions(ctx, []*delta.File{f}, func(r *state.SessionRow) error {
				shard, epoch := schema.SplitBatchID(r.BatchID)
				if _, ok := rows[r.Key()]; ok {
					o.w.history.fail("I5: the session %q stands twice in %s", r.Key(), f.Path)
				}
				rows[r.Key()] = tableRow{image{epoch, rowDigest(r)}, shard}
				return nil
			})
			if err != nil {
				return err
			}
		}
		files[f.Path] = rows
		for key, r := range rows {
			if _, ok := shown[key]; ok {
				o.w.history.fail("I5: the session %q stands in two files of Delta", key)
			}
			shown[key] = r
		}
	}
	d.files = files
	done, revised := txns(&snap, "sessions"), txns(&snap, "sessions.revisions")
	o.mu.Lock()
	defer o.mu.Unlock()
	may := map[string][]image{}
	least := map[string]uint64{}
	for k, rec := range o.plans {
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
		if r, ok := shown[key]; !ok {
			o.w.history.fail("I7: Delta does not show the session %q, which the done plans have at epoch %d", key, epoch)
		} else if r.epoch < epoch {
			o.w.history.fail("I7: Delta shows the session %q as of epoch %d, the done plans have epoch %d", key, r.epoch, epoch)
		}
	}
	for key, r := range shown {
		if !hasImage(may[key], r.image) {
			o.w.history.fail("I7: Delta shows the session %q as of epoch %d (%x), which no plan has: %v", key, r.epoch, r.digest, may[key])
		}
		if before := d.shown[key]; r.epoch < before {
			o.w.history.fail("I7: Delta showed the session %q as of epoch %d, and shows epoch %d now", key, before, r.epoch)
		}
	}
	for key, epoch := range d.shown {
		if _, ok := shown[key]; !ok {
			o.w.history.fail("I7: Delta showed the session %q as of epoch %d, and does not show it any more", key, epoch)
		}
	}
	clear(d.shown)
	for key, r := range shown {
		d.shown[key] = r.epoch
	}
	return nil
}

func hasImage(list []image, im image) bool {
	return slices.Contains(list, im)
}

// lookAtClickHouse: every row is the one of a plan, not older than the ledger's plans say and not newer than what was
// planned; nothing goes back, and no total is another than that of its epoch.
func (o *oracle) lookAtClickHouse() {
	ledger := o.w.click.ledger()    // first: the rows that it speaks of were there before it
	totalRows := o.w.click.totals() // before the sessions: they are written after them
	sessions := o.w.click.sessions()
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &o.click
	done := map[uint32]uint64{}
	for _, l := range ledger {
		shard := uint32(l.Uint("shard"))
		done[shard] = max(done[shard], l.Uint("b"))
	}
	may, least := map[string][]image{}, map[string]uint64{}
	mayTotal, leastTotal := map[shardTotal][]image{}, map[shardTotal]uint64{}
	for k, rec := range o.plans {
		if k.sink != state.SinkClickHouse {
			continue
		}
		for key, im := range rec.rows {
			may[key] = append(may[key], im)
			if k.b <= done[k.shard] {
				least[key] = max(least[key], im.epoch)
			}
		}
		for key, im := range rec.totals {
			t := shardTotal{k.shard, key}
			mayTotal[t] = append(mayTotal[t], im)
			if k.b <= done[k.shard] {
				leastTotal[t] = max(leastTotal[t], im.epoch)
			}
		}
	}
	rows := map[string]uint64{}
	for _, r := range sessions {
		key := r.Text("session_id") + "\x00" + r.Text("origin")
		rows[key] = r.Uint("version")
		if !hasImage(may[key], image{rows[key], clickDigest(r)}) {
			o.w.history.fail("I7: ClickHouse shows the session %q as of epoch %d, which no plan has so: %v, %s", key, rows[key], may[key], r)
		}
	}
	compare(o, "the session", least, rows, c.sessions)
	totals := map[shardTotal]uint64{}
	for _, r := range totalRows {
		key := shardTotal{uint32(r.Uint("shard")), clickKey(r)}
		totals[key] = r.Uint("version")
		if !hasImage(mayTotal[key], image{totals[key], clickTotalDigest(r)}) {
			o.w.history.fail("I7: ClickHouse shows the total %v as of epoch %d, which no plan has so: %s", key, totals[key], r)
		}
	}
	compare(o, "the total", leastTotal, totals, c.totals)
	o.totalsFollow(done, totals, rows)
	c.sessions, c.totals = rows, totals
}

// totalsFollow: where a plan is being written, a total of it is visible only when all its sessions are.
func (o *oracle) totalsFollow(done map[uint32]uint64, totals map[shardTotal]uint64, rows map[string]uint64) {
	newest := map[uint32]uint64{}
	for t, epoch := range totals {
		newest[t.shard] = max(newest[t.shard], epoch)
	}
	for k, rec := range o.plans {
		if k.sink != state.SinkClickHouse || k.b <= done[k.shard] || newest[k.shard] <= rec.a {
			continue
		}
		for key, im := range rec.rows {
			if rows[key] < im.epoch {
				o.w.history.fail("I7: ClickHouse shows totals of epoch %d of shard %d, and the session %q of epoch %d is not there", newest[k.shard], k.shard, key, im.epoch)
			}
		}
	}
}

// compare holds the rows that ClickHouse shows against what the done plans have and what it showed before.
func compare[K comparable](o *oracle, what string, least, shown, before map[K]uint64) {
	for key, epoch := range least {
		if got, ok := shown[key]; !ok {
			o.w.history.fail("I7: ClickHouse does not show %s %v, which the ledger's plans have at epoch %d", what, key, epoch)
		} else if got < epoch {
			o.w.history.fail("I7: ClickHouse shows %s %v as of epoch %d, the ledger's plans have epoch %d", what, key, got, epoch)
		}
	}
	for key, epoch := range before {
		if got, ok := shown[key]; !ok || got < epoch {
			o.w.history.fail("I7: ClickHouse showed %s %v as of epoch %d, and shows %d now", what, key, epoch, got)
		}
	}
}

// final compares everything with the ground truth, when nothing moves any more.
func (o *oracle) final(ctx context.Context, sum *sim.Summary) error {
	o.look(ctx)
	o.equalReplicas(sum)
	delta, err := verify.OpenDelta(ctx, o.w.objects.Mem)
	if err != nil {
		return err
	}
	click, err := clickhouse.OpenReader(ctx, clickhouse.Options{Address: clickAddr, Compression: "none", Dial: o.w.dialFrom("verify")})
	if err != nil {
		return err
	}
	rep, err := verify.Verify(ctx, verify.Options{
		Truth: []sim.Source{o.w.truth}, Delta: delta, ClickHouse: verify.ClickHouse(click), Wait: time.Minute, Limit: 5,
		More: []verify.Table{{Name: "dead letter queue", Kind: verify.Letters, Reader: verify.DeadLetters(topic, o.w.kafkaOpts("verify")...)}},
	})
	if cerr := click.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	o.compared = sum.Produced
	if !rep.Equal {
		o.w.history.fail("the tables differ from the truth: %+v", rep.Tables)
		for _, d := range rep.Differences {
			o.w.history.add("verify", "%+v", d)
		}
	}
	return nil
}

// equalReplicas compares the replicas with one another and with what was produced.
func (o *oracle) equalReplicas(sum *sim.Summary) {
	for shard := range uint32(o.w.shards) {
		for _, m := range o.w.members {
			s := m.store(shard)
			if s == nil {
				o.w.history.fail("%s has no replica of shard %d at the end", m.name, shard)
				continue
			}
			v := s.View()
			for _, p := range v.Partitions {
				if want := o.promised[p.Partition]; p.Next < want || p.Next != sum.Partitions[p.Partition].To {
					o.w.history.fail("I3: %s has partition %d up to %d; %d were applied once, %d produced", m.name, p.Partition, p.Next, want, sum.Partitions[p.Partition].To)
				}
			}
		}
	}
}
