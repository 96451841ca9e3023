package raftstore

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// nobody is the peer of a connection that does not tell which node is at its other end: one without TLS.
const nobody = ""

// speaker decides whether a request may be what it says it is. Every connection has a peer, the node at its other end,
// or nobody; a request is taken if that node could have sent it:
//
//	sender       its server id is one, and is of the peer; if the peer is nobody, of any node but this one
//	address      its address ends with that id. The rest of it is written anew, and with it what older versions of the
//	             library look at: the library compares addresses to know its leader, so that a candidate could pass
//	             for the leader
//	replaced     its server has not been replaced, as far as this replica has seen
//	term         its term is not too far above the one here (term.go). A server that has nothing takes any
//	not_leader   whoever asks for an election at once is the leader that is followed here: the library obeys anybody
//
// What a member may do with its own name is not looked at: Raft trusts its members.
type speaker struct {
	opts     *Options
	shard    uint32
	formers  *formers
	nothing  func() bool // tells whether this replica has neither an entry nor a snapshot
	refusals *refusals

	term atomic.Pointer[termRefusal] // the last request that was refused for its term
}

// termRefusal is a request that was refused for its term.
type termRefusal struct {
	at   time.Time
	text string
}

const (
	// termRefusedFor is how long requests must have been refused for their term, and no leader known, to say that this
	// is why none is: one request of a liar says nothing.
	termRefusedFor = 10 * time.Second
	// refusedFor is how long refusals are told of.
	refusedFor = 10 * time.Minute
)

// vantage is what a server knows of its group when it hears a request.
type vantage struct {
	term   uint64
	leader raft.ServerID // "" if none is known
}

// hear returns why an instance must not see a request, nil if it may. It writes the request's address anew.
func (s *speaker) hear(r *instance, command any, peer string) error {
	at := vantage{term: r.raft.CurrentTerm()}
	if _, ok := command.(*raft.TimeoutNowRequest); ok {
		_, at.leader = r.raft.LeaderWithID()
	}
	no := s.judge(command, peer, at)
	if no == nil {
		return nil
	}
	if no.why == whyTerm {
		s.term.Store(&termRefusal{time.Now(), no.err.Error()})
	}
	s.refusals.request(shardLabel(s.shard), s.opts.known(peer, idOf(command)), no)
	return no.err
}

// judge applies the rules in their order.
func (s *speaker) judge(command any, peer string, at vantage) *refusal {
	// gofail: var bugSnapshotOfAnybody struct{}
	// if _, ok := command.(*raft.InstallSnapshotRequest); ok {
	// 	return nil
	// }
	said, ok := saidBy(command)
	if !ok {
		return refused(whySender, "%T is no request of Raft", command)
	}
	id := raft.ServerID(said.header.ID)
	node, no := s.opts.speaks(id, peer)
	if no != nil {
		return no
	}
	addr, named, ok := bytes.Cut(said.header.Addr, []byte(dialSeparator))
	switch {
	case !ok || string(named) != string(id):
		return refused(whyAddress, "%.100q is no address of server %s", said.header.Addr, id)
	case s.formers.has(id):
		return refused(whyReplaced, "another incarnation has taken the place of server %s", id)
	case said.term >= termLimit, !termWithin(said.term, at.term) && !s.nothing():
		return refused(whyTerm, "server %s is in term %d, this one in term %d", id, said.term, at.term)
	}
	if _, ok := command.(*raft.TimeoutNowRequest); ok && (at.leader == "" || at.leader != id) {
		return refused(whyNotLeader, "server %s asks for an election, the leader known here is %q", id, at.leader)
	}
	if string(addr) != node.Addr {
		said.header.Addr = raftAddress(id, raft.ServerAddress(node.Addr))
	}
	if said.older != nil {
		*said.older = said.header.Addr
	}
	return nil
}

// said is what a request says of itself.
type said struct {
	header *raft.RPCHeader
	older  *[]byte // the address, for older versions of the library; nil if there is none
	term   uint64  // 0 if it has none
}

// saidBy returns what a request says of itself; it is not ok if it is none of Raft's.
func saidBy(command any) (s said, ok bool) {
	switch req := command.(type) {
	case *raft.AppendEntriesRequest:
		//nolint:staticcheck // older versions of the library look at it
		return said{&req.RPCHeader, &req.Leader, req.Term}, true
	case *raft.RequestVoteRequest:
		//nolint:staticcheck // older versions of the library look at it
		return said{&req.RPCHeader, &req.Candidate, req.Term}, true
	case *raft.RequestPreVoteRequest:
		return said{&req.RPCHeader, nil, req.Term}, true
	case *raft.InstallSnapshotRequest:
		return said{&req.RPCHeader, &req.Leader, req.Term}, true
	case *raft.TimeoutNowRequest:
		return said{&req.RPCHeader, nil, 0}, true
	}
	return said{}, false
}

func idOf(command any) raft.ServerID {
	if s, ok := saidBy(command); ok {
		return raft.ServerID(s.header.ID)
	}
	return ""
}

// termRefused returns which request was refused for its term within the last while, "" if none was.
func (s *speaker) termRefused(while time.Duration) string {
	if t := s.term.Load(); t != nil && time.Since(t.at) < while {
		return t.text
	}
	return ""
}

// speaks returns the configured node that a server id is of, or why the peer cannot be speaking as that server.
func (o *Options) speaks(id raft.ServerID, peer string) (Peer, *refusal) {
	name := nodeOf(id)
	if name == "" || !isHex64(string(id)[len(name)+1:]) {
		return Peer{}, refused(whySender, "%.100q is no server's id", id)
	}
	return o.comesFrom(name, peer)
}

// comesFrom returns the configured node of a name, or why the peer cannot be it.
func (o *Options) comesFrom(name, peer string) (Peer, *refusal) {
	switch node, ok := o.peer(name); {
	case peer != nobody && peer != name:
		return Peer{}, refused(whySender, "node %s speaks as node %.100q", peer, name)
	case !ok || name == o.Name:
		return Peer{}, refused(whySender, "%.100q is no other configured node", name)
	default:
		return node, nil
	}
}

// known returns the peer, or else the configured node that an id is of, "" if it is of none: what a stranger says does
// not come into logs and lists.
func (o *Options) known(peer string, id raft.ServerID) string {
	name := nodeOf(id)
	if peer != nobody || !slices.ContainsFunc(o.Nodes, func(p Peer) bool { return p.Name == name }) {
		return peer
	}
	return name
}
