package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/sim"
)

// kind is one kind of fault of the plan.
type kind struct {
	name   string
	weight int // 0: only if it is asked for by its name
	// last is the longest time from begin to heal.
	last time.Duration
	// begin makes the fault happen and returns, once it is known to have happened, what ends it. The plan calls that
	// after a while.
	begin func(ctx context.Context, w *world) (heal func())
}

// kinds are all faults of the plan.
var kinds = []kind{
	// Processes and disks.
	{"crash", 10, 8 * time.Second, func(_ context.Context, w *world) func() {
		m, p := w.anyMember(), w.survivors()
		w.history.fault("crash", "%s, %d %% of what was not synced survives", m.name, p)
		return m.kill(p)
	}},
	{"crash_leader", 8, 8 * time.Second, func(_ context.Context, w *world) func() {
		m, p := w.leader(), w.survivors()
		w.history.fault("crash_leader", "%s, %d %% of what was not synced survives", m.name, p)
		return m.kill(p)
	}},
	{"crash_at_write", 12, 6 * time.Second, func(ctx context.Context, w *world) func() {
		m, n, p := w.anyMember(), 1+w.rng.IntN(200), w.survivors()
		var release func()
		died := make(chan struct{})
		m.disk.crashAfter(n, func() {
			w.history.fault("crash_at_write", "%s at the write %d from now, %d %% of what was not synced survives",
				m.name, n, p)
			release = m.kill(p)
			close(died)
		})
		select {
		case <-died:
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
		return func() {
			m.disk.crashAfter(0, nil)
			select {
			case <-died:
				release()
			default:
			}
		}
	}},
	{"crash_two", 3, 6 * time.Second, func(_ context.Context, w *world) func() {
		spare, p := w.rng.IntN(3), w.survivors()
		w.history.fault("crash_two", "all but %s, %d %% of what was not synced survives", nodeName(spare), p)
		var heals []func()
		for i, m := range w.members {
			if i != spare {
				heals = append(heals, m.kill(p))
			}
		}
		return all(heals)
	}},
	{"crash_all", 4, 6 * time.Second, func(_ context.Context, w *world) func() {
		p := w.survivors()
		w.history.fault("crash_all", "%d %% of what was not synced survives", p)
		var heals []func()
		for _, m := range w.members {
			heals = append(heals, m.kill(p))
		}
		return all(heals)
	}},
	{"restart", 4, time.Second, func(_ context.Context, w *world) func() {
		m := w.anyMember()
		w.history.fault("restart", "%s, in order", m.name)
		m.restart()
		return nothing
	}},
	{"wipe", 5, 3 * time.Second, func(ctx context.Context, w *world) func() {
		return w.loseDisk(ctx, "wipe", func(m *member) bool { m.disk.wipe(); return true })
	}},
	{"flip_log", 4, 3 * time.Second, func(ctx context.Context, w *world) func() {
		return w.loseDisk(ctx, "flip_log", func(m *member) bool {
			return m.flip("data/wal", func(name string, newest bool) bool {
				return strings.HasSuffix(name, ".wal") &&
					!newest
			})
		})
	}},
	{"flip_table", 4, 3 * time.Second, func(ctx context.Context, w *world) func() {
		return w.loseDisk(ctx, "flip_table", func(m *member) bool {
			dir := fmt.Sprintf("data/shard-%d", w.rng.IntN(w.shards))
			return m.flip(dir, func(name string, _ bool) bool { return strings.HasSuffix(name, ".sst") })
		})
	}},
	{"slow_disk", 6, 8 * time.Second, func(_ context.Context, w *world) func() {
		m, d := w.anyMember(), w.rng.between(20*time.Millisecond, 5*time.Second)
		if w.rng.IntN(2) == 0 {
			m = w.leader()
		}
		w.history.fault("slow_disk", "%s, up to %v a sync", m.name, d)
		m.disk.set(func(k *disk) { k.syncs = d })
		return func() { m.disk.set(func(k *disk) { k.syncs = 0 }) }
	}},
	{"wipe_witness", 0, 8 * time.Second, func(ctx context.Context, w *world) func() { return w.loseWitness(ctx) }},
	{"stuck_sync", 0, 3 * time.Second, func(ctx context.Context, w *world) func() { return w.stickSync(ctx) }},
	{"disk_full", 4, 4 * time.Second, func(_ context.Context, w *world) func() {
		m := w.anyMember()
		w.history.fault("disk_full", "%s", m.name)
		m.disk.set(func(k *disk) { k.full = true })
		return func() { m.disk.set(func(k *disk) { k.full = false }) }
	}},
	{"fsync_error", 4, 3 * time.Second, func(_ context.Context, w *world) func() {
		m := w.anyMember()
		w.history.fault("fsync_error", "%s", m.name)
		m.disk.set(func(k *disk) { k.failSync = 1 })
		return func() { m.disk.set(func(k *disk) { k.failSync = 0 }) }
	}},
	{"rules", 8, 12 * time.Second, func(ctx context.Context, w *world) func() { return w.changeRules(ctx) }},
	{"readers", 10, 12 * time.Second, func(ctx context.Context, w *world) func() { return w.changeReaders(ctx) }},
	{"pause", 8, 6 * time.Second, func(_ context.Context, w *world) func() {
		m := w.anyMember()
		w.history.fault("pause", "%s", m.name)
		return m.pause()
	}},
	{"clock", 5, 10 * time.Second, func(_ context.Context, w *world) func() {
		m := w.anyMember()
		s := int64(w.rng.IntN(3600) + 1)
		switch w.rng.IntN(6) {
		case 0, 1:
			s = -s
		case 2:
			s = int64(w.rng.IntN(86400 * 3))
		case 3:
			s = 86400 * 400
			w.farAhead.Store(true)
		}
		w.history.fault("clock", "%s is set by %d s", m.name, s)
		m.clock.off.Store(s)
		return func() { m.clock.off.Store(0) }
	}},
	// The network between the nodes.
	{"isolate", 8, 8 * time.Second, func(_ context.Context, w *world) func() {
		i := w.rng.IntN(3)
		w.history.fault("isolate", "%s from the other nodes", nodeName(i))
		return w.cutAll(i, true, true)
	}},
	{"one_way", 6, 8 * time.Second, func(_ context.Context, w *world) func() {
		i, out := w.rng.IntN(3), w.rng.IntN(2) == 0
		w.history.fault("one_way", "%s and the other nodes: outgoing %v, incoming %v", nodeName(i), out, !out)
		return w.cutAll(i, out, !out)
	}},
	{"cut_pair", 5, 8 * time.Second, func(_ context.Context, w *world) func() {
		a := w.rng.IntN(3)
		b := (a + 1 + w.rng.IntN(2)) % 3
		w.history.fault("cut_pair", "%s and %s", nodeName(a), nodeName(b))
		w.net.Cut(nodeName(a), nodeName(b))
		w.net.Cut(nodeName(b), nodeName(a))
		return func() { w.net.Heal(nodeName(a), nodeName(b)); w.net.Heal(nodeName(b), nodeName(a)) }
	}},
	{"delay", 5, 10 * time.Second, func(_ context.Context, w *world) func() {
		base, jitter := w.rng.between(0, 200*time.Millisecond), w.rng.between(0, 300*time.Millisecond)
		w.history.fault("delay", "between nodes, %v + up to %v", base, jitter)
		w.eachPair(func(a, b string) { w.net.Delay(a, b, base, jitter) })
		return func() { w.eachPair(func(a, b string) { w.net.Delay(a, b, w.opts.Latency, 0) }) }
	}},
	{"duplicate", 5, 10 * time.Second, func(_ context.Context, w *world) func() {
		w.history.fault("duplicate", "requests between nodes come again, later")
		w.relay.Repeat(0.2, 3*time.Second)
		return func() { w.relay.Repeat(0, 0) }
	}},
	{"reset", 4, time.Second, func(_ context.Context, w *world) func() {
		w.history.fault("reset", "all connections between nodes")
		w.eachPair(w.net.Reset)
		return nothing
	}},
	// The node that commits for all.
	{"cut_committer", 4, 12 * time.Second, func(_ context.Context, w *world) func() { return w.cutCommitter() }},
	{"pause_committer", 4, 8 * time.Second, func(_ context.Context, w *world) func() {
		m := w.committer()
		w.history.fault("pause_committer", "%s", m.name)
		return m.pause()
	}},
	{"lose_share", 4, 20 * time.Second, func(_ context.Context, w *world) func() {
		share := 0.2 + 0.6*w.rng.Float64()
		w.history.fault("lose_share", "%.0f %% of what nodes offer to one another, or of the answers", 100*share)
		w.relay.Lose(share)
		return func() { w.relay.Lose(0) }
	}},
	// The broker.
	{"broker_away", 5, 10 * time.Second, func(_ context.Context, w *world) func() {
		hosts := w.someHosts()
		w.history.fault("broker_away", "from %v", hosts)
		return w.cutFrom(hosts, "broker")
	}},
	{"broker_leaders", 4, time.Second, func(_ context.Context, w *world) func() {
		w.history.fault("broker_leaders", "of the partitions move")
		w.broker.ShufflePartitionLeaders()
		return nothing
	}},
	{"broker_errors", 5, 8 * time.Second, func(_ context.Context, w *world) func() {
		errs := []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.OffsetNotAvailable,
			kerr.RequestTimedOut, kerr.KafkaStorageError}
		e := errs[w.rng.IntN(len(errs))]
		keys := [][]kmsg.Key{{kmsg.Fetch}, {kmsg.ListOffsets}, {kmsg.Fetch, kmsg.ListOffsets}}[w.rng.IntN(3)]
		w.history.fault("broker_errors", "%s to %v", e.Message, keys)
		h := w.broker.Fault(kfake.Fault{Keys: keys, Topic: topic, Err: e, Count: 5 + w.rng.IntN(60)})
		return h.Remove
	}},
	// Only where the broker keeps its log in a folder.
	{"broker_restored", 0, 20 * time.Second, func(ctx context.Context, w *world) func() {
		return w.restoreBackup(ctx)
	}},
	{"silent_partition", 3, 45 * time.Second, func(_ context.Context, w *world) func() {
		p := int32(w.rng.IntN(int(w.opts.Partitions)))
		w.history.fault("silent_partition", "%d, of which the client says nothing", p)
		return w.silence(p)
	}},
	{"letters_small", 2, time.Second, func(_ context.Context, w *world) func() {
		const most = 700
		w.history.fault("letters_small", "the dead letter topic takes %d bytes from now on", most)
		w.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic + ".dlq", Err: kerr.MessageTooLarge,
			Count: -1, When: func(r kmsg.Request) bool { return produces(r, most) }})
		return nothing // it stays as it is: what does not fit never will
	}},
	// An operator has to act before the run can end.
	{"raw_events_lost", 4, 8 * time.Second, func(ctx context.Context, w *world) func() { return w.loseRawEvents(ctx) }},
	{"bad_batches", 5, 20 * time.Second, func(_ context.Context, w *world) func() {
		return w.spoil("bad_batches", damages)
	}},
	// Only what the client passes over by itself.
	{"skipped_batches", 0, 20 * time.Second, func(_ context.Context, w *world) func() {
		return w.spoil("skipped_batches", damages[:1])
	}},
	{"partitions", 5, time.Second, func(ctx context.Context, w *world) func() { return w.grow(ctx) }},
	// The object store.
	{"store_down", 4, 12 * time.Second, func(_ context.Context, w *world) func() {
		w.history.fault("store_down", "")
		return w.storeFaults(objectFaults{down: true})
	}},
	{"store_503", 4, 12 * time.Second, func(_ context.Context, w *world) func() {
		w.history.fault("store_503", "")
		return w.storeFaults(objectFaults{refuse: 0.1 + 0.6*w.rng.Float64()})
	}},
	{"store_lost_answer", 6, 12 * time.Second, func(_ context.Context, w *world) func() {
		w.history.fault("store_lost_answer", "")
		return w.storeFaults(objectFaults{lost: 0.1 + 0.5*w.rng.Float64()})
	}},
	{"store_own_412", 4, 12 * time.Second, func(_ context.Context, w *world) func() {
		w.history.fault("store_own_412", "")
		return w.storeFaults(objectFaults{ownTwice: 0.2 + 0.6*w.rng.Float64()})
	}},
	{"store_late_put", 6, 12 * time.Second, func(_ context.Context, w *world) func() {
		w.history.fault("store_late_put", "")
		return w.storeFaults(objectFaults{lateput: 0.1 + 0.9*w.rng.Float64()})
	}},
	{"store_slow", 3, 12 * time.Second, func(_ context.Context, w *world) func() {
		d := w.rng.between(time.Second, 10*time.Second)
		w.history.fault("store_slow", "up to %v", d)
		return w.storeFaults(objectFaults{slow: d})
	}},
	{"foreign_delete", 6, time.Second, func(ctx context.Context, w *world) func() {
		w.deleteRows(ctx)
		return nothing
	}},
	{"store_outage", 0, 3 * time.Minute, func(_ context.Context, w *world) func() {
		w.history.fault("store_outage", "")
		return w.storeFaults(objectFaults{down: true})
	}},
	// ClickHouse.
	{"click_outage", 0, 3 * time.Minute, func(_ context.Context, w *world) func() {
		w.history.fault("click_outage", "")
		return w.cutFrom([]string{nodeName(0), nodeName(1), nodeName(2)}, "click")
	}},
	{"click_away", 4, 12 * time.Second, func(_ context.Context, w *world) func() {
		hosts := w.someHosts()
		w.history.fault("click_away", "from %v", hosts)
		return w.cutFrom(hosts, "click")
	}},
	{"click_before", 4, 12 * time.Second, func(_ context.Context, w *world) func() {
		return w.clickFault("click_before", clickFaults{before: 0.1 + 0.5*w.rng.Float64()})
	}},
	{"click_lost_answer", 5, 12 * time.Second, func(_ context.Context, w *world) func() {
		return w.clickFault("click_lost_answer", clickFaults{lost: 0.1 + 0.5*w.rng.Float64()})
	}},
	{"click_middle", 5, 12 * time.Second, func(_ context.Context, w *world) func() {
		return w.clickFault("click_middle", clickFaults{middle: 0.1 + 0.5*w.rng.Float64()})
	}},
	{"click_late", 6, 12 * time.Second, func(_ context.Context, w *world) func() {
		return w.clickFault("click_late", clickFaults{late: 0.1 + 0.4*w.rng.Float64()})
	}},
	{"click_stall", 3, 12 * time.Second, func(_ context.Context, w *world) func() {
		return w.clickFault("click_stall", clickFaults{stall: 0.05 + 0.2*w.rng.Float64()})
	}},
}

func nothing() {}

// produces says whether a request produces a batch of more than so many bytes.
func produces(r kmsg.Request, most int) bool {
	req, ok := r.(*kmsg.ProduceRequest)
	return ok && slices.ContainsFunc(req.Topics, func(t kmsg.ProduceRequestTopic) bool {
		return slices.ContainsFunc(t.Partitions, func(p kmsg.ProduceRequestTopicPartition) bool {
			return len(p.Records) > most
		})
	})
}

// silence takes one partition away, with an error that the client keeps to itself, until the returned function is
// called. Beside partitions that answer, the client would ask again at once, and virtual time would stand still, if the
// node did not hold it back (node/kafka, pace).
func (w *world) silence(partition int32) (heal func()) {
	h := w.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Topic: topic,
		Partitions: []int32{partition}, Err: kerr.KafkaStorageError, Count: -1})
	return h.Remove
}

func all(fs []func()) func() {
	return func() {
		for _, f := range fs {
			f()
		}
	}
}

// plan draws faults and makes them happen, some at the same time, until ctx ends or all have happened.
func (w *world) plan(ctx context.Context) {
	var list []kind
	for _, k := range kinds {
		if k.name == "broker_restored" && w.opts.BrokerDir == "" {
			continue
		}
		if w.opts.Kinds == nil || slices.Contains(w.opts.Kinds, k.name) {
			n := k.weight
			if w.opts.Kinds != nil || w.opts.Purge {
				n = max(n, 3) // those that last too long for most runs
			}
			for range n {
				list = append(list, k)
			}
		}
	}
	var running sync.WaitGroup
	defer running.Wait()
	if w.opts.Faults < 0 || len(list) == 0 {
		return
	}
	for range w.opts.Faults {
		if sim.Pause(ctx, w.rng.between(200*time.Millisecond, 6*time.Second)) != nil {
			return
		}
		k := list[w.rng.IntN(len(list))]
		last := w.rng.between(min(200*time.Millisecond, k.last), k.last)
		running.Go(func() {
			heal := k.begin(ctx, w)
			_ = sim.Pause(ctx, last)
			heal()
			w.history.add("HEALED", "%s", k.name)
		})
	}
}

// heal ends every fault that the plan may have left.
func (w *world) heal() {
	w.objects.set(objectFaults{})
	w.click.set(clickFaults{})
	w.relay.Repeat(0, 0)
	w.relay.Lose(0)
	w.broken.MendAll()
	for _, m := range w.members {
		m.disk.set(func(d *disk) { d.syncs, d.full, d.failSync = 0, false, 0 })
	}
	w.history.add("HEALED", "everything")
}

// leader is the member that leads some shard, or any.
func (w *world) leader() *member {
	shard := w.rng.IntN(w.shards)
	for _, m := range w.members {
		inc := m.current()
		if inc == nil {
			continue
		}
		for _, s := range inc.node.Status().Shards {
			if int(s.Shard) == shard && s.IsLeader {
				return m
			}
		}
	}
	return w.anyMember()
}

// survivors draws how much of what was not synced survives a crash, in percent.
func (w *world) survivors() int { return []int{0, 0, 30, 70, 100}[w.rng.IntN(5)] }

// loseDisk crashes a node and damages its disk, and waits until all nodes are members again: three nodes cannot bear
// the loss of two disks. Whatever else is wrong with the other nodes is no reason to wait.
func (w *world) loseDisk(ctx context.Context, name string, damage func(m *member) bool) func() {
	if !w.mayLoseDisk() {
		return nothing
	}
	m, p := w.anyMember(), w.survivors()
	release := m.kill(p)
	did := damage(m)
	if did {
		w.history.fault(name, "%s", m.name)
	}
	return func() {
		release()
		if did {
			// It may find a flipped bit later, long after it was ready: see mayLoseDisk.
			_ = w.until(ctx, 5*time.Minute, m.name+" is a member again", w.allReady)
		}
		w.oneDisk.Unlock()
	}
}

// mayLoseDisk takes oneDisk if no disk is lost or may still turn out to be: two at a time are too many, even if the
// bit that costs the first one was flipped long ago.
func (w *world) mayLoseDisk() bool {
	if !w.oneDisk.TryLock() {
		return false
	}
	if slices.ContainsFunc(w.members, (*member).atRisk) {
		w.oneDisk.Unlock()
		return false
	}
	return true
}

// flip changes a bit of one of its files.
func (m *member) flip(dir string, wanted func(name string, newest bool) bool) bool {
	what, err := m.disk.flip(dir, wanted)
	if err != nil {
		m.w.history.fail("flipping a bit: %v", err)
	}
	if what == "" {
		return false
	}
	m.setDamaged(true)
	m.w.history.add(m.name, "a bit flips in %s", what)
	return true
}

// pause stops everything that the process does, except for its timers.
func (m *member) pause() func() {
	inc := m.current()
	if inc == nil {
		return nothing
	}
	inc.gate.pause()
	m.w.net.Freeze(m.name)
	return func() {
		inc.gate.resume()
		m.w.net.Thaw(m.name)
	}
}

func (w *world) eachPair(f func(a, b string)) {
	for i := range w.members {
		for j := range w.members {
			if i != j {
				f(nodeName(i), nodeName(j))
			}
		}
	}
}

// cutAll cuts a node from the others.
func (w *world) cutAll(i int, out, in bool) func() {
	do := func(f func(a, b string)) {
		for j := range w.members {
			if j == i {
				continue
			}
			if out {
				f(nodeName(i), nodeName(j))
			}
			if in {
				f(nodeName(j), nodeName(i))
			}
		}
	}
	do(w.net.Cut)
	return func() { do(w.net.Heal) }
}

// someHosts are one node, or all.
func (w *world) someHosts() []string {
	if w.rng.IntN(2) == 0 {
		return []string{nodeName(0), nodeName(1), nodeName(2)}
	}
	return []string{w.anyMember().name}
}

func (w *world) cutFrom(hosts []string, to string) func() {
	do := func(f func(a, b string)) {
		for _, h := range hosts {
			f(h, to)
			f(to, h)
		}
	}
	do(w.net.Cut)
	return func() { do(w.net.Heal) }
}

func (w *world) storeFaults(f objectFaults) func() {
	w.objects.set(f)
	return func() { w.objects.set(objectFaults{}) }
}

// clickFault begins a fault of the plan.
func (w *world) clickFault(name string, f clickFaults) func() {
	w.history.fault(name, "%+v", f)
	w.click.set(f)
	return func() { w.click.set(clickFaults{}) }
}
