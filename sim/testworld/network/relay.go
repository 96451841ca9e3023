package network

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// The frames of a Raft connection, as package raftstore and hashicorp/raft write them.
const (
	headerFixed  = 10 // "DKL1" | kind u8 | group u32 | length u8; the target follows
	headerLength = 9  // where the length of the target stands
	headerKind   = 4
	kindRaft     = 1
	kindShare    = 3

	rpcAppendEntries  = 0
	rpcRequestVote    = 1
	rpcRequestPreVote = 4
)

// repeatTimeout bounds how long the delivery of one copy may take.
const repeatTimeout = 5 * time.Second

// What becomes of a connection of kind share, which carries one request and one answer.
const (
	nothingLost = iota
	requestLost // it breaks before the request is sent
	answerLost  // it breaks when the answer is there
)

// maxCopy bounds the requests that are repeated.
const maxCopy = 1 << 20

// Relay repeats requests of Raft connections, and loses requests and answers of connections of kind share; see the
// package's comment. It is safe for concurrent use.
type Relay struct {
	n    *Network
	intn func(int) int
	ctx  context.Context // of the deliveries

	mu       sync.Mutex
	share    float64
	most     time.Duration
	lose     float64
	lost     int
	pending  map[*time.Timer]bool
	closed   bool
	sent     int
	delivery sync.WaitGroup
}

// NewRelay returns a relay that repeats nothing yet. It ends with the network.
func NewRelay(n *Network, intn func(n int) int) *Relay {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{n: n, intn: intn, ctx: ctx, pending: map[*time.Timer]bool{}}
	stop := func() { cancel(); r.stop() }
	n.mu.Lock()
	closed := n.closed
	n.atClose = append(n.atClose, stop)
	n.mu.Unlock()
	if closed {
		stop()
	}
	return r
}

// Repeat sets how many of the requests are sent a second time, as a share of one, and how much later at the most. What
// was to be repeated already still is.
func (r *Relay) Repeat(share float64, most time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.share, r.most = share, most
}

// Repeated returns how many copies have been sent.
func (r *Relay) Repeated() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}

// Lose sets how many requests of kind share, or the answers to them, are lost from now on, as a share of one.
func (r *Relay) Lose(share float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lose = share
}

// Lost returns how many have been lost.
func (r *Relay) Lost() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// drawLoss decides what becomes of a connection of kind share.
func (r *Relay) drawLoss() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.lose <= 0 || float64(r.intn(1_000_000)) >= r.lose*1_000_000 {
		return nothingLost
	}
	r.lost++
	return requestLost + r.intn(2)
}

// stop ends the deliveries that are under way, and waits for them.
func (r *Relay) stop() {
	r.mu.Lock()
	r.closed = true
	for t := range r.pending {
		t.Stop()
	}
	clear(r.pending)
	r.mu.Unlock()
	r.delivery.Wait()
}

// Dial connects by dial, and repeats what goes over the connection if it turns out to be one of Raft's. Copies are sent
// from the host from, whatever has become of the process that has sent the original: they are on their way.
func (r *Relay) Dial(ctx context.Context, from, addr string, dial func(context.Context, string) (net.Conn,
	error)) (net.Conn, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &relayed{Conn: c, r: r, from: from, addr: addr}, nil
}

// draw decides whether, and how much later, a request is sent again.
func (r *Relay) draw() (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.share <= 0 || r.most <= 0 || float64(r.intn(1_000_000)) >= r.share*1_000_000 {
		return 0, false
	}
	return 1 + time.Duration(r.intn(int(r.most))), true
}

// relayed is a connection whose requests may come again.
type relayed struct {
	net.Conn
	r          *Relay
	from, addr string

	mu     sync.Mutex
	header []byte // until it is whole, and then for the copies
	state  int
	msg    []byte
	after  time.Duration
	losing int  // of a connection of kind share
	taken  bool // its header has been answered
}

// The states of a relayed connection.
const (
	inHeader  = iota
	passing   // no connection of Raft, or an InstallSnapshot is under way: for ever
	idle      // before a request
	copying   // in a request that comes again
	uncopying // in a request that does not come again
)

// Write implements net.Conn: it begins a request, or goes on with one.
func (c *relayed) Write(p []byte) (int, error) {
	c.mu.Lock()
	lost := c.losing == requestLost
	c.mu.Unlock()
	if lost {
		return 0, errors.Join(net.ErrClosed, c.Close())
	}
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.see(p[:n])
	return n, err
}

func (c *relayed) see(p []byte) {
	if len(p) == 0 || c.state == passing || c.state == uncopying {
		return
	}
	if c.state == inHeader {
		c.header = append(c.header, p...)
		switch {
		case string(c.header[:min(4, len(c.header))]) != "DKL1"[:min(4, len(c.header))]:
			c.state, c.header = passing, nil
		case len(c.header) < headerFixed || len(c.header) < headerFixed+int(c.header[headerLength]):
		case c.header[headerKind] != kindRaft:
			if c.header[headerKind] == kindShare {
				c.losing = c.r.drawLoss()
			}
			c.state, c.header = passing, nil
		default:
			// The answer comes before anything else is sent.
			c.state = idle
		}
		return
	}
	if c.state == idle {
		c.state = uncopying
		if t := p[0]; t == rpcAppendEntries || t == rpcRequestVote || t == rpcRequestPreVote {
			if d, ok := c.r.draw(); ok {
				c.state, c.after, c.msg = copying, d, nil
			}
		}
	}
	if c.state == copying {
		if c.msg = append(c.msg, p...); len(c.msg) > maxCopy {
			c.state, c.msg = uncopying, nil
		}
	}
}

// Read is where a request ends: its sender waits for the answer.
func (c *relayed) Read(p []byte) (int, error) {
	c.mu.Lock()
	switch c.state {
	case copying:
		c.r.later(c.after, copied{c.from, c.addr, c.header, c.msg})
		c.state, c.msg = idle, nil
	case uncopying:
		c.state = idle
	}
	lost := c.losing == answerLost && c.taken
	c.taken = true
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	if lost && err == nil {
		return 0, errors.Join(net.ErrClosed, c.Close())
	}
	return n, err
}

// copied is a request to be sent again.
type copied struct {
	from, addr  string
	header, msg []byte
}

func (r *Relay) later(d time.Duration, m copied) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return
		}
		delete(r.pending, t)
		r.delivery.Add(1)
		r.mu.Unlock()
		defer r.delivery.Done()
		if r.deliver(m) == nil {
			r.mu.Lock()
			r.sent++
			r.mu.Unlock()
		}
	})
	r.pending[t] = true
}

// deliver sends a copy on a connection of its own, and drops the answer.
func (r *Relay) deliver(m copied) error {
	ctx, cancel := context.WithTimeout(r.ctx, repeatTimeout)
	defer cancel()
	c, err := r.n.Dial(ctx, m.from, m.addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(repeatTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(m.header); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	if answer[0] != 0 {
		return net.ErrClosed // the receiver is gone
	}
	if _, err := c.Write(m.msg); err != nil {
		return err
	}
	// Once something of an answer is there, the request has had its effect.
	_, err = io.ReadFull(c, answer[:])
	return err
}
