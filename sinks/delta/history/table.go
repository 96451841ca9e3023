package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

const (
	logDir   = "_delta_log/"
	hintName = "_last_checkpoint"
)

// Errors that callers act on.
var (
	// ErrNoTable says that there is no log below the name.
	ErrNoTable = errors.New("history: there is no such table")
	// ErrNoVersion says that a version does not exist yet, or cannot be read any more.
	ErrNoVersion = errors.New("history: there is no such version")
)

var errMissing = errors.New("commit is missing")

// Checkpoint is a checkpoint in one file or in several.
type Checkpoint struct {
	Version int64
	Parts   int // 0 for one in a single file
	Keys    []string
	Bytes   int64
	Written time.Time // the newest part, by the store's clock
}

// whole reports whether all parts are there.
func (c *Checkpoint) whole() bool { return c.Parts == 0 || len(c.Keys) == c.Parts }

// Table is the log of one table as it was listed. Its methods are safe for concurrent use, except Refresh.
type Table struct {
	st   store.Store
	root string // name and a slash

	commits     map[int64]store.Info
	versions    []int64      // of commits, ascending
	checkpoints []Checkpoint // ascending by version; a version may have several
	foreign     []string     // keys of checkpoints of other kinds (v2), ascending
}

// Open lists the log of the table in the folder name. Its error wraps ErrNoTable if there is none.
func Open(ctx context.Context, st store.Store, name string) (*Table, error) {
	if err := store.CheckKey(name); err != nil {
		return nil, fmt.Errorf("history: table name: %w", err)
	}
	t := &Table{st: st, root: name + "/"}
	if err := t.Refresh(ctx); err != nil {
		return nil, err
	}
	if len(t.versions) == 0 && len(t.checkpoints) == 0 && len(t.foreign) == 0 {
		return nil, fmt.Errorf("%w: %s in %s", ErrNoTable, name, st)
	}
	return t, nil
}

// Name is the table's folder.
func (t *Table) Name() string { return strings.TrimSuffix(t.root, "/") }

// Refresh lists the log again.
func (t *Table) Refresh(ctx context.Context) error {
	type id struct {
		version int64
		parts   int
	}
	commits, several := map[int64]store.Info{}, map[id]*Checkpoint{}
	var foreign []string
	err := t.st.List(ctx, t.root+logDir, "", func(info store.Info) error {
		name := strings.TrimPrefix(info.Key, t.root+logDir)
		version, rest, ok := cutVersion(name)
		if !ok {
			return nil
		}
		parts := 0
		switch dots := strings.Split(rest, "."); {
		case rest == ".json":
			commits[version] = info
			return nil
		case rest == ".checkpoint.parquet":
		case len(dots) == 5 && dots[1] == "checkpoint" && dots[4] == "parquet" && len(dots[2]) == 10:
			n, err := strconv.Atoi(dots[3])
			if err != nil || n <= 0 {
				return nil
			}
			parts = n
		case strings.HasPrefix(rest, ".checkpoint."):
			foreign = append(foreign, info.Key)
			return nil
		default:
			return nil
		}
		c := several[id{version, parts}]
		if c == nil {
			c = &Checkpoint{Version: version, Parts: parts}
			several[id{version, parts}] = c
		}
		c.Keys, c.Bytes = append(c.Keys, info.Key), c.Bytes+info.Size
		if info.Modified.After(c.Written) {
			c.Written = info.Modified
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("history: table %s: %w", t.Name(), err)
	}
	t.commits, t.versions, t.foreign = commits, slices.Sorted(maps.Keys(commits)), foreign
	t.checkpoints = t.checkpoints[:0:0]
	for _, c := range several {
		t.checkpoints = append(t.checkpoints, *c)
	}
	slices.SortFunc(t.checkpoints, func(a, b Checkpoint) int {
		if a.Version != b.Version {
			return int(min(1, max(-1, a.Version-b.Version)))
		}
		return b.Parts - a.Parts // the single file last: it is tried first
	})
	return nil
}

func cutVersion(name string) (version int64, rest string, ok bool) {
	if len(name) < 21 {
		return 0, "", false
	}
	v, err := strconv.ParseUint(name[:20], 10, 63)
	return int64(v), name[20:], err == nil
}

// Newest is the newest version, -1 if the table has none.
func (t *Table) Newest() int64 {
	newest := int64(-1)
	if n := len(t.versions); n > 0 {
		newest = t.versions[n-1]
	}
	if n := len(t.checkpoints); n > 0 {
		newest = max(newest, t.checkpoints[n-1].Version)
	}
	return newest
}

// Versions are the versions whose commits are in the log, ascending. The caller does not change them.
func (t *Table) Versions() []int64 { return t.versions }

// Checkpoints are the checkpoints in the log, ascending by version. The caller does not change them.
func (t *Table) Checkpoints() []Checkpoint { return t.checkpoints }

// Commit reads one version. Its error wraps ErrNoVersion if the commit is not in the log any more or not yet.
func (t *Table) Commit(ctx context.Context, v int64) (*Commit, error) {
	key := fmt.Sprintf("%s%s%020d.json", t.root, logDir, v)
	data, err := t.st.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		if len(t.versions) > 0 && t.versions[0] < v && v < t.Newest() {
			return nil, &deltalog.CorruptionError{Key: key, Err: errMissing}
		}
		return nil, fmt.Errorf("%w: version %d of %s: its commit is not in the log", ErrNoVersion, v, t.Name())
	}
	if err != nil {
		return nil, fmt.Errorf("history: table %s: %w", t.Name(), err)
	}
	c, err := ParseCommit(key, v, data)
	if err != nil {
		return nil, err
	}
	c.Written = t.commits[v].Modified
	return c, nil
}

// At is when a version became the newest: its in-commit timestamp if it has one, else when the store says that its
// object was written.
func (c *Commit) At() time.Time {
	if c.Info != nil && c.Info.InCommitTimestamp != 0 {
		return time.UnixMilli(c.Info.InCommitTimestamp).UTC()
	}
	return c.Written.UTC()
}

// VersionAt returns the newest version at a time: the last whose commit is not after it. Times are those of the objects
// by the store's clock, made ascending, or those in the commits if the table has them. Its error wraps ErrNoVersion if
// the time is before everything that is in the log.
func (t *Table) VersionAt(ctx context.Context, at time.Time) (int64, error) {
	inCommit, err := t.inCommitSince(ctx)
	if err != nil {
		return -1, err
	}
	plain := t.versions
	if i, _ := slices.BinarySearch(t.versions, inCommit); inCommit >= 0 {
		plain = t.versions[:i]
		// Those times only rise, so that a binary search finds the last one that is not after at.
		rest, low, high := t.versions[i:], 0, len(t.versions)-i
		for low < high {
			mid := (low + high) / 2
			c, err := t.Commit(ctx, rest[mid])
			if err != nil {
				return -1, err
			}
			if c.At().After(at) {
				high = mid
			} else {
				low = mid + 1
			}
		}
		if low > 0 {
			return rest[low-1], nil
		}
	}
	return t.before(plain, at)
}

// VersionBefore returns the newest version whose commit is not after a time, by the store's clock made ascending,
// whatever the commits say. Its error wraps ErrNoVersion if there is none in the log.
func (t *Table) VersionBefore(at time.Time) (int64, error) { return t.before(t.versions, at) }

func (t *Table) before(versions []int64, at time.Time) (int64, error) {
	found, latest := int64(-1), time.Time{}
	for _, v := range versions {
		if w := t.commits[v].Modified; w.After(latest) {
			latest = w
		}
		if latest.After(at) {
			break
		}
		found = v
	}
	if found < 0 {
		return -1, fmt.Errorf("%w: the log of %s does not go back to %s", ErrNoVersion, t.Name(),
			at.UTC().Format(time.RFC3339))
	}
	return found, nil
}

// inCommitSince is the first version that has an in-commit timestamp, -1 if the table has none.
func (t *Table) inCommitSince(ctx context.Context) (int64, error) {
	if len(t.versions) == 0 {
		return -1, nil
	}
	c, err := t.Commit(ctx, t.versions[len(t.versions)-1])
	if err != nil || c.Info == nil || c.Info.InCommitTimestamp == 0 {
		return -1, err
	}
	s, err := t.At(ctx, c.Version, Options{})
	if err != nil {
		return -1, err
	}
	v, err := strconv.ParseInt(s.Metadata.Configuration["delta.inCommitTimestampEnablementVersion"], 10, 64)
	if err != nil || v < t.versions[0] {
		return t.versions[0], nil // since the table was made, or since a version that is gone
	}
	return v, nil
}

// Hint is what _last_checkpoint says.
type Hint struct {
	Version int64 `json:"version"`
	Size    int64 `json:"size"` // actions
	Files   int64 `json:"numOfAddFiles"`
	Parts   int   `json:"parts"`
}

// Hint reads _last_checkpoint; nil if there is none. It returns a *deltalog.CorruptionError if it cannot be understood.
func (t *Table) Hint(ctx context.Context) (*Hint, error) {
	key := t.root + logDir + hintName
	data, err := t.st.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("history: table %s: %w", t.Name(), err)
	}
	h := &Hint{Version: -1}
	if err := json.Unmarshal(data, h); err != nil {
		return nil, &deltalog.CorruptionError{Key: key, Err: err}
	}
	return h, nil
}
