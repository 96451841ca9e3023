package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/config"
	"deckle/sim"
	"deckle/sim/testworld/badbatch"
	"deckle/sim/testworld/network"
)

const (
	topic     = "web_clicks"
	clickAddr = "127.0.0.1:9440"
)

var brokerPorts = []int{9001, 9002, 9003}

// World is one run: the cluster, everything around it, and what is known about it.
type World = world

type world struct {
	opts    Options
	rng     *lockedRand
	history *runHistory
	net     *network.Network
	relay   *network.Relay
	broker  *kfake.Cluster
	broken  badbatch.Broken // batches of the broker's log that nodes cannot read
	objects *objectStore
	click   *click
	plans   *plans // that sinks were given
	members []*member
	oracle  *oracle
	truth   *sim.Truth

	flush, revision, idleTimeout, retention, leaveOut time.Duration

	shards       int
	ckptInterval int
	secure       bool // TLS between the nodes
	sealed       bool // encrypted data folders

	foreign foreign  // tool, and what it has deleted
	journal *journal // of what the shards have applied
	listing readers  // whom the operator has listed

	farAhead  atomic.Bool // a member's clock has been ahead by more than any retention
	rulesLock sync.Mutex
	rules     []sim.PrivateRules // by revision
	oneRules  sync.Mutex         // held by the fault that changes the rules, until all nodes have them

	grown       grown
	trimmedLock sync.Mutex
	trimmed     map[int32]int64 // by partition: where its log begins since a fault has trimmed it

	leftovers sync.WaitGroup // of processes that have ended
	oneDisk   sync.Mutex     // held by the fault that has cost a node its disk, until the node is a member again
	oneBroker sync.Mutex     // held by the fault that has replaced the broker's log
}

// config is the configuration of one node, which has the given file of rules.
func (w *world) config(m *member, f rulesFile) *config.Config {
	var brokers []string
	for _, p := range brokerPorts {
		brokers = append(brokers, fmt.Sprintf("127.0.0.1:%d", p))
	}
	cfg := &config.Config{
		Node: m.name, DataDir: "data",
		Kafka:   config.Kafka{Brokers: brokers, Topic: topic, IdleAfter: 2 * time.Second, Keyed: "yes"},
		Session: config.Session{IdleTimeout: w.idleTimeout, Grace: 2 * time.Second, Retention: w.retention},
		Flush:   config.Flush{Interval: w.flush},
		Delta: &config.Delta{Path: "delta", RevisionInterval: w.revision, Compression: "none",
			CheckpointInterval: w.ckptInterval, Compaction: config.Compaction{Every: 4 * time.Second}},
		ClickHouse: &config.ClickHouse{Address: clickAddr, Compression: "none", ReadTimeout: 5 * time.Second},
		Limits:     config.Limits{DiskBytes: 1 << 40},
		Rules:      config.Rules{Clock: config.Clock{Slack: 5 * time.Second, LeaveOut: w.leaveOut}},
	}
	for i := range w.members {
		cfg.Cluster.Nodes = append(cfg.Cluster.Nodes, config.Node{Name: nodeName(i), Address: nodeAddr(i)})
	}
	if cfg.Cluster.Shards = w.shards; w.secure {
		cfg.Cluster.TLS = secured(m.name)
	}
	if w.sealed {
		cfg.Encryption = &config.Encryption{Keys: []config.KeyFile{{File: keyPath(m.name)}}}
	}
	cfg.Rules.Exclude = []config.Exclude{{Name: "bots", Field: sim.BotField, Equal: []string{"true"}}}
	if w.opts.Seed%2 == 0 { // each node commits for itself
		cfg.Delta.CommitWait = new(time.Duration)
	}
	cfg.Delta.InCommitTimestamps = w.opts.Seed%4 < 2
	if w.opts.Seed%8 >= 4 { // with each of the other two
		cfg.Delta.Sessions.PartitionBy = []string{"opening_brand", "date"}
	}
	cfg.Delta.DeletionVectors, cfg.Delta.DeletionVectorsFromBytes = w.opts.Seed%5 < 2, 1
	w.setRules(cfg, f)
	if w.opts.Tune != nil {
		w.opts.Tune(cfg)
	}
	if err := cfg.Complete(); err != nil {
		panic(err) // of a test's own making
	}
	if w.opts.DiskBytes > 0 {
		cfg.Limits.DiskBytes = w.opts.DiskBytes
	}
	return cfg
}

// kafkaOpts are the options of a client on a host of its own, which no fault reaches.
func (w *world) kafkaOpts(host string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(w.broker.ListenAddrs()...),
		kgo.Dialer(func(ctx context.Context, _, addr string) (net.Conn, error) { return w.net.Dial(ctx, host, addr) }),
	}
}

// raftDial is how nodes reach one another: through the relay, which may repeat requests.
func (w *world) raftDial(ctx context.Context, from, addr string,
	dial func(context.Context, string) (net.Conn, error)) (net.Conn, error) {
	return w.relay.Dial(ctx, from, addr, dial)
}

func (w *world) allReady() bool {
	for _, m := range w.members {
		if !m.ready() || !w.risen(m) {
			return false
		}
	}
	return true
}

// risen says whether the shards of a node have the rules of their configuration: what comes before is judged by those
// of v0.1.0, of which the truth knows nothing.
func (w *world) risen(m *member) bool {
	for shard := range uint32(w.shards) {
		if s := m.store(shard); s == nil || s.Peek().Rules.Number == 0 {
			return false
		}
	}
	return true
}

// until waits for a condition in virtual time.
func (w *world) until(ctx context.Context, limit time.Duration, what string, ok func() bool) error {
	for end := time.Now().Add(limit); !ok(); {
		if err := sim.Pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if time.Now().After(end) {
			for _, m := range w.members {
				if inc := m.current(); inc != nil {
					w.history.add(m.name, "%+v", inc.node.Status().Reasons)
				} else {
					w.history.add(m.name, "is down")
				}
			}
			return fmt.Errorf("waited %v in vain: %s", limit, what)
		}
	}
	return nil
}

// bury closes a process that is dead and whose actions no longer reach anything.
func (w *world) bury(inc *incarnation) {
	w.leftovers.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		_ = inc.node.Close(ctx) // the error says what a dead process could not do
	})
}

// stop ends a process in order.
func (w *world) stop(inc *incarnation) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := inc.node.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		w.history.add(inc.host, "closed with: %v", err)
	}
}

// dialFrom dials from a host that no fault reaches.
func (w *world) dialFrom(host string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) { return w.net.Dial(ctx, host, addr) }
}

// setRules writes the file of rules into a configuration.
func (w *world) setRules(cfg *config.Config, f rulesFile) {
	cfg.Rules.Revision = f.revision
	for _, r := range w.rulesOf(f.revision).Rules {
		cfg.Rules.Privacy = append(cfg.Rules.Privacy, config.PrivacyRule(r))
	}
	for _, n := range f.keys {
		cfg.Privacy.Keys = append(cfg.Privacy.Keys, config.KeyFile{File: fmt.Sprint(hmacPrefix, n)})
	}
}

// rulesOf returns the rules of a revision.
func (w *world) rulesOf(revision int) *sim.PrivateRules {
	w.rulesLock.Lock()
	defer w.rulesLock.Unlock()
	return &w.rules[revision]
}

// newest is the newest revision.
func (w *world) newest() int {
	w.rulesLock.Lock()
	defer w.rulesLock.Unlock()
	return len(w.rules) - 1
}

// grown is what the topic has got, and when the operator has it read.
type grown struct {
	mu    sync.Mutex
	to    int32 // partitions of the topic; 0: as many as at the beginning
	added int32 // partitions that are read as a whole, as the operator was told
	due   time.Time
}
