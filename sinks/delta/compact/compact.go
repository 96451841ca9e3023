package compact

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parquet-go/parquet-go"

	"deckle/sinks"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// Errors that say why files are left alone.
var (
	// ErrForeign says that a file has columns that neither this binary nor the table's schema has.
	ErrForeign = errors.New("compact: the file has columns that are neither Deckle's nor the table's")
	// ErrUnlike says that a file stores a column of another tool in another way than the files of its job that were
	// read before it.
	ErrUnlike = errors.New("compact: a column of another tool is stored in another way than in other files")
	// ErrTwice says that a row stands twice in the files: somebody has to look at that before they are merged.
	ErrTwice = errors.New("compact: a row stands twice")
	// ErrNoGain says that the rows would need as many files as they have.
	ErrNoGain = errors.New("compact: as many files as before")
)

// Rows is what this package has to know of the rows of a table. A row has one value for each column of the newest
// level, in the order of the files; null for a column that its file does not have. Behind them stand the values of the
// columns of others that its file has, in the order of these columns in the new files; a value of such a column may be
// of any kind, and a column may have several.
type Rows interface {
	// Compare orders rows as files are sorted. Two different rows are never equal.
	Compare(a, b parquet.Row) int
	// Begin begins the merge of some files.
	Begin() Merge
}

// Merge reads the files of one job, and writes files with the columns of all of them. A value that a file does not
// have is null.
type Merge interface {
	// Read decodes a data file and calls yield for each row, which is valid only during the call. After ErrForeign and
	// ErrUnlike, which concern the file, it has not been called, and the merge goes on without the file.
	Read(key string, data []byte, yield func(parquet.Row) error) error
	// Encode begins a new data file. No more files are read after the first call.
	Encode(w io.Writer) Encoder
}

// Encoder writes one data file.
type Encoder interface {
	Write(rows []parquet.Row) error
	// Flush ends a row group.
	Flush() error
	// Close ends the file and returns its statistics, as they stand in add.stats.
	Close() (stats string, err error)
}

// Options of a Compactor. Log, Rows, Store, FS, Dir and Rand are required.
type Options struct {
	Log   *deltalog.Log // opened with KeepFiles, as a writer; closed by Close
	Table string        // its folder
	// Columns are those of the partitions, as in deltalog.Creation; the last one is a date.
	Columns []string
	Rows    Rows
	Store   store.Store
	// FS and Dir are where rows wait that do not fit into memory. The folder is this Compactor's alone: what is in it
	// is removed when it begins and ends.
	FS  vfs.FS
	Dir string

	// Settle is how old a file must be, so that hardly any revision wants it any more; default 2 minutes.
	Settle time.Duration
	// Closed is how long after its end a date is closed: its files become cold; default 7 days.
	Closed time.Duration
	// HotBytes and ColdBytes are about the sizes at which a file is ended, of a date that is open or closed; default
	// 32 MiB and 256 MiB. A file of half of that is left as it is.
	HotBytes, ColdBytes int64
	// JobBytes is how much is merged at once, as it is stored: it bounds the room on disk; default 512 MiB.
	JobBytes int64
	// JobFiles is how many files are merged at once, 4 or more; default 256. A job that takes minutes is ended by the
	// next restart or change of leader, and has to begin again with still more files.
	JobFiles int
	// MemoryBytes is how much of the rows are held at once, about; default 64 MiB. One file of at most half of
	// ColdBytes, and a row group of the new file, are held besides.
	MemoryBytes int64
	// StagedLife is how old a staged file may be when it is committed; default 24 hours.
	StagedLife time.Duration

	// Wait is called before so many bytes are read or written, and returns when they may be; nil: at once.
	Wait    func(ctx context.Context, bytes int64) error
	Now     func() time.Time // default time.Now
	Rand    io.Reader        // source of names
	Logger  *slog.Logger     // default: discards
	Metrics *Metrics
}

func (o *Options) complete() error {
	if o.Log == nil || o.Rows == nil || o.Store == nil || o.FS == nil || o.Dir == "" || o.Rand == nil ||
		o.Table == "" || len(o.Columns) == 0 {
		return errors.New("compact: Options.Log, Table, Columns, Rows, Store, FS, Dir and Rand must be set")
	}
	o.Settle = cmp.Or(o.Settle, 2*time.Minute)
	o.Closed = cmp.Or(o.Closed, 7*24*time.Hour)
	o.HotBytes, o.ColdBytes = cmp.Or(o.HotBytes, 32<<20), cmp.Or(o.ColdBytes, 256<<20)
	o.JobBytes, o.MemoryBytes = cmp.Or(o.JobBytes, 512<<20), cmp.Or(o.MemoryBytes, 64<<20)
	o.JobFiles = max(cmp.Or(o.JobFiles, 256), leastFiles)
	o.StagedLife = cmp.Or(o.StagedLife, 24*time.Hour)
	if o.Wait == nil {
		o.Wait = func(ctx context.Context, _ int64) error { return ctx.Err() }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return nil
}

// Compactor compacts one table. Its methods are for one goroutine.
type Compactor struct {
	opts Options
	left map[string]leftFile // by path
}

// leftFile is a file that cannot be compacted, or not now.
type leftFile struct {
	since time.Time
	why   error
}

// leaveFor is how long a file is left alone before it is tried again.
const leaveFor = 24 * time.Hour

// New returns a Compactor of a table.
func New(opts Options) (*Compactor, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	return &Compactor{opts: opts, left: map[string]leftFile{}}, nil
}

// Files returns how many files were live when the log was last read.
func (c *Compactor) Files() (n int) {
	c.opts.Log.View(func(s *deltalog.Snapshot) { n = s.Len() })
	return n
}

// Close closes the log and removes what is left on disk.
func (c *Compactor) Close() error {
	return errors.Join(c.opts.Log.Close(), c.opts.FS.RemoveAll(c.opts.Dir))
}

// Result is what one job has done.
type Result struct {
	Table     string `json:"table"`
	Partition string `json:"partition"`
	Cold      bool   `json:"cold"`
	Removed   int    `json:"files_removed"`
	Added     int    `json:"files_added"`
	Read      int64  `json:"bytes_removed"`
	Written   int64  `json:"bytes_added"`
	Rows      int64  `json:"rows"`
	Why       string `json:"left_alone,omitempty"` // why the job's files, or some of them, were left alone
}

// maxTries is how often a job is begun anew in a round, because files of it are gone.
const maxTries = 3

// Round compacts until nothing is left to do, and tells of each job. What could not be done, because others wanted the
// same files, waits for the next round. An error ends the round; what was done before stands.
func (c *Compactor) Round(ctx context.Context, done func(Result)) error {
	if err := c.clean(); err != nil {
		return err
	}
	passed := map[string]bool{} // partitions that wait for the next round
	for {
		jobs, err := c.Plan(ctx)
		if err != nil {
			return err
		}
		did := false
		for _, j := range jobs {
			if passed[j.Partition] {
				continue
			}
			r, err := c.Do(ctx, j)
			if err != nil {
				return err
			}
			if r.Removed == 0 && r.Why == "" {
				passed[j.Partition] = true
			} else {
				did = true
			}
			if done != nil {
				done(r)
			}
		}
		if !did {
			return nil
		}
	}
}

func (c *Compactor) clean() error {
	fs := c.opts.FS
	if err := fs.RemoveAll(c.opts.Dir); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	if err := fs.MkdirAll(c.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	return nil
}

// Do does a job. If files of it are gone, it goes on with the others; a result without files says that too few were
// left, or that they are left alone from now on.
func (c *Compactor) Do(ctx context.Context, j Job) (Result, error) {
	start := c.opts.Now()
	r, err := c.do(ctx, j)
	c.opts.Metrics.done(c.opts.Table, &r, err, len(c.left), c.opts.Now().Sub(start))
	return r, err
}

func (c *Compactor) do(ctx context.Context, j Job) (Result, error) {
	r := Result{Table: c.opts.Table, Partition: j.Partition, Cold: j.Cold}
	for range maxTries {
		if j.Files = c.standing(j.Files); len(j.Files) < j.least() {
			return r, nil
		}
		adds, rows, err := c.merge(ctx, &j, &r)
		if err == nil && len(adds) >= len(j.Files) && !j.hidden {
			err = ErrNoGain
		}
		if err == nil {
			err = c.commit(ctx, &j, adds, rows)
		}
		switch {
		case errors.Is(err, errFew):
			return r, nil
		case err == nil:
			r.Removed, r.Added, r.Read, r.Rows = len(j.Files), len(adds), j.Bytes(), rows
			for i := range adds {
				r.Written += adds[i].Size
			}
			return r, nil
		case errors.Is(err, deltalog.ErrRebuild):
			if err := c.opts.Log.Refresh(ctx); err != nil {
				return r, err
			}
		case c.leaves(j.Files, err):
			r.Why = err.Error()
			return r, nil
		default:
			return r, fmt.Errorf("compact: table %s, %s: %w", c.opts.Table, j.Partition, err)
		}
	}
	return r, nil
}

// fileError is an error that concerns one file.
type fileError struct {
	path string
	err  error
}

func (e *fileError) Error() string { return e.path + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// leaves notes the files that an error concerns as to be left alone. It returns false for an error that says nothing
// about them.
func (c *Compactor) leaves(files []*deltalog.File, err error) bool {
	_, corrupt := errors.AsType[*deltalog.CorruptionError](err)
	_, stop := errors.AsType[*sinks.StopError](err)
	one, of := errors.AsType[*fileError](err)
	now := c.opts.Now()
	switch {
	case of && (corrupt || stop || errors.Is(err, ErrForeign) || errors.Is(err, ErrUnlike)):
		c.left[one.path] = leftFile{now, err}
	case errors.Is(err, ErrTwice), errors.Is(err, ErrNoGain):
		for _, f := range files {
			c.left[f.Path] = leftFile{now, err}
		}
	default:
		return false
	}
	c.opts.Logger.Warn("delta: files are left as they are", "table", c.opts.Table, "error", err)
	return true
}

// standing returns the files that are live.
func (c *Compactor) standing(files []*deltalog.File) (live []*deltalog.File) {
	c.opts.Log.View(func(s *deltalog.Snapshot) {
		for _, f := range files {
			if s.Live(f) {
				live = append(live, f)
			}
		}
	})
	return live
}

// errStaged says that a job took too long between staging and its commit.
var errStaged = errors.New("compact: the new files were staged too long ago")

func (c *Compactor) commit(ctx context.Context, j *Job, adds []deltalog.Add, rows int64) error {
	for i := range adds {
		if at := time.UnixMilli(adds[i].ModificationTime); c.opts.Now().Sub(at) > c.opts.StagedLife {
			return errStaged
		}
	}
	change := &deltalog.Change{Rearrange: true, Adds: adds, Rows: rows, Operation: "OPTIMIZE"}
	for _, f := range j.Files {
		change.Remove(f)
	}
	// gofail: var bugCompactTwice struct{}
	// if len(change.Removes) > 1 { // or one file with hidden rows would be compacted without end
	// 	change.Removes = change.Removes[1:]
	// }
	err := c.opts.Log.Submit(ctx, change)
	// gofail: var deltaCompacted struct{}
	return err
}

// errFew says that hardly a file is left of a job, because the others are left alone.
var errFew = errors.New("compact: too few files are left")

// merge writes the rows of a job's files, sorted, as new files, and returns their add actions. Files that are unlike
// the others are left alone and taken out of the job, of which the result says so.
func (c *Compactor) merge(ctx context.Context, j *Job, r *Result) (adds []deltalog.Add, rows int64, err error) {
	s := &sorter{fs: c.opts.FS, dir: c.opts.Dir, limit: c.opts.MemoryBytes, compare: c.opts.Rows.Compare}
	defer func() { err = errors.Join(err, s.close()) }()
	m := c.opts.Rows.Begin()
	for _, f := range slices.Clone(j.Files) {
		err := c.read(ctx, f, m, s)
		if errors.Is(err, ErrUnlike) && c.leaves(nil, err) {
			r.Why = err.Error()
			j.Files = slices.DeleteFunc(j.Files, func(o *deltalog.File) bool { return o == f })
			continue
		}
		if err != nil {
			return nil, 0, err
		}
	}
	if len(j.Files) < j.least() {
		return nil, 0, errFew
	}
	// gofail: var deltaCompactRead struct{}
	o := &output{c: c, ctx: ctx, j: j, merge: m, tags: deltalog.TagsOf(deltalog.MergeOrigins(j.Files...))}
	defer o.abandon()
	if err := s.sorted(o.add); err != nil {
		return nil, 0, err
	}
	if err := o.end(); err != nil {
		return nil, 0, err
	}
	if o.rows != s.rows {
		return nil, 0, fmt.Errorf("compact: %d rows became %d", s.rows, o.rows)
	}
	return o.adds, o.rows, nil
}

// read hands the rows of a file to the sorter.
func (c *Compactor) read(ctx context.Context, f *deltalog.File, m Merge, s *sorter) error {
	damaged := func(err error) error {
		return &fileError{f.Path, &deltalog.CorruptionError{Key: c.opts.Table + "/" + f.Path, Err: err}}
	}
	name, err := deltalog.Key(f.Path)
	if err != nil {
		return damaged(err)
	}
	if err := c.opts.Wait(ctx, f.Size); err != nil {
		return err
	}
	key := c.opts.Table + "/" + name
	// What a deletion vector hides is left behind: the readers' rows stay the same.
	hidden, err := deletionvector.Read(ctx, c.opts.Store, c.opts.Table, f.Vector)
	var data []byte
	if err == nil {
		data, err = c.opts.Store.Get(ctx, key)
	}
	if _, ok := errors.AsType[*deletionvector.DamageError](err); ok || errors.Is(err, deletionvector.ErrElsewhere) {
		return damaged(err)
	}
	if errors.Is(err, store.ErrNotFound) {
		if err := c.opts.Log.Refresh(ctx); err != nil {
			return err
		}
		if len(c.standing([]*deltalog.File{f})) == 0 {
			return fmt.Errorf("%w: %s is gone", deltalog.ErrRebuild, f.Path)
		}
		return damaged(err)
	}
	if err != nil {
		return err
	}
	if int64(len(data)) != f.Size {
		return damaged(fmt.Errorf("%d bytes, the log says %d", len(data), f.Size))
	}
	sieve := deletionvector.NewSieve(hidden)
	var spill error // an error of the disk says nothing about the file
	err = m.Read(key, data, func(r parquet.Row) error {
		seen := sieve.Next()
		// gofail: var bugCompactHidden struct{}
		// seen = true
		if !seen {
			return nil
		}
		spill = s.add(r)
		return spill
	})
	switch {
	case spill != nil:
		return spill
	case err != nil:
		return &fileError{f.Path, err}
	case f.NumRecords >= 0 && sieve.N() != f.NumRecords:
		return damaged(fmt.Errorf("%d rows, the log says %d", sieve.N(), f.NumRecords))
	}
	if err := sieve.End(); err != nil {
		return damaged(err)
	}
	return nil
}

const (
	groupBytes = 64 << 20 // about the size of a row group's rows in memory
	writeRows  = 64
)

// output ends a file at about the size of its tier and puts it into the store.
type output struct {
	c     *Compactor
	ctx   context.Context
	j     *Job
	merge Merge
	tags  map[string]string

	file  vfs.File
	size  int64 // bytes of the file that have been written
	e     Encoder
	group int64 // bytes of the rows of the row group, about
	chunk []parquet.Row
	last  parquet.Row

	rows int64
	adds []deltalog.Add
}

// Write implements io.Writer for the encoder.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	o.size += int64(n)
	return n, err
}

func (o *output) name() string { return o.c.opts.FS.PathJoin(o.c.opts.Dir, "out") }

// add takes the next row, which must stay as it is until the call after the next one has returned, and those of a
// chunk until they are written.
func (o *output) add(r parquet.Row) error {
	if o.last != nil && o.c.opts.Rows.Compare(o.last, r) == 0 {
		return ErrTwice
	}
	o.last = r
	if o.e == nil {
		var err error
		if o.file, err = o.c.opts.FS.Create(o.name(), vfs.WriteCategoryUnspecified); err != nil {
			return fmt.Errorf("compact: %w", err)
		}
		o.size, o.group, o.e = 0, 0, o.merge.Encode(o)
	}
	o.chunk, o.group, o.rows = append(o.chunk, r), o.group+sizeOf(r), o.rows+1
	if len(o.chunk) < writeRows {
		return nil
	}
	if err := o.write(); err != nil {
		return err
	}
	// The encoder holds what it has of a row group: the file's size is known at the end of one.
	if o.group >= min(groupBytes, 4*o.j.most) {
		if err := o.e.Flush(); err != nil {
			return fmt.Errorf("compact: encode: %w", err)
		}
		if o.group = 0; o.size >= o.j.most {
			return o.end()
		}
	}
	return nil
}

func (o *output) write() error {
	err := o.e.Write(o.chunk)
	clear(o.chunk)
	o.chunk = o.chunk[:0]
	if err != nil {
		return fmt.Errorf("compact: encode: %w", err)
	}
	return nil
}

// end puts the file that is open, if one is.
func (o *output) end() error {
	if o.e == nil {
		return nil
	}
	if err := o.write(); err != nil {
		return err
	}
	stats, err := o.e.Close()
	if err != nil {
		return fmt.Errorf("compact: encode: %w", err)
	}
	o.e = nil
	if err := o.file.Close(); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	o.file = nil
	return o.put(stats)
}

// put copies the finished file to the store, under a name that only this put uses.
func (o *output) put(stats string) error {
	opts := &o.c.opts
	var id [8]byte
	if _, err := io.ReadFull(opts.Rand, id[:]); err != nil {
		return fmt.Errorf("compact: name of a file: %w", err)
	}
	p := path.Join(deltalog.Folder(opts.Columns, o.j.Partition), "part-compact-"+hex.EncodeToString(id[:])+".parquet")
	if err := opts.Wait(o.ctx, o.size); err != nil {
		return err
	}
	staged := opts.Now() // before the put, see Options.StagedLife
	err := opts.Store.PutStreamIfAbsent(o.ctx, opts.Table+"/"+p, o.size, func(w io.Writer) error {
		f, err := opts.FS.Open(o.name(), vfs.SequentialReadsOption)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return fmt.Errorf("compact: data file: %w", err)
	}
	// gofail: var deltaCompactStaged struct{}
	o.adds = append(o.adds, deltalog.Add{Path: p, PartitionValues: o.j.values(opts.Columns),
		Size: o.size, ModificationTime: staged.UnixMilli(), DataChange: false, Stats: stats, Tags: o.tags})
	return nil
}

// abandon closes a file that has not been ended.
func (o *output) abandon() {
	if o.file != nil {
		_ = o.file.Close() // it is removed with the folder
	}
}
