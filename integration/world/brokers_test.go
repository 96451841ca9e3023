package world

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/integration/services"
	"deckle/sim"
)

// partitions is how many partitions the topic has at first. Each of the three shards reads two of them.
const partitions = 6

// TestThreeBrokers is one long run, since each fault meets the traces of those before it.
func TestThreeBrokers(t *testing.T) {
	w := newWorld(t)
	var err error
	w.brokers, err = services.StartBrokers(w.ctx, w.libs, w.dir, 3)
	t.Cleanup(func() { w.check(w.brokers.Kill()) })
	w.must(err)
	w.connect()
	_, err = w.admin.CreateTopic(w.ctx, partitions, 3, map[string]*string{"min.insync.replicas": new("2"),
		"max.message.bytes": new("2097152")}, topic)
	w.must(err)
	w.cluster = w.deploy("first", topic, 3)
	w.start(true)
	l := newLedger(w, topic)

	step := func(name string, f func(l *ledger)) {
		t.Run(name, func(t *testing.T) { // what has failed before may be the reason why this fails, or not
			inner := *w
			inner.T = t
			l.world = &inner
			defer func() { w.seed, w.runs = inner.seed, inner.runs }()
			f(l)
		})
	}
	step("brokers fail", brokersFail)
	step("broken and trimmed", brokenAndTrimmed)
	step("open transaction", openTransaction)
	step("rights taken", rightsTaken)
	step("compacted", compacted)
	step("added", added)
	step("made anew", madeAnew)
}

// brokersFail moves leaders, kills a broker and freezes another one while all clients produce. Nothing of it is more
// than a delay.
func brokersFail(l *ledger) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.produce(1200, 20)
	}()
	pause := func() { l.must(sim.Pause(l.ctx, 3*time.Second)) }
	pause()
	l.moveLeaders()
	pause()
	l.Log("SIGKILL of broker 1")
	l.must(l.brokers[0].Kafka.Kill())
	pause()
	l.must(l.brokers[0].Up(l.ctx))
	l.inSync()
	l.moveLeaders()
	pause()
	l.Log("SIGSTOP of broker 2")
	l.must(l.brokers[1].Freeze())
	l.must(sim.Pause(l.ctx, 12*time.Second)) // longer than the brokers wait for one another
	l.Log("SIGCONT of broker 2")
	l.must(l.brokers[1].Thaw())
	l.inSync()
	l.moveLeaders()
	<-done
	if l.Failed() {
		l.FailNow()
	}
	l.caughtUp(partitions)
	l.equal()
	l.over("partition-stopped")
	l.over("partition-failing")
}

// brokenAndTrimmed flips a bit in two partitions and trims a third one while Deckle is down. Each of them stands alone:
// the first goes on once the bit is flipped back, the others once their offsets are given up.
func brokenAndTrimmed(l *ledger) {
	const mended, given, trimmed = 1, 3, 5
	l.must(l.cluster.Stop())
	before := l.ends(topic)
	l.produce(200, 100)
	l.follow()
	ends := l.ends(topic)
	_, mend := l.flip(topic, mended, before[mended])
	lost, restore := l.flip(topic, given, before[given])
	// The last record is not needed: where the log ends is not where it begins.
	start := before[trimmed] + (ends[trimmed]-before[trimmed])/2
	l.trim(topic, trimmed, start)
	l.start(false)

	l.told("partition-failing", "partition 1")
	l.told("partition-failing", "partition 3")
	l.told("partition-stopped", "partition 5")
	l.caughtUp(partitions, mended, given, trimmed)
	// What comes before the last record has been compared is read again once a probe has shown that it can be.
	l.until("what lies before the broken batch is applied", time.Minute, func() (bool, any) {
		p := l.partitions()[given]
		return p.Next != nil && *p.Next == lost.from, p
	})
	if n := len(l.conditions("partition-failing")) + len(l.conditions("partition-stopped")); n != 3 {
		l.Errorf("%d partitions fail or are stopped, not 3", n)
	}

	mend()
	l.caughtUp(partitions, given, trimmed)
	l.skip(given, lost.from, lost.to)
	l.caughtUp(partitions, trimmed)
	out, err := l.deckle("partitions", "resume", "--config", l.cluster.Nodes[0].Config, "--partition", "5")
	l.Logf("resume without a cause that is gone: %v, %s", err, out)
	l.told("partition-stopped", "partition 5")
	l.skip(trimmed, before[trimmed], start)
	l.caughtUp(partitions)
	l.over("partition-failing")
	l.over("partition-stopped")
	restore()
	l.equal()
}

// openTransaction holds records back behind a transaction of somebody else. They are no lag, but a figure of its own;
// once it is aborted they come, and what was in it never does.
func openTransaction(l *ledger) {
	const held = 2
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(l.brokers.Addr(), ",")...),
		kgo.DefaultProduceTopic(topic), kgo.TransactionalID("somebody"), kgo.TransactionTimeout(5*time.Minute),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	l.must(err)
	defer client.Close()
	in := func(end kgo.TransactionEndTry, wait func()) {
		l.must(client.BeginTransaction())
		records := l.records(20, 100, sim.Faults{})
		for _, rec := range records {
			l.must(client.ProduceSync(l.ctx, &kgo.Record{Partition: held, Key: rec.Key, Value: rec.Value}).FirstErr())
			if end == kgo.TryAbort {
				delete(l.made, string(rec.Value))
			}
		}
		wait()
		l.must(client.EndTransaction(l.ctx, end))
	}
	in(kgo.TryCommit, func() {})
	in(kgo.TryAbort, func() {
		l.produce(50, 100)
		l.caughtUp(partitions)
		l.until("the records behind the transaction have a figure", time.Minute, func() (bool, any) {
			all := l.partitions()
			p := all[held]
			return p.Held != nil && *p.Held > 20, all
		})
		l.until("the open transaction is told", time.Minute, func() (bool, any) {
			all := l.conditions("transaction-open")
			return len(all) > 0, all
		})
	})
	l.until("nothing is held back", time.Minute, func() (bool, any) {
		p := l.partitions()[held]
		return p.Held != nil && *p.Held == 0, p
	})
	l.caughtUp(partitions)
	l.over("transaction-open")
	l.equal()
}

// rightsTaken takes the right to read the topic, then that to write dead letters. Both are named, and both pass.
func rightsTaken(l *ledger) {
	list := func(topic string, op kadm.ACLOperation) *kadm.ACLBuilder {
		return kadm.NewACLs().Topics(topic).Allow("User:nobody").AllowHosts("*").Operations(op).
			ResourcePatternType(kadm.ACLPatternLiteral)
	}
	take := func(topic string, op kadm.ACLOperation) (giveBack func()) {
		made, err := l.admin.CreateACLs(l.ctx, list(topic, op))
		l.must(err)
		for _, r := range made {
			l.must(r.Err)
		}
		return func() {
			gone, err := l.admin.DeleteACLs(l.ctx, list(topic, op))
			l.must(err)
			for _, r := range gone {
				l.must(r.Err)
			}
			l.allowed(topic)
		}
	}
	giveBack := take(topic, kadm.OpRead)
	l.until("the missing right to read is told", time.Minute, func() (bool, any) {
		for _, id := range []string{"source-failing", "partition-failing"} {
			for _, text := range l.conditions(id) {
				if strings.Contains(text, `Read on topic "`+topic+`"`) {
					return true, text
				}
			}
		}
		return false, l.statuses()
	})
	giveBack()
	l.produce(50, 100)
	l.caughtUp(partitions)
	l.over("source-failing")
	l.over("partition-failing")

	giveBack = take(topic+".dlq", kadm.OpRead)
	l.produce(100, 100)
	l.until("the missing right to write letters is told", time.Minute, func() (bool, any) {
		all := l.conditions("sink-failing")
		for subject, text := range all {
			if strings.Contains(subject, "deadletter") && strings.Contains(text, `Write on topic "`+topic+`.dlq"`) {
				return true, text
			}
		}
		return false, all
	})
	truth, dead := l.truth()
	l.verify(truth)
	giveBack()
	l.over("sink-failing")
	l.letters(dead)
	l.equal()
}

// allowed waits until every broker lets clients see a topic: each learns of a change of rights by itself.
func (w *world) allowed(topic string) {
	w.Helper()
	w.until("all brokers allow "+topic, time.Minute, func() (bool, any) {
		for _, b := range w.brokers {
			req := kmsg.NewPtrMetadataRequest()
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = &topic
			req.Topics = append(req.Topics, t)
			resp, err := req.RequestWith(w.ctx, w.client.Broker(int(b.ID)))
			if err != nil {
				return false, err
			}
			for _, t := range resp.Topics {
				if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
					return false, fmt.Errorf("broker %d: %w", b.ID, err)
				}
			}
		}
		return true, nil
	})
}

// compacted switches the topic to compaction. No new cluster is created over it; one that runs says so.
func compacted(l *ledger) {
	set := func(policy string) {
		answers, err := l.admin.AlterTopicConfigs(l.ctx, []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}},
			topic)
		l.must(err)
		for _, r := range answers {
			l.must(r.Err)
		}
	}
	set("compact")
	other := l.deploy("refused", topic, 1)
	if out, err := l.deckle("run", "--check", "--config", other.Nodes[0].Config); err == nil ||
		!strings.Contains(out, "cleanup.policy=compact") {
		l.Errorf("a new cluster over a compacted topic: %v, %s", err, out)
	}
	l.must(l.cluster.Nodes[0].Stop(30 * time.Second)) // a node asks at its start, and every ten minutes
	l.must(l.cluster.Nodes[0].Start())
	l.told("topic-compacted", "topic "+topic, "compact")
	set("delete")
	l.must(l.cluster.Nodes[0].Stop(30 * time.Second))
	l.must(l.cluster.Nodes[0].Start())
	l.over("topic-compacted")
	l.produce(50, 100)
	l.caughtUp(partitions)
	l.equal()
}

// added adds a partition. The cluster does not read it and says so; the others go on. A new cluster reads all of them.
func added(l *ledger) {
	// A request that is repeated, because its answer took too long, is refused: the partition is there already.
	l.until("the partition is added", time.Minute, func() (bool, any) {
		answers, err := l.admin.UpdatePartitions(l.ctx, partitions+1, topic)
		ts, listErr := l.admin.ListTopics(l.ctx, topic)
		return listErr == nil && len(ts[topic].Partitions) == partitions+1, errors.Join(err, answers.Error(), listErr)
	})
	l.told("partition-unread", "partition 6")
	sendTo := func(p int32, records []*sim.Record) {
		l.must(l.send(records, 1000, kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(
			func(string) func(*kgo.Record, int) int {
				return func(*kgo.Record, int) int { return int(p) }
			}))))
	}
	sendTo(partitions, l.records(200, 1000, sim.Faults{}))
	sendTo(0, l.records(200, 1000, sim.Faults{}))
	l.caughtUp(partitions + 1)
	l.until("the added partition's lag is told", time.Minute, func() (bool, any) { // by the next listing of ends
		p := l.partitions()[partitions]
		return p.Next == nil && p.Lag != nil && *p.Lag >= 200, p
	})
	l.equal(partitions)

	old := l.cluster
	l.cluster = l.deploy("second", topic, 1)
	l.start(true)
	again := newLedger(l.world, topic)
	again.follow()
	for _, log := range again.log { // what was trimmed is not there any more
		for _, r := range log {
			again.made[string(r.Value)] = l.made[string(r.Value)]
		}
	}
	l.caughtUp(partitions + 1)
	truth, _ := again.truth()
	l.verify(truth)
	l.must(l.cluster.Stop())
	l.cluster = old
}

// madeAnew deletes the topic and creates it again. The cluster stops, and reads nothing of the new one.
func madeAnew(l *ledger) {
	truth, _ := l.truth(partitions)
	before := l.statuses()[0].Totals.Applied
	answers, err := l.admin.DeleteTopics(l.ctx, topic)
	l.must(err)
	l.must(answers.Error())
	l.until("the topic is gone", time.Minute, func() (bool, any) {
		ts, err := l.admin.ListTopics(l.ctx, topic)
		return err == nil && !ts.Has(topic), ts
	})
	l.until("told that the topic is gone", time.Minute, func() (bool, any) {
		return len(l.conditions("source-failing"))+len(l.conditions("partition-failing"))+
			len(l.conditions("partition-stopped"))+len(l.conditions("shard-stopped")) > 0, l.statuses()
	})
	_, err = l.admin.CreateTopic(l.ctx, partitions, 3, map[string]*string{"min.insync.replicas": new("2")}, topic)
	l.must(err)
	fresh := newLedger(l.world, topic)
	l.must(fresh.send(fresh.records(500, 1000, sim.Faults{}), 1000))
	l.until("told that the topic is another one", time.Minute, func() (bool, any) {
		told := 0
		for _, id := range []string{"partition-stopped", "shard-stopped", "source-failing"} {
			for _, text := range l.conditions(id) {
				if strings.Contains(text, "created again") {
					told++
				}
			}
		}
		return told > 0, l.statuses()
	})
	l.must(sim.Pause(l.ctx, 5*time.Second))
	if now := l.statuses()[0].Totals.Applied; now != before {
		l.Errorf("%d records were applied before, %d now", before, now)
	}
	l.verify(truth)
}

// TestZooKeeper runs one node over a broker that keeps its metadata in ZooKeeper, which is killed and trimmed.
func TestZooKeeper(t *testing.T) {
	w := newWorld(t)
	keeper, brokers, err := services.StartZooKeeperBroker(w.ctx, w.libs, filepath.Join(w.dir, "kafka"))
	w.brokers = brokers
	t.Cleanup(func() {
		w.check(w.brokers.Kill())
		if keeper != nil {
			w.check(keeper.Kill())
		}
	})
	w.must(err)
	w.connect()
	_, err = w.admin.CreateTopic(w.ctx, partitions, 1, map[string]*string{"max.message.bytes": new("2097152")}, topic)
	w.must(err)
	w.cluster = w.deploy("zookeeper", topic, 1)
	w.start(true)
	l := newLedger(w, topic)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.produce(300, 20)
	}()
	w.must(sim.Pause(w.ctx, 3*time.Second))
	w.must(w.brokers[0].Kafka.Kill())
	w.must(sim.Pause(w.ctx, 2*time.Second))
	w.must(w.brokers[0].Up(w.ctx))
	<-done
	if t.Failed() {
		t.FailNow()
	}
	l.caughtUp(partitions)
	l.equal()

	w.must(w.cluster.Stop())
	before := w.ends(topic)
	l.produce(50, 100)
	l.follow()
	w.trim(topic, 0, before[0]+5)
	w.start(false)
	w.told("partition-stopped", "partition 0")
	w.caughtUp(partitions, 0)
	l.skip(0, before[0], before[0]+5)
	w.caughtUp(partitions)
	l.equal()

	// The comparison can fail: with the records that were given up it must.
	l.gaps = nil
	path, _ := l.truth()
	out, err := l.deckle("verify", "--config", l.cluster.Nodes[0].Config, "--truth", path, "--wait", "0s")
	if err == nil || !strings.Contains(out, "lost") {
		t.Errorf("records that were given up are not missed: %v\n%s", err, out)
	}
}
