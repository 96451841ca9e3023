package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/shard"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/share"
)

// sharing is this node's part in cutting all shards of a cluster with Delta tables together, and in writing what they
// closed in one commit of a table.
type sharing struct {
	n      *Node
	turns  *shard.Turns
	rounds *share.Rounds // while this node is the committer
	client *share.Client // makes its offers

	metrics *share.Metrics
	apart   *share.Apart // the commits of this node

	mu     sync.Mutex
	asking map[string]bool // the nodes that are being asked
}

// askWithin is how long a node may take to hear of a turn: after that it is better off with turns of its own.
const askWithin = 2 * time.Second

// shares says whether the Delta tables are written by one commit for all nodes.
func shares(cfg *config.Config) bool { return cfg.Delta != nil && *cfg.Delta.CommitWait > 0 }

func newSharing(n *Node) *sharing {
	s, d := &sharing{n: n, asking: map[string]bool{}, apart: share.NewApart(n.deps.Now),
		metrics: share.NewMetrics(latestRegisterer{n.deps.Registerer})}, n.cfg.Delta
	var names []string
	for _, p := range n.cfg.Cluster.Nodes {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	o := shard.TurnsOptions{Self: s.Self(), Every: n.cfg.Flush.Interval, Revise: d.RevisionInterval, Now: n.deps.Now,
		Place: slices.Index(names, s.Self()), Nodes: len(names),
		Leader: func() string { return s.Leader(0) }, Joint: n.sinks.joint, Count: n.shardMetrics.Turn}
	s.rounds = share.New(share.Options{Peers: s, Log: s.log, Check: s.check, Wait: *d.CommitWait,
		Now: n.deps.Now, Metrics: s.metrics})
	s.client = share.NewClient(s, s.rounds, n.raft.Share)
	o.Heard = s.rounds.Heard
	s.turns = shard.NewTurns(o)
	return s
}

// Self implements share.Peers.
func (s *sharing) Self() string { return s.n.cfg.Node }

// Shards implements share.Peers.
func (s *sharing) Shards() uint32 { return uint32(s.n.cfg.Cluster.Shards) }

// Leader implements share.Peers.
func (s *sharing) Leader(id uint32) string {
	if g := s.n.raft.Group(id); g != nil {
		return g.Leader()
	}
	return ""
}

// log is share.Options.Log.
func (s *sharing) log(table string) share.Log {
	if log, _ := s.n.delta.committer(table); log != nil {
		return log
	}
	return nil
}

// check is share.Options.Check.
func (s *sharing) check(o *deltalog.Offer, leads func(shard uint32) bool) error {
	_, partitions := s.n.delta.committer(o.Table)
	return o.Check(&deltalog.OfferRules{ClusterID: s.n.raft.ClusterID(), Pipeline: s.n.cfg.Cluster.Pipeline,
		PartitionColumns: partitions, Shards: s.Shards(), Leads: leads})
}

// run asks and is asked until ctx ends.
func (s *sharing) run(ctx context.Context) {
	var asks sync.WaitGroup
	defer asks.Wait()
	s.turns.Run(ctx, func(t sinks.Turn) { s.ask(ctx, &asks, t) })
}

// ask asks the other nodes to cut, but none that has not answered the last ask yet. It does not wait for them.
func (s *sharing) ask(ctx context.Context, asks *sync.WaitGroup, t sinks.Turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.n.cfg.Cluster.Nodes {
		if p.Name == s.Self() || s.asking[p.Name] {
			continue
		}
		s.asking[p.Name] = true
		asks.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askWithin)
			defer cancel()
			if err := share.Ask(ctx, s.n.raft.Share, p.Name, t); err != nil {
				s.n.deps.Logger.Debug("a node was not asked to cut", "error", err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.asking, p.Name)
		})
	}
}

// serve answers what another node shares.
func (s *sharing) serve(ctx context.Context, from string, what json.RawMessage) json.RawMessage {
	return share.Serve(ctx, from, what, s.rounds, s.turns.Hear)
}

// offer is delta.Options.Offer.
func (n *Node) offer(ctx context.Context, o *deltalog.Offer) (deltalog.Answer, error) {
	return n.sharing.Load().offer(ctx, o), nil
}

// offer offers what this node has staged to the committer.
func (s *sharing) offer(ctx context.Context, o *deltalog.Offer) deltalog.Answer {
	// Without a token it is committed with what is offered in the next turn.
	return s.client.Offer(ctx, o, 2*s.n.cfg.Flush.Interval)
}

// offered is delta.Options.Offered.
func (n *Node) offered(table string, o deltalog.Outcome) {
	s := n.sharing.Load()
	if s == nil {
		return
	}
	s.metrics.Offered(table, o)
	if own := o == delta.OutcomeAlone; own || o == deltalog.OutcomeCommitted {
		s.apart.Note(own)
	}
}

// commitsApart says that many of this node's commits were its own, "" if they were not.
func (s *sharing) commitsApart() string {
	own, all := s.apart.LastHour()
	if own <= condition.ApartFew || float64(own) <= condition.ApartShare*float64(all) {
		return ""
	}
	return fmt.Sprintf("of the %d commits that rows of this node were in during the last hour, it has made %d by "+
		"itself", all, own)
}

// close answers offers that wait, and waits for commits for others that have begun.
func (s *sharing) close() { s.rounds.Close() }

var _ share.Peers = (*sharing)(nil)
