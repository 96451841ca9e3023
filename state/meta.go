package state

import (
	"time"

	"deckle/event"
	"deckle/schema/level"
)

// meta is everything small. It is stored as JSON under one key, in the same batch as all the rest.
type meta struct {
	Version     int
	Index, Term uint64
	Configured  bool
	Config      Config
	ClockMillis int64 // of event time; 0 while it is unset
	Forced      int64 // the horizon is at least this, Unix seconds
	TimersDue   bool
	OpenEpoch   uint64
	LastClosed  uint64
	LastSum     uint64
	LastCut     int64 // clock of the last Cut, Unix milliseconds
	NextSeq     uint64
	Sinks       [NumSinks]Progress
	Partitions  []PartitionStatus
	Applied     int64
	Counted     int64
	Duplicates  int64
	Nulls       int64
	DeadLetters map[event.Reason]int64
	Live        int64
	Open        int64
	Dates       map[int32]dateState
	Refused     map[string]uint64 // by sink and row key (see refusedKey): images up to this epoch are refused

	// From level 2 on. Level 1 has none of it, so that its stores have the bytes that v0.1.0 writes.
	Level      level.Level `json:",omitempty"` // 0 for level 1
	LevelEpoch uint64      `json:",omitempty"` // the last epoch of level 1
	// LevelEpochs are the last epochs of the levels from level.Real on that the shard has left, in their order.
	LevelEpochs []uint64      `json:",omitempty"`
	Horizon     int64         `json:",omitempty"` // Unix seconds; level 1 computes it
	LevelClock  int64         `json:",omitempty"` // the greatest time seen when the level was raised, Unix seconds
	Rules       Rules         `json:",omitzero"`
	RuleCounts  Counted       `json:",omitzero"`
	DatesTo     int32         `json:",omitempty"` // dates before it that are not in Dates have no totals in Pebble
	FormerRules []FormerRules `json:",omitempty"` // ascending; those of epochs that a sink has not acknowledged yet
	// Gaps are replaced, never changed: views share them.
	Gaps map[int32]PartitionGaps `json:",omitempty"`
	// EventGaps are those of raw events alone, PendingGaps those of them that the sink of raw events has not passed,
	// ascending by (partition, from). Both are replaced, never changed: views and plans share them.
	EventGaps   map[int32]PartitionGaps `json:",omitempty"`
	PendingGaps []EventsGap             `json:",omitempty"`
	// What the caps have cut, since the shard was created; see View.
	FullByBytes    int64     `json:",omitempty"`
	MetricsOmitted int64     `json:",omitempty"`
	Keys           KeyCounts `json:",omitzero"`
	// Suppress is the list of suppressed readers, without its listings (level 3).
	Suppress storedSuppress `json:",omitzero"`
	// Unwritten are the closed sessions of which the table of sessions may have no row (level 4).
	Unwritten unwritten `json:",omitzero"`
	// TopicPartitions is Count of the last Partitions entry, AddedStarts are the first offsets of the partitions that
	// such entries have added, ascending by partition (level 5).
	TopicPartitions int32   `json:",omitempty"`
	AddedStarts     []int64 `json:",omitempty"`

	stay int64 // instead of longestStay, in seconds, for tests; not stored
}

// level is stored from level 2 on only: a store of level 1 has the bytes that v0.1.0 writes.
func (m *meta) level() level.Level { return max(m.Level, level.First) }

// levelOf returns the level of a closed epoch.
func (m *meta) levelOf(epoch uint64) level.Level {
	if epoch <= m.LevelEpoch {
		return level.First
	}
	for i, last := range m.LevelEpochs {
		if epoch <= last {
			return level.Real + level.Level(i)
		}
	}
	return m.level()
}

// rulesOf returns the rules of a closed epoch that some sink has not acknowledged yet.
func (m *meta) rulesOf(epoch uint64) Rules {
	for _, f := range m.FormerRules {
		if epoch <= f.Until {
			return f.Rules
		}
	}
	return m.Rules
}

// boundary returns the last epoch at or after the given one that has the same level and the same rules.
func (m *meta) boundary(epoch uint64) uint64 {
	last := m.LastClosed
	if epoch <= m.LevelEpoch {
		last = min(last, m.LevelEpoch)
	}
	for _, end := range m.LevelEpochs {
		if epoch <= end {
			last = min(last, end)
		}
	}
	for _, f := range m.FormerRules {
		if epoch <= f.Until {
			return min(last, f.Until)
		}
	}
	return last
}

// dateState is what is known of one date of the rollups.
type dateState struct {
	Live      int64  // the number of sessions in the state that are counted on it
	LastEpoch uint64 // of the last Cut that moved one of its totals
}

// partition returns the status of one of the shard's partitions, nil for another one.
func (m *meta) partition(p int32) *PartitionStatus {
	for i := range m.Partitions {
		if m.Partitions[i].Partition == p {
			return &m.Partitions[i]
		}
	}
	return nil
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
