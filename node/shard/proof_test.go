package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/nodetest"
	"deckle/schema/level"
	"deckle/state"
)

// comparisons is an intake of two partitions whose comparisons the test answers. The last record that was applied of
// both stands at offset 9.
type comparisons struct {
	*intake
	t     *testing.T
	asked [][]kafka.Known
	tell  func(kafka.Verdict)
	now   time.Time
}

const lastHash = 4711

func newComparisons(t *testing.T) *comparisons {
	t.Helper()
	b := nodetest.NewBroker(t, 2)
	for range 10 {
		b.Produce(nodetest.Record(0, "s", 0), nodetest.Record(1, "s", 0))
	}
	cl, err := kafka.Open(&config.Kafka{Topic: nodetest.Topic}, "test", kafka.Secure{}, nodetest.Log(t), b.Opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	in, _ := newTestIntake(t)
	c := &comparisons{intake: in, t: t, now: time.Now()}
	in.Kafka, in.Now = cl, func() time.Time { return c.now }
	in.level, in.order, in.verdicts = level.Real, []int32{0, 1}, make(chan kafka.Verdict, 2)
	var at []state.PartitionStatus
	for _, id := range in.order {
		in.parts[id] = &partition{id: id, next: 10, applied: 10, epoch: 3, proof: proof{offset: 9, hash: lastHash}}
		at = append(at, state.PartitionStatus{Partition: id, Next: 10, LeaderEpoch: -1})
	}
	if in.src, err = cl.OpenSource(nodetest.Context(t), [16]byte{}, at, 1<<20, 64<<20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.src.Close)
	in.startWork = func(f func(context.Context)) { f(t.Context()) }
	in.compare = func(_ context.Context, _ [16]byte, known []kafka.Known, tell func(kafka.Verdict)) {
		c.asked, c.tell = append(c.asked, known), tell
	}
	return c
}

// comes hands records to the intake, as the source does, which came by a connection and have a leader epoch.
func (c *comparisons) comes(partition int32, connection uint64, epoch int32, offsets ...int64) {
	c.t.Helper()
	p := c.parts[partition]
	part := kafka.Part{Partition: partition, Gen: p.gen, From: c.accepted(p), LogStart: -1, End: -1,
		Connection: connection}
	for _, o := range offsets {
		part.Records = append(part.Records, &kgo.Record{Partition: partition, Offset: o, Key: []byte("s"),
			Value: nodetest.EventJSON("s", int(o), "search"), LeaderEpoch: epoch})
	}
	if err := c.accept(&kafka.Chunk{Parts: []kafka.Part{part}}); err != nil {
		c.t.Fatal(err)
	}
	c.fill()
}

// answer gives a verdict.
func (c *comparisons) answer(partition int32, err error) {
	c.tell(kafka.Verdict{Partition: partition, Err: err, Epoch: 3})
	v := <-c.verdicts
	c.compared(&v)
	c.fill()
}

func (c *comparisons) at(partition int32, next int64, what string) {
	c.t.Helper()
	if got := c.parts[partition].next; got != next {
		c.t.Errorf("%s: partition %d is read up to %d, want %d", what, partition, got, next)
	}
}

// times checks how often it was asked, and for which partitions the last time.
func (c *comparisons) times(n int, what string, last ...int32) {
	c.t.Helper()
	var of []int32
	if len(c.asked) > 0 {
		for _, k := range c.asked[len(c.asked)-1] {
			of = append(of, k.Partition)
		}
	}
	if len(c.asked) != n || !slices.Equal(of, last) {
		c.t.Errorf("%s: compared %d times, want %d, the last time %v, want %v", what, len(c.asked), n, of, last)
	}
}

func (c *comparisons) condition(id condition.ID, partition int32) string {
	found, _ := c.cond.now().Get(id, partName(partition))
	return found.Text
}

// Nothing of a partition is taken before its last record has been compared: one comparison for all partitions, and the
// verdict on one lets that one go on. What came meanwhile comes in order.
func TestNothingIsReadBeforeItIsCompared(t *testing.T) {
	c := newComparisons(t)
	c.comes(0, 0, 3, 10, 11)
	c.times(1, "the first records", 0, 1)
	if k := c.asked[0][0]; k != (kafka.Known{Partition: 0, Offset: 9, Hash: lastHash, Next: 10}) {
		t.Errorf("compared is %+v", k)
	}
	c.comes(0, 0, 3, 12)
	c.comes(1, 0, 3, 10)
	c.times(1, "while one is under way", 0, 1)
	c.at(0, 10, "before the verdict")
	if p := c.parts[0]; p.isIdle(c.now, 0, 0) || p.proof.proven() {
		t.Error("it counts as idle, or as proven")
	}
	c.answer(1, nil)
	c.at(1, 11, "the verdict on it")
	c.at(0, 10, "the verdict on another one")
	c.answer(0, nil)
	c.at(0, 13, "the verdict on it")
	c.comes(0, 0, 3, 13)
	c.comes(1, 0, 3, 11)
	c.at(0, 14, "afterwards")
	c.at(1, 12, "afterwards")
	c.times(1, "afterwards", 0, 1)
	// Without records, too: an operator wants to know before the first one comes.
	c = newComparisons(t)
	c.beginComparing(c.now)
	c.times(1, "no records", 0, 1)
	c.beginComparing(c.now)
	c.times(1, "no records, the next look", 0, 1)
}

// Where no record is known there is nothing to compare: a new cluster, one whose state is of level 1, and a partition
// of which an operator has accepted what there is.
func TestNothingToCompare(t *testing.T) {
	c := newComparisons(t)
	c.parts[0].proof, c.parts[1].proof = proof{}, proof{}
	c.beginComparing(c.now)
	c.comes(0, 5, 9, 10, 11)
	c.at(0, 12, "no hash")
	c.times(0, "no hash")
	// From then on one is known.
	c.comes(0, 5, 9, 12)
	c.at(0, 12, "one is known")
	c.times(1, "one is known", 0)
	if k := c.asked[0][0]; k.Offset != 11 || k.Next != 12 || k.Hash == 0 {
		t.Errorf("compared is %+v", k)
	}
}

// Whenever a partition has a new leader epoch, or comes by a new connection, its last record is compared again: the one
// that was taken last, proposed or not, and no transaction marker.
func TestComparedAgain(t *testing.T) {
	for _, again := range []struct {
		name       string
		connection uint64
		epoch      int32
	}{{"another leader", 0, 4}, {"another connection", 1 << 40, 3}} {
		t.Run(again.name, func(t *testing.T) {
			c := newComparisons(t)
			c.beginComparing(c.now)
			c.answer(0, nil)
			c.answer(1, nil)
			c.comes(0, 0, 3, 10)
			marker := &kgo.Record{Offset: 11, LeaderEpoch: 3,
				Attrs: kgo.NewRecordAttrs(kgo.RecordAttrsOpts{Control: true})}
			c.accept1(kafka.Part{Partition: 0, From: 11, LogStart: -1, Records: []*kgo.Record{marker}})
			last := c.cur.parts[0].record
			c.comes(0, again.connection, again.epoch, 12)
			c.times(2, "it has changed", 0)
			want := kafka.Known{Partition: 0, Offset: 10, Hash: event.HashRecord(10, last.Key, last.Value), Next: 12}
			if k := c.asked[1][0]; k != want {
				t.Errorf("compared is %+v, want %+v", k, want)
			}
			c.at(0, 12, "before the verdict")
			c.comes(1, 0, 3, 10)
			c.at(1, 11, "the other partition")
		})
	}
}

// Another record than the one that was read stops the partition, and it alone, before any record that follows has been
// taken. The text says what was found, and the ways out.
func TestReplacedRecordStopsThePartition(t *testing.T) {
	c := newComparisons(t)
	c.comes(0, 0, 3, 10)
	c.comes(1, 0, 3, 10)
	c.answer(0, fmt.Errorf("%w: another record stands at offset 9", kafka.ErrReplaced))
	c.answer(1, nil)
	c.at(0, 10, "replaced")
	c.at(1, 11, "the other one")
	why := c.condition(condition.PartitionStopped, 0)
	for _, says := range []string{"offset 9", "resume --partition 0", "skip --partition 0 --to 10", "new cluster",
		"restored from a backup"} {
		if !strings.Contains(why, says) {
			t.Errorf("the text does not say %q: %s", says, why)
		}
	}
	c.comes(0, 0, 3, 10)
	c.beginComparing(c.now.Add(time.Hour))
	c.at(0, 10, "stopped")
	c.times(1, "stopped", 0, 1)
}

// A log that ends before what was read may be that of a leader that does not know yet how far it is. After some time it
// is a fact.
func TestShortLogStopsThePartition(t *testing.T) {
	c := newComparisons(t)
	short := fmt.Errorf("%w: it ends at offset 5", kafka.ErrShort)
	c.comes(0, 0, 3, 10)
	c.answer(1, nil)
	for i := range shortListings {
		if why := c.condition(condition.PartitionStopped, 0); why != "" {
			t.Fatalf("stopped after %d: %s", i, why)
		}
		if i > 0 {
			c.now = c.now.Add(2 * probeMost)
			c.beginComparing(c.now)
		}
		c.answer(0, short)
	}
	c.times(shortListings, "short", 0)
	if why := c.condition(condition.PartitionStopped, 0); !strings.Contains(why, "ends at offset 5") ||
		!strings.Contains(why, "skip --partition 0 --to 10") || c.condition(condition.PartitionFailing, 0) != "" {
		t.Errorf("stopped: %s", why)
	}
	c.at(0, 10, "short")
}

// What cannot be compared now is failing, and is compared again: nothing of it is taken before that. Then it is read
// again from where it stood.
func TestComparisonThatFails(t *testing.T) {
	c := newComparisons(t)
	c.comes(0, 0, 3, 10)
	c.answer(1, nil)
	c.answer(0, errors.New("no answer"))
	if why := c.condition(condition.PartitionFailing, 0); !strings.Contains(why, "no answer") ||
		!strings.Contains(why, "skip --partition 0 --to 10") {
		t.Errorf("failing: %s", why)
	}
	c.comes(0, 0, 3, 10)
	c.at(0, 10, "failing")
	c.beginComparing(c.now)
	c.times(1, "too early", 0, 1)
	c.now = c.now.Add(2 * probeMost)
	c.retryFailing(c.now)
	if c.probe != nil {
		t.Error("a probe reads it, which proves nothing")
	}
	c.beginComparing(c.now)
	c.times(2, "it is due", 0)
	c.answer(0, nil)
	if why := c.condition(condition.PartitionFailing, 0); why != "" || c.parts[0].gen != 1 {
		t.Errorf("generation %d, failing: %s", c.parts[0].gen, why)
	}
	c.comes(0, 0, 3, 10)
	c.at(0, 11, "it goes on")
}

// A partition that returns from failing is compared before it is read again.
func TestComparedAfterFailing(t *testing.T) {
	c := newComparisons(t)
	c.beginComparing(c.now)
	c.answer(0, nil)
	c.answer(1, nil)
	c.fail(c.parts[0], errors.New("a broken batch"))
	c.beginComparing(c.now.Add(time.Hour))
	c.times(1, "it cannot be read", 0, 1)
	c.readable(c.parts[0], c.now)
	if c.parts[0].failing == nil || c.parts[0].gen != 0 {
		t.Fatal("it is read again at once")
	}
	c.beginComparing(c.now)
	c.times(2, "a probe has read it", 0)
	c.answer(0, fmt.Errorf("%w: offset 9", kafka.ErrReplaced))
	if why := c.condition(condition.PartitionStopped, 0); why == "" || c.parts[0].gen != 0 {
		t.Errorf("generation %d, stopped: %s", c.parts[0].gen, why)
	}
}

// accept1 hands over one part as it is.
func (c *comparisons) accept1(part kafka.Part) {
	c.t.Helper()
	if err := c.accept(&kafka.Chunk{Parts: []kafka.Part{part}}); err != nil {
		c.t.Fatal(err)
	}
	c.fill()
}
