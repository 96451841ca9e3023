package deltalog

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// pending is one submitted change that has no answer yet.
type pending struct {
	change *Change
	gone   <-chan struct{} // closed once nobody waits for the answer; the change is then withdrawn, if it still can be
	done   chan landing    // buffered; receives one answer
	once   sync.Once
}

// landing is the answer to a change: the version that committed it, 0 if it was done before, or an error.
type landing struct {
	version int64
	err     error
}

func newPending(change *Change, gone <-chan struct{}) *pending {
	return &pending{change: change, gone: gone, done: make(chan landing, 1)}
}

func (p *pending) finish(version int64, err error) {
	p.once.Do(func() { p.done <- landing{version, err} })
}

func (p *pending) withdrawn() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

var errWithdrawn = errors.New("delta: the change was withdrawn before its commit")

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

// collect takes the queue, but at most one change per application id: a commit holds one txn of each, and the changes
// of a plan follow one another.
func (c *committer) collect() []*pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]bool{}
	var group, rest []*pending
	for _, p := range c.queue {
		shared := slices.ContainsFunc(p.change.Parts, func(part Part) bool { return seen[part.AppID] })
		for _, part := range p.change.Parts {
			seen[part.AppID] = true // also of one that has to wait, so that those behind it do not pass it
		}
		if shared {
			rest = append(rest, p)
		} else {
			group = append(group, p)
		}
	}
	c.queue = rest
	return group
}

// submit puts changes into the queue, next to one another.
func (c *committer) submit(changes ...*pending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.queue = append(c.queue, changes...)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// Submit makes the change visible once: nil says that it is in the log, by this call or another. If ctx ends first, the
// change may still become visible. ErrRebuild and a *SplitError say that the caller must make a new change. After any
// other error the outcome is not known, and the next attempt finds it out.
func (l *Log) Submit(ctx context.Context, change *Change) error {
	p := newPending(change, ctx.Done())
	if err := l.committer.submit(p); err != nil {
		return err
	}
	select {
	case at := <-p.done:
		return at.err
	case <-ctx.Done():
		l.committer.withdraw(p)
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

// putBack puts changes into the queue again, before the others, for the commit after this one.
func (c *committer) putBack(later []*pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.queue = slices.Concat(later, c.queue)
		return
	}
	for _, p := range later {
		p.finish(0, ErrClosed)
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
		p.finish(0, ErrClosed)
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
