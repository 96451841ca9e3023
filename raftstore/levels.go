package raftstore

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"deckle/schema/level"
)

// MemberLevel is what one server of a group has told of itself.
type MemberLevel struct {
	Server string // its id: node name and incarnation
	Node   string // its node name
	Voter  bool
	Level  uint32 // of its binary; 0 if it did not answer, as Err says
	Allows uint32 // up to which level it lets its groups rise: Level, or less if the configuration of its node says so
	Manual bool   // its node wants its groups to rise only when an operator says so
	Err    error  // why Level is not known
}

// RiseTo returns the level to which a group with these members may rise: the greatest one that each of them can read
// and allows. It is 0 if a member did not answer, or there is none.
func RiseTo(members []MemberLevel) (to uint32) {
	for i, m := range members {
		if i == 0 || m.Allows < to {
			to = m.Allows
		}
	}
	return to
}

// levels asks the servers of a group which level they have.
type levels struct {
	opts  *Options
	self  *self
	peers *peers
	run   *current
	fsm   *fsm
}

// ask asks every server of the latest committed configuration, and of one that is on its way.
func (l *levels) ask(ctx context.Context) ([]MemberLevel, error) {
	committed, _ := l.fsm.configuration()
	servers := slices.Clone(committed.Servers)
	for _, s := range l.run.configuration().Servers {
		i := slices.IndexFunc(servers, func(c raft.Server) bool { return c.ID == s.ID })
		if i < 0 {
			servers = append(servers, s)
		} else {
			servers[i].Suffrage = s.Suffrage
		}
	}
	if len(servers) == 0 {
		return nil, errNotReady
	}
	members := make([]MemberLevel, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		m := &members[i]
		m.Server, m.Node, m.Voter = string(s.ID), nodeOf(s.ID), s.Suffrage == raft.Voter
		wg.Go(func() { m.Level, m.Allows, m.Manual, m.Err = l.of(ctx, s.ID) })
	}
	wg.Wait()
	return members, nil
}

// of asks one server for its level, for the greatest level that it allows, and whether it wants to be asked first.
func (l *levels) of(ctx context.Context, id raft.ServerID) (has, allows uint32, manual bool, err error) {
	resp := &response{Level: l.opts.Level, MaxLevel: l.opts.MaxLevel, Manual: l.opts.Manual}
	if id != l.self.serverID() {
		p, ok := l.opts.peer(nodeOf(id))
		if !ok {
			return 0, 0, false, fmt.Errorf("raftstore: %s is not one of the configured nodes", id)
		}
		if resp, err = l.peers.call(ctx, p, &request{Op: opHello}); err != nil {
			return 0, 0, false, err
		}
		if resp.ServerID != string(id) {
			return 0, 0, false, fmt.Errorf("raftstore: the node at %s is %s", p.Addr, resp.ServerID)
		}
	}
	has = toldLevel(resp.Level)
	if allows = has; resp.MaxLevel > 0 {
		allows = min(has, resp.MaxLevel)
	}
	return has, allows, resp.Manual, nil
}

// toldLevel is the level that a request or a response tells: v0.1.0, which has the first, tells none.
func toldLevel(l uint32) uint32 { return max(l, uint32(level.First)) }
