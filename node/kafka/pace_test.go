package kafka

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/nodetest"
)

// An error of one partition that the client keeps to itself costs no more fetches than a stream without errors, whether
// the other partitions are at their ends or bring records; these come all the same, and so does the partition once the
// error is over. Without a pause there were some thousand fetches per second.
func TestErrorOfOnePartitionDoesNotSpin(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	var fetches atomic.Int64
	b.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		fetches.Add(1)
		return nil, nil, false
	})
	s := openTwo(t, clientOf(b))
	defer s.Close()
	got := make([]int, 2)
	take := func(d time.Duration) {
		over := time.After(d)
		for {
			select {
			case c := <-s.Chunks():
				for _, p := range c.Parts {
					if p.Err != nil {
						t.Errorf("the error is handed over: %v", p.Err)
					}
					got[p.Partition] += len(p.Records)
				}
			case <-over:
				return
			}
		}
	}
	for i := range 2 {
		b.Produce(nodetest.Record(int32(i), "s", i))
	}
	nodetest.Until(t, "both are read", func() bool { take(50 * time.Millisecond); return got[0] == 1 && got[1] == 1 })
	fault := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: nodetest.Topic, Partitions: []int32{1},
		Err: kerr.KafkaStorageError, Count: -1})
	const most = 30 // of a second: ten are meant, and time may be counted badly on a busy machine
	for what, stream := range map[string]bool{"the other is at its end": false, "the other brings records": true} {
		before, began := fetches.Load(), time.Now()
		for i := range 20 {
			if stream {
				b.Produce(nodetest.Record(0, "s", 100+i))
			}
			take(100 * time.Millisecond)
		}
		n, took := fetches.Load()-before, time.Since(began).Seconds()
		t.Logf("%s: %.0f fetches per second", what, float64(n)/took)
		if float64(n) > most*took {
			t.Errorf("%s: %d fetches in %.1f s", what, n, took)
		}
	}
	b.Produce(nodetest.Record(1, "s", 7))
	fault.Remove()
	nodetest.Until(t, "all is read", func() bool { take(50 * time.Millisecond); return got[0] == 21 && got[1] == 2 })
}

// What comes late, with much, or by another request than a fetch, is not held; nor is the first of its kind, nor what
// comes after the end.
func TestPace(t *testing.T) { synctest.Test(t, testPace) }

func testPace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := newPace(ctx)
	held := func(broker int32, key kmsg.Key, took time.Duration, bytes int) time.Duration {
		began := time.Now()
		p.OnBrokerE2E(kgo.BrokerMetadata{NodeID: broker}, int16(key), kgo.BrokerE2E{ReadWait: took, BytesRead: bytes})
		return time.Since(began)
	}
	const some = 30 * time.Millisecond
	for i, x := range []struct {
		broker int32
		key    kmsg.Key
		took   time.Duration
		bytes  int
		want   time.Duration
	}{
		{1, kmsg.Fetch, 0, 100, 0},
		{1, kmsg.Fetch, 0, 100, gatherWait},
		{2, kmsg.Fetch, 0, 100, 0},
		{1, kmsg.Fetch, some, 100, gatherWait - some},
		{1, kmsg.Metadata, 0, 100, 0},
		{1, kmsg.Fetch, 0, earlyBytes, 0},
		{1, kmsg.Fetch, 0, 100, 0},
		{1, kmsg.Fetch, 0, 100, gatherWait},
		{1, kmsg.Fetch, gatherWait, 100, 0},
		{1, kmsg.Fetch, 0, 100, 0},
	} {
		if got := held(x.broker, x.key, x.took, x.bytes); got != x.want {
			t.Errorf("step %d: held for %v", i, got)
		}
	}
	cancel()
	if got := held(1, kmsg.Fetch, 0, 100); got != 0 {
		t.Errorf("held for %v after the end", got)
	}
}
