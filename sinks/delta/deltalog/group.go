package deltalog

import (
	"context"
	"sync"
	"time"
)

// pending is one submitted change that has no answer yet.
type pending struct {
	change *Change
	done   chan error // buffered; receives one answer
	once   sync.Once
}

func (p *pending) finish(err error) { p.once.Do(func() { p.done <- err }) }

// committer collects the changes that are submitted while a commit is being written.
type committer struct {
	mu     sync.Mutex
	queue  []*pending
	closed bool
	wake   chan struct{} // capacity 1
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
}

func (l *Log) start() {
	c := &l.committer
	c.wake = make(chan struct{}, 1)
	c.ended = make(chan struct{})
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go l.run()
}

func (l *Log) run() {
	c := &l.committer
	defer close(c.ended)
	for range c.wake {
		for {
			group := c.collect()
			if len(group) == 0 {
				break
			}
			l.commit(c.ctx, group)
		}
	}
}

// collect takes the queue, but at most one change per application id: a commit holds one txn of each, and the parts of
// a change follow one another.
func (c *committer) collect() []*pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]bool{}
	var group, rest []*pending
	for _, p := range c.queue {
		if seen[p.change.AppID] {
			rest = append(rest, p)
			continue
		}
		seen[p.change.AppID] = true
		group = append(group, p)
	}
	c.queue = rest
	return group
}

// Submit makes the change visible once: nil says that it is in the log, by this call or another. If ctx ends first, the
// change may still become visible. ErrRebuild says that the caller must make a new change. After any other error the
// outcome is not known, and the next attempt finds it out.
func (l *Log) Submit(ctx context.Context, change *Change) error {
	c := &l.committer
	p := &pending{change: change, done: make(chan error, 1)}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.queue = append(c.queue, p)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	c.mu.Unlock()
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		c.withdraw(p)
		return ctx.Err()
	}
}

// withdraw takes a change out of the queue, if it is still there.
func (c *committer) withdraw(p *pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, q := range c.queue {
		if q == p {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			return
		}
	}
}

// closePatience is how long Close lets the commit and the checkpoint that have begun go on. Nobody waits for them any
// more, and a store that does not answer must not hold up the end of a process: its closer waits some seconds.
const closePatience = 2 * time.Second

func (l *Log) stop() {
	c := &l.committer
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	for _, p := range c.queue {
		p.finish(ErrClosed)
	}
	c.queue = nil
	close(c.wake)
	c.mu.Unlock()
	t := time.AfterFunc(closePatience, c.cancel)
	defer t.Stop()
	<-c.ended
	l.keeper.wait.Wait()
	c.cancel()
}
