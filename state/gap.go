package state

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"deckle/event"
	"deckle/schema/level"
)

// Gap is a range of offsets [From, To) of a partition that an operator has given up: no record of it has been applied,
// and none will be. From = To gives up nothing: the log that Kafka has now is accepted as the history to go on with.
type Gap struct {
	Partition int32
	From, To  int64
	At        int64  // when, by the leader's wall clock, Unix milliseconds
	By        string // the node at whose interface it was asked for
	Reason    string // as the operator has given it
}

// PartitionGaps are the gaps of one partition since the shard was created.
type PartitionGaps struct {
	Count   int64 // how many
	Offsets int64 // how many offsets lie in them
	Last    []Gap // the latest MaxGaps of them, in order
}

const (
	// MaxGaps is how many gaps of each partition are kept in full.
	MaxGaps = 100
	// maxGapText bounds By and Reason, in bytes.
	maxGapText = 512
)

// SkipResult is what Apply returns for a Skip entry.
type SkipResult struct {
	// Rejected says that nothing was changed, because From is not the stored next offset, To is before it, the
	// partition is not the shard's, or the shard has level 1.
	Rejected bool
	Next     int64 // the stored next offset now, -1 if the partition is not the shard's
	Epoch    uint64
}

// EncodeSkip encodes the entry that gives up the offsets of a gap (level 2). Texts are cut at 512 bytes.
func EncodeSkip(g *Gap) []byte {
	c := *g
	for _, text := range []*string{&c.By, &c.Reason} { // JSON needs UTF-8
		*text = event.CutText(strings.ToValidUTF8(*text, "?"), maxGapText)
	}
	return appendGap([]byte{kindSkip, level.Entry.At(level.Real)}, &c)
}

// noteGap returns a copy of the gaps of the partitions, with one more: views share the former one.
func noteGap(all map[int32]PartitionGaps, g *Gap) map[int32]PartitionGaps {
	all = maps.Clone(all)
	if all == nil {
		all = map[int32]PartitionGaps{}
	}
	of := all[g.Partition]
	of.Count++
	of.Offsets += g.To - g.From
	of.Last = append(slices.Clone(of.Last), *g)
	of.Last = of.Last[max(0, len(of.Last)-MaxGaps):]
	all[g.Partition] = of
	return all
}

func appendGap(dst []byte, g *Gap) []byte {
	dst = binary.AppendUvarint(dst, uint64(g.Partition))
	dst = binary.AppendVarint(dst, g.From)
	dst = binary.AppendVarint(dst, g.To-g.From)
	dst = binary.AppendVarint(dst, g.At)
	return appendText(appendText(dst, g.By), g.Reason)
}

func (d *decoder) gap() Gap {
	p := d.uvarint()
	g := Gap{Partition: int32(p), From: d.varint()}
	g.To = g.From + d.varint()
	if p > math.MaxInt32 {
		d.fail("partition of a gap")
	}
	g.At = d.varint()
	g.By, g.Reason = string(d.text()), string(d.text())
	if !utf8.ValidString(g.By) || !utf8.ValidString(g.Reason) {
		d.fail("text of a gap")
	}
	return g
}

// skip moves the next offset of a partition past a gap, and forgets what is known of the record before it: the leader
// epoch and the hash, by which the history before the gap would be told from another one. It returns false if the gap
// does not begin at the next offset.
func (m *meta) skip(g *Gap) (next int64, ok bool) {
	p := m.partition(g.Partition)
	if p == nil {
		return -1, false
	}
	if m.level() < level.Real || p.Next != g.From || g.To < g.From {
		return p.Next, false
	}
	p.Next, p.LeaderEpoch, p.LastOffset, p.LastHash = g.To, -1, 0, 0
	m.Gaps = noteGap(m.Gaps, g)
	return p.Next, true
}
