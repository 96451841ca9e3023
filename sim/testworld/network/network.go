package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Addr is the address of a listener, or of a dialer's end.
type Addr string

// Network returns "tcp".
func (Addr) Network() string { return "tcp" }

// String is the address.
func (a Addr) String() string { return string(a) }

// Network is a number of hosts that reach each other. It is safe for concurrent use. Inside a bubble it must have been
// made there.
type Network struct {
	intn func(int) int

	mu        sync.Mutex
	changed   *sync.Cond // a link, a host, a listener: for dials and accepts
	hosts     map[string]*host
	links     map[[2]string]*link
	listeners map[string]*listener
	owners    map[string]string // of addresses: the host that has listened there last
	conns     map[*Conn]bool    // the dialers' ends
	ports     int
	closed    bool
	atClose   []func()
}

// host is one process of a named host.
type host struct {
	name   string
	frozen bool
	dead   bool
}

// link is the way from one host to another.
type link struct {
	cut          bool
	base, jitter time.Duration
}

// New returns a network without latency. intn draws from [0, n); it is called under a lock, and must not block.
func New(intn func(n int) int) *Network {
	n := &Network{
		intn: intn, hosts: map[string]*host{}, links: map[[2]string]*link{}, listeners: map[string]*listener{},
		owners: map[string]string{}, conns: map[*Conn]bool{},
	}
	n.changed = sync.NewCond(&n.mu)
	return n
}

// host returns the process that runs under the name. The caller holds the lock.
func (n *Network) host(name string) *host {
	h := n.hosts[name]
	if h == nil {
		h = &host{name: name, dead: n.closed}
		n.hosts[name] = h
	}
	return h
}

func (n *Network) link(from, to string) *link {
	k := [2]string{from, to}
	l := n.links[k]
	if l == nil {
		l = &link{}
		n.links[k] = l
	}
	return l
}

// latency draws the delay of what is sent now.
func (n *Network) latency(l *link) time.Duration {
	d := l.base
	if l.jitter > 0 {
		d += time.Duration(n.intn(int(l.jitter) + 1))
	}
	return d
}

// Process is what one process of a host does: after Kill of the host it stays dead.
type Process struct {
	n *Network
	h *host
}

// Process returns the process that runs under the name now, or will run next.
func (n *Network) Process(name string) *Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &Process{n, n.host(name)}
}

// Listen opens a listener of the host on an address, which nobody else may listen on.
func (n *Network) Listen(host, addr string) (net.Listener, error) {
	return n.Process(host).Listen(addr)
}

// Dial connects the host to whoever listens on the address.
func (n *Network) Dial(ctx context.Context, from, addr string) (net.Conn, error) {
	return n.Process(from).Dial(ctx, addr)
}

// Listen opens a listener of the process.
func (p *Process) Listen(addr string) (net.Listener, error) {
	n := p.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.h.dead {
		return nil, opError("listen", nil, Addr(addr), net.ErrClosed)
	}
	if n.listeners[addr] != nil {
		return nil, opError("listen", nil, Addr(addr), os.NewSyscallError("bind", syscall.EADDRINUSE))
	}
	l := &listener{n: n, h: p.h, addr: Addr(addr)}
	n.listeners[addr], n.owners[addr] = l, p.h.name
	n.changed.Broadcast()
	return l, nil
}

// Dial connects the process to whoever listens on the address. It waits while the way there or back is cut.
func (p *Process) Dial(ctx context.Context, addr string) (net.Conn, error) {
	n := p.n
	stop := context.AfterFunc(ctx, func() {
		n.mu.Lock()
		n.changed.Broadcast()
		n.mu.Unlock()
	})
	defer stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	fail := func(err error) (net.Conn, error) { return nil, opError("dial", nil, Addr(addr), err) }
	for traveled := false; ; {
		to, known := n.owners[addr]
		there, back := n.link(p.h.name, to), n.link(to, p.h.name)
		l := n.listeners[addr]
		switch {
		case p.h.dead:
			return fail(os.NewSyscallError("connect", syscall.ECONNABORTED))
		case p.h.frozen: // not even its timeouts happen
		case ctx.Err() != nil:
			return fail(ctx.Err())
		case known && (there.cut || back.cut):
		case known && !traveled:
			traveled = true
			if d := n.latency(there) + n.latency(back); d > 0 {
				n.sleep(ctx, d)
			}
			continue
		case l == nil:
			return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
		default:
			return n.connect(p.h, l), nil
		}
		n.changed.Wait()
	}
}

// sleep gives up the lock for the time of a dial's round trip.
func (n *Network) sleep(ctx context.Context, d time.Duration) {
	n.mu.Unlock()
	defer n.mu.Lock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// connect makes the two ends. The caller holds the lock.
func (n *Network) connect(h *host, l *listener) *Conn {
	n.ports++
	client := &Conn{n: n, host: h, local: Addr(fmt.Sprintf("%s:%d", h.name, 1<<15+n.ports)), remote: l.addr}
	server := &Conn{n: n, host: l.h, local: l.addr, remote: client.local}
	client.out = newFlow(n, client, server)
	server.out = newFlow(n, server, client)
	client.in, server.in = server.out, client.out
	n.conns[client] = true
	l.backlog = append(l.backlog, server)
	n.changed.Broadcast()
	return client
}

// each calls f for the open connections with both ends. The caller holds the lock.
func (n *Network) each(f func(client, server *Conn)) {
	for c := range n.conns {
		f(c, c.out.to)
	}
}

// Cut holds everything that goes from one host to the other, until Heal.
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link(from, to).cut = true
}

// Heal ends a Cut; what was held arrives now.
func (n *Network) Heal(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link(from, to).cut = false
	n.each(func(client, server *Conn) {
		client.out.pump()
		server.out.pump()
	})
	n.changed.Broadcast()
}

// Delay sets the latency from one host to the other: base, and up to jitter more.
func (n *Network) Delay(from, to string, base, jitter time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(from, to)
	l.base, l.jitter = base, jitter
}

// Reset ends every connection between the two hosts.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.each(func(client, server *Conn) {
		if x, y := client.host.name, server.host.name; x == a && y == b || x == b && y == a {
			client.out.arrive(chunk{what: rst})
			server.out.arrive(chunk{what: rst})
		}
	})
}

// Freeze pauses the host's process.
func (n *Network) Freeze(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.host(host).frozen = true
}

// Thaw lets it go on.
func (n *Network) Thaw(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.thaw(n.host(host))
}

func (n *Network) thaw(h *host) {
	h.frozen = false
	n.each(func(client, server *Conn) {
		for _, c := range []*Conn{client, server} {
			if c.host == h {
				if c.unsentEnd {
					c.unsentEnd = false
					c.out.send(chunk{what: fin})
				}
				c.wake()
			}
		}
	})
	n.changed.Broadcast()
}

// Kill ends the host's process. The next Listen or Dial under the name belongs to another process.
func (n *Network) Kill(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kill(n.host(host))
	delete(n.hosts, host)
}

func (n *Network) kill(h *host) {
	h.dead, h.frozen = true, false
	for _, l := range n.listeners {
		if l.h == h {
			l.close()
		}
	}
	n.each(func(client, server *Conn) {
		for _, c := range []*Conn{client, server} {
			if c.host == h {
				c.out.send(chunk{what: rst})
				c.wake()
				c.forget()
			}
		}
	})
	n.changed.Broadcast()
}

// Close kills all hosts, for ever.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	for _, h := range n.hosts {
		n.kill(h)
	}
	closers := n.atClose
	n.atClose = nil
	n.mu.Unlock()
	for _, f := range closers {
		f()
	}
}

// listener is an open port of a host.
type listener struct {
	n       *Network
	h       *host
	addr    Addr
	backlog []*Conn
	closed  bool
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	n := l.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case l.closed:
			return nil, opError("accept", nil, l.addr, net.ErrClosed)
		case l.h.frozen:
		case len(l.backlog) > 0:
			c := l.backlog[0]
			l.backlog = l.backlog[1:]
			return c, nil
		}
		n.changed.Wait()
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.closed {
		return opError("close", nil, l.addr, net.ErrClosed)
	}
	l.close()
	return nil
}

// close resets the connections that nobody has accepted. The caller holds the lock.
func (l *listener) close() {
	if l.closed {
		return
	}
	l.closed = true
	delete(l.n.listeners, string(l.addr))
	for _, c := range l.backlog {
		c.out.send(chunk{what: rst})
		c.closed = true
		c.forget()
	}
	l.backlog = nil
	l.n.changed.Broadcast()
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }

func opError(op string, local, remote net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: local, Addr: remote, Err: err}
}
