package event

import "hash/maphash"

// dict numbers the distinct texts of one column of one batch in the order in which they first occur, so that the
// numbers do not depend on the hash.
type dict struct {
	texts []string
	table []uint32 // open addressing: number + 1, 0 is free; its length is a power of two
	last  uint32
}

// dictSeed may differ between processes, because the numbers do not depend on the hash (see dict).
var dictSeed = maphash.MakeSeed()

const dictMinTable = 64

func (d *dict) reset() {
	clear(d.texts) // the texts belong to the caller's batch
	d.texts = d.texts[:0]
	if len(d.table) > 1<<14 || len(d.table) == 0 { // so that one huge batch does not slow down all later ones
		d.table = make([]uint32, dictMinTable)
	} else {
		clear(d.table)
	}
	d.last = 0
}

// id returns the number of s.
func (d *dict) id(s string) uint32 {
	if int(d.last) < len(d.texts) && d.texts[d.last] == s {
		return d.last
	}
	mask := uint64(len(d.table) - 1)
	for at := maphash.String(dictSeed, s) & mask; ; at = (at + 1) & mask {
		switch n := d.table[at]; {
		case n == 0:
			d.last = uint32(len(d.texts))
			d.texts = append(d.texts, s)
			d.table[at] = uint32(len(d.texts))
			if 2*len(d.texts) > len(d.table) {
				d.grow()
			}
			return d.last
		case d.texts[n-1] == s:
			d.last = n - 1
			return d.last
		}
	}
}

// find returns the number of s if it has one, without keeping s.
func (d *dict) find(s string) (uint32, bool) {
	if int(d.last) < len(d.texts) && d.texts[d.last] == s {
		return d.last, true
	}
	mask := uint64(len(d.table) - 1)
	for at := maphash.String(dictSeed, s) & mask; d.table[at] != 0; at = (at + 1) & mask {
		if n := d.table[at]; d.texts[n-1] == s {
			d.last = n - 1
			return d.last, true
		}
	}
	return 0, false
}

func (d *dict) grow() {
	d.table = make([]uint32, 2*len(d.table))
	mask := uint64(len(d.table) - 1)
	for i, s := range d.texts {
		at := maphash.String(dictSeed, s) & mask
		for d.table[at] != 0 {
			at = (at + 1) & mask
		}
		d.table[at] = uint32(i + 1)
	}
}
