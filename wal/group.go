package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/hashicorp/raft"
)

// Group is one Raft group's part of a log: its raft.LogStore and raft.StableStore.
//
// Entries given to StoreLogs, and those that GetLog returns, must not be changed by the caller: the newest are kept in
// memory as they are. It does not claim raft.MonotonicLogStore: it accepts a gap after an installed snapshot.
type Group struct {
	log *Log
	id  uint64
	// setting makes reading the old value, comparing and writing one step, because the three keys of a vote share a
	// record.
	setting sync.Mutex
}

var (
	_ raft.LogStore    = (*Group)(nil)
	_ raft.StableStore = (*Group)(nil)
)

// Group returns the group with the given id. It exists from its first write on. All handles of an id share one state.
func (l *Log) Group(id uint64) *Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.handles[id]
	if g == nil {
		g = &Group{log: l, id: id}
		l.handles[id] = g
	}
	return g
}

// view calls f with the group's state, nil if it has none, while it holds the log's lock.
func (g *Group) view(f func(*group)) error {
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	if err := g.log.usable(); err != nil {
		return err
	}
	f(g.log.table.groups[g.id])
	return nil
}

// FirstIndex returns the index of the oldest entry, 0 if there is none.
func (g *Group) FirstIndex() (index uint64, err error) {
	err = g.view(func(s *group) {
		if s != nil {
			index, _ = s.bounds()
		}
	})
	return index, err
}

// LastIndex returns the index of the newest entry, 0 if there is none.
func (g *Group) LastIndex() (index uint64, err error) {
	err = g.view(func(s *group) {
		if s != nil {
			_, index = s.bounds()
		}
	})
	return index, err
}

// Bytes returns how many bytes the group's entries take in the log.
func (g *Group) Bytes() (n int64) {
	_ = g.view(func(s *group) { // for a log that has failed or is closed it is 0
		if s != nil {
			n = s.bytes
		}
	})
	return n
}

// MeanEntryBytes returns the mean of Bytes over the group's entries, 0 without entries.
func (g *Group) MeanEntryBytes() (n int64) {
	_ = g.view(func(s *group) {
		if s != nil && len(s.locs) > 0 {
			n = s.bytes / int64(len(s.locs))
		}
	})
	return n
}

// GetLog reads one entry. It returns raft.ErrLogNotFound, unwrapped, for an index outside the log, and a *CorruptError
// for one that cannot be read back as it was written.
func (g *Group) GetLog(index uint64, out *raft.Log) error {
	l := g.log
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return err
	}
	s := l.table.groups[g.id]
	if s == nil || len(s.locs) == 0 || index < s.first || index > s.last() {
		l.mu.Unlock()
		return raft.ErrLogNotFound
	}
	if e := s.cached(index); e != nil {
		*out = *e
		l.stats.CacheHits++
		l.mu.Unlock()
		return nil
	}
	at := s.locs[index-s.first]
	at.seg.refs++
	l.stats.CacheMisses++
	l.mu.Unlock()
	defer l.release(at.seg)
	return g.read(index, at, out)
}

// read reads an entry from its segment, whose refs the caller has counted up.
func (g *Group) read(index uint64, at loc, out *raft.Log) error {
	corrupt := func(err error) error {
		g.log.logger.Error("wal: entry cannot be read",
			"group", g.id, "index", index, "segment", at.seg.seq, "error", err)
		return &CorruptError{Segment: at.seg.seq, Offset: int64(at.off), Group: g.id, HasGroup: true,
			Err: fmt.Errorf("entry %d: %w", index, err)}
	}
	buf := make([]byte, at.len)
	n, err := at.seg.r.ReadAt(buf, int64(at.off))
	if n < len(buf) {
		if err == nil || errors.Is(err, io.EOF) {
			return corrupt(errShort)
		}
		return fmt.Errorf("wal: read group %d entry %d: %w", g.id, index, err)
	}
	r, _, err := decodeRecord(buf, at.seg.seq, int64(at.off))
	if err != nil {
		return corrupt(err)
	}
	m, err := decodeMutation(r)
	if err != nil {
		return corrupt(err)
	}
	if m.kind != kindEntry || m.group != g.id || m.log.Index != index {
		return corrupt(errKind)
	}
	*out = *m.log
	return nil
}

// StoreLog stores one entry; see StoreLogs.
func (g *Group) StoreLog(log *raft.Log) error { return g.StoreLogs([]*raft.Log{log}) }

// StoreLogs stores entries and returns when they are durable. Each makes every entry of the group at or above its index
// void; one that leaves a gap makes all before it void too. An error says that the log has failed, is closed, or
// refuses the entries; in the last case nothing was stored.
func (g *Group) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	muts := make([]mutation, len(logs))
	for i, e := range logs {
		if e.Index == 0 {
			return errors.New("wal: entry without an index")
		}
		kept := *e
		muts[i] = mutation{kind: kindEntry, group: g.id, log: &kept}
	}
	return g.log.commit(muts...)
}

// DeleteRange deletes the entries min to max, both inclusive, durably: a prefix after a snapshot, or a suffix that
// conflicts with the leader's log. A range in the middle is ErrMiddle; what lies outside the log is ignored.
func (g *Group) DeleteRange(min, max uint64) error {
	var empty, ok bool
	err := g.view(func(s *group) {
		if s == nil {
			empty, ok = true, true
			return
		}
		var from, to int
		from, to, ok = s.span(min, max)
		empty = from == to && len(g.log.queue) == 0 && !g.log.writing
		if ok && from < to {
			// A write whose caller gave up may still be queued before this deletion. The record therefore says what the
			// caller means: a prefix, or everything from min on.
			if from == 0 {
				min = 0
			} else {
				max = math.MaxUint64
			}
		}
	})
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: %d to %d", ErrMiddle, min, max)
	case empty:
		return nil
	}
	if err := g.log.commit(mutation{kind: kindDelete, group: g.id, min: min, max: max}); err != nil {
		return err
	}
	return g.log.free()
}

// Set gives key a value, durably. It writes nothing if key has that value. A new LastVoteTerm removes LastVoteCand.
func (g *Group) Set(key, val []byte) error {
	if len(key) > maxKeyBytes || len(val) > maxValBytes {
		return fmt.Errorf("%w: key of %d bytes, value of %d", ErrTooLarge, len(key), len(val))
	}
	g.setting.Lock()
	defer g.setting.Unlock()
	var m mutation
	var same bool
	var setErr error
	err := g.view(func(s *group) {
		if s == nil {
			s = &group{id: g.id}
		}
		old, ok := s.get(string(key))
		same = ok && string(old) == string(val)
		m, setErr = s.setting(string(key), val)
	})
	if err = errors.Join(err, setErr); err != nil || same {
		return err
	}
	return g.log.commit(m)
}

// Get returns a copy of key's value. Without one the error is ErrNotFound, whose text the library compares.
func (g *Group) Get(key []byte) (val []byte, err error) {
	ok := false
	err = g.view(func(s *group) {
		if s != nil {
			val, ok = s.get(string(key))
			val = clone(val)
		}
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNotFound
	}
	return val, nil
}

// SetUint64 is Set of 8 bytes, big-endian.
func (g *Group) SetUint64(key []byte, val uint64) error {
	return g.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 returns the value that SetUint64 has written, ErrNotFound if there is none.
func (g *Group) GetUint64(key []byte) (uint64, error) {
	v, err := g.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("wal: get %q: %w", key, errWidth)
	}
	return binary.BigEndian.Uint64(v), nil
}
