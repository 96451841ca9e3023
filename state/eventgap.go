package state

import (
	"slices"

	"deckle/event"
)

// maxPendingGaps is how many gaps of raw events a shard keeps at a time that the sink of raw events has not passed.
const maxPendingGaps = 1000

// EventsGap is a gap of raw events that the sink of raw events has not passed yet: its offsets have been applied, so
// sessions and totals have them, and Kafka cannot give them for the table events any more.
type EventsGap struct {
	Gap
	Until uint64 // the last epoch that has an offset of it
}

// EventsSkipResult is what Apply returns for a SkipEvents entry.
type EventsSkipResult struct {
	// Rejected says that nothing was changed: the offsets do not lie in [From, To), or there is none between the two,
	// or the partition is not the shard's, or the shard has level 1 or no sink of raw events, or (Full) it has as many
	// gaps as it keeps.
	Rejected, Full bool
	// From and To are the first and the last offset, without it, that have been applied and that the sink of raw events
	// has not acknowledged; -1 if the partition is not the shard's.
	From, To int64
	Offsets  int64 // how many offsets this entry has given up; 0 if all of them had been given up before
}

// EncodeSkipEvents encodes the entry that gives up the raw events of a gap (level 2). Its offsets have been applied,
// and the sink of raw events has not acknowledged them. Texts are cut as those of EncodeSkip.
func EncodeSkipEvents(g *Gap) []byte {
	b := EncodeSkip(g)
	b[0] = kindSkipEvents
	return b
}

// Covers says whether the latest of the gaps have all of the offsets from one up to another, without it.
func (g PartitionGaps) Covers(from, to int64) bool {
	last := make([]event.Range, len(g.Last))
	for i, l := range g.Last {
		last[i] = event.Range{From: l.From, To: l.To}
	}
	return len(cutOut(event.Range{From: from, To: to}, last)) == 0
}

// pendingRanges are the gaps of a partition's raw events that the sink has not passed.
func (m *meta) pendingRanges(partition int32) (out []event.Range) {
	for i := range m.PendingGaps {
		if g := &m.PendingGaps[i]; g.Partition == partition {
			out = append(out, event.Range{Partition: partition, From: g.From, To: g.To})
		}
	}
	return out
}

// passGaps forgets the gaps of raw events that their sink has passed.
func (m *meta) passGaps() {
	acked := m.Sinks[SinkEvents].Acked
	m.PendingGaps = slices.DeleteFunc(slices.Clone(m.PendingGaps), func(g EventsGap) bool { return g.Until <= acked })
	if len(m.PendingGaps) == 0 {
		m.PendingGaps = nil
	}
}

// cutOut returns what is left of a range without others of its partition, which may come in any order: ascending.
func cutOut(r event.Range, others []event.Range) []event.Range {
	left := []event.Range{r}
	for _, o := range others {
		var rest []event.Range
		for _, l := range left {
			if o.Partition != l.Partition || o.To <= l.From || l.To <= o.From || o.To <= o.From {
				rest = append(rest, l)
				continue
			}
			before, behind := l, l
			if before.To = o.From; before.From < before.To {
				rest = append(rest, before)
			}
			if behind.From = o.To; behind.From < behind.To {
				rest = append(rest, behind)
			}
		}
		left = rest
	}
	return slices.DeleteFunc(left, func(l event.Range) bool { return l.From >= l.To })
}
