package raftstore

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"
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
}

// admit decides on an incoming connection: it must mean this very server. It returns the answer to the header and what
// is to be done with an accepted connection.
func (s *control) admit(h header, c net.Conn) (byte, func()) {
	id := s.self.get()
	own := string(id.serverID())
	switch {
	case h.kind == kindControl && (h.target == id.Name || h.target == own):
		return answerOK, func() { s.serve(c) }
	case h.target != own:
		return answerNotMe, nil
	case !s.started() || s.closed() || uint64(h.group) >= uint64(len(s.groups)):
		return answerNotReady, nil
	}
	r := s.groups[h.group].run.Load()
	if r == nil {
		return answerNotReady, nil
	}
	return answerOK, func() { r.layer.hand(c) }
}

// serve answers one request, and closes the connection.
func (s *control) serve(c net.Conn) {
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
	resp, err := s.answer(ctx, &req)
	if err != nil {
		resp = &response{Error: err.Error()}
	}
	if err := writeFrame(c, resp); err != nil {
		s.logger.Debug("control response", "error", err)
	}
}

func (s *control) answer(ctx context.Context, req *request) (*response, error) {
	id := s.self.get()
	switch req.Op {
	case opHello:
		return &response{
			ServerID: string(id.serverID()), Cluster: id.Cluster, Phase: id.Phase, Nodes: id.Nodes, Shards: id.Shards,
			Level: s.opts.Level, MaxLevel: s.opts.MaxLevel,
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
		return &response{Told: s.opts.Do(ctx, req.Do)}, nil
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
		return g.health()
	}
	return nil, fmt.Errorf("%w: operation %q", errFrame, req.Op)
}
