package deltalog

import (
	"context"
	"encoding/json"
	"fmt"
)

// AddColumns gives the table those of the columns that it does not have, at the end of its schema, by a commit of its
// own: the metaData that stands there, with its id, configuration and creation time, and the longer schema. Several
// writers may do so at once: one wins, and the others see that it is done. It returns once the columns are there.
func (l *Log) AddColumns(ctx context.Context, fields []Field) error {
	if err := l.snapLock.Acquire(ctx, 1); err != nil {
		return err
	}
	defer l.snapLock.Release(1)
	if l.stale() {
		if err := l.refresh(ctx); err != nil {
			return err
		}
	}
	for race := 0; ; race++ {
		added, err := l.tryColumns(ctx, fields)
		if err != nil {
			return fmt.Errorf("delta: table %s: add columns: %w", l.name(), err)
		}
		if len(added) == 0 {
			return nil
		}
		if race == maxRaces {
			return fmt.Errorf("delta: table %s: lost %d races in a row", l.name(), race+1)
		}
	}
}

// tryColumns writes the next version with the columns that the current one does not have, and reads on to it or to
// what stands in its place. It returns their names, none if there is nothing to do.
func (l *Log) tryColumns(ctx context.Context, fields []Field) (added []string, err error) {
	if err := l.snap.checkTable(l.root, l.opts.Create); err != nil {
		return nil, err
	}
	meta := *l.snap.Metadata
	meta.SchemaString, added, err = withFields(meta.SchemaString, fields, l.opts.Create.Comments)
	if err != nil || len(added) == 0 {
		return nil, err
	}
	txnID, err := l.uniqueID()
	if err != nil {
		return nil, err
	}
	names, err := json.Marshal(added)
	if err != nil {
		return nil, err
	}
	read, version := l.snap.Version, l.snap.Version+1
	info := &CommitInfo{Timestamp: l.opts.Now().UnixMilli(), Operation: "ADD COLUMNS",
		OperationParameters: map[string]string{"columns": string(names)}, ReadVersion: &read, EngineInfo: engineInfo,
		TxnID: txnID, Node: l.opts.Node}
	body, err := l.encode(ctx, info, &meta, l.snap.notices(info.Timestamp), nil, nil)
	if err != nil {
		return nil, err
	}
	won, err := l.put(ctx, version, txnID, body)
	if err != nil {
		return nil, fmt.Errorf("commit %d: %w", version, err)
	}
	if err := l.refresh(ctx); err != nil {
		return nil, err
	}
	if won {
		if l.snap.Version == version {
			l.checksum(txnID)
		}
		l.opts.Logger.Info("delta: added columns", "table", l.name(), "columns", added, "version", version)
		l.metrics.commits.WithLabelValues(l.name()).Inc()
	} else {
		l.metrics.conflicts.WithLabelValues(l.name()).Inc()
	}
	return added, nil
}
