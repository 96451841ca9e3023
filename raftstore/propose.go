package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Leadership says whether this node leads a group, and since which term.
type Leadership struct {
	Leader bool
	Term   uint64
}

// Result is what became of a committed entry.
type Result struct {
	Value any // what StateMachine.Apply returned
	Index uint64
	Term  uint64
}

// Future is an entry on its way.
type Future struct {
	stopped <-chan struct{} // closed when the group has stopped
	raft    raft.Future
	start   time.Time
	done    chan struct{}
	// Valid once done is closed.
	res Result
	err error
}

// maxPending bounds the entries of one group that are on their way; Propose blocks beyond it.
const maxPending = 1024

// proposer gives entries to Raft in the order in which they were proposed, takes its answers in the same order, and
// announces leadership.
//
// A leadership is announced to the proposing side, which may then propose. It ends when Raft says so, or when Raft
// refuses an entry although it leads on, as it does while it tries to transfer the leadership: then every later entry
// is refused too, so that none overtakes the refused one, until the leadership is announced again. A leadership that
// this node cannot use, since it is unfit, is not announced, or withdrawn.
type proposer struct {
	logger   *slog.Logger
	met      *groupMetrics
	election time.Duration
	run      *current
	ctx      context.Context // ends with the group
	wg       *sync.WaitGroup // of the group's tasks
	unfit    func() error    // why this node cannot lead the group, nil if it can

	slots   chan struct{} // holds an element for each entry on its way
	waiting chan *Future  // entries whose answer is awaited, in order
	notices chan Leadership
	pending atomic.Int64 // calls that Raft has not answered

	mu      sync.Mutex // keeps the order of Propose, and guards what follows
	closing bool       // no entry is taken any more
	leading bool
	term    uint64 // of leading
	refused bool   // an entry was refused though this node leads: none is taken until the leadership is announced again
	benched bool   // no entry is taken because this node was unfit
}

func newProposer(
	ctx context.Context, wg *sync.WaitGroup, run *current, logger *slog.Logger, met *groupMetrics,
	election time.Duration, unfit func() error,
) *proposer {
	return &proposer{
		logger: logger, met: met, election: election, run: run, ctx: ctx, wg: wg, unfit: unfit,
		slots: make(chan struct{}, maxPending), waiting: make(chan *Future, maxPending),
		notices: make(chan Leadership, 1),
	}
}

// enqueue makes one call of Raft, which is an entry or a barrier, unless this node does not lead.
func (p *proposer) enqueue(call func(*raft.Raft) raft.Future) *Future {
	f := &Future{stopped: p.ctx.Done(), start: time.Now(), done: make(chan struct{})}
	select {
	case p.slots <- struct{}{}:
	case <-p.ctx.Done():
		f.err = ErrNotLeader
		close(f.done)
		return f
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.run.Load()
	if why := p.unfit(); p.closing || !p.leading || p.refused || r == nil || why != nil {
		<-p.slots
		if why != nil {
			// Whoever is refused gives the leadership up, and waits for news of it. What makes this node unfit may pass
			// before stepAside sees it: then restore must find that there is news to give.
			p.bench(why)
		}
		if f.err = ErrNotLeader; why != nil {
			f.err = fmt.Errorf("%w: %w", ErrNotLeader, why)
		}
		close(f.done)
		return f
	}
	p.pending.Add(1)
	f.raft = call(r.raft)
	p.waiting <- f
	return f
}

// takeAnswers takes Raft's answers as long as the group runs, in the order of the entries, which is the order in which
// they come.
func (p *proposer) takeAnswers() {
	for {
		select {
		case f := <-p.waiting:
			p.takeAnswer(f)
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *proposer) takeAnswer(f *Future) {
	answered := make(chan struct{})
	go func() { // Raft may never answer after its shutdown; then this goroutine is lost, and only then
		defer close(answered)
		f.finish(f.raft.Error())
		p.pending.Add(-1)
	}()
	select {
	case <-answered:
	case <-p.ctx.Done():
		return
	}
	close(f.done)
	<-p.slots
	if f.err == nil {
		p.met.latency.Observe(time.Since(f.start).Seconds())
	} else if errors.Is(f.err, raft.ErrLeadershipTransferInProgress) {
		p.noteRefusal()
	}
}

// finish turns Raft's answer into the Future's result.
func (f *Future) finish(err error) {
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout):
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
	case <-f.stopped:
		return Result{}, fmt.Errorf("%w: the group has stopped", ErrUncertain)
	}
}

// announce makes a notice of Raft the group's.
func (p *proposer) announce(leads bool, term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leading != leads {
		p.met.changes.Inc()
		p.logger.Info("leadership", "leads", leads, "term", term)
	}
	p.leading, p.term, p.refused, p.benched = leads, term, false, false
	if leads {
		if why := p.unfit(); why != nil {
			p.logger.Warn("leadership is not announced", "term", term, "reason", why)
			p.refused, p.benched = true, true
		}
	}
	p.publish(Leadership{Leader: leads && !p.refused, Term: term})
}

// withdraw ends a leadership for the proposing side, because this node has become unfit. If it is fit again and still
// leads, restore announces the leadership again.
func (p *proposer) withdraw(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bench(why)
}

// bench is withdraw with mu held.
func (p *proposer) bench(why error) {
	if !p.leading || p.closing {
		return
	}
	if p.benched = true; p.refused {
		return
	}
	p.logger.Warn("leadership is withdrawn", "term", p.term, "reason", why)
	p.refused = true
	p.publish(Leadership{Term: p.term})
}

// restore announces a leadership again that was withdrawn, or never announced, because this node was unfit.
func (p *proposer) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.benched && p.leading && !p.closing {
		p.benched = false
		term := p.term
		p.wg.Go(func() { p.renew(term) })
	}
}

// publish replaces a notice that was not received yet. It is called with mu held.
func (p *proposer) publish(l Leadership) {
	select {
	case <-p.notices:
	default:
	}
	p.notices <- l
}

// noteRefusal ends a leadership for the proposing side that Raft has not ended: while a transfer was tried, Raft
// refused an entry. Later ones are refused too, so that none overtakes it. If the transfer fails, the leadership is
// announced again.
func (p *proposer) noteRefusal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused || !p.leading || p.closing {
		return
	}
	p.refused = true
	p.publish(Leadership{Term: p.term})
	term := p.term
	p.wg.Go(func() { p.renew(term) })
}

// renew announces the leadership again once Raft takes entries again, unless it has been lost meanwhile.
func (p *proposer) renew(term uint64) {
	tick := time.NewTicker(max(p.election/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		over := !p.refused || p.term != term
		if !over && p.unfit() != nil { // it begins anew once this node is fit
			p.benched, over = true, true
		}
		p.mu.Unlock()
		if over {
			return
		}
		answer, ok := p.barrier()
		if !ok {
			return
		}
		select {
		case <-p.ctx.Done():
			return
		case err := <-answer:
			if err != nil {
				continue
			}
		}
		p.mu.Lock()
		if p.refused && p.term == term && p.leading && !p.closing && p.unfit() == nil {
			p.refused = false
			p.publish(Leadership{Leader: true, Term: term})
		}
		p.mu.Unlock()
	}
}

// barrier puts an entry of the library's own behind all others. Its answer may never come if the group is closing;
// false says that it is.
func (p *proposer) barrier() (answer <-chan error, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.run.Load()
	if p.closing || r == nil {
		return nil, false
	}
	c := make(chan error, 1)
	p.pending.Add(1) // closing cannot begin while mu is held, and closing waits for the pending calls
	go func() {
		defer p.pending.Add(-1)
		c <- r.raft.Barrier(0).Error()
	}()
	return c, true
}

// detach takes the running instance away, so that it is given no more entries; nil if none runs.
func (p *proposer) detach() *instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run.Swap(nil)
}

// drain waits until Raft has answered everything that it was given; if the group is closing, at most for the given
// time.
func (p *proposer) drain(atMost time.Duration) {
	for end := time.Now().Add(atMost); p.pending.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) && p.isClosing() {
			break
		}
	}
}

// close lets no entry in any more.
func (p *proposer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
}

func (p *proposer) isClosing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closing
}
