package raftstore

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// peers sends control requests to the other nodes; control.go answers them.
type peers struct {
	opts *Options
	self *self
	net  *network
}

// call sends one request to a node and returns its answer, within answerWithin. It fills From and Level, and
// Cluster unless the request names one.
func (p *peers) call(ctx context.Context, to Peer, req *request) (*response, error) {
	id := p.self.get()
	req.From, req.Level = string(id.serverID()), p.opts.Level
	if req.Cluster == "" {
		req.Cluster = id.Cluster
	}
	c, err := p.net.dial(ctx, to.Addr, header{kind: kindControl, target: to.Name})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(p.opts.answerWithin(req.Op)))
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var resp response
	if err = writeFrame(c, req); err == nil {
		err = readFrame(c, &resp)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("raftstore: %s to %s: %w", req.Op, to.Name, err)
	case resp.Error != "":
		return nil, fmt.Errorf("%w: %s: %s", ErrRefused, to.Name, resp.Error)
	case req.Op == opHello && nodeOf(raft.ServerID(resp.ServerID)) != to.Name:
		return nil, fmt.Errorf("raftstore: %s to %s: server %q answers", req.Op, to.Name, resp.ServerID)
	}
	return &resp, nil
}

// ClusterOf asks the other configured nodes, all at once, to which cluster they belong, and returns its id; "" if none
// of those that answer within the transport timeouts belongs to one. So whoever is about to create a cluster learns
// beforehand that this node would only join the one that is there. It opens nothing and tells nothing; of the options
// it uses Name, Nodes, Shards, Timings, Security, Plain, Dial and Logger.
func ClusterOf(ctx context.Context, opts Options) (id string) {
	for _, a := range Hello(ctx, opts) {
		id = cmp.Or(id, a.Cluster)
	}
	return id
}

// Answer is what a configured node has answered to a hello.
type Answer struct {
	Name    string
	Cluster string // the id of its cluster, "" for none
	Err     error  // why it has not answered, or has refused
}

// Hello asks the other configured nodes, all at once, as ClusterOf does, and returns what each has answered, in the
// order of the configuration.
func Hello(ctx context.Context, opts Options) []Answer {
	opts.Timings.complete()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	n := newNetwork(&opts)
	defer n.close()
	p := &peers{opts: &opts, self: newSelf(&opts, &identity{Name: opts.Name}), net: n}
	told := make([]Answer, len(opts.Nodes))
	var all sync.WaitGroup
	for i, to := range opts.Nodes {
		told[i].Name = to.Name
		if to.Name == opts.Name {
			continue
		}
		all.Go(func() {
			resp, err := p.call(ctx, to, &request{Op: opHello})
			if told[i].Err = err; err == nil && isHex64(resp.Cluster) {
				told[i].Cluster = resp.Cluster
			}
		})
	}
	all.Wait()
	return slices.DeleteFunc(told, func(a Answer) bool { return a.Name == opts.Name })
}
