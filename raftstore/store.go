package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"deckle/wal"
)

// Store is one node's part of the cluster: its groups, their log and their state machines.
type Store struct {
	opts   Options
	logger *slog.Logger
	net    *network
	wal    *wal.Log
	met    *metrics
	groups []*Group // by shard; fixed once Open returns

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan struct{}
	kick   chan struct{} // the identity has changed
	doomed sync.Once

	mu      sync.Mutex
	id      *identity
	opening bool  // Open is at work, and answers damage itself
	harm    error // damage that was reported meanwhile
	started bool  // the groups run
	isReady bool
	leaving bool // Close has begun: this node takes no leadership
	closed  bool
	reasons map[string]string
}

// Open opens identity, log and state machines, listens, and starts forming or rejoining the cluster in the background;
// Ready tells when that is done. On one of three nodes a damaged log is no error: the folder is emptied, loudly, and
// the node rejoins.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	s := &Store{
		opts: opts, logger: opts.Logger.With("node", opts.Name), ready: make(chan struct{}), kick: make(chan struct{}, 1),
		reasons: map[string]string{"cluster": "starting"},
	}
	s.opts.Logger = s.logger
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.met = newMetrics(s)
	s.net = newNetwork(&s.opts)
	s.net.admit = s.admit
	var err error
	if s.id, err = loadIdentity(&s.opts); err != nil {
		return nil, err
	}
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
	s.net.serve()
	s.wg.Go(s.form)
	return s, nil
}

// rejoinEmpty answers damage that Open has met.
func (s *Store) rejoinEmpty(cause error) error {
	if len(s.opts.Nodes) == 1 {
		return singleNodeDamage(s.opts.Dir, cause)
	}
	id, err := emptyFolder(&s.opts, s.id, cause.Error())
	if err != nil {
		return err
	}
	s.id = id
	s.met.rejoins.Inc()
	return nil
}

// openAll opens the groups. Damage that a state machine reports meanwhile is its error, and no fatal one.
func (s *Store) openAll(ctx context.Context) error {
	s.mu.Lock()
	s.opening, s.harm = true, nil
	s.mu.Unlock()
	err := s.openGroups(ctx)
	s.mu.Lock()
	harm := s.harm
	s.opening = harm != nil // while the groups close, more of the same may come
	s.mu.Unlock()
	if harm != nil {
		if cerr := s.closeGroups(); cerr != nil {
			s.logger.Warn("closing after damage", "error", cerr)
		}
		err = errors.Join(err, harm)
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
		FS: o.FS, Dir: o.FS.PathJoin(o.Dir, walDirName), SegmentBytes: o.SegmentBytes, Logger: o.Logger, OnFatal: s.fatal, Registerer: o.Registerer,
	})
	if err != nil {
		return fmt.Errorf("raftstore: open log: %w", err)
	}
	dir := o.FS.PathJoin(o.Dir, snapshotDirName)
	for shard := range uint32(o.Shards) {
		g, err := s.openGroup(ctx, dir, shard)
		if err != nil {
			return errors.Join(err, s.closeGroups())
		}
		s.groups = append(s.groups, g)
	}
	if err := dropCopies(o.FS, dir); err != nil {
		return errors.Join(err, s.closeGroups())
	}
	return nil
}

func (s *Store) openGroup(ctx context.Context, dir string, shard uint32) (*Group, error) {
	o := &s.opts
	snaps, err := newSnapshots(o.FS, dir, shard)
	if err != nil {
		return nil, err
	}
	sm, err := o.NewStateMachine(ctx, shard, o.FS.PathJoin(o.Dir, fmt.Sprintf("%s%d", shardPrefix, shard)), s.fatal)
	if err != nil {
		return nil, fmt.Errorf("raftstore: open shard %d: %w", shard, err)
	}
	log := newLogStore(s.wal.Group(uint64(shard)), o.Timings.StoreDeadline, 20*o.Timings.Election, s.fatal, s.met.group(shard).observeStore)
	f := &fsm{sm: sm, snaps: snaps, log: log, fatal: s.fatal}
	snaps.send = &sender{busy: make(chan struct{}, 1), fs: o.FS, dir: dir, shard: shard, sm: sm, fsm: f, log: log}
	g := newGroup(s, shard, sm, log, snaps, f, snaps.send)
	f.leaving, g.unhold = context.WithCancel(g.ctx)
	snaps.count = g.met.install.Inc
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

// checkPromises compares what a shard's three files say: the state reaches the marker, and the log reaches the state.
func checkPromises(sm StateMachine, log *logStore, m marker, shard uint32) error {
	last, err := log.inner.LastIndex()
	if err != nil {
		return err
	}
	if d := sm.Durable(); d < m.Applied {
		return fmt.Errorf("%w: the state of shard %d is durable up to entry %d, but its log was cut up to %d", ErrDamaged, shard, d, m.Applied)
	}
	if at, _ := sm.Applied(); at > max(last, m.Index, m.State) {
		return fmt.Errorf("%w: the state of shard %d has applied entry %d, but its log ends at %d", ErrDamaged, shard, at, max(last, m.Index))
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

// fatal reports the first error after which this node can keep no promise. Damage makes the folder void, before the
// process ends: or it would be met again and again.
func (s *Store) fatal(err error) {
	if isDamage(err) && s.condemn(err) {
		return
	}
	s.doomed.Do(func() {
		s.reason("fatal", err.Error())
		s.logger.Error("fatal", "error", err)
		s.opts.OnFatal(err)
	})
}

// condemn notes in the identity that the folder is damaged. While Open runs it is Open that answers.
func (s *Store) condemn(cause error) (answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening {
		if s.harm == nil {
			s.harm = cause
		}
		return true
	}
	if err := s.void(cause.Error()); err != nil {
		s.logger.Error("the damage could not be noted: the next start will not know of it", "error", err)
	}
	return false
}

// reason notes why the node is not ready or what is wrong; an empty text takes it back.
func (s *Store) reason(key, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reasons[key] != text && text != "" {
		s.logger.Info("raftstore: "+key, "state", text)
	}
	if text == "" {
		delete(s.reasons, key)
	} else {
		s.reasons[key] = text
	}
}

func (s *Store) serverID() raft.ServerID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id.serverID()
}

// Ready is closed once this node is a voting member of every group and its groups run.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// ClusterID returns the cluster's id, 16 hexadecimal digits; valid after Ready.
func (s *Store) ClusterID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id.Cluster
}

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

// Status tells where the node stands; safe from any goroutine at any time.
func (s *Store) Status() Status {
	s.mu.Lock()
	st := Status{Node: s.id.Name, ServerID: string(s.id.serverID()), ClusterID: s.id.Cluster, Ready: s.isReady}
	for _, k := range slices.Sorted(maps.Keys(s.reasons)) {
		st.Reasons = append(st.Reasons, k+": "+s.reasons[k])
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return st
	}
	st.WAL = s.wal.Stats()
	st.WALBytes = st.WAL.Bytes
	for _, g := range s.groups {
		gs := g.status()
		if st.Ready && gs.Leader == "" {
			st.Reasons = append(st.Reasons, fmt.Sprintf("shard %d: no leader is known", g.shard))
		}
		st.Groups = append(st.Groups, gs)
	}
	return st
}

// Close hands leadership over (within ctx), then stops the groups and closes state machines, log and listener.
func (s *Store) Close(ctx context.Context) error {
	s.leave()
	if len(s.opts.Nodes) > 1 {
		s.handOver(ctx)
	}
	return s.shut()
}

// leave lets this node report itself unfit, so that nobody hands it a leadership.
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
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, g := range s.groups {
		if g.IsLeader() {
			wg.Go(func() {
				if err := g.leave(ctx); err != nil {
					g.logger.Warn("could not hand leadership over", "error", err)
				}
			})
		}
	}
	wg.Wait()
}
