package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"

	"deckle/schema/level"
	"deckle/wal"
)

// Group is one shard's Raft group on this node. It puts the parts together, each of which sees only what it is given:
//
//	engine      begins, ends and restarts Raft          guard       sees incoming requests before Raft does
//	proposer    entries and leadership                  maintainer  keeps the log short
//	members     as the leader: replaces servers         standing    as a new server: asks to be let in
//	handover    gives the leadership away               levels      asks the members for their levels
type Group struct {
	shard  uint32
	sm     StateMachine
	log    *logStore
	snaps  *snapshots
	send   *sender
	fsm    *fsm
	run    *current
	single bool // the cluster is this node alone

	engine     *engine
	proposer   *proposer
	maintainer *maintainer
	members    *members
	standing   *standing
	handover   *handover
	levels     *levels
	speaker    *speaker
	bound      *logBound
	drained    func() bool // the node is to lead no group that another one can lead

	cancel         context.CancelFunc // ends the group's tasks
	endCheckpoints context.CancelFunc // ends a checkpoint that waits for a disk, before the library is shut down
	wg             sync.WaitGroup     // of the group's tasks
}

// groupEnv is what a group is given by its node.
type groupEnv struct {
	opts       *Options
	self       *self
	net        *network
	peers      *peers
	wal        *wal.Log
	met        *metrics
	refusals   *refusals
	bound      *logBound
	drained    func() bool // see Store.Drain
	fatal      func(error) // takes the first error after which this node can keep no promise
	superseded func()      // is called when another incarnation has taken this node's place
}

// openGroup opens a shard's state machine, finishes what a crash left undone, and checks that state, log and marker
// keep what they promise. Raft does not run yet.
func openGroup(ctx context.Context, env *groupEnv, shard uint32) (*Group, error) {
	o := env.opts
	dir := o.FS.PathJoin(o.Dir, snapshotDirName)
	snaps, err := newSnapshots(o.FS, dir, shard, level.Level(o.Level))
	if err != nil {
		return nil, err
	}
	sm, err := o.NewStateMachine(ctx, shard, o.FS.PathJoin(o.Dir, fmt.Sprintf("%s%d", shardPrefix, shard)), env.fatal)
	if err != nil {
		return nil, fmt.Errorf("raftstore: open shard %d: %w", shard, err)
	}
	met := env.met.group(shard)
	log := newLogStore(env.wal.Group(uint64(shard)), o.Timings.StoreDeadline, 20*o.Timings.Election, env.fatal,
		met.observeStore)
	f := &fsm{sm: sm, snaps: snaps, log: log, fatal: env.fatal}
	f.onHold = func(h *hold) {
		o.Logger.Error("an entry cannot be read yet: run the newer version here", "shard", shard, "entry", h.index,
			"error", h.err)
		env.bound.note(shard, h)
	}
	snaps.send = &sender{busy: make(chan struct{}, 1), fs: o.FS, dir: dir, shard: shard, sm: sm, fsm: f, log: log}
	snaps.count = met.install.Inc
	g := newGroup(env, shard, sm, log, snaps, f, met)
	if err = snaps.finish(sm, log); err == nil {
		err = checkPromises(sm, log, snaps.marker(), shard)
	}
	if err != nil {
		g.cancel()
		log.close()
		return nil, errors.Join(err, sm.Close())
	}
	f.begin(snaps.marker())
	return g, nil
}

func newGroup(
	env *groupEnv, shard uint32, sm StateMachine, log *logStore, snaps *snapshots, f *fsm, met *groupMetrics,
) *Group {
	o, logger := env.opts, env.opts.Logger.With("shard", shard)
	g := &Group{
		shard: shard, sm: sm, log: log, snaps: snaps, send: snaps.send, fsm: f, run: &current{self: env.self.serverID},
		single: len(o.Nodes) == 1, bound: env.bound, drained: env.drained,
	}
	var ctx context.Context
	ctx, g.cancel = context.WithCancel(context.Background())
	f.leaving, g.endCheckpoints = context.WithCancel(ctx)
	oneSnapshot := semaphore.NewWeighted(1)
	g.proposer = newProposer(ctx, &g.wg, g.run, logger, met, o.Timings.Election, g.unfit)
	g.engine = &engine{
		opts: o, shard: shard, logger: logger, self: env.self, net: env.net, log: log, fsm: f, snaps: snaps,
		proposer: g.proposer, run: g.run, ctx: ctx, wg: &g.wg, fatal: env.fatal,
		refusals: env.refusals, switching: semaphore.NewWeighted(1), restarts: make(chan restartRequest, 1),
	}
	g.speaker = &speaker{
		opts: o, shard: shard, formers: snaps.formers, refusals: env.refusals,
		nothing: func() bool {
			last, err := log.inner.LastIndex()
			return err == nil && last == 0 && snaps.marker().Index == 0
		},
	}
	g.engine.guard = &guard{
		logger: logger, log: log, fsm: f, snaps: snaps, ctx: ctx, oneSnapshot: oneSnapshot,
		requestRestart: g.engine.requestRestart, level: level.Level(o.Level), bound: env.bound,
		refused: met.refused.Inc, speaker: g.speaker,
	}
	log.configNotStored = func(index uint64) {
		g.engine.requestRestart(restartRequest{index, "a configuration could not be stored"})
	}
	log.readConfig = snaps.formers.logged
	g.maintainer = &maintainer{
		opts: o, shard: shard, logger: logger, sm: sm, log: log, fsm: f, send: snaps.send, run: g.run, ctx: ctx,
		oneSnapshot: oneSnapshot, barrier: g.proposer.barrier, laggards: env.wal.Laggards,
	}
	g.members = &members{
		opts: o, logger: logger, run: g.run, fsm: f, formers: snaps.formers, peers: env.peers, ctx: ctx, wg: &g.wg,
	}
	g.standing = &standing{
		opts: o, shard: shard, run: g.run, fsm: f, self: env.self, peers: env.peers, ctx: ctx,
		superseded: env.superseded,
	}
	g.handover = &handover{
		opts: o, shard: shard, logger: logger, run: g.run, peers: env.peers, ctx: ctx,
		unfit: g.unfit, drained: env.drained, withdraw: g.proposer.withdraw, restore: g.proposer.restore,
		barrier: g.proposer.barrier,
	}
	g.levels = &levels{opts: o, self: env.self, peers: env.peers, run: g.run, fsm: f}
	snaps.send.levelOf = func(ctx context.Context, id raft.ServerID) (uint32, error) {
		has, _, _, err := g.levels.of(ctx, id)
		return has, err
	}
	return g
}

// checkPromises compares what a shard's three files say: the state reaches the marker, and the log reaches the state.
func checkPromises(sm StateMachine, log *logStore, m marker, shard uint32) error {
	last, err := log.inner.LastIndex()
	if err != nil {
		return err
	}
	if d := sm.Durable(); d < m.Applied {
		return fmt.Errorf("%w: the state of shard %d is durable up to entry %d, but its log was truncated up to %d",
			ErrDamaged, shard, d, m.Applied)
	}
	if at, _ := sm.Applied(); at > max(last, m.Index, m.State) {
		return fmt.Errorf("%w: the state of shard %d has applied entry %d, but its log ends at %d",
			ErrDamaged, shard, at, max(last, m.Index))
	}
	return nil
}

// writeFirstConfiguration writes the group's first entry, if there is none.
func (g *Group) writeFirstConfiguration(conf raft.Configuration) error {
	last, err := g.log.inner.LastIndex()
	if err != nil || last > 0 {
		return err
	}
	if err := g.log.inner.SetUint64([]byte(termKey), 1); err != nil {
		return err
	}
	return g.log.inner.StoreLog(&raft.Log{
		Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf),
	})
}

// work runs the group's background tasks until the group ends.
func (g *Group) work() {
	g.wg.Go(g.proposer.takeAnswers)
	g.wg.Go(g.engine.supervise)
	g.wg.Go(g.maintainer.watch)
	g.wg.Go(g.handover.stepAside)
	if !g.single {
		g.wg.Go(g.handover.watch)
		g.wg.Go(g.standing.watch)
	}
}

// shut ends the group: no entry is taken any more, Raft stops, then the tasks.
func (g *Group) shut() error {
	g.proposer.close()
	g.endCheckpoints() // the library's end waits for a checkpoint, and a stalled disk may hold that up
	g.engine.shut()
	g.cancel()
	g.wg.Wait()
	g.log.running.Store(false)
	g.log.close()
	return errors.Join(g.send.sweep(true), g.sm.Close())
}

// Propose enqueues an entry, in order; it does not wait for the commit. The entry must not be changed afterwards. It
// blocks only while 1024 entries of the group are on their way, or while a slow disk holds up Raft's queue of 16.
func (g *Group) Propose(entry []byte) *Future {
	return g.proposer.enqueue(func(r *raft.Raft) raft.Future { return r.Apply(entry, 0) })
}

// Barrier returns when every entry committed before the call has been applied here. It fails with ErrNotLeader or
// ErrUncertain where this node does not lead, or where the group is held.
func (g *Group) Barrier(ctx context.Context) error {
	f := g.proposer.enqueue(func(r *raft.Raft) raft.Future { return r.Barrier(0) })
	if _, err := f.Wait(ctx); err != nil {
		return err
	}
	if err := g.fsm.holdErr(); err != nil { // the library's barrier counts what was passed over as applied
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return nil
}

// Held tells whether the group is held on this node: whether it has met an entry that this binary cannot read yet. It
// returns the index of the entry and why, an error that wraps ErrTooNew. Until the newer binary runs here, neither this
// entry nor a later one is applied, and this node leads the group for nobody.
func (g *Group) Held() (index uint64, why error, held bool) {
	if h := g.fsm.held.Load(); h != nil {
		return h.index, h.err, true
	}
	return 0, nil, false
}

// Levels asks every server of the group's latest committed configuration, voters and non-voters, and of one that is on
// its way, for the level of its binary. It asks anew at each call, and waits for the answers, for at most two transport
// timeouts; this node answers without a connection. A server that does not answer is in the result, with an error. It
// fails only if this node knows of no configuration yet.
func (g *Group) Levels(ctx context.Context) ([]MemberLevel, error) { return g.levels.ask(ctx) }

// unfit returns why this node cannot lead the group, nil if it can.
func (g *Group) unfit() error { return cmp.Or(g.fsm.holdErr(), g.bound.exceeded()) }

// Leadership delivers changes of leadership; the latest value wins, and it has one receiver. After ErrNotLeader or
// ErrUncertain the receiver should wait here for its next leadership: if the node still leads, a fresh value is
// delivered.
func (g *Group) Leadership() <-chan Leadership { return g.proposer.notices }

// IsLeader tells whether this node leads the group, as far as it knows.
func (g *Group) IsLeader() bool { return g.run.isLeader() }

// Leader returns the leader's node name, "" if unknown.
func (g *Group) Leader() string { return g.run.leader() }

// TransferLeadership hands the group to the named node, and returns when this node no longer leads.
func (g *Group) TransferLeadership(ctx context.Context, node string) error {
	return g.handover.to(ctx, node)
}

// Offer hands the group to the named node, if that reports that it can lead it, and returns when this node no longer
// leads. The error wraps ErrUnfit if nothing has been tried; after any other one the group may have changed hands.
func (g *Group) Offer(ctx context.Context, node string) error { return g.handover.offer(ctx, node) }

// Keep lets this node keep the group, once it leads it, until it loses it: it does not hand it to the group's preferred
// node. Keep(false) ends that.
func (g *Group) Keep(on bool) { g.handover.keep(on) }

// StateMachine returns the group's state machine.
func (g *Group) StateMachine() StateMachine { return g.sm }

// health says whether this node could lead the group.
func (g *Group) health(rescue bool) (*response, error) {
	r := g.run.Load()
	if r == nil || g.fsm.err() != nil {
		return nil, errNotReady
	}
	if err := g.unfit(); err != nil {
		return nil, err
	}
	if g.drained() && !rescue {
		return nil, errDrained
	}
	return &response{
		Stand: g.run.suffrage(), Term: r.raft.CurrentTerm(), LastIndex: r.raft.LastIndex(), Applied: g.fsm.known(),
		StoreMs: g.log.lag().Milliseconds(),
	}, nil
}

// status says where the group stands.
func (g *Group) status() GroupStatus {
	s := GroupStatus{
		Shard: g.shard, Preferred: g.handover.preferred(), Suffrage: standNone, DurableIndex: g.sm.Durable(),
		MarkerIndex: g.snaps.marker().Index, LogBytes: g.log.inner.Bytes(), Level: uint32(g.fsm.level()),
		Refused: g.standing.refused(),
	}
	if h := g.fsm.held.Load(); h != nil {
		s.HeldIndex, s.HeldReason = h.index, h.err.Error()
	}
	s.FirstIndex, _ = g.log.inner.FirstIndex()
	s.LastIndex, _ = g.log.inner.LastIndex()
	s.AppliedIndex = g.fsm.known()
	if r := g.run.Load(); r != nil {
		s.Leader, s.IsLeader, s.Suffrage = g.Leader(), r.raft.State() == raft.Leader, g.run.suffrage()
		s.Term, s.CommitIndex = r.raft.CurrentTerm(), r.raft.CommitIndex()
		if s.Leader == "" && time.Since(r.began) > termRefusedFor && time.Since(r.raft.LastContact()) > termRefusedFor {
			s.TermRefused = g.speaker.termRefused(termRefusedFor)
		}
	}
	if s.IsLeader {
		s.NotSent = g.send.failures()
	}
	return s
}
