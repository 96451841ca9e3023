package vacuum

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
	"deckle/sinks/delta/store"
)

const (
	// Least is the shortest retention that is not refused without Options.Short. It is the protocol's default: readers
	// and writers of others count on it.
	Least = history.DefaultRetention
	// Floor is the shortest retention of all: twice as long as what a sink has staged may wait for its commit.
	Floor = 48 * time.Hour

	clockKey = "_deckle_vacuum/clock"
)

// Errors that callers act on.
var (
	// ErrShort says that the retention is below Least, or below what the table asks for, and that Options.Short is not
	// set, or that it is below Floor.
	ErrShort = errors.New("vacuum: the retention is too short")
	// ErrRefused says that the table may name objects in a way that is not known here.
	ErrRefused = errors.New("vacuum: refused")
	// ErrTakenBack says that a commit has taken a file back in the moment in which it was removed.
	ErrTakenBack = errors.New("vacuum: a removed file has been taken back by another writer")
)

// Options of a run. Store and Table are required.
type Options struct {
	Store store.Store
	Table string // its folder
	// Retention is how long objects stay that nothing needs; 0 for what the table says, but at least Least.
	Retention time.Duration
	// Short allows a Retention below Least and below what the table says.
	Short bool
	// Clock lets Prepare put an object, from which it knows the store's time. Without it nothing is written, ages are
	// by the clock here, and Remove refuses.
	Clock bool
	Now   func() time.Time // default time.Now
	// Batch is how many objects are removed between two looks at the log; default and most store.MaxDelete.
	Batch int
	// RequestTimeout bounds one request, see store.WithTimeouts; default 30 s.
	RequestTimeout time.Duration
}

func (o *Options) complete() error {
	if o.Store == nil || o.Table == "" {
		return errors.New("vacuum: Options.Store and Options.Table must be set")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Batch <= 0 || o.Batch > store.MaxDelete {
		o.Batch = store.MaxDelete
	}
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = 30 * time.Second
	}
	o.Store = store.WithTimeouts(o.Store, o.RequestTimeout)
	return nil
}

// Object is an object that nothing needs.
type Object struct {
	Key     string    `json:"key"` // in the store
	Bytes   int64     `json:"bytes"`
	Written time.Time `json:"written"` // by the store's clock
	path    string    // below the table's folder
}

// Run is what can be removed, and what has been.
type Run struct {
	Table     string
	Version   int64         // the newest that has been read
	From      int64         // the oldest version whose files stay
	Retention time.Duration // in force
	Clock     time.Time     // the store's if it was asked, else the one here
	Listed    int           // objects of the table
	Objects   []Object      // what can be removed, ascending by key
	Left      []string      // old keys that nothing needs, but that are no text
	Removed   []Object      // of Objects, what Remove has removed
	Spared    []Object      // of Objects, what a commit has taken back before Remove came to it

	opts   Options
	table  *history.Table
	cutoff time.Time
	id     string          // of the table
	needed map[string]bool // paths below the table's folder
	next   int             // of Objects: what Remove has come to
}

// Bytes is the sum of some objects.
func Bytes(objects []Object) (n int64) {
	for i := range objects {
		n += objects[i].Bytes
	}
	return n
}

// Prepare finds what can be removed. It removes nothing.
func Prepare(ctx context.Context, opts Options) (*Run, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	r := &Run{Table: opts.Table, opts: opts, Version: -1, needed: map[string]bool{}}
	var err error
	if r.table, err = history.Open(ctx, opts.Store, opts.Table); err != nil {
		return nil, err
	}
	now, err := r.table.At(ctx, r.table.Newest(), history.Options{})
	if err != nil {
		return nil, err
	}
	r.id = now.Metadata.ID
	if err := r.retain(now.Metadata); err != nil {
		return nil, err
	}
	read := r.readLog
	// gofail: var bugVacuumLogFirst struct{}
	// r.cutoff = opts.Now().Add(-r.Retention)
	// if err := read(ctx); err != nil {
	// 	return nil, err
	// }
	// read = func(context.Context) error { return nil }
	old, err := r.list(ctx)
	if err != nil {
		return nil, err
	}
	// The log is read after the listing, see the package's documentation.
	if err := read(ctx); err != nil {
		return nil, err
	}
	for _, o := range old {
		switch {
		case r.keeps(&o):
		case store.CheckForeign(o.Key) != nil:
			r.Left = append(r.Left, o.Key)
		default:
			r.Objects = append(r.Objects, o)
		}
	}
	return r, nil
}

// retain finds the retention in force.
func (r *Run) retain(m *deltalog.Metadata) error {
	asked, err := history.DeletedFileRetention(m)
	if err != nil {
		return fmt.Errorf("%w: table %s: %w", ErrRefused, r.Table, err)
	}
	least := max(Least, asked)
	switch r.Retention = r.opts.Retention; {
	case r.Retention == 0:
		r.Retention = least
	case r.Retention < Floor:
		return fmt.Errorf("%w: %v for table %s; what a node has staged may be %v old, and nothing below %v is done",
			ErrShort, r.Retention, r.Table, Floor/2, Floor)
	case r.Retention < least && !r.opts.Short:
		return fmt.Errorf("%w: %v for table %s, which needs %v: readers and writers count on it", ErrShort, r.Retention,
			r.Table, least)
	}
	return nil
}

// list finds the objects that are older than the retention, and the store's time.
func (r *Run) list(ctx context.Context) (old []Object, err error) {
	r.Clock = r.opts.Now().UTC()
	if r.opts.Clock {
		at, err := r.askClock(ctx)
		if err != nil {
			return nil, fmt.Errorf("vacuum: table %s: the store's clock: %w", r.Table, err)
		}
		if at.Before(r.Clock) { // a clock that is ahead makes nothing old, be it the one here or the store's
			r.Clock = at.UTC()
		}
	}
	r.cutoff = r.Clock.Add(-r.Retention)
	err = r.table.EachObject(ctx, func(path string, info store.Info) error {
		r.Listed++
		if r.isOld(&info) {
			old = append(old, Object{info.Key, info.Size, info.Modified.UTC(), path})
		}
		return nil
	})
	return old, err
}

// isOld says whether an object may go if nothing needs it.
func (r *Run) isOld(info *store.Info) bool {
	// gofail: var bugVacuumYoung struct{}
	// return true
	return !info.Modified.After(r.cutoff)
}

// keeps says whether an object is needed, as far as the log has been read.
func (r *Run) keeps(o *Object) bool {
	// gofail: var bugVacuumAgeAlone struct{}
	// return false
	return r.needed[o.path]
}

// Last returns when the last run that might remove something was begun, by the store's clock; the zero time if none
// was.
func Last(ctx context.Context, st store.Store, table string) (at time.Time, err error) {
	key := table + "/" + clockKey
	err = st.List(ctx, key, "", func(info store.Info) error {
		if info.Key == key {
			at = info.Modified
		}
		return nil
	})
	if err != nil {
		return at, fmt.Errorf("vacuum: table %s: the last run: %w", table, err)
	}
	return at, nil
}

// askClock puts an object and looks when the store says that it was written.
func (r *Run) askClock(ctx context.Context) (at time.Time, err error) {
	key := r.Table + "/" + clockKey
	if err := r.opts.Store.Put(ctx, key, []byte("vacuum asks what time it is\n")); err != nil {
		return at, err
	}
	if at, err = Last(ctx, r.opts.Store, r.Table); err == nil && at.IsZero() {
		err = fmt.Errorf("%w: %s, which was just put", store.ErrNotFound, key)
	}
	return at, err
}

// readLog finds what the versions since the cutoff need.
func (r *Run) readLog(ctx context.Context) error {
	if err := r.table.Refresh(ctx); err != nil {
		return err
	}
	base, err := r.base(ctx)
	if err != nil {
		return err
	}
	if base.Metadata.ID != r.id {
		return fmt.Errorf("%w: table %s has been made anew meanwhile", ErrRefused, r.Table)
	}
	if err := r.check(base.Protocol); err != nil {
		return err
	}
	r.From, r.Version = base.Version, base.Version
	for _, f := range base.Files {
		if err := errors.Join(r.need(f.Path), r.needVector(f.Vector)); err != nil {
			return err
		}
	}
	for _, m := range base.Removed {
		if m.DeletionTimestamp != nil && *m.DeletionTimestamp > r.cutoff.UnixMilli() {
			if err := r.needRemoved(m.Path, m.Vector); err != nil {
				return err
			}
		}
	}
	return r.readOn(ctx)
}

// base is the newest version that is not after the cutoff, or the oldest one that can be replayed.
func (r *Run) base(ctx context.Context) (*history.State, error) {
	// gofail: var bugVacuumNewestOnly struct{}
	// return r.table.At(ctx, r.table.Newest(), history.Options{})
	v, err := r.table.VersionBefore(r.cutoff)
	if err == nil {
		s, err := r.table.At(ctx, v, history.Options{})
		if !errors.Is(err, history.ErrNoVersion) {
			return s, err
		}
	}
	if versions := r.table.Versions(); len(versions) > 0 && versions[0] == 0 {
		return r.table.At(ctx, 0, history.Options{})
	}
	for _, c := range r.table.Checkpoints() {
		s, err := r.table.At(ctx, c.Version, history.Options{})
		if !errors.Is(err, history.ErrNoVersion) {
			return s, err
		}
	}
	return nil, err
}

// readOn reads the commits after the last one that was read.
func (r *Run) readOn(ctx context.Context) error {
	for ; ; r.Version++ {
		m, err := r.table.Commit(ctx, r.Version+1)
		if errors.Is(err, history.ErrNoVersion) {
			break
		}
		if err != nil {
			return err
		}
		if err := r.take(m); err != nil {
			return err
		}
	}
	// Nothing is there under the next number. A log that has been cleaned past it looks the same.
	if err := r.table.Refresh(ctx); err != nil {
		return err
	}
	switch newest := r.table.Newest(); {
	case newest > r.Version && slices.Contains(r.table.Versions(), r.Version+1):
		return r.readOn(ctx) // committed between the two requests
	case newest != r.Version:
		return fmt.Errorf("%w: table %s: the log goes on at version %d, after %d", ErrRefused, r.Table, newest,
			r.Version)
	}
	return nil
}

// take keeps what a commit names.
func (r *Run) take(m *history.Commit) error {
	if m.Metadata != nil && m.Metadata.ID != r.id {
		return fmt.Errorf("%w: table %s has been made anew at version %d", ErrRefused, r.Table, m.Version)
	}
	if m.Metadata != nil {
		if asked, err := history.DeletedFileRetention(m.Metadata); err != nil || asked > r.Retention && !r.opts.Short {
			return fmt.Errorf("%w: table %s: its retention was changed at version %d", ErrRefused, r.Table, m.Version)
		}
	}
	if m.Protocol != nil {
		if err := r.check(m.Protocol); err != nil {
			return err
		}
	}
	var paths []string
	for i := range m.Adds {
		paths = append(paths, m.Adds[i].Path)
		if err := r.needVector(m.Adds[i].Vector); err != nil {
			return err
		}
	}
	for i := range m.Removes {
		if err := r.needRemoved(m.Removes[i].Path, m.Removes[i].Vector); err != nil {
			return err
		}
	}
	for _, p := range append(paths, m.Changes...) {
		if err := r.need(p); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) need(logPath string) error {
	key, err := history.Key(logPath)
	if err != nil {
		return fmt.Errorf("%w: table %s: %w", ErrRefused, r.Table, err)
	}
	r.needed[key] = true
	return nil
}

// needRemoved is need of a file that is not live any more, but was inside the retention.
func (r *Run) needRemoved(path string, v *history.Vector) error {
	// gofail: var bugVacuumForgetRemoved struct{}
	// return nil
	return errors.Join(r.need(path), r.needVector(v))
}

// needVector is need of the object of a deletion vector.
func (r *Run) needVector(v *history.Vector) error {
	if v == nil {
		return nil
	}
	// gofail: var bugVacuumVector struct{}
	// return nil
	key, err := v.Key()
	if err != nil {
		return fmt.Errorf("%w: table %s: %w", ErrRefused, r.Table, err)
	}
	if key != "" {
		r.needed[key] = true
	}
	return nil
}

// known are the features of writers and readers with which every object that a reader needs is named by the add, remove
// and cdc actions of the log, the deletion vectors of the first two among them.
var known = []string{"appendOnly", "deletionVectors", "invariants", "checkConstraints", "changeDataFeed",
	"generatedColumns", "columnMapping", "identityColumns", "rowTracking", "domainMetadata", "inCommitTimestamp",
	"typeWidening", "typeWidening-preview", "timestampNtz", "vacuumProtocolCheck", "checkpointProtection",
	"allowColumnDefaults", "clustering"}

func (r *Run) check(p *deltalog.Protocol) error {
	if p.MinReaderVersion > 3 || p.MinWriterVersion > 7 {
		return fmt.Errorf("%w: table %s has reader version %d and writer version %d", ErrRefused, r.Table,
			p.MinReaderVersion, p.MinWriterVersion)
	}
	for _, f := range slices.Concat(p.ReaderFeatures, p.WriterFeatures) {
		if !slices.Contains(known, f) {
			return fmt.Errorf("%w: table %s has the feature %s, which may keep objects that are not in the log",
				ErrRefused, r.Table, f)
		}
	}
	return nil
}

// Remove removes the objects of the run, a batch at a time, and looks at the log before each. It may be called again
// after an error. progress, if it is not nil, is called after each batch.
func (r *Run) Remove(ctx context.Context, progress func()) error {
	if !r.opts.Clock {
		return fmt.Errorf("%w: table %s: the store's clock was not asked", ErrRefused, r.Table)
	}
	look := r.readOn
	// gofail: var bugVacuumNoLook struct{}
	// look = func(context.Context) error { return nil }
	for r.next < len(r.Objects) {
		if err := look(ctx); err != nil {
			return err
		}
		var keys []string
		var batch, spared []Object
		next := r.next
		for ; next < len(r.Objects) && len(keys) < r.opts.Batch; next++ {
			if o := r.Objects[next]; r.keeps(&o) {
				spared = append(spared, o)
			} else {
				keys, batch = append(keys, o.Key), append(batch, o)
			}
		}
		if err := store.DeleteAll(ctx, r.opts.Store, keys); err != nil {
			return fmt.Errorf("vacuum: table %s: %w", r.Table, err)
		}
		r.next, r.Spared, r.Removed = next, append(r.Spared, spared...), append(r.Removed, batch...)
		if progress != nil {
			progress()
		}
	}
	if err := r.readOn(ctx); err != nil {
		return err
	}
	var back []string
	for _, o := range r.Removed {
		if r.needed[o.path] {
			back = append(back, o.Key)
		}
	}
	if len(back) > 0 {
		return fmt.Errorf("%w: %s", ErrTakenBack, strings.Join(back, ", "))
	}
	return nil
}
