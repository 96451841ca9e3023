package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/state"
)

// spreading starts a node with as many shards as its topic has partitions, created over an empty topic: the sample of
// keys has said nothing. It returns when the node judges by the rules of level 2.
func spreading(t *testing.T, shards int) (*cluster, *Node) {
	t.Helper()
	b := nodetest.NewBroker(t, int32(shards))
	c := newCluster(t, b, 1, func(cfg *config.Config) {
		cfg.Cluster.Shards = shards
		cfg.Flush.Interval = 5 * time.Second // what has changed stays in the open epoch for a while
	})
	n := c.start(0)
	nodetest.Until(t, "level 2 in all shards", func() bool {
		list := n.Status().Shards
		for _, s := range list {
			if s.State.Level < level.Real || s.State.Rules.Number == 0 || !s.IsLeader {
				return false
			}
		}
		return len(list) == shards
	})
	return c, n
}

// under makes the record of a session's i-th event, by user 7, under a key and where Java's client puts that.
func under(key, session string, i, partitions int) *kgo.Record {
	r := nodetest.Record(kafka.Murmur2.Partition([]byte(key), int32(partitions)), session, i)
	r.Key = []byte(key)
	return r
}

// spread are the texts of the condition, by shard.
func spread(st *status.Node) map[string]string {
	texts := map[string]string{}
	for _, c := range st.Conditions {
		if c.ID == condition.KeysInDisagreement {
			texts[c.Subject] = c.Text
		}
	}
	return texts
}

// Producers that key records by the event's id spread each session over all shards (field report F11: 160 sessions
// instead of 40, and no warning). It is told while the cluster runs, with an example, and keys that are right are not.
func TestKeysThatAreNoSessionIDsAreTold(t *testing.T) {
	t.Parallel()
	c, n := spreading(t, 6)
	send := func(prefix string, key func(session string, i int) string) {
		var rs []*kgo.Record
		for s := range 40 {
			for i := range 6 {
				session := fmt.Sprintf("%s-%d", prefix, s)
				rs = append(rs, under(key(session, i), session, i, 6))
			}
		}
		c.b.Produce(rs...)
	}
	send("good", func(session string, _ int) string { return session })
	nodetest.Until(t, "all are applied", func() bool { return c.sum(applied) == 240 })
	compared := func(v *state.View) int64 { return v.Keys.Records }
	differ := func(v *state.View) int64 { return v.Keys.Keys + v.Keys.Partitions }
	if got, bad := c.sum(compared), c.sum(differ); got != 200 || bad != 0 {
		t.Errorf("%d records were compared, %d differ", got, bad)
	}
	send("bad", func(session string, i int) string { return fmt.Sprintf("event-%s-%d", session, i) })
	nodetest.Until(t, "it is told", func() bool { st := n.Status(); return len(spread(&st)) > 0 })
	st := n.Status()
	for subject, text := range spread(&st) {
		if !st.Ready || strings.Contains(text, "good") || !strings.Contains(text, "under another key") ||
			!strings.Contains(text, `(session "bad-`) {
			t.Errorf("%s, ready %t: %s", subject, st.Ready, text)
		}
	}
}

// A producer that changes the key at a login mostly moves the session to another shard, and neither shard sees more
// than one key. The replicas of the node know both.
func TestSessionsInTwoShardsAreTold(t *testing.T) {
	t.Parallel()
	c, n := spreading(t, 2)
	shard := func(key string) int32 { return kafka.Murmur2.Partition([]byte(key), 2) }
	told := func() bool { st := n.Status(); return len(spread(&st)) > 0 }
	sent := int64(0)
	send := func(prefix string, round int, login bool) {
		var rs []*kgo.Record
		for s := range 60 {
			session := fmt.Sprintf("%s-%d-%d", prefix, round, s)
			user := fmt.Sprintf("user-%s", session)
			for shard(user) == shard(session) {
				user += "x"
			}
			rs = append(rs, under(session, session, 0, 2))
			if login {
				rs = append(rs, under(user, session, 1, 2))
			}
		}
		sent += int64(len(rs))
		c.b.Produce(rs...)
	}
	send("stays", 0, false)
	nodetest.Until(t, "all are applied", func() bool { return c.sum(applied) == sent })
	for round := 0; !told(); round++ {
		if round == 20 {
			t.Fatal("it is not told")
		}
		send("login", round, true)
		time.Sleep(time.Second)
	}
	if n := c.sum(func(v *state.View) int64 { return v.Keys.Keys + v.Keys.Partitions }); n != 0 {
		t.Errorf("a shard has seen %d records under two keys: the test does not show what it is for", n)
	}
	st := n.Status()
	for subject, text := range spread(&st) {
		if !strings.Contains(text, "sessions that were looked up are in another shard, too") ||
			!strings.Contains(text, `(session "login-`) {
			t.Errorf("%s: %s", subject, text)
		}
	}
}

// Producers that ignore the key, or put it where no usual client does, are told by where the keys are, although no
// session has been seen twice.
func TestKeysInOddPartitionsAreTold(t *testing.T) {
	t.Parallel()
	c, n := spreading(t, 6)
	send := func(prefix string, partition func(key string, i int) int32) {
		var rs []*kgo.Record
		for i := range 1200 {
			session := fmt.Sprintf("%s-%d", prefix, i)
			r := under(session, session, 0, 6)
			r.Partition = partition(session, i)
			rs = append(rs, r)
		}
		c.b.Produce(rs...)
	}
	send("crc", func(key string, _ int) int32 { return kafka.CRC32.Partition([]byte(key), 6) })
	nodetest.Until(t, "all are applied", func() bool { return c.sum(applied) == 1200 })
	time.Sleep(2500 * time.Millisecond) // they are judged each second, those of a shard together
	if st := n.Status(); len(spread(&st)) > 0 {
		t.Errorf("keys that are where librdkafka puts them are told: %v", spread(&st))
	}
	send("robin", func(_ string, i int) int32 { return int32(i % 6) })
	// The first of these records, few as they are, may be where one partitioner or another puts them by chance: then
	// the text names several partitioners until there are more.
	const odd = "are where none of murmur2, CRC32 and FNV-1a puts them ("
	var st status.Node
	nodetest.Until(t, "it is told, with its reason", func() bool {
		st = n.Status()
		told := spread(&st)
		for _, text := range told {
			if !strings.Contains(text, odd) {
				return false
			}
		}
		return len(told) > 0
	})
	for subject, text := range spread(&st) {
		// How many there are of each kind depends on when the intake began to look.
		var looked, explained int
		if _, err := fmt.Sscanf(text, "of %d records with a key, %d are where", &looked, &explained); err != nil ||
			looked < condition.PlacedFew || float64(explained) >= (1+condition.PlacedShare)/2*float64(looked) {
			t.Errorf("%s: %v: %s", subject, err, text)
		}
		if !strings.Contains(text, "of the key would put them, and no other usual partitioner explains more; ") {
			t.Errorf("%s: %s", subject, text)
		}
	}
}
