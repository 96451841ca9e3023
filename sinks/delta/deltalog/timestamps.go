package deltalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"deckle/sinks/delta/store"
)

// encode renders a commit that is to follow the current snapshot: with its in-commit timestamp, if the table has those.
// It is called anew for each version that is tried. The caller holds snapLock.
func (l *Log) encode(ctx context.Context, info *CommitInfo, meta *Metadata, txns []Txn, removes []Remove, adds []Add,
	changes ...Cdc) ([]byte, error) {
	if err := l.stamp(ctx, info); err != nil {
		return nil, err
	}
	return encodeCommit(info, nil, meta, txns, removes, adds, changes...)
}

// stamp gives a commit that is to follow the current snapshot its in-commit timestamp, if the table has those: the
// time at which it is tried, and at least a millisecond after the version before. It is called anew for each version
// that is tried. The caller holds snapLock.
func (l *Log) stamp(ctx context.Context, info *CommitInfo) error {
	// gofail: var bugStampMissing struct{}
	// return nil
	if !InCommitTimestamps(l.snap.Protocol, l.snap.Metadata) {
		return nil
	}
	if l.snap.inCommit == 0 { // read from a checkpoint, which does not say it
		at, err := l.inCommitOf(ctx, l.snap.Version)
		if err != nil {
			return err
		}
		l.snap.inCommit = at
	}
	info.InCommitTimestamp = max(info.Timestamp, l.snap.inCommit+1)
	return nil
}

// inCommitOf reads the in-commit timestamp of a version in its commit, or in its checksum where a table was copied
// without its commits before the checkpoint.
func (l *Log) inCommitOf(ctx context.Context, v int64) (at int64, err error) {
	c, err := l.readCommit(ctx, v)
	if err == nil {
		at = c.inCommit
	} else if errors.Is(err, store.ErrNotFound) {
		var data []byte
		if data, err = l.store.Get(ctx, l.checksumKey(v)); err == nil {
			var sum struct {
				At int64 `json:"inCommitTimestampOpt"`
			}
			if err = json.Unmarshal(data, &sum); err == nil {
				at = sum.At
			}
		} else if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("delta: table %s: in-commit timestamp of version %d: %w", l.name(), v, err)
	case at <= 0:
		return 0, stop(l.name(), "set the property "+configInCommit+" to false, and to true again if it is wanted, "+
			"with a tool that writes such timestamps (Spark); Deckle goes on by itself",
			"version %d has no in-commit timestamp, which the next one has to follow", v)
	}
	return at, nil
}
