package raftstore

import (
	"context"
	"fmt"
	"time"
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
	}
	return &resp, nil
}
