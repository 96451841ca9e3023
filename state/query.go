package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"deckle/event"
	"deckle/schema"
)

// Session returns the newest row of the live session with an id. ok is false if there is no such session, or if it has
// no row yet. The row may be newer than any closed epoch.
func (s *Store) Session(id string) (row *schema.SessionRow, ok bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return nil, false, ErrClosed
	}
	if len(id) > event.MaxSessionID {
		return nil, false, nil
	}
	ss := s.sessions[id]
	if ss == nil {
		if _, gone := s.purgedIDs[id]; gone {
			return nil, false, nil
		}
		var err error
		if ss, err = s.meta.readLive(s.db, id); ss == nil || err != nil {
			return nil, false, err
		}
	}
	if ss.total == 0 {
		return nil, false, nil
	}
	var rb rowBuilder
	if row, err = rb.build(ss, s.meta.Config.Shard, s.db); err != nil {
		return nil, false, fmt.Errorf("state: session %q: %w", id, err)
	}
	return row, true, nil
}

// Has says whether a live session has the id.
func (s *Store) Has(id string) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return false, ErrClosed
	}
	if s.sessions[id] != nil {
		return true, nil
	}
	if _, gone := s.purgedIDs[id]; gone || !s.live.mayHave(id) {
		return false, nil
	}
	ss, err := s.meta.readLive(s.db, id)
	return ss != nil, err
}

// Changed returns the ids of at most n sessions that have changed in the open epoch, those that first did so last
// before the others.
func (s *Store) Changed(n int) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n = min(n, len(s.changed))
	ids := make([]string, n)
	for i := range ids {
		ids[i] = s.changed[len(s.changed)-1-i].id
	}
	return ids
}

// Sessions calls yield for the newest row of every live session that has one, in Pebble or in memory, in no order. It
// is meant for reconciliation, because it reads the whole state under the lock.
func (s *Store) Sessions(yield func(*schema.SessionRow) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	var rb rowBuilder
	yieldRow := func(ss *session) error {
		if ss.total == 0 {
			return nil
		}
		defer rb.letGo()
		row, err := rb.build(ss, s.meta.Config.Shard, s.db)
		if err != nil {
			return err
		}
		return yield(row)
	}
	for _, ss := range s.sessions {
		if err := yieldRow(ss); err != nil {
			return err
		}
	}
	return scan(s.db, []byte{prefixLive}, []byte{prefixLive + 1}, func(k, v []byte) error {
		id, origin, epoch, err := decodeLive(k, v)
		if err != nil {
			return err
		}
		_, inMemory := s.sessions[id]
		_, gone := s.purgedIDs[id]
		if inMemory || gone {
			return nil
		}
		ss, err := s.meta.readImage(s.db, id, origin, epoch)
		if err != nil {
			return err
		}
		return yieldRow(ss)
	})
}

// sessionsAtOnce is how many stored sessions OpenSessionsOf looks at before it lets go of the lock.
const sessionsAtOnce = 256

// OpenSessionsOf returns the ids of at most n sessions that are open and have one of the users, which event.UserOf
// names. whole is false if there are more, or if ctx has ended before all sessions were looked at. Entries are applied
// meanwhile.
func (s *Store) OpenSessionsOf(ctx context.Context, users map[uint64]bool, n int) (
	ids []string, whole bool, err error) {
	found := map[string]bool{}
	see := func(ss *session) {
		if ss.status == schema.StatusOpen && ss.userID != 0 && users[ss.userID] {
			found[ss.id] = true
		}
	}
	from, more := []byte{prefixLive}, true
	for first := true; more && err == nil && ctx.Err() == nil && len(found) <= n; first = false {
		from, more, err = s.seeSessions(from, first, see)
	}
	for id := range found {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids[:min(n, len(ids))], !more && len(ids) <= n, err
}

// seeSessions shows the sessions that are stored under from and behind it, as many as are looked at at once, and before
// them those in memory if first is set. It returns from where to go on, and whether there may be more.
func (s *Store) seeSessions(from []byte, first bool, see func(*session)) (next []byte, more bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return nil, false, ErrClosed
	}
	if first {
		for _, ss := range s.sessions {
			see(ss)
		}
	}
	seen := 0
	err = scan(s.db, from, []byte{prefixLive + 1}, func(k, v []byte) error {
		if seen++; seen > sessionsAtOnce {
			next = slices.Clone(k)
			return errEnough
		}
		id, origin, epoch, err := decodeLive(k, v)
		if err != nil {
			return err
		}
		ss := s.sessions[id]
		if _, gone := s.purgedIDs[id]; gone {
			return nil
		}
		if ss == nil {
			if ss, err = s.meta.readImage(s.db, id, origin, epoch); err != nil {
				return err
			}
		}
		see(ss)
		return nil
	})
	if errors.Is(err, errEnough) {
		return next, true, nil
	}
	return nil, false, err
}

// Rollups calls yield for every rollup key with its present totals, which are those of the last Cut.
func (s *Store) Rollups(yield func(*schema.RollupRow) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	return scan(s.db, []byte{prefixRollup}, []byte{prefixRollup + 1}, func(k, v []byte) error {
		if len(k) > 5 && s.dropped(int32(binary.BigEndian.Uint32(k[1:5]))) {
			return nil
		}
		d := decoder{b: v}
		epoch := d.uvarint()
		t := decodeTotals(&d)
		if err := d.end(); err != nil {
			return fmt.Errorf("rollup %x: %w", k, err)
		}
		return yieldRollup(string(k[1:]), t, epoch, yield)
	})
}

// EpochEvents returns the number of rows that a closed epoch has in the events table. At least one sink must not have
// acknowledged the epoch yet. Any goroutine may call it.
func (s *Store) EpochEvents(epoch uint64) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return 0, ErrClosed
	}
	info, err := readEpochInfo(s.db, epoch)
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	return info.Events, nil
}

// OpenKeys shows the sessions that are open: the id of each, and whether the id is the Kafka key of its first record;
// otherwise the key is not known. Entries are applied meanwhile: one that comes to memory or leaves it may be missing
// or be shown twice. whole is false if ctx has ended before all were looked at.
func (s *Store) OpenKeys(ctx context.Context, see func(id string, byID bool)) (whole bool, err error) {
	show := func(ss *session) {
		if ss.status == schema.StatusOpen {
			see(ss.id, ss.key.known && ss.key.class == event.KeySession)
		}
	}
	s.mu.RLock()
	for _, ss := range s.sessions {
		show(ss)
	}
	s.mu.RUnlock()
	from, more := []byte{prefixLive}, true
	for more && err == nil && ctx.Err() == nil {
		from, more, err = s.seeSessions(from, false, func(ss *session) {
			if s.sessions[ss.id] != ss {
				show(ss)
			}
		})
	}
	return !more && err == nil, err
}
