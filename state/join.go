package state

import (
	"cmp"
	"slices"

	"deckle/event"
)

// joinRanges joins the ranges of consecutive epochs per partition.
func joinRanges(epochs []EpochInfo) []event.Range {
	byPartition := map[int32]event.Range{}
	for _, e := range epochs {
		for _, r := range e.Ranges {
			j, ok := byPartition[r.Partition]
			if !ok {
				byPartition[r.Partition] = r
				continue
			}
			j.To, j.LeaderEpoch = r.To, r.LeaderEpoch
			byPartition[r.Partition] = j
		}
	}
	out := make([]event.Range, 0, len(byPartition))
	for _, r := range byPartition {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b event.Range) int { return cmp.Compare(a.Partition, b.Partition) })
	return out
}

// joinLeftOut joins the offsets left out of consecutive epochs.
func joinLeftOut(epochs []EpochInfo) []Position {
	var out []Position
	for _, e := range epochs {
		out = append(out, e.LeftOut...)
	}
	slices.SortFunc(out, comparePositions)
	return out
}

func comparePositions(a, b Position) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
}
