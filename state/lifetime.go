package state

import (
	"math"

	"deckle/event"
	"deckle/schema/level"
)

// This file bounds how long a session stays that no record touches any more, whatever its times say (level 2).

// longestStay is the number of seconds after which a session leaves that no record has touched. If the retention is
// longer, it is the retention and a day.
const longestStay = 31 * 86400

// untouched is session.touched at level 1, which does not know it.
const untouched = math.MinInt64

// maxStay is the number of seconds for which a session that no record touches stays in the state.
func (m *meta) maxStay() int64 {
	if m.stay > 0 {
		return m.stay
	}
	return max(longestStay, seconds(m.Config.Retention)+86400)
}

// touched returns session.touched after a record: the clock, or, if the record's partition is ahead of the clock, the
// record's own time, as far as watermarks believe it. In a backlog of few records a partition may be months ahead of
// the clock, and its sessions must not leave while the clock comes up to them. now is the leader's wall clock, in Unix
// seconds.
func (m *meta) touched(before int64, it *event.Item, now int64) int64 {
	if m.level() < level.Real {
		return untouched
	}
	at, _ := heldTime(it, now, level.Real)
	return max(before, m.clock(), at)
}

// bounded returns the deadline that a session gets instead of the one that its times give it.
func (m *meta) bounded(touched, deadline int64) int64 {
	if m.level() < level.Real {
		return deadline
	}
	return min(deadline, touched+m.maxStay())
}

// touchedAtFirst is session.touched of a session that no record has touched since level 1: its last event, or the
// greatest time that the shard had seen when the level rose, if that was earlier.
func (m *meta) touchedAtFirst(last int64) int64 {
	if m.LevelClock == 0 { // the shard had seen no time yet
		return last
	}
	return min(last, m.LevelClock)
}
