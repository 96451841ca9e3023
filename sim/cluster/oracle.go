package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"deckle/event"
	"deckle/sim"
	"deckle/state"
)

// oracle looks at replicas and tables from time to time.
//
//	a look ──► replicas: counters (I1), checksum by index (I2), offsets never fall (I3)
//	       ──► tables: the plans that are done by the mark of the sink (txn, ledger) are visible as a whole; of later
//	           plans only what may be visible (docs/design.md I7, docs/clickhouse.md) is; and nothing goes back
//	           (sim/history)
type oracle struct {
	w *world

	delta *deltaLooks
	click *clickLooks

	mu       sync.Mutex
	sums     map[shardIndex]seenSum
	promised map[int32]int64 // by partition: offsets that some replica has applied

	entries map[entryAt]uint64 // checksum of each log entry seen on a disk

	decided *decisions // by the log; set at the end

	looks, audits int64
	compared      int64
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
	return &oracle{w: w, delta: newDeltaLooks(w.plans, w.history, w.objects),
		click: newClickLooks(w.plans, w.history, w.click),
		sums:  map[shardIndex]seenSum{}, promised: map[int32]int64{}, entries: map[entryAt]uint64{}}
}

// follow looks at replicas and tables until ctx ends.
func (o *oracle) follow(ctx context.Context) {
	for sim.Pause(ctx, o.w.rng.between(300*time.Millisecond, o.w.opts.Looks)) == nil {
		o.look(ctx)
	}
}

func (o *oracle) look(ctx context.Context) {
	o.mu.Lock()
	o.looks++
	o.mu.Unlock()
	o.replicas()
	o.delta.look(ctx)
	o.click.look()
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
		o.w.history.fail("I2: shard %d at index %d: %s has checksum %x, %s had %x", shard, index, m.name, sum, seen.by,
			seen.sum)
	} else if !ok {
		o.sums[at] = seenSum{sum, m.name}
	}
}

// counters compares a replica's offsets with its verdicts and its gaps (I1).
func counters(v *state.View) string {
	var offsets, letters, given int64
	for _, g := range v.Gaps {
		given += g.Offsets
	}
	for i, p := range v.Partitions {
		offsets += p.Next - v.Config.Starts[i]
	}
	for reason, n := range v.DeadLetters {
		if reason != event.SinkRejected {
			letters += n
		}
	}
	if out := v.RuleCounts.LeftOut(); offsets != v.Applied+v.Duplicates+v.Nulls+letters+out+given {
		return fmt.Sprintf("%d offsets, but %d applied, %d duplicates, %d nulls, %d dead letters, %d left out and %d "+
			"in gaps", offsets, v.Applied, v.Duplicates, v.Nulls, letters, out, given)
	}
	return ""
}
