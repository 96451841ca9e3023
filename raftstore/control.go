package raftstore

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// control takes the connections that come in at the node's port: it hands those of Raft to their group and answers the
// control requests, each of which has a connection of its own.
type control struct {
	opts    *Options
	logger  *slog.Logger
	self    *self
	groups  []*Group    // by shard
	started func() bool // the groups run
	closed  func() bool // the node is stopping
	leaving func() bool // the node takes no leadership any more

	refusals *refusals
	sharing  *sharing
}

// admit decides on an incoming connection: it must mean this very server. It returns the answer to the header and what
// is to be done with an accepted connection.
func (s *control) admit(h header, peer string, c net.Conn) (byte, func()) {
	id := s.self.get()
	own := string(id.serverID())
	switch {
	case h.kind == kindControl && (h.target == id.Name || h.target == own):
		return answerOK, func() { s.serve(c, peer) }
	case h.kind == kindShare && (h.target == id.Name || h.target == own):
		return answerOK, func() { s.sharing.serve(c, peer) }
	case h.kind != kindRaft:
		return answerNotMe, nil
	case h.target != own:
		return answerNotMe, nil
	case !s.started() || s.closed() || uint64(h.group) >= uint64(len(s.groups)):
		return answerNotReady, nil
	}
	r := s.groups[h.group].run.Load()
	if r == nil {
		return answerNotReady, nil
	}
	in := r.from(peer)
	if in == nil {
		return answerNotReady, nil
	}
	return answerOK, func() { in.hand(c) }
}

// serve answers one request of a peer, and closes the connection.
func (s *control) serve(c net.Conn, peer string) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * s.opts.Timings.Transport))
	var req request
	if err := readFrame(c, &req); err != nil {
		s.logger.Debug("control request", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.answerWithin(req.Op))
	defer cancel()
	_ = c.SetDeadline(time.Now().Add(s.opts.answerWithin(req.Op)))
	var resp *response
	var err error
	if no := s.hear(&req, peer); no != nil {
		s.refusals.request(noShard, s.opts.known(peer, raft.ServerID(req.From)), no)
		err = no.err
	} else {
		resp, err = s.answer(ctx, &req)
	}
	if err != nil {
		resp = &response{Error: err.Error()}
	}
	if err := writeFrame(c, resp); err != nil {
		s.logger.Debug("control response", "error", err)
	}
}

// hear returns why a request is not answered: it must come from the peer. A new cluster is told of by the first of the
// configured nodes, which is one of its founders.
func (s *control) hear(req *request, peer string) *refusal {
	if req.Op == opHello && strings.HasSuffix(req.From, "-") { // of ClusterOf, which has no incarnation yet
		_, no := s.opts.comesFrom(nodeOf(raft.ServerID(req.From)), peer)
		return no
	}
	node, no := s.opts.speaks(raft.ServerID(req.From), peer)
	if no != nil {
		return no
	}
	founder := func(m member) bool { return m.Name == node.Name && m.ID == req.From }
	if req.Op == opFound && (node.Name != s.opts.Nodes[0].Name || !slices.ContainsFunc(req.Founders, founder)) {
		return refused(whySender, "server %.100q founds no cluster: node %s does", req.From, s.opts.Nodes[0].Name)
	}
	return nil
}

func (s *control) answer(ctx context.Context, req *request) (*response, error) {
	id := s.self.get()
	switch req.Op {
	case opHello:
		return &response{
			ServerID: string(id.serverID()), Cluster: id.Cluster, Phase: id.Phase, Nodes: id.Nodes, Shards: id.Shards,
			Level: s.opts.Level, MaxLevel: s.opts.MaxLevel, Manual: s.opts.Manual,
			Shares: s.opts.Share != nil, Fixed: s.opts.Fixed,
		}, nil
	case opFound:
		return &response{}, s.self.found(req)
	}
	switch {
	case req.Cluster != id.Cluster:
		return nil, fmt.Errorf("raftstore: this is cluster %q, not %q", id.Cluster, req.Cluster)
	case req.Op == opTell && s.opts.Tell != nil:
		return &response{Told: s.opts.Tell()}, nil
	case req.Op == opDo && s.opts.Do != nil:
		return &response{Told: s.opts.Do(ctx, nodeOf(raft.ServerID(req.From)), req.Do)}, nil // hear has judged From
	case !s.started() || uint64(req.Shard) >= uint64(len(s.groups)):
		return nil, errNotReady
	}
	g := s.groups[req.Shard]
	switch req.Op {
	case opJoin:
		return g.members.join(req)
	case opHealth:
		if s.leaving() {
			return nil, errStopped
		}
		return g.health(req.Rescue)
	}
	return nil, fmt.Errorf("%w: operation %q", errFrame, req.Op)
}
