package node

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/schema"
	"deckle/sinks"
	"deckle/state"
)

// produceSample writes the sample, some of it twice, and some broken records. It returns how many
// there are of each.
func produceSample(t *testing.T, b *nodetest.Broker, partitions int) (distinct, ends, duplicates, broken int) {
	t.Helper()
	var rs []*kgo.Record
	for i, v := range nodetest.SampleEvents(t, "../testdata/sample_events.jsonl") {
		var s struct{ SessionID string }
		id, _, _ := strings.Cut(strings.SplitN(string(v), `"session_id": "`, 2)[1], `"`)
		s.SessionID = id
		part := int32(nodetest.Hash(id)) % int32(partitions)
		rs = append(rs, &kgo.Record{Partition: part, Key: []byte(id), Value: v})
		distinct++
		if strings.Contains(string(v), `"event_type": "session_end"`) {
			ends++
		}
		if i%50 == 7 {
			rs = append(rs, &kgo.Record{Partition: part, Key: []byte(id), Value: v})
			duplicates++
		}
		if i%100 == 3 {
			rs = append(rs, &kgo.Record{Partition: part, Key: []byte(id), Value: []byte(`{"event_id":`)})
			broken++
		}
	}
	for _, r := range rs { // the timestamps of the sample are fixed, so Kafka's are, too
		r.Timestamp = time.Unix(1795357100, 0)
	}
	b.Produce(rs...)
	return distinct, ends, duplicates, broken
}

func (c *cluster) checkExact(t *testing.T, distinct, duplicates, broken int) {
	t.Helper()
	nodetest.Until(t, "all events visible", func() bool {
		_, total := c.table.totals()
		return c.table.countEvents() == distinct && int64(total) == c.sum(counted) &&
			int64(total) == int64(distinct-c.ends) && len(c.table.copyLetters()) == broken
	})
	if got := c.sum(applied); got != int64(distinct) {
		t.Errorf("applied %d, want %d", got, distinct)
	}
	if got := c.sum(func(v *state.View) int64 { return v.Duplicates }); got != int64(duplicates) {
		t.Errorf("duplicates %d, want %d", got, duplicates)
	}
	if len(c.table.twice) > 0 {
		t.Errorf("rows twice in events: %v", c.table.twice)
	}
}

func (t *table) copyLetters() map[string]event.Reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := map[string]event.Reason{}
	maps.Copy(m, t.letters)
	return m
}

func TestOneNodeIsExactAcrossARestart(t *testing.T) {
	b := nodetest.NewBroker(t, 3)
	c := newCluster(t, b, 1, nil)
	d, ends, dup, broken := produceSample(t, b, 3)
	c.ends = ends
	c.start(0)
	c.checkExact(t, d, dup, broken)
	nodetest.Until(t, "ready, nothing to complain about", func() bool {
		st := c.nodes[0].Status()
		return st.Ready && len(st.Reasons) == 0
	})
	nodetest.Until(t, "latency of every event", func() bool {
		_, _, s := c.leader(0)
		return s.Visible["events"].Count == int64(d)
	})
	c.stop(0)
	for i := range 100 {
		b.Produce(nodetest.Record(int32(i%3), fmt.Sprint("later", i%3), i))
	}
	c.start(0)
	c.checkExact(t, d+100, dup, broken)
	if c.table.refetch != 0 {
		t.Errorf("%d plans were fetched again although every epoch was seen whole", c.table.refetch)
	}
	nodetest.Until(t, "group offsets in Kafka", func() bool {
		os, err := b.Adm.FetchOffsets(nodetest.Context(t), c.nodes[0].cfg.Kafka.Group)
		var at int64
		for _, o := range os.Offsets()[nodetest.Topic] {
			at += o.At
		}
		return err == nil && at == int64(d+dup+broken+100)
	})
}

func TestRestartInTheMiddleOfFlushes(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, nil)
	c.table.setFail(state.SinkEvents, errDown)
	c.table.setFail(state.SinkClickHouse, errDown)
	c.start(0)
	produced := 0
	more := func(n int) {
		for range n {
			b.Produce(nodetest.Record(int32(produced%2), fmt.Sprint("s", produced%2), produced))
			produced++
		}
	}
	for range 3 {
		more(20)
		nodetest.Until(t, "applied", func() bool { return c.sum(applied) == int64(produced) })
		c.stop(0)
		c.start(0)
	}
	more(5)
	c.table.setFail(state.SinkEvents, nil)
	c.table.setFail(state.SinkClickHouse, nil)
	c.checkExact(t, produced, 0, 0)
	if c.table.refetch == 0 {
		t.Error("epochs of former runs cannot have come from a buffer")
	}
}

func TestSinksDoNotWaitForEachOther(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	n := c.start(0)
	b.Produce(nodetest.Record(0, "s", 0))
	c.checkExact(t, 1, 0, 0)
	c.table.setFail(state.SinkClickHouse, errDown)
	for i := 1; i <= 5; i++ {
		b.Produce(nodetest.Record(0, "s", i))
		nodetest.Until(t, "events go on", func() bool { return c.table.countEvents() == i+1 })
	}
	nodetest.Until(t, "clickhouse is shown, and nothing else", func() bool {
		_, _, s := c.leader(0)
		return s.Failing["clickhouse"] != "" && len(s.Failing) == 1
	})
	if _, rows := c.table.totals(); rows != 1 {
		t.Errorf("clickhouse shows %d events", rows)
	}
	if st := n.Status(); !st.Ready || !has(st.Conditions, condition.SinkFailing, "clickhouse of shard 0") {
		t.Errorf("ready %v, reasons %v", st.Ready, st.Reasons)
	}
	c.table.setFail(state.SinkClickHouse, nil)
	c.checkExact(t, 6, 0, 0)
	nodetest.Until(t, "nothing fails any more", func() bool { _, _, s := c.leader(0); return len(s.Failing) == 0 })
}

func TestStopErrorStopsOneSink(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	c.table.setFail(state.SinkClickHouse, &sinks.StopError{Err: errDown, Hint: "call somebody"})
	c.start(0)
	b.Produce(nodetest.Record(0, "s", 0))
	nodetest.Until(t, "events", func() bool { return c.table.countEvents() == 1 })
	nodetest.Until(t, "stopped", func() bool {
		_, _, s := c.leader(0)
		return strings.Contains(s.Stopped["clickhouse"], "call somebody")
	})
}

func TestRefusedRowBecomesADeadLetter(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	c.table.refuse = "bad\x000/0"
	c.start(0)
	b.Produce(nodetest.Record(0, "bad", 0), nodetest.Record(0, "good", 1))
	nodetest.Until(t, "the good row", func() bool { n, _ := c.table.totals(); return n == 1 })
	nodetest.Until(t, "the letter", func() bool { return c.table.copyLetters()["-1/-1"] == event.SinkRejected })
}

// A sink of raw events that is many epochs behind when the leader changes catches up with a few plans, and not with
// one per epoch, each of which has to be read again from Kafka.
func TestEventsCatchUpAfterALeaderChange(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	c.start(0)
	c.table.setFail(state.SinkEvents, errDown)
	const epochs = 12
	for i := range epochs {
		b.Produce(nodetest.Record(0, "s", i))
		nodetest.Until(t, "an epoch is closed", func() bool {
			_, _, s := c.leader(0)
			return s.State.Applied == int64(i+1) && s.State.OpenEvents == 0
		})
	}
	c.stop(0)
	c.table.setFail(state.SinkEvents, nil)
	c.start(0)
	nodetest.Until(t, "all is there", func() bool { return c.table.countEvents() == epochs })
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	// The plan that was outstanding, the rest, and at most one for what has been closed meanwhile.
	if n := c.table.writes[state.SinkEvents]; n > 3 {
		t.Errorf("%d plans for %d epochs", n, epochs)
	}
}

// What has gathered while there was no leader is visible as soon as one has read it, and not only when the interval is
// over.
func TestNewLeaderCutsWhenItHasCaughtUp(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Flush.Interval = time.Hour })
	for round := range 3 {
		for i := range 50 {
			b.Produce(nodetest.Record(0, "s", 50*round+i))
		}
		c.start(0)
		nodetest.Until(t, "what was there before is visible", func() bool {
			return c.table.countEvents() == 50*(round+1)
		})
		if _, _, s := c.leader(0); s.State.LastClosed != uint64(round+1) {
			t.Errorf("round %d closed %d epochs in all: one each is enough", round, s.State.LastClosed)
		}
		c.stop(0)
	}
}

func TestLeadershipMovesBetweenThreeNodes(t *testing.T) {
	b := nodetest.NewBroker(t, 6)
	c := newCluster(t, b, 3, func(cfg *config.Config) { cfg.Cluster.Shards = 3 })
	for i := range 3 {
		c.start(i)
	}
	c.ready()
	produced := 0
	more := func(n int) {
		var rs []*kgo.Record
		for range n {
			p := produced % 6
			rs = append(rs, nodetest.Record(int32(p), fmt.Sprint("s", p), produced))
			produced++
		}
		b.Produce(rs...)
	}
	more(300)
	nodetest.Until(t, "applied", func() bool { return c.sum(applied) == int64(produced) })
	for round := range 3 {
		more(60)
		i, _, _ := c.leader(uint32(round))
		if i < 0 {
			t.Fatalf("shard %d has no leader", round)
		}
		c.stop(i)
		more(60)
		nodetest.Until(t, "the others take over", func() bool { return c.sum(applied) == int64(produced) })
		c.start(i)
		nodetest.Until(t, "ready again", func() bool { return c.nodes[i].Status().Ready })
	}
	c.checkExact(t, produced, 0, 0)
}

func TestLostOffsetsStopThePartitionAlone(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, nil)
	c.start(0)
	for i := range 10 {
		b.Produce(nodetest.Record(int32(i%2), fmt.Sprint("s", i%2), i))
	}
	c.checkExact(t, 10, 0, 0)
	c.stop(0)
	for i := 10; i < 30; i++ {
		b.Produce(nodetest.Record(int32(i%2), fmt.Sprint("s", i%2), i))
	}
	if err := b.DeleteRecords(nodetest.Topic, 1, 9); err != nil {
		t.Fatal(err)
	}
	n := c.start(0)
	nodetest.Until(t, "stopped", func() bool { _, _, s := c.leader(0); return s.Stopped["partition 1"] != "" })
	nodetest.Until(t, "the other partition goes on", func() bool { return c.table.countEvents() == 20 })
	_, _, s := c.leader(0)
	if s.State.Partitions[1].Next != 5 || s.State.Partitions[1].Idle || n.Status().Ready {
		t.Errorf("partition 1: %+v", s.State.Partitions[1])
	}
}

func TestRecreatedTopicStops(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	c.start(0)
	b.Produce(nodetest.Record(0, "s", 0))
	c.checkExact(t, 1, 0, 0)
	if err := b.DeleteTopic(nodetest.Topic); err != nil {
		t.Fatal(err)
	}
	if err := b.CreateTopic(nodetest.Topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	nodetest.Until(t, "stopped", func() bool {
		_, _, s := c.leader(0)
		return strings.Contains(s.Stopped["partition 0"], "created again")
	})
	b.Out.PurgeTopicsFromClient(nodetest.Topic)
	b.Produce(nodetest.Record(0, "other", 1), nodetest.Record(0, "other", 2))
	c.stop(0)
	c.start(0)
	nodetest.Until(t, "stopped after a restart", func() bool {
		_, _, s := c.leader(0)
		return s.Stopped["partition 0"] != ""
	})
	if got := c.sum(applied); got != 1 {
		t.Errorf("%d events applied, the new topic's are another history", got)
	}
}

func TestUnkeyedTopicIsRefusedBeforeAnythingExists(t *testing.T) {
	b := nodetest.NewBroker(t, 3)
	for i := range 30 {
		b.Produce(&kgo.Record{Partition: int32(i % 3), Value: nodetest.EventJSON("x", i, "search")})
	}
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Cluster.Shards = 3 })
	if _, err := c.open(0); !errors.Is(err, kafka.ErrUnkeyed) || !strings.Contains(err.Error(), "cluster.shards") {
		t.Fatalf("opened: %v", err)
	}
	if names, _ := c.fs.List("data"); len(names) > 0 {
		t.Errorf("something exists: %v", names)
	}
}

// stopWithoutKeys produces n records without a key into partition 1 while the only node is down, and waits until it has
// stopped for them.
func (c *cluster) stopWithoutKeys(n int) {
	c.t.Helper()
	c.stop(0)
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, &kgo.Record{Partition: 1, Value: nodetest.EventJSON("z", 10+i, "search")})
	}
	c.b.Produce(rs...)
	c.start(0)
	nodetest.Until(c.t, "stopped", func() bool {
		_, _, s := c.leader(1)
		return strings.Contains(s.Stopped["partition 1"], "no key")
	})
}

func TestKeysAreMissed(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Cluster.Shards = 2 })
	b.Produce(nodetest.Record(0, "s", 0), nodetest.Record(1, "z", 0))
	c.start(0)
	c.checkExact(t, 2, 0, 0)
	b.Produce(&kgo.Record{Partition: 0, Value: nodetest.EventJSON("s", 1, "search")}, nodetest.Record(0, "s", 2))
	c.checkExact(t, 3, 0, 1)
	if c.table.copyLetters()["0/1"] != event.NoKey {
		t.Errorf("letters %v", c.table.copyLetters())
	}
	c.stopWithoutKeys(50)
	nodetest.Until(t, "both shards run", func() bool { return c.sum(applied) >= 3 })
	if got := c.sum(applied); got != 3 {
		t.Errorf("%d applied", got)
	}
}

func TestIntakePausesAtItsBudgetAndResumes(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Limits.UnflushedEpochs = 2 })
	c.start(0)
	c.table.setFail(state.SinkEvents, errDown)
	i := 0
	nodetest.Until(t, "paused", func() bool {
		b.Produce(nodetest.Record(0, "s", i))
		i++
		_, _, s := c.leader(0)
		return status.PauseReason(s.Paused) == status.PauseEpochs
	})
	for range 50 {
		b.Produce(nodetest.Record(0, "s", i))
		i++
	}
	// Had intake gone on, the lag would never be this large: each record is acknowledged before the next is sent.
	nodetest.Until(t, "lag is shown", func() bool { l := c.lag(); return l != nil && *l >= 50 })
	if got := c.sum(applied); got > int64(i-50) {
		t.Errorf("intake went on: %d of %d applied", got, i)
	}
	c.table.setFail(state.SinkEvents, nil)
	c.checkExact(t, i, 0, 0)
	nodetest.Until(t, "resumed", func() bool { _, _, s := c.leader(0); return s.Paused == "" })
	nodetest.Until(t, "no lag", lagIs(c, 0))
}

func TestSinkAheadOfTheStateStopsTheShard(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	c.table.acked[state.SinkEvents] = map[uint32]uint64{0: 7}
	b.Produce(nodetest.Record(0, "s", 0))
	n := c.start(0)
	nodetest.Until(t, "stopped", func() bool {
		_, _, s := c.leader(0)
		return strings.Contains(s.Stopped["shard"], "epoch 7")
	})
	if st := n.Status(); st.Ready {
		t.Error("ready")
	}
}

// What is fixed when a cluster is created stops a node that is configured otherwise, before its groups start.
func TestChangedConfigurationStopsTheNode(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	grace := time.Second
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Session.Grace = grace })
	c.start(0)
	b.Produce(nodetest.Record(0, "s", 0))
	c.checkExact(t, 1, 0, 0)
	c.stop(0)
	grace = 2 * time.Second
	c.start(0)
	nodetest.Until(t, "stopped", func() bool {
		return strings.Contains(fmt.Sprint(c.nodes[0].Status().Reasons),
			"session.grace is 2s here, and 1s in the state")
	})
	if c.nodes[0].shardList() != nil || c.nodes[0].Status().Ready {
		t.Error("the node runs its shards")
	}
}

func TestClockMovesOnWhenAllIsQuiet(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, nil)
	c.start(0)
	b.Produce(nodetest.Record(0, "s", 0), &kgo.Record{Partition: 0, Key: []byte("s"),
		Value: nodetest.EventJSON("s", 1, "session_end")})
	nodetest.Until(t, "the session is closed by the clock, although the other partition has nothing", func() bool {
		row, ok, err := c.nodes[0].Store(0).Session("s")
		return err == nil && ok && row.Status == schema.StatusClosed
	})
}

// With the real Delta tables and dead letter topic, on the same file system in memory.
func TestRealSinks(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.ClickHouse = nil })
	c.realSinks = true
	c.start(0)
	d, _, dup, broken := produceSample(t, b, 2)
	nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == int64(d) })
	nodetest.Until(t, "all acknowledged", func() bool {
		_, _, s := c.leader(0)
		done := s.State.LastClosed > 0 && s.State.OpenEvents == 0
		for _, id := range s.State.Config.Sinks {
			done = done && s.State.Sinks[id].Acked == s.State.LastClosed
		}
		return done
	})
	nodetest.Until(t, "latency of every event", func() bool {
		_, _, s := c.leader(0)
		return s.Visible["events"].Count == int64(d)
	})
	_, n, s := c.leader(0)
	if len(s.Failing)+len(s.Stopped) > 0 || !n.Status().Ready {
		t.Errorf("failing %v, stopped %v, visible %+v", s.Failing, s.Stopped, s.Visible)
	}
	if got := c.sum(func(v *state.View) int64 { return v.Duplicates }); got != int64(dup) {
		t.Errorf("%d duplicates, want %d", got, dup)
	}
	ends, err := b.Adm.ListEndOffsets(nodetest.Context(t), nodetest.Topic+".dlq")
	if err != nil {
		t.Fatal(err)
	}
	var letters int64
	for _, o := range ends[nodetest.Topic+".dlq"] {
		letters += o.Offset
	}
	if letters != int64(broken) {
		t.Errorf("%d dead letters, want %d", letters, broken)
	}
	mfs, err := n.deps.Gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, mf := range mfs {
		shown[mf.GetName()] = true
	}
	for _, name := range []string{
		"deckle_source_records_total", "deckle_source_decode_seconds", "deckle_source_lag_records",
		"deckle_source_lag_seconds",
		"deckle_shard_commit_seconds", "deckle_sink_flush_seconds", "deckle_sink_visible_seconds",
		"deckle_source_rejects_total",
		"deckle_raft_term", "deckle_raft_commit_latency_seconds", "deckle_wal_fsync_seconds",
		"deckle_pebble_disk_bytes",
		"deckle_delta_commits_total", "deckle_state_applied_events_total",
	} {
		if !shown[name] {
			t.Errorf("/metrics does not show %s", name)
		}
	}
}
