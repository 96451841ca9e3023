package state

import "deckle/event"

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
	if b := d.b[from:d.pos]; d.alias {
		return texts(aliased(b))
	} else {
		return texts(b)
	}
}

// next cuts the first text off. What has no whole text, which no decoder has let in, has an empty one.
func (t texts) next() (first string, rest texts) {
	n, i := 0, 0
	for shift := 0; i < len(t); shift += 7 {
		c := t[i]
		i++
		n |= int(c&0x7f) << shift
		if c < 0x80 {
			break
		}
	}
	if n < 0 || n > len(t)-i {
		return "", ""
	}
	return string(t[i : i+n]), t[i+n:]
}

// split fills dims with the first of them.
func (t texts) split(dims []string) {
	for i := range dims {
		dims[i], t = t.next()
	}
}

// rolled returns the first numRolled as rollups cut them: most often the beginning of t.
func (t texts) rolled() texts {
	rest, long := t, false
	for range numRolled {
		var one string
		one, rest = rest.next()
		long = long || len(one) > maxRollupText
	}
	if !long {
		return t[:len(t)-len(rest)]
	}
	var b []byte
	for range numRolled {
		var one string
		one, t = t.next()
		b = appendText(b, CutText(one))
	}
	return texts(b)
}
