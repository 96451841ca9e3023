package deltalog

import (
	"context"
	"fmt"
	"strconv"
)

// Restoration is what a commit changes so that the table has the files of a former version again, and, if its caller
// wants it, those with rows that were written since. The txns, the columns and the properties stay as they are.
type Restoration struct {
	To        int64  // the former version
	Timestamp string // by which it was named, "" if it was named by its number
	Rows      string // what becomes of rows that were written since, for the commit's parameters
	Adds      []Add
	// Removes are paths. A file that is in Adds, too, changes its deletion vector.
	Removes []string
}

// Restore commits what plan returns. plan is given the version on which the commit is to be built, and is called again
// after each lost race, with a greater one. Its files must fit exactly: each of Removes is live in that version, and
// none of Adds is, but for those of Removes. If there is nothing to change, nothing is committed, and the version is
// -1.
//
// The log must have been opened with KeepFiles, for this call alone: other callers wait until it returns. After an
// error that is no *sinks.StopError the outcome is not known, and another call finds it out.
func (l *Log) Restore(ctx context.Context, plan func(ctx context.Context, version int64) (*Restoration, error)) (
	version int64, err error) {
	return l.commitAlone(ctx, func() (*lone, error) {
		r, err := plan(ctx, l.snap.Version)
		if err != nil || len(r.Adds)+len(r.Removes) == 0 {
			return nil, err
		}
		if err := l.snap.checkTable(l.root, l.opts.Create); err != nil {
			return nil, err
		}
		if err := l.refused(); err != nil && len(r.Removes) > 0 {
			return nil, err
		}
		return l.buildRestore(r)
	})
}

// buildRestore makes the actions of the commit on the current snapshot. Its metrics are those of Spark's RESTORE, and
// the two by which a commit of this package shows that it is whole.
func (l *Log) buildRestore(r *Restoration) (*lone, error) {
	now, read := l.opts.Now().UnixMilli(), l.snap.Version
	var removes []Remove
	var added, removed int64
	gone, named := map[string]bool{}, map[string]bool{}
	for _, path := range r.Removes {
		f := l.snap.File(path)
		if f == nil || gone[path] {
			return nil, fmt.Errorf("delta: table %s: %s is not live in version %d", l.name(), path, read)
		}
		gone[path] = true
		removed += f.Size
		removes = append(removes, Remove{Path: f.Path, DeletionTimestamp: &now, DataChange: true,
			ExtendedFileMetadata: true, PartitionValues: l.opts.Create.values(f.Partition),
			Size: &f.Size, Vector: f.Vector})
	}
	for i := range r.Adds {
		a := &r.Adds[i]
		if l.snap.File(a.Path) != nil && !gone[a.Path] || named[a.Path] {
			return nil, fmt.Errorf("delta: table %s: %s is live already", l.name(), a.Path)
		}
		named[a.Path] = true
		added += a.Size
	}
	info := &CommitInfo{
		Timestamp: now, Operation: "RESTORE", ReadVersion: &read, EngineInfo: engineInfo,
		Node:                l.opts.Node,
		OperationParameters: map[string]string{"version": strconv.FormatInt(r.To, 10), "rows": r.Rows},
		OperationMetrics: map[string]string{
			"numFiles": strconv.Itoa(len(r.Adds)), "numRemovedFiles": strconv.Itoa(len(removes)),
			"numRestoredFiles":       strconv.Itoa(len(r.Adds)),
			"restoredFilesSize":      strconv.FormatInt(added, 10),
			"removedFilesSize":       strconv.FormatInt(removed, 10),
			"numOfFilesAfterRestore": strconv.Itoa(l.snap.Len() + len(r.Adds) - len(removes)),
			"tableSizeAfterRestore":  strconv.FormatInt(l.snap.files.bytes+added-removed, 10),
		},
	}
	if r.Timestamp != "" {
		info.OperationParameters["timestamp"] = r.Timestamp
	}
	return &lone{info: info, txns: l.settled(now), removes: removes, adds: r.Adds}, nil
}

// settled are the txn of a commit at now on the current snapshot that settles what RESTOREs of others took away.
func (l *Log) settled(now int64) []Txn {
	cr := l.opts.Create
	return append(l.snap.notices(now),
		Txn{AppID: AcceptedID(cr.ClusterID, cr.Pipeline), Version: l.snap.Version + 1, LastUpdated: &now})
}

// AcceptRemoved settles that rows are given up which RESTOREs of others took away up to now, or whose txn went back, by
// a commit without files. It returns its version, or -1 if there is nothing to settle.
func (l *Log) AcceptRemoved(ctx context.Context) (version int64, err error) {
	return l.commitAlone(ctx, func() (*lone, error) {
		if l.snap.Unsettled() == 0 && !l.snap.anyBack() {
			return nil, nil
		}
		now, read := l.opts.Now().UnixMilli(), l.snap.Version
		return &lone{info: &CommitInfo{Timestamp: now, Operation: "ACCEPT REMOVED ROWS",
			OperationParameters: map[string]string{}, ReadVersion: &read, EngineInfo: engineInfo, Node: l.opts.Node},
			txns: l.settled(now)}, nil
	})
}

// lone is a commit that is made for itself, without the changes of plans.
type lone struct {
	info     *CommitInfo // without TxnID
	protocol *Protocol   // nil: as it is
	meta     *Metadata   // nil: as it is
	txns     []Txn
	removes  []Remove
	adds     []Add
}

// commitAlone has build make a commit on the newest version, again after each lost race, and writes it. It returns its
// version, or -1 if build returns none.
func (l *Log) commitAlone(ctx context.Context, build func() (*lone, error)) (version int64, err error) {
	if err := l.snapLock.Acquire(ctx, 1); err != nil {
		return -1, err
	}
	defer l.snapLock.Release(1)
	for race := 0; ; race++ {
		if err := l.refresh(ctx); err != nil {
			return -1, err
		}
		c, err := build()
		if err != nil || c == nil {
			return -1, err
		}
		version, won, err := l.putAlone(ctx, c)
		switch {
		case err != nil:
			return -1, err
		case won:
			return version, nil
		case race == maxRaces:
			return -1, fmt.Errorf("delta: table %s: lost %d races in a row", l.name(), race+1)
		}
		l.metrics.conflicts.WithLabelValues(l.name()).Inc()
	}
}

// putAlone writes a commit as the next version, and takes it into the snapshot. The caller holds snapLock.
func (l *Log) putAlone(ctx context.Context, c *lone) (version int64, won bool, err error) {
	if c.info.TxnID, err = l.uniqueID(); err != nil {
		return -1, false, err
	}
	if err := l.stamp(ctx, c.info); err != nil {
		return -1, false, err
	}
	body, err := encodeCommit(c.info, c.protocol, c.meta, c.txns, c.removes, c.adds)
	if err != nil {
		return -1, false, err
	}
	version = l.snap.Version + 1
	won, err = l.put(ctx, version, c.info.TxnID, body)
	if err != nil {
		return -1, false, fmt.Errorf("delta: table %s: commit %d: %w", l.name(), version, err)
	}
	if !won {
		return -1, false, nil
	}
	parsed, err := parseCommit(l.commitKey(version), body)
	if err != nil {
		return -1, false, err // not reachable: the body was made above
	}
	l.snap.apply(parsed)
	l.checksum(c.info.TxnID)
	l.metrics.commits.WithLabelValues(l.name()).Inc()
	l.metrics.version.WithLabelValues(l.name()).Set(float64(version))
	return version, true, nil
}
