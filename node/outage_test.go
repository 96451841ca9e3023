package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sinks"
	"deckle/state"
)

// restartable is a broker on one port that comes and goes and keeps its topic.
type restartable struct {
	*nodetest.Broker
	dir      string
	port     int
	password string // of the user u, by PLAIN; "": everybody is admitted
}

// newRestartable returns a broker that is not up yet. Its port is one that the kernel has just given out.
func newRestartable(t *testing.T) *restartable {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	r := &restartable{Broker: &nodetest.Broker{T: t}, dir: t.TempDir(), port: port}
	r.Opts = []kgo.Opt{kgo.SeedBrokers(r.ListenAddrs()...)}
	t.Cleanup(r.down)
	return r
}

// ListenAddrs is the address of the broker when it is up.
func (r *restartable) ListenAddrs() []string {
	return []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port))}
}

func (r *restartable) up() {
	r.T.Helper()
	broker := []kfake.Opt{kfake.NumBrokers(1), kfake.Ports(r.port), kfake.DataDir(r.dir), kfake.SyncWrites(),
		kfake.SeedTopics(2, nodetest.Topic)}
	client := append(r.Opts, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(nodetest.Topic))
	if r.password != "" {
		broker = append(broker, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", r.password))
		client = append(client, kgo.SASL(plain.Auth{User: "u", Pass: r.password}.AsMechanism()))
		// The broker keeps users in a file, and believes it more than its options.
		if err := os.Remove(filepath.Join(r.dir, "sasl.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.T.Fatal(err)
		}
	}
	c, err := kfake.NewCluster(broker...)
	if err != nil {
		r.T.Fatal(err)
	}
	r.Cluster = c
	r.Out, err = kgo.NewClient(client...)
	if err != nil {
		r.T.Fatal(err)
	}
	r.Adm = kadm.NewClient(r.Out)
}

func (r *restartable) down() {
	if r.Cluster == nil {
		return
	}
	r.Out.Close()
	r.Cluster.Close()
	r.Cluster = nil
}

func (r *restartable) some(session string, from, n int) {
	r.T.Helper()
	var rs []*kgo.Record
	for i := from; i < from+n; i++ {
		rs = append(rs, nodetest.Record(int32(i%2), fmt.Sprint(session, i%2), i))
	}
	r.Produce(rs...)
}

// A node starts without a broker, begins to read when there is one, waits when it goes away and goes on when it is
// back, and nothing is lost or counted twice.
func TestBrokerComesAndGoes(t *testing.T) {
	t.Parallel()
	r := newRestartable(t)
	c := newCluster(t, r.Broker, 1, nil)
	c.brokers = r.ListenAddrs()
	n := c.start(0)
	failing := func() bool { _, _, s := c.leader(0); return s.Failing["source"] != "" }
	nodetest.Until(t, "the missing broker is shown", failing)
	if st := n.Status(); st.Ready || !strings.Contains(strings.Join(st.Reasons, "\n"), "shard 0") {
		t.Errorf("ready %v, reasons %v", st.Ready, st.Reasons)
	}
	r.up()
	r.some("s", 0, 20)
	c.checkExact(t, 20, 0, 0)
	nodetest.Until(t, "ready, nothing fails", func() bool { return n.Status().Ready && !failing() })
	r.some("s", 20, 10) // some of it may be in flight when the broker goes
	nodetest.Until(t, "no lag", lagIs(c, 0))
	r.down()
	nodetest.Until(t, "the lost broker is shown", failing)
	nodetest.Until(t, "the lag is not known, and the node not ready", func() bool {
		_, _, s := c.leader(0)
		return s.Lag.Records == nil && s.Lag.Seconds == nil && s.Lag.OpenTransaction == nil && s.Lag.Unknown == 2 &&
			!n.Status().Ready
	})
	if _, _, s := c.leader(0); len(s.Stopped) > 0 {
		t.Fatalf("an outage stops nothing: %v", s.Stopped)
	}
	r.up()
	r.some("s", 30, 10)
	c.checkExact(t, 40, 0, 0)
	nodetest.Until(t, "nothing fails any more", func() bool { return n.Status().Ready && !failing() })
}

// allAcked says whether the sinks have every closed epoch and nothing is open.
func (c *cluster) allAcked(ids ...state.SinkID) func() bool {
	return func() bool {
		_, n, s := c.leader(0)
		done := n != nil && s.State.LastClosed > 0 && s.State.OpenEvents == 0
		for _, id := range ids {
			done = done && s.State.Sinks[id].Acked == s.State.LastClosed
		}
		return done
	}
}

// The real ClickHouse sink, whose server refuses connections, does not disturb Delta.
func TestClickHouseDownAtStart(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, b, 1, func(cfg *config.Config) {
		cfg.ClickHouse = &config.ClickHouse{Address: ln.Addr().String()}
	})
	if err := ln.Close(); err != nil { // nobody listens there
		t.Fatal(err)
	}
	c.realSinks = true
	n := c.start(0)
	for i := range 3 {
		b.Produce(nodetest.Record(0, "s", i))
		nodetest.Until(t, "applied", func() bool { return c.sum(applied) == int64(i+1) })
		nodetest.Until(t, "Delta goes on", c.allAcked(state.SinkEvents, state.SinkSessions, state.SinkRevisions,
			state.SinkDeadLetter))
	}
	nodetest.Until(t, "clickhouse is shown", func() bool {
		_, _, s := c.leader(0)
		return s.Failing["clickhouse"] != ""
	})
	_, _, s := c.leader(0)
	if len(s.Failing) != 1 || len(s.Stopped) != 0 || s.State.Sinks[state.SinkClickHouse].Acked != 0 {
		t.Errorf("failing %v, stopped %v, acked %d", s.Failing, s.Stopped, s.State.Sinks[state.SinkClickHouse].Acked)
	}
	// A sink that has taken nothing since the start may be a wrong address: whoever restarts nodes one by one must see
	// it.
	nodetest.Until(t, "the node is not ready for it", func() bool {
		st := n.Status()
		return !st.Ready && has(st.Conditions, condition.SinkNeverWrote, "clickhouse of shard 0")
	})
}

// A schema that ClickHouse does not accept stops that sink alone, whether this shows at the start or at a write.
func TestSchemaRefusalStopsClickHouseAlone(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	n := c.start(0)
	b.Produce(nodetest.Record(0, "s", 0))
	c.checkExact(t, 1, 0, 0)
	refused := &sinks.StopError{Err: errors.New("table analytics.session_metrics is missing"),
		Hint: "restore it from a backup"}
	stopped := func() bool {
		_, _, s := c.leader(0)
		return strings.Contains(s.Stopped["clickhouse"], "restore it") && len(s.Stopped) == 1 && len(s.Failing) == 0
	}
	c.table.setFail(state.SinkClickHouse, fmt.Errorf("write: %w", refused))
	for i := 1; i <= 3; i++ {
		b.Produce(nodetest.Record(0, "s", i))
		nodetest.Until(t, "events go on", func() bool { return c.table.countEvents() == i+1 })
	}
	nodetest.Until(t, "stopped", stopped)
	if _, rows := c.table.totals(); rows != 1 || n.Status().Ready {
		t.Errorf("clickhouse shows %d events, ready %v", rows, n.Status().Ready)
	}
	c.stop(0)
	c.start(0)
	b.Produce(nodetest.Record(0, "s", 4))
	nodetest.Until(t, "events go on after a restart", func() bool { return c.table.countEvents() == 5 })
	nodetest.Until(t, "stopped after a restart", stopped)
	c.stop(0)
	c.table.setFail(state.SinkClickHouse, nil)
	c.start(0)
	c.checkExact(t, 5, 0, 0)
}

// A partition that runs ahead in event time waits for the others and goes on when they have followed.
func TestPartitionAheadWaits(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, func(cfg *config.Config) {
		cfg.Kafka.IdleAfter = time.Hour
		cfg.Cluster.MaxLevel = 1 // from level 2 on nobody waits for one that reads no backlog
	})
	c.start(0)
	past := time.Now().Add(-5 * time.Hour)
	at := func(partition int32, session string, i int, after time.Duration) *kgo.Record {
		stamp := past.Add(after)
		return &kgo.Record{Partition: partition, Key: []byte(session), Timestamp: stamp,
			Value: nodetest.EventJSONAt(session, i, "search", stamp)}
	}
	ahead := func() []int32 { _, _, s := c.leader(0); return s.Ahead }
	next := func(p int) int64 { _, _, s := c.leader(0); return s.State.Partitions[p].Next }
	applies := func(n int64) { t.Helper(); nodetest.Until(t, "applied", func() bool { return c.sum(applied) == n }) }

	b.Produce(at(0, "fast", 0, 0), at(1, "slow", 0, 0))
	b.Produce(at(0, "fast", 1, time.Hour))
	applies(3)
	b.Produce(at(0, "fast", 2, time.Hour+time.Second))
	applies(4)
	nodetest.Until(t, "partition 0 waits", func() bool { return len(ahead()) == 1 && ahead()[0] == 0 })
	b.Produce(at(0, "fast", 3, time.Hour+2*time.Second), at(1, "slow", 1, 5*time.Minute))
	applies(5)
	// The lag has been seen, the other partition's later record is applied: this one is not read.
	nodetest.Until(t, "lag", lagIs(c, 1))
	if _, n, _ := c.leader(0); !has(n.Status().Conditions, condition.PartitionPaused, "partition 0") {
		t.Errorf("conditions: %+v", n.Status().Conditions)
	}
	b.Produce(at(1, "slow", 2, 5*time.Minute+time.Second))
	applies(6)
	if got := next(0); got != 3 || len(ahead()) != 1 {
		t.Errorf("partition 0 is at %d, ahead %v", got, ahead())
	}
	b.Produce(at(1, "slow", 3, 10*time.Minute))
	applies(8)
	nodetest.Until(t, "nobody waits", func() bool { return len(ahead()) == 0 })
	c.checkExact(t, 8, 0, 0)
}
