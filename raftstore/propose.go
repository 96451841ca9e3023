package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Result is what became of a committed entry.
type Result struct {
	Value any // what StateMachine.Apply returned
	Index uint64
	Term  uint64
}

// Future is an entry on its way.
type Future struct {
	group *Group
	raft  raft.Future
	start time.Time
	done  chan struct{}
	// Valid once done is closed.
	res Result
	err error
}

// Propose enqueues an entry, in order; it does not wait for the commit. The entry must not be changed afterwards. It
// blocks only while 1024 entries of the group are on their way, or while a slow disk holds up Raft's queue of 16.
func (g *Group) Propose(entry []byte) *Future {
	return g.enqueue(func(r *raft.Raft) raft.Future { return r.Apply(entry, 0) })
}

func (g *Group) enqueue(call func(*raft.Raft) raft.Future) *Future {
	f := &Future{group: g, start: time.Now(), done: make(chan struct{})}
	select {
	case g.slots <- struct{}{}:
	case <-g.ctx.Done():
		f.err = ErrNotLeader
		close(f.done)
		return f
	}
	g.proposing.Lock()
	defer g.proposing.Unlock()
	r := g.run.Load()
	if g.closing || !g.leading || g.refused || r == nil {
		<-g.slots
		f.err = ErrNotLeader
		close(f.done)
		return f
	}
	g.pending.Add(1)
	f.raft = call(r.raft)
	g.waiting <- f
	return f
}

// settle takes Raft's answers, in the order of the entries, which is the order in which they come.
func (g *Group) settle() {
	for {
		select {
		case f := <-g.waiting:
			g.answer(f)
		case <-g.ctx.Done():
			return
		}
	}
}

func (g *Group) answer(f *Future) {
	answered := make(chan struct{})
	go func() { // Raft may never answer after its shutdown; then this goroutine is lost, and only then
		defer close(answered)
		f.finish(f.raft.Error())
		g.pending.Add(-1)
	}()
	select {
	case <-answered:
	case <-g.ctx.Done():
		return
	}
	close(f.done)
	<-g.slots
	if f.err == nil {
		g.met.latency.Observe(time.Since(f.start).Seconds())
	} else if errors.Is(f.err, raft.ErrLeadershipTransferInProgress) {
		g.refuse()
	}
}

// finish maps Raft's answer.
func (f *Future) finish(err error) {
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		f.err = fmt.Errorf("%w: %w", ErrNotLeader, err)
		return
	default:
		f.err = fmt.Errorf("%w: %w", ErrUncertain, err)
		return
	}
	af, ok := f.raft.(raft.ApplyFuture)
	if !ok {
		return // a barrier
	}
	f.res.Index = af.Index()
	switch a := af.Response().(type) {
	case applied:
		if a.err != nil { // committed, and this replica could not apply it
			f.err = fmt.Errorf("%w: %w", ErrUncertain, a.err)
			return
		}
		f.res.Value, f.res.Term = a.value, a.term
	}
}

// Wait returns the entry's result, or ErrNotLeader or ErrUncertain (wrapped). Both end the leadership for the caller.
// If ctx ends first, its error is returned along with ErrUncertain.
func (f *Future) Wait(ctx context.Context) (Result, error) {
	select {
	case <-f.done:
		return f.res, f.err
	default:
	}
	select {
	case <-f.done:
		return f.res, f.err
	case <-ctx.Done():
		return Result{}, fmt.Errorf("%w: %w", ErrUncertain, ctx.Err())
	case <-f.group.ctx.Done():
		return Result{}, fmt.Errorf("%w: the group has stopped", ErrUncertain)
	}
}

// refuse ends a turn of leadership that Raft has not ended: while a transfer was tried it refused an entry. Later ones
// are refused too, so that none overtakes it. If the transfer comes to nothing, a fresh turn is announced.
func (g *Group) refuse() {
	g.proposing.Lock()
	defer g.proposing.Unlock()
	if g.refused || !g.leading || g.closing {
		return
	}
	g.refused = true
	g.publish(Leadership{Term: g.term})
	term := g.term
	g.wg.Go(func() { g.renew(term) })
}

// barrier puts an entry of the library's own behind all others. Its answer may never come if the group is closing; false says
// that it is.
func (g *Group) barrier() (answer <-chan error, ok bool) {
	g.proposing.Lock()
	defer g.proposing.Unlock()
	r := g.run.Load()
	if g.closing || r == nil {
		return nil, false
	}
	c := make(chan error, 1)
	g.pending.Add(1) // while closing cannot begin: who closes waits for it
	go func() {
		defer g.pending.Add(-1)
		c <- r.raft.Barrier(0).Error()
	}()
	return c, true
}

// renew announces the leadership anew once Raft takes entries again, unless it has been lost meanwhile.
func (g *Group) renew(term uint64) {
	tick := time.NewTicker(max(g.store.opts.Timings.Election/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-tick.C:
		}
		g.proposing.Lock()
		over := !g.refused || g.term != term
		g.proposing.Unlock()
		if over {
			return
		}
		answer, ok := g.barrier()
		if !ok {
			return
		}
		select {
		case <-g.ctx.Done():
			return
		case err := <-answer:
			if err != nil {
				continue
			}
		}
		g.proposing.Lock()
		if g.refused && g.term == term && g.leading && !g.closing {
			g.refused = false
			g.publish(Leadership{Leader: true, Term: term})
		}
		g.proposing.Unlock()
	}
}
