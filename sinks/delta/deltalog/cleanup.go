package deltalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"deckle/sinks/delta/store"
)

const (
	// leastRetention is the shortest retention of commits: a writer that lags behind finds out by what it misses.
	leastRetention = day

	// Of the checkpoints that are older than the table's retention of checkpoints, those stay that time travel wants:
	// the first of each day, and among the newest nearCommits versions the first of each nearSpacing.
	nearCommits = 10_000
	nearSpacing = 1_000
	// thinEvery is how many cleanups come for one that looks at all checkpoints, and lists the whole log for it.
	thinEvery = 24
)

var errStop = errors.New("stop")

// logObject is one object of the log of which a cleanup may delete.
type logObject struct {
	info    store.Info
	version int64
}

// clean deletes the commits, checksums and checkpoints that are older than the retention and that no newer version
// needs, by the protocol's steps. The cutoff is midnight UTC. The newest commit that is not after the cutoff stays
// readable: the newest checkpoint at or below that commit stays, and everything after it. With all it lists the whole
// log and deletes checkpoints within the retention, too (thin). newest is when the newest commit was written by the
// store's clock, now the time by this node's.
func (l *folder) clean(ctx context.Context, newest, now time.Time, props properties, all bool) (int, error) {
	if !props.cleanup {
		return 0, nil
	}
	if now.After(newest) {
		now = newest // a clock that is ahead must not make young commits old: other nodes still build on them
	}
	cutoff := now.UTC().Add(-max(props.logRetention, leastRetention)).Truncate(day)
	var (
		old, checkpoints []logObject
		commits          []int64 // ascending
		cutoffCommit     = int64(-1)
		latest           time.Time
	)
	err := l.store.List(ctx, l.root+logDir, "", func(info store.Info) error {
		v, kind := logName(info.Key[len(l.root+logDir):])
		switch kind {
		case logCommit:
			// A commit counts as no older than the commit before it, even if the store's clock went back.
			if info.Modified.After(latest) {
				latest = info.Modified
			}
			if !latest.After(cutoff) {
				cutoffCommit = v
			} else if !all {
				return errStop
			}
			commits = append(commits, v)
		case logCheckpoint:
			checkpoints = append(checkpoints, logObject{info, v})
		case logChecksum:
		default:
			return nil
		}
		if !latest.After(cutoff) {
			old = append(old, logObject{info, v})
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return 0, fmt.Errorf("delta: clean %s: %w", l.name(), err)
	}
	keep := int64(-1)
	for _, c := range checkpoints {
		if c.version <= cutoffCommit {
			keep = c.version
		}
	}
	old = slices.DeleteFunc(old, func(o logObject) bool { return o.version >= keep })
	if keep < props.protected {
		// Somebody has taken a feature from the table. Readers without it need the checkpoints that stand before that
		// version, and may not need those before them, until all of it goes at once.
		old = nil
	}
	if len(old) > 0 {
		// The checkpoint from which every later replay starts is read before anything is deleted.
		if err := l.readCheckpoint(ctx, keep, newSnapshot(false, false, 0)); err != nil {
			return 0, fmt.Errorf("delta: clean %s: %w", l.name(), err)
		}
	}
	if all {
		before := now.Add(-props.checkpointRetention)
		old = append(old, thin(checkpoints, commits, max(keep, props.protected), before)...)
	}
	n := 0
	for batch := range slices.Chunk(old, store.MaxDelete) {
		keys := make([]string, len(batch))
		for i, o := range batch {
			keys[i] = o.info.Key
		}
		if err := store.DeleteAll(ctx, l.store, keys); err != nil {
			return n, fmt.Errorf("delta: clean %s: %w", l.name(), err)
		}
		n += len(batch)
	}
	return n, nil
}

// thin returns those of a log's checkpoints, ascending, which nobody needs: none of the two newest, none that is
// younger than before, and of the others those between the ones by which time travel goes. Every commit down to keep
// stays, so that every version can still be read, from an earlier checkpoint. One that is not, as the log has not every
// commit between the two (another tool has deleted some, or the store lists only a part), keeps its checkpoint.
func thin(checkpoints []logObject, commits []int64, keep int64, before time.Time) (gone []logObject) {
	if len(checkpoints) < 3 {
		return nil
	}
	newest := checkpoints[len(checkpoints)-1].version
	// between reports whether the log has every commit after one version up to another.
	between := func(from, to int64) bool {
		i, _ := slices.BinarySearch(commits, from+1)
		j := i + int(to-from-1)
		return j < len(commits) && commits[i] == from+1 && commits[j] == to
	}
	var last time.Time
	span, kept := int64(-1), int64(-1)
	for _, c := range checkpoints[:len(checkpoints)-2] {
		if c.version < keep {
			continue
		}
		date := c.info.Modified.UTC().Truncate(day)
		first := c.version == keep || !date.Equal(last)
		if newest-c.version < nearCommits && c.version/nearSpacing != span {
			first = true
		}
		last, span = date, c.version/nearSpacing
		if !first && c.info.Modified.Before(before) && kept >= 0 && between(kept, c.version) {
			gone = append(gone, c)
			continue
		}
		kept = c.version
	}
	return gone
}
