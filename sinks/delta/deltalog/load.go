package deltalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"deckle/sinks/delta/store"
)

const (
	logDir         = "_delta_log/"
	lastCheckpoint = logDir + "_last_checkpoint"
	checkpointExt  = ".checkpoint.parquet"
)

func (l *Log) commitKey(v int64) string { return fmt.Sprintf("%s%s%020d.json", l.root, logDir, v) }
func (l *Log) checkpointKey(v int64) string {
	return fmt.Sprintf("%s%s%020d%s", l.root, logDir, v, checkpointExt)
}

// logKind is what an object in the log folder is.
type logKind uint8

const (
	logOther logKind = iota
	logCommit
	logCheckpoint // classic, in one file
	logChecksum
)

// logName reads the version and the kind of an object in the log folder from its name.
func logName(name string) (version int64, kind logKind) {
	if len(name) < 21 {
		return 0, logOther
	}
	v, err := strconv.ParseUint(name[:20], 10, 63) // only digits: "+0000000000000000007" is no version
	if err != nil {
		return 0, logOther
	}
	switch name[20:] {
	case ".json":
		return int64(v), logCommit
	case checkpointExt:
		return int64(v), logCheckpoint
	case checksumExt:
		return int64(v), logChecksum
	}
	return 0, logOther
}

// listing is what the log folder holds.
type listing struct {
	commits     map[int64]bool
	checkpoints []listedCheckpoint // ascending; only classic single-file ones
	last        int64              // newest commit, -1 for none
}

type listedCheckpoint struct{ version, size int64 }

func (l *Log) list(ctx context.Context, startAfter string) (*listing, error) {
	ls := &listing{commits: map[int64]bool{}, last: -1}
	err := l.opts.Store.List(ctx, l.root+logDir, startAfter, func(info store.Info) error {
		switch v, kind := logName(strings.TrimPrefix(info.Key, l.root+logDir)); kind {
		case logCommit:
			ls.commits[v] = true
			ls.last = max(ls.last, v)
		case logCheckpoint:
			ls.checkpoints = append(ls.checkpoints, listedCheckpoint{v, info.Size})
		case logChecksum, logOther:
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("delta: table %s: %w", l.root, err)
	}
	return ls, nil
}

type lastCheckpointHint struct {
	Version       int64 `json:"version"`
	Size          int64 `json:"size"` // actions
	SizeInBytes   int64 `json:"sizeInBytes,omitempty"`
	NumOfAddFiles int64 `json:"numOfAddFiles,omitempty"`
	Parts         int64 `json:"parts,omitempty"` // set for a checkpoint in several files, which is not read here
}

// hint reads the version in _last_checkpoint. It returns -1 if the hint is missing, cannot be decoded, or names a
// checkpoint in several parts.
func (l *Log) hint(ctx context.Context) (int64, error) {
	data, err := l.opts.Store.Get(ctx, l.root+lastCheckpoint)
	if errors.Is(err, store.ErrNotFound) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("delta: table %s: %w", l.root, err)
	}
	h := lastCheckpointHint{Version: -1}
	if json.Unmarshal(data, &h) != nil || h.Version < 0 || h.Parts != 0 {
		return -1, nil
	}
	return h.Version, nil
}

// load replays the table from its newest readable checkpoint. The hint only shortens the listing.
func (l *Log) load(ctx context.Context) (*Snapshot, error) {
	start := l.opts.Now()
	hint, err := l.hint(ctx)
	if err != nil {
		return nil, err
	}
	if hint >= 0 {
		ls, err := l.list(ctx, fmt.Sprintf("%s%s%020d", l.root, logDir, hint))
		if err != nil {
			return nil, err
		}
		if len(ls.checkpoints) > 0 {
			s, err := l.replay(ctx, ls)
			if err == nil {
				l.listed = start
				return s, nil
			}
			if _, ok := errors.AsType[*CorruptionError](err); !ok {
				return nil, err
			}
			l.opts.Logger.Warn("delta: the newest checkpoint cannot be used, looking for older ones", "table", l.root,
				"error", err)
		}
	}
	ls, err := l.list(ctx, "")
	if err != nil {
		return nil, err
	}
	s, err := l.replay(ctx, ls)
	if err == nil {
		l.listed = start
	}
	return s, err
}

// replay tries the checkpoints of a listing from the newest to the oldest, then version 0.
func (l *Log) replay(ctx context.Context, ls *listing) (*Snapshot, error) {
	if len(ls.commits) == 0 && len(ls.checkpoints) == 0 {
		return newSnapshot(&l.opts), nil
	}
	var firstErr error
	for i := len(ls.checkpoints) - 1; i >= -1; i-- {
		s := newSnapshot(&l.opts)
		var err error
		if i >= 0 {
			err = l.readCheckpoint(ctx, ls.checkpoints[i].version, s)
			s.checkpointSize = ls.checkpoints[i].size
		}
		for v := s.Version + 1; err == nil && v <= ls.last; v++ {
			if !ls.commits[v] {
				err = &CorruptionError{Key: l.commitKey(v), Err: errors.New("commit is missing")}
			}
		}
		if err == nil {
			err = l.readCommits(ctx, s.Version+1, ls.last, func(c *commit) { s.apply(c) })
		}
		if err == nil {
			return s, nil
		}
		if _, ok := errors.AsType[*CorruptionError](err); !ok {
			return nil, err
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return nil, firstErr
}

// readAhead is how many commits are read at a time.
const readAhead = 16

// readCommits calls yield for the commits from one version to another, in their order. They are read several at a time:
// the tail of a log may have many, and each takes a round trip to the store.
func (l *Log) readCommits(ctx context.Context, from, to int64, yield func(*commit)) error {
	for ; from <= to; from += readAhead {
		n := int(min(readAhead, to-from+1))
		commits := make([]*commit, n)
		g, ctx := errgroup.WithContext(ctx)
		for i := range n {
			g.Go(func() (err error) {
				commits[i], err = l.readCommit(ctx, from+int64(i))
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for _, c := range commits {
			yield(c)
		}
	}
	return nil
}

func (l *Log) readCommit(ctx context.Context, v int64) (*commit, error) {
	data, err := l.opts.Store.Get(ctx, l.commitKey(v))
	if err != nil {
		return nil, err
	}
	return parseCommit(l.commitKey(v), data)
}

// settleNames is called after commits up to version v have been read and before the writer relies on them. The writer
// acknowledges plans by what it has read there, so those commits must survive a power cut, even if the process that
// wrote them died before it made them durable.
func (l *Log) settleNames(ctx context.Context, v int64) error {
	if l.opts.Create == nil {
		return nil
	}
	return store.SyncNames(ctx, l.opts.Store, l.commitKey(v))
}

// relistAfter bounds the age of the last reading of the folder for which a missing next commit means that there is none
// yet. After a longer time the log may have been cleaned past this snapshot, and a missing next version may be one that
// was written and deleted.
const relistAfter = time.Hour

// stale reports whether the snapshot is too old for a commit to be built on it, by the monotonic or the wall clock: the
// monotonic clock stands still while a machine sleeps, and the wall clock may have been set back.
func (l *Log) stale() bool {
	now := l.opts.Now()
	return now.Sub(l.listed) >= relistAfter || now.Round(0).Sub(l.listed.Round(0)) >= relistAfter
}

// refresh brings the snapshot up to the newest commit, by reading commits until one is missing. The caller holds
// snapLock.
func (l *Log) refresh(ctx context.Context) error {
	if l.snap == nil || l.snap.Version < 0 || l.stale() {
		s, err := l.load(ctx)
		if err == nil && s.Version >= 0 {
			err = l.settleNames(ctx, s.Version)
		}
		if err != nil {
			return err
		}
		return l.adopt(s)
	}
	for {
		start := l.opts.Now()
		c, err := l.readCommit(ctx, l.snap.Version+1)
		if errors.Is(err, store.ErrNotFound) {
			l.listed = start
			return l.adopt(l.snap)
		}
		if err == nil {
			err = l.settleNames(ctx, l.snap.Version+1)
		}
		if err != nil {
			return err
		}
		l.snap.apply(c)
	}
}

// adopt makes s the current snapshot, and then does the checks of invariant 6.
func (l *Log) adopt(s *Snapshot) error {
	l.snap = s
	l.metrics.version.WithLabelValues(l.name()).Set(float64(s.Version))
	if s.Version < 0 {
		return nil
	}
	return s.checkTable(l.root, l.opts.Create)
}
