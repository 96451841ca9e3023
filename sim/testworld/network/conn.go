package network

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes a flow may hold: in flight, held by a cut, and not read yet.
const window = 512 << 10

// What travels.
const (
	data = iota
	fin  // nothing more will be sent
	rst  // the connection is gone
)

// chunk is something on its way.
type chunk struct {
	what int
	data []byte
	at   time.Time
}

// flow is one direction of a connection. All of it is under the network's lock.
type flow struct {
	n        *Network
	link     *link
	from, to *Conn

	queue []chunk // on their way, in order
	timer *time.Timer
	size  int    // bytes in queue and buf
	buf   []byte // arrived, not read
	eof   bool
	reset bool // arrived

	readers, writers *sync.Cond
}

func newFlow(n *Network, from, to *Conn) *flow {
	return &flow{
		n: n, link: n.link(from.host.name,
			to.host.name), from: from, to: to, readers: sync.NewCond(&n.mu), writers: sync.NewCond(&n.mu),
	}
}

// send queues a chunk with its time of arrival.
func (f *flow) send(c chunk) {
	d := f.n.latency(f.link)
	if d == 0 && len(f.queue) == 0 && !f.link.cut {
		f.arrive(c)
		return
	}
	c.at = time.Now().Add(d) // or when what is before it has arrived
	f.queue = append(f.queue, c)
	f.pump()
}

// pump delivers what is due, and sets a timer for the rest.
func (f *flow) pump() {
	for len(f.queue) > 0 && !f.link.cut {
		c := f.queue[0]
		if wait := time.Until(c.at); wait > 0 {
			if f.timer == nil {
				f.timer = time.AfterFunc(wait, func() {
					f.n.mu.Lock()
					defer f.n.mu.Unlock()
					f.pump()
				})
			} else {
				f.timer.Reset(wait)
			}
			return
		}
		f.queue[0] = chunk{}
		f.queue = f.queue[1:]
		f.arrive(c)
	}
}

// arrive is the side of the receiving kernel.
func (f *flow) arrive(c chunk) {
	switch gone := f.to.closed || f.to.host.dead; {
	case f.reset:
	case c.what == rst:
		f.reset, f.buf, f.queue, f.size = true, nil, nil, 0
		f.to.wake()
	case gone && c.what == data:
		f.size -= len(c.data)
		f.writers.Broadcast()
		f.to.out.send(chunk{what: rst})
	case c.what == data:
		f.buf = append(f.buf, c.data...)
		f.readers.Broadcast()
	case c.what == fin:
		f.eof = true
		f.readers.Broadcast()
	}
}

// Conn is one end of a connection.
type Conn struct {
	n             *Network
	host          *host
	local, remote Addr
	in, out       *flow

	closed    bool
	ended     bool // CloseWrite
	unsentEnd bool // closed by a process that is paused
	forgotten bool

	readBy, writeBy       time.Time
	readTimer, writeTimer *time.Timer
}

var _ net.Conn = (*Conn)(nil)

// wake wakes everybody who waits at this end.
func (c *Conn) wake() {
	c.in.readers.Broadcast()
	c.out.writers.Broadcast()
}

// broken is the error of an end that can no longer be used.
func (c *Conn) broken(call string) error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.host.dead, c.in.reset:
		return os.NewSyscallError(call, syscall.ECONNRESET)
	}
	return nil
}

func expired(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// wait waits on cond, at most until the deadline.
func (c *Conn) wait(cond *sync.Cond, by time.Time, timer **time.Timer) {
	if by.IsZero() || c.host.frozen {
		cond.Wait()
		return
	}
	d := time.Until(by)
	if *timer == nil {
		*timer = time.AfterFunc(d, func() {
			c.n.mu.Lock()
			cond.Broadcast()
			c.n.mu.Unlock()
		})
	} else {
		(*timer).Reset(d)
	}
	cond.Wait()
	(*timer).Stop()
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	f := c.in
	for {
		if !c.host.frozen || c.closed {
			err := c.broken("read")
			switch {
			case err != nil:
			case expired(c.readBy):
				err = os.ErrDeadlineExceeded
			case len(f.buf) > 0:
				k := copy(p, f.buf)
				if f.buf = f.buf[k:]; len(f.buf) == 0 {
					f.buf = nil
				}
				f.size -= k
				f.writers.Broadcast()
				return k, nil
			case f.eof:
				return 0, io.EOF
			case len(p) == 0:
				return 0, nil
			}
			if err != nil {
				return 0, opError("read", c.local, c.remote, err)
			}
		}
		c.wait(f.readers, c.readBy, &c.readTimer)
	}
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	f := c.out
	for done := 0; ; {
		if !c.host.frozen || c.closed {
			err := c.broken("write")
			switch {
			case err != nil:
			case c.ended:
				err = os.NewSyscallError("write", syscall.EPIPE)
			case expired(c.writeBy):
				err = os.ErrDeadlineExceeded
			default:
				if k := min(len(p)-done, window-f.size); k > 0 {
					f.size += k
					f.send(chunk{data: append([]byte(nil), p[done:done+k]...)})
					done += k
				}
				if done == len(p) {
					return done, nil
				}
			}
			if err != nil {
				return done, opError("write", c.local, c.remote, err)
			}
			if c.in.reset || f.size < window {
				continue // what was sent has been refused or taken at once
			}
		}
		c.wait(f.writers, c.writeBy, &c.writeTimer)
	}
}

// CloseWrite ends what this end sends: the peer reads io.EOF after it.
func (c *Conn) CloseWrite() error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if err := c.broken("shutdown"); err != nil {
		return opError("close", c.local, c.remote, err)
	}
	c.end()
	return nil
}

// end sends the end of the stream, once.
func (c *Conn) end() {
	switch {
	case c.ended:
	case c.host.frozen:
		c.unsentEnd = true
	default:
		c.out.send(chunk{what: fin})
	}
	c.ended = true
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.closed {
		return opError("close", c.local, c.remote, net.ErrClosed)
	}
	if c.broken("close") == nil {
		c.end()
	}
	c.closed = true
	c.wake()
	c.forget()
	return nil
}

// forget drops the connection when nobody will read or write it any more.
func (c *Conn) forget() {
	c.forgotten = true
	c.stopTimers()
	if peer := c.out.to; peer.forgotten {
		for _, f := range []*flow{c.in, c.out} {
			if f.timer != nil {
				f.timer.Stop()
			}
			f.queue, f.buf = nil, nil
		}
		delete(c.n.conns, c)
		delete(c.n.conns, peer)
	}
}

func (c *Conn) stopTimers() {
	for _, t := range []*time.Timer{c.readTimer, c.writeTimer} {
		if t != nil {
			t.Stop()
		}
	}
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(&t, &t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *Conn) setDeadlines(read, write *time.Time) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.closed {
		return opError("set", c.local, c.remote, net.ErrClosed)
	}
	if read != nil {
		c.readBy = *read
		c.in.readers.Broadcast()
	}
	if write != nil {
		c.writeBy = *write
		c.out.writers.Broadcast()
	}
	return nil
}
