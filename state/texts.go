package state

import (
	"unsafe"

	"deckle/event"
)

// Indexes of a session's texts. Rollups are counted by the first numRolled of them.
const (
	dimBrand = iota
	dimCountry
	dimCity
	dimDeviceType
	dimDeviceOS
	dimBrowser
	dimTier
	dimSegment
	dimReferrer
	dimTimezone
	numDims
	numRolled = dimSegment + 1
)

// texts are a session's dimensions one after the other, each with its length before it, as they are stored. In memory they
// are one text and not ten: the garbage collector looks at whatever a session points to, each time, for as long as the
// session is in memory.
type texts string

// noTexts are those of a session without a counted event.
const noTexts texts = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// textsOf returns those of an event; buf is room for them.
func textsOf(it *event.Item, buf []byte) texts {
	for _, t := range [numDims]string{it.Brand, it.Country, it.City, it.DeviceType, it.DeviceOS, it.Browser, it.SubscriptionTier,
		it.UserSegment, it.Referrer, it.Timezone} {
		buf = appendText(buf, t)
	}
	return texts(buf)
}

// texts reads n texts in one piece.
func (d *decoder) texts(n int) texts {
	from := d.pos
	for range n {
		d.text()
	}
	if d.err != nil {
		return ""
	}
	return texts(d.own(d.b[from:d.pos]))
}

// decoder reads them one by one; they alias t. What has no whole text, which no decoder has let in, has empty ones.
func (t texts) decoder() decoder {
	return decoder{b: unsafe.Slice(unsafe.StringData(string(t)), len(t)), alias: true}
}

// split fills dims with the first of them.
func (t texts) split(dims []string) {
	d := t.decoder()
	for i := range dims {
		dims[i] = d.string()
	}
}

// rolled returns the first numRolled as rollups cut them: most often the beginning of t.
func (t texts) rolled() texts {
	d, long := t.decoder(), false
	for range numRolled {
		long = len(d.text()) > maxRollupText || long
	}
	if !long {
		return t[:d.pos]
	}
	var dims [numRolled]string
	t.split(dims[:])
	var b []byte
	for _, one := range dims {
		b = appendText(b, CutText(one))
	}
	return texts(b)
}
