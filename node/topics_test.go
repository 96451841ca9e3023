package node

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/nodetest"
)

// A topic that the state must not be built on is refused before anything exists: keys of events, and compaction. A
// topic that merely does not fit becomes conditions of the running node, which end when it is mended.
func TestTopicsAreLookedAt(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	set := func(key, value string) {
		t.Helper()
		if _, err := b.Adm.AlterTopicConfigs(nodetest.Context(t), []kadm.AlterConfig{{Name: key, Value: &value}},
			nodetest.Topic); err != nil {
			t.Fatal(err)
		}
	}
	c := newCluster(t, b, 1, nil)
	set("cleanup.policy", "delete,compact")
	if _, err := c.open(0); !errors.Is(err, kafka.ErrCompacted) {
		t.Fatalf("a compacted topic: %v", err)
	}
	if names, _ := c.fs.List("data"); len(names) > 0 {
		t.Errorf("something exists: %v", names)
	}
	set("cleanup.policy", "delete")
	var rs []*kgo.Record
	for i := range 40 {
		r := nodetest.Record(int32(i%2), fmt.Sprint("s", i/4), i)
		r.Key = fmt.Appendf(nil, "event %d", i)
		rs = append(rs, r)
	}
	b.Produce(rs...)
	c = newCluster(t, b, 1, func(cfg *config.Config) { cfg.Cluster.Shards = 2 })
	if _, err := c.open(0); !errors.Is(err, kafka.ErrOtherKeys) {
		t.Fatalf("keys of events: %v", err)
	}
	c = newCluster(t, b, 1, nil)
	set("message.timestamp.type", "LogAppendTime")
	set("retention.ms", "1000")
	n := c.start(0)
	holds := func() string {
		var ids []string
		for _, c := range n.list.Snapshot() {
			ids = append(ids, string(c.ID))
		}
		return strings.Join(ids, " ")
	}
	nodetest.Until(t, "the short retention shows", func() bool {
		return strings.Contains(holds(), string(condition.TopicRetentionShort))
	})
	set("retention.ms", "-1")
	scope := n.list.Scope()
	defer scope.End("")
	if err := n.topics.look(t.Context(), scope); err != nil {
		t.Error(err)
	}
	if got := len(scope.Snapshot()); got != 0 {
		t.Errorf("after it is mended: %v", scope.Snapshot())
	}
}

// A node that comes back with an empty folder joins the cluster that is there. Whether a new one would be created over
// the topic as it is by now is not the question: a node that has lost its disk must not need an operator for that.
func TestLostFolderIsNoNewCluster(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 3, func(cfg *config.Config) { cfg.Cluster.Shards = 2 })
	for i := range c.nodes {
		c.start(i)
	}
	c.ready()
	var rs []*kgo.Record
	for i := range 40 {
		r := nodetest.Record(int32(i%2), fmt.Sprint("s", i/4), i)
		r.Key = fmt.Appendf(nil, "event %d", i)
		rs = append(rs, r)
	}
	b.Produce(rs...)
	nodetest.Until(t, "applied", func() bool { return c.sum(applied) == int64(len(rs)) })
	c.stop(2)
	if err := c.fs.RemoveAll("data/n2"); err != nil {
		t.Fatal(err)
	}
	deps := Deps{FS: c.fs, KafkaOpts: b.Opts}
	if _, err := Check(nodetest.Context(t), c.config(2), deps); err != nil {
		t.Errorf("before it is started: %v", err)
	}
	n, err := c.open(2)
	if err != nil {
		t.Fatalf("it does not start: %v", err)
	}
	c.nodes[2] = n
	nodetest.Until(t, "it is a member again", func() bool { return n.Status().Ready })
}

// What --check says without starting anything.
func TestCheck(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Cluster.Shards = 6 })
	deps := Deps{FS: c.fs, KafkaOpts: b.Opts}
	notices, err := Check(nodetest.Context(t), c.config(0), deps)
	text := strings.Join(notices, "\n")
	for _, want := range []string{"cluster.shards is 6 and the topic has 2 partitions: 4 shards have nothing to do",
		"only 0 sessions have more than one", "kafka-configs.sh --bootstrap-server"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%v\n%s\ndoes not say %q", err, text, want)
		}
	}
	if names, _ := c.fs.List("data"); len(names) > 0 {
		t.Errorf("something exists: %v", names)
	}
	var rs []*kgo.Record
	for i := range 20 {
		rs = append(rs, &kgo.Record{Partition: 0, Value: nodetest.EventJSON("s", i, "search")})
	}
	b.Produce(rs...)
	if _, err := Check(nodetest.Context(t), c.config(0), deps); !kafka.Refused(err) {
		t.Errorf("a topic without keys: %v", err)
	}
	// A cluster that exists is not judged like a new one.
	if err := c.fs.MkdirAll("data/n0/x", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(nodetest.Context(t), c.config(0), deps); err != nil {
		t.Errorf("an existing cluster: %v", err)
	}
	none := c.config(0)
	none.Kafka.Topic = "absent"
	if notices, err := Check(nodetest.Context(t), none, deps); err != nil || len(notices) != 1 ||
		!strings.Contains(notices[0], "does not exist") {
		t.Errorf("no topic: %q, %v", notices, err)
	}
	none.Kafka.Brokers = []string{"127.0.0.1:1"}
	if notices, err := Check(nodetest.Context(t), none, Deps{FS: vfs.NewMem()}); err != nil || len(notices) != 1 ||
		!strings.Contains(notices[0], "no broker of kafka.brokers has answered") {
		t.Errorf("no broker: %q, %v", notices, err)
	}
}

// A letter that could not be delivered is a condition for an hour after the last one.
func TestUndeliverableLetterShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := &config.Config{Kafka: config.Kafka{DLQ: "t.dlq"}}
		l := &topics{cfg: cfg, list: condition.New("a", time.Now, slog.New(slog.DiscardHandler)), now: time.Now}
		l.undeliverable("one")
		time.Sleep(40 * time.Minute)
		l.undeliverable("two")
		time.Sleep(40 * time.Minute)
		l.forget()
		if got := l.list.Snapshot(); len(got) != 1 || got[0].Text != "two" ||
			got[0].ID != condition.LettersUndelivered {
			t.Errorf("%+v", got)
		}
		time.Sleep(20 * time.Minute)
		l.forget()
		if got := l.list.Snapshot(); len(got) != 0 {
			t.Errorf("after an hour: %+v", got)
		}
	})
}
