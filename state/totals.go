package state

import "encoding/binary"

// Indexes of totals.
const (
	totalSessions = iota
	totalDuration
	totalEvents
	totalViews
	totalPlays
	totalSignups
	totalAdClicks
	numTotals
)

// totals are one rollup key's exact sums.
type totals [numTotals]int64

func (t *totals) add(o *totals, sign int64) {
	for i := range t {
		t[i] += sign * o[i]
	}
}

func (t totals) encode(dst []byte) []byte {
	for _, v := range t {
		dst = binary.AppendVarint(dst, v)
	}
	return dst
}

func decodeTotals(d *decoder) (t totals) {
	for i := range t {
		t[i] = d.varint()
	}
	return t
}
