package wal

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// GroupLag names a group whose oldest entries keep segments on disk.
type GroupLag struct {
	Group   uint64
	First   uint64 // the group's first index
	Through uint64 // once its entries up to here are deleted, this group keeps the segments no more
	Bytes   int64  // length of those entries' frames
}

// retire closes s for reading as soon as no reader is left. It is called with Log.mu held.
func (s *segment) retire() error {
	s.gone = true
	if s.refs > 0 || s.r == nil {
		return nil
	}
	f := s.r
	s.r = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close segment %016x: %w", s.seq, err)
	}
	return nil
}

// release ends a read of s.
func (l *Log) release(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.refs--
	if s.gone {
		if err := s.retire(); err != nil {
			l.logger.Warn("wal: close", "error", err)
		}
	}
}

// free deletes the segments that no group needs any more and reports an fsync error to OnFatal.
func (l *Log) free() error {
	l.mu.Lock()
	err := l.collect()
	var fatal error
	if err != nil {
		fatal = l.fail(err)
		err = l.err
	}
	l.mu.Unlock()
	if fatal != nil {
		l.opts.OnFatal(fatal)
	}
	return err
}

// collect deletes the oldest segments while no group needs an entry of them. Everything else that they held is in the
// head of the segment after them. Each deletion is synced before the next one, so that a crash leaves no hole in the
// sequence. It is called with mu held and releases it meanwhile. A file that cannot be removed is tried again later.
func (l *Log) collect() error {
	if l.collecting {
		return nil
	}
	l.collecting = true
	defer func() {
		l.collecting = false
		l.done.Broadcast()
	}()
	for l.err == nil && len(l.segments) > 1 && l.segments[0].live == 0 {
		s := l.segments[0]
		l.mu.Unlock()
		removeErr := l.opts.FS.Remove(l.opts.FS.PathJoin(l.opts.Dir, segmentName(s.seq)))
		var syncErr error
		if removeErr == nil {
			syncErr = syncDir(l.opts.FS, l.opts.Dir)
		}
		l.mu.Lock()
		if removeErr != nil {
			l.logger.Warn("wal: remove segment", "segment", s.seq, "error", removeErr)
			return nil
		}
		l.segments = l.segments[1:]
		l.stats.SegmentsDeleted++
		if err := s.retire(); err != nil {
			l.logger.Warn("wal: close", "error", err)
		}
		if syncErr != nil {
			return syncErr
		}
	}
	return nil
}

// diskBytes is the length of all segments. It is called with mu held.
func (l *Log) diskBytes() int64 {
	var n int64
	for _, s := range l.segments {
		n += s.size
	}
	return n
}

// Laggards returns the groups that keep old segments on disk although the log is longer than maxBytes, the one that
// keeps most first: once each has deleted its entries up to Through, the log is at most maxBytes long, or one segment.
// It returns nothing while the log is short enough.
func (l *Log) Laggards(maxBytes int64) []GroupLag {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.diskBytes()
	var newest uint64 // the newest segment that must be deleted
	for i := 0; i < len(l.segments)-1 && left > maxBytes; i++ {
		left -= l.segments[i].size
		newest = l.segments[i].seq
	}
	var lags []GroupLag
	for id, g := range l.table.groups {
		// Entries lie in the order of their index: storing one makes all behind it void.
		n := sort.Search(len(g.locs), func(i int) bool { return g.locs[i].seg.seq > newest })
		if n == 0 {
			continue
		}
		lag := GroupLag{Group: id, First: g.first, Through: g.first + uint64(n) - 1}
		for _, at := range g.locs[:n] {
			lag.Bytes += int64(at.len)
		}
		lags = append(lags, lag)
	}
	slices.SortFunc(lags, func(a, b GroupLag) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Group, b.Group))
	})
	return lags
}
