package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// caughtUp is how many entries a follower may be behind to be made a voter, or to be handed the leadership.
const caughtUp = 64

// members is the leader's part in replacing a node's former incarnation: it says where a server stands in the group,
// and brings it one step further at a time. Every step is a plain membership change of Raft.
type members struct {
	opts     *Options
	logger   *slog.Logger
	run      *current
	fsm      *fsm
	formers  *formers
	peers    *peers
	ctx      context.Context // ends with the group
	wg       *sync.WaitGroup // of the group's tasks
	changing sync.Mutex      // held during a membership change: this leader makes one at a time
}

// join says where a server stands in the group, and, unless it only inquires, brings it one step further.
func (m *members) join(req *request) (*response, error) {
	r := m.run.Load()
	if r == nil {
		return nil, errNotReady
	}
	if err := m.fsm.holdErr(); err != nil {
		return nil, err // it does not know what the group has decided since
	}
	if r.raft.State() != raft.Leader {
		return &response{Stand: standNotLeader, Leader: m.run.leader()}, nil
	}
	id := raft.ServerID(req.From)
	p, ok := m.opts.peer(nodeOf(id))
	if !ok {
		return nil, fmt.Errorf("raftstore: %s is not one of the configured nodes", id)
	}
	stand := suffrageOf(m.run.configuration(), id)
	tooOld := m.tooOld(req.Level)
	switch {
	case stand == standVoter:
	case !req.Inquiry && tooOld != nil: // it shows that, and asks again
		return &response{Stand: stand, Refused: tooOld.Error()}, nil
	case stand == standNonvoter:
		if !req.Inquiry && req.Applied+caughtUp >= r.raft.CommitIndex() {
			m.change(r, p, id)
		}
	case !req.Inquiry && !m.formers.has(id): // the folder of a joiner that was replaced must not come back
		m.change(r, p, id)
		stand = standPending
	default:
		// This answer ends a folder. Only a node that is certain to lead may give it, and only on behalf of a
		// configuration that is committed.
		committed, at := m.fsm.configuration()
		if at == 0 || suffrageOf(committed, id) != standNone || m.verifyLeadership(r) != nil {
			return &response{Stand: standPending}, nil
		}
		stand = standSuperseded
	}
	return &response{Stand: stand}, nil
}

// tooOld returns why a server whose binary told a level is not let in: it could not read what the group writes.
func (m *members) tooOld(told uint32) error {
	if has, needs := toldLevel(told), uint32(m.fsm.level()); has < needs {
		return fmt.Errorf("refused: its binary has level %d, the group has level %d: run the newer version there",
			has, needs)
	}
	return nil
}

// verifyLeadership asks a quorum whether this node still leads, for at most the transport timeout.
func (m *members) verifyLeadership(r *instance) error {
	f := r.raft.VerifyLeader()
	answer := make(chan error, 1)
	go func() { answer <- f.Error() }()
	timer := time.NewTimer(m.opts.Timings.Transport)
	defer timer.Stop()
	select {
	case err := <-answer:
		return err
	case <-timer.C:
		return errors.New("raftstore: leadership not verified in time")
	case <-m.ctx.Done():
		return errStopped
	}
}

// change brings a server one step further, in the background, unless another change is being made: its node's former
// server is removed and it is added as a non-voter, or it is made a voter.
func (m *members) change(r *instance, p Peer, id raft.ServerID) {
	if !m.changing.TryLock() {
		return
	}
	m.wg.Go(func() {
		defer m.changing.Unlock()
		if err := m.changeTo(r, p, id); err != nil && m.ctx.Err() == nil {
			m.logger.Warn("membership change", "server", id, "error", err)
		}
	})
}

func (m *members) changeTo(r *instance, p Peer, id raft.ServerID) error {
	// The node itself is asked, at its configured address: a request that was on its way for long, or that comes from a
	// copy of a folder, replaces nobody.
	resp, err := m.peers.call(m.ctx, p, &request{Op: opHello})
	if err != nil {
		return err
	}
	if resp.ServerID != string(id) {
		return fmt.Errorf("raftstore: the node at %s is %s", p.Addr, resp.ServerID)
	}
	if err := m.tooOld(resp.Level); err != nil {
		return err
	}
	timeout := m.opts.Timings.Transport
	conf := m.run.configuration()
	if suffrageOf(conf, id) == standNonvoter {
		m.logger.Info("caught up: making it a voter", "server", id)
		return r.raft.AddVoter(id, raft.ServerAddress(p.Addr), 0, timeout).Error()
	}
	for _, server := range conf.Servers {
		if server.ID != id && nodeOf(server.ID) == p.Name {
			m.logger.Warn("replacing a node's former incarnation", "former", server.ID, "server", id)
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
