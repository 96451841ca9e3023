package web

import (
	"slices"
	"testing"

	"deckle/node/status"
)

// What holds the level down is told by node and cause, and whether an older version may come back: by the highest level
// of any shard, since one is enough to close the way.
func TestUpgradeStatus(t *testing.T) {
	node := func(name string, has, allows, lowest, highest uint32, manual bool) status.Member {
		return status.Member{Node: name, Answers: true, Figures: &status.Figures{Version: "v" + name, Has: has,
			Knows: allows, Level: lowest, Highest: highest, Manual: manual}}
	}
	away := func(m status.Member) status.Member { m.Answers = false; return m }
	for name, c := range map[string]struct {
		members                []status.Member
		level, highest, newest uint32
		back                   bool
		holds                  []string
	}{
		"finalized": {[]status.Member{node("a", 5, 5, 5, 5, true), node("b", 5, 5, 5, 5, true)}, 5, 5, 5, false,
			[]string{}},
		"waits": {[]status.Member{node("a", 5, 5, 4, 4, true), node("b", 5, 5, 4, 4, false)}, 4, 4, 5, true,
			[]string{"cluster.finalize of node a is manual"}},
		"halfway": {[]status.Member{node("a", 5, 5, 4, 5, false), away(node("b", 5, 5, 4, 5, false))}, 4, 5, 5, false,
			[]string{"node b does not answer"}},
		"rolling": {[]status.Member{node("a", 5, 5, 4, 4, false), node("b", 0, 4, 4, 0, false)}, 4, 4, 5, true,
			[]string{"version vb of node b has level 4"}},
		"held down": {[]status.Member{node("a", 5, 4, 4, 4, false), {Node: "b"}}, 4, 4, 5, true,
			[]string{"cluster.max_level of node a is 4", "node b has not told its version"}},
		"nothing is known": {[]status.Member{{Node: "a"}}, 0, 0, 0, false, []string{}},
	} {
		u := newAPIUpgrade(c.members)
		if u.Level != c.level || u.Highest != c.highest || u.Newest != c.newest || u.WayBack != c.back ||
			!slices.Equal(u.Holds, c.holds) || len(u.Nodes) != len(c.members) {
			t.Errorf("%s: %+v", name, u)
		}
	}
}
