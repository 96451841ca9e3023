package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node"
	"deckle/node/config"
	"deckle/node/status"
	"deckle/node/tap"
	"deckle/node/web"
	"deckle/sim"
	"deckle/state"
)

// member is what the demo needs of a node; *node.Node is one.
type member interface {
	Status() status.Node
	Store(shard uint32) *state.Store
	Wait() error
	Close(ctx context.Context) error
}

// cluster is the nodes of this process.
type cluster struct {
	names   []string
	members []member
	fatal   chan error // the first node that gave up
	tap     *tap.Board // of all nodes
}

// config returns the configuration of one node but for what differs between nodes.
func (o *Options) config(r *runPlace, brokers []string) config.Config {
	c := config.Config{
		Cluster: config.Cluster{
			Pipeline: "demo", Shards: o.Shards,
			// Three nodes, a broker and the simulator share the CPUs of this machine: the 500 ms that are right for a
			// local network would be tight.
			HeartbeatTimeout: time.Second, ElectionTimeout: time.Second, LeaseTimeout: time.Second,
		},
		Kafka: config.Kafka{Brokers: brokers, Topic: r.topic, Keyed: "yes", IdleAfter: 2 * time.Second},
		// A short grace, so that the drain is short.
		Session: config.Session{Grace: 2 * time.Second},
		Flush:   config.Flush{Interval: o.FlushInterval},
		Rules: config.Rules{
			Exclude: []config.Exclude{{Name: "bots", Field: sim.BotField, Equal: []string{"true"}}},
		},
		Limits: config.Limits{
			SessionMemoryBytes: 256 << 20, BufferMemoryBytes: 128 << 20, CacheBytes: 32 << 20,
		},
		Delta: &config.Delta{RevisionInterval: min(2*time.Second, o.FlushInterval)},
		HTTP:  config.HTTP{Listen: "127.0.0.1:0"},
	}
	if o.S3 != nil {
		s3 := *o.S3
		s3.Prefix = r.s3Prefix
		c.Delta.S3 = &s3
	} else {
		c.Delta.Path = filepath.Join(r.dir, "delta")
	}
	if o.ClickHouse != nil {
		ch := *o.ClickHouse
		ch.Database = r.database
		c.ClickHouse = &ch
	}
	return c
}

// openCluster starts the nodes on loopback ports that the kernel chooses.
func openCluster(ctx context.Context, o *Options, r *runPlace, brokers []string, reg prometheus.Registerer,
	log *slog.Logger) (c *cluster, err error) {
	c = &cluster{fatal: make(chan error, 1), tap: tap.NewBoard(o.Now)}
	base := o.config(r, brokers)
	var listeners []net.Listener
	defer func() {
		if err != nil {
			for _, ln := range listeners[len(c.members):] {
				err = errors.Join(err, ln.Close())
			}
			err = errors.Join(err, c.close(ctx))
		}
	}()
	for i := range o.Nodes {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("raft port: %w", err)
		}
		listeners = append(listeners, ln)
		name := string(rune('a' + i))
		c.names = append(c.names, name)
		base.Cluster.Nodes = append(base.Cluster.Nodes, config.Node{Name: name, Address: ln.Addr().String()})
	}
	for i, name := range c.names {
		cfg := base
		delta := *base.Delta
		cfg.Delta = &delta
		cfg.Node, cfg.DataDir = name, filepath.Join(r.dir, "node-"+name)
		if err := cfg.Complete(); err != nil {
			return c, err
		}
		n, err := node.Open(ctx, &cfg, node.Deps{
			Now: o.Now, Logger: log, RaftListener: listeners[i], Tap: c.tap,
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"node": name}, reg),
		})
		if err != nil {
			return c, fmt.Errorf("node %s: %w", name, err)
		}
		c.members = append(c.members, n)
		go c.watch(name, n)
	}
	return c, nil
}

// watch reports the first node that gives up.
func (c *cluster) watch(name string, m member) {
	if err := m.Wait(); err != nil {
		select {
		case c.fatal <- fmt.Errorf("node %s gave up: %w", name, err):
		default:
		}
	}
}

// statuses returns the status of each node, in the order of their names.
func (c *cluster) statuses() []status.Node {
	out := make([]status.Node, 0, len(c.members))
	for _, m := range c.members {
		out = append(out, m.Status())
	}
	return out
}

// Status joins the nodes' figures; see join. With Store it makes the cluster a web.Source: the page's.
func (c *cluster) Status() status.Node { return join(c.statuses()) }

// Store returns the replica of the shard's leader, or any.
func (c *cluster) Store(shard uint32) web.Replica {
	var found web.Replica
	for _, m := range c.members {
		store := m.Store(shard)
		if store == nil {
			continue
		}
		found = store
		for _, s := range m.Status().Shards {
			if s.Shard == shard && s.IsLeader {
				return store
			}
		}
	}
	return found
}

// join makes one status out of those of several nodes: each shard as its leader sees it or, if it has no leader, as
// the node sees it that has applied most.
func join(sts []status.Node) status.Node {
	out := status.Node{Ready: len(sts) > 0}
	at := map[uint32]int{}
	for _, st := range sts {
		if out.Node != "" {
			out.Node += ", "
		}
		out.Node += st.Node
		if out.ClusterID == "" {
			out.ClusterID = st.ClusterID
		}
		out.Ready = out.Ready && st.Ready
		for _, r := range st.Reasons {
			out.Reasons = append(out.Reasons, "node "+st.Node+": "+r)
		}
		out.Conditions = append(out.Conditions, st.Conditions...)
		if out.Members == nil {
			out.Members, out.CanLoseOne, out.Because = st.Members, st.CanLoseOne, st.Because
		}
		for _, s := range st.Shards {
			i, ok := at[s.Shard]
			switch {
			case !ok:
				at[s.Shard] = len(out.Shards)
				out.Shards = append(out.Shards, s)
			case better(&s, &out.Shards[i]):
				out.Shards[i] = s
			}
		}
	}
	return out
}

func better(a, b *status.Shard) bool {
	if a.IsLeader != b.IsLeader {
		return a.IsLeader
	}
	if a.IsLeader && a.Term != b.Term {
		return a.Term > b.Term
	}
	return a.Index > b.Index
}

// ready waits until every node is ready and every shard has a leader and its Config.
func (c *cluster) ready(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		st := c.Status()
		reason := "a node is not ready"
		if len(st.Reasons) > 0 {
			reason = st.Reasons[0]
		}
		if st.Ready {
			reason = ""
			for i := range st.Shards {
				if s := &st.Shards[i]; !s.IsLeader || !s.State.Configured {
					reason = fmt.Sprintf("shard %d has no leader", s.Shard)
				} else if s.State.Rules.Number == 0 { // the truth knows nothing of those of v0.1.0
					reason = fmt.Sprintf("shard %d has no rules", s.Shard)
				}
			}
			if len(st.Shards) > 0 && reason == "" {
				return nil
			}
		}
		select {
		case err := <-c.fatal:
			return err
		case <-ctx.Done():
			return fmt.Errorf("the cluster did not get ready: %s: %w", reason, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// close ends the nodes side by side.
func (c *cluster) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	done := make(chan error, len(c.members))
	for i, m := range c.members {
		go func() {
			err := m.Close(ctx)
			if err != nil {
				err = fmt.Errorf("node %s: %w", c.names[i], err)
			}
			done <- err
		}()
	}
	var errs []error
	for range c.members {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}
