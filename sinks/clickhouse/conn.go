package clickhouse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go"
)

// errReadTimeout is returned when the server sent nothing for ReadTimeout. It is deliberately no net.Error, because
// ch-go would wait again.
var errReadTimeout = errors.New("clickhouse: the server sent nothing within the read timeout")

var errClosed = errors.New("clickhouse: sink is closed")

// guardedConn makes each read end within a timeout, whatever deadline the client library sets.
type guardedConn struct {
	net.Conn
	timeout time.Duration
}

func (c *guardedConn) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	var ne net.Error
	if n == 0 && errors.As(err, &ne) && ne.Timeout() {
		return 0, errReadTimeout
	}
	return n, err
}

func (c *guardedConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		err = fmt.Errorf("clickhouse: the server took nothing within %s", c.timeout)
	}
	return n, err
}

func (c *guardedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *guardedConn) SetWriteDeadline(time.Time) error { return nil }
func (c *guardedConn) SetDeadline(time.Time) error      { return nil }

// client is one connection of the pool. What is cancelled is closed below TLS: TLS would first tell the server, and
// wait for five seconds if the server takes nothing.
type client struct {
	*ch.Client
	raw net.Conn // without TLS
	as  proof
}

// proof is with what a connection proves itself, and what it believes.
type proof struct {
	password string
	tls      *tls.Config
}

// proof returns what a connection has that is made now.
func (o *Options) proof() (p proof) {
	if o.Password != nil {
		p.password = o.Password()
	}
	if o.TLS != nil {
		p.tls = o.TLS()
	}
	return p
}

// pool hands out at most cap(slots) connections; idle ones are kept.
type pool struct {
	opts  Options
	slots chan struct{}

	mu     sync.Mutex
	idle   []*client
	closed bool
}

func newPool(opts Options) *pool {
	return &pool{opts: opts, slots: make(chan struct{}, opts.MaxConns)}
}

// do runs one query on a connection of its own. It returns when the query or ctx has ended; in the latter case it is
// unknown whether the server has executed the query.
func (p *pool) do(ctx context.Context, q ch.Query) error {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.slots }()
	c, err := p.get(ctx)
	if err != nil {
		return fmt.Errorf("clickhouse: connect to %s: %w", p.opts.Address, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	err = c.Do(ctx, q)
	cancelled := !stop()
	if err != nil || cancelled {
		// After an exception too: the library may have stopped in the middle of a block.
		_ = c.Close()
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return err
	}
	p.put(c)
	return nil
}

func (p *pool) get(ctx context.Context) (*client, error) {
	now := p.opts.proof()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		if c.as == now {
			p.mu.Unlock()
			return c, nil
		}
		_ = c.Close()
	}
	p.mu.Unlock()
	return p.dial(ctx)
}

func (p *pool) dial(ctx context.Context) (_ *client, err error) {
	o := &p.opts
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	raw, err := o.Dial(ctx, "tcp", o.Address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = raw.Close()
		}
	}()
	as, conn := o.proof(), raw
	if as.tls != nil {
		cfg := as.tls.Clone()
		if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
			if cfg.ServerName, _, err = net.SplitHostPort(o.Address); err != nil {
				return nil, err
			}
		}
		t := tls.Client(raw, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = t
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	guarded := &guardedConn{Conn: conn, timeout: o.ReadTimeout}
	// The connection uses the server's default database: ours may not exist yet, and every name is given in full.
	c, err := ch.Connect(ctx, guarded, ch.Options{
		User: o.User, Password: as.password, Compression: o.compression, ClientName: "deckle",
		ReadTimeout: o.ReadTimeout, DialTimeout: o.DialTimeout, HandshakeTimeout: o.DialTimeout,
	})
	if err != nil {
		return nil, err
	}
	return &client{Client: c, raw: raw, as: as}, nil
}

func (p *pool) put(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return
	}
	p.idle = append(p.idle, c)
}

// dropIdle closes the idle connections: a failure of one often means that the others are dead too.
func (p *pool) dropIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.dropIdle()
}
