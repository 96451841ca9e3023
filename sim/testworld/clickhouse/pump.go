package clickhouse

import (
	"net"
	"sync"
)

// pump is the end of a net.Pipe that takes whatever arrives at once, as the buffer of a kernel does. On a bare pipe a
// client that gives up would have to wait until a busy server reads its cancellation.
type pump struct {
	net.Conn
	done sync.WaitGroup

	mu   sync.Mutex
	more *sync.Cond
	buf  []byte
	err  error
}

func newPump(c net.Conn) *pump {
	p := &pump{Conn: c}
	p.more = sync.NewCond(&p.mu)
	p.done.Go(func() {
		chunk := make([]byte, 4096)
		for {
			n, err := c.Read(chunk)
			p.mu.Lock()
			p.buf, p.err = append(p.buf, chunk[:n]...), err
			p.more.Signal()
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return p
}

// Read implements net.Conn.
func (p *pump) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.buf) == 0 && p.err == nil {
		p.more.Wait()
	}
	if len(p.buf) == 0 {
		return 0, p.err
	}
	n := copy(b, p.buf)
	p.buf = p.buf[n:]
	return n, nil
}

// Close implements net.Conn.
func (p *pump) Close() error {
	err := p.Conn.Close()
	p.done.Wait()
	return err
}
