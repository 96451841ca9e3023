package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/node/shard"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/share"
	"deckle/state"
)

// The rules of /readyz: a node judges its own conditions, some at once and some only when nothing has flowed for three
// intervals.
func TestReadinessRules(t *testing.T) {
	const interval = 10 * time.Second
	now := time.Unix(1_000_000, 0)
	named := map[condition.ID]bool{}
	for _, c := range []struct {
		id    condition.ID
		holds time.Duration // for how long
		ready bool
	}{
		{condition.NodeNotRunning, 0, false},
		{condition.ShardWithoutLeader, 0, false},
		{condition.ShardStarting, 0, false},
		{condition.ShardHeld, 0, false},
		{condition.SnapshotNotSent, 24 * time.Hour, true},
		{condition.TermRefused, 0, false},
		{condition.PeerRefused, 24 * time.Hour, true},
		{condition.ShardStopped, 0, false},
		{condition.PartitionStopped, 0, false},
		{condition.SinkStopped, 0, false},
		{condition.PrivacyWaits, 0, false},
		{condition.PrivacyKeyMissing, 0, false},
		{condition.SourceFailing, 3 * interval, true},
		{condition.SourceFailing, 3*interval + 1, false},
		{condition.SinkNeverWrote, 3 * interval, true},
		{condition.SinkNeverWrote, 3*interval + 1, false},
		{condition.SinkFailing, 24 * time.Hour, true},
		{condition.SinkBehind, 24 * time.Hour, true},
		{condition.PartitionFailing, 24 * time.Hour, true},
		{condition.PartitionUnread, 24 * time.Hour, true},
		{condition.PartitionPaused, 24 * time.Hour, true},
		{condition.IntakePaused, 24 * time.Hour, true},
		{condition.RecordsRejected, 24 * time.Hour, true},
		{condition.TransactionOpen, 24 * time.Hour, true},
		{condition.GroupOffsetsFailing, 24 * time.Hour, true},
		{condition.MemberDown, 24 * time.Hour, true},
		{condition.DiskFull, 0, false},
		{condition.DiskHigh, 24 * time.Hour, true},
		{condition.MemoryHigh, 24 * time.Hour, true},
	} {
		f := condition.Condition{ID: c.id, Severity: condition.Of(c.id).Severity, Subject: "x",
			Since: now.Add(-c.holds)}
		named[c.id] = true
		reasons, troubles := unready([]condition.Condition{f}, now, interval)
		if (len(reasons) == 0) != c.ready || c.ready && (f.Severity > condition.Notice) != (len(troubles) == 1) {
			t.Errorf("%s for %v: reasons %q, troubles %q", c.id, c.holds, reasons, troubles)
		}
	}
	// What the list above does not name never keeps a node from being ready.
	for _, spec := range condition.Table() {
		if spec.Unready != condition.Never && !named[spec.ID] {
			t.Errorf("%s keeps a node from being ready: say here when", spec.ID)
		}
	}
}

// A producer whose every record is refused is told, with the reason, although nothing stops (field report F13: a schema
// registry's prefix before each record). It ends when the records are good again.
func TestAllRejectedIsTold(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	n := c.start(0)
	var rs []*kgo.Record
	for i := range 60 {
		r := nodetest.Record(0, "s", i)
		r.Value = append([]byte{0, 0, 0, 0, 1}, r.Value...)
		rs = append(rs, r)
	}
	b.Produce(rs...)
	told := func() bool { return has(n.Status().Conditions, condition.RecordsRejected, "shard 0") }
	nodetest.Until(t, "it is told", told)
	st := n.Status()
	const want = "60 of the 60 records of the last 5 minutes became dead letters, 60 of them as malformed"
	if text := strings.Join(st.Reasons, "; "); !st.Ready || !strings.Contains(text, want) {
		t.Errorf("ready %v, reasons %s", st.Ready, text)
	}
	rs = rs[:0]
	for i := range 2500 {
		rs = append(rs, nodetest.Record(0, fmt.Sprint("good", i), i))
	}
	b.Produce(rs...)
	nodetest.Until(t, "it is over", func() bool { return !told() })
}

// A producer that sets no Kafka timestamp and sends a number as words loses nothing and is refused nothing, so nothing
// else would tell that sums are too low and times unknown.
func TestCountedIsTold(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	n := c.start(0)
	nodetest.Until(t, "level 2", func() bool {
		s := n.Status().Shards
		return len(s) > 0 && s[0].State.Level >= level.Real && s[0].State.Rules.Number > 0
	})
	var rs []*kgo.Record
	for i := range 60 {
		r := nodetest.Record(0, "s", i)
		r.Timestamp = time.UnixMilli(1) // 1970
		r.Value = bytes.Replace(r.Value, []byte(`"brand"`),
			[]byte(`"engagement_metrics":{"time_on_page":"long"},"brand"`), 1)
		rs = append(rs, r)
	}
	b.Produce(rs...)
	nodetest.Until(t, "both are told", func() bool {
		list := n.Status().Conditions
		return has(list, condition.KafkaTimesFalse, "shard 0") && has(list, condition.ValuesZeroed, "shard 0")
	})
	st := n.Status()
	text := strings.Join(st.Reasons, "; ")
	for _, want := range []string{"60 of the 60 records of the last 5 minutes have a Kafka timestamp",
		"60 values of engagement_metrics are no number and counted as 0 (time_on_page 60)"} {
		if !st.Ready || !strings.Contains(text, want) {
			t.Errorf("ready %v, reasons %s", st.Ready, text)
		}
	}
}

// A file whose rules are others, with the same revision or an older one, is told by the node that has it: its operator
// believes in rules that nobody goes by. It ends once the file is mended. A greater revision sets its own rules.
func TestOtherRulesAreTold(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	told := func(n *Node) bool { return has(n.Status().Conditions, condition.RulesDiffer, "shard 0") }
	for i, x := range []struct {
		revision int
		skip     bool // event_types.unknown: skip, in the file
		told     bool
		shard    uint64 // the revision of the shard afterwards
	}{{1, false, false, 1}, {1, true, true, 1}, {0, false, true, 1}, {1, false, false, 1}, {2, true, false, 2}} {
		c.tune = func(cfg *config.Config) {
			cfg.Rules.Revision = x.revision
			if x.skip {
				cfg.Rules.EventTypes.Unknown = "skip"
			}
		}
		n := c.start(0)
		nodetest.Until(t, "it reads", func() bool {
			s := n.Status().Shards
			return len(s) > 0 && s[0].State.Rules.Number > 0 && s[0].State.Rules.Revision == x.shard && s[0].IsLeader &&
				!has(n.Status().Conditions, condition.ShardStarting, "shard 0")
		})
		if got := told(n); got != x.told {
			t.Errorf("file %d: told %v", i, got)
		}
		if why := n.Status().Reasons; !n.Status().Ready {
			t.Errorf("file %d: not ready: %v", i, why)
		}
		c.stop(0)
	}
}

// Newer rules wait for a leader that has them. That is no news while the nodes are restarted one after the other.
func TestNewerRulesMayWait(t *testing.T) {
	w, at := waitingRules{}, time.Unix(1_000_000, 0)
	for i, x := range []struct {
		after time.Duration
		why   string
		later bool
		want  string
	}{
		{0, "a", true, ""}, {rulesPatience - time.Second, "a", true, ""}, {time.Second, "b", true, "b"},
		{0, "c", false, "c"}, {0, "d", true, ""}, {rulesPatience - time.Second, "", false, ""},
		{time.Second, "e", true, ""}, {rulesPatience, "e", true, "e"},
	} {
		at = at.Add(x.after)
		if got := w.judge(0, x.why, x.later, at); got != x.want {
			t.Errorf("step %d: %q", i, got)
		}
		if i == 3 && w.judge(1, "other", true, at) != "" {
			t.Error("shards are not kept apart")
		}
	}
}

// Partitions that are added are told, and are part of the lag (field report F08: lag 0 and ready, while two of three
// partitions were unread for good).
func TestAddedPartitionsAreTold(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	n := c.start(0)
	b.Produce(nodetest.Record(0, "s", 0))
	c.checkExact(t, 1, 0, 0)
	nodetest.Until(t, "no lag", lagIs(c, 0))
	if _, err := b.Adm.CreatePartitions(nodetest.Context(t), 2, nodetest.Topic); err != nil {
		t.Fatal(err)
	}
	b.Out.ForceMetadataRefresh()
	nodetest.Until(t, "they are told", func() bool {
		list := n.Status().Conditions
		return has(list, condition.PartitionUnread, "partition 1") &&
			has(list, condition.PartitionUnread, "partition 2")
	})
	nodetest.Until(t, "the new partition takes records", func() bool {
		return b.Out.ProduceSync(nodetest.Context(t), nodetest.Record(2, "z", 1)).FirstErr() == nil
	})
	nodetest.Until(t, "its record is in the lag", lagIs(c, 1))
	_, _, s := c.leader(0)
	if l := s.Lag.Partitions; len(l) != 3 || l[0].Unread || !l[1].Unread || !l[2].Unread || *l[2].Records != 1 {
		t.Errorf("%+v", l)
	}
}

// Records behind an open transaction of another producer are a figure of their own, and a condition when they wait for
// long (field report F10: an operator was blind).
func TestOpenTransactionIsTold(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	n := c.start(0)
	b.Produce(nodetest.Record(0, "s", 0))
	nodetest.Until(t, "no lag", lagIs(c, 0))
	cl, err := kgo.NewClient(append(slices.Clip(b.Opts), kgo.TransactionalID("other"),
		kgo.DefaultProduceTopic(nodetest.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(nodetest.Context(t), nodetest.Record(0, "t", 1)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for i := 2; i < 7; i++ {
		b.Produce(nodetest.Record(0, "s", i))
	}
	held := func(want int64) func() bool {
		return func() bool {
			_, _, s := c.leader(0)
			return s.Lag.OpenTransaction != nil && *s.Lag.OpenTransaction == want
		}
	}
	told := func() bool { return has(n.Status().Conditions, condition.TransactionOpen, "shard 0") }
	nodetest.Until(t, "six records wait", held(6))
	nodetest.Until(t, "it is told", told)
	if l := c.lag(); l == nil || *l != 0 {
		t.Errorf("what a transaction holds is not lag: %v", l)
	}
	if err := cl.EndTransaction(nodetest.Context(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	nodetest.Until(t, "nothing waits any more", held(0))
	nodetest.Until(t, "it is over", func() bool { return !told() })
	nodetest.Until(t, "all are applied", func() bool { return c.sum(applied) == 7 })
}

// A sink that fails for long after it has worked: the node stays ready, and the list says that it fails and that it is
// behind, from one beginning to one end in the log, however often it is retried.
func TestSinkConditions(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	log, lines := capture()
	ln := c.lns[0]
	c.lns[0] = nil
	n, err := Open(nodetest.Context(t), c.config(0), Deps{FS: c.fs, Logger: log, RaftListener: ln,
		openSink: c.table.open})
	if err != nil {
		t.Fatal(err)
	}
	c.nodes[0] = n
	b.Produce(nodetest.Record(0, "s", 0))
	c.checkExact(t, 1, 0, 0)
	c.table.setFail(state.SinkClickHouse, errDown)
	b.Produce(nodetest.Record(0, "s", 1))
	both := func() int {
		list, found := n.Status().Conditions, 0
		for _, id := range []condition.ID{condition.SinkFailing, condition.SinkBehind} {
			if has(list, id, "clickhouse of shard 0") {
				found++
			}
		}
		return found
	}
	nodetest.Until(t, "it fails and is behind", func() bool { return both() == 2 })
	if st := n.Status(); !st.Ready {
		t.Errorf("not ready: %v", st.Reasons)
	}
	c.table.setFail(state.SinkClickHouse, nil)
	nodetest.Until(t, "both are over", func() bool { return both() == 0 })
	c.stop(0)
	var events []string
	for _, l := range lines() {
		if strings.Contains(l, "id=sink-failing") {
			events = append(events, l[strings.Index(l, "msg="):strings.Index(l, " id=")])
		}
	}
	want := []string{`msg="condition begins" node=n0`, `msg="condition ends" node=n0`}
	if !slices.Equal(events, want) {
		t.Errorf("log: %q, want %q", events, want)
	}
}

// capture returns a logger, and what it has written so far.
func capture() (*slog.Logger, func() []string) {
	var mu sync.Mutex
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&locked{mu: &mu, b: &b}, nil)), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Split(b.String(), "\n")
	}
}

type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// A source that cannot be reached keeps a node from being ready once it has lasted, and the lag is unknown, not 0
// (field report F05: a source that failed for ever had a lag of 0).
func TestUnreachableSourceIsTold(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	n := c.start(0)
	b.Produce(nodetest.Record(0, "s", 0))
	c.checkExact(t, 1, 0, 0)
	c.stop(0)
	c.tune = func(cfg *config.Config) { cfg.Kafka.Brokers = []string{addr} }
	n = c.start(0)
	nodetest.Until(t, "the shard runs", func() bool { _, n, _ := c.leader(0); return n != nil })
	nodetest.Until(t, "it is told, and the node is not ready", func() bool {
		st := n.Status()
		return has(st.Conditions, condition.SourceFailing, "shard 0") && !st.Ready &&
			!has(st.Conditions, condition.ShardStarting, "shard 0")
	})
	_, _, s := c.leader(0)
	if s.Lag.Records != nil || s.Lag.Seconds != nil || s.Lag.Unknown != 1 {
		t.Errorf("the lag of a source that nobody can ask: %+v", s.Lag)
	}
}

// The line of each minute has every sink that this node writes to, also those that had nothing to do.
func TestFlushLine(t *testing.T) {
	var taken [state.NumSinks]shard.Written
	var tally shard.Tally
	taken = tally.Take()
	view := state.View{Config: state.Config{Sinks: []state.SinkID{state.SinkEvents, state.SinkClickHouse}},
		LastClosed: 9}
	view.Sinks[state.SinkEvents].Acked, view.Sinks[state.SinkClickHouse].Acked = 9, 4
	taken[state.SinkEvents] = shard.Written{Flushes: 2, Epochs: 3, Rows: 40, Bytes: 500, Took: 3 * time.Second,
		Slowest: 2 * time.Second}
	log, lines := capture()
	log.Info("flushed", flushed(taken, []status.Shard{{IsLeader: true, State: view}})...)
	got := lines()[0]
	for _, want := range []string{"events.flushes=2 events.epochs=3 events.rows=40 events.bytes=500 events.seconds=3 " +
		"events.slowest_seconds=2 events.epochs_behind=0", "clickhouse.flushes=0 clickhouse.epochs=0",
		"clickhouse.epochs_behind=5"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if strings.Contains(got, "sessions") {
		t.Errorf("%s has a sink that no shard has", got)
	}
	if args := flushed([state.NumSinks]shard.Written{}, []status.Shard{{State: view}}); len(args) > 0 {
		t.Errorf("a node that leads nothing: %v", args)
	}
}

// A node that makes many of its commits of Delta tables by itself says so, and stops saying so an hour later.
func TestCommitsApart(t *testing.T) {
	now := time.Now()
	n := &Node{deps: Deps{Now: func() time.Time { return now }}}
	s := &sharing{n: n, apart: share.NewApart(n.deps.Now), metrics: share.NewMetrics(nil)}
	n.offered("events", deltalog.OutcomeCommitted) // no sink shares yet
	n.sharing.Store(s)
	offered := func(times int, o deltalog.Outcome) {
		for range times {
			n.offered("events", o)
		}
	}
	is := func(what, want string) {
		t.Helper()
		if got := s.commitsApart(); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	offered(36, delta.OutcomeAlone)
	is("few", "")
	offered(1, delta.OutcomeAlone)
	is("all are its own",
		"of the 37 commits that rows of this node were in during the last hour, it has made 37 by itself")
	offered(333, deltalog.OutcomeCommitted)
	offered(1000, deltalog.OutcomeNo) // what follows is counted
	is("a tenth", "")
	offered(1, delta.OutcomeAlone)
	is("more than a tenth",
		"of the 371 commits that rows of this node were in during the last hour, it has made 38 by itself")
	now = now.Add(time.Hour)
	is("an hour later", "")
}
