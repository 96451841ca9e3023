package deltalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"deckle/sinks/delta/store"
)

// folder is the log of a table as objects of a store.
type folder struct {
	store store.Store
	root  string // name and a slash
}

func (l *folder) name() string { return strings.TrimSuffix(l.root, "/") }

const (
	logDir         = "_delta_log/"
	lastCheckpoint = logDir + "_last_checkpoint"
	checkpointExt  = ".checkpoint.parquet"
	checksumExt    = ".crc"
)

func (l *folder) commitKey(v int64) string { return fmt.Sprintf("%s%s%020d.json", l.root, logDir, v) }
func (l *folder) checkpointKey(v int64) string {
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

func (l *folder) list(ctx context.Context, startAfter string) (*listing, error) {
	ls := &listing{commits: map[int64]bool{}, last: -1}
	err := l.store.List(ctx, l.root+logDir, startAfter, func(info store.Info) error {
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
func (l *folder) hint(ctx context.Context) (int64, error) {
	data, err := l.store.Get(ctx, l.root+lastCheckpoint)
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

var errMissing = errors.New("commit is missing")

// readAhead is how many commits are read at a time.
const readAhead = 16

// readCommits calls yield for the commits from one version to another, in their order. They are read several at a time:
// the tail of a log may have many, and each takes a round trip to the store.
func (l *folder) readCommits(ctx context.Context, from, to int64, yield func(*commit)) error {
	for ; from <= to; from += readAhead {
		n := int(min(readAhead, to-from+1))
		commits := make([]*commit, n)
		g, ctx := errgroup.WithContext(ctx)
		for i := range n {
			g.Go(func() (err error) {
				commits[i], err = l.readCommit(ctx, from+int64(i))
				if errors.Is(err, store.ErrNotFound) {
					err = &CorruptionError{Key: l.commitKey(from + int64(i)), Err: errMissing}
				}
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

func (l *folder) readCommit(ctx context.Context, v int64) (*commit, error) {
	data, err := l.store.Get(ctx, l.commitKey(v))
	if err != nil {
		return nil, err
	}
	c, err := parseCommit(l.commitKey(v), data)
	if err == nil {
		err = l.compare(ctx, c)
	}
	return c, err
}

// hasCheckpoint reports whether there is a checkpoint of the version in one file, and its size in bytes.
func (l *folder) hasCheckpoint(ctx context.Context, v int64) (size int64, found bool, err error) {
	key := l.checkpointKey(v)
	err = l.store.List(ctx, key, "", func(info store.Info) error {
		if info.Key == key {
			size, found = info.Size, true
		}
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("delta: table %s: %w", l.name(), err)
	}
	return size, found, nil
}

func (l *folder) checksumKey(v int64) string {
	return fmt.Sprintf("%s%s%020d%s", l.root, logDir, v, checksumExt)
}

// Key returns the key of a file of the log below the table's folder. A path in a log is a URL: percent-encoded, and
// perhaps absolute, for which there is an error, as such a file lies anywhere.
func Key(logPath string) (string, error) {
	if strings.HasPrefix(logPath, "/") || strings.Contains(logPath, "://") || strings.HasPrefix(logPath, "file:") {
		return "", fmt.Errorf("path %q is absolute", logPath)
	}
	key, err := url.PathUnescape(logPath)
	if err != nil {
		return "", fmt.Errorf("path %q: %w", logPath, err)
	}
	if key = path.Clean(key); key == "." || key == ".." || strings.HasPrefix(key, "../") {
		return "", fmt.Errorf("path %q is outside of the table", logPath)
	}
	return key, nil
}
