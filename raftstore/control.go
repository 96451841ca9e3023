package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// admit decides on an incoming connection: it must mean this very server.
func (s *Store) admit(h header, c net.Conn) (byte, func()) {
	s.mu.Lock()
	name, id, started := s.id.Name, string(s.id.serverID()), s.started && !s.closed
	s.mu.Unlock()
	switch {
	case h.kind == kindControl && (h.target == name || h.target == id):
		return answerOK, func() { s.serveControl(c) }
	case h.target != id:
		return answerNotMe, nil
	case !started || uint64(h.group) >= uint64(len(s.groups)):
		return answerNotReady, nil
	}
	r := s.groups[h.group].run.Load()
	if r == nil {
		return answerNotReady, nil
	}
	return answerOK, func() { r.layer.hand(c) }
}

// serveControl answers one request.
func (s *Store) serveControl(c net.Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * s.opts.Timings.Transport))
	var req request
	if err := readFrame(c, &req); err != nil {
		s.logger.Debug("control request", "error", err)
		return
	}
	resp, err := s.answer(&req)
	if err != nil {
		resp = &response{Error: err.Error()}
	}
	if err := writeFrame(c, resp); err != nil {
		s.logger.Debug("control response", "error", err)
	}
}

func (s *Store) answer(req *request) (*response, error) {
	switch req.Op {
	case opHello:
		return s.hello(), nil
	case opFound:
		return &response{}, s.found(req)
	}
	s.mu.Lock()
	started, leaving, cluster := s.started, s.leaving, s.id.Cluster
	s.mu.Unlock()
	switch {
	case req.Cluster != cluster:
		return nil, fmt.Errorf("raftstore: this is cluster %q, not %q", cluster, req.Cluster)
	case !started || uint64(req.Shard) >= uint64(len(s.groups)):
		return nil, errNotReady
	}
	g := s.groups[req.Shard]
	switch req.Op {
	case opJoin:
		return g.join(req)
	case opHealth:
		if leaving {
			return nil, errStopped
		}
		return g.health()
	}
	return nil, fmt.Errorf("%w: operation %q", errFrame, req.Op)
}

func (s *Store) hello() *response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &response{
		ServerID: string(s.id.serverID()), Cluster: s.id.Cluster, Phase: s.id.Phase, Nodes: s.id.Nodes, Shards: s.id.Shards,
	}
}

// found makes this node part of a new cluster, if it has none and is one of its founders.
func (s *Store) found(req *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.id.serverID()
	switch {
	case !slices.ContainsFunc(req.Founders, func(m member) bool { return m.ID == string(own) }):
		return fmt.Errorf("raftstore: %s is no founder of cluster %s", own, req.Cluster)
	case s.id.Cluster == req.Cluster && req.Cluster != "":
		return nil // told before
	case !isHex64(req.Cluster):
		return fmt.Errorf("raftstore: %q is no cluster's id", req.Cluster)
	case s.id.Phase != phaseNew:
		return fmt.Errorf("raftstore: %s is part of cluster %q", own, s.id.Cluster)
	case req.Shards != s.id.Shards || !slices.Equal(req.Nodes, s.id.Nodes):
		return fmt.Errorf("raftstore: %s is configured for %d shards on %v", own, s.id.Shards, s.id.Nodes)
	}
	next := *s.id
	next.Cluster, next.Phase = req.Cluster, phaseMember
	if err := saveIdentity(&s.opts, &next); err != nil {
		return err
	}
	s.id = &next
	s.kicked()
	return nil
}

func (s *Store) kicked() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// call sends one request to a node.
func (s *Store) call(ctx context.Context, p Peer, req *request) (*response, error) {
	s.mu.Lock()
	req.From = string(s.id.serverID())
	if req.Cluster == "" {
		req.Cluster = s.id.Cluster
	}
	s.mu.Unlock()
	c, err := s.net.dial(ctx, p.Addr, header{kind: kindControl, target: p.Name})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * s.opts.Timings.Transport))
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var resp response
	if err = writeFrame(c, req); err == nil {
		err = readFrame(c, &resp)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("raftstore: %s to %s: %w", req.Op, p.Name, err)
	case resp.Error != "":
		return nil, fmt.Errorf("raftstore: %s answers: %s", p.Name, resp.Error)
	}
	return &resp, nil
}

// health says whether this node could lead the group.
func (g *Group) health() (*response, error) {
	r := g.run.Load()
	if r == nil || g.fsm.err() != nil {
		return nil, errNotReady
	}
	return &response{
		Stand: g.suffrage(), Term: r.raft.CurrentTerm(), LastIndex: r.raft.LastIndex(), Applied: g.fsm.known(),
		StoreMs: g.log.lag().Milliseconds(),
	}, nil
}

// join says where a server stands in the group, and, unless it only inquires, brings it one step further.
func (g *Group) join(req *request) (*response, error) {
	r := g.run.Load()
	if r == nil {
		return nil, errNotReady
	}
	if r.raft.State() != raft.Leader {
		return &response{Stand: standNotLeader, Leader: g.Leader()}, nil
	}
	id := raft.ServerID(req.From)
	p, ok := g.store.opts.peer(nodeOf(id))
	if !ok {
		return nil, fmt.Errorf("raftstore: %s is not one of the configured nodes", id)
	}
	conf := g.configuration()
	stand := suffrageOf(conf, id)
	switch {
	case stand == standVoter:
	case stand == standNonvoter:
		if !req.Inquiry && req.Applied+caughtUp >= r.raft.CommitIndex() {
			g.change(r, p, id)
		}
	case !req.Inquiry:
		g.change(r, p, id)
		stand = standPending
	default:
		// This ends a folder: only a leader that is one, speaking of a configuration that is committed, may say it.
		committed, at := g.fsm.configuration()
		if at == 0 || suffrageOf(committed, id) != standNone || g.verify(r) != nil {
			return &response{Stand: standPending}, nil
		}
		stand = standSuperseded
	}
	return &response{Stand: stand}, nil
}

// verify asks a quorum whether this node still leads, for at most the transport timeout.
func (g *Group) verify(r *running) error {
	f := r.raft.VerifyLeader()
	answer := make(chan error, 1)
	go func() { answer <- f.Error() }()
	timer := time.NewTimer(g.store.opts.Timings.Transport)
	defer timer.Stop()
	select {
	case err := <-answer:
		return err
	case <-timer.C:
		return errors.New("raftstore: leadership not verified in time")
	case <-g.ctx.Done():
		return errStopped
	}
}

// change brings a server one step further, in the background: its node's former server is removed, it is added as a
// non-voter, it is made a voter. One change at a time.
func (g *Group) change(r *running, p Peer, id raft.ServerID) {
	if !g.changing.TryLock() {
		return
	}
	g.wg.Go(func() {
		defer g.changing.Unlock()
		if err := g.changeTo(r, p, id); err != nil && g.ctx.Err() == nil {
			g.logger.Warn("membership change", "server", id, "error", err)
		}
	})
}

func (g *Group) changeTo(r *running, p Peer, id raft.ServerID) error {
	// The node itself is asked, at its configured address: a request that was long under way, or comes from a copy of
	// a folder, replaces nobody.
	resp, err := g.store.call(g.ctx, p, &request{Op: opHello})
	if err != nil {
		return err
	}
	if resp.ServerID != string(id) {
		return fmt.Errorf("raftstore: the node at %s is %s", p.Addr, resp.ServerID)
	}
	timeout := g.store.opts.Timings.Transport
	conf := g.configuration()
	if suffrageOf(conf, id) == standNonvoter {
		g.logger.Info("caught up: making it a voter", "server", id)
		return r.raft.AddVoter(id, raft.ServerAddress(p.Addr), 0, timeout).Error()
	}
	for _, server := range conf.Servers {
		if server.ID != id && nodeOf(server.ID) == p.Name {
			g.logger.Warn("replacing a node's former incarnation", "former", server.ID, "server", id)
			if err := r.raft.RemoveServer(server.ID, 0, timeout).Error(); err != nil {
				return fmt.Errorf("remove %s: %w", server.ID, err)
			}
		}
	}
	if err := r.raft.AddNonvoter(id, raft.ServerAddress(p.Addr), 0, timeout).Error(); err != nil {
		return fmt.Errorf("add %s: %w", id, err)
	}
	return nil
}
