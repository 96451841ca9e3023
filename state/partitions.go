package state

import (
	"fmt"
	"slices"

	"deckle/schema/level"
)

// PartitionsRefusal says why a Partitions entry has changed nothing.
type PartitionsRefusal uint8

// The refusals.
const (
	PartitionsTaken    PartitionsRefusal = iota // it was not refused
	PartitionsByLevel                           // the shard is below level.Operate, or is not created yet
	PartitionsByShown                           // the shard is not what From and Have say any more
	PartitionsByCount                           // Count is less than the shard has taken, or its partitions are others
	PartitionsByStarts                          // there are more or fewer Starts than new partitions
)

// PartitionsResult is what Apply returns for a Partitions entry.
type PartitionsResult struct {
	Refused PartitionsRefusal
	// Added is how many partitions are read from now on that were not before: none if the entry is a repetition, or if
	// the new partitions are those of other shards.
	Added int
	Count int32 // View.TopicPartitions afterwards
}

// Share returns the partitions that a shard reads of a topic with so many partitions, ascending: p belongs to the shard
// p mod shards. A number of shards of 0 is 1.
func Share(shard, shards uint32, count int32) (ids []int32) {
	for p := int64(shard); p < int64(count); p += int64(max(shards, 1)) {
		ids = append(ids, int32(p))
	}
	return ids
}

// addPartitions takes partitions that were added to the topic. A new one has no watermark, so the shard's clock stands
// until it has a time, is idle or is left out, as with every partition at the beginning: what it has may be as old as
// the clock, and is not too late because nobody has read it yet.
func (m *meta) addPartitions(e *PartitionsEntry) *PartitionsResult {
	res := &PartitionsResult{Count: m.TopicPartitions}
	share := Share(m.Config.Shard, m.Config.Shards, e.Count)
	have := len(m.Partitions)
	switch {
	case !m.Configured || m.level() < level.Operate:
		res.Refused = PartitionsByLevel
	case e.Count == m.TopicPartitions && e.Count > 0: // a repetition
	case m.TopicPartitions != e.From || have != int(e.Have):
		res.Refused = PartitionsByShown
	case e.Count < m.TopicPartitions || len(share) < have || !m.reads(share[:have]):
		res.Refused = PartitionsByCount
	case len(e.Starts) != len(share)-have:
		res.Refused = PartitionsByStarts
	default:
		for i, id := range share[have:] {
			m.Partitions = append(m.Partitions, PartitionStatus{Partition: id, Next: e.Starts[i], LeaderEpoch: -1})
		}
		m.AddedStarts = append(slices.Clip(m.AddedStarts), e.Starts...) // views share the former one
		m.TopicPartitions, res.Added, res.Count = e.Count, len(e.Starts), e.Count
	}
	return res
}

// reads says whether the shard's partitions are these, in this order.
func (m *meta) reads(ids []int32) bool {
	return slices.EqualFunc(m.Partitions, ids, func(p PartitionStatus, id int32) bool { return p.Partition == id })
}

// presentConfig is the configuration with the partitions that the shard reads now. The entry that has created the shard
// stays what it is.
func (m *meta) presentConfig() Config {
	c := m.Config
	if len(m.AddedStarts) == 0 {
		return c
	}
	c.Partitions = make([]int32, len(m.Partitions))
	for i := range m.Partitions {
		c.Partitions[i] = m.Partitions[i].Partition
	}
	c.Starts = slices.Concat(m.Config.Starts, m.AddedStarts)
	return c
}

// String says what a refusal means to somebody who has asked.
func (r PartitionsRefusal) String() string {
	switch r {
	case PartitionsTaken:
		return "taken"
	case PartitionsByLevel:
		return "the shard's level is below 5: it rises once all nodes run this version"
	case PartitionsByShown:
		return "the shard's partitions have changed meanwhile"
	case PartitionsByCount:
		return "the shard reads more partitions already, or others than its share"
	case PartitionsByStarts:
		return "the first offsets are not those of the new partitions"
	}
	return fmt.Sprintf("reason %d, which this version does not know", uint8(r))
}
