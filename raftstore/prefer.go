package raftstore

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// fit tells whether a node that reported its health could take the leadership now. To hand it to a node that cannot
// would stall the group: the leader takes no entries until the attempt has timed out.
func (g *Group) fit(h *response, r *running) bool {
	return h.Stand == standVoter && h.LastIndex+caughtUp >= r.raft.LastIndex() && h.Applied+caughtUp >= r.raft.CommitIndex() &&
		time.Duration(h.StoreMs)*time.Millisecond <= g.store.opts.Timings.Election/2
}

// prefer hands the group to its preferred node, while this node leads it and the preferred one reports itself fit.
func (g *Group) prefer() {
	every := 4 * g.store.opts.Timings.Heartbeat // 2 s by default
	tick := time.NewTicker(every)
	defer tick.Stop()
	p, _ := g.store.opts.peer(g.preferred())
	if p.Name == g.store.opts.Name {
		return
	}
	var w waiting
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-tick.C:
		}
		r := g.run.Load()
		if r == nil || r.raft.State() != raft.Leader {
			w.lost()
			continue
		}
		if !w.due(time.Now(), every) {
			continue
		}
		h, err := g.store.call(g.ctx, p, &request{Op: opHealth, Shard: g.shard})
		if err != nil || !g.fit(h, r) {
			continue
		}
		ctx, cancel := context.WithTimeout(g.ctx, 4*g.store.opts.Timings.Transport)
		err = g.TransferLeadership(ctx, p.Name)
		cancel()
		w.tried(time.Now(), every, err)
		if err != nil && g.ctx.Err() == nil {
			g.logger.Warn("could not hand the leadership to the preferred node", "node", p.Name, "retry", w.pause, "error", err)
		}
	}
}

// waiting says when the leadership may be handed to the preferred node: a new leader first leads for a while, and longer each
// time that the lead comes back soon after it was handed over. A node that cannot keep the lead (its disk, its processor or
// its network stalls now and then) would otherwise be given it every few seconds; each time the group stands still, and what
// the sinks had begun begins anew.
type waiting struct {
	leads  bool
	next   time.Time     // not before
	pause  time.Duration // of the last wait
	handed time.Time     // the last attempt
}

// steady is how many rounds the preferred node must have kept the lead for it to count as able to.
const steady = 30

func (w *waiting) lost() { w.leads = false }

func (w *waiting) due(now time.Time, every time.Duration) bool {
	if !w.leads {
		w.leads = true
		if w.handed.IsZero() || now.Sub(w.handed) > steady*every+w.pause {
			w.pause = every
		} else {
			w.pause = backOff(w.pause, every)
		}
		w.next = now.Add(w.pause)
	}
	return !now.Before(w.next)
}

func (w *waiting) tried(now time.Time, every time.Duration, err error) {
	w.handed = now
	if err != nil {
		w.pause = backOff(w.pause, every)
		w.next = now.Add(w.pause)
	}
}

// backOff is how long to wait after a failed attempt: two rounds, then twice as long each time, at most two minutes, for
// during each the group takes no entries.
func backOff(pause, every time.Duration) time.Duration {
	return min(max(2*pause, 2*every), 2*time.Minute)
}

// TransferLeadership hands the group to the named node, and returns when this node no longer leads.
func (g *Group) TransferLeadership(ctx context.Context, node string) error {
	r := g.run.Load()
	if r == nil || r.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	for _, server := range g.configuration().Servers {
		if nodeOf(server.ID) != node || server.Suffrage != raft.Voter {
			continue
		}
		f := r.raft.LeadershipTransferToServer(server.ID, server.Address)
		answer := make(chan error, 1)
		go func() { answer <- f.Error() }()
		select {
		case err := <-answer:
			if err != nil {
				return fmt.Errorf("raftstore: hand shard %d to %s: %w", g.shard, node, err)
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("raftstore: hand shard %d to %s: %w", g.shard, node, ctx.Err())
		}
	}
	return fmt.Errorf("raftstore: %s is no voter of shard %d", node, g.shard)
}

// leave hands the group to another node that is fit, the preferred one first.
func (g *Group) leave(ctx context.Context) error {
	r := g.run.Load()
	if r == nil {
		return nil
	}
	var last error
	nodes := g.store.opts.Nodes
	for i := range nodes {
		p := nodes[(int(g.shard)+i)%len(nodes)]
		if p.Name == g.store.opts.Name {
			continue
		}
		h, err := g.store.call(ctx, p, &request{Op: opHealth, Shard: g.shard})
		switch {
		case err != nil:
		case !g.fit(h, r):
			err = fmt.Errorf("raftstore: %s is not fit to lead shard %d", p.Name, g.shard)
		default:
			if err = g.TransferLeadership(ctx, p.Name); err == nil {
				return nil
			}
		}
		last = err
		if r.raft.State() != raft.Leader {
			return nil
		}
	}
	return last
}
