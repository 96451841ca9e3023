package raftstore

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// instance is one run of the library's Raft for a group, with the transport that belongs to it. The engine begins it
// and ends it; a group may see several in its time, one after the other.
type instance struct {
	raft   *raft.Raft
	trans  *transport
	layer  *layer            // dials, and takes the connections of nobody
	in     map[string]*layer // take those of each other node, where connections tell their peer
	began  time.Time
	notify chan bool     // the library's notices: leadership won, or lost
	done   chan struct{} // closed when the instance has stopped
}

// from returns what takes the connections of a peer, nil if nothing does.
func (r *instance) from(peer string) *layer {
	if peer == nobody {
		return r.layer
	}
	return r.in[peer]
}

// restartRequest asks for a new instance: what the present one keeps in memory is not what its log holds.
type restartRequest struct {
	dropFrom uint64 // the index from which on the log's entries are to be dropped
	why      string
}

// current is the group's running instance, nil while none runs, and what the rest of the group asks of it.
type current struct {
	atomic.Pointer[instance]
	self func() raft.ServerID // this node's id
}

// isLeader tells whether this node leads the group, as far as it knows.
func (c *current) isLeader() bool {
	r := c.Load()
	return r != nil && r.raft.State() == raft.Leader
}

// leader returns the leader's node name, "" if unknown.
func (c *current) leader() string {
	r := c.Load()
	if r == nil {
		return ""
	}
	_, id := r.raft.LeaderWithID()
	return nodeOf(id)
}

// configuration returns the latest configuration, committed or not.
func (c *current) configuration() raft.Configuration {
	r := c.Load()
	if r == nil {
		return raft.Configuration{}
	}
	f := r.raft.GetConfiguration()
	if f.Error() != nil {
		return raft.Configuration{}
	}
	return f.Configuration()
}

// suffrage returns this node's part in the group: standVoter, standNonvoter or standNone.
func (c *current) suffrage() string { return suffrageOf(c.configuration(), c.self()) }
