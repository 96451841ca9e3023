package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"deckle/event"
	"deckle/node/config"
	"deckle/sim"
	"deckle/state"
)

// rulesFile is what the configuration of a node says about personal data.
type rulesFile struct {
	revision int   // rules.revision; world.rules has what it means
	keys     []int // privacy.keys, by their numbers; the first is that of new rules
}

func (f rulesFile) equals(o rulesFile) bool {
	return f.revision == o.revision && slices.Equal(f.keys, o.keys)
}

const hmacPrefix = "hmac-"

// hmacKey returns what a file of privacy.keys has.
func hmacKey(path string) (key string, ok bool) {
	name, ok := strings.CutPrefix(path, hmacPrefix)
	if !ok {
		return "", false
	}
	n := 0
	_, err := fmt.Sscan(name, &n)
	return sim.PrivateKey(n), err == nil
}

// setRules writes the file of rules into a configuration.
func (w *world) setRules(cfg *config.Config, f rulesFile) {
	cfg.Rules.Revision = f.revision
	for _, r := range w.rulesOf(f.revision).Rules {
		cfg.Rules.Privacy = append(cfg.Rules.Privacy, config.PrivacyRule(r))
	}
	for _, n := range f.keys {
		cfg.Privacy.Keys = append(cfg.Privacy.Keys, config.KeyFile{File: fmt.Sprint(hmacPrefix, n)})
	}
}

// rulesOf returns the rules of a revision.
func (w *world) rulesOf(revision int) *sim.PrivateRules {
	w.rulesLock.Lock()
	defer w.rulesLock.Unlock()
	return &w.rules[revision]
}

// newest is the newest revision.
func (w *world) newest() int {
	w.rulesLock.Lock()
	defer w.rulesLock.Unlock()
	return len(w.rules) - 1
}

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

// newestRules wants every replica to have the rules that all files have.
func (o *oracle) newestRules() {
	for shard := range uint32(o.w.shards) {
		for _, m := range o.w.members {
			if s := m.store(shard); s != nil && s.Peek().Rules.Revision != uint64(o.w.newest()) {
				o.w.history.fail("%s has the rules of revision %d in shard %d, all files have %d", m.name,
					s.Peek().Rules.Revision, shard, o.w.newest())
			}
		}
	}
}

// truth returns the truth of what was produced, each record decoded by the rules of the epoch that has its offset.
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
	first, unknown := sim.FirstRules(), false
	truth, err := o.w.truth.By(func(partition int32, offset int64) *sim.PrivateRules {
		for _, s := range spans[partition] {
			if s.from <= offset && offset < s.to {
				return s.rules
			}
		}
		unknown = true
		return &first
	})
	if err == nil && unknown && o.w.newest() > 0 {
		err = errors.New("no epoch has the offset of a record, so nobody knows by which rules it was decoded")
	}
	return truth, err
}
