package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"deckle/event"
	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/network"
	"deckle/sinks"
	"deckle/state"
)

// table is a destination that outlives nodes: what the sinks of all nodes have made visible, as a reader sees it.
type table struct {
	mu       sync.Mutex
	sessions map[string]schema.SessionRow           // newest image by row key
	events   map[uint32]map[state.Position]event.ID // by shard
	twice    []state.Position
	acked    map[state.SinkID]map[uint32]uint64
	letters  map[string]event.Reason
	fail     map[state.SinkID]error
	writes   map[state.SinkID]int
	refetch  int
	refuse   string // the key of a row that the sink clickhouse refuses
}

func newTable() *table {
	return &table{sessions: map[string]schema.SessionRow{}, events: map[uint32]map[state.Position]event.ID{},
		acked: map[state.SinkID]map[uint32]uint64{}, letters: map[string]event.Reason{}, fail: map[state.SinkID]error{},
		writes: map[state.SinkID]int{}}
}

func (t *table) setFail(id state.SinkID, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail[id] = err
}

func (t *table) countEvents() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.events {
		n += len(m)
	}
	return n
}

func (t *table) totals() (sessions int, events uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.sessions {
		sessions++
		events += r.TotalEvents
	}
	return sessions, events
}

// memSink is a sink of a node on a table. Like the real ones it may be asked for the same plan again and again.
type memSink struct {
	id    state.SinkID
	t     *table
	again sinks.EventSource

	mu     sync.Mutex
	sealed map[uint32]map[uint64][]event.Item
}

func (t *table) open(again sinks.EventSource, id state.SinkID) (sinks.Sink, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.fail[id]; err != nil {
		return nil, err
	}
	return &memSink{id: id, t: t, again: again, sealed: map[uint32]map[uint64][]event.Item{}}, nil
}

func (s *memSink) Close() error { return nil }

func (s *memSink) Position(_ context.Context, shard uint32) (uint64, error) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.id == state.SinkDeadLetter {
		return 0, nil
	}
	return s.t.acked[s.id][shard], s.t.fail[s.id]
}

func (s *memSink) Write(ctx context.Context, p *state.Plan) error {
	s.t.mu.Lock()
	err := s.t.fail[s.id]
	s.t.mu.Unlock()
	if err != nil {
		return err
	}
	switch s.id {
	case state.SinkEvents:
		err = s.writeEvents(ctx, p)
	case state.SinkClickHouse:
		err = p.Sessions(func(r *schema.SessionRow) error {
			s.t.mu.Lock()
			defer s.t.mu.Unlock()
			if s.t.refuse == r.Key() {
				return &sinks.RefusedError{RowKey: r.Key(), Row: []byte("{}"), Err: errDown}
			}
			if old, ok := s.t.sessions[r.Key()]; !ok || old.Epoch <= r.Epoch {
				s.t.sessions[r.Key()] = keep(r)
			}
			return nil
		})
	case state.SinkDeadLetter:
		err = p.DeadLetters(func(l *state.DeadLetter) error {
			var err error
			if l.Partition >= 0 {
				err = s.again.Originals(ctx, []state.Position{{Partition: l.Partition, Offset: l.Offset}},
					func(int, []byte, bool) error {
						return nil
					})
			}
			s.t.mu.Lock()
			defer s.t.mu.Unlock()
			s.t.letters[fmt.Sprintf("%d/%d", l.Partition, l.Offset)] = l.Reason
			return err
		})
	}
	if err != nil {
		return err
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.writes[s.id]++
	if s.t.acked[s.id] == nil {
		s.t.acked[s.id] = map[uint32]uint64{}
	}
	s.t.acked[s.id][p.Config.Shard] = max(s.t.acked[s.id][p.Config.Shard], p.B)
	return nil
}

// keep copies the fields of a row that tests look at: the row is valid only during the call.
func keep(r *schema.SessionRow) schema.SessionRow {
	c := *r
	event.CloneTexts([]*string{
		&c.SessionID, &c.Origin, &c.Brand, &c.Country, &c.City, &c.DeviceType, &c.DeviceOS, &c.Browser,
		&c.SubscriptionTier, &c.UserSegment,
		&c.Referrer, &c.Timezone, &c.Categories, &c.ArticleIDs, &c.ArticleTitles, &c.PageEvents,
	})
	c.Pages = nil
	return c
}

// writeEvents takes the plan's rows from the buffer, or from Kafka. An epoch that the table already has changes
// nothing.
func (s *memSink) writeEvents(ctx context.Context, p *state.Plan) error {
	s.t.mu.Lock()
	done := s.t.acked[s.id][p.Config.Shard] >= p.B
	s.t.mu.Unlock()
	if done {
		return nil
	}
	var items []event.Item
	s.mu.Lock()
	buffered := true
	for _, e := range p.Epochs {
		rows, ok := s.sealed[p.Config.Shard][e.Epoch]
		buffered = buffered && ok
		items = append(items, rows...)
	}
	s.mu.Unlock()
	if !buffered {
		items = nil
		s.t.mu.Lock()
		s.t.refetch++
		s.t.mu.Unlock()
		if err := s.again.Events(ctx, p, func(it *event.Item) error {
			items = append(items, *it)
			return nil
		}); err != nil {
			return err
		}
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	rows := s.t.events[p.Config.Shard]
	if rows == nil {
		rows = map[state.Position]event.ID{}
		s.t.events[p.Config.Shard] = rows
	}
	if s.t.acked[s.id][p.Config.Shard] >= p.B {
		return nil // another leader was quicker: its transaction counts
	}
	for _, it := range items {
		pos := state.Position{Partition: it.Partition, Offset: it.Offset}
		if _, ok := rows[pos]; ok {
			s.t.twice = append(s.t.twice, pos)
		}
		rows[pos] = it.ID
	}
	if s.t.acked[s.id] == nil {
		s.t.acked[s.id] = map[uint32]uint64{}
	}
	s.t.acked[s.id][p.Config.Shard] = p.B
	return nil
}

func (s *memSink) Buffer(shard uint32) sinks.EventsBuffer { return &memBuffer{s: s, shard: shard} }

type memBuffer struct {
	s     *memSink
	shard uint32
	open  []event.Item
}

func (b *memBuffer) Append(batch *event.Batch, left []state.Position) error {
	for _, it := range batch.Items {
		if len(left) > 0 && left[0] == (state.Position{Partition: it.Partition, Offset: it.Offset}) {
			left = left[1:]
			continue
		}
		b.open = append(b.open, event.Item{Event: event.Event{ID: it.ID}, Partition: it.Partition, Offset: it.Offset})
	}
	return nil
}

func (b *memBuffer) Rise(level.Level) {}

func (b *memBuffer) Seal(epoch uint64, complete bool) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if complete {
		if b.s.sealed[b.shard] == nil {
			b.s.sealed[b.shard] = map[uint64][]event.Item{}
		}
		b.s.sealed[b.shard][epoch] = b.open
	}
	b.open = nil
}

func (b *memBuffer) Discard() {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	delete(b.s.sealed, b.shard)
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is one or three nodes over one broker and one table.
type cluster struct {
	t     *testing.T
	b     *nodetest.Broker
	table *table
	fs    vfs.FS
	ports []string
	lns   []net.Listener
	nodes []*Node
	tune  func(*config.Config)
	// realSinks uses the real sinks instead of the table.
	realSinks bool
	brokers   []string // addresses of a broker that is not up yet
	kafkaOpts []kgo.Opt
	adapt     func(*Deps) // optional

	ends int // number of session_end events that were produced
}

func newCluster(t *testing.T, b *nodetest.Broker, n int, tune func(*config.Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, b: b, table: newTable(), fs: vfs.NewMem(), tune: tune, nodes: make([]*Node, n)}
	for range n {
		ln, err := network.Listen()
		if err != nil {
			t.Fatal(err)
		}
		c.lns, c.ports = append(c.lns, ln), append(c.ports, ln.Addr().String())
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
		for _, ln := range c.lns {
			if ln != nil {
				_ = ln.Close()
			}
		}
	})
	return c
}

func (c *cluster) config(i int) *config.Config {
	brokers := c.brokers
	if brokers == nil {
		brokers = c.b.ListenAddrs()
	}
	cfg := &config.Config{
		Node: fmt.Sprint("n", i), DataDir: fmt.Sprint("data/n", i),
		Kafka:      config.Kafka{Brokers: brokers, Topic: nodetest.Topic, IdleAfter: 300 * time.Millisecond},
		Session:    config.Session{IdleTimeout: 30 * time.Minute, Grace: time.Second, Retention: 6 * time.Hour},
		Flush:      config.Flush{Interval: 200 * time.Millisecond},
		Delta:      &config.Delta{Path: "delta", RevisionInterval: 200 * time.Millisecond},
		Limits:     config.Limits{DiskBytes: 1 << 40, ReserveBytes: new(int64)},
		ClickHouse: &config.ClickHouse{Address: "127.0.0.1:1"},
	}
	cfg.Cluster.StoreDeadline = 20 * time.Second // a disk in memory is slow only where the CPU is
	if len(c.ports) > 1 {
		cfg.Cluster.HeartbeatTimeout, cfg.Cluster.ElectionTimeout, cfg.Cluster.LeaseTimeout = time.Second, time.Second,
			time.Second
	}
	for j, p := range c.ports {
		cfg.Cluster.Nodes = append(cfg.Cluster.Nodes, config.Node{Name: fmt.Sprint("n", j), Address: p})
	}
	if c.tune != nil {
		c.tune(cfg)
	}
	if err := cfg.Complete(); err != nil {
		c.t.Fatal(err)
	}
	return cfg
}

func (c *cluster) open(i int) (*Node, error) {
	if c.lns[i] == nil {
		var err error
		if c.lns[i], err = net.Listen("tcp", c.ports[i]); err != nil {
			return nil, err
		}
	}
	ln := c.lns[i]
	c.lns[i] = nil
	cfg := c.config(i)
	deps := Deps{FS: c.fs, Logger: nodetest.Log(c.t), RaftListener: ln, openSink: c.table.open}
	deps.KafkaOpts = c.kafkaOpts
	if cfg.Encryption != nil {
		deps.ReadFile = keys
	}
	if c.realSinks {
		deps.openSink = nil
	}
	if c.adapt != nil {
		c.adapt(&deps)
	}
	n, err := Open(nodetest.Context(c.t), cfg, deps)
	if err != nil {
		_ = ln.Close() // it was refused before it came to listen
	}
	return n, err
}

func (c *cluster) start(i int) *Node {
	c.t.Helper()
	n, err := c.open(i)
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes[i] = n
	return n
}

// ready waits until every node is a voter of every shard. Only then do the others go on when one ends: a node that is
// not yet one serves nothing, and whoever makes it one may be the node that has gone.
func (c *cluster) ready() {
	c.t.Helper()
	nodetest.Until(c.t, "all are members", func() bool {
		return !slices.ContainsFunc(c.nodes, func(n *Node) bool { return !n.Status().Ready })
	})
}

func (c *cluster) stop(i int) {
	if c.nodes[i] == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), nodetest.Patience)
	defer cancel()
	if err := c.nodes[i].Close(ctx); err != nil {
		c.t.Errorf("close of node %d: %v", i, err)
	}
	if err := c.nodes[i].Wait(); err != nil {
		c.t.Errorf("node %d failed: %v", i, err)
	}
	c.nodes[i] = nil
}

// leader returns the node that leads a shard and its status there.
func (c *cluster) leader(shard uint32) (int, *Node, status.Shard) {
	for i, n := range c.nodes {
		if n == nil {
			continue
		}
		for _, s := range n.Status().Shards {
			if s.Shard == shard && s.IsLeader {
				return i, n, s
			}
		}
	}
	return -1, nil, status.Shard{}
}

// lag is the lag of shard 0 in records, nil while it is not known.
func (c *cluster) lag() *int64 {
	_, _, s := c.leader(0)
	return s.Lag.Records
}

// lagIs says whether the lag of shard 0 is known to be n records.
func lagIs(c *cluster, n int64) func() bool {
	return func() bool { l := c.lag(); return l != nil && *l == n }
}

// has says whether a condition is in a list.
func has(list []condition.Condition, id condition.ID, subject string) bool {
	return slices.ContainsFunc(list, func(c condition.Condition) bool { return c.ID == id && c.Subject == subject })
}

// sum adds up a counter of all shards' leaders.
func (c *cluster) sum(f func(*state.View) int64) (n int64) {
	var shards int
	for _, node := range c.nodes {
		if node != nil {
			shards = node.cfg.Cluster.Shards
		}
	}
	for shard := range uint32(shards) {
		if _, node, s := c.leader(shard); node != nil {
			n += f(&s.State)
		}
	}
	return n
}

var errDown = errors.New("the store is down for the test")

func counted(v *state.View) int64 { return v.Counted }

func applied(v *state.View) int64 { return v.Applied }
