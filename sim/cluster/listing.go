package cluster

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"deckle/sim"
)

// readers is what the operator of the list of suppressed readers knows.
type readers struct {
	mu     sync.Mutex
	seen   []sim.Reader              // who has records, the latest last
	busy   map[sim.Reader]bool       // whose change is under way
	listed []sim.Reader              // whom a change that is done has listed
	ever   map[sim.Reader]bool       // everybody who was in any change
	others int                       // readers without records who were listed
	events map[string][]sim.Position // by their ids, as far as they stand in front
}

// recent is how many of those who have records may be chosen: whose sessions go on, for the most part.
const recent = 80

// note takes a record that is in the topic.
func (r *readers) note(rec *sim.Record, partition int32, offset int64) {
	found := sim.ReadersOf(rec.Value)
	id, _ := bytes.CutPrefix(rec.Value, []byte(`{"event_id": "`))
	id, _, _ = bytes.Cut(id, []byte(`"`))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(id) > 20 && len(id) < len(rec.Value) {
		if r.events == nil {
			r.events = map[string][]sim.Position{}
		}
		at := sim.Position{Partition: partition, Offset: offset}
		r.events[string(id)] = append(r.events[string(id)], at)
	}
	for _, x := range found {
		if !slices.Contains(r.seen, x) {
			r.seen = append(r.seen, x)
		}
	}
	r.seen = r.seen[max(len(r.seen)-recent, 0):]
}

func (r *readers) everybody() (all []sim.Reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for x := range r.ever {
		all = append(all, x)
	}
	return all
}

// choose takes those whose change begins: for an addition some who have records, and now and then many who have none;
// for a removal some of those who are listed.
func (r *readers) choose(rng *lockedRand, add bool) (who []sim.Reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy == nil {
		r.busy, r.ever = map[sim.Reader]bool{}, map[sim.Reader]bool{}
	}
	from := r.listed
	if add {
		from = r.seen
	}
	for range 1 + rng.IntN(5) {
		if len(from) == 0 {
			break
		}
		if x := from[rng.IntN(len(from))]; !r.busy[x] {
			who = append(who, x)
			r.busy[x], r.ever[x] = true, true
		}
	}
	if add && rng.IntN(4) == 0 {
		for range 300 {
			r.others++
			x := sim.Reader{ID: fmt.Sprint("nobody-", r.others)}
			who = append(who, x)
			r.busy[x], r.ever[x] = true, true
		}
	}
	return who
}

// done notes that a change has reached every shard.
func (r *readers) done(add bool, who []sim.Reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range who {
		delete(r.busy, x)
		if r.listed = slices.DeleteFunc(r.listed, func(y sim.Reader) bool { return x == y }); add {
			r.listed = append(r.listed, x)
		}
	}
}
