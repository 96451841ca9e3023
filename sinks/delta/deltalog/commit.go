package deltalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"deckle/sinks/delta/store"
)

const (
	maxRaces    = 100 // races lost in a row before Submit returns the error and its callers back off
	maxUnknown  = 5   // unknown answers for one version before Submit returns the error
	firstPause  = 20 * time.Millisecond
	longestWait = 2 * time.Second
)

// commit puts a group of changes into the log as one version, and answers each change by its done function.
func (l *Log) commit(ctx context.Context, group []*pending) {
	fail := func(err error) {
		for _, p := range group {
			p.finish(0, err)
		}
	}
	if err := l.snapLock.Acquire(ctx, 1); err != nil {
		fail(err)
		return
	}
	defer l.snapLock.Release(1)
	start := l.opts.Now()
	if l.stale() || behind(l.snap, group) {
		if err := l.refresh(ctx); err != nil {
			fail(err)
			return
		}
	}
	for race := 0; ; race++ {
		if err := l.snap.checkTable(l.root, l.opts.Create); err != nil {
			fail(err)
			return
		}
		if group = l.settle(group); len(group) == 0 {
			return
		}
		txnID, err := l.uniqueID()
		if err != nil {
			fail(err)
			return
		}
		body, err := l.build(ctx, group, txnID)
		if err != nil {
			fail(err)
			return
		}
		version := l.snap.Version + 1
		won, err := l.put(ctx, version, txnID, body)
		if err != nil {
			fail(fmt.Errorf("delta: table %s: commit %d: %w", l.name(), version, err))
			return
		}
		if won {
			c, err := parseCommit(l.commitKey(version), body)
			if err != nil {
				fail(err) // not reachable: the body was made above
				return
			}
			l.snap.apply(c)
			l.listed = start
			l.checksum(txnID)
			l.committed(group, version, l.opts.Now().Sub(start))
			for _, p := range group {
				p.finish(version, nil)
			}
			return
		}
		l.metrics.conflicts.WithLabelValues(l.name()).Inc()
		if race == maxRaces {
			fail(fmt.Errorf("delta: table %s: lost %d races in a row", l.name(), race+1))
			return
		}
		if err := l.refresh(ctx); err != nil {
			fail(err)
			return
		}
		if err := l.pause(ctx, race); err != nil {
			fail(err)
			return
		}
	}
}

// behind reports whether a change of the group was made on a newer version than the snapshot.
func behind(s *Snapshot, group []*pending) bool {
	return slices.ContainsFunc(group, func(p *pending) bool { return p.change.ReadVersion > s.Version })
}

// settle answers the changes that need no commit or that cannot be part of this one, and returns the others.
func (l *Log) settle(group []*pending) []*pending {
	rest := group[:0:0]
	for _, p := range group {
		done, err := p.change.check(l.name(), l.snap)
		switch {
		case p.withdrawn():
			p.finish(0, errWithdrawn)
		case err != nil:
			p.finish(0, err)
		case done:
			p.finish(0, nil)
		case len(p.change.Removes) > 0 && !p.change.Rearrange && l.refused() != nil:
			p.finish(0, l.refused())
		case p.change.revises() && l.held() != nil:
			p.finish(0, l.held())
		default:
			rest = append(rest, p)
		}
	}
	return l.disjoint(l.apart(rest))
}

// refused is the *sinks.StopError of a change that removes files, with other rows in their place, if the current
// snapshot refuses those; nil otherwise.
func (l *Log) refused() error {
	if !l.snap.properties.appendOnly {
		return nil
	}
	return stop(l.name(), "unset the property "+configAppendOnly+": revisions replace rows, and wait until then",
		"it is append-only")
}

// held is the *sinks.StopError of a change that revises rows, while it is not settled what becomes of those that a
// RESTORE took away; nil otherwise.
func (l *Log) held() error {
	v := l.snap.Unsettled()
	if v == 0 {
		return nil
	}
	return stop(l.name(), fmt.Sprintf("say what becomes of the rows: deckle delta restore %s --version %d "+
		"--rows=again (as it was before, with what has been written since), --version N --rows=again for the version "+
		"that was restored, or deckle delta forget-gaps %[1]s (they are given up); revisions wait until then",
		l.name(), v-1), "version %d, by another tool, took rows away (a RESTORE) or set back which ones are written", v)
}

// CheckRemoves is what Submit would say of a change that removes files, as of the current snapshot. A caller that has
// files to write first asks before.
func (l *Log) CheckRemoves() (err error) {
	l.View(func(*Snapshot) { err = l.refused() })
	return err
}

// ChangeFeed says whether the table has a change data feed, as of the part of the log that has been read. A change that
// removes files needs files of changes then; the commit checks that this still holds.
func (l *Log) ChangeFeed() (on bool) {
	l.View(func(s *Snapshot) { on = s.properties.changeData })
	return on
}

// apart returns the changes that can be in one commit as readers of a change data feed read it, and puts the others
// back into the queue: those with files of changes, and those that only add rows.
func (l *Log) apart(group []*pending) []*pending {
	feeds := func(p *pending) bool { return len(p.change.Changes) > 0 }
	adds := func(p *pending) bool { return len(p.change.Adds) > 0 && !p.change.Rearrange && !feeds(p) }
	first := slices.IndexFunc(group, func(p *pending) bool { return feeds(p) || adds(p) })
	if first < 0 {
		return group
	}
	other := adds
	if adds(group[first]) {
		other = feeds
	}
	var now, later []*pending
	for _, p := range group {
		// gofail: var bugFeedMixed struct{}
		// other = func(*pending) bool { return false }
		if other(p) {
			later = append(later, p)
		} else {
			now = append(now, p)
		}
	}
	l.committer.putBack(later)
	return now
}

// CheckRevises is what Submit would say of a change that revises rows, as of the current snapshot.
func (l *Log) CheckRevises() (err error) {
	l.View(func(*Snapshot) {
		if err = l.refused(); err == nil {
			err = l.held()
		}
	})
	return err
}

// disjoint returns the changes without those that could not follow the ones before them: that remove a file which an
// earlier one removes too, or that insert rows which a file of an earlier one may hold. These get ErrRebuild and are
// made again.
func (l *Log) disjoint(group []*pending) []*pending {
	seen := map[string]bool{}
	var adds []*File
	rest := group[:0]
	for _, p := range group {
		if err := p.change.meets(seen, adds); err != nil {
			p.finish(0, err)
			continue
		}
		for _, path := range p.change.Removes {
			seen[path] = true
		}
		for i := range p.change.Adds {
			a := &p.change.Adds[i]
			e := a.entry()
			adds = append(adds, &File{Path: a.Path, Partition: string(e.partition), Origin: e.origin, Parts: e.parts})
		}
		rest = append(rest, p)
	}
	return rest
}

// build renders the commit of a group on the current snapshot.
func (l *Log) build(ctx context.Context, group []*pending, txnID string) ([]byte, error) {
	now, read := l.opts.Now().UnixMilli(), l.snap.Version
	info := &CommitInfo{
		Timestamp: now, Operation: "WRITE", OperationParameters: map[string]string{"mode": "Append"},
		ReadVersion: &read, IsBlindAppend: true, EngineInfo: engineInfo, TxnID: txnID, Node: l.opts.Node,
	}
	var (
		txns    []Txn
		removes []Remove
		adds    []Add
		rows    int64
		bytes   int64
		deleted int64
		changes []Cdc
	)
	for _, p := range group {
		c := p.change
		if c.Last {
			for _, part := range c.Parts {
				txns = append(txns, Txn{AppID: part.AppID, Version: part.Version, LastUpdated: &now})
				for _, id := range part.Notes {
					txns = append(txns, Txn{AppID: id, Version: part.Version, LastUpdated: &now})
				}
			}
		}
		for _, path := range c.Removes {
			f := l.snap.File(path) // check has found it
			// gofail: var bugRemovesGone struct{}
			// if f == nil {
			// 	f = &File{Path: path}
			// }
			removes = append(removes, Remove{
				Path: f.Path, DeletionTimestamp: &now, DataChange: !c.Rearrange, ExtendedFileMetadata: true,
				PartitionValues: l.opts.Create.values(f.Partition), Size: &f.Size,
				Vector: f.Vector,
			})
		}
		for _, a := range c.Written() {
			bytes += a.Size
		}
		adds, changes = append(adds, c.Adds...), append(changes, c.Changes...)
		rows, deleted = rows+c.Rows, deleted+c.Deleted
		if len(c.Removes) > 0 || len(c.Guard) > 0 {
			info.IsBlindAppend = false
		}
		if c.Operation != "" && c.Operation != "WRITE" {
			info.Operation, info.OperationParameters = c.Operation, map[string]string{}
		}
	}
	// gofail: var bugSharedAddLost struct{}
	// if len(txns) > 1 && len(adds) > 1 {
	// 	adds = adds[:len(adds)-1]
	// }

	info.OperationMetrics = map[string]string{
		"numFiles": strconv.Itoa(len(adds)), "numRemovedFiles": strconv.Itoa(len(removes)),
		"numOutputRows": strconv.FormatInt(rows, 10), "numOutputBytes": strconv.FormatInt(bytes, 10),
	}
	if deleted > 0 { // only then: commits of before have the bytes that they had
		info.OperationMetrics["deckleRowsFoundDeleted"] = strconv.FormatInt(deleted, 10)
	}
	// gofail: var bugDeltaNoTxn struct{}
	// txns = nil

	// gofail: var bugSharedTxnLost struct{}
	// if len(txns) > 1 {
	// 	txns = txns[:len(txns)-1]
	// }

	txns = append(txns, l.snap.notices(now)...)
	return l.encode(ctx, info, nil, txns, removes, adds, changes...)
}

// put writes one version and finds out whether the write took effect: true if that version is this very commit, false
// if it is another one. An error means that the outcome is not known; the next attempt of any node finds it out by the
// txn.
func (l *Log) put(ctx context.Context, version int64, txnID string, body []byte) (bool, error) {
	key := l.commitKey(version)
	for try := 0; ; try++ {
		err := l.opts.Store.PutIfAbsent(ctx, key, body)
		if err == nil {
			// gofail: var deltaCommitPut struct{}
			return true, nil
		}
		stands, gerr := l.opts.Store.Get(ctx, key)
		if gerr == nil {
			gerr = l.settleNames(ctx, version)
		}
		if gerr == nil {
			c, perr := parseCommit(key, stands)
			if perr != nil {
				return false, perr
			}
			return c.txnID == txnID, nil
		}
		if !errors.Is(gerr, store.ErrNotFound) {
			err = errors.Join(err, gerr)
		}
		if try+1 >= maxUnknown {
			return false, err
		}
		l.metrics.unknown.WithLabelValues(l.name()).Inc()
		if perr := l.pause(ctx, try); perr != nil {
			return false, errors.Join(perr, err)
		}
	}
}

// pause waits with exponential backoff and full jitter.
func (l *Log) pause(ctx context.Context, n int) error {
	d := min(firstPause<<min(n, 10), longestWait)
	var b [2]byte
	if _, err := l.opts.Rand.Read(b[:]); err != nil {
		return fmt.Errorf("delta: jitter: %w", err)
	}
	d = d * time.Duration(int(b[0])<<8|int(b[1])) / (1 << 16)
	return l.opts.Sleep(ctx, d)
}

// committed counts a commit and calls keep.
func (l *Log) committed(group []*pending, version int64, took time.Duration) {
	m, name := l.metrics, l.name()
	m.commits.WithLabelValues(name).Inc()
	m.commitSeconds.WithLabelValues(name).Observe(took.Seconds())
	m.version.WithLabelValues(name).Set(float64(version))
	for _, p := range group {
		m.rows.WithLabelValues(name).Add(float64(p.change.Rows))
		written := p.change.Written()
		m.files.WithLabelValues(name).Add(float64(len(written)))
		for _, a := range written {
			m.bytes.WithLabelValues(name).Add(float64(a.Size))
		}
	}
	l.keep(version)
}
