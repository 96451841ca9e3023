package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/cipherfs"
	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/letters"
	"deckle/node/shard"
	"deckle/node/status"
	"deckle/node/tap"
	"deckle/raftstore"
	"deckle/schema/level"
	"deckle/sinks/deadletter"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/trust"
)

// closeTimeout bounds an orderly end: intake stops, leadership is handed over, the disk is closed.
const closeTimeout = 20 * time.Second

// Node is one running member of a cluster.
type Node struct {
	cfg          *config.Config
	deps         Deps
	metrics      *metrics
	shardMetrics *shard.Metrics
	kafka        *kafka.Client
	watch        *kafka.Watch
	refetch      *kafka.Refetch
	cache        *pebble.Cache
	raft         *raftstore.Store
	reloads      *reloader
	wiring       *sinkWiring
	sinks        sinkSlots
	delta        *deltaTables
	sharing      atomic.Pointer[sharing] // nil before Open has got so far, and without Delta tables
	budget       *budget
	reserve      *reserve
	keys         []*cipherfs.Key // of the data folder
	files        *fileWatch
	hmac         shard.Keys // of rules that hash
	http         *httpSide
	list         *condition.Registry // what is not as it should be
	topics       *topics
	looking      sync.Mutex // one at a time looks
	rules        waitingRules
	listsDiffer  time.Time       // since when the shards' lists of suppressed readers have differed; under looking
	refused      map[string]bool // of whom a refusal is told; under looking
	written      shard.Tally
	members      *members
	commands     *commands
	mover        *mover
	letters      *letters.Letters
	tap          *tap.Board
	tracing      *tracing    // nil: there are no traces
	lake         *lake       // nil: there are no Delta tables
	opened       atomic.Bool // Open is nearly over: there is something to tell
	started      time.Time

	raftLogger *slog.Logger

	shards   atomic.Pointer[[]*shard.Shard] // nil before the groups run
	flushers sync.WaitGroup
	work     sync.WaitGroup
	stop     context.CancelFunc // ends everything in the background

	fatalOnce sync.Once
	fatal     error
	done      chan struct{} // closed by a fatal error or at the end of Close
	closing   sync.Once
	closeErr  error
}

// Open opens the disk, joins or forms the cluster and starts everything in the background; it does not wait for a
// leader. cfg must be complete (Load or Complete). A new cluster is refused here, before anything exists, if its topic
// does not fit (kafka.Client.CheckNew) and the brokers can be asked.
func Open(ctx context.Context, cfg *config.Config, deps Deps) (_ *Node, err error) {
	if err := shard.CheckRules(&cfg.Rules); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	deps.complete()
	raftLogger := deps.Logger // raftstore adds the name of the node itself
	deps.Logger = deps.Logger.With("node", cfg.Node)
	room, above := openReserve(deps.FS, cfg.DataDir, *cfg.Limits.ReserveBytes, deps.Logger)
	readable := &rereadFS{FS: above, log: deps.Logger, wait: time.Sleep, failed: func(error) {}}
	folder, keys, err := proveFolder(cfg, &deps, readable)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, deps: deps, keys: keys, reserve: room, raftLogger: raftLogger, done: make(chan struct{}),
		started: deps.Now(), rules: waitingRules{}, list: condition.New(cfg.Node, deps.Now, deps.Logger),
		tap: cmp.Or(deps.Tap, tap.NewBoard(deps.Now))}
	readable.failed = func(err error) { n.fail(fmt.Errorf("node: data_dir: %w", err)) }
	defer func() {
		if err == nil {
			return
		}
		if n.raft != nil {
			cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			err = errors.Join(err, n.raft.Close(cctx))
			cancel()
		}
		n.release()
	}()
	if n.metrics, err = newMetrics(deps.Registerer, readable); err != nil {
		return nil, fmt.Errorf("node: metrics: %w", err)
	}
	if n.shardMetrics, err = shard.NewMetrics(deps.Registerer); err != nil {
		return nil, fmt.Errorf("node: metrics: %w", err)
	}
	n.reloads = newReloader(cfg, &n.deps, n.list)
	n.files = &fileWatch{cfg: cfg, deps: &n.deps, files: openFiles(cfg, &n.deps), list: n.list, reloads: n.reloads}
	n.files.files.Changed(n.files.tellRenewed)
	if n.hmac, err = openKeys(n.files.files, cfg); err != nil {
		return nil, err
	}
	n.files.tightenData()
	if n.http, err = openHTTP(cfg, &n.deps, n.files.files); err != nil {
		return nil, err
	}
	if n.tracing, err = openTracing(ctx, cfg, &n.deps, n.files.files); err != nil {
		return nil, err
	}
	if n.kafka, err = openKafka(cfg, &n.deps, n.files.files, n.deps.Logger); err != nil {
		return nil, err
	}
	reach, err := reachOf(cfg, &n.deps, n.files.files)
	if err != nil {
		return nil, err
	}
	if mayFound(ctx, &n.deps, cfg, reach) {
		notice, err := n.kafka.CheckNew(ctx, cfg)
		switch {
		case kafka.Refused(err):
			return nil, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil: // each shard asks again before it is created
			deps.Logger.Warn("the topic cannot be sampled yet", "error", err)
		case notice != "":
			n.list.Set(condition.KeysUnproven, "topic "+cfg.Kafka.Topic, 0, notice, "")
		}
	}
	n.watch = kafka.NewWatch(n.kafka, cfg.Kafka.IdleAfter, deps.Now)
	n.refetch = kafka.NewRefetch(n.kafka, n.hmac.Key)
	n.commands = &commands{self: cfg.Node, shards: n.shardList, access: n.http.access, audit: n.http.audit.Load,
		log: n.deps.Logger,
		pass: func(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error) {
			return n.raft.Do(ctx, node, what)
		}}
	n.letters = openLetters(cfg, &n.deps, n.kafka, n.hmac, n.commands)
	n.commands.adding = &adding{commands: n.commands, ends: func(ctx context.Context) *kafka.Listing {
		return n.kafka.ListEnds(ctx, deps.Now)
	}}
	n.commands.lists = &lists{commands: n.commands, random: deps.Random, now: deps.Now}
	n.mover = newMover(n.commands, cfg.Cluster.Nodes, func() look { return n.members.last() }, n.openedRaft)
	n.commands.others[addEnvelope] = n.commands.adding.obey
	fsys, layer, err := folder.Begin()
	if err != nil {
		return nil, fmt.Errorf("node: data_dir %s: %w", cfg.DataDir, err)
	}
	if layer != nil {
		n.metrics.layer.Store(layer)
	}
	if err := n.openRaft(ctx, reach, fsys); err != nil {
		return nil, err
	}
	n.members = &members{self: cfg.Node, ask: n.raft.Ask, tell: n.tell, now: deps.Now, list: n.list,
		contacts: map[string]*contact{}}
	for _, p := range cfg.Cluster.Nodes {
		n.members.names = append(n.members.names, p.Name)
	}
	n.reserve.keep() // the lock of the folder is held now
	n.budget = &budget{reserve: n.reserve, fs: deps.FS, dir: cfg.DataDir, metrics: n.metrics, list: n.list,
		sessionLimit: cfg.Limits.SessionMemoryBytes, sessions: n.sessionMemory}
	if n.budget.limit, err = presentBudget(fsys, &n.deps, cfg, n.reloads.live.Load); err != nil {
		return nil, err
	}
	n.topics = &topics{cfg: cfg, list: n.list, kafka: n.kafka, now: deps.Now, needs: func() kafka.Needs {
		return kafka.Needs{LetterBytes: deadletter.LetterBytes, DiskBytes: n.budget.limit()}
	}}
	n.files.tellInsecure()
	n.list.Keep(condition.Insecure, "http", opens(&cfg.HTTP))
	w := &sinkWiring{cfg: cfg, deps: &n.deps, files: n.files.files, clusterID: n.raft.ClusterID, level: n.level,
		offer: n.offer, offered: n.offered,
		kafka: n.kafka, refetch: n.refetch, keys: n.hmac, undeliverable: n.topics.undeliverable}
	n.wiring = w
	n.sinks, n.delta = w.slots()
	if cfg.Delta != nil && deps.openSink == nil {
		n.lake = newLake(&lake{cfg: n.reloads.live.Load, deps: &n.deps, list: n.list,
			tables: n.delta.get, fs: fsys,
			leads: func(shard uint32) bool { return len(n.shardList()) > 0 && n.raft.Group(shard).IsLeader() },
			holds: func() []condition.Condition { return slices.Concat(n.list.Snapshot(), n.members.last().others) },
			level: n.level,
			store: func() (store.Store, error) { return w.deltaStore(cfg.Delta) },
			dir:   fsys.PathJoin(cfg.DataDir, "compact"), full: n.budget.cramped})
	}
	if shares(cfg) {
		n.sharing.Store(newSharing(n))
	}
	if err := errors.Join(deps.Registerer.Register(statusCollector{n.Status, n.shardList}),
		deps.Registerer.Register(pebbleCollector{n.shardList}), deps.Registerer.Register(n.list),
		deps.Registerer.Register(n.files.files),
		deps.Registerer.Register(newMemberCollector(n.members.last, cfg, n.budget.limit))); err != nil {
		return nil, fmt.Errorf("node: metrics: %w", err)
	}
	n.opened.Store(true)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	n.work.Go(func() { n.run(run) })
	n.work.Go(func() { n.budget.run(run) })
	if n.lake != nil {
		n.work.Go(func() { n.lake.run(run) })
	}
	n.work.Go(func() { n.watch.Run(run) })
	n.work.Go(func() { n.files.run(run) })
	n.work.Go(func() { n.topics.run(run) })
	n.work.Go(func() { n.watchConditions(run) })
	n.work.Go(func() { n.tellFlushes(run, &n.written) })
	n.work.Go(func() { n.members.run(run) })
	n.work.Go(func() { watchKeys(run, cfg, &n.deps, n.keys, n.list) })
	return n, nil
}

// isNew says whether the data folder is missing, or has nothing but what a node leaves there before it has an identity.
func isNew(fs vfs.FS, dir string) bool {
	names, err := fs.List(dir)
	return err != nil || !slices.ContainsFunc(names, func(n string) bool { return !cipherfs.Unsealed(n) })
}

// mayFound says whether this node may be about to create a cluster. One that comes back with an empty folder joins the
// cluster that is there, whatever its topic looks like by now, and whether Kafka answers or not.
func mayFound(ctx context.Context, deps *Deps, cfg *config.Config, reach raftstore.Options) bool {
	return isNew(deps.FS, cfg.DataDir) && raftstore.ClusterOf(ctx, reach) == ""
}

// reachOf returns the options of raftstore that say how the nodes of the cluster reach one another.
func reachOf(cfg *config.Config, deps *Deps, files *trust.Files) (o raftstore.Options, err error) {
	c := &cfg.Cluster
	o = raftstore.Options{Name: cfg.Node, Dial: deps.RaftDial, Shards: c.Shards,
		Timings: raftstore.Timings{Heartbeat: c.HeartbeatTimeout, Election: c.ElectionTimeout, Lease: c.LeaseTimeout,
			Commit: c.CommitTimeout, Transport: c.TransportTimeout, StoreDeadline: c.StoreDeadline}}
	for _, p := range c.Nodes {
		o.Nodes = append(o.Nodes, raftstore.Peer{Name: p.Name, Addr: p.Address})
	}
	if o.Security, err = clusterSecurity(cfg, files); err != nil {
		return o, fmt.Errorf("node: %w", err)
	}
	o.Plain = c.Insecure
	return o, nil
}

// openKafka opens the client of the source's brokers.
func openKafka(cfg *config.Config, deps *Deps, files *trust.Files, log *slog.Logger) (*kafka.Client, error) {
	t, err := client(files, "kafka.tls", cfg.Kafka.TLS)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	secure := kafka.Secure{TLS: t}
	if s := cfg.Kafka.SASL; s != nil {
		if err := prove(&secure, files, s); err != nil {
			return nil, fmt.Errorf("node: %w", err)
		}
	}
	return kafka.Open(&cfg.Kafka, cfg.Cluster.Pipeline, secure, log, deps.KafkaOpts)
}

// openRaft opens the groups in the data folder, which fsys reads and writes; o says how the nodes reach one another.
func (n *Node) openRaft(ctx context.Context, o raftstore.Options, fsys vfs.FS) (err error) {
	cfg := n.cfg
	n.cache = pebble.NewCache(max(cfg.Limits.CacheBytes, 1<<20))
	shards := int64(max(cfg.Cluster.Shards, 1))
	o.FS, o.Dir, o.Listen, o.Listener = fsys, cfg.DataDir, cfg.Cluster.Listen, n.deps.RaftListener
	o.MaxLevel, o.Manual = uint32(cfg.Cluster.MaxLevel), cfg.Cluster.Manual()
	var founded atomic.Pointer[[]raftstore.Setting] // as the first shard with a state was created
	o.NewStateMachine = func(
		ctx context.Context, id uint32, dir string, fatal func(error),
	) (raftstore.StateMachine, error) {
		var applied func(index uint64, data []byte, result any)
		if tell := n.deps.Applied; tell != nil {
			applied = func(index uint64, data []byte, result any) { tell(id, index, data, result) }
		}
		s, err := state.Open(ctx, state.Options{
			Applied: applied,
			FS:      fsys, Dir: dir, Cache: n.cache, SessionMemoryBytes: cfg.Limits.SessionMemoryBytes / shards,
			CheckpointBytes: n.deps.CheckpointBytes, Room: n.reserve.room,
			Logger:  n.deps.Logger.With("shard", id),
			OnFatal: func(err error) { fatal(fmt.Errorf("node: state of shard %d: %w", id, err)) },
		})
		if err != nil {
			return nil, err
		}
		if view := s.View(); view.Configured {
			founded.CompareAndSwap(nil, new(shard.Founded(&view.Config)))
		}
		return s, nil
	}
	o.Fixed = shard.Fixed(cfg)
	o.Founded = func() []raftstore.Setting {
		if f := founded.Load(); f != nil {
			return *f
		}
		return nil
	}
	o.LogBytes, o.SegmentBytes, o.Logger = n.deps.LogBytes, n.deps.SegmentBytes, n.raftLogger
	o.Registerer, o.OnFatal, o.NoRoom = n.deps.Registerer, n.fail, n.reserve.noRoom
	o.Tell = func() json.RawMessage {
		if !n.opened.Load() {
			return nil
		}
		return n.tell().encode()
	}
	if shares(cfg) {
		o.Share = func(ctx context.Context, from string, what json.RawMessage) json.RawMessage {
			if s := n.sharing.Load(); s != nil {
				return s.serve(ctx, from, what)
			}
			return json.RawMessage(`{}`)
		}
	}
	o.Do = func(ctx context.Context, from string, what json.RawMessage) json.RawMessage {
		return n.commands.obey(ctx, from, what)
	}
	n.raft, err = raftstore.Open(ctx, o)
	return err
}

// run starts the shards once this node is a member.
func (n *Node) run(ctx context.Context) {
	select {
	case <-n.raft.Ready():
	case <-ctx.Done():
		return
	}
	n.deps.Logger.Info("member of the cluster", "cluster", n.raft.ClusterID(), "shards", n.cfg.Cluster.Shards)
	env := &shard.Env{Config: n.cfg, ClusterID: n.raft.ClusterID(), Now: n.deps.Now, Kafka: n.kafka, Watch: n.watch,
		Sinks: n.sinks, Metrics: n.shardMetrics, Keys: n.hmac, Conditions: n.list, Written: &n.written,
		Paused: n.budget.paused, Near: n.budget.near, Created: n.created, Elsewhere: n.elsewhere,
		Live: n.reloads.live.Load, Tap: n.tap, Tracer: n.tracing.tracer(),
		Background: n.flushers.Go, Renewed: n.files.renewed}
	if !n.deps.Force && n.deps.openSink == nil {
		f := newFounding(connector{cfg: n.cfg, deps: &n.deps, files: n.files.files, wire: n.wiring})
		env.Founding = f.may
	}
	sharing := n.sharing.Load()
	if sharing != nil {
		env.Turns, env.ClickHouse = sharing.turns, shard.NewGate(clickHousePlans)
	}
	shards := make([]*shard.Shard, 0, n.cfg.Cluster.Shards)
	for id := range uint32(n.cfg.Cluster.Shards) {
		group := n.raft.Group(id)
		store, ok := group.StateMachine().(*state.Store)
		if !ok {
			n.fail(fmt.Errorf("node: shard %d has a state machine of type %T", id, group.StateMachine()))
			return
		}
		shards = append(shards, shard.New(env, id, group, store, n.deps.Logger))
	}
	n.shards.Store(&shards)
	var all sync.WaitGroup
	if sharing != nil {
		all.Go(func() { sharing.run(ctx) })
	}
	for _, s := range shards {
		all.Go(func() { s.Run(ctx) })
	}
	all.Wait()
}

// openedRaft returns the groups once Open is nearly over, nil before: other nodes may ask meanwhile.
func (n *Node) openedRaft() *raftstore.Store {
	if !n.opened.Load() {
		return nil
	}
	return n.raft
}

// clickHousePlans is how many plans a node writes to ClickHouse at a time where all shards are cut together.
const clickHousePlans = 2

// fail takes an error that should end the process. Only the first one counts.
func (n *Node) fail(err error) {
	n.fatalOnce.Do(func() {
		n.fatal = err
		n.deps.Logger.Error("fatal", "error", err)
		close(n.done)
		n.deps.OnFatal(err)
	})
}

// Wait returns nil after Close or, as soon as there is one, the error that should end the process.
func (n *Node) Wait() error {
	<-n.done
	return n.fatal
}

// Close stops intake and flushers, hands leadership over and closes the disk. When ctx ends it stops waiting, closes
// what it can and reports the rest. Later calls return the error of the first one.
func (n *Node) Close(ctx context.Context) error {
	n.closing.Do(func() { n.closeErr = n.close(ctx) })
	return n.closeErr
}

func (n *Node) close(ctx context.Context) error {
	n.deps.Logger.Info("closing")
	if n.deps.Tap == nil {
		n.tap.Close() // whoever looks is told before the server waits for the answer's end
	}
	n.stop()
	var errs []error
	errs = append(errs, within(ctx, "intake", n.work.Wait))
	// Flushers read plans from the state, which raft closes. Their writes are cancelled; one that does not end is safe
	// to leave behind, but must not keep leadership from being handed over.
	fctx, cancel := context.WithTimeout(ctx, flushersEnd)
	_ = within(fctx, "sinks", n.flushers.Wait) // waited for again below
	cancel()
	// raftstore hands leadership over within ctx; a disk that does not answer could delay the rest for ever.
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), raftEnd)
	closed := make(chan error, 1)
	err := within(rctx, "raft", func() { closed <- n.raft.Close(ctx) })
	if err == nil {
		err = <-closed
	}
	cancel()
	errs = append(errs, err)
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushersEnd)
	gone := make(chan error, 1)
	if s := n.sharing.Load(); s != nil {
		s.close() // what others have offered is theirs to commit
	}
	err = within(sctx, "sinks", func() { n.flushers.Wait(); gone <- n.closeSinks() }) // late, if a flusher is late
	if err == nil {
		err = <-gone
	}
	cancel()
	errs = append(errs, err)
	n.release()
	n.fatalOnce.Do(func() { close(n.done) })
	return errors.Join(errs...)
}

// closeSinks is called when no flusher is left.
func (n *Node) closeSinks() error {
	var errs []error
	for _, s := range n.sinks {
		if err := s.close(); err != nil {
			errs = append(errs, fmt.Errorf("node: sink %s: %w", s.id, err))
		}
	}
	return errors.Join(append(errs, n.delta.close())...)
}

// flushersEnd is how long Close waits for cancelled writes before leadership is handed over, and for the sinks after
// that.
const flushersEnd = 5 * time.Second

// raftEnd is how long Close waits for raftstore, which stops handing leadership over when the context of Close ends.
const raftEnd = time.Minute

// release frees what may be closed in any order.
func (n *Node) release() {
	n.tracing.close()
	if n.kafka != nil {
		n.kafka.Close()
	}
	if n.cache != nil {
		n.cache.Unref()
	}
}

// within runs f and waits for it until ctx ends; what names f in the error.
func within(ctx context.Context, what string, f func()) error {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("node: close: %s still busy: %w", what, context.Cause(ctx))
	}
}

func (n *Node) shardList() []*shard.Shard {
	if s := n.shards.Load(); s != nil {
		return *s
	}
	return nil
}

// tell is what this node tells another one that asks.
func (n *Node) tell() *told {
	rs := n.raft.Status()
	n.look(&rs)
	var lags []ledLag
	for _, s := range n.shardList() {
		if lag, leads := s.Lag(); leads {
			lags = append(lags, ledLag{s.ID(), lag})
		}
	}
	t := tellOf(&rs, n.list.Snapshot(), lags)
	t.Figures = figuresOf(&rs, lags, n.budget.last().usage, n.files.files.State(), n.started,
		uint32(n.cfg.Cluster.MaxLevel))
	t.Figures.Manual = n.cfg.Cluster.Manual()
	t.Now = n.deps.Now()
	return t
}

// Status returns where the node stands. It is cheap enough to be called every second.
func (n *Node) Status() status.Node {
	rs := n.raft.Status()
	n.look(&rs)
	st := status.Node{Node: n.cfg.Node, ClusterID: rs.ClusterID, Reasons: []string{}, Conditions: n.list.Snapshot()}
	seen := n.members.last()
	for _, s := range n.shardList() {
		shard := s.Status()
		if !shard.IsLeader {
			shard.Told = seen.lags[lagKey{shard.Leader, shard.Shard}]
		}
		st.Shards = append(st.Shards, shard)
	}
	reasons, troubles := unready(st.Conditions, n.deps.Now(), n.cfg.Flush.Interval)
	st.Ready = len(reasons) == 0 && rs.Ready
	st.Reasons = append(append(st.Reasons, reasons...), troubles...)
	st.Members, st.Others, st.CanLoseOne, st.Because = seen.members, seen.others, seen.canLoseOne, seen.because
	return st
}

// Store returns the local replica of a shard, nil before its group runs.
func (n *Node) Store(shard uint32) *state.Store {
	if l := n.shardList(); int(shard) < len(l) {
		return l[shard].Store()
	}
	return nil
}

// Shard returns a shard as it runs here, nil before its group runs.
func (n *Node) Shard(id uint32) *shard.Shard {
	if l := n.shardList(); int(id) < len(l) {
		return l[id]
	}
	return nil
}

// created is how many partitions the topic had when the cluster was created, 0 while some shard is not configured.
func (n *Node) created() (partitions int) {
	for _, s := range n.shardList() {
		v := s.Store().Peek()
		if !v.Configured {
			return 0
		}
		partitions += v.Founded
	}
	return partitions
}

// elsewhere says whether the replica here of another shard has a live session with the id.
func (n *Node) elsewhere(shard uint32, id string) bool {
	for _, s := range n.shardList() {
		if s.ID() == shard {
			continue
		}
		if has, err := s.Store().Has(id); has && err == nil {
			return true
		}
	}
	return false
}

// Command carries out an operator's command, here or at the node that leads the shard of the partition. The error wraps
// status.ErrRefused if nothing has changed.
func (n *Node) Command(ctx context.Context, c status.Command) (status.Outcome, error) {
	return n.commands.command(ctx, c)
}

// AddPartitions has partitions be read that were added to the topic, at whatever nodes lead the shards. The error wraps
// status.ErrRefused if nothing has changed anywhere.
func (n *Node) AddPartitions(ctx context.Context, q status.AddPartitions) (*status.PartitionsAdded, error) {
	return n.commands.adding.Do(ctx, q)
}

// level is the highest level of the node's shards.
func (n *Node) level() level.Level {
	top := level.First
	for _, s := range n.shardList() {
		top = max(top, level.Level(s.Store().Level()))
	}
	return top
}
