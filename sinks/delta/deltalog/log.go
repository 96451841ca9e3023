package deltalog

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"golang.org/x/sync/semaphore"

	"deckle/sinks/delta/store"
)

// ErrClosed is returned by Submit after Close.
var ErrClosed = errors.New("delta: log is closed")

// Options of a Log. Store and Name are required.
type Options struct {
	Store store.Store
	Name  string // the table's folder in the store, e.g. "sessions"
	// Create is nil for a reader: nothing is written then.
	Create *Creation
	Node   string // only written into commitInfo
	// KeepFiles holds the live files in memory, KeepStats holds their statistics too.
	KeepFiles, KeepStats bool

	Now  func() time.Time // default time.Now
	Rand io.Reader        // unique ids; required for writers
	// Sleep waits between attempts; default a timer.
	Sleep  func(context.Context, time.Duration) error
	Logger *slog.Logger // default: discards
	// Metrics may be shared by tables; nil stands for metrics that are not registered.
	Metrics *Metrics

	// CheckpointInterval is the least number of commits from one checkpoint to the next, of a table that has no
	// property of its own for it; default 10. See the package's doc for when one is made.
	CheckpointInterval int
	LogRetention       time.Duration // where the table has no property for it; default 30 days
	// Codec compresses checkpoints; default snappy.
	Codec           compress.Codec
	CleanupInterval time.Duration // least time between two cleanups by this process; default 1 hour
	PutTimeout      time.Duration // for one request, see store.WithTimeouts; default 30 s

	inMemory int64 // bytes of a checkpoint that is held in memory; for tests
}

func (o *Options) complete() error {
	if o.Store == nil || o.Name == "" {
		return errors.New("delta: log needs a store and a name")
	}
	if err := store.CheckKey(o.Name); err != nil {
		return fmt.Errorf("delta: table name: %w", err)
	}
	if o.Create != nil && o.Rand == nil {
		return errors.New("delta: a writer needs a source of unique ids")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.CheckpointInterval <= 0 {
		o.CheckpointInterval = 10
	}
	if o.LogRetention <= 0 {
		o.LogRetention = defaultLogRetention
	}
	if o.Codec == nil {
		o.Codec = &snappy.Codec{}
	}
	if o.CleanupInterval <= 0 {
		o.CleanupInterval = time.Hour
	}
	if o.inMemory <= 0 {
		o.inMemory = inMemory
	}
	if o.PutTimeout <= 0 {
		o.PutTimeout = 30 * time.Second
	}
	// snapLock is held for as long as requests take: no request may last for ever.
	o.Store = store.WithTimeouts(o.Store, o.PutTimeout)
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Log is a handle on one table's log. A writer's methods are safe for concurrent use.
type Log struct {
	folder
	opts    Options
	metrics *Metrics

	// snapLock guards snap and listed. A commit holds it from beginning to end, and a wait for it ends with the
	// context of the waiting call, which is why it is no mutex.
	snapLock *semaphore.Weighted
	snap     *Snapshot
	listed   time.Time // the last time at which snap was certainly the newest version

	committer committer
	keeper    keeper
	checksums checksums
}

// Open reads the table's newest version, and makes the table if it is missing and opts.Create is set. A writer runs
// one goroutine until Close.
func Open(ctx context.Context, opts Options) (*Log, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	l := &Log{folder: folder{opts.Store, opts.Name + "/"}, opts: opts, metrics: opts.Metrics,
		snapLock: semaphore.NewWeighted(1)}
	err := l.refresh(ctx)
	if err != nil {
		return nil, err
	}
	if opts.Create == nil {
		return l, nil
	}
	txnID := ""
	if l.snap.Version < 0 {
		if txnID, err = l.create(ctx); err != nil {
			return nil, err
		}
	}
	l.start()
	if txnID != "" && l.snap.Version == 0 {
		l.checksum(txnID)
	}
	return l, nil
}

// create writes version 0, or accepts the one that another node has written meanwhile. It returns the id of the commit
// if it is the one written here.
func (l *Log) create(ctx context.Context) (txnID string, err error) {
	cr := l.opts.Create
	id, err := uuid.NewRandomFromReader(l.opts.Rand)
	if err != nil {
		return "", fmt.Errorf("delta: table id: %w", err)
	}
	now := l.opts.Now().UnixMilli()
	if txnID, err = l.uniqueID(); err != nil {
		return "", err
	}
	meta := &Metadata{
		ID: id.String(), Name: optional(l.name()), Description: optional(cr.Description),
		Format:           Format{Provider: "parquet", Options: map[string]string{}},
		SchemaString:     schemaString(slices.Concat(cr.Fields, cr.Later[:cr.NewLater]), cr.Comments),
		PartitionColumns: slices.Clone(cr.PartitionColumns),
		Configuration: map[string]string{
			ConfigClusterID: cr.ClusterID, ConfigPipeline: cr.Pipeline,
			"delta.dataSkippingStatsColumns": strings.Join(cr.StatsColumns, ","),
		},
		CreatedTime: &now,
	}
	info := &CommitInfo{Timestamp: now, Operation: "CREATE TABLE", OperationParameters: map[string]string{},
		IsBlindAppend: true, EngineInfo: engineInfo, TxnID: txnID, Node: l.opts.Node}
	protocol := &Protocol{MinReaderVersion: 1, MinWriterVersion: 2}
	if cr.InCommitTimestamps {
		protocol = stamped(meta, info)
	}
	body, err := encodeCommit(info, protocol, meta, nil, nil, nil)
	if err != nil {
		return "", err
	}
	won, err := l.put(ctx, 0, txnID, body)
	if err != nil {
		return "", fmt.Errorf("delta: create table %s: %w", l.name(), err)
	}
	if !won {
		txnID = ""
	}
	// This node or another one has written version 0: it is checked like any table.
	return txnID, l.refresh(ctx)
}

func (l *Log) uniqueID() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(l.opts.Rand, b[:]); err != nil {
		return "", fmt.Errorf("delta: unique id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// locked calls f with the current snapshot, and returns the table's properties.
func (l *Log) locked(ctx context.Context, f func(*Snapshot)) (properties, error) {
	if err := l.snapLock.Acquire(ctx, 1); err != nil {
		return properties{}, err
	}
	defer l.snapLock.Release(1)
	f(l.snap)
	return l.snap.properties, nil
}

// Refresh reads the commits that other writers have made since the current snapshot.
func (l *Log) Refresh(ctx context.Context) error {
	if err := l.snapLock.Acquire(ctx, 1); err != nil {
		return err
	}
	defer l.snapLock.Release(1)
	return l.refresh(ctx)
}

// View calls f with the current snapshot, which f must neither change nor keep. Files themselves are never changed,
// so f may keep those.
func (l *Log) View(f func(*Snapshot)) {
	_ = l.snapLock.Acquire(context.Background(), 1)
	defer l.snapLock.Release(1)
	f(l.snap)
}

// Rules are the rules of the version that has been read, or why nothing may be written to the table: then no row is
// judged, either.
func (l *Log) Rules() (r *Rules, err error) {
	l.View(func(s *Snapshot) { r, err = s.rules, s.checkTable(l.root, l.opts.Create) })
	return r, err
}

// ForeignColumns are the columns of the version that has been read which are none of this writer's.
func (l *Log) ForeignColumns() (names []string) {
	l.View(func(s *Snapshot) {
		var schema schemaStruct
		if s.Metadata == nil || json.Unmarshal([]byte(s.Metadata.SchemaString), &schema) != nil {
			return
		}
		known := slices.Concat(l.opts.Create.Fields, l.opts.Create.Later)
		for _, f := range schema.Fields {
			if !slices.ContainsFunc(known, func(k Field) bool { return k.Name == f.Name }) {
				names = append(names, f.Name)
			}
		}
	})
	return names
}

// Close fails the changes that wait for a commit, and waits for the commit and the checkpoint that have begun. Both are
// cancelled after two seconds, which is safe: whoever opens the table next finds what has become visible.
func (l *Log) Close() error {
	if l.opts.Create == nil {
		return nil
	}
	l.stop()
	return nil
}
