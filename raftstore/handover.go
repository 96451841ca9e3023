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

// handover gives the group's leadership to another node: to the preferred one while the group runs, to the best one
// when this node closes.
type handover struct {
	opts   *Options
	shard  uint32
	logger *slog.Logger
	run    *current
	peers  *peers
	ctx    context.Context // ends with the group

	unfit    func() error                // why this node cannot lead the group, nil if it can
	drained  func() bool                 // this node is to lead no group that another one can lead
	withdraw func(error)                 // ends the leadership for the proposing side
	restore  func()                      // begins it again
	barrier  func() (<-chan error, bool) // commits an entry of the library's own

	kept atomic.Int32 // see keep

	mu     sync.Mutex
	failed map[raft.ServerID]attempt // the last one, of those that have not gone through
}

// attempt is a handover to a node that has not gone through.
type attempt struct {
	term  uint64
	index uint64 // the last one of the log when it was over
}

// errStuck says that a node has got nothing since it has last not taken the leadership over.
var errStuck = errors.New("raftstore: nothing has reached the node since it was last offered the leadership")

// again says whether a node may be offered the leadership. After an offer that has not gone through, in the same term,
// it must have got an entry meanwhile: the library (hashicorp/raft 1.8.0, leadershipTransfer) asks the goroutine that
// replicates to the node, by a channel with room for one, and the question of the last offer may still be there. A
// second one would wait for ever, and the group would take no entry any more, also in later terms.
func (h *handover) again(ctx context.Context, id raft.ServerID, term uint64) error {
	h.mu.Lock()
	last, ok := h.failed[id]
	h.mu.Unlock()
	if !ok || last.term != term {
		return nil
	}
	p, ok := h.opts.peer(nodeOf(id))
	if !ok {
		return errStuck
	}
	health, err := h.peers.call(ctx, p, &request{Op: opHealth, Shard: h.shard})
	switch {
	case err != nil:
		return err
	case health.LastIndex <= last.index:
		return errStuck
	}
	return nil
}

// over keeps what has become of an offer.
func (h *handover) over(id raft.ServerID, term uint64, r *instance, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.failed, id)
		return
	}
	if h.failed == nil {
		h.failed = map[raft.ServerID]attempt{}
	}
	h.failed[id] = attempt{term, r.raft.LastIndex()}
}

// preferred is the name of the node that should lead the group.
func (h *handover) preferred() string {
	nodes := h.opts.Nodes
	return nodes[int(h.shard)%len(nodes)].Name
}

// fit tells whether a node that reported its health could take the leadership now. To hand it to a node that cannot
// would stall the group: the leader takes no entries until the attempt has timed out.
func (h *handover) fit(health *response, r *instance) bool {
	return health.Stand == standVoter && health.LastIndex+caughtUp >= r.raft.LastIndex() &&
		health.Applied+caughtUp >= r.raft.CommitIndex() &&
		time.Duration(health.StoreMs)*time.Millisecond <= h.opts.Timings.Election/2
}

// watch hands the group to its preferred node, while this node leads it and the preferred one reports itself fit.
func (h *handover) watch() {
	every := 4 * h.opts.Timings.Heartbeat // 2 s by default
	tick := time.NewTicker(every)
	defer tick.Stop()
	p, _ := h.opts.peer(h.preferred())
	if p.Name == h.opts.Name {
		return
	}
	var pace handoverPace
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		r := h.run.Load()
		leads := r != nil && r.raft.State() == raft.Leader
		if h.keeps(leads) || !leads || h.unfit() != nil || h.drained() {
			pace.lost()
			continue
		}
		if !pace.due(time.Now(), every) {
			continue
		}
		health, err := h.peers.call(h.ctx, p, &request{Op: opHealth, Shard: h.shard})
		if err != nil || !h.fit(health, r) {
			continue
		}
		ctx, cancel := context.WithTimeout(h.ctx, 4*h.opts.Timings.Transport)
		err = h.to(ctx, p.Name)
		cancel()
		pace.tried(time.Now(), every, err)
		if err != nil && h.ctx.Err() == nil {
			h.logger.Warn("could not hand the leadership to the preferred node",
				"node", p.Name, "retry", pace.pause, "error", err)
		}
	}
}

// What Keep has asked for.
const (
	keepNot     int32 = iota
	keepAsked         // from the next leadership on
	keepLeading       // until this leadership ends
)

func (h *handover) keep(on bool) {
	if on {
		h.kept.Store(keepAsked)
	} else {
		h.kept.Store(keepNot)
	}
}

// keeps says whether the group stays here, of which it is known whether this node leads it.
func (h *handover) keeps(leads bool) bool {
	if leads {
		h.kept.CompareAndSwap(keepAsked, keepLeading)
	} else {
		h.kept.CompareAndSwap(keepLeading, keepNot)
	}
	return leads && h.kept.Load() != keepNot
}

// stepAside gives away a leadership that this node cannot use, because it is unfit, or is not to have, because it is
// drained: at once, and again and again if nobody could take it. One that is drained leads until another one does.
func (h *handover) stepAside() {
	every := h.opts.Timings.Heartbeat / 2
	tick := time.NewTicker(max(every, time.Millisecond))
	defer tick.Stop()
	var pause time.Duration
	var next time.Time
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		why := h.unfit()
		if why == nil { // nobody may have taken a leadership that was withdrawn
			h.restore()
		}
		if why == nil && !h.drained() || !h.run.isLeader() {
			pause, next = 0, time.Time{}
			continue
		}
		if why != nil {
			h.withdraw(why)
		} else {
			why = errDrained
		}
		if len(h.opts.Nodes) == 1 || time.Now().Before(next) {
			continue
		}
		err := h.afterBarrier()
		if err != nil && h.ctx.Err() == nil {
			h.logger.Warn("could not hand a leadership on", "reason", why, "error", err)
		}
		// The group of an unfit leader stands still until somebody takes it: the pauses stay short.
		pause = min(max(2*pause, every), 10*time.Second)
		next = time.Now().Add(pause)
	}
}

// afterBarrier hands the group to another node that is fit, once an entry of this leadership is committed: before, this
// node does not know what the others have.
func (h *handover) afterBarrier() error {
	ctx, cancel := context.WithTimeout(h.ctx, 4*h.opts.Timings.Transport)
	defer cancel()
	if leads, err := h.settled(ctx); err != nil || !leads {
		return err
	}
	return h.toBest(ctx)
}

// settled returns once an entry of this leadership is committed; leads is false if there is no leadership.
func (h *handover) settled(ctx context.Context) (leads bool, err error) {
	answer, ok := h.barrier()
	if !ok {
		return false, nil
	}
	select {
	case err := <-answer:
		return true, err
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

// offer hands the group to the named node if that is fit.
func (h *handover) offer(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, 4*h.opts.Timings.Transport)
	defer cancel()
	unfit := func(err error) error {
		return fmt.Errorf("%w: node %s, shard %d: %w", ErrUnfit, node, h.shard, err)
	}
	p, ok := h.opts.peer(node)
	if !ok || node == h.opts.Name {
		return unfit(errors.New("it is none of the other nodes"))
	}
	leads, err := h.settled(ctx)
	r := h.run.Load()
	switch {
	case err != nil:
		return unfit(err)
	case !leads || r == nil || r.raft.State() != raft.Leader:
		return unfit(ErrNotLeader)
	}
	health, err := h.peers.call(ctx, p, &request{Op: opHealth, Shard: h.shard})
	if err != nil {
		return unfit(err)
	}
	if !h.fit(health, r) {
		return unfit(errors.New("it is no voter of the shard, or has not caught up, or its disk is slow"))
	}
	return h.to(ctx, node)
}

// toBest hands the group to another node that is fit, the preferred one first.
func (h *handover) toBest(ctx context.Context) error {
	r := h.run.Load()
	if r == nil {
		return nil
	}
	var last error
	nodes := h.opts.Nodes
	rounds := 1
	if h.unfit() != nil { // a drained node is better than none
		rounds = 2
	}
	for i := range rounds * len(nodes) {
		p := nodes[(int(h.shard)+i)%len(nodes)]
		if p.Name == h.opts.Name {
			continue
		}
		health, err := h.peers.call(ctx, p, &request{Op: opHealth, Shard: h.shard, Rescue: i >= len(nodes)})
		switch {
		case err != nil:
		case !h.fit(health, r):
			err = fmt.Errorf("raftstore: %s is not fit to lead shard %d", p.Name, h.shard)
		default:
			if err = h.to(ctx, p.Name); err == nil {
				return nil
			}
		}
		last = err
		if r.raft.State() != raft.Leader {
			return nil
		}
	}
	return last
}

// to hands the group to the named node, and returns when this node no longer leads.
func (h *handover) to(ctx context.Context, node string) error {
	r := h.run.Load()
	if r == nil || r.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	for _, server := range h.run.configuration().Servers {
		if nodeOf(server.ID) != node || server.Suffrage != raft.Voter {
			continue
		}
		term := r.raft.CurrentTerm()
		if err := h.again(ctx, server.ID, term); err != nil {
			return fmt.Errorf("raftstore: hand shard %d to %s: %w", h.shard, node, err)
		}
		f := r.raft.LeadershipTransferToServer(server.ID, server.Address)
		answer := make(chan error, 1)
		go func() { answer <- f.Error() }()
		select {
		case err := <-answer:
			h.over(server.ID, term, r, err)
			if err != nil {
				return fmt.Errorf("raftstore: hand shard %d to %s: %w", h.shard, node, err)
			}
			return nil
		case <-ctx.Done():
			h.over(server.ID, term, r, ctx.Err())
			return fmt.Errorf("raftstore: hand shard %d to %s: %w", h.shard, node, ctx.Err())
		}
	}
	return fmt.Errorf("raftstore: %s is no voter of shard %d", node, h.shard)
}

// handoverPace says when the leadership may be handed to the preferred node: a new leader first leads for a while, and
// for longer each time that it gets the leadership back soon after it was handed over. A node that cannot keep the
// leadership (its disk, its processor or its network stalls now and then) would otherwise be given it every few
// seconds; each time the group stands still, and the sinks start again what they had begun.
type handoverPace struct {
	leads  bool
	next   time.Time     // not before
	pause  time.Duration // of the last wait
	handed time.Time     // the last attempt
}

// steadyRounds is how many rounds the preferred node must have kept the leadership to count as able to keep it.
const steadyRounds = 30

func (p *handoverPace) lost() { p.leads = false }

func (p *handoverPace) due(now time.Time, every time.Duration) bool {
	if !p.leads {
		p.leads = true
		if p.handed.IsZero() || now.Sub(p.handed) > steadyRounds*every+p.pause {
			p.pause = every
		} else {
			p.pause = backOff(p.pause, every)
		}
		p.next = now.Add(p.pause)
	}
	return !now.Before(p.next)
}

func (p *handoverPace) tried(now time.Time, every time.Duration, err error) {
	p.handed = now
	if err != nil {
		p.pause = backOff(p.pause, every)
		p.next = now.Add(p.pause)
	}
}

// backOff is how long to wait after a failed attempt: two rounds, then twice as long each time, at most two minutes,
// since during each attempt the group takes no entries.
func backOff(pause, every time.Duration) time.Duration {
	return min(max(2*pause, 2*every), 2*time.Minute)
}
