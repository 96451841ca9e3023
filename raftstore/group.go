package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"
)

// Leadership says whether this node leads a group, and since which term.
type Leadership struct {
	Leader bool
	Term   uint64
}

// Group is one shard's Raft group on this node.
type Group struct {
	shard  uint32
	store  *Store
	logger *slog.Logger
	sm     StateMachine
	log    *logStore
	snaps  *snapshots
	send   *sender
	fsm    *fsm
	met    *groupMetrics

	ctx    context.Context // ends when the group stops
	cancel context.CancelFunc
	unhold context.CancelFunc // ends what a checkpoint waits for, before the library is shut down
	wg     sync.WaitGroup

	// installing keeps a local snapshot and an installed one apart.
	installing *semaphore.Weighted
	lives      *semaphore.Weighted // of Raft instances: one begins or ends at a time
	restart    chan cut
	asked      chan struct{}
	changing   sync.Mutex // one membership change at a time, by this leader

	run atomic.Pointer[running]

	// proposing keeps the order of Propose, and guards what follows.
	proposing sync.Mutex
	closing   bool
	leading   bool
	term      uint64 // of leading
	refused   bool   // an entry was refused though this node leads: none is taken until the leadership is announced anew
	notices   chan Leadership
	slots     chan struct{} // taken while an entry is on its way
	waiting   chan *Future
	pending   atomic.Int64 // futures that Raft has not answered
}

// cut asks for a new life of the Raft instance, which keeps in memory what its log does not hold.
type cut struct {
	from uint64 // the index from which the log is to be cut
	why  string
}

// again asks for a restart of the Raft instance; one that is asked for and has not begun stands for this one, too.
func (g *Group) again(c cut) {
	select {
	case g.restart <- c:
	default:
	}
}

// running is one life of the group's Raft instance.
type running struct {
	raft   *raft.Raft
	trans  *transport
	layer  *layer
	notify chan bool
	done   chan struct{} // closed when stopped
}

// maxPending bounds the entries of one group on their way; Propose blocks beyond it.
const maxPending = 1024

func newGroup(s *Store, shard uint32, sm StateMachine, log *logStore, snaps *snapshots, f *fsm, send *sender) *Group {
	g := &Group{
		shard: shard, store: s, logger: s.opts.Logger.With("shard", shard), sm: sm, log: log, snaps: snaps, fsm: f, send: send,
		met: s.met.group(shard), installing: semaphore.NewWeighted(1), lives: semaphore.NewWeighted(1),
		restart: make(chan cut, 1), asked: make(chan struct{}, 1),
		notices: make(chan Leadership, 1), slots: make(chan struct{}, maxPending), waiting: make(chan *Future, maxPending),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	log.orphan = func(index uint64) { g.again(cut{index, "a configuration could not be stored"}) }
	return g
}

func (g *Group) config(notify chan bool) *raft.Config {
	t := g.store.opts.Timings
	c := raft.DefaultConfig()
	c.LocalID = g.store.serverID()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = t.Heartbeat, t.Election, t.Lease, t.Commit
	c.MaxAppendEntries = 16 // a count: with entries of 64 KiB, the default, or four times that, it fits one transport timeout
	c.BatchApplyCh = true   // so that entries which arrive during an fsync share the next one
	c.ShutdownOnRemove = false
	c.NoSnapshotRestoreOnStart = true
	c.RestoreCommittedLogs = false
	c.SnapshotThreshold, c.SnapshotInterval = 1<<62, time.Hour // maintain.go asks for them
	c.TrailingLogs = 1 << 20                                   // until maintain.go knows better
	c.NotifyCh = notify
	c.NoLegacyTelemetry = true
	c.Logger = raftLogger(g.store.opts.Logger, g.shard)
	return c
}

// start begins a life of the Raft instance.
func (g *Group) start() (err error) {
	o := g.store.opts
	self, _ := o.peer(o.Name)
	r := &running{
		layer: newLayer(g.store.net, g.shard, self.Addr), notify: make(chan bool, 16), done: make(chan struct{}),
	}
	g.fsm.begin(g.snaps.marker())
	cfg := g.config(r.notify)
	r.trans = newTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: r.layer, ServerAddressProvider: addresses{&g.store.opts}, MaxPool: 3, MaxRPCsInFlight: 1,
		Timeout: o.Timings.Transport, Logger: cfg.Logger,
	}))
	func() { // Raft panics if the term cannot be stored
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("raftstore: start shard %d: %v", g.shard, p)
			}
		}()
		r.raft, err = raft.NewRaft(cfg, g.fsm, g.log, stableStore{g.log.inner, g.log}, g.snaps, r.trans)
	}()
	if err != nil {
		_ = r.trans.Close()
		return fmt.Errorf("raftstore: start shard %d: %w", g.shard, err)
	}
	g.log.running.Store(true)
	r.trans.wg.Go(func() { g.guard(r) })
	g.run.Store(r)
	g.wg.Go(func() { g.watch(r) })
	return nil
}

// stop ends the current life. Raft never answers an entry that lies in its queue when it is shut down, so no more are taken and those are
// waited for; if the group is closing, only as long as a leader without a quorum or with a slow disk may take to
// notice. It is called with lives held.
func (g *Group) stop() {
	g.proposing.Lock()
	r := g.run.Swap(nil)
	g.proposing.Unlock()
	if r == nil {
		return
	}
	t := g.store.opts.Timings
	for end := time.Now().Add(2*(t.Lease+t.StoreDeadline) + time.Second); g.pending.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) && g.ends() {
			break
		}
	}
	close(r.trans.ending)
	if err := r.raft.Shutdown().Error(); err != nil {
		g.logger.Warn("raft shutdown", "error", err)
	}
	_ = r.trans.Close()
	close(r.done)
}

// watch turns Raft's notices into the group's; it always takes them, or Raft's main loop would stall.
func (g *Group) watch(r *running) {
	for {
		select {
		case leads := <-r.notify:
			if !leads {
				r.trans.release()
			}
			g.announce(leads, r.raft.CurrentTerm())
		case <-r.done:
			g.announce(false, 0)
			return
		}
	}
}

func (g *Group) announce(leads bool, term uint64) {
	g.proposing.Lock()
	defer g.proposing.Unlock()
	if g.leading != leads {
		g.met.changes.Inc()
		g.logger.Info("leadership", "leads", leads, "term", term)
	}
	g.leading, g.term, g.refused = leads, term, false
	g.publish(Leadership{Leader: leads, Term: term})
}

// publish replaces a notice that was not received yet. It is called with proposing held.
func (g *Group) publish(l Leadership) {
	select {
	case <-g.notices:
	default:
	}
	g.notices <- l
}

// Leadership delivers changes of leadership; the latest value wins, and it has one receiver. After ErrNotLeader or
// ErrUncertain the receiver should wait here for its next turn: if the node still leads, a fresh value is delivered.
func (g *Group) Leadership() <-chan Leadership { return g.notices }

// IsLeader tells whether this node leads the group, as far as it knows.
func (g *Group) IsLeader() bool {
	r := g.run.Load()
	return r != nil && r.raft.State() == raft.Leader
}

// Leader returns the leader's node name, "" if unknown.
func (g *Group) Leader() string {
	r := g.run.Load()
	if r == nil {
		return ""
	}
	_, id := r.raft.LeaderWithID()
	return nodeOf(id)
}

// StateMachine returns the group's state machine.
func (g *Group) StateMachine() StateMachine { return g.sm }

// Shard returns the group's number.
func (g *Group) Shard() uint32 { return g.shard }

// Barrier returns when every entry committed before the call has been applied here. It fails with ErrNotLeader or
// ErrUncertain where this node does not lead.
func (g *Group) Barrier(ctx context.Context) error {
	f := g.enqueue(func(r *raft.Raft) raft.Future { return r.Barrier(0) })
	_, err := f.Wait(ctx)
	return err
}

// Checkpoint asks for a checkpoint of the state machine and the truncation of the log, soon, in the background.
func (g *Group) Checkpoint() {
	select {
	case g.asked <- struct{}{}:
	default:
	}
}

// configuration returns the latest configuration, committed or not.
func (g *Group) configuration() raft.Configuration {
	r := g.run.Load()
	if r == nil {
		return raft.Configuration{}
	}
	f := r.raft.GetConfiguration()
	if f.Error() != nil {
		return raft.Configuration{}
	}
	return f.Configuration()
}

// suffrage returns this node's part in the group: "voter", "nonvoter" or "none".
func (g *Group) suffrage() string { return suffrageOf(g.configuration(), g.store.serverID()) }

func suffrageOf(c raft.Configuration, id raft.ServerID) string {
	for _, s := range c.Servers {
		if s.ID == id {
			if s.Suffrage == raft.Voter {
				return standVoter
			}
			return standNonvoter
		}
	}
	return standNone
}

// preferred is the name of the node that should lead the group.
func (g *Group) preferred() string {
	nodes := g.store.opts.Nodes
	return nodes[int(g.shard)%len(nodes)].Name
}

func (g *Group) status() GroupStatus {
	s := GroupStatus{
		Shard: g.shard, Preferred: g.preferred(), Suffrage: standNone, DurableIndex: g.sm.Durable(),
		MarkerIndex: g.snaps.marker().Index, LogBytes: g.log.inner.Bytes(),
	}
	s.FirstIndex, _ = g.log.inner.FirstIndex()
	s.LastIndex, _ = g.log.inner.LastIndex()
	s.AppliedIndex = g.fsm.known()
	if r := g.run.Load(); r != nil {
		s.Leader, s.IsLeader, s.Suffrage = g.Leader(), r.raft.State() == raft.Leader, g.suffrage()
		s.Term, s.CommitIndex = r.raft.CurrentTerm(), r.raft.CommitIndex()
	}
	return s
}

// work runs the group's background tasks until the group's context ends.
func (g *Group) work() {
	g.wg.Go(g.settle)
	g.wg.Go(g.supervise)
	g.wg.Go(g.maintain)
	if len(g.store.opts.Nodes) > 1 {
		g.wg.Go(g.prefer)
		g.wg.Go(g.stand)
	}
}

// supervise restarts the Raft instance where its log and what it keeps in memory do not agree: when the guard has found the log in conflict
// with a snapshot, and when a leader could not store a configuration, which the library goes on with all the same,
// for good: for a node that the others have as no voter, say, it would never ask for a vote again.
func (g *Group) supervise() {
	for {
		select {
		case <-g.ctx.Done():
			return
		case c := <-g.restart:
			if err := g.begin(c); err != nil {
				g.store.fatal(fmt.Errorf("raftstore: restart shard %d: %w", g.shard, err))
				return
			}
		}
	}
}

// begin ends the current life of the Raft instance, cuts the log, and begins another life.
func (g *Group) begin(c cut) error {
	if g.lives.Acquire(g.ctx, 1) != nil {
		return nil // the group ends
	}
	defer g.lives.Release(1)
	if g.ends() {
		return nil
	}
	g.logger.Warn("cutting the log and restarting the group: "+c.why, "from", c.from)
	g.stop()
	g.log.running.Store(false)
	if err := g.log.settle(nil); err != nil {
		return err
	}
	if err := g.log.inner.DeleteRange(c.from, math.MaxUint64); err != nil {
		return err
	}
	return g.start()
}

func (g *Group) ends() bool {
	g.proposing.Lock()
	defer g.proposing.Unlock()
	return g.closing
}

// shut ends the group: no entry is taken any more, Raft stops, then the tasks.
func (g *Group) shut() error {
	g.proposing.Lock()
	g.closing = true
	g.proposing.Unlock()
	g.unhold() // a checkpoint that a stalled disk holds up must not hold up the library's end, which waits for it
	_ = g.lives.Acquire(context.Background(), 1)
	g.stop()
	g.lives.Release(1)
	g.cancel()
	g.wg.Wait()
	g.log.running.Store(false)
	g.log.close()
	return errors.Join(g.send.sweep(true), g.sm.Close())
}
