package raftstore

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"
)

// engine begins and ends the group's Raft instance. It restarts the instance where the log and what the instance keeps
// in memory do not agree: when the guard has found the log in conflict with a snapshot, and when a leader could not
// store a configuration. The library goes on with such a configuration all the same, for good: where the others count a
// node as no voter, say, it would never ask for a vote again.
type engine struct {
	opts      *Options
	shard     uint32
	logger    *slog.Logger
	self      *self
	net       *network
	log       *logStore
	fsm       *fsm
	snaps     *snapshots
	guard     *guard
	refusals  *refusals
	proposer  *proposer
	run       *current
	ctx       context.Context // ends with the group
	wg        *sync.WaitGroup // of the group's tasks
	fatal     func(error)
	switching *semaphore.Weighted // held while an instance begins or ends
	restarts  chan restartRequest
}

// requestRestart asks for a new instance. A request that has not been carried out yet counts for this one, too.
func (e *engine) requestRestart(r restartRequest) {
	select {
	case e.restarts <- r:
	default:
	}
}

// config returns the library's configuration.
func (e *engine) config(notify chan bool) *raft.Config {
	t := e.opts.Timings
	c := raft.DefaultConfig()
	c.LocalID = e.self.serverID()
	c.HeartbeatTimeout, c.ElectionTimeout = t.Heartbeat, t.Election
	c.LeaderLeaseTimeout, c.CommitTimeout = t.Lease, t.Commit
	// A count: entries of 64 KiB, the default, or of four times that, fit one transport timeout. Small ones that a
	// follower lacks are added by their bytes (longer.go).
	c.MaxAppendEntries = fullAppend
	c.BatchApplyCh = true // so that entries which arrive during an fsync share the next one
	c.ShutdownOnRemove = false
	c.NoSnapshotRestoreOnStart = true
	c.RestoreCommittedLogs = false
	c.SnapshotThreshold, c.SnapshotInterval = 1<<62, time.Hour // maintain.go asks for snapshots
	c.TrailingLogs = 1 << 20                                   // until maintain.go sets it
	c.NotifyCh = notify
	c.NoLegacyTelemetry = true
	c.Logger = raftLogger(e.opts.Logger, e.shard)
	return c
}

// start begins an instance.
func (e *engine) start() (err error) {
	own, _ := e.opts.peer(e.opts.Name)
	r := &instance{
		layer: newLayer(e.net, e.shard, own.Addr), began: time.Now(), notify: make(chan bool, 16),
		done: make(chan struct{}),
	}
	e.fsm.begin(e.snaps.marker())
	cfg := e.config(r.notify)
	r.trans = newTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: r.layer, ServerAddressProvider: addresses{e.opts}, MaxPool: 3, MaxRPCsInFlight: 1,
		Timeout: e.opts.Timings.Transport, Logger: cfg.Logger,
	}))
	if e.net.sec != nil {
		r.in = map[string]*layer{}
		for _, p := range e.opts.Nodes {
			if p.Name == e.opts.Name {
				continue
			}
			l := newLayer(e.net, e.shard, own.Addr)
			r.in[p.Name] = l
			r.trans.hears(p.Name, raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
				Stream: l, Timeout: e.opts.Timings.Transport, Logger: cfg.Logger,
			}))
		}
	}
	r.trans.longer = newLonger(e.opts.Timings.Transport, e.log.inner.GetLog)
	r.trans.maySend, r.trans.noteSent = e.snaps.send.check, e.snaps.send.note
	r.trans.refusedAnswer = func(from raft.ServerID, why *refusal) {
		e.refusals.answer(shardLabel(e.shard), nodeOf(from), why)
	}
	func() { // Raft panics if the term cannot be stored
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("raftstore: start shard %d: %v", e.shard, p)
			}
		}()
		r.raft, err = raft.NewRaft(cfg, e.fsm, e.log, stableStore{e.log.inner, e.log}, e.snaps, r.trans)
	}()
	if err != nil {
		_ = r.trans.Close()
		return fmt.Errorf("raftstore: start shard %d: %w", e.shard, err)
	}
	e.log.running.Store(true)
	applied, _ := e.fsm.sm.Applied()
	e.snaps.formers.allLogged(applied)
	r.trans.wg.Go(func() { e.guard.watch(r) })
	e.run.Store(r)
	e.wg.Go(func() { e.watch(r) })
	return nil
}

// stop ends the instance. Raft never answers an entry that lies in its queue when it is shut down, so no more entries
// are taken and those are waited for; if the group is closing, only as long as a leader without a quorum or with a slow
// disk may take to notice. It is called with switching held.
func (e *engine) stop() {
	r := e.proposer.detach()
	if r == nil {
		return
	}
	t := e.opts.Timings
	e.proposer.drain(2*(t.Lease+t.StoreDeadline) + time.Second)
	close(r.trans.ending)
	if err := r.raft.Shutdown().Error(); err != nil {
		e.logger.Warn("raft shutdown", "error", err)
	}
	_ = r.trans.Close()
	close(r.done)
}

// watch turns an instance's notices into the group's; it always takes them, or Raft's main loop would stall.
func (e *engine) watch(r *instance) {
	for {
		select {
		case leads := <-r.notify:
			if !leads {
				r.trans.release()
			}
			e.proposer.announce(leads, r.raft.CurrentTerm())
		case <-r.done:
			e.proposer.announce(false, 0)
			return
		}
	}
}

// supervise carries out the requested restarts, as long as the group runs.
func (e *engine) supervise() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case r := <-e.restarts:
			if err := e.restart(r); err != nil {
				e.fatal(fmt.Errorf("raftstore: restart shard %d: %w", e.shard, err))
				return
			}
		}
	}
}

// restart ends the instance, drops the end of the log, and begins another instance.
func (e *engine) restart(r restartRequest) error {
	if e.switching.Acquire(e.ctx, 1) != nil {
		return nil // the group ends
	}
	defer e.switching.Release(1)
	if e.proposer.isClosing() {
		return nil
	}
	e.logger.Warn("dropping the end of the log and restarting the group: "+r.why, "from", r.dropFrom)
	e.stop()
	e.log.running.Store(false)
	if err := e.log.waitForWrite(nil); err != nil {
		return err
	}
	if err := e.log.inner.DeleteRange(r.dropFrom, math.MaxUint64); err != nil {
		return err
	}
	return e.start()
}

// shut ends the instance for good; the proposer takes no entries any more.
func (e *engine) shut() {
	_ = e.switching.Acquire(context.Background(), 1)
	e.stop()
	e.switching.Release(1)
}
