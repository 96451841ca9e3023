package cluster

import (
	"context"
	"fmt"
	"sync"

	"github.com/cespare/xxhash/v2"

	"deckle/schema"
	"deckle/sinks"
	"deckle/state"
)

// plans keeps the content of every plan that a sink was given, by any process: what the tables must show follows from
// them. A plan that is written again must be the same (I4).
//
//	Write(plan) by any process ──► plan is read whole ──► first of its (sink, shard, b)?  kept
//	                                                      seen before?                    must be equal
type plans struct {
	history *runHistory

	mu   sync.Mutex
	by   map[planKey]*planRecord
	last map[sinkShard]uint64 // the greatest b seen of each sink and shard
	// revisions are those of the rules that shards have had, as far as a plan has shown them.
	revisions map[rulesAt]uint64
}

// rulesAt is a number of rules of a shard.
type rulesAt struct{ shard, number uint32 }

func newPlans(h *runHistory) *plans {
	return &plans{history: h, by: map[planKey]*planRecord{}, last: map[sinkShard]uint64{},
		revisions: map[rulesAt]uint64{}}
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
	seenBy map[*gate]bool
}

// image is one version of a row.
type image struct {
	epoch  uint64
	digest uint64
}

type totalKey struct {
	table schema.RollupTable
	date  int32
	dims  string
}

// watch returns the wrapper that a process, whose gate is given, puts around its sinks.
func (k *plans) watch(host string, gate *gate) func(sinks.Sink) sinks.Sink {
	return func(s sinks.Sink) sinks.Sink {
		w := &watched{Sink: s, plans: k, host: host, gate: gate}
		if e, ok := s.(sinks.EventsSink); ok {
			return &watchedEvents{watched: w, events: e}
		}
		return w
	}
}

// watched is a sink whose plans are read first.
type watched struct {
	sinks.Sink
	plans *plans
	host  string
	gate  *gate
}

type watchedEvents struct {
	*watched
	events sinks.EventsSink
}

// Buffer implements sinks.EventsSink.
func (w *watchedEvents) Buffer(shard uint32) sinks.EventsBuffer { return w.events.Buffer(shard) }

// Write implements sinks.Sink: it reads the plan first.
func (w *watched) Write(ctx context.Context, p *state.Plan) error {
	if err := w.plans.record(w.host, w.gate, p); err != nil {
		return err
	}
	return w.Sink.Write(ctx, p)
}

// record keeps a plan, or compares it with what was kept.
func (k *plans) record(host string, from *gate, p *state.Plan) error {
	key := planKey{sinkShard{p.Sink, p.Config.Shard}, p.B}
	k.mu.Lock()
	before := k.by[key]
	known := before != nil && before.seenBy[from]
	k.mu.Unlock()
	if known {
		return nil
	}
	rec, err := read(p)
	if err != nil {
		return err
	}
	if from.dead() {
		return nil // its disk belongs to the next process
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if before = k.by[key]; before == nil {
		if last := k.last[key.sinkShard]; p.A != last {
			k.history.fail("I4: %s gives %s of shard %d the plan (%d, %d], the last one ended at %d", host, p.Sink,
				key.shard, p.A, p.B, last)
		}
		k.last[key.sinkShard] = max(k.last[key.sinkShard], p.B)
		for i := range p.Epochs {
			r := p.RulesAt(p.Epochs[i].Epoch)
			k.revisions[rulesAt{key.shard, r.Number}] = r.Revision
		}
		rec.seenBy = map[*gate]bool{from: true}
		k.by[key] = rec
		return nil
	}
	before.seenBy[from] = true
	if before.a != rec.a || before.digest != rec.digest {
		k.history.fail("I4: the plan (%d, %d] of %s, shard %d, has content %x for %s; it was (%d, %d] with %x", rec.a,
			rec.b, p.Sink,
			key.shard, rec.digest, host, before.a, before.b, before.digest)
	}
	return nil
}

// read reads the content of a plan.
func read(p *state.Plan) (*planRecord, error) {
	rec := &planRecord{a: p.A, b: p.B, epochs: p.Epochs, rows: map[string]image{}, totals: map[totalKey]image{}}
	sum := xxhash.New()
	for i := range p.Epochs {
		e := &p.Epochs[i]
		_, _ = fmt.Fprintf(sum, "%d %d %d %d %d %v %v %v %x|", e.Epoch, e.Level, e.Rules, e.Events,
			e.Letters, e.Ranges, e.LeftOut, e.Gaps, e.Checksum)
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
		err = p.Sessions(func(r *schema.SessionRow) error {
			im := image{r.Epoch, rowDigest(r)}
			rec.rows[r.Key()] = im
			_, _ = fmt.Fprintf(sum, "%s %d %x|", r.Key(), im.epoch, im.digest)
			return nil
		})
		if err == nil && p.Sink == state.SinkClickHouse {
			err = p.Rollups(func(r *schema.RollupRow) error {
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

func keyOf(r *schema.RollupRow) totalKey {
	return totalKey{r.Table, r.Date, fmt.Sprintf("%q", r.Dims)}
}

func totalDigest(r *schema.RollupRow) uint64 {
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
