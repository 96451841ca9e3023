package cluster

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node"
	"deckle/sim"
	"deckle/sim/testworld/network"
)

// Result is the outcome of one run.
type Result struct {
	Seed   uint64         `json:"seed"`
	Faults map[string]int `json:"faults"` // injected, by kind
	Events int64          `json:"events"` // records whose outcome was compared with the truth
	Looks  int64          `json:"looks"`  // at replicas and tables while it ran
	// Compactions is how many versions of the Delta tables were made by compaction.
	Compactions int64 `json:"compactions"`
	Hidden      int64 `json:"hidden"` // versions with deletion vectors that Deckle has made
	// Deleted is how many rows of sessions the foreign tool has deleted, Revised how many of them the cluster has
	// revised afterwards.
	Deleted  int64    `json:"deleted"`
	Revised  int64    `json:"revised"`
	Virtual  float64  `json:"virtual"`  // seconds
	Failures []string `json:"failures"` // empty: everything held

	history *runHistory
}

// Run simulates one run. It must be called inside a bubble of testing/synctest, and returns when every goroutine of the
// run has ended or is about to.
func Run(ctx context.Context, o Options) *Result {
	// A bubble begins at the start of the year 2000, before which no event may lie.
	time.Sleep(26*365*24*time.Hour + time.Duration(o.Seed%86_400)*time.Second)
	if o.Beat != nil {
		stop := beat(o.Beat)
		defer stop()
	}
	w := newWorld(o)
	w.history.began = time.Now()
	began := time.Now()
	if err := w.run(ctx); err != nil {
		w.history.fail("%v", err)
	}
	r := &Result{Seed: o.Seed, Faults: w.history.faults, Looks: w.oracle.looks, Compactions: w.oracle.delta.compactions,
		Hidden:  w.oracle.delta.hiding,
		Virtual: time.Since(began).Seconds(), Failures: w.history.fails, history: w.history}
	r.Deleted, r.Revised = w.foreign.counts(w.plans)
	if w.truth != nil {
		r.Events = w.oracle.compared
	}
	return r
}

// beat counts virtual seconds until the returned function is called.
func beat(n *atomic.Int64) (stop func()) {
	over := make(chan struct{})
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n.Add(1)
			case <-over:
				return
			}
		}
	}()
	return func() { close(over) }
}

func newWorld(o Options) *world {
	rng := newLockedRand(o.Seed, 1)
	w := &world{opts: o, rng: rng, history: newRunHistory(o.OnFailure), objects: newObjects(rng), click: newClick(rng)}
	if w.opts.LogLevel == 0 {
		w.opts.LogLevel = slog.LevelWarn
	}
	if w.opts.Events == 0 {
		w.opts.Events = 900 + rng.Int64N(600)
	}
	if w.opts.Faults == 0 {
		w.opts.Faults = 4 + rng.IntN(7)
	}
	if w.opts.LogBytes == 0 {
		w.opts.LogBytes = 8<<10 + rng.Int64N(128<<10)
	}
	if w.opts.CheckpointBytes == 0 {
		w.opts.CheckpointBytes = 8<<10 + rng.Int64N(256<<10)
	}
	if w.opts.Partitions == 0 {
		w.opts.Partitions = 4
	}
	if w.shards = 1 + rng.IntN(2); w.opts.Shards > 0 {
		w.shards = w.opts.Shards
	}
	w.sealed = o.Sealed || o.Script == nil && o.Seed%sealedSeeds == sealedSeeds-1
	w.secure = o.Secure || o.Script == nil && o.Seed%secureSeeds == secureSeeds-1
	if w.opts.Looks == 0 {
		w.opts.Looks = 5 * time.Second
	}
	w.flush = rng.between(time.Second, 3*time.Second).Truncate(100 * time.Millisecond)
	w.revision = rng.between(time.Second, 5*time.Second)
	w.idleTimeout = rng.between(5*time.Second, 40*time.Second)
	w.ckptInterval = 2 + rng.IntN(9)
	w.leaveOut = rng.between(5*time.Second, 30*time.Second)
	w.retention = 20 * time.Minute
	if purge := rng.IntN(8) == 0; purge || o.Purge {
		// Everything is purged a minute after its last event, also while a sink is down.
		w.opts.Purge, w.retention, w.opts.Quiet = true, time.Minute, 2*time.Minute+30*time.Second
	}
	w.rules = []sim.PrivateRules{sim.FirstRules()}
	w.plans = newPlans(w.history)
	w.journal = newJournal(w.history)
	w.oracle = newOracle(w)
	return w
}

// run forms the cluster, lets workload and faults go on beside each other, and compares everything in the end.
func (w *world) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.net = network.New(w.rng.IntN)
	w.relay = network.NewRelay(w.net, w.rng.IntN)
	if err := w.openBroker(); err != nil {
		return err
	}
	defer func() { w.broker.Close() }()
	ln, err := w.net.Listen("click", clickAddr)
	if err != nil {
		return err
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = w.click.Serve(ln) }) // until the listener is closed
	defer func() { _ = ln.Close(); w.click.Close(); serving.Wait() }()
	var nodes sync.WaitGroup
	nctx, stopNodes := context.WithCancel(ctx)
	// Everything that belongs to the run ends here, whatever its outcome.
	defer func() {
		w.heal()
		stopNodes()
		nodes.Wait()
		w.leftovers.Wait()
		w.objects.late.Wait()
		w.net.Close()
	}()
	for i := range 3 {
		w.members = append(w.members, newMember(w, i))
	}
	w.eachPair(func(a, b string) { w.net.Delay(a, b, w.opts.Latency, 0) })
	if w.opts.Forming != nil {
		w.opts.Forming(w)
	}
	for _, m := range w.members {
		nodes.Go(func() { m.supervise(nctx) })
	}
	if err := w.until(ctx, 3*time.Minute, "the cluster forms", w.allReady); err != nil {
		return err
	}
	looks, stopLooks := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { w.oracle.follow(looks) })
	if w.opts.Script == nil {
		looking.Go(func() { w.operate(looks) })
	}
	if w.opts.AuditEvery > 0 {
		looking.Go(func() {
			for sim.Pause(looks, w.opts.AuditEvery) == nil {
				w.oracle.audit()
			}
		})
	}
	defer func() { stopLooks(); looking.Wait() }()

	var faults sync.WaitGroup
	fctx, stopFaults := context.WithCancel(ctx)
	defer func() { stopFaults(); faults.Wait() }()
	if w.opts.Script != nil {
		faults.Go(func() {
			if err := w.opts.Script(fctx, w); err != nil {
				w.history.fail("script: %v", err)
			}
		})
	} else {
		faults.Go(func() { w.plan(fctx) })
	}
	sum, err := w.produce(ctx)
	if err != nil {
		return fmt.Errorf("the workload: %w", err)
	}
	faults.Wait()
	w.heal()
	if w.opts.Quiet > 0 {
		_ = sim.Pause(ctx, w.opts.Quiet)
	}
	if sum == nil {
		return nil
	}
	if err := w.drain(ctx, sum); err != nil {
		return err
	}
	stopLooks()
	looking.Wait()
	return w.oracle.final(ctx)
}

// produce runs the workload and keeps its truth.
func (w *world) produce(ctx context.Context) (*sim.Summary, error) {
	if w.opts.NoWorkload {
		return nil, nil
	}
	w.truth = sim.NewTruth()
	w.truth.KeepRecords()
	o := sim.Options{
		Topic: topic, Events: w.opts.Events, Rate: float64(20 +
			w.rng.IntN(40)), Sessions: 10 + w.rng.IntN(40), Seed: w.opts.Seed,
		EventsPerSession: 3 + 9*w.rng.Float64(), KafkaOpts: w.kafkaOpts("sim"),
		Faults: sim.Faults{Duplicates: 0.03, Late: 0.03, OutOfOrder: 0.04, Malformed: 0.02, Odd: 0.06,
			Readers: 0.4, Excluded: 0.01, Private: 0.3, KafkaTimes: 0.005, Keys: 0.05, Doubtful: 0.02},
		DrainTimeout: 5 * time.Minute, Sharded: w.shards > 1,
		OnAck: w.listing.note, Grows: true,
	}
	// So that it sees partitions that are added.
	o.KafkaOpts = append(o.KafkaOpts, kgo.MetadataMinAge(time.Second), kgo.MetadataMaxAge(2*time.Second))
	if w.opts.Seed%3 == 1 { // the state keeps the events of such sessions apart from their images
		o.Faults.Huge = 0.15
	}
	if w.opts.Workload != nil {
		w.opts.Workload(&o)
	}
	if w.opts.Purge {
		// what comes later than the retention is too late, which the truth of the workload does not know
		o.Faults.Late = 0
	}
	s, err := sim.Open(ctx, o, w.truth)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	sum, err := s.Run(ctx)
	w.history.add("sim", "done: %d records, %d sessions", sum.Produced, sum.Sessions)
	return &sum, err
}

// drain waits until every record is applied, every session closed and every epoch acknowledged, on every replica, and
// until each has the rules that all files have, and the newest list of suppressed readers: their entries may come after
// the last record's.
func (w *world) drain(ctx context.Context, sum *sim.Summary) error {
	what := ""
	err := w.until(ctx, 15*time.Minute, "the drain", func() bool {
		for _, m := range w.members {
			inc := m.current()
			if inc == nil {
				what = m.name + " is down"
				return false
			}
			if what = cmp.Or(undrained(inc.node, sum, w.shards), w.olderRules(m), w.olderList(m)); what != "" {
				what = m.name + ": " + what
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, what)
	}
	return nil
}

// undrained says what a node's replicas have not done yet.
func undrained(n *node.Node, sum *sim.Summary, shards int) string {
	st := n.Status()
	if len(st.Shards) != shards {
		return "not all shards run"
	}
	for i := range st.Shards {
		s := &st.Shards[i]
		v := &s.State
		for part, why := range s.Stopped {
			return fmt.Sprintf("shard %d: %s stopped: %s", s.Shard, part, why)
		}
		if !v.Configured {
			return fmt.Sprintf("shard %d is not configured", s.Shard)
		}
		for p := range sum.Partitions {
			if int(p)%shards == int(s.Shard) && !slices.Contains(v.Config.Partitions, p) {
				return fmt.Sprintf("partition %d is not read", p)
			}
		}
		for _, p := range v.Partitions {
			if to := sum.Partitions[p.Partition].To; p.Next < to {
				return fmt.Sprintf("partition %d is applied up to %d of %d", p.Partition, p.Next, to)
			}
		}
		if v.OpenStatus > 0 || v.OpenEvents > 0 || v.OpenSessions > 0 {
			return fmt.Sprintf("shard %d: %d sessions open, %d events and %d sessions not cut", s.Shard, v.OpenStatus,
				v.OpenEvents, v.OpenSessions)
		}
		for _, id := range v.Config.Sinks {
			if p := v.Sinks[id]; p.Acked < v.LastClosed || p.PlanB > p.Acked {
				return fmt.Sprintf("shard %d: %s is at epoch %d of %d", s.Shard, id, p.Acked, v.LastClosed)
			}
		}
	}
	return ""
}
