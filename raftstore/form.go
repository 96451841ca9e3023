package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// caughtUp is how many entries a follower may be behind to be made a voter, or to be handed the leadership.
const caughtUp = 64

// form brings this node from whatever its identity says to membership.
func (s *Store) form() {
	wait := max(s.opts.Timings.Heartbeat/4, 10*time.Millisecond)
	for {
		done, err := s.step(s.ctx)
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			s.reason("cluster", err.Error())
		case done:
			s.reason("cluster", "")
			s.mu.Lock()
			s.isReady = true
			s.mu.Unlock()
			close(s.ready)
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.ctx.Done():
		case <-s.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step makes one step; it tells whether the node is ready, or why it is not.
func (s *Store) step(ctx context.Context) (ready bool, err error) {
	s.mu.Lock()
	id := *s.id
	s.mu.Unlock()
	switch id.Phase {
	case phaseNew:
		return false, s.discover(ctx, id)
	case phaseFounding:
		return false, s.bootstrap(ctx, id)
	}
	if err := s.startGroups(); err != nil {
		s.fatal(err)
		return false, err
	}
	var waits []string
	for _, g := range s.groups {
		if st := g.suffrage(); st != standVoter {
			waits = append(waits, fmt.Sprintf("shard %d: %s", g.shard, st))
		}
	}
	if len(waits) > 0 {
		return false, fmt.Errorf("%s in cluster %s, not yet a voter: %s", id.Phase, id.Cluster, strings.Join(waits, ", "))
	}
	if id.Phase == phaseJoining {
		if err := s.become(id, func(n *identity) { n.Phase = phaseMember }); err != nil {
			return false, err
		}
	}
	return true, nil
}

// become saves a changed identity, unless it has changed since it was read.
func (s *Store) become(from identity, change func(*identity)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id.Phase != from.Phase || s.id.Cluster != from.Cluster {
		return errors.New("raftstore: the identity has changed meanwhile")
	}
	next := *s.id
	change(&next)
	if err := saveIdentity(&s.opts, &next); err != nil {
		return err
	}
	s.id = &next
	s.kicked()
	return nil
}

// discover asks the peers. If one has a cluster this node joins it. If all answer that they have none, the first of the
// configured nodes founds one.
func (s *Store) discover(ctx context.Context, id identity) error {
	founders := []member{}
	var cluster string
	var silent []string
	for _, p := range s.opts.Nodes {
		resp := &response{ServerID: string(id.serverID()), Nodes: id.Nodes, Shards: id.Shards, Phase: id.Phase}
		if p.Name != s.opts.Name {
			var err error
			if resp, err = s.call(ctx, p, &request{Op: opHello}); err != nil {
				silent = append(silent, fmt.Sprintf("%s (%v)", p.Name, err))
				continue
			}
		}
		switch {
		case resp.Shards != id.Shards || !slices.Equal(resp.Nodes, id.Nodes):
			return fmt.Errorf("%w: %s is configured for %d shards on %v, this node for %d on %v",
				ErrConfig, p.Name, resp.Shards, resp.Nodes, id.Shards, id.Nodes)
		case resp.Cluster != "" && !isHex64(resp.Cluster):
			return fmt.Errorf("%s is of cluster %q, which is no cluster's id", p.Name, resp.Cluster)
		case resp.Phase == phaseFounding:
			return fmt.Errorf("%s is founding cluster %s", p.Name, resp.Cluster)
		case resp.Cluster != "" && cluster != "" && resp.Cluster != cluster:
			return fmt.Errorf("the other nodes are of different clusters, %s and %s", cluster, resp.Cluster)
		case resp.Cluster != "":
			cluster = resp.Cluster
		}
		founders = append(founders, member{p.Name, resp.ServerID, p.Addr})
	}
	switch {
	case cluster != "":
		s.logger.Info("the other nodes have a cluster: joining it", "cluster", cluster, "server", id.serverID())
		return s.become(id, func(n *identity) { n.Cluster, n.Phase = cluster, phaseJoining })
	case len(silent) > 0:
		return fmt.Errorf("no cluster yet, and no answer from %s", strings.Join(silent, ", "))
	case s.opts.Nodes[0].Name != s.opts.Name:
		return fmt.Errorf("no cluster yet: %s will found it", s.opts.Nodes[0].Name)
	}
	drawn := hex64(s.opts.Rand())
	s.logger.Info("founding a cluster", "cluster", drawn, "shards", id.Shards, "founders", founders)
	return s.become(id, func(n *identity) { n.Cluster, n.Phase, n.Founders = drawn, phaseFounding, founders })
}

// bootstrap tells the founders, and then writes every group's first configuration. It can be repeated from any point:
// as long as the phase is founding no group has anything but what was written here. A founder that cannot be told now
// finds the cluster by itself.
func (s *Store) bootstrap(ctx context.Context, id identity) error {
	told := 1
	var missing []string
	for _, m := range id.Founders {
		p, ok := s.opts.peer(m.Name)
		if !ok || m.Name == s.opts.Name {
			continue
		}
		_, err := s.call(ctx, p, &request{Op: opFound, Cluster: id.Cluster, Founders: id.Founders, Nodes: id.Nodes, Shards: id.Shards})
		if err != nil {
			missing = append(missing, err.Error())
			continue
		}
		told++
	}
	if told <= len(id.Founders)/2 {
		return fmt.Errorf("founding cluster %s: %s", id.Cluster, strings.Join(missing, "; "))
	}
	var conf raft.Configuration
	for _, m := range id.Founders {
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Addr)})
	}
	for _, g := range s.groups {
		if err := g.bootstrap(conf); err != nil {
			return fmt.Errorf("founding cluster %s: shard %d: %w", id.Cluster, g.shard, err)
		}
	}
	return s.become(id, func(n *identity) { n.Phase, n.Founders = phaseMember, nil })
}

// bootstrap writes the first entry, if there is none.
func (g *Group) bootstrap(conf raft.Configuration) error {
	last, err := g.log.inner.LastIndex()
	if err != nil || last > 0 {
		return err
	}
	if err := g.log.inner.SetUint64([]byte(termKey), 1); err != nil {
		return err
	}
	return g.log.inner.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)})
}

func (s *Store) startGroups() error {
	s.mu.Lock()
	started := s.started
	s.mu.Unlock()
	if started {
		return nil
	}
	for _, g := range s.groups {
		if err := g.start(); err != nil {
			return err
		}
	}
	for _, g := range s.groups {
		g.work()
	}
	s.mu.Lock()
	s.started = true
	s.mu.Unlock()
	return nil
}

// stand asks the group's leader where this node stands, while it is not a voter, or, for a member, while it knows of no
// leader: it may have been replaced.
func (g *Group) stand() {
	t := g.store.opts.Timings
	tick := time.NewTicker(max(t.Heartbeat/2, 10*time.Millisecond))
	defer tick.Stop()
	good := time.Now()
	var hint string
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-tick.C:
		}
		phase := g.store.phase()
		switch suffrage := g.suffrage(); {
		case suffrage == standVoter && (g.Leader() != "" || phase == phaseJoining):
			good = time.Now()
			continue
		case phase == phaseMember && time.Since(good) < 10*t.Election:
			continue
		}
		hint = g.ask(hint, phase == phaseMember)
		if phase == phaseMember {
			good = time.Now() // ask again after a while
		}
	}
}

// ask makes one round: the node that is said to lead, else all. It returns who is said to lead.
func (g *Group) ask(hint string, inquiry bool) (leader string) {
	for _, p := range g.store.opts.Nodes {
		if p.Name == g.store.opts.Name || hint != "" && p.Name != hint {
			continue
		}
		resp, err := g.store.call(g.ctx, p, &request{Op: opJoin, Shard: g.shard, Inquiry: inquiry, Applied: g.fsm.known()})
		if err != nil {
			continue
		}
		switch resp.Stand {
		case standNotLeader:
			if resp.Leader != "" && resp.Leader != g.store.opts.Name {
				leader = resp.Leader
			}
		case standSuperseded:
			g.store.supersede()
			return ""
		default:
			return p.Name
		}
	}
	return leader
}

func (s *Store) phase() phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id.Phase
}

// supersede ends this folder: the next start empties it.
func (s *Store) supersede() {
	s.mu.Lock()
	if s.id.Phase != phaseMember || s.closed {
		s.mu.Unlock()
		return
	}
	err := s.void(ErrSuperseded.Error())
	s.mu.Unlock()
	s.fatal(errors.Join(ErrSuperseded, err))
}

// void makes the folder void, durably, unless it is. It is called with mu held.
func (s *Store) void(reason string) error {
	if s.id.Phase == phaseVoid {
		return nil
	}
	next := *s.id
	next.Phase, next.VoidReason, next.Founders = phaseVoid, reason, nil
	if err := saveIdentity(&s.opts, &next); err != nil {
		return err
	}
	s.id = &next
	return nil
}
