package kafka

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
)

// adviceConfig is a configuration whose topics are asked about.
func adviceConfig(t *testing.T, tune func(*config.Config)) *config.Config {
	t.Helper()
	cfg := &config.Config{Node: "a", DataDir: "d", Cluster: config.Cluster{Nodes: []config.Node{{Name: "a",
		Address: "127.0.0.1:1"}}}, Kafka: config.Kafka{Brokers: []string{"k1:9092"}, Topic: nodetest.Topic},
		ClickHouse: &config.ClickHouse{Address: "c:9000"}}
	if tune != nil {
		tune(cfg)
	}
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// ids are the conditions found, with their subject.
func ids(list []condition.Condition) []string {
	out := make([]string, 0, len(list))
	for _, c := range list {
		out = append(out, string(c.ID)+" "+c.Subject)
	}
	slices.Sort(out)
	return out
}

// What brokers say of a topic, and what it means for a cluster with a budget of 100 GB and a retention of 6 hours.
func TestAdvise(t *testing.T) {
	const topic, dlq = "topic " + nodetest.Topic, "topic " + nodetest.Topic + ".dlq"
	good := map[string]string{"cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "-1",
		"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": "3600000"}
	with := func(kv ...string) map[string]string {
		m := maps.Clone(good)
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	without := maps.Clone(good)
	delete(without, "message.timestamp.after.max.ms")
	busy := standing{partitions: 6, perSecond: 1e5}
	for name, tc := range map[string]struct {
		source  map[string]string
		letters string // max.message.bytes
		kept    string // cleanup.policy and retention.ms of the dead letters
		st      standing
		tune    func(*config.Config)
		want    string // id and subject, "" for nothing
		todo    string
	}{
		"all is well":      {source: good, letters: "1048588"},
		"nothing is known": {},
		"compacted": {source: with("cleanup.policy", "compact"),
			want: "topic-compacted " + topic, todo: "cleanup.policy=delete"},
		"compacted, deleted": {source: with("cleanup.policy", "compact,delete"), want: "topic-compacted " + topic},
		"deleted, compacted": {source: with("cleanup.policy", "delete, compact"), want: "topic-compacted " + topic},
		"compacted by consent": {source: with("cleanup.policy", "compact"),
			tune: func(c *config.Config) { c.Kafka.AllowCompacted = true }},
		"two days": {source: with("retention.ms", "172800000"),
			want: "topic-retention-short " + topic, todo: "retention.ms=345600000"},
		"for ever": {source: with("retention.ms", "-1")},
		// 100 GB at 100,000 events/s and 16 bytes an event are 17 h 21 min of outage: a day is enough, 12 h are not.
		"a day, at a high rate": {source: with("retention.ms", "86400000"), st: busy},
		"12 hours at that rate": {source: with("retention.ms", "43200000"), st: busy,
			want: "topic-retention-short " + topic},
		"bytes, nothing deleted yet": {source: with("retention.bytes", "1000000")},
		"bytes, a day of records": {source: with("retention.bytes", "1000000"),
			want: "topic-retention-short " + topic,
			st:   standing{held: map[int32]time.Duration{0: 100 * time.Hour, 3: 24 * time.Hour}}},
		"deleted by hand": {source: good, st: standing{held: map[int32]time.Duration{0: time.Hour}}},
		"no bound of times": {source: with("message.timestamp.after.max.ms", "9223372036854775807"),
			want: "topic-create-time " + topic, todo: "message.timestamp.after.max.ms=3600000"},
		"an old broker": {source: without,
			want: "topic-create-time " + topic, todo: "message.timestamp.type=LogAppendTime"},
		"an old broker with its bound": {source: with("message.timestamp.after.max.ms", "",
			"message.timestamp.difference.max.ms", "60000")},
		"append time": {source: with("message.timestamp.after.max.ms", "9223372036854775807",
			"message.timestamp.type", "LogAppendTime")},
		"letters are cut": {source: good,
			letters: "20000", want: "letters-cut " + dlq,
			todo: "--entity-name " + nodetest.Topic + ".dlq --add-config max.message.bytes=933888"},
		"letters go after a month": {source: good, kept: "compact,delete 2592000000"},
		"letters go after a day":   {source: good, kept: "delete, compact 86400000"},
		"letters go by age alone":  {source: good, kept: "delete 86400000"},
		"letters are only compacted": {source: good, kept: "compact 86400000", want: "letters-kept " + dlq,
			todo: "--entity-name " + nodetest.Topic + ".dlq --add-config " +
				"cleanup.policy=[compact,delete],retention.ms=2592000000; or raise kafka.dlq_retention"},
		"letters stay for ever": {source: good, kept: "compact,delete -1", want: "letters-kept " + dlq},
		"letters stay too long": {source: good, kept: "compact,delete 2592000001", want: "letters-kept " + dlq},
		"letters may stay longer": {source: good, kept: "compact,delete 2592000001",
			tune: func(c *config.Config) { c.Kafka.DLQRetention = 1000 * time.Hour }},
		"more shards than partitions": {source: good, st: standing{partitions: 2},
			want: "shards-idle " + topic, tune: func(c *config.Config) { c.Cluster.Shards = 6 }},
	} {
		t.Run(name, func(t *testing.T) {
			var letters map[string]string
			if tc.letters != "" {
				letters = map[string]string{"max.message.bytes": tc.letters}
			}
			if i := strings.LastIndexByte(tc.kept, ' '); i > 0 {
				letters = map[string]string{"cleanup.policy": tc.kept[:i], "retention.ms": tc.kept[i+1:]}
			}
			needs := Needs{LetterBytes: 933888, DiskBytes: 100e9}
			got := advise(adviceConfig(t, tc.tune), needs, tc.source, letters, tc.st)
			if text := strings.Join(ids(got), "; "); text != tc.want {
				t.Fatalf("%q, want %q", text, tc.want)
			}
			if tc.todo != "" && (!strings.Contains(got[0].Todo, tc.todo) ||
				!strings.Contains(got[0].Todo, "kafka-configs.sh --bootstrap-server k1:9092 --alter")) {
				t.Errorf("to do: %q, want %q", got[0].Todo, tc.todo)
			}
			for _, c := range got {
				if s := condition.Of(c.ID); s.Subject == "" {
					t.Errorf("%s is not in the table", c.ID)
				}
			}
		})
	}
}

// setTopic changes a topic's configuration, as an operator does.
func setTopic(t *testing.T, b *nodetest.Broker, topic string, kv ...string) {
	t.Helper()
	var changes []kadm.AlterConfig
	for i := 0; i < len(kv); i += 2 {
		changes = append(changes, kadm.AlterConfig{Name: kv[i], Value: &kv[i+1]})
	}
	answers, err := b.Adm.AlterTopicConfigs(nodetest.Context(t), changes, topic)
	if err != nil || answers[0].Err != nil {
		t.Fatal(err, answers)
	}
}

// The same from a broker: at creation a compacted topic is refused, later it is a condition; nothing is altered; an
// account that may not ask gets a notice that names the right, and is refused nothing.
func TestAdviseOfABroker(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	c, cfg, ctx := clientOf(b), adviceConfig(t, nil), nodetest.Context(t)
	needs := Needs{LetterBytes: 933888, DiskBytes: 1 << 40}
	look := func() []string {
		t.Helper()
		list, err := c.Advise(ctx, cfg, needs, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return ids(list)
	}
	before := look()
	// kfake has no bound of times.
	if !slices.Equal(before, []string{"topic-create-time topic " + nodetest.Topic}) {
		t.Errorf("a new topic: %q", before)
	}
	setTopic(t, b, nodetest.Topic, "cleanup.policy", "compact,delete", "retention.ms", "60000",
		"message.timestamp.type", "LogAppendTime")
	if _, err := c.CheckNew(ctx, cfg); !errors.Is(err, ErrCompacted) || !Refused(err) ||
		!strings.Contains(err.Error(), "kafka.allow_compacted: true") ||
		!strings.Contains(err.Error(), "--add-config cleanup.policy=delete") {
		t.Errorf("a compacted topic: %v", err)
	}
	const topic = " topic " + nodetest.Topic
	want := []string{"topic-compacted" + topic, "topic-retention-short" + topic}
	if got := look(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if s, err := c.settings(ctx, nodetest.Topic); err != nil || s["cleanup.policy"] != "compact,delete" ||
		s["retention.ms"] != "60000" {
		t.Errorf("the topic was altered: %v, %v", s, err)
	}
	consent := adviceConfig(t, func(cfg *config.Config) { cfg.Kafka.AllowCompacted = true })
	if _, err := c.CheckNew(ctx, consent); err != nil {
		t.Errorf("with consent: %v", err)
	}
	f := b.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed,
		Count: -1})
	defer f.Remove()
	list, err := c.Advise(ctx, cfg, needs, time.Now())
	right := fmt.Sprintf("DescribeConfigs on topic %q", nodetest.Topic)
	if err != nil || len(list) != 2 || list[0].ID != condition.TopicUnchecked ||
		!strings.Contains(list[0].Text, right) {
		t.Errorf("without the right: %+v, %v", list, err)
	}
	if _, err := c.CheckNew(ctx, cfg); err != nil {
		t.Errorf("what may not be asked is refused: %v", err)
	}
}
