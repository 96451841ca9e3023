package cluster

import "deckle/node/status"

func (w *world) anyMember() *member { return w.members[w.rng.IntN(len(w.members))] }

// committer is the member that commits for all, or any.
func (w *world) committer() *member {
	if m, _ := w.leaderNow(0); m != nil {
		return m
	}
	return w.anyMember()
}

// leaderNow returns the member that leads the shard and its status, nil if there is none. If two of them think that
// they lead, the one of the later term counts.
func (w *world) leaderNow(shard uint32) (lead *member, st status.Shard) {
	for _, m := range w.members {
		inc := m.current()
		if inc == nil {
			continue
		}
		for _, sh := range inc.node.Status().Shards {
			if sh.Shard == shard && sh.IsLeader && (lead == nil || sh.Term > st.Term) {
				lead, st = m, sh
			}
		}
	}
	return lead, st
}
