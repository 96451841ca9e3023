package state

import (
	"strings"

	"deckle/event"
	"deckle/schema/level"
)

// opening is what a session keeps of the record that opened its row, beside the record's position and day (level 4). It
// is set once, and no later record changes it, whatever its timestamp: the tables may be partitioned by it.
type opening struct {
	// known says that the row was opened at level 4 or above. The images of the levels before do not tell the brand:
	// they have that of the first event by time, which may have come later than the record that opened the row.
	known bool
	brand string
}

// openingOf is what a session that the record opens keeps of it, at the level of the shard.
func openingOf(it *event.Item, l level.Level) opening {
	if l < level.Lake {
		return opening{}
	}
	o := opening{known: true}
	if len(it.Brand) <= maxOpeningBrand {
		o.brand = strings.Clone(it.Brand)
	}
	return o
}

// maxOpeningBrand is how many bytes an opening brand has at most; a longer one is none. It may become the name of a
// folder, and publishers do not have such brands.
const maxOpeningBrand = 128

// Bits of an image's flags, beside those of the levels before.
const (
	flagOpening      = 1 << 6 // the brand of the record that opened the row is known
	flagOpeningOther = 1 << 7 // and is not that of the session's first event
)

func (o *opening) flags(shape imageShape, first texts) (f byte) {
	if !shape.opening || !o.known {
		return 0
	}
	if o.brand != first.brand() {
		return flagOpening | flagOpeningOther
	}
	return flagOpening
}

// encode appends the brand, if it is known and not that of the first event, whose texts stand before it.
func (o *opening) encode(dst []byte, shape imageShape, first texts) []byte {
	if o.flags(shape, first)&flagOpeningOther == 0 {
		return dst
	}
	return appendText(dst, o.brand)
}

// opening reads what encode appends, with the flags of the image.
func (d *decoder) opening(shape imageShape, first texts, flags byte) (o opening) {
	if !shape.opening || d.err != nil {
		return o
	}
	o.brand = first.brand() // one piece of memory for both
	if o.known = flags&flagOpening != 0; flags&flagOpeningOther != 0 {
		if brand := d.string(); o.known && brand != o.brand {
			o.brand = brand
		} else {
			d.fail("opening brand")
		}
	}
	if !o.known {
		o.brand = ""
	}
	return o
}

// brand returns the brand among a session's texts, which is the first of them; "" if there are no texts. It shares the
// memory of t.
func (t texts) brand() string {
	if t == "" {
		return ""
	}
	d := t.decoder()
	return d.string()
}
