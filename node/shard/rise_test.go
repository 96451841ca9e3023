package shard

import (
	"errors"
	"testing"
	"time"

	"deckle/node/condition"
	"deckle/raftstore"
	"deckle/schema/level"
)

// What holds a level down is told with the member and the cause, and how bad it is follows from it: an operator who has
// asked for it need not be warned.
func TestJudgeLevel(t *testing.T) {
	const first, to = level.First, level.Real
	m := func(node string, has, allows level.Level, err error) raftstore.MemberLevel {
		return raftstore.MemberLevel{Node: node, Level: uint32(has), Allows: uint32(allows), Err: err}
	}
	away := errors.New("refused")
	const begin = "the shard's level is 1 and could be 2: "
	for _, c := range []struct {
		b, c raftstore.MemberLevel
		want risen
	}{
		{m("b", to, to, nil), m("c", to, to, nil), risen{to: to, asked: true}},
		{m("b", 3, 3, nil), m("c", to, to, nil), risen{to: to, asked: true}},
		{m("b", to, to, nil), m("c", 0, 0, away), risen{to: first, why: begin + "node c does not answer: refused"}},
		{m("b", first, first, nil), m("c", to, to, nil),
			risen{to: first, why: begin + "the version of node b has level 1"}},
		{m("b", to, first, nil), m("c", to, to, nil),
			risen{to: first, why: begin + "cluster.max_level of node b is 1", asked: true}},
		{m("b", to, first, nil), m("c", 0, 0, away),
			risen{to: first, why: begin + "cluster.max_level of node b is 1; node c does not answer: refused"}},
	} {
		got := judgeLevel([]raftstore.MemberLevel{m("a", to, to, nil), c.b, c.c}, first, to, first)
		if got != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.b, c.c, got, c.want)
		}
	}
}

// One member that wants to be asked holds a shard, up to the level that an operator has said, and that is no trouble.
func TestJudgeManualLevel(t *testing.T) {
	m := func(node string, has level.Level, manual bool) raftstore.MemberLevel {
		return raftstore.MemberLevel{Node: node, Level: uint32(has), Allows: uint32(has), Manual: manual}
	}
	const why = "the shard's level is 2 and could be 4: cluster.finalize of node b is manual (deckle upgrade finalize)"
	for _, c := range []struct {
		finalized level.Level
		others    level.Level
		manual    bool
		want      risen
	}{
		{0, 4, false, risen{to: 4, asked: true}},
		{0, 4, true, risen{to: 2, why: why, asked: true}},
		{2, 4, true, risen{to: 2, why: why, asked: true}},
		{3, 4, true, risen{to: 3, why: why, asked: true}}, // it was said when no more was to be had
		{4, 4, true, risen{to: 4, asked: true}},
		{4, 3, true, risen{to: 3, why: "the shard's level is 2 and could be 4: the version of node a has level 3"}},
	} {
		got := judgeLevel([]raftstore.MemberLevel{m("a", c.others, false), m("b", 4, c.manual)}, 2, 4, c.finalized)
		if got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// A level that stays low is a condition after a minute, not while the nodes are restarted one after the other, and ends
// when nothing holds it down any more.
func TestLowLevelIsTold(t *testing.T) {
	l := newTestLeadership(t)
	at := time.Unix(1_000_000, 0)
	for i, c := range []struct {
		after time.Duration
		r     risen
		want  condition.Severity // 0: none
	}{
		{0, risen{why: "b"}, 0},
		{lowPatience - time.Second, risen{why: "b"}, 0},
		{time.Second, risen{}, 0},
		{time.Second, risen{why: "c"}, 0},
		{lowPatience, risen{why: "c"}, condition.Degraded},
		{time.Second, risen{why: "b", asked: true}, condition.Notice},
		{time.Second, risen{}, 0},
	} {
		at = at.Add(c.after)
		l.showLow(&c.r, at)
		got, ok := l.cond.now().Get(condition.LevelLow, "shard 0")
		if ok != (c.want > 0) || got.Severity != c.want || ok && got.Text != c.r.why {
			t.Errorf("step %d: %+v, %v", i, got, ok)
		}
	}
}
