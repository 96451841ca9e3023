package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Link is the quality of one direction. The zero value is a good link.
type Link struct {
	Hold  bool          // nothing passes
	Delay time.Duration // everything arrives later by this time
	Rate  int           // bytes per second for each connection; 0 means no limit
}

// Proxy passes connections on to one target.
type Proxy struct {
	Addr   string // of the listener
	target string
	ln     net.Listener
	work   sync.WaitGroup

	mu       sync.Mutex
	up, down Link
	cut      bool
	closed   bool
	changed  chan struct{} // closed and replaced at every change
	conns    map[*pair]bool
}

type pair struct{ client, server net.Conn }

func (p *pair) reset() {
	for _, c := range []net.Conn{p.client, p.server} {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // this only decides between a reset and an orderly end
		}
		_ = c.Close()
	}
}

// Listen starts a proxy on a free loopback port.
func Listen(target string) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{Addr: ln.Addr().String(), target: target, ln: ln, changed: make(chan struct{}), conns: map[*pair]bool{}}
	p.work.Go(p.accept)
	return p, nil
}

// Set gives the two directions their quality and ends a Cut. up is the direction from the client to the target.
func (p *Proxy) Set(up, down Link) { p.change(func() { p.up, p.down, p.cut = up, down, false }) }

// Heal makes both directions good again.
func (p *Proxy) Heal() { p.Set(Link{}, Link{}) }

// Cut resets every connection, and every new one, until Set or Heal is called.
func (p *Proxy) Cut() {
	p.change(func() {
		p.cut = true
		for c := range p.conns {
			c.reset()
		}
	})
}

func (p *Proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Close ends the proxy and its connections, and waits for them.
func (p *Proxy) Close() error {
	err := p.ln.Close()
	p.change(func() {
		p.closed, p.cut = true, true
		for c := range p.conns {
			c.reset()
		}
	})
	p.work.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // for example, there are no file descriptors left for the moment
			time.Sleep(10 * time.Millisecond)
			continue
		}
		p.work.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	c := &pair{client: client}
	server, err := net.DialTimeout("tcp", p.target, 2*time.Second)
	if err != nil {
		p.mu.Lock()
		held := p.up.Hold || p.down.Hold
		p.mu.Unlock()
		if held {
			p.await(func() bool { return !p.up.Hold && !p.down.Hold || p.cut })
		}
		(&pair{client: client, server: client}).reset()
		return
	}
	c.server = server
	p.mu.Lock()
	if p.cut {
		p.mu.Unlock()
		c.reset()
		return
	}
	p.conns[c] = true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pump(c.server, c.client, func() Link { return p.up }) })
	both.Go(func() { p.pump(c.client, c.server, func() Link { return p.down }) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_, _ = client.Close(), server.Close() // both directions have ended
}

// await returns when cond holds or the proxy is closed. cond is called under the lock.
func (p *Proxy) await(cond func() bool) {
	for {
		p.mu.Lock()
		ok, changed := cond() || p.closed, p.changed
		p.mu.Unlock()
		if ok {
			return
		}
		<-changed
	}
}

// piece is what one read has returned, and when. The last piece is empty and says how the stream ended.
type piece struct {
	b   []byte
	at  time.Time
	err error
}

const (
	pieceBytes = 16 << 10
	pieces     = 64 // per direction; see promise 3
)

// pump carries one direction until it ends.
func (p *Proxy) pump(to, from net.Conn, link func() Link) {
	queue := make(chan piece, pieces)
	done := make(chan struct{}) // the writer has given up
	p.work.Go(func() {
		defer close(queue)
		for {
			b := make([]byte, pieceBytes)
			n, err := from.Read(b)
			for _, x := range []piece{{b: b[:n], at: time.Now()}, {err: err}} {
				if len(x.b) == 0 && x.err == nil {
					continue
				}
				select {
				case queue <- x:
				case <-done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer close(done)
	for x := range queue {
		now := p.pass(x.at, link)
		if x.err != nil {
			p.end(to, x.err)
			return
		}
		if now.Rate > 0 {
			time.Sleep(time.Duration(len(x.b)) * time.Second / time.Duration(now.Rate))
		}
		if _, err := to.Write(x.b); err != nil {
			_ = from.Close() // the sender must not go on
			return
		}
	}
}

// pass waits until something that was read at the given time may go on.
func (p *Proxy) pass(at time.Time, link func() Link) (now Link) {
	p.await(func() bool {
		now = link()
		return !now.Hold || p.cut
	})
	if !at.IsZero() {
		time.Sleep(time.Until(at.Add(now.Delay)))
		p.await(func() bool { return !link().Hold || p.cut })
	}
	return now
}

// end passes on the end of a stream.
func (p *Proxy) end(to net.Conn, err error) {
	if t, ok := to.(*net.TCPConn); ok && errors.Is(err, io.EOF) {
		_ = t.CloseWrite() // the other direction may go on
		return
	}
	_ = to.Close()
}
