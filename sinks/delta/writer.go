package delta

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parquet-go/parquet-go/compress"

	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
)

// sharedLog is closed by the last of its users.
type sharedLog struct {
	mu    sync.Mutex
	log   *deltalog.Log
	users int
}

func (s *sharedLog) release() error {
	s.mu.Lock()
	s.users--
	last := s.users == 0
	s.mu.Unlock()
	if last {
		return s.log.Close()
	}
	return nil
}

// sharedWriter is what the sinks of sessions and of revisions have in common: two appIDs on one table, whose log the
// last of them closes.
type sharedWriter struct {
	writer
	kind   string // the last part of the appID
	shared *sharedLog
	once   sync.Once
}

func (w *sharedWriter) appID(shard uint32) string { return w.writer.appID(shard, w.kind) }

// Position implements sinks.Sink.
func (w *sharedWriter) Position(ctx context.Context, shard uint32) (uint64, error) {
	return w.position(ctx, w.appID(shard))
}

// Close implements sinks.Sink.
func (w *sharedWriter) Close() (err error) {
	w.once.Do(func() { err = w.shared.release() })
	return err
}

// writer is what the three sinks have in common.
type writer struct {
	log     *deltalog.Log
	layout  *layout
	tables  *[level.Current + 1]*table // this table by level
	opts    *Options
	codec   compress.Codec
	metrics *deltalog.Metrics
	risen   atomic.Pointer[risen]
}

// risen says that a table's schema has all columns of a level. Another one may have lost them: a RESTORE by another
// tool takes back the schema, too.
type risen struct {
	level  level.Level
	schema string
}

// table is the table at the level of a plan.
func (w *writer) table(plan *state.Plan) *table { return w.tables[max(plan.Level, level.First)] }

// rise gives the table the columns of a level, by a commit of its own, if it does not have them.
func (w *writer) rise(ctx context.Context, t *table) error {
	if t.level == level.First {
		return nil
	}
	if r := w.risen.Load(); r != nil && r.level >= t.level && r.schema == w.schemaString() {
		return nil
	}
	if err := w.opts.step("rise"); err != nil {
		return err
	}
	if err := w.log.AddColumns(ctx, t.fields); err != nil {
		return err
	}
	w.risen.Store(&risen{t.level, w.schemaString()})
	return w.opts.step("risen")
}

// schemaString is the table's schema, as of the part of the log that has been read.
func (w *writer) schemaString() (text string) {
	w.log.View(func(s *deltalog.Snapshot) { text = s.Metadata.SchemaString })
	return text
}

// appID names a shard's changes of one kind. It contains the cluster, but neither a term nor a node, so that a new
// leader finds what an earlier one wrote.
func (w *writer) appID(shard uint32, kind string) string {
	return fmt.Sprintf("%s/%s/%d/%s", w.opts.ClusterID, w.opts.Pipeline, shard, kind)
}

// position returns the txn version of the shard, from the newest version of the log.
func (w *writer) position(ctx context.Context, appID string) (uint64, error) {
	if err := w.log.Refresh(ctx); err != nil {
		return 0, err
	}
	return w.known(appID), nil
}

// known returns the txn version of the shard in the part of the log that this process has read.
func (w *writer) known(appID string) (v uint64) {
	w.log.View(func(s *deltalog.Snapshot) {
		if t, ok := s.Txns[appID]; ok && t.Version > 0 {
			v = uint64(t.Version)
		}
	})
	return v
}

// start judges a plan by the part of the log that has been read (invariant 1), and begins its change on that: done says
// that nothing is to be written. The commit checks it against the rest.
func (w *writer) start(appID string, plan *state.Plan) (c *deltalog.Change, done bool, err error) {
	c = &deltalog.Change{}
	w.log.View(func(s *deltalog.Snapshot) {
		c.Parts, c.ReadVersion = []deltalog.Part{s.Part(appID, int64(plan.B))}, s.Version
		err = s.WentBack(w.tables[level.First].name, appID)
	})
	if err != nil {
		return nil, false, err
	}
	v := uint64(c.Parts[0].Base)
	if plan.A < v && v < plan.B {
		return nil, false, &sinks.StopError{
			Err: fmt.Errorf("delta: %s is at epoch %d in the log, inside the plan (%d, %d]", appID, v, plan.A, plan.B),
			Hint: "the table was written by another history of this cluster; " +
				"restore the cluster's state or give it a new location",
		}
	}
	return c, v >= plan.B, nil
}

func (w *writer) attemptID() (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(w.opts.Rand, b[:]); err != nil {
		return "", fmt.Errorf("delta: attempt id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// dataFile is one finished data file.
type dataFile struct {
	table     *table // of its level
	partition partition
	data      []byte
	rows      int64
	cols      []deltalog.ColumnStats // of the columns with bounds
	// groups are the partitions of a file of events, one for each row group.
	groups []int32
}

// upload puts a data file under a random name that only this put uses, and returns its add action. The table has the
// columns of the file by then.
func (w *writer) upload(ctx context.Context, f *dataFile, origins ...deltalog.Origin) (deltalog.Add, error) {
	if err := w.rise(ctx, f.table); err != nil {
		return deltalog.Add{}, err
	}
	if err := w.opts.step("upload"); err != nil {
		return deltalog.Add{}, err
	}
	attempt, err := w.attemptID()
	if err != nil {
		return deltalog.Add{}, err
	}
	path := fmt.Sprintf("%s/part-shared-%s.parquet", f.table.folder(f.partition), attempt)
	if len(origins) == 1 {
		path = fmt.Sprintf("%s/part-%05d-%d-%s.parquet", f.table.folder(f.partition), origins[0].Shard, origins[0].To,
			attempt)
	}
	staged := w.opts.Now() // before the put, see StagedLife
	if err := w.opts.Store.Put(ctx, f.table.name+"/"+path, f.data); err != nil {
		return deltalog.Add{}, fmt.Errorf("delta: data file: %w", err)
	}
	// gofail: var deltaFileStaged struct{}
	if err := w.opts.step("uploaded"); err != nil {
		return deltalog.Add{}, err
	}
	return deltalog.Add{
		Path: path, PartitionValues: f.table.values(f.partition), Size: int64(len(f.data)),
		ModificationTime: staged.UnixMilli(), DataChange: true, Stats: deltalog.Stats(f.rows, f.cols),
		Tags: deltalog.TagsOf(origins),
	}, nil
}

// StagedLife is how old a staged file may be when its change is submitted. Vacuum takes none that is younger than twice
// this time, so that a node which stood still for days (a suspended machine) commits no file that is gone.
const StagedLife = 24 * time.Hour

// errStaged says that a change is to be made again, with new files.
var errStaged = errors.New("delta: the files of a change were staged too long ago")

// gathers is what gathers the plans of a lane.
func (w *writer) gathers(lane string) gatherOptions {
	return gatherOptions{lane: lane, table: w.tables[level.First].name, log: w.log, offer: w.opts.Offer, young: w.young,
		step: w.opts.step, logger: w.opts.Logger, patience: cmp.Or(w.opts.gatherFor, gatherFor),
		offered: w.offered}
}

// offered tells what has become of an offer.
func (w *writer) offered(o deltalog.Outcome) {
	if w.opts.Offered != nil {
		w.opts.Offered(w.tables[level.First].name, o)
	}
}

// young gives an error if a file of the change was staged too long ago. An object of deletion vectors is staged with
// files, and after them.
func (w *writer) young(c *deltalog.Change) error {
	for _, a := range c.Written() {
		if at := time.UnixMilli(a.ModificationTime); w.opts.Now().Sub(at) > StagedLife {
			return fmt.Errorf("%w: %s at %s", errStaged, a.Path, at.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// submit hands a change to the round of its turn, if it has a seat there, else to the table's committer, with files of
// its own. It calls Options.step before and after.
// gathered says that plans of its lane have rounds.
func (w *writer) submit(ctx context.Context, d *draft, seat *seat, gathered bool) error {
	if err := w.opts.step("submit"); err != nil {
		return err
	}
	c := d.change
	if err := w.young(c); err != nil {
		return err
	}
	err := seat.submit(ctx, d)
	if errors.Is(err, errAlone) {
		if err = d.own(ctx); err == nil {
			err = w.young(c) // it may have waited
		}
		if err == nil {
			err = w.log.Submit(ctx, c)
		}
		if err == nil && gathered && w.opts.Offer != nil {
			w.offered(OutcomeAlone)
		}
	}
	if err != nil {
		// gofail: var bugDeleteStaged struct{}
		// for _, a := range c.Adds {
		// 	_ = w.opts.Store.Delete(context.WithoutCancel(ctx), w.tables[level.First].name+"/"+a.Path)
		// }
		return err
	}
	bytes := d.bytes
	if d.rows == nil {
		bytes = 0
		for _, a := range c.Written() {
			bytes += a.Size
		}
	}
	sinks.Wrote(ctx, c.Rows, bytes)
	return w.opts.step("submitted")
}

// maxRebuilds bounds how often one window is built again; each time another writer has changed the table meanwhile.
const maxRebuilds = 1000

// insert submits a change that only adds files, of one plan. If the log has moved on since the change was begun, as
// another leader has written the plan before this one, it is made again on that, with the same files. ErrRebuild says
// that the files have to be made again.
func (w *writer) insert(ctx context.Context, plan *state.Plan, d *draft, seat *seat) error {
	c := d.change
	for range maxRebuilds {
		rebuild := w.submit(ctx, d, seat, true)
		if !errors.Is(rebuild, deltalog.ErrRebuild) {
			return rebuild
		}
		if err := w.log.Refresh(ctx); err != nil {
			return err
		}
		again, done, err := w.start(c.Parts[0].AppID, plan)
		if done || err != nil {
			return err
		}
		if again.Parts[0].Base == c.Parts[0].Base {
			return rebuild // the table has other rules
		}
		c.Parts[0].Base, c.ReadVersion = again.Parts[0].Base, again.ReadVersion
	}
	return fmt.Errorf("the log changed %d times under one change", maxRebuilds)
}
