package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// self is who this node is while it runs: its identity file and the copy of it in memory, which never differ. Every
// change of the identity goes through it, so that no change overwrites another.
type self struct {
	opts    *Options
	changed chan struct{} // receives after a change, so that forming looks again at once

	mu sync.Mutex
	id *identity // replaced as a whole, never changed
}

func newSelf(o *Options, id *identity) *self {
	return &self{opts: o, changed: make(chan struct{}, 1), id: id}
}

// get returns a copy of the identity.
func (s *self) get() identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.id
}

// serverID returns this node's Raft server id.
func (s *self) serverID() raft.ServerID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id.serverID()
}

// replace takes over the identity of an emptied folder, which is saved already.
func (s *self) replace(id *identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
}

// save makes a changed identity the node's, durably. It is called with mu held.
func (s *self) save(next *identity) error {
	if err := saveIdentity(s.opts, next); err != nil {
		return err
	}
	s.id = next
	return nil
}

// become saves a changed identity, unless phase or cluster have changed since it was read.
func (s *self) become(from identity, change func(*identity)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id.Phase != from.Phase || s.id.Cluster != from.Cluster {
		return errors.New("raftstore: the identity has changed meanwhile")
	}
	next := *s.id
	change(&next)
	if err := s.save(&next); err != nil {
		return err
	}
	s.wake()
	return nil
}

// found makes this node part of a new cluster, if it has none and is one of the cluster's founders.
func (s *self) found(req *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.id.serverID()
	switch {
	case !slices.ContainsFunc(req.Founders, func(m member) bool { return m.ID == string(own) }):
		return fmt.Errorf("raftstore: %s is no founder of cluster %s", own, req.Cluster)
	case s.id.Cluster == req.Cluster && req.Cluster != "":
		return nil // it was told before
	case !isHex64(req.Cluster):
		return fmt.Errorf("raftstore: %q is no cluster's id", req.Cluster)
	case s.id.Phase != phaseNew:
		return fmt.Errorf("raftstore: %s is part of cluster %q", own, s.id.Cluster)
	case req.Shards != s.id.Shards || !slices.Equal(req.Nodes, s.id.Nodes):
		return fmt.Errorf("raftstore: %s is configured for %d shards on %v", own, s.id.Shards, s.id.Nodes)
	}
	next := *s.id
	next.Cluster, next.Phase = req.Cluster, phaseMember
	if err := s.save(&next); err != nil {
		return err
	}
	s.wake()
	return nil
}

func (s *self) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// makeVoid notes, durably, that the folder's promises are void: the next Open empties it, or, of a single node, refuses
// it. A folder that is void already keeps its reason.
func (s *self) makeVoid(reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.makeVoidLocked(reason)
}

func (s *self) makeVoidLocked(reason string) error {
	if s.id.Phase == phaseVoid {
		return nil
	}
	next := *s.id
	next.Phase, next.VoidReason, next.Founders = phaseVoid, reason, nil
	return s.save(&next)
}

// supersede makes the folder of a member, or of one that was about to become one, void, because another incarnation has
// taken its place. It tells whether the folder was one of these.
func (s *self) supersede() (wasMember bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id.Phase != phaseMember && s.id.Phase != phaseJoining {
		return false, nil
	}
	return true, s.makeVoidLocked(ErrSuperseded.Error())
}
