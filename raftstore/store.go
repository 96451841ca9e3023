package raftstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/wal"
)

// LockPath returns the file that an open Store holds locked, for others that change what is in its data folder.
func LockPath(fsys vfs.FS, dir string) string { return fsys.PathJoin(dir, walDirName, wal.LockName) }

// Store is one node's part of the cluster: its groups, their log and their state machines.
type Store struct {
	opts     Options
	logger   *slog.Logger
	self     *self
	net      *network
	peers    *peers
	sharers  *sharers
	wal      *wal.Log
	bound    *logBound // of the groups that are open
	met      *metrics
	refusals *refusals
	groups   []*Group // by shard; fixed once Open returns
	forming  *forming // set before Open returns
	control  *control // set before Open returns
	drained  atomic.Bool

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	ready     chan struct{}
	fatalOnce sync.Once

	mu            sync.Mutex
	opening       bool  // Open is at work, and answers damage itself
	damageAtOpen  error // damage that was reported meanwhile
	isReady       bool
	leaving       bool // Close has begun: this node takes no leadership
	closed        bool
	statusReasons map[string]string // Status.Reasons by what they are about
}

// Open opens identity, log and state machines, listens, and starts forming or rejoining the cluster in the background;
// Ready tells when that is done. On one of three nodes a damaged log is no error: the folder is emptied, loudly, and
// the node rejoins.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	s := &Store{
		opts: opts, logger: opts.Logger.With("node", opts.Name), ready: make(chan struct{}),
		statusReasons: map[string]string{"cluster": "starting"},
	}
	s.opts.Logger = s.logger
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.met = newMetrics(func() []GroupStatus { return s.Status().Groups })
	s.refusals = newRefusals(s.logger, s.met)
	id, err := loadIdentity(&s.opts)
	if err != nil {
		return nil, err
	}
	s.self = newSelf(&s.opts, id)
	s.net = newNetwork(&s.opts)
	s.net.refused = s.refusals.connection
	s.net.ended = func(why string) { s.met.ended.WithLabelValues(why).Inc() }
	s.peers = &peers{opts: &s.opts, self: s.self, net: s.net}
	s.sharers = &sharers{peers: s.peers, takes: map[string]bool{}, refuses: map[string]time.Time{}}
	if err = s.openAll(ctx); isDamage(err) {
		if err = s.rejoinEmpty(err); err == nil {
			err = s.openAll(ctx)
		}
	}
	if err == nil {
		err = s.net.listen(ctx)
	}
	if err == nil {
		err = s.met.register(opts.Registerer)
	}
	if err != nil {
		s.net.close()
		return nil, errors.Join(err, s.closeGroups())
	}
	s.forming = &forming{
		opts: &s.opts, logger: s.logger, self: s.self, peers: s.peers, groups: s.groups, fatal: s.fatal,
		state: func(text string) { s.setReason("cluster", text) },
	}
	s.control = &control{
		opts: &s.opts, logger: s.logger, self: s.self, groups: s.groups,
		started: s.forming.started.Load, closed: s.isClosed, leaving: s.isLeaving,
		refusals: s.refusals,
		sharing: &sharing{
			opts: &s.opts, logger: s.logger, self: s.self, refusals: s.refusals, ctx: s.ctx, busy: map[string]int{},
		},
	}
	s.net.serve(s.control.admit)
	s.wg.Go(func() {
		if s.forming.form(s.ctx) {
			s.mu.Lock()
			s.isReady = true
			s.mu.Unlock()
			close(s.ready)
		}
	})
	return s, nil
}

// rejoinEmpty answers damage that Open has met.
func (s *Store) rejoinEmpty(cause error) error {
	if len(s.opts.Nodes) == 1 {
		return singleNodeDamage(s.opts.Dir, cause)
	}
	former := s.self.get()
	id, err := emptyFolder(&s.opts, &former, cause.Error())
	if err != nil {
		return err
	}
	s.self.replace(id)
	s.met.rejoins.Inc()
	return nil
}

// openAll opens the groups. Damage that a state machine reports meanwhile is returned, and is not fatal.
func (s *Store) openAll(ctx context.Context) error {
	s.mu.Lock()
	s.opening, s.damageAtOpen = true, nil
	s.mu.Unlock()
	err := s.openGroups(ctx)
	s.mu.Lock()
	reported := s.damageAtOpen
	s.opening = reported != nil // while the groups close, more of the same may come
	s.mu.Unlock()
	if reported != nil {
		if cerr := s.closeGroups(); cerr != nil {
			s.logger.Warn("closing after damage", "error", cerr)
		}
		err = errors.Join(err, reported)
		s.mu.Lock()
		s.opening = false
		s.mu.Unlock()
	}
	return err
}

// openGroups opens the log and every shard's state machine, and finishes what a crash left undone.
func (s *Store) openGroups(ctx context.Context) (err error) {
	o := &s.opts
	s.wal, err = wal.Open(ctx, wal.Options{
		FS: o.FS, Dir: o.FS.PathJoin(o.Dir, walDirName), SegmentBytes: o.SegmentBytes, Logger: o.Logger,
		OnFatal: s.fatal, Registerer: o.Registerer,
	})
	if err != nil {
		return fmt.Errorf("raftstore: open log: %w", err)
	}
	log := s.wal
	s.bound = &logBound{limit: boundFactor * o.WALBytes, size: func() int64 { return log.Stats().Bytes }}
	if len(o.Nodes) > 1 {
		s.bound.room = o.NoRoom
	}
	env := &groupEnv{
		opts: o, self: s.self, net: s.net, peers: s.peers, wal: s.wal, met: s.met, refusals: s.refusals, bound: s.bound,
		drained: s.drained.Load, fatal: s.fatal, superseded: s.superseded,
	}
	for shard := range uint32(o.Shards) {
		g, err := openGroup(ctx, env, shard)
		if err != nil {
			return errors.Join(err, s.closeGroups())
		}
		s.groups = append(s.groups, g)
	}
	if err := dropCopies(o.FS, o.FS.PathJoin(o.Dir, snapshotDirName)); err != nil {
		return errors.Join(err, s.closeGroups())
	}
	return nil
}

// closeGroups closes what openGroups opened, where Raft does not run.
func (s *Store) closeGroups() (err error) {
	for _, g := range s.groups {
		err = errors.Join(err, g.shut())
	}
	s.groups = nil
	if s.wal != nil {
		err = errors.Join(err, s.wal.Close())
		s.wal = nil
	}
	return err
}

// fatal reports the first error after which this node can keep no promise. Damage makes the folder void before the
// process ends; otherwise it would be met at every start.
func (s *Store) fatal(err error) {
	if isDamage(err) && s.noteDamage(err) {
		return
	}
	s.fatalOnce.Do(func() {
		s.setReason("fatal", err.Error())
		s.logger.Error("fatal", "error", err)
		s.opts.OnFatal(err)
	})
}

// noteDamage notes in the identity that the folder is damaged. While Open runs, the damage is noted for Open instead,
// which answers it: noteDamage returns true.
func (s *Store) noteDamage(cause error) (answered bool) {
	s.mu.Lock()
	opening := s.opening
	if opening && s.damageAtOpen == nil {
		s.damageAtOpen = cause
	}
	s.mu.Unlock()
	if opening {
		return true
	}
	if err := s.self.makeVoid(cause.Error()); err != nil {
		s.logger.Error("the damage could not be noted: the next start will not know of it", "error", err)
	}
	return false
}

// superseded ends this folder, because another incarnation has taken this node's place: the next start empties it.
func (s *Store) superseded() {
	if s.isClosed() {
		return
	}
	if wasMember, err := s.self.supersede(); wasMember {
		s.fatal(errors.Join(ErrSuperseded, err))
	}
}

// setReason notes why the node is not ready or what is wrong; an empty text takes it back.
func (s *Store) setReason(key, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.statusReasons[key] != text && text != "" {
		s.logger.Info("raftstore: "+key, "state", text)
	}
	if text == "" {
		delete(s.statusReasons, key)
	} else {
		s.statusReasons[key] = text
	}
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Store) isLeaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}

// Ready is closed once this node is a voting member of every group and its groups run.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// ClusterID returns the cluster's id, 16 hexadecimal digits; valid after Ready.
func (s *Store) ClusterID() string { return s.self.get().Cluster }

// Group returns the shard's group; valid after Ready, nil before or if there is no such shard.
func (s *Store) Group(shard uint32) *Group {
	s.mu.Lock()
	ok := s.isReady
	s.mu.Unlock()
	if !ok || uint64(shard) >= uint64(len(s.groups)) {
		return nil
	}
	return s.groups[shard]
}

// Status tells where the node stands. It may be called from any goroutine at any time.
func (s *Store) Status() Status {
	id := s.self.get()
	s.mu.Lock()
	st := Status{Node: id.Name, ServerID: string(id.serverID()), ClusterID: id.Cluster, Ready: s.isReady,
		Drained: s.Drained()}
	for _, k := range slices.Sorted(maps.Keys(s.statusReasons)) {
		st.Reasons = append(st.Reasons, k+": "+s.statusReasons[k])
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return st
	}
	st.WAL = s.wal.Stats()
	st.WALBytes = st.WAL.Bytes
	if s.net.sec != nil && !s.opts.Plain {
		st.Refused = s.refusals.recent(refusedFor)
	}
	if err := s.bound.exceeded(); err != nil {
		st.Refusing = err.Error()
		st.Reasons = append(st.Reasons, "log: "+st.Refusing)
	}
	for _, g := range s.groups {
		gs := g.status()
		if st.Ready && gs.Leader == "" {
			st.Reasons = append(st.Reasons, fmt.Sprintf("shard %d: no leader is known", g.shard))
		}
		if gs.HeldReason != "" {
			st.Reasons = append(st.Reasons, fmt.Sprintf("shard %d: %s", g.shard, gs.HeldReason))
		}
		for _, why := range gs.NotSent {
			st.Troubles = append(st.Troubles, fmt.Sprintf("shard %d: no snapshot could be sent to %s", g.shard, why))
		}
		st.Groups = append(st.Groups, gs)
	}
	return st
}

// Ask returns what another node says of itself: what its Options.Tell returns. The error wraps ErrRefused if that node
// has answered without saying it, because it is of an earlier version, or of another cluster, or in the middle of
// forming one. It takes two transport timeouts at most.
func (s *Store) Ask(ctx context.Context, node string) (json.RawMessage, error) {
	return s.toldBy(ctx, node, &request{Op: opTell})
}

// Do asks another node to do something, and returns what came of it: what its Options.Do returns. The error wraps
// ErrRefused as that of Ask does. After any other error it is not known whether it was done. It takes 15 seconds at
// most.
func (s *Store) Do(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error) {
	return s.toldBy(ctx, node, &request{Op: opDo, Do: what})
}

// Share sends another node a request that may be large and take long, and returns what its Options.Share returns; both
// are JSON of at most MaxShared bytes. It returns when there is an answer, when the connection ends, or when ctx does,
// which the other node then learns; after ten minutes at the latest. An error that wraps ErrNotShared says that nothing
// came of it; after any other it is not known.
func (s *Store) Share(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error) {
	p, ok := s.opts.peer(node)
	if !ok || node == s.opts.Name {
		return nil, fmt.Errorf("%w: no other node %q is configured", ErrNotShared, node)
	}
	return s.sharers.share(ctx, p, what)
}

// toldBy sends a request to another node, and returns what that node tells.
func (s *Store) toldBy(ctx context.Context, node string, req *request) (json.RawMessage, error) {
	p, ok := s.opts.peer(node)
	if !ok {
		return nil, fmt.Errorf("raftstore: no node %q is configured", node)
	}
	resp, err := s.peers.call(ctx, p, req)
	if err != nil {
		return nil, err
	}
	return resp.Told, nil
}

// Close hands all leaderships over (within ctx), then stops the groups and closes state machines, log and listener.
func (s *Store) Close(ctx context.Context) error {
	s.leave()
	if len(s.opts.Nodes) > 1 {
		s.handOver(ctx)
	}
	return s.shut()
}

// leave lets this node report itself unfit, so that no other node hands it a leadership.
func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
}

// shut stops at once, without handing leadership over.
func (s *Store) shut() (err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.met.unregister(s.opts.Registerer)
	s.cancel()
	s.wg.Wait()
	var wg sync.WaitGroup
	errs := make([]error, len(s.groups))
	for i, g := range s.groups {
		wg.Go(func() { errs[i] = g.shut() })
	}
	wg.Wait()
	s.net.close()
	return errors.Join(errors.Join(errs...), s.wal.Close())
}

// handOver moves every leadership to the best of the other nodes, as far as ctx allows.
func (s *Store) handOver(ctx context.Context) {
	if s.isClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, g := range s.groups {
		if g.IsLeader() {
			wg.Go(func() {
				if err := g.handover.toBest(ctx); err != nil {
					s.logger.Warn("could not hand leadership over", "shard", g.shard, "error", err)
				}
			})
		}
	}
	wg.Wait()
}
