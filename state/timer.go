package state

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// timer is one entry of the timer index. It is current only if the session has the same deadline and kind. A timer that
// has moved leaves its old entry behind until the next checkpoint.
type timer struct {
	kind     timerKind
	deadline int64
	sid      string
}

// compare is the order of the keys in Pebble, in which the length of the session id comes before the id.
func (a timer) compare(b timer) int {
	return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(len(a.sid), len(b.sid)), cmp.Compare(a.sid, b.sid))
}

// timerHeap holds the timers that were set since the last checkpoint, in one heap for each kind.
type timerHeap [numTimerKinds]timerQueue

type timerQueue []timer

func (q timerQueue) Len() int { return len(q) }

func (q timerQueue) Less(i, j int) bool { return q[i].compare(q[j]) < 0 }

func (q timerQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *timerQueue) Push(x any) { *q = append(*q, x.(timer)) }

func (q *timerQueue) Pop() any {
	old := *q
	t := old[len(old)-1]
	*q = old[:len(old)-1]
	return t
}

func (s *Store) resetTimers() {
	for k := range numTimerKinds {
		s.newTimers[k] = nil
		s.timerCursor[k] = nil
		s.timerNext[k] = -1
	}
}

// setTimer gives the session its deadline. If an entry is armed for an earlier time, no new one is needed: when it
// comes up, it is armed again for the session's own deadline. So a session costs one entry between checkpoints, and not
// one entry per event.
func (s *Store) setTimer(ss *session, deadline int64) {
	ss.deadline = max(s.meta.bounded(ss.touched, deadline), 1)
	if ss.armed == 0 || ss.armedKind != ss.timerKind() || ss.armed > ss.deadline {
		s.armTimer(ss)
	}
}

func (s *Store) armTimer(ss *session) {
	ss.armed, ss.armedKind = ss.deadline, ss.timerKind()
	heap.Push(&s.newTimers[ss.armedKind], timer{ss.armedKind, ss.armed, ss.id})
}

// sessionDue returns the session for which a timer entry is due. It returns nil if the entry is stale: the session is
// gone, its kind has changed, or its deadline is later (then a timer is armed for that).
func (s *Store) sessionDue(t timer) (*session, error) {
	ss, err := s.lookup(t.sid)
	if err != nil || ss == nil || ss.timerKind() != t.kind {
		return nil, err
	}
	if ss.deadline == t.deadline {
		return ss, nil
	}
	if ss.armed == t.deadline && ss.armedKind == t.kind {
		s.armTimer(ss)
	}
	return nil, nil
}

// fireDue calls fire for the sessions whose timers of a kind are due at now, in the order of their keys, at most limit
// times. It returns how often it called fire, and whether more timers are due. Neither the order nor the number depends
// on which sessions are in memory or when the last checkpoint was (S6): the entries of the heap and those of Pebble are
// merged, and entries that are not current are passed over without being counted.
func (s *Store) fireDue(
	kind timerKind, now int64, limit int, fire func(*session) error,
) (fired int, more bool, err error) {
	var stored []timer // due timers of Pebble that were read ahead
	var exhausted bool
	readAhead := func() error {
		if len(stored) > 0 || exhausted {
			return nil
		}
		stored, exhausted, err = s.storedTimers(kind, now, max(limit-fired, 1))
		return err
	}
	for {
		if err := readAhead(); err != nil {
			return fired, false, err
		}
		q := &s.newTimers[kind]
		fromHeap := len(*q) > 0 && (*q)[0].deadline <= now
		var t timer
		switch {
		case len(stored) == 0 && !fromHeap:
			return fired, false, nil
		case len(stored) == 0 || fromHeap && (*q)[0].compare(stored[0]) <= 0:
			t = (*q)[0]
		default:
			t, fromHeap = stored[0], false
		}
		ss, err := s.sessionDue(t)
		if err != nil {
			return fired, false, err
		}
		if ss != nil && fired >= limit {
			return fired, true, nil
		}
		if fromHeap {
			heap.Pop(q)
		} else {
			stored = stored[1:]
			s.passTimer(t)
		}
		if ss == nil {
			continue
		}
		if err := fire(ss); err != nil {
			return fired, false, err
		}
		fired++
	}
}

// passTimer moves the cursor past one of Pebble's timer entries.
func (s *Store) passTimer(t timer) {
	s.timerCursor[t.kind] = append(appendTimerKey(s.timerCursor[t.kind][:0], t.kind, t.deadline, t.sid), 0)
	s.timerNext[t.kind] = -1
}

// storedTimers reads up to n due timer entries from the cursor on. It does not move the cursor.
func (s *Store) storedTimers(kind timerKind, now int64, n int) (ts []timer, exhausted bool, err error) {
	next, err := s.nextStoredTimer(kind)
	if err != nil || next > now {
		return nil, true, err
	}
	errEnough := errors.New("enough")
	err = scan(s.db, s.timerFrom(kind), []byte{prefixTimer, byte(kind) + 1}, func(k, _ []byte) error {
		deadline, sid, err := decodeTimerKey(k)
		if err != nil {
			return err
		}
		if deadline > now {
			exhausted = true
			return errEnough
		}
		if len(ts) == n {
			return errEnough
		}
		ts = append(ts, timer{kind, deadline, sid})
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, false, err
	}
	return ts, exhausted || err == nil, nil
}

func (s *Store) timerFrom(kind timerKind) []byte {
	if c := s.timerCursor[kind]; c != nil {
		return slices.Clone(c)
	}
	return []byte{prefixTimer, byte(kind)}
}

// nextStoredTimer returns the deadline of Pebble's first timer entry from the cursor on; MaxInt64 if there is none.
func (s *Store) nextStoredTimer(kind timerKind) (int64, error) {
	if s.timerNext[kind] >= 0 {
		return s.timerNext[kind], nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: s.timerFrom(kind), UpperBound: []byte{prefixTimer, byte(kind) + 1},
	})
	if err != nil {
		return 0, fmt.Errorf("state: iterating timers: %w", err)
	}
	next := int64(math.MaxInt64)
	if it.First() {
		if next, _, err = decodeTimerKey(it.Key()); err != nil {
			return 0, errors.Join(err, it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return 0, fmt.Errorf("state: iterating timers: %w", err)
	}
	s.timerNext[kind] = next
	return next, nil
}

// nextTimer returns, for View, the deadline of the next timer that closes a session, as far as it is known without
// reading from Pebble. An entry that is not current may make it too early.
func (s *Store) nextTimer() (int64, error) {
	next := int64(math.MaxInt64)
	if n := s.timerNext[timerClose]; n >= 0 {
		next = n
	}
	if q := s.newTimers[timerClose]; len(q) > 0 {
		next = min(next, q[0].deadline)
	}
	return next, nil
}
