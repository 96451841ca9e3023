package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// network is the node's one port: it listens, learns who is at the other end of each incoming connection, reads its
// header and hands it on; dials, and makes sure of who answers; and ends connections whose peer's certificate holds no
// more, and all of them at the end (a snapshot that is being read has no deadline of its own).
type network struct {
	opts   *Options
	logger *slog.Logger
	ln     net.Listener
	sec    Security // nil without TLS
	places *places
	// refused is told of a connection that was refused, with the reason. from is the configured node or the address
	// that has shown a certificate of the CA, "" if none was shown. ended is told of one whose certificate holds no
	// more.
	refused func(why, from string, err error)
	ended   func(why string)

	mu     sync.Mutex
	conns  map[*trackedConn]struct{}
	closed bool
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

// Why a connection is refused: the label of deckle_raft_connections_refused_total, beside those that Security.Peer
// gives.
const (
	whyPlain     = "plain"      // the other end speaks no TLS
	whyHandshake = "handshake"  // it has no certificate, or one that does not hold
	whyWrongNode = "wrong_node" // it is another node than the one that is meant
	whyTooMany   = "too_many"   // it had to give way to a newer connection
)

// Why a connection ends: the label of deckle_raft_connections_ended_total.
const (
	whyExpired   = "expired"   // the certificate of its peer, or one above it, is no longer valid
	whyUntrusted = "untrusted" // it does not verify by the present CAs
)

func newNetwork(o *Options) *network {
	n := &network{
		opts: o, logger: o.Logger, sec: o.Security, conns: map[*trackedConn]struct{}{},
		refused: func(string, string, error) {}, ended: func(string) {},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.places = newPlaces(o, func() { n.refused(whyTooMany, "", errTooMany) })
	if n.sec != nil {
		n.sec.Changed(n.recheck)
	}
	return n
}

// listen binds the port, which a single node does not have; serve starts taking connections.
func (n *network) listen(ctx context.Context) error {
	if len(n.opts.Nodes) == 1 { // there is nobody to listen to
		if n.opts.Listener != nil {
			return n.opts.Listener.Close()
		}
		return nil
	}
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
	if n.ln == nil {
		return
	}
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

// greet learns who is at the other end of a connection, reads its header and hands it over or refuses it.
func (n *network) greet(t *trackedConn, admit func(header, string, net.Conn) (byte, func())) {
	_ = t.SetDeadline(time.Now().Add(n.opts.Timings.Transport))
	c, peer, err := n.meet(t)
	if err != nil {
		n.logger.Debug("raft port: connection refused", "remote", t.RemoteAddr().String(), "error", err)
		_ = t.Close()
		return
	}
	h, err := readHeader(c)
	if err != nil {
		n.logger.Debug("raft port: no header", "remote", c.RemoteAddr().String(), "error", err)
		_ = c.Close()
		return
	}
	if !n.places.known(t.place, peer) {
		return // it had to give way
	}
	answer, run := admit(h, peer, c)
	if _, err := c.Write([]byte{answer}); err != nil || answer != answerOK {
		_ = c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	run()
}

// meet returns an incoming connection as it is to be read, and its peer.
func (n *network) meet(t *trackedConn) (c net.Conn, peer string, err error) {
	c = t
	switch {
	case n.sec == nil:
		return c, nobody, nil
	case n.opts.Plain:
		first := make([]byte, 1)
		if _, err = io.ReadFull(t, first); err != nil {
			return nil, nobody, err
		}
		c = &begun{t, first}
		if first[0] != recordHandshake {
			return c, nobody, nil
		}
	}
	tc := tls.Server(c, n.sec.Server())
	if peer, err = n.shake(n.ctx, tc, t); err != nil {
		return nil, nobody, err
	}
	return tc, peer, nil
}

// recordHandshake is the first byte of a connection with TLS; a header begins with another.
const recordHandshake = 0x16

// begun is a connection of which a beginning was read, which is read again.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) == 0 || len(p) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.first)
	b.first = b.first[n:]
	return n, nil
}

// shake makes the handshake of a connection and returns its peer: the node that its certificate names. The connection
// ends when the certificate holds no more.
func (n *network) shake(ctx context.Context, c *tls.Conn, t *trackedConn) (peer string, err error) {
	if err = c.HandshakeContext(ctx); err != nil {
		why := whyHandshake
		if isPlain(err) {
			why = whyPlain
		}
		if !isCut(err) && n.ctx.Err() == nil {
			n.refused(why, "", fmt.Errorf("TLS handshake with %s: %w", c.RemoteAddr(), err))
		}
		return nobody, err
	}
	state := c.ConnectionState()
	peer, why, text := n.sec.Peer(state)
	if peer == nobody {
		err = fmt.Errorf("%w (%s): %s: %s", errRefused, why, c.RemoteAddr(), text)
		n.refused(why, hostOf(c.RemoteAddr()), err)
		return nobody, err
	}
	if err = n.hold(t, state); err != nil {
		n.refused(whyHandshake, "", fmt.Errorf("certificate of %s: %w", c.RemoteAddr(), err))
		return nobody, err
	}
	n.places.proven(c.RemoteAddr())
	return peer, nil
}

// isPlain tells whether a handshake failed because the other end does not begin one. A false record behind the first is
// another thing.
func isPlain(err error) bool {
	record := tls.RecordHeaderError{}
	return errors.As(err, &record) && record.Conn != nil
}

// isCut tells whether a handshake failed because the connection was cut or was too slow, and not because of what either
// end said.
func isCut(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &op) && op.Op != "remote error" && op.Op != "local error" // those are alerts
}

// hostOf is the host of a connection's end.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// hold verifies the certificate of a connection's peer by the present CAs, and ends the connection when it holds no
// more.
func (n *network) hold(t *trackedConn, state tls.ConnectionState) error {
	n.mu.Lock()
	t.state = &state // before it is verified, so that no change of the CAs passes it by
	n.mu.Unlock()
	until, err := n.sec.Verify(state)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.conns[t]; !ok {
		return net.ErrClosed
	}
	if t.end != nil {
		t.end.Stop()
		t.end = nil
	}
	if !until.IsZero() {
		// Not at once, should that clock and ours differ, and not too late, should ours have stood still: it is looked
		// at again and again.
		wait := min(max(time.Until(until), time.Second), time.Hour)
		t.end = time.AfterFunc(wait, func() { n.check(t, whyExpired) })
	}
	return nil
}

// check ends a connection, for a reason, if the certificate of its peer holds no more.
func (n *network) check(t *trackedConn, why string) {
	n.mu.Lock()
	state := t.state
	n.mu.Unlock()
	if state == nil {
		return // it is in its handshake, which verifies it
	}
	err := n.hold(t, *state)
	if err == nil || errors.Is(err, net.ErrClosed) {
		return
	}
	n.ended(why)
	n.logger.Warn("raft port: connection ended", "remote", t.RemoteAddr().String(), "why", why, "error", err)
	_ = t.Close()
}

// recheck looks at every connection after the CAs have changed.
func (n *network) recheck() {
	n.mu.Lock()
	conns := make([]*trackedConn, 0, len(n.conns))
	for t := range n.conns {
		conns = append(conns, t)
	}
	n.mu.Unlock()
	for _, t := range conns {
		n.check(t, whyUntrusted)
	}
}

// meant returns the node that a header's target is of.
func (n *network) meant(target string) string {
	name := nodeOf(raft.ServerID(target))
	if _, ok := n.opts.peer(target); ok || name == "" || !isHex64(target[len(name)+1:]) {
		return target
	}
	return name
}

// dial opens a connection to addr and has its header accepted.
func (n *network) dial(ctx context.Context, addr string, h header) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, n.opts.Timings.Transport)
	defer cancel()
	stop := context.AfterFunc(n.ctx, cancel)
	defer stop()
	c, err := n.dialWith(ctx, addr, h, n.sec)
	if n.sec != nil && n.opts.Plain && errors.Is(err, errNoTLS) && ctx.Err() == nil {
		return n.dialWith(ctx, addr, h, nil)
	}
	return c, err
}

// dialWith dials with TLS, or, if sec is nil, without. It returns errNoTLS if the other end may have none.
func (n *network) dialWith(ctx context.Context, addr string, h header, sec Security) (net.Conn, error) {
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
	t := n.track(raw, false)
	if t == nil {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	var c net.Conn = t
	if sec != nil {
		if c, err = n.dialTLS(ctx, t, n.meant(h.target), sec); err != nil {
			_ = t.Close()
			return nil, fmt.Errorf("raftstore: TLS handshake with %s: %w", addr, err)
		}
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
	if n.sec == nil { // whoever answers at a configured address is a member, as far as one can know without TLS
		n.places.proven(c.RemoteAddr())
	}
	return c, nil
}

// dialTLS makes the handshake of an outgoing connection to a node, and makes sure that the node is at the other end.
func (n *network) dialTLS(ctx context.Context, t *trackedConn, meant string, sec Security) (net.Conn, error) {
	c := tls.Client(t, sec.Client(meant))
	peer, err := n.shake(ctx, c, t)
	switch {
	case err != nil && ctx.Err() == nil && (isCut(err) || isPlain(err)):
		return nil, fmt.Errorf("%w: %w", errNoTLS, err)
	case err != nil:
		return nil, err
	case peer != meant:
		err = fmt.Errorf("%w (%s): it is node %s, not %s", errRefused, whyWrongNode, peer, meant)
		n.refused(whyWrongNode, peer, err)
		return nil, err
	}
	return c, nil
}

// track registers a connection to be closed at the end. It returns nil when the network is closed.
func (n *network) track(c net.Conn, incoming bool) *trackedConn {
	t := &trackedConn{Conn: c, n: n}
	if incoming {
		t.place = n.places.enter(t)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.conns[t] = struct{}{}
	return t
}

// trackedConn is a connection that the network knows.
type trackedConn struct {
	net.Conn
	n     *network
	place *place               // of an incoming one
	state *tls.ConnectionState // after the handshake; under network.mu
	end   *time.Timer          // when its peer's certificate ends; under network.mu
}

func (c *trackedConn) Close() error {
	c.n.mu.Lock()
	delete(c.n.conns, c)
	if c.end != nil {
		c.end.Stop()
	}
	c.n.mu.Unlock()
	if c.place != nil {
		c.n.places.leave(c.place)
	}
	return c.Conn.Close()
}

// close closes the listener and all connections, and waits for the goroutines of this file and those that answer
// control requests.
func (n *network) close() {
	n.cancel()
	n.mu.Lock()
	n.closed = true
	conns := make([]*trackedConn, 0, len(n.conns))
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
