package state

import (
	"encoding/binary"

	"deckle/schema"
)

// totals are the exact sums of one rollup key, in the order of schema.Measures.
type totals [schema.NumMeasures]int64

// contributed returns what a session adds to each measure.
func (s *session) contributed() (t totals) {
	for i := range schema.Measures {
		switch m := &schema.Measures[i]; m.Of {
		case schema.MeasureOne:
			t[i] = 1
		case schema.MeasureDuration:
			t[i] = s.end - s.start
		case schema.MeasureTotal:
			t[i] = int64(s.total)
		case schema.MeasureEvents:
			t[i] = int64(s.counts[m.Type])
		}
	}
	return t
}

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
