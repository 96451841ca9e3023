package shard

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/nodetest"
	"deckle/sim/testworld/badbatch"
	"deckle/state"
)

// desk is an intake with a real source, whose entries are applied as soon as they are full of what there is. Its clock
// is the test's.
type desk struct {
	*intake
	t      *testing.T
	b      *nodetest.Broker
	broken *badbatch.Broken
	faults *kfake.FaultHandle
	now    time.Time
	took   map[int32][]int64
}

// newDesk returns a desk whose source has begun. The broker has the faults from the first request on.
func newDesk(t *testing.T, partitions, epoch int32, faults ...kfake.Fault) *desk {
	t.Helper()
	d := &desk{t: t, b: nodetest.NewBroker(t, partitions), broken: &badbatch.Broken{}, now: time.Now(),
		took: map[int32][]int64{}}
	if len(faults) > 0 {
		d.faults = d.b.Fault(faults...)
	}
	opts := append(slices.Clip(d.b.Opts), kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return d.broken.Conn(c), nil
	}))
	cl, err := kafka.Open(&config.Kafka{Topic: nodetest.Topic}, "test", kafka.Secure{}, nodetest.Log(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	d.intake, _ = newTestIntake(t)
	d.Kafka, d.Now = cl, func() time.Time { return d.now }
	d.parts, d.order = map[int32]*partition{}, nil
	var next []state.PartitionStatus
	for p := range partitions {
		d.parts[p] = &partition{id: p, epoch: epoch}
		d.order = append(d.order, p)
		next = append(next, state.PartitionStatus{Partition: p, LeaderEpoch: epoch})
	}
	ctx, cancel := context.WithCancel(nodetest.Context(t))
	var work sync.WaitGroup
	d.startWork = func(f func(context.Context)) { work.Go(func() { f(ctx) }) }
	if d.src, err = cl.OpenSource(ctx, d.intake.cfg.TopicID, next, 1<<20, 64<<20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); d.src.Close(); work.Wait() })
	return d
}

// until takes what the source hands over until ok, while the clock stands.
func (d *desk) until(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.After(nodetest.Patience); !ok(); {
		select {
		case c := <-d.src.Chunks():
			if err := d.accept(&c); err != nil {
				d.t.Fatal(err)
			}
			d.fill()
			for _, it := range d.cur.finish().Items {
				d.took[it.Partition] = append(d.took[it.Partition], it.Offset)
			}
			d.cur.reset()
			for _, p := range d.parts {
				p.applied = p.next
			}
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			d.t.Fatalf("waited in vain: %s; took %v", what, d.took)
		}
	}
}

// retry lets time pass, takes what is due, and waits for the probe that has begun.
func (d *desk) retry(after time.Duration) {
	d.now = d.now.Add(after)
	if d.retryFailing(d.now); d.probe != nil {
		<-d.probe.done
		d.retryFailing(d.now)
	}
}

func all(n int64) (offsets []int64) {
	for i := range n {
		offsets = append(offsets, i)
	}
	return offsets
}

// A partition whose batch is broken is tried again and again, more and more seldom, while the other one goes on; once
// the broker is mended it goes on by itself. Every record is taken once.
func TestBrokenPartitionGoesOnOnceMended(t *testing.T) {
	d := newDesk(t, 2, -1)
	for i := range 12 {
		d.b.Produce(nodetest.Record(int32(i%2), "s", i))
	}
	d.broken.Spoil(0, 3, badbatch.Flip)
	d.until("the partition fails, the other one is whole", func() bool {
		return d.parts[0].failing != nil && len(d.took[1]) == 6
	})
	p := d.parts[0]
	if why := d.isFailing(partName(0)); !strings.Contains(why, "offset 3: ") || !strings.Contains(why, "crc") {
		t.Errorf("shown: %q", why)
	}
	if d.retryFailing(d.now); d.probe != nil {
		t.Error("a probe begins at once")
	}
	// The next waits, halved by jitter.
	for _, least := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		if d.retry(2 * least); p.failing == nil {
			t.Fatal("it is not failing any more")
		}
		if wait := p.failing.due.Sub(d.now); wait < least || wait > 6*least {
			t.Errorf("the next probe comes in %v, want about %v", wait, 2*least)
		}
		n := len(d.took[1])
		d.b.Produce(nodetest.Record(1, "s", 100+n))
		d.until("the other one goes on", func() bool { return len(d.took[1]) == n+1 })
	}
	d.broken.Mend(0)
	if d.retry(time.Minute); p.failing != nil || d.isFailing(partName(0)) != "" {
		t.Fatalf("failing %v, %q", p.failing, d.isFailing(partName(0)))
	}
	d.until("the rest", func() bool { return p.applied == 6 })
	if !slices.Equal(d.took[0], all(6)) || !slices.Equal(d.took[1], all(9)) {
		t.Errorf("took %v", d.took)
	}
}

// A right that is missing is missed by all partitions; all go on when one of them can be read. One that fails for
// another reason does not.
func TestPartitionsWithoutARightGoOnTogether(t *testing.T) {
	d := newDesk(t, 4, -1)
	for i := range 8 {
		d.b.Produce(nodetest.Record(int32(i%4), "s", i))
	}
	d.broken.Spoil(3, 1, badbatch.Flip)
	d.until("all are read, as far as they can be", func() bool {
		return len(d.took[0])+len(d.took[1])+len(d.took[2])+len(d.took[3]) == 7 && d.parts[3].failing != nil
	})
	h := d.b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: nodetest.Topic,
		Err: kerr.TopicAuthorizationFailed, Count: -1})
	d.until("the rights are missing", func() bool {
		return d.parts[0].failing != nil && d.parts[1].failing != nil && d.parts[2].failing != nil
	})
	d.retry(time.Minute)
	h.Remove()
	for i := range 4 {
		d.b.Produce(nodetest.Record(int32(i), "s", 8+i))
	}
	for range 4 { // the broken one may be tried first
		d.retry(time.Minute)
	}
	if d.parts[0].failing != nil || d.parts[1].failing != nil || d.parts[2].failing != nil {
		t.Error("not all that lacked the right go on")
	}
	// The broken one lacked the right, too, if it was tried meanwhile. It fails again then.
	d.until("the rest", func() bool {
		return len(d.took[0]) == 3 && len(d.took[1]) == 3 && len(d.took[2]) == 3 && d.parts[3].failing != nil
	})
}

// One probe at a time, whatever the number of partitions; an answer that tells a loss stops the partition.
func TestOneProbeAtATime(t *testing.T) {
	d := newDesk(t, 3, -1)
	for p := range int32(3) {
		d.fail(d.parts[p], errors.New("broken"))
	}
	d.parts[1].failing.at, d.parts[1].next = 7, 7 // its log has no 7
	d.now = d.now.Add(5 * time.Second)
	seen := map[int32]bool{}
	for range 3 {
		d.retryFailing(d.now)
		pr := d.probe
		if pr == nil || seen[pr.p.id] {
			t.Fatalf("no probe of another partition: %+v", pr)
		}
		seen[pr.p.id] = true
		if d.retryFailing(d.now); d.probe != pr {
			t.Fatal("a second probe beside the first")
		}
		d.b.Produce(nodetest.Record(0, "s", 0), nodetest.Record(2, "s", 0)) // ends a probe that waits at the end
		<-pr.done
		if pr.p.id != 1 {
			pr.err = errors.New("still broken")
		}
	}
	d.retryFailing(d.now)
	if d.parts[1].stopped == "" || !strings.Contains(d.parts[1].stopped, "offset 7") || d.parts[1].failing != nil {
		t.Errorf("stopped: %q", d.parts[1].stopped)
	}
}

// A partition that its client has not begun to read, because its leader's history cannot be asked for, goes on like any
// other, although the client passes over it when offsets are set.
func TestPartitionThatWasNeverBegun(t *testing.T) {
	// The source asks once, as soon as it begins.
	d := newDesk(t, 2, 0, kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetForLeaderEpoch}, Topic: nodetest.Topic,
		Partitions: []int32{0}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	d.b.Produce(nodetest.Record(0, "s", 0), nodetest.Record(1, "s", 1))
	d.until("the one fails, the other is read", func() bool {
		return d.parts[0].failing != nil && len(d.took[1]) == 1
	})
	if d.retry(time.Minute); d.parts[0].failing == nil {
		t.Fatal("it is not failing any more")
	}
	d.faults.Remove()
	if d.retry(time.Minute); d.parts[0].failing != nil {
		t.Fatalf("failing: %v", d.parts[0].failing.err)
	}
	d.b.Produce(nodetest.Record(0, "s", 2))
	d.until("it goes on", func() bool { return len(d.took[0]) == 2 })
}

// A partition that delivers nothing although listings show more is failing after a while; not one that waits for its
// turn, nor one whose records are on their way.
func TestSilenceIsAFailure(t *testing.T) {
	d := newDesk(t, 1, -1)
	p := d.parts[0]
	listing := func(end int64) *kafka.Listing {
		return &kafka.Listing{Begun: d.now, Ends: map[int32]int64{0: end}}
	}
	look := func(end int64, times int) {
		for range times {
			d.now = d.now.Add(10 * time.Second)
			d.observeSilence(p, listing(end), d.now)
		}
	}
	look(0, 10)
	p.ahead = true
	look(5, 10)
	p.ahead, d.paused = false, "disk"
	look(5, 10)
	d.paused, p.next = "", 2
	look(5, 10)
	if p.next = 0; p.failing != nil {
		t.Fatalf("failing: %v", p.failing.err)
	}
	look(5, 3)
	if p.failing != nil {
		t.Fatal("failing too early")
	}
	look(5, 1)
	if p.failing == nil || !errors.Is(p.failing.err, kafka.ErrSilent) {
		t.Fatalf("failing: %v", p.failing)
	}
}

// What has stopped since the topic had another id goes on when the topic has its own again, and only by a look that
// began later.
func TestForeignTopicComesBack(t *testing.T) {
	d := newDesk(t, 2, -1)
	d.intake.cfg.TopicID = [16]byte{1}
	d.foreign = map[int32]time.Time{}
	d.stop(d.parts[1], "another reason")
	d.stopForeign()
	if d.cond.stoppedFor(partName(0)) != kafka.ErrRecreated.Error() {
		t.Fatalf("stopped: %q", d.cond.stoppedFor(partName(0)))
	}
	for _, c := range []struct {
		id    byte
		after time.Duration
		again bool
	}{{2, time.Second, false}, {0, time.Second, false}, {1, -time.Second, false}, {1, time.Second, true}} {
		if got := d.familiar([16]byte{c.id}, d.now.Add(c.after)); got != c.again {
			t.Errorf("id %d, %v later: %v", c.id, c.after, got)
		}
	}
	if d.cond.stoppedFor(partName(0)) != "" || d.cond.stoppedFor(partName(1)) != "another reason" {
		t.Errorf("stopped: %q and %q", d.cond.stoppedFor(partName(0)), d.cond.stoppedFor(partName(1)))
	}
}
