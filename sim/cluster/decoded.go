package cluster

import (
	"errors"
	"fmt"

	"deckle/sim"
	"deckle/state"
)

// olderRules says in which shard a replica of a node does not have the rules that all files have; "" for none.
func (w *world) olderRules(m *member) string {
	for shard := range uint32(w.shards) {
		if s := m.store(shard); s != nil && s.Peek().Rules.Revision != uint64(w.newest()) {
			return fmt.Sprintf("it has the rules of revision %d in shard %d, all files have %d",
				s.Peek().Rules.Revision, shard, w.newest())
		}
	}
	return ""
}

// olderList says which list of suppressed readers of a member is older than another one's: what changed it last, which
// no record follows, is still on its way.
func (w *world) olderList(m *member) string {
	for shard := range uint32(w.shards) {
		s := m.store(shard)
		if s == nil {
			continue
		}
		has := s.Peek().Suppress.Number
		for _, o := range w.members {
			if other := o.store(shard); other != nil && other.Peek().Suppress.Number > has {
				return fmt.Sprintf("it has list %d of suppressed readers in shard %d, %s has a newer one", has, shard,
					o.name)
			}
		}
	}
	return ""
}

// newestRules wants every replica to have the rules that all files have.
func (o *oracle) newestRules() {
	for _, m := range o.w.members {
		if what := o.w.olderRules(m); what != "" {
			o.w.history.fail("%s: %s", m.name, what)
		}
	}
}

// truth returns the truth of what was produced, each record decoded by the rules of the epoch that has its offset, and
// left out by the list of suppressed readers that held at the entry that has decided it.
func (o *oracle) truth() (*sim.Truth, error) {
	type span struct {
		from, to int64
		rules    *sim.PrivateRules
	}
	spans, used := map[int32][]span{}, map[int]bool{}
	k := o.w.plans
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, rec := range k.by {
		if key.sink != state.SinkEvents {
			continue
		}
		for i := range rec.epochs {
			e := &rec.epochs[i]
			revision, ok := k.revisions[rulesAt{key.shard, e.Rules}]
			if !ok && e.Rules > 0 {
				return nil, fmt.Errorf("epoch %d of shard %d has the rules %d, which no plan has shown", e.Epoch,
					key.shard, e.Rules)
			}
			for _, r := range e.Ranges {
				spans[r.Partition] = append(spans[r.Partition], span{r.From, r.To, o.w.rulesOf(int(revision))})
				used[int(revision)] = true
			}
		}
	}
	o.w.history.add("sim", "records were decoded by the rules of %d revisions of %d", len(used), o.w.newest()+1)
	unknown := false
	truth, err := o.w.truth.By(func(partition int32, offset int64) sim.Held {
		held := sim.Held{Suppressed: o.decided.readers(partition, offset)}
		for _, s := range spans[partition] {
			if s.from <= offset && offset < s.to {
				held.Rules = s.rules
				return held
			}
		}
		unknown = true
		return held
	})
	if err == nil && unknown && o.w.newest() > 0 {
		err = errors.New("no epoch has the offset of a record, so nobody knows by which rules it was decoded")
	}
	return truth, err
}
