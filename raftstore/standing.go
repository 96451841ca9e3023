package raftstore

import (
	"context"
	"sync/atomic"
	"time"
)

// standing is this node's part in taking its place in a group: it asks the group's leader where this node stands, which
// brings it one step further (members.go), until it is a voter. A member that knows of no leader asks too: it may have
// been replaced.
type standing struct {
	opts       *Options
	shard      uint32
	run        *current
	fsm        *fsm
	self       *self
	peers      *peers
	ctx        context.Context // ends with the group
	superseded func()          // is called when another incarnation has taken this node's place
	why        atomic.Pointer[string]
}

// refused returns why the group's leader does not let this node in, "" if it does, or has not been asked.
func (s *standing) refused() string {
	if why := s.why.Load(); why != nil {
		return *why
	}
	return ""
}

// watch asks as long as the group runs.
func (s *standing) watch() {
	t := s.opts.Timings
	tick := time.NewTicker(max(t.Heartbeat/2, 10*time.Millisecond))
	defer tick.Stop()
	good := time.Now()
	var hint string
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		phase := s.self.get().Phase
		switch suffrage := s.run.suffrage(); {
		case suffrage == standVoter && (s.run.leader() != "" || phase == phaseJoining):
			good = time.Now()
			continue
		case phase == phaseMember && time.Since(good) < 10*t.Election:
			continue
		}
		hint = s.ask(hint, phase == phaseMember)
		if phase == phaseMember {
			good = time.Now() // ask again after a while
		}
	}
}

// ask makes one round of questions: to the node that is said to lead, or else to all. It returns the name of the node
// that is said to lead, "" if none is.
func (s *standing) ask(hint string, inquiry bool) (leader string) {
	for _, p := range s.opts.Nodes {
		if p.Name == s.opts.Name || hint != "" && p.Name != hint {
			continue
		}
		req := &request{Op: opJoin, Shard: s.shard, Inquiry: inquiry, Applied: s.fsm.known()}
		resp, err := s.peers.call(s.ctx, p, req)
		if err != nil {
			continue
		}
		switch resp.Stand {
		case standNotLeader:
			if resp.Leader != "" && resp.Leader != s.opts.Name {
				leader = resp.Leader
			}
		case standSuperseded:
			s.superseded()
			return ""
		default:
			s.why.Store(&resp.Refused)
			return p.Name
		}
	}
	return leader
}
