package state

import (
	"slices"
	"strings"
	"unsafe"

	"deckle/event"
	"deckle/schema"
)

// firstTexts are the fields of an event that its session has a text of, in the order of schema.FirstTexts.
var firstTexts = func() (columns []*schema.Column[event.Item]) {
	for _, c := range schema.FirstTexts {
		columns = append(columns, schema.Named(schema.Events, c.Name))
	}
	return columns
}()

// maxTexts is room for a session's texts.
const maxTexts = 32

// rollupDims are the places of the rollups' dimensions among a session's texts.
var rollupDims = func() (places [schema.NumRollups][]int) {
	for t := range schema.Rollups {
		for _, d := range schema.Rollups[t].Dims {
			places[t] = append(places[t], slices.IndexFunc(schema.FirstTexts, func(c *schema.Column[SessionRow]) bool { return c.Name == d }))
		}
	}
	return places
}()

// numRolled is how many of a session's texts, the first ones, rollups are counted by.
var numRolled = func() (n int) {
	for _, places := range rollupDims {
		for _, at := range places {
			n = max(n, at+1)
		}
	}
	return n
}()

// texts are a session's dimensions one after the other, each with its length before it, as they are stored. In memory they
// are one text and not many: the garbage collector looks at whatever a session points to, each time, for as long as the
// session is in memory.
type texts string

// noTexts are those of a session without a counted event.
var noTexts = texts(strings.Repeat("\x00", len(schema.FirstTexts)))

// textsOf returns those of an event; buf is room for them.
func textsOf(it *event.Item, buf []byte) texts {
	for _, c := range firstTexts {
		buf = appendText(buf, c.Text(it))
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
	var room [maxTexts]string
	dims := room[:numRolled]
	t.split(dims)
	var b []byte
	for _, one := range dims {
		b = appendText(b, CutText(one))
	}
	return texts(b)
}
