package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"deckle/event"
	"deckle/schema"
	"deckle/sinks"
	"deckle/state"
)

// oracle knows what the tables must show: it reads every plan before a sink is given it, and looks at replicas and tables
// from time to time.
//
//	Write(plan) by any process ──► plan is read whole ──► first of its (sink, shard, b)?  kept
//	                                                      seen before?                    must be equal (I4)
//	a look ──► replicas: counters (I1), checksum by index (I2), offsets never fall (I3)
//	       ──► tables: the plans that the sink's own mark (txn, ledger) says are done are visible whole; of later plans,
//	           what may be visible is (docs/design.md I7, docs/clickhouse.md); nothing else, and nothing goes back
type oracle struct {
	w *world

	mu    sync.Mutex
	plans map[planKey]*planRecord
	last  map[sinkShard]uint64 // the greatest b seen of each sink and shard

	sums     map[shardIndex]seenSum
	promised map[int32]int64 // by partition: offsets that some replica has applied
	delta    deltaLooks
	click    clickLooks

	entries map[entryAt]uint64 // checksum of each log entry seen on a disk

	looks, audits int64
	compared      int64
}

type sinkShard struct {
	sink  state.SinkID
	shard uint32
}

type planKey struct {
	sinkShard
	b uint64
}

// planRecord is the content of one plan.
type planRecord struct {
	a, b   uint64
	digest uint64
	epochs []state.EpochInfo
	rows   map[string]image   // sessions, by row key
	totals map[totalKey]image // rollups
	left   map[state.Position]bool
	seenBy map[*incarnation]bool
}

// image is one version of a row.
type image struct {
	epoch  uint64
	digest uint64
}

type totalKey struct {
	table state.RollupTable
	date  int32
	dims  string
}

type shardIndex struct {
	shard uint32
	index uint64
}

type seenSum struct {
	sum uint64
	by  string
}

func newOracle(w *world) *oracle {
	return &oracle{w: w, plans: map[planKey]*planRecord{}, last: map[sinkShard]uint64{}, sums: map[shardIndex]seenSum{},
		promised: map[int32]int64{}, entries: map[entryAt]uint64{}, delta: newDeltaLooks(), click: newClickLooks()}
}

// watch returns what a process puts in the place of its sinks.
func (o *oracle) watch(inc *incarnation) func(sinks.Sink) sinks.Sink {
	return func(s sinks.Sink) sinks.Sink {
		w := &watched{Sink: s, o: o, inc: inc}
		if e, ok := s.(sinks.EventsSink); ok {
			return &watchedEvents{watched: w, events: e}
		}
		return w
	}
}

// watched is a sink whose plans the oracle reads first.
type watched struct {
	sinks.Sink
	o   *oracle
	inc *incarnation
}

type watchedEvents struct {
	*watched
	events sinks.EventsSink
}

func (w *watchedEvents) Buffer(shard uint32) sinks.EventsBuffer { return w.events.Buffer(shard) }

func (w *watched) Write(ctx context.Context, p *state.Plan) error {
	if err := w.o.record(w.inc, p); err != nil {
		return err
	}
	return w.Sink.Write(ctx, p)
}

// record keeps a plan, or compares it with what was kept.
func (o *oracle) record(inc *incarnation, p *state.Plan) error {
	key := planKey{sinkShard{p.Sink, p.Config.Shard}, p.B}
	o.mu.Lock()
	before := o.plans[key]
	known := before != nil && before.seenBy[inc]
	o.mu.Unlock()
	if known {
		return nil
	}
	rec, err := read(p)
	if err != nil {
		return err
	}
	if inc.gate.dead() {
		return nil // its disk is not its own any more
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if before = o.plans[key]; before == nil {
		if last := o.last[key.sinkShard]; p.A != last {
			o.w.history.fail("I4: %s gives %s of shard %d the plan (%d, %d], the last one ended at %d", inc.host, p.Sink, key.shard, p.A, p.B, last)
		}
		o.last[key.sinkShard] = max(o.last[key.sinkShard], p.B)
		rec.seenBy = map[*incarnation]bool{inc: true}
		o.plans[key] = rec
		return nil
	}
	before.seenBy[inc] = true
	if before.a != rec.a || before.digest != rec.digest {
		o.w.history.fail("I4: the plan (%d, %d] of %s, shard %d, has content %x for %s; it was (%d, %d] with %x", rec.a, rec.b, p.Sink,
			key.shard, rec.digest, inc.host, before.a, before.b, before.digest)
	}
	return nil
}

// read takes a plan's content.
func read(p *state.Plan) (*planRecord, error) {
	rec := &planRecord{a: p.A, b: p.B, epochs: p.Epochs, rows: map[string]image{}, totals: map[totalKey]image{}}
	sum := xxhash.New()
	for i := range p.Epochs {
		e := &p.Epochs[i]
		_, _ = fmt.Fprintf(sum, "%d %d %d %v %v %x|", e.Epoch, e.Events, e.Letters, e.Ranges, e.LeftOut, e.Checksum)
	}
	var err error
	switch p.Sink {
	case state.SinkEvents:
		rec.left = map[state.Position]bool{}
		for _, l := range p.LeftOut() {
			rec.left[l] = true
		}
	case state.SinkDeadLetter:
		err = p.DeadLetters(func(l *state.DeadLetter) error {
			_, _ = fmt.Fprintf(sum, "%d %d %s %d|", l.Partition, l.Offset, l.Reason, l.Seq)
			return nil
		})
	default:
		err = p.Sessions(func(r *state.SessionRow) error {
			im := image{r.Epoch, rowDigest(r)}
			rec.rows[r.Key()] = im
			_, _ = fmt.Fprintf(sum, "%s %d %x|", r.Key(), im.epoch, im.digest)
			return nil
		})
		if err == nil && p.Sink == state.SinkClickHouse {
			err = p.Rollups(func(r *state.RollupRow) error {
				im := image{r.Epoch, totalDigest(r)}
				rec.totals[keyOf(r)] = im
				_, _ = fmt.Fprintf(sum, "%v %d %x|", keyOf(r), im.epoch, im.digest)
				return nil
			})
		}
	}
	rec.digest = sum.Sum64()
	return rec, err
}

func keyOf(r *state.RollupRow) totalKey {
	return totalKey{r.Table, r.Date, fmt.Sprintf("%q", r.Dims)}
}

func totalDigest(r *state.RollupRow) uint64 {
	return digestOf(r.Sessions, r.Duration, r.Events, r.Views, r.Plays, r.Signups, r.AdClicks)
}

func digestOf(totals ...int64) uint64 { return xxhash.Sum64String(fmt.Sprint(totals)) }

// rowDigest is a digest of what both sinks show of a session.
func rowDigest(r *schema.SessionRow) uint64 {
	var b []byte
	for i := range schema.Sessions {
		if c := &schema.Sessions[i]; c.Name != "created_at" {
			b = append(append(b, c.String(r)...), 0)
		}
	}
	return xxhash.Sum64(b)
}

// follow looks at replicas and tables until ctx ends.
func (o *oracle) follow(ctx context.Context) {
	for wait(ctx, o.w.rng.between(300*time.Millisecond, o.w.opts.Looks)) == nil {
		o.look(ctx)
	}
}

func (o *oracle) look(ctx context.Context) {
	o.mu.Lock()
	o.looks++
	o.mu.Unlock()
	o.replicas()
	o.tables(ctx)
	if o.w.rng.IntN(3) == 0 {
		o.audit()
	}
}

// replicas looks at every replica that runs.
func (o *oracle) replicas() {
	for _, m := range o.w.members {
		inc := m.current()
		if inc == nil {
			continue
		}
		for shard := range uint32(o.w.shards) {
			if s := inc.node.Store(shard); s != nil {
				o.replica(m, inc, shard, s)
			}
		}
	}
}

func (o *oracle) replica(m *member, inc *incarnation, shard uint32, s *state.Store) {
	v := s.View()
	if !v.Configured {
		return
	}
	index, _ := s.Applied()
	sum, err := s.Checksum()
	after, _ := s.Applied()
	o.mu.Lock()
	defer o.mu.Unlock()
	if inc.gate.dead() {
		return
	}
	if why := counters(&v); why != "" {
		o.w.history.fail("I1: %s, shard %d, index %d: %s", m.name, shard, v.Index, why)
	}
	for _, p := range v.Partitions {
		o.promised[p.Partition] = max(o.promised[p.Partition], p.Next)
	}
	if err != nil || index != after {
		return
	}
	at := shardIndex{shard, index}
	if seen, ok := o.sums[at]; ok && seen.sum != sum {
		o.w.history.fail("I2: shard %d at index %d: %s has checksum %x, %s had %x", shard, index, m.name, sum, seen.by, seen.sum)
	} else if !ok {
		o.sums[at] = seenSum{sum, m.name}
	}
}

// counters compares a replica's offsets with its verdicts (I1).
func counters(v *state.View) string {
	var offsets, letters int64
	for i, p := range v.Partitions {
		offsets += p.Next - v.Config.Starts[i]
	}
	for reason, n := range v.DeadLetters {
		if reason != event.SinkRejected {
			letters += n
		}
	}
	if offsets != v.Applied+v.Duplicates+v.Nulls+letters {
		return fmt.Sprintf("%d offsets, but %d applied, %d duplicates, %d nulls and %d dead letters", offsets, v.Applied, v.Duplicates, v.Nulls, letters)
	}
	return ""
}
