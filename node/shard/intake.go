package shard

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"deckle/event"
	"deckle/node/kafka"
	"deckle/schema/level"
	"deckle/state"
)

const (
	linger        = 50 * time.Millisecond  // how long an entry waits for more records
	maintainEvery = 250 * time.Millisecond // idleness, pauses, ticks, lag
)

// errResync asks for a new beginning from the applied offsets.
var errResync = errors.New("shard: entry was not applied as proposed")

// intake is one run of a leader's way from Kafka to Raft, from offsets that are known to be applied. One goroutine owns
// all of it.
type intake struct {
	*leadership
	cfg   state.Config
	level level.Level // of the shard, and its rules: they change between two runs only
	rules state.Rules
	list  *event.Suppression // of suppressed readers; it may change during a run: see relist
	src   *kafka.Source      // nil when there is nothing to read
	parts map[int32]*partition
	order []int32 // the partitions, ascending

	cur     *batchBuf
	spare   []*batchBuf
	pending []kafka.Part // accepted from the source, not yet in cur
	ratio   float64      // bytes of an entry per byte of values, as learnt

	proposed   chan proposal // to the goroutine that awaits the results, in order
	results    chan result   // from it
	inFlight   int           // entries without a result
	cutPending bool          // a cut is among them
	cutDue     bool          // one shall be proposed as soon as possible
	turn       *uint64       // the turn for which it shall; nil: none
	turnSent   *uint64       // the turn of the cut in flight; nil: none
	dirty      bool          // something has been proposed since the last cut
	events     int64         // proposed since the last cut
	prevCut    struct{ epoch, checksum uint64 }

	lastEntry time.Time
	troubled  time.Time  // when the client last reported an error, or the run began
	idleSince time.Time  // since when all partitions have been idle; zero if they are not
	idle      []int32    // ascending
	paused    string     // why intake rests, "" if it does not
	began     time.Time  // of this run
	askedRise time.Time  // when it was last asked whether the level may rise
	mayRise   chan risen // the answer; has room for it
	unpaused  time.Time  // when it last began to read
	out       []int32    // the partitions that the clock does not wait for, ascending
	answered  time.Time  // since when brokers have answered without a break; zero if they do not: see brokersAnswer
	listed    *kafka.Listing
	forced    time.Time          // when the horizon was last forced up
	probe     *probe             // of a partition that failed; nil while none runs
	second    *secondLook        // at partitions that have stopped; nil while none is taken
	verdicts  chan kafka.Verdict // of comparisons; has room for all
	// compare is kafka.Client.Compare.
	compare   func(ctx context.Context, topicID [16]byte, known []kafka.Known, tell func(kafka.Verdict))
	sizes     []int32                         // of the topic: see topicSizes
	placing   int                             // records whose place may be looked at before the next maintenance
	keys      placed                          // of this run and those before
	startWork func(func(ctx context.Context)) // runs work that ends with this run
}

// runIntake reads, proposes and cuts until ctx ends or an error asks for a new run.
func (l *leadership) runIntake(ctx context.Context) error {
	if err := l.group.Barrier(ctx); err != nil {
		return err
	}
	if err := l.rise(ctx); err != nil {
		return err
	}
	l.Sinks.AwaitEvents(ctx)
	view := l.store.View()
	in := newIntake(l, &view)
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	in.startWork = func(f func(context.Context)) { work.Go(func() { f(ctx) }) }
	defer func() { cancel(); work.Wait() }()
	in.startWork(in.awaitResults)
	if err := in.open(ctx, &view); err != nil {
		return err
	}
	if in.src != nil {
		defer in.src.Close()
	}
	l.epochs.announce()
	l.cond.setWaiting("")
	return in.run(ctx)
}

func newIntake(l *leadership, view *state.View) *intake {
	now := l.Now()
	// There is room for every entry that may be in flight, those on top of the limit included.
	room := l.entriesInFlight() + 4
	in := &intake{
		leadership: l, cfg: view.Config, level: view.Level, rules: view.Rules,
		list:  l.store.Suppression(),
		began: now, unpaused: now, answered: now, askedRise: now, mayRise: make(chan risen, 1),
		parts: map[int32]*partition{}, ratio: 0.3, compare: l.Kafka.Compare,
		verdicts: make(chan kafka.Verdict, len(view.Partitions)),
		proposed: make(chan proposal, room), results: make(chan result, room),
		dirty: true, events: view.OpenEvents, lastEntry: now, troubled: now,
	}
	in.cur = in.newBuf()
	if p := l.placed.Load(); p != nil {
		in.keys = *p
	}
	in.prevCut.epoch, in.prevCut.checksum = view.LastClosed, view.LastChecksum
	for _, p := range view.Partitions {
		in.parts[p.Partition] = &partition{id: p.Partition, next: p.Next, applied: p.Next, moved: now,
			epoch: p.LeaderEpoch, proof: proof{offset: p.LastOffset, hash: p.LastHash}}
		in.order = append(in.order, p.Partition)
	}
	slices.Sort(in.order)
	// What this leadership has not seen cannot be in its buffer, unless there was nothing to see.
	l.epochs.note(view.LastClosed)
	l.buffer.discard()
	l.buffer.whole = view.OpenEvents == 0
	in.openBuffer()
	return in
}

// openBuffer asks for a buffer of raw events where there is none. It is called where an epoch begins.
func (in *intake) openBuffer() {
	if in.buffer.buf == nil && slices.Contains(in.cfg.Sinks, state.SinkEvents) {
		if s := in.Sinks.Events(); s != nil {
			in.buffer.buf = s.Buffer(in.id)
			in.buffer.buf.Rise(level.Level(in.store.Level())) // a level rises only between two runs of the intake
		}
	}
}

// open checks the topic and starts to fetch.
func (in *intake) open(ctx context.Context, view *state.View) error {
	if len(in.order) == 0 || in.waits != "" {
		return nil
	}
	began := in.Now()
	dctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	info, err := in.Kafka.Describe(dctx)
	cancel()
	if err != nil {
		// That the topic is absent is no reason to keep what is in the state from the sinks: run without a source for
		// now, until a listing of the topic succeeds.
		in.cond.setFailing("source", err)
		return nil
	} else if !kafka.SameTopic(in.cfg.TopicID, info.ID) {
		in.stopForeign()
	} else {
		in.familiar(info.ID, began)
	}
	next := slices.DeleteFunc(slices.Clone(view.Partitions), func(p state.PartitionStatus) bool {
		return in.cond.stoppedFor(partName(p.Partition)) != ""
	})
	for _, p := range in.order {
		in.parts[p].stopped = in.cond.stoppedFor(partName(p))
		in.cond.setFailing(partName(p), nil)
	}
	if len(next) == 0 {
		return nil
	}
	shards := int64(max(in.Config.Cluster.Shards, 1))
	in.src, err = in.Kafka.OpenSource(ctx, in.cfg.TopicID, next, max(in.Config.Kafka.FetchMaxBytes/shards, 1<<20),
		in.Config.Limits.FetchMemoryBytes/shards)
	return err
}

func (in *intake) run(ctx context.Context) error {
	maintenance := time.NewTicker(maintainEvery)
	defer maintenance.Stop()
	cut := time.NewTimer(untilCut(in.Now(), in.Config, in.id))
	defer cut.Stop()
	cuts, turns := cut.C, (<-chan uint64)(nil)
	if in.turns != nil {
		cuts, turns = nil, in.turns.due
		defer in.turns.run()()
	}
	lingering := time.NewTimer(time.Hour)
	defer lingering.Stop()
	for {
		if in.paused == "" {
			in.fill()
		}
		in.propose()
		var chunks <-chan kafka.Chunk
		if in.src != nil && in.paused == "" && len(in.pending) == 0 {
			chunks = in.src.Chunks()
		}
		if !in.cur.empty() && in.inFlight < in.entriesInFlight() {
			lingering.Reset(max(in.cur.began.Add(linger).Sub(in.Now()), time.Millisecond))
		}
		select {
		case c := <-chunks:
			if err := in.accept(&c); err != nil {
				return err
			}
		case v := <-in.verdicts:
			in.compared(&v)
		case r := <-in.results:
			if err := in.handle(&r); err != nil {
				return err
			}
		case o := <-in.listOrders:
			if err := in.obeyList(ctx, o); err != nil {
				return err
			}
		case o := <-in.orders:
			if err := in.obey(ctx, o); err != nil {
				return err
			}
		case <-lingering.C:
		case <-cuts:
			in.cutDue = true
			cut.Reset(untilCut(in.Now(), in.Config, in.id))
		case turn := <-turns:
			in.cutDue, in.turn = true, &turn
		case <-maintenance.C:
			if err := in.maintain(); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
