package raftstore

import (
	"context"
	"errors"
)

// Store is one node's part of the cluster: its groups, their log and their state machines.
type Store struct{}

// Open opens identity, log and state machines, listens, and starts forming or rejoining the cluster in the background;
// Ready tells when that is done.
func Open(ctx context.Context, opts Options) (*Store, error) {
	return nil, errors.New("raftstore: being written")
}

// Ready is closed once this node is a voting member of every group and its groups run.
func (s *Store) Ready() <-chan struct{} { return nil }

// ClusterID returns the cluster's id, 16 hexadecimal digits; valid after Ready.
func (s *Store) ClusterID() string { return "" }

// Group returns the shard's group; valid after Ready, nil before or if there is no such shard.
func (s *Store) Group(shard uint32) *Group { return nil }

// Status tells where the node stands; safe from any goroutine at any time.
func (s *Store) Status() Status { return Status{} }

// Close hands leadership over (within ctx), then stops the groups and closes state machines, log and listener.
func (s *Store) Close(ctx context.Context) error { return nil }

// Status is where a node stands.
type Status struct {
	Node      string
	ServerID  string // name and incarnation
	ClusterID string // "" before the cluster is known
	Ready     bool
	Reasons   []string // why the node is not ready, or what is wrong; for people
	Groups    []GroupStatus
	WALBytes  int64 // length of the node's log
}

// GroupStatus is where one group stands, as this node sees it.
type GroupStatus struct {
	Shard        uint32
	Leader       string // node name, "" if unknown
	IsLeader     bool
	Suffrage     string // this node's: "voter", "nonvoter" or "none"
	Preferred    string // the node that should lead
	Term         uint64
	FirstIndex   uint64 // of the log
	LastIndex    uint64
	CommitIndex  uint64
	AppliedIndex uint64 // handed to the state machine
	DurableIndex uint64 // of the state machine
	MarkerIndex  uint64 // of the last snapshot marker
	LogBytes     int64
}
