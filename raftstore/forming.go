package raftstore

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// forming brings this node from whatever its identity says to membership; doc.go has the diagram.
type forming struct {
	opts    *Options
	logger  *slog.Logger
	self    *self
	peers   *peers
	groups  []*Group
	fatal   func(error)
	state   func(text string) // notes why the node is not ready yet, "" once it is
	started atomic.Bool       // the groups run
}

// form returns once this node is a voter of every group, and tells so; or when ctx ends.
func (f *forming) form(ctx context.Context) (ready bool) {
	wait := max(f.opts.Timings.Heartbeat/4, 10*time.Millisecond)
	for {
		done, err := f.step(ctx)
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			f.state(err.Error())
		case done:
			f.state("")
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-f.self.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step makes one step; it tells whether the node is ready, or why it is not.
func (f *forming) step(ctx context.Context) (ready bool, err error) {
	id := f.self.get()
	switch id.Phase {
	case phaseNew:
		return false, f.discover(ctx, id)
	case phaseFounding:
		return false, f.found(ctx, id)
	}
	if err := f.fits(ctx, id); err != nil {
		return false, err
	}
	if err := f.startGroups(); err != nil {
		f.fatal(err)
		return false, err
	}
	var waits []string
	for _, g := range f.groups {
		if st := g.run.suffrage(); st != standVoter {
			if why := g.standing.refused(); why != "" {
				st += ", " + why
			}
			waits = append(waits, fmt.Sprintf("shard %d: %s", g.shard, st))
		}
	}
	if len(waits) > 0 {
		return false, fmt.Errorf("%s in cluster %s, not yet a voter: %s",
			id.Phase, id.Cluster, strings.Join(waits, ", "))
	}
	if id.Phase == phaseJoining {
		if err := f.self.become(id, func(n *identity) { n.Phase = phaseMember }); err != nil {
			return false, err
		}
	}
	return true, nil
}

// fits returns why the groups must not start: a value is configured here that was fixed as another one. What the state
// here says of it counts. A node without a state asks those that belong to its cluster; where none of them answers, or
// all are of versions that do not tell, it is let through, and finds out when it leads.
//
// A member is not compared with the others: one of them that is configured wrongly must not keep two from starting.
func (f *forming) fits(ctx context.Context, id identity) error {
	if f.started.Load() || len(f.opts.Fixed) == 0 {
		return nil
	}
	if f.opts.Founded != nil {
		if founded := f.opts.Founded(); founded != nil {
			return differs(f.opts.Fixed, founded, "in the state in "+f.opts.Dir)
		}
	}
	for _, p := range f.opts.Nodes {
		if p.Name == f.opts.Name {
			continue
		}
		resp, err := f.peers.call(ctx, p, &request{Op: opHello})
		if err != nil || resp.Cluster != id.Cluster {
			continue
		}
		if err := differs(f.opts.Fixed, resp.Fixed, "on node "+p.Name); err != nil {
			return err
		}
	}
	return nil
}

// discover asks the peers. If one has a cluster this node joins it. If all answer that they have none, the first of the
// configured nodes founds one.
func (f *forming) discover(ctx context.Context, id identity) error {
	founders := []member{}
	var cluster string
	var silent []string
	for _, p := range f.opts.Nodes {
		resp := &response{ServerID: string(id.serverID()), Nodes: id.Nodes, Shards: id.Shards, Phase: id.Phase}
		if p.Name != f.opts.Name {
			var err error
			if resp, err = f.peers.call(ctx, p, &request{Op: opHello}); err != nil {
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
		if err := differs(f.opts.Fixed, resp.Fixed, "on node "+p.Name); err != nil {
			return err
		}
		founders = append(founders, member{p.Name, resp.ServerID, p.Addr})
	}
	switch {
	case cluster != "":
		f.logger.Info("the other nodes have a cluster: joining it", "cluster", cluster, "server", id.serverID())
		return f.self.become(id, func(n *identity) { n.Cluster, n.Phase = cluster, phaseJoining })
	case len(silent) > 0:
		return fmt.Errorf("no cluster yet, and no answer from %s", strings.Join(silent, ", "))
	case f.opts.Nodes[0].Name != f.opts.Name:
		return fmt.Errorf("no cluster yet: %s will found it", f.opts.Nodes[0].Name)
	}
	drawn := hex64(f.opts.Rand())
	f.logger.Info("founding a cluster", "cluster", drawn, "shards", id.Shards, "founders", founders)
	return f.self.become(id, func(n *identity) { n.Cluster, n.Phase, n.Founders = drawn, phaseFounding, founders })
}

// found tells the founders, and then writes every group's first configuration. It can be repeated from any point: as
// long as the phase is founding no group has anything but what was written here. A founder that cannot be told now
// finds the cluster by itself.
func (f *forming) found(ctx context.Context, id identity) error {
	told := 1
	var missing []string
	for _, m := range id.Founders {
		p, ok := f.opts.peer(m.Name)
		if !ok || m.Name == f.opts.Name {
			continue
		}
		req := &request{Op: opFound, Cluster: id.Cluster, Founders: id.Founders, Nodes: id.Nodes, Shards: id.Shards}
		if _, err := f.peers.call(ctx, p, req); err != nil {
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
		conf.Servers = append(conf.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Addr),
		})
	}
	for _, g := range f.groups {
		if err := g.writeFirstConfiguration(conf); err != nil {
			return fmt.Errorf("founding cluster %s: shard %d: %w", id.Cluster, g.shard, err)
		}
	}
	return f.self.become(id, func(n *identity) { n.Phase, n.Founders = phaseMember, nil })
}

// startGroups lets Raft run in every group, once.
func (f *forming) startGroups() error {
	if f.started.Load() {
		return nil
	}
	for _, g := range f.groups {
		if err := g.engine.start(); err != nil {
			return err
		}
	}
	for _, g := range f.groups {
		g.work()
	}
	f.started.Store(true)
	return nil
}
