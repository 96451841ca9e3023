package kafka

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/event"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sim/testworld/badbatch"
	"deckle/sinks/rights"
)

// knownOf is what is known of a partition whose last record is r.
func knownOf(r *kgo.Record) Known {
	return Known{Partition: r.Partition, Offset: r.Offset, Hash: event.HashRecord(r.Offset, r.Key, r.Value),
		Next: r.Offset + 1}
}

// verdicts compares, and returns the verdict on each partition.
func verdicts(t *testing.T, c *Client, id [16]byte, known ...Known) map[int32]Verdict {
	t.Helper()
	var mu sync.Mutex
	all := map[int32]Verdict{}
	c.Compare(nodetest.Context(t), id, known, func(v Verdict) {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := all[v.Partition]; ok {
			t.Errorf("partition %d has two verdicts", v.Partition)
		}
		all[v.Partition] = v
	})
	if len(all) != len(known) {
		t.Fatalf("%d verdicts on %d partitions", len(all), len(known))
	}
	return all
}

// verdict compares one partition.
func verdict(t *testing.T, c *Client, k Known) error {
	t.Helper()
	return verdicts(t, c, [16]byte{}, k)[k.Partition].Err
}

// proven tells whether a comparison shows the record itself, and all up to the next offset.
func proven(t *testing.T, c *Client, k Known) bool {
	t.Helper()
	return verdicts(t, c, [16]byte{}, k)[k.Partition].Same
}

// opened is a client as a node opens it.
func opened(t *testing.T, opts []kgo.Opt) *Client {
	t.Helper()
	c, err := Open(&config.Kafka{Topic: nodetest.Topic}, "test", Secure{}, nodetest.Log(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// records produces n records, a batch each, and returns them.
func records(b *nodetest.Broker, partition int32, n int) (rs []*kgo.Record) {
	for i := range n {
		r := nodetest.Record(partition, "s", i)
		b.Produce(r)
		rs = append(rs, r)
	}
	return rs
}

// The same record at the same offset is nothing to be told of; another one, or a log that ends before it, is. What
// retention has removed proves nothing: a broker may always remove what is old.
func TestCompareRecord(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	rs := records(b, 0, 10)
	c := clientOf(b)
	is := func(what string, k Known, want error) {
		t.Helper()
		if err := verdict(t, c, k); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	is("the last record", knownOf(rs[9]), nil)
	is("one in the middle of the log", knownOf(rs[4]), nil)
	other := knownOf(rs[9])
	other.Hash++
	is("another record", other, ErrReplaced)
	moved := knownOf(rs[8])
	moved.Offset, moved.Next = 9, 10
	is("the record of another offset", moved, ErrReplaced)
	is("the record would be the next one", Known{Offset: 10, Hash: 1, Next: 11}, ErrShort)
	is("the log is much shorter", Known{Offset: 500, Hash: 1, Next: 501}, ErrShort)
	cut := knownOf(rs[9])
	cut.Next = 12
	is("a marker behind it is lost", cut, ErrShort)
	if err := b.DeleteRecords(nodetest.Topic, 0, 5); err != nil {
		t.Fatal(err)
	}
	gone := knownOf(rs[4])
	gone.Hash++
	is("retention has removed it", gone, nil)
	is("one that is still there", knownOf(rs[5]), nil)
	if err := b.DeleteRecords(nodetest.Topic, 0, 10); err != nil {
		t.Fatal(err)
	}
	is("retention has removed everything", knownOf(rs[9]), nil)
}

// A record without a value, or without a key, is a record as others are.
func TestCompareTombstone(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	null := &kgo.Record{Key: []byte("s")}
	keyless := &kgo.Record{Value: []byte("{}")}
	b.Produce(null, keyless)
	c := clientOf(b)
	if err := verdict(t, c, knownOf(null)); err != nil {
		t.Errorf("a record without a value: %v", err)
	}
	if err := verdict(t, c, knownOf(keyless)); err != nil {
		t.Errorf("a record without a key: %v", err)
	}
	empty := knownOf(null)
	empty.Hash = event.HashRecord(null.Offset, null.Key, []byte{})
	if err := verdict(t, c, empty); !errors.Is(err, ErrReplaced) {
		t.Errorf("an empty value where none was: %v", err)
	}
}

// Markers and aborted records behind the last record are no records; whatever else stands there now is: it took the
// place of what was passed. Otherwise a log that was cut just behind the last record, and written again, would lose as
// many records as there were markers and aborted ones.
func TestCompareTransactions(t *testing.T) {
	b := nodetest.NewBroker(t, 3)
	transact := b.Transactional()
	committed := nodetest.Record(0, "s", 1)
	transact(kgo.TryCommit, committed)
	transact(kgo.TryAbort, nodetest.Record(0, "s", 2), nodetest.Record(0, "s", 3))
	b.Produce(nodetest.Record(0, "s", 4))
	// 0 committed, 1 marker, 2 and 3 aborted, 4 marker, 5
	c := clientOf(b)
	k := knownOf(committed)
	for _, next := range []int64{1, 2, 5} {
		k.Next = next
		if err := verdict(t, c, k); err != nil {
			t.Errorf("up to %d: %v", next, err)
		}
		if !proven(t, c, k) {
			t.Errorf("up to %d: nothing but markers and aborted records follow, and that is no proof", next)
		}
	}
	k.Next = 6
	if err := verdict(t, c, k); !errors.Is(err, ErrReplaced) {
		t.Errorf("a committed record stands where none was: %v", err)
	}
	marker := Known{Offset: 1, Hash: 1, Next: 2}
	if err := verdict(t, c, marker); !errors.Is(err, ErrReplaced) || !strings.Contains(err.Error(), "marker") {
		t.Errorf("a marker stands where a record was: %v", err)
	}
	aborted := Known{Offset: 2, Hash: 1, Next: 3}
	if err := verdict(t, c, aborted); !errors.Is(err, ErrReplaced) {
		t.Errorf("an aborted record stands where another one was: %v", err)
	}
	// Nothing but aborted records behind the last one: the log's end is a marker.
	last := nodetest.Record(1, "s", 1)
	b.Produce(last)
	transact(kgo.TryAbort, nodetest.Record(1, "s", 2))
	k = knownOf(last)
	k.Next = 3
	if err := verdict(t, c, k); err != nil {
		t.Errorf("the log ends with an aborted transaction: %v", err)
	}
	// What stands behind the last record is retained, the record itself is not.
	if err := b.DeleteRecords(nodetest.Topic, 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := verdict(t, c, k); err != nil {
		t.Errorf("retention has removed the last record, and not what is behind it: %v", err)
	}
	if proven(t, c, k) {
		t.Error("retention has removed the last record, and its place is a proof")
	}
	rs := records(b, 2, 3)
	if err := b.DeleteRecords(nodetest.Topic, 2, 1); err != nil {
		t.Fatal(err)
	}
	k = knownOf(rs[0])
	k.Next = 3
	if err := verdict(t, c, k); !errors.Is(err, ErrReplaced) {
		t.Errorf("records stand behind the one that retention has removed: %v", err)
	}
}

// What compaction has removed proves nothing.
func TestCompareCompacted(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	if err := b.DeleteTopic(nodetest.Topic); err != nil {
		t.Fatal(err)
	}
	err := b.CreateTopic(nodetest.Topic, 1, map[string]string{"cleanup.policy": "compact", "segment.bytes": "200",
		"min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "0"})
	if err != nil {
		t.Fatal(err)
	}
	b.Out.ForceMetadataRefresh()
	rs := records(b, 0, 8) // of one key
	b.Compact()
	c := clientOf(b)
	k := knownOf(rs[3])
	k.Hash++
	if err := verdict(t, c, k); err != nil {
		t.Errorf("compaction has removed it: %v", err)
	}
	if proven(t, c, k) {
		t.Error("compaction has removed it, and its place is a proof")
	}
	if err := verdict(t, c, knownOf(rs[7])); err != nil {
		t.Errorf("the last record of its key: %v", err)
	}
	if !proven(t, c, knownOf(rs[7])) {
		t.Error("the last record of its key is no proof")
	}
}

// All partitions of a broker are compared by one request, also where there is more than one request can bring.
func TestCompareManyPartitions(t *testing.T) {
	b := nodetest.NewBroker(t, 12)
	var known []Known
	for p := range int32(12) {
		rs := records(b, p, 3)
		known = append(known, knownOf(rs[2]))
	}
	c := clientOf(b)
	if _, err := c.Describe(nodetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	var fetches, all atomic.Int32
	b.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		if req.Key() == int16(kmsg.Fetch) {
			fetches.Add(1)
		}
		all.Add(1)
		b.KeepControl()
		return nil, nil, false
	})
	known[5].Hash++
	for p, v := range verdicts(t, c, [16]byte{}, known...) {
		if (p == 5) != errors.Is(v.Err, ErrReplaced) || p != 5 && v.Err != nil || v.Epoch < 0 {
			t.Errorf("partition %d: %+v", p, v)
		}
	}
	if n := fetches.Load(); n != 1 || all.Load() > 2 { // and perhaps versions, for a connection of its own
		t.Errorf("%d fetches, %d requests", n, all.Load())
	}
	// Batches of more bytes than all of them may have together.
	noise := make([]byte, 900<<10)
	for p := range known {
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		r := &kgo.Record{Partition: int32(p), Key: []byte("s"), Value: slices.Clone(noise)}
		b.Produce(r)
		known[p] = knownOf(r)
	}
	for p, v := range verdicts(t, c, [16]byte{}, known...) {
		if v.Err != nil {
			t.Errorf("partition %d: %v", p, v.Err)
		}
	}
}

// A topic that was made anew is told from one whose log was replaced: no offset of it means anything.
func TestCompareAnotherTopic(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	rs := records(b, 0, 2)
	c := clientOf(b)
	info, err := c.Describe(nodetest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if v := verdicts(t, c, info.ID, knownOf(rs[1]))[0]; v.Err != nil {
		t.Fatal(v.Err)
	}
	if err := b.DeleteTopic(nodetest.Topic); err != nil {
		t.Fatal(err)
	}
	if err := b.CreateTopic(nodetest.Topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	if v := verdicts(t, c, info.ID, knownOf(rs[1]))[0]; !errors.Is(v.Err, ErrRecreated) {
		t.Errorf("%v", v.Err)
	}
}

// What cannot be read proves nothing, neither that the log is the same nor that it is not.
func TestCompareUnreadable(t *testing.T) {
	undecided := func(t *testing.T, err error) {
		t.Helper()
		if err == nil || errors.Is(err, ErrReplaced) || errors.Is(err, ErrShort) || errors.Is(err, ErrRecreated) {
			t.Errorf("the verdict is: %v", err)
		}
	}
	for name, damage := range map[string]badbatch.Damage{"flipped bit": badbatch.Flip, "codec": badbatch.Codec,
		"not what its codec says": badbatch.Packed, "version": badbatch.Magic, "garbage": badbatch.Garbage} {
		t.Run(name, func(t *testing.T) {
			b := nodetest.NewBroker(t, 2)
			rs := records(b, 0, 4)
			fine := records(b, 1, 1)[0]
			var broken badbatch.Broken
			c := opened(t, through(b, &broken))
			broken.Spoil(0, 3, damage)
			all := verdicts(t, c, [16]byte{}, knownOf(rs[3]), knownOf(fine))
			undecided(t, all[0].Err)
			if all[1].Err != nil {
				t.Errorf("the other partition: %v", all[1].Err)
			}
			// What lies behind the record has not been read yet.
			if err := verdict(t, c, knownOf(rs[2])); err != nil {
				t.Errorf("the batch behind the record is broken: %v", err)
			}
			broken.Mend(0)
			if err := verdict(t, c, knownOf(rs[3])); err != nil {
				t.Errorf("mended: %v", err)
			}
		})
	}
	b := nodetest.NewBroker(t, 1)
	rs := records(b, 0, 2)
	for _, e := range []*kerr.Error{kerr.UnknownServerError, kerr.KafkaStorageError, kerr.TopicAuthorizationFailed} {
		c := clientOf(b)
		f := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: nodetest.Topic, Err: e, Count: -1})
		err := verdict(t, c, knownOf(rs[1]))
		undecided(t, err)
		if (e == kerr.TopicAuthorizationFailed) != rights.Missing(err) {
			t.Errorf("%s: a right is missing: %v", e.Message, err)
		}
		f.Remove()
	}
	// A leader that has just changed is asked for again.
	f := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: nodetest.Topic, Err: kerr.NotLeaderForPartition,
		Count: 2})
	defer f.Remove()
	if err := verdict(t, clientOf(b), knownOf(rs[1])); err != nil || f.Hits() != 2 {
		t.Errorf("a new leader: %v after %d errors", err, f.Hits())
	}
}

// A broker that does not answer is no proof, and holds up the partitions of no other one.
func TestCompareSlowBroker(t *testing.T) {
	k, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(2, nodetest.Topic))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for p := range int32(2) {
		if err := k.MoveTopicPartition(nodetest.Topic, p, p); err != nil {
			t.Fatal(err)
		}
	}
	opts := []kgo.Opt{kgo.SeedBrokers(k.ListenAddrs()...)}
	out, err := kgo.NewClient(append(slices.Clip(opts), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DefaultProduceTopic(nodetest.Topic))...)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	rs := []*kgo.Record{nodetest.Record(0, "s", 1), nodetest.Record(1, "s", 1)}
	if err := out.ProduceSync(nodetest.Context(t), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	c := opened(t, opts)
	if _, err := c.Describe(nodetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	k.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		if k.CurrentNode() == 1 {
			k.SleepControl(func() { <-release })
		}
		return nil, nil, false
	})
	defer close(release)
	c.quiet = 2 * time.Second
	began := time.Now()
	var first time.Duration
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	defer cancel()
	var mu sync.Mutex
	told := map[int32]error{}
	c.Compare(ctx, [16]byte{}, []Known{knownOf(rs[0]), knownOf(rs[1])}, func(v Verdict) {
		mu.Lock()
		defer mu.Unlock()
		if told[v.Partition] = v.Err; v.Partition == 0 {
			first = time.Since(began)
		}
	})
	if told[0] != nil || first >= c.quiet {
		t.Errorf("the broker that answers: %v after %v", told[0], first)
	}
	if err := told[1]; err == nil || errors.Is(err, ErrReplaced) || errors.Is(err, ErrShort) {
		t.Errorf("the broker that does not: %v", err)
	}
	if took := time.Since(began); took < c.quiet {
		t.Errorf("it had %v to answer", took)
	}
}

// What was not looked at is no proof, whatever the reason: a broker that gives nothing, or retention that overtakes the
// comparison behind the record.
func TestCompareOverlooks(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	records(b, 0, 10)
	var told []Verdict
	m := &comparison{c: clientOf(b), tell: func(v Verdict) { told = append(told, v) }}
	midway := func() *comparing {
		return &comparing{Known: Known{Offset: 1, Hash: 1, Next: 8}, at: 2, seen: 2, found: true, same: true, share: 1}
	}
	r := midway()
	for range poorAnswers {
		_ = m.look(r, &kmsg.FetchResponseTopicPartition{LastStableOffset: 8}, false, false)
	}
	if len(told) != 1 || told[0].Err != nil || told[0].Same {
		t.Errorf("nothing was given: %+v", told)
	}
	if err := b.DeleteRecords(nodetest.Topic, 0, 5); err != nil {
		t.Fatal(err)
	}
	r = midway()
	if more, again := m.outside(nodetest.Context(t), []*comparing{r}); len(more) != 1 || len(again) != 0 || r.at != 5 ||
		r.same {
		t.Errorf("retention has overtaken it: %+v", r)
	}
}
