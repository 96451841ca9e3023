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

// timer is one entry of the timer index. It is current only if the session's own deadline and kind say the same: a timer
// that has moved leaves its old entry behind, until the next checkpoint.
type timer struct {
	kind     timerKind
	deadline int64
	sid      string
}

// compare is the order of the keys in Pebble, where the length of the session id stands before it.
func (a timer) compare(b timer) int {
	return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(len(a.sid), len(b.sid)), cmp.Compare(a.sid, b.sid))
}

// timerHeap holds the timers that were set since the last checkpoint, a heap a kind.
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

// setTimer gives the session its deadline. An entry that is armed for an earlier time is enough: when it comes up it is
// armed again for the session's own deadline, so that a session costs one entry between checkpoints and not one an event.
func (s *Store) setTimer(ss *session, deadline int64) {
	ss.deadline = max(deadline, 1)
	if ss.armed == 0 || ss.armedKind != ss.timerKind() || ss.armed > ss.deadline {
		s.armTimer(ss)
	}
}

func (s *Store) armTimer(ss *session) {
	ss.armed, ss.armedKind = ss.deadline, ss.timerKind()
	heap.Push(&s.newTimers[ss.armedKind], timer{ss.armedKind, ss.armed, ss.id})
}

// sessionDue returns the session that a timer entry is due for, nil if the entry is stale: the session is gone, is of another
// kind by now, or has its deadline later (then that is armed).
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

// fireDue calls fire for the sessions whose timers of a kind are due at now, in the order of their keys, at most
// limit of them, and returns how many it called and whether more are due. Which sessions are in memory, and when the last
// checkpoint was, changes neither the order nor the number (S6): entries of the heap and of Pebble are merged, and those
// that are not current are passed over without counting.
func (s *Store) fireDue(kind timerKind, now int64, limit int, fire func(*session) error) (fired int, more bool, err error) {
	var stored []timer // due timers of Pebble read ahead
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

// passTimer moves the cursor past a timer entry of Pebble.
func (s *Store) passTimer(t timer) {
	s.timerCursor[t.kind] = append(appendTimerKey(s.timerCursor[t.kind][:0], t.kind, t.deadline, t.sid), 0)
	s.timerNext[t.kind] = -1
}

// storedTimers reads up to n timer entries from the cursor on that are due; it does not move the cursor.
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

// nextStoredTimer returns the deadline of the first timer entry of Pebble from the cursor on, MaxInt64 if there is none.
func (s *Store) nextStoredTimer(kind timerKind) (int64, error) {
	if s.timerNext[kind] >= 0 {
		return s.timerNext[kind], nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: s.timerFrom(kind), UpperBound: []byte{prefixTimer, byte(kind) + 1}})
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

// nextTimer returns the deadline of the next closing timer as far as it is known without reading, for View; an entry that
// is not current may make it too early.
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
