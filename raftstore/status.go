package raftstore

import "deckle/wal"

// Status is where a node stands.
type Status struct {
	Node      string
	ServerID  string // name and incarnation
	ClusterID string // "" before the cluster is known
	Ready     bool
	Reasons   []string // why the node is not ready, or what is wrong; for people
	Troubles  []string // what is wrong, and does not keep this node from being ready; for people
	Drained   bool     // see Store.Drain
	Groups    []GroupStatus
	WALBytes  int64 // length of the node's log
	// Refusing is why no entries are taken, for any group: a group that is held has made the log too long; "" if they
	// are.
	Refusing string
	WAL      wal.Stats
	// Refused are the last ten minutes' connections, requests and answers that were refused because they cannot be what
	// they say, of ends with a certificate of the nodes' CA: the latest of each node and address. Where connections
	// without TLS are taken it is empty, since anybody could fill it.
	Refused []Refusal
}

// Refusal says that a request or an answer was refused.
type Refusal struct {
	From string // the configured node that it came from, or said it came from, or else the address; "" if neither
	Text string // why, for people
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
	AppliedIndex uint64 // in the state machine
	DurableIndex uint64 // of the state machine
	MarkerIndex  uint64 // of the last snapshot marker
	LogBytes     int64
	Level        uint32 // of the group, as of AppliedIndex
	HeldIndex    uint64 // the first entry that this binary cannot read yet: the group is held; 0 if it is not
	HeldReason   string // why, "" if it is not held
	// TermRefused is why this server follows nobody: requests were refused, in the last ten seconds, because their term
	// is too far above its own, and it knows no leader for as long. "" if not.
	TermRefused string
	Refused     string   // why the leader does not let this node in, "" if it does, or has not been asked
	NotSent     []string // of a leader: which servers could not be sent a snapshot in the last minute, and why
}
