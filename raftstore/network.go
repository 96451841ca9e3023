package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// maxConns bounds the incoming connections, those in their handshake included. Three per group and peer are ordinary.
const maxConns = 4096

// network is the node's one port: it listens, reads the header of each incoming connection and hands the connection on,
// dials with a header, and closes all connections at the end (a snapshot that is being read has no deadline of its
// own).
type network struct {
	opts   *Options
	logger *slog.Logger
	ln     net.Listener
	tls    *tls.Config // of the listener, nil without TLS

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

func newNetwork(o *Options) *network {
	n := &network{opts: o, logger: o.Logger, conns: map[net.Conn]struct{}{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if o.TLS != nil {
		n.tls = o.TLS.Clone()
		n.tls.ClientAuth = tls.RequireAndVerifyClientCert
		n.tls.MinVersion = max(n.tls.MinVersion, tls.VersionTLS12)
	}
	return n
}

// listen binds the port; serve starts taking connections.
func (n *network) listen(ctx context.Context) error {
	if n.opts.Listener != nil {
		n.ln = n.opts.Listener
		return nil
	}
	addr := n.opts.Listen
	if addr == "" {
		p, _ := n.opts.peer(n.opts.Name)
		addr = p.Addr
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("raftstore: listen: %w", err)
	}
	n.ln = ln
	return nil
}

// serve takes connections in the background. admit decides on one whose header was read and whose peer is known, as far
// as it shows: it returns the header's answer and, with answerOK, what the connection is then handed to.
func (n *network) serve(admit func(h header, peer string, c net.Conn) (answer byte, run func())) {
	n.wg.Go(func() {
		delay := time.Millisecond
		for {
			c, err := n.ln.Accept()
			if err != nil {
				if n.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
					return
				}
				n.logger.Warn("raft port: accept failed", "error", err)
				select { // there may be no file handle left: others may be given back
				case <-time.After(delay):
				case <-n.ctx.Done():
					return
				}
				delay = min(2*delay, time.Second)
				continue
			}
			delay = time.Millisecond
			t := n.track(c, true)
			if t == nil {
				_ = c.Close()
				continue
			}
			n.wg.Go(func() { n.greet(t, admit) })
		}
	})
}

// greet reads a connection's header and hands the connection over or refuses it.
func (n *network) greet(c net.Conn, admit func(header, string, net.Conn) (byte, func())) {
	_ = c.SetDeadline(time.Now().Add(n.opts.Timings.Transport))
	if n.tls != nil {
		tc := tls.Server(c, n.tls)
		if err := tc.HandshakeContext(n.ctx); err != nil {
			n.logger.Warn("raft port: TLS handshake refused", "remote", c.RemoteAddr().String(), "error", err)
			_ = c.Close()
			return
		}
		c = tc
	}
	h, err := readHeader(c)
	if err != nil {
		n.logger.Debug("raft port: no header", "remote", c.RemoteAddr().String(), "error", err)
		_ = c.Close()
		return
	}
	answer, run := admit(h, nobody, c)
	if _, err := c.Write([]byte{answer}); err != nil || answer != answerOK {
		_ = c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	run()
}

// dial opens a connection to addr and has its header accepted.
func (n *network) dial(ctx context.Context, addr string, h header) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, n.opts.Timings.Transport)
	defer cancel()
	stop := context.AfterFunc(n.ctx, cancel)
	defer stop()
	dial := n.opts.Dial
	if dial == nil {
		dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	}
	raw, err := dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("raftstore: dial: %w", err)
	}
	c := n.track(raw, false)
	if c == nil {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	if n.opts.TLS != nil {
		cfg := n.opts.TLS
		if n.opts.DialTLS != nil {
			cfg = n.opts.DialTLS()
		}
		cfg = cfg.Clone()
		if cfg.ServerName == "" {
			if host, _, err := net.SplitHostPort(addr); err == nil {
				cfg.ServerName = host
			}
		}
		tc := tls.Client(c, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("raftstore: TLS handshake with %s: %w", addr, err)
		}
		c = tc
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	var answer [1]byte
	if _, err = c.Write(h.append(nil)); err == nil {
		_, err = c.Read(answer[:])
	}
	if err == nil {
		err = answerError(answer[0])
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("raftstore: %s at %s: %w", h.target, addr, err)
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// track registers a connection to be closed at the end. It returns nil when the network is closed, or has too many
// connections already.
func (n *network) track(c net.Conn, incoming bool) net.Conn {
	t := &trackedConn{Conn: c, n: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || incoming && len(n.conns) >= maxConns {
		return nil
	}
	n.conns[t] = struct{}{}
	return t
}

type trackedConn struct {
	net.Conn
	n *network
}

func (c *trackedConn) Close() error {
	c.n.mu.Lock()
	delete(c.n.conns, c)
	c.n.mu.Unlock()
	return c.Conn.Close()
}

// close closes the listener and all connections, and waits for the goroutines of this file and those that answer
// control requests.
func (n *network) close() {
	n.cancel()
	n.mu.Lock()
	n.closed = true
	conns := make([]net.Conn, 0, len(n.conns))
	for c := range n.conns {
		conns = append(conns, c)
	}
	n.mu.Unlock()
	if n.ln != nil {
		_ = n.ln.Close()
	}
	for _, c := range conns {
		_ = c.Close()
	}
	n.wg.Wait()
}
