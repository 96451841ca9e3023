package cluster

import (
	"context"
	"slices"
	"time"

	"deckle/event"
	"deckle/sim"
	"deckle/state"
)

// changeRules gives other rules about personal data to the nodes, as an operator does it: each is restarted with its
// new file. Half of the time the key is another one, too. Some nodes have the new file for a while and others the old
// one; then all have it, and the keys go that no shard names any more.
//
//	file (revision, keys)   n1: 4 [2]    n1: 5 [3 2]              n1: 5 [3 2]   n1: 5 [3]
//	                        n2: 4 [2] ─► n2: 4 [2]    ─► healed ─► n2: 5 [3 2] ─► n2: 5 [3]
//	                        n3: 4 [2]    n3: 5 [3 2]              n3: 5 [3 2]   n3: 5 [3]
func (w *world) changeRules(ctx context.Context) func() {
	if !w.oneRules.TryLock() {
		return nothing
	}
	w.rulesLock.Lock()
	keys := slices.Clone(w.members[0].newestFile().keys)
	if w.rng.IntN(2) == 0 {
		keys = slices.Insert(keys, 0, slices.Max(keys)+1)
	}
	w.rules = append(w.rules, sim.DrawRules(sim.PrivateKey(keys[0]), w.rng.IntN))
	f := rulesFile{revision: len(w.rules) - 1, keys: keys}
	w.history.fault("rules", "revision %d, keys %v: %v", f.revision, f.keys, w.rules[f.revision].Rules)
	w.rulesLock.Unlock()
	order := slices.Clone(w.members)
	for i := range order {
		j := i + w.rng.IntN(len(order)-i)
		order[i], order[j] = order[j], order[i]
	}
	for _, m := range order[:1+w.rng.IntN(len(order))] {
		m.give(f)
		_ = sim.Pause(ctx, w.rng.between(0, 3*time.Second))
	}
	return func() {
		w.giveAll(ctx, f)
		if needed := w.neededKeys(f); len(needed) < len(f.keys) {
			f.keys = needed
			w.history.add("operator", "of the HMAC keys %v stay", f.keys)
			w.giveAll(ctx, f)
		}
		w.oneRules.Unlock()
	}
}

func (m *member) newestFile() rulesFile {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.file
}

// give restarts the node with another file, in order.
func (m *member) give(f rulesFile) {
	m.mu.Lock()
	m.file = f
	m.mu.Unlock()
	m.restart()
}

// giveAll gives the file to the nodes that do not have it, and waits until they run with it.
func (w *world) giveAll(ctx context.Context, f rulesFile) {
	for _, m := range w.members {
		m.mu.Lock()
		m.file = f
		m.mu.Unlock()
	}
	_ = w.until(ctx, 2*time.Minute, "all nodes have the new rules", func() bool {
		for _, m := range w.members {
			inc := m.current()
			if inc != nil && inc.file.equals(f) {
				continue
			}
			if inc != nil {
				m.restart()
			}
			return false
		}
		return true
	})
}

// neededKeys returns those of the file's keys that must stay: the first, and what the leader of any shard names. All
// nodes have the file, so nobody can bring older rules into a shard; but it may have to take the newest ones still, and
// what was accepted by those before it needs their keys until then.
func (w *world) neededKeys(f rulesFile) (needed []int) {
	for i, n := range f.keys {
		id, named := event.KeyIDOf([]byte(sim.PrivateKey(n))), i == 0
		for shard := range uint32(w.shards) {
			var s *state.Store
			if lead, _ := w.leaderNow(shard); lead != nil {
				s = lead.store(shard)
			}
			if s == nil {
				return f.keys
			}
			v := s.Peek()
			named = named || v.Rules.Revision < uint64(f.revision) || slices.Contains(v.KeyIDs, id)
		}
		if named {
			needed = append(needed, n)
		}
	}
	return needed
}
