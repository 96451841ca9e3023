package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema/level"
)

// Options of a Store. FS and Dir are required.
type Options struct {
	FS  vfs.FS
	Dir string // the shard's Pebble folder; it is created if it is missing. Restore uses Dir+".old", too
	// CacheBytes is the size of Pebble's block cache; default 16 MiB. It is ignored if Cache is given.
	CacheBytes int64
	// Cache is a block cache that is shared with other shards.
	Cache *pebble.Cache
	// SessionMemoryBytes is what sessions may take in memory after a checkpoint; default 128 MiB. Sessions that changed
	// since the last Cut always stay in memory, so the bytes of one epoch come on top.
	SessionMemoryBytes int64
	// segmentBytes is the size at which a session's events become a segment; the constant of that name if it is 0. All
	// replicas of a shard must have the same. Tests make it small.
	segmentBytes int
	stay         int64 // instead of longestStay, in seconds, for tests
	// CheckpointBytes is how much may change before a checkpoint is made; default 32 MiB. It bounds the batch, the
	// memory, and the entries that are applied again after a restart.
	CheckpointBytes int64
	// Room, if set, returns why a checkpoint that would write about so many bytes should wait, nil if it may be made.
	// Checkpoint asks it, and returns what it says; what Apply and Snapshot need is made all the same.
	Room   func(bytes int64) error
	Logger *slog.Logger
	// OnFatal is called with every error of Pebble's background work, and with a *DamageError for every damaged file,
	// whichever method met it. The store is unusable then. OnFatal may be called while the store's lock is held, and
	// more than once.
	OnFatal func(error)
	// Applied, if set, is called with each entry that has been applied and with its result, so that a test can work out
	// from the log alone what must have come of it. It must not keep data, nor call the store.
	Applied func(index uint64, data []byte, result any)
}

// Store is the state machine of one shard, stored in Pebble. Apply, Checkpoint, Snapshot, Restore and Close exclude
// each other. Any goroutine may call View, Session, Rollups and OpenPlan beside them. These wait for the call that is
// under way, which may take seconds (the Cut of a million sessions). Peek and Metrics do not wait.
type Store struct {
	opts Options
	log  *slog.Logger

	mu   sync.RWMutex
	db   *pebble.DB
	meta meta

	sessions  map[string]*session // live sessions in memory
	purgedIDs map[string]struct{} // ids purged since the last checkpoint, which Pebble still shows as live
	live      liveIDs             // of all live sessions, in memory or not
	changed   []*session          // sessions that changed since the last Cut
	// images has the images of the epoch that the entry under way has closed, for the checkpoint that follows. At all
	// other times it is nil.
	images *pebble.Batch
	memory int64

	newTimers   timerHeap             // timers set since the last checkpoint
	timerCursor [numTimerKinds][]byte // timer keys of Pebble before it have been dealt with since the last checkpoint
	timerNext   [numTimerKinds]int64  // deadline of the first timer key at or after the cursor; -1 if unknown

	rollups      map[string]*rollup
	moved        []string // keys of the rollups that the Cut under way has moved
	droppedDates []dates  // whose rollups were dropped since the last checkpoint

	open           EpochInfo // the open epoch so far
	letters        []DeadLetter
	pendingDeletes map[string]struct{} // keys to delete at the next checkpoint
	pendingRanges  map[string]struct{} // beginnings of keys (appendSegments): all of these are deleted, too
	garbage        map[garbageKey]uint64
	newGarbage     []garbageKey // garbage that came since the last checkpoint
	oldGarbage     []garbageKey
	dirtyBytes     int64

	readers suppressedReaders

	recent atomic.Pointer[View] // as of the latest entry that was applied, for Peek
	handle sync.RWMutex         // held while db changes, for those that read db without mu

	plans openPlans
	// sessions that were brought to memory or changed, and may have to leave it at the next checkpoint
	evictCandidates []*session
	durable         durableIndex

	batch   BatchEntry
	scratch event.BatchScratch
	visited []*session // the sessions of the batch under way, by their numbers in it
	keyBuf  []byte
	valBuf  []byte
}

// Open opens the shard's store, creates it if it is missing, and ends a Restore that was interrupted. The state is that
// of the last checkpoint: the caller applies the log from the entry after Applied on.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if opts.CacheBytes <= 0 {
		opts.CacheBytes = 16 << 20
	}
	if opts.SessionMemoryBytes <= 0 {
		opts.SessionMemoryBytes = 128 << 20
	}
	if opts.CheckpointBytes <= 0 {
		opts.CheckpointBytes = 32 << 20
	}
	if opts.segmentBytes <= 0 {
		opts.segmentBytes = segmentBytes
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{opts: opts, log: opts.Logger}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := finishRestore(opts.FS, opts.Dir); err != nil {
		return nil, err
	}
	if err := s.openDB(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) openDB() error {
	cache := s.opts.Cache
	if cache == nil {
		cache = pebble.NewCache(s.opts.CacheBytes)
		defer cache.Unref()
	}
	db, err := pebble.Open(s.opts.Dir, s.pebbleOptions(cache))
	if err != nil {
		return fmt.Errorf("state: opening %s: %w", s.opts.Dir, damagedAtOpen(s.opts.Dir, err))
	}
	s.setDB(db)
	if err := s.load(); err != nil {
		return errors.Join(fmt.Errorf("state: loading %s: %w", s.opts.Dir, damaged(s.opts.Dir, err)), s.closeDB())
	}
	s.publish()
	return nil
}

func (s *Store) pebbleOptions(cache *pebble.Cache) *pebble.Options {
	var failed atomic.Bool
	fail := func(err error) {
		failed.Store(true)
		s.fatal(err)
	}
	o := &pebble.Options{
		FS:                 s.opts.FS,
		Cache:              cache,
		DisableWAL:         true, // the Raft log is the log
		FormatMajorVersion: formatPebble,
		MemTableSize:       16 << 20,
		// Every checkpoint flushes a small table that spans all keys, which is a level of its own to Pebble. At the
		// default of 4, most of the store would be rewritten every few epochs: with one epoch per second, that was
		// measured to take half of a node's CPU. At 16, half as much is written. Reads hardly notice, because what is
		// read often is in memory, and because of the Bloom filters.
		L0CompactionThreshold: 16,
		L0StopWritesThreshold: 48,
		Logger:                pebbleLogger{s.log},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				fail(fmt.Errorf("state: pebble background work in %s: %w", s.opts.Dir, damaged(s.opts.Dir, err)))
			},
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				fail(&DamageError{s.opts.Dir, fmt.Errorf("%s: %w", i.Path, i.Details)})
			},
		},
	}
	compression := pebble.DBCompressionFastest
	// What a checkpoint flushes is read by two sinks within seconds, and by the first compaction. Compressing it, and
	// decompressing it three times, costs more than writing two and a half times the bytes.
	compression.Levels[0] = pebble.DBCompressionNone.Levels[0]
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return compression })
	for i := range o.Levels {
		// A session's image takes about 2 KB. Blocks of 4 KB would hold one or two images, which compress worse and
		// cost more.
		o.Levels[i].BlockSize = 32 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		// A checkpoint should be one file or a few, not one for every 2 MB, because each file has its fsync.
		o.TargetFileSizes[i] = 32 << 20
	}
	o.Experimental.CompactionScheduler = newCompactions(&failed)
	return o
}

func (s *Store) fatal(err error) {
	s.log.Error("state store failed", "error", err)
	if s.opts.OnFatal != nil {
		s.opts.OnFatal(err)
	}
}

// load sets the memory to what the last checkpoint holds.
func (s *Store) load() error {
	s.meta = meta{Version: int(level.Store.At(level.First)), OpenEpoch: 1, stay: s.opts.stay}
	s.sessions = map[string]*session{}
	s.purgedIDs = map[string]struct{}{}
	s.changed, s.memory, s.images = nil, 0, nil
	s.rollups, s.moved, s.droppedDates = map[string]*rollup{}, nil, nil
	s.letters, s.dirtyBytes, s.evictCandidates = nil, 0, nil
	s.pendingDeletes, s.pendingRanges = map[string]struct{}{}, map[string]struct{}{}
	s.garbage, s.newGarbage, s.oldGarbage = map[garbageKey]uint64{}, nil, nil
	s.resetTimers()
	v, closer, err := s.db.Get(metaKey)
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("reading meta: %w", err)
	}
	if err == nil {
		err = json.Unmarshal(v, &s.meta)
		if err := errors.Join(err, closer.Close()); err != nil {
			return fmt.Errorf("%w: meta: %w", ErrCorrupt, err)
		}
		if err := checkVersion(level.Store, s.meta.Version); err != nil {
			return err
		}
	}
	if err := s.readers.load(s.db, &s.meta.Suppress); err != nil {
		return err
	}
	if s.live, err = loadLive(s.db, s.meta.Live); err != nil {
		return err
	}
	s.durable.reset(s.meta.Index)
	if s.meta.DeadLetters == nil {
		s.meta.DeadLetters = map[event.Reason]int64{}
	}
	if s.meta.Dates == nil {
		s.meta.Dates = map[int32]dateState{}
	}
	if s.meta.Refused == nil {
		s.meta.Refused = map[string]uint64{}
	}
	if s.open, err = readEpochInfo(s.db, s.meta.OpenEpoch); errors.Is(err, pebble.ErrNotFound) {
		s.open, err = s.newEpoch(), nil
	}
	if err != nil {
		return err
	}
	if err := s.loadGarbage(); err != nil {
		return err
	}
	return s.loadChanged()
}

// loadChanged brings the sessions that changed in the open epoch back to memory, because the Cut of that epoch writes
// all of them.
func (s *Store) loadChanged() error {
	from, to := epochPrefix(prefixImage, s.meta.OpenEpoch), afterEpoch(prefixImage, s.meta.OpenEpoch)
	return scan(s.db, from, to, func(k, v []byte) error {
		ss, err := s.meta.decodeStored(k, v)
		if err != nil {
			return err
		}
		ss.changed = true
		s.changed = append(s.changed, ss)
		s.updateMemory(ss)
		if !ss.purged {
			s.sessions[ss.id] = ss
		}
		return nil
	})
}

// Apply folds one committed Raft entry into the state. The result is *BatchResult, *CutResult, *PlanResult,
// *SkipResult, *EventsSkipResult, *SuppressResult or nil, depending on the kind of the entry, or the error value
// ErrNotConfigured if the entry came before the Config entry. An entry at or below the applied index is skipped. An
// error is fatal for the replica: I/O, damage (*DamageError) or divergence.
func (s *Store) Apply(index, term uint64, data []byte) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil, ErrClosed
	}
	if index <= s.meta.Index {
		return nil, nil
	}
	result, err := s.apply(data)
	if err != nil {
		return nil, fmt.Errorf("state: entry %d of shard %d: %w", index, s.meta.Config.Shard, damaged(s.opts.Dir, err))
	}
	s.meta.Index, s.meta.Term = index, term
	if s.opts.Applied != nil {
		s.opts.Applied(index, data, result)
	}
	defer s.publish()
	// A Cut and a forced horizon make a checkpoint of whatever there is: when nothing comes in, what was purged and
	// acknowledged must still leave the disk.
	cut, _ := result.(*CutResult)
	idle := (data[0] == kindCut || data[0] == kindHorizon || data[0] == kindLevel) && s.dirtyBytes > 0
	if cut != nil && cut.Epoch > 0 || idle || s.dirtyBytes >= s.opts.CheckpointBytes {
		if _, err := s.checkpoint(); err != nil {
			return nil, fmt.Errorf("state: checkpoint at entry %d of shard %d: %w",
				index, s.meta.Config.Shard, damaged(s.opts.Dir, err))
		}
	}
	return result, nil
}

func (s *Store) apply(data []byte) (any, error) {
	e, err := decodeEntry(data)
	if err != nil {
		return nil, err
	}
	if e.kind == kindConfig {
		s.configure(e.config)
		return nil, nil
	}
	if !s.meta.Configured {
		return ErrNotConfigured, nil
	}
	switch e.kind {
	case kindBatch:
		if err := decodeBatchEntry(data, &s.batch, &s.scratch); err != nil {
			return nil, err
		}
		return s.applyBatch(&s.batch)
	case kindCut:
		return s.applyCut(e)
	case kindLevel:
		return s.applyLevel(e)
	case kindRules:
		return s.applyRules(e)
	case kindSkip:
		return s.applySkip(&e.gap), nil
	case kindSkipEvents:
		return s.applySkipEvents(&e.gap)
	case kindSuppress:
		res, dirty := s.readers.change(&e.suppress, s.meta.level())
		s.dirtyBytes += dirty
		s.meta.Suppress = s.readers.stored()
		return res, nil
	case kindPartitions:
		s.dirtyBytes += 1 + int64(100*len(e.added.Starts))
		return s.meta.addPartitions(&e.added), nil
	case kindPlan:
		return s.applyPlan(e), nil
	case kindAck:
		return nil, s.applyAck(e)
	case kindRefuse:
		return nil, s.applyRefuse(e)
	default: // kindHorizon
		return nil, s.applyHorizon(e.horizon)
	}
}

func (s *Store) configure(c Config) {
	if s.meta.Configured {
		return
	}
	s.meta.Configured, s.meta.Config = true, c
	s.dirtyBytes++
	for _, p := range slices.Sorted(slices.Values(c.Partitions)) {
		s.meta.Partitions = append(s.meta.Partitions, PartitionStatus{Partition: p, LeaderEpoch: -1})
	}
	for i, o := range c.Starts {
		if i < len(s.meta.Partitions) {
			s.meta.Partitions[i].Next = o
		}
	}
}

// Applied returns the index and the term of the last entry that was applied.
func (s *Store) Applied() (index, term uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.meta.Index, s.meta.Term
}

// Close closes the store without a checkpoint, because the log has what the last checkpoint lacks. Plans that are open
// end with ErrClosed.
func (s *Store) Close() error {
	err := s.plans.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return err
	}
	return errors.Join(err, s.closeDB())
}

// pebbleLogger passes Pebble's messages on to slog. Fatalf does not end the process: Pebble calls it where it cannot go
// on, after BackgroundError has told the node, which ends the process.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug(fmt.Sprintf(format, args...), "part", "pebble")
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error(fmt.Sprintf(format, args...), "part", "pebble")
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.log.Error(fmt.Sprintf(format, args...), "part", "pebble")
	panic(fmt.Sprintf("pebble: "+format, args...))
}
