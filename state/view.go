package state

import (
	"maps"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"deckle/event"
)

// View returns a copy of the shard's counters.
func (s *Store) View() View {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.view()
}

// Peek returns the shard's counters as of the latest entry that has been applied, or of the latest checkpoint. It does
// not wait for the entry that is being applied. Its maps and slices are shared, so nobody may change them.
func (s *Store) Peek() View {
	v := *s.recent.Load()
	v.DurableIndex = s.durable.get()
	return v
}

// publish sets what Peek returns. It is called with mu held.
func (s *Store) publish() {
	v := s.view()
	s.recent.Store(&v)
}

func (s *Store) view() View {
	m := &s.meta
	v := View{
		Config: m.presentConfig(), Level: m.level(), Rules: m.Rules, Configured: m.Configured,
		Index: m.Index, Term: m.Term,
		Clock: s.meta.clock(), Horizon: s.meta.horizon(),
		Partitions: slices.Clone(m.Partitions), TopicPartitions: m.TopicPartitions,
		Founded:   len(m.Config.Partitions),
		OpenEpoch: m.OpenEpoch, LastClosed: m.LastClosed, LastChecksum: m.LastSum,
		Sinks: m.Sinks, OpenEvents: s.open.applied(), OpenSessions: int64(len(s.changed)),
		Applied: m.Applied, Counted: m.Counted, Duplicates: m.Duplicates, Nulls: m.Nulls,
		FullByBytes: m.FullByBytes, MetricsOmitted: m.MetricsOmitted, Keys: m.Keys,
		DeadLetters: make(map[event.Reason]int64, len(m.DeadLetters)), LiveSessions: m.Live, OpenStatus: m.Open,
		Resident: int64(len(s.sessions)), MemoryBytes: s.memory, DirtyBytes: s.dirtyBytes,
		DurableIndex: s.durable.get(),
		TimersDue:    m.TimersDue,
	}
	v.KeyIDs, v.Suppress = m.keyIDs(), suppressInfo(s.readers.list.Load())
	maps.Copy(v.DeadLetters, m.DeadLetters)
	v.RuleCounts, v.Gaps, v.EventGaps = m.RuleCounts, m.Gaps, m.EventGaps
	v.RuleCounts.Excluded, v.RuleCounts.Zeroed = maps.Clone(m.RuleCounts.Excluded), maps.Clone(m.RuleCounts.Zeroed)
	if next, err := s.nextTimer(); err == nil && next < math.MaxInt64 {
		v.NextTimer = next
	}
	return v
}

// Metrics returns Pebble's own figures; nil when the store is closed. It does not wait for the entry that is being
// applied.
func (s *Store) Metrics() *pebble.Metrics {
	s.handle.RLock()
	defer s.handle.RUnlock()
	if s.db == nil {
		return nil
	}
	return s.db.Metrics()
}

// setDB is called with mu held, or before anything else knows the store.
func (s *Store) setDB(db *pebble.DB) {
	s.handle.Lock()
	defer s.handle.Unlock()
	s.db = db
}

// closeDB is called under the same condition as setDB.
func (s *Store) closeDB() error {
	s.handle.Lock()
	defer s.handle.Unlock()
	db := s.db
	s.db = nil
	return db.Close()
}
