package delta

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/compress/uncompressed"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// Options of the Delta sink. Store, ClusterID and Pipeline are required, and so is EventSource if Events is set.
type Options struct {
	Store     store.Store
	ClusterID string
	Pipeline  string
	Node      string // only written into commitInfo
	// Level is the level at which tables are made that are missing; default level.First. A plan of a higher level adds
	// its columns first, one of a lower level writes files without them.
	Level level.Level

	// InCommitTimestamps makes tables that are missing with in-commit timestamps.
	InCommitTimestamps bool

	// DeletionVectors lets revisions hide the former images of a few rows of a large file by a deletion vector, instead
	// of writing the file anew.
	DeletionVectors bool
	// VectorsFrom is the size in bytes of the smallest file of which rows are hidden; default 8 MiB. Below 0: all.
	VectorsFrom int64
	// MostHidden is the share of a file's rows that is hidden at most, before it is written anew; default a tenth.
	MostHidden float64

	// Events keeps every raw event in the table events.
	Events bool
	// EventSource reads a shard's records again. It is called for each plan of which no buffer has all events.
	EventSource func(shard uint32) sinks.EventSource

	// Offer has what this node has staged in a turn committed together with what the others have; nil: this node
	// commits by itself.
	Offer Offerer
	// Offered is told what has become of each change that was offered, and OutcomeAlone for each commit that this node
	// has made by itself although there is an Offer; nil: nobody is. It must not wait.
	Offered func(table string, o deltalog.Outcome)

	// SessionsByBrand partitions the table sessions by opening_brand and session_date, where it is by session_date
	// otherwise. A table that is there must be partitioned so.
	SessionsByBrand bool

	Compression          string // zstd (default, level 1), snappy, none
	RevisionFilesPerPass int    // most files that one commit of revisions replaces; default 512
	// RevisionInterval is the time between two passes of revisions. They are put off by up to two of it while another
	// tool writes to the table; 0: they never are.
	RevisionInterval   time.Duration
	CheckpointInterval int   // commits, at least; default 10
	BufferMemoryBytes  int64 // encoded events of all shards that wait for a flush; default 256 MiB
	// FileBytes is about the size at which a data file is closed: encoded for events, as rows in memory for sessions;
	// default 64 MiB.
	FileBytes int64

	Now        func() time.Time // default time.Now
	Rand       io.Reader        // source of attempt and commit ids; default crypto/rand
	Logger     *slog.Logger     // default: discards
	Registerer prometheus.Registerer

	// largest is the size in bytes of the largest file that a revision rewrites, as its rows are held in memory;
	// default candidateLimit.
	largest int64
	// rangesFrom is the size in bytes of the smallest file in which revisions look for rows by ranges; default 1 MiB.
	// Below 0: all.
	rangesFrom int64
	// gatherFor is the constant, for tests that must not depend on how fast the machine is.
	gatherFor time.Duration
	// join says which rows of several plans stand in one file.
	join joinLimits
	// step, if set, is called before each step that a crash may interrupt; an error ends the call there. For tests.
	step func(name string) error
	// layout are the tables; nil: declared. For tests.
	layout *layout
	// sleep replaces the waits between attempts in tests.
	sleep func(context.Context, time.Duration) error
}

// joinLimits bound what is written as one file of the rows of several plans, beside FileBytes.
type joinLimits struct {
	// plan is the most bytes that a plan may have, in memory or encoded; default 16 MiB. Below 0: each plan has files
	// of its own.
	plan int64
	// groups is the most row groups that a file of events may have, each of which costs some 2 KiB of footer; default
	// 512. A file that has more by itself stays as it is.
	groups int
}

// requestTimeout bounds one request to the store, see store.WithTimeouts.
const requestTimeout = 30 * time.Second

func (o *Options) complete() error {
	switch {
	case o.Store == nil:
		return errors.New("delta: Options.Store is not set")
	case o.ClusterID == "" || o.Pipeline == "":
		return errors.New("delta: Options.ClusterID and Options.Pipeline must be set")
	case o.Events && o.EventSource == nil:
		return errors.New("delta: Options.EventSource is not set")
	}
	o.Store = store.WithTimeouts(o.Store, requestTimeout)
	if o.RevisionFilesPerPass <= 0 {
		o.RevisionFilesPerPass = 512
	}
	if o.BufferMemoryBytes <= 0 {
		o.BufferMemoryBytes = 256 << 20
	}
	if o.FileBytes <= 0 {
		o.FileBytes = 64 << 20
	}
	o.largest = cmp.Or(o.largest, candidateLimit(o.FileBytes))
	if o.rangesFrom < 0 {
		o.rangesFrom = 0
	} else {
		o.rangesFrom = cmp.Or(o.rangesFrom, 1<<20)
	}
	o.VectorsFrom, o.MostHidden = max(cmp.Or(o.VectorsFrom, 8<<20), 0), cmp.Or(o.MostHidden, 0.1)
	o.join.plan, o.join.groups = cmp.Or(o.join.plan, 16<<20), cmp.Or(o.join.groups, 512)
	o.Level = cmp.Or(o.Level, level.First)
	if o.SessionsByBrand {
		o.layout = cmp.Or(o.layout, byBrand)
	}
	o.layout = cmp.Or(o.layout, declared)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	o.Rand = &lockedReader{r: o.Rand}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.sleep == nil {
		o.sleep = sleep
	}
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	return nil
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lockedReader lets several goroutines read one source of randomness.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

func codec(name string) (compress.Codec, error) {
	switch name {
	case "", "zstd":
		return &zstd.Codec{Level: zstd.SpeedFastest}, nil
	case "snappy":
		return &snappy.Codec{}, nil
	case "none":
		return &uncompressed.Codec{}, nil
	}
	return nil, fmt.Errorf("delta: compression %q: want zstd, snappy or none", name)
}

// checkpointCodec is the codec of checkpoints: that of the data files, which every reader must know anyway. Without
// one it is snappy, as checkpoints are mostly text and held in memory while they are made.
func checkpointCodec(files compress.Codec) compress.Codec {
	if _, ok := files.(*uncompressed.Codec); ok {
		return &snappy.Codec{}
	}
	return files
}
