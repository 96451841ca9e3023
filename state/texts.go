package state

import (
	"slices"
	"strings"
	"unsafe"

	"deckle/event"
	"deckle/schema"
)

// firstTexts are the fields of an event that give the texts of its session, in the order of schema.FirstTexts.
var firstTexts = func() (columns []*schema.Column[event.Item]) {
	for _, c := range schema.FirstTexts {
		columns = append(columns, schema.Named(schema.Events, c.Name))
	}
	return columns
}()

// maxTexts is the number of a session's texts for which arrays have room.
const maxTexts = 32

// rollupDims are the indexes of the rollups' dimensions among a session's texts.
var rollupDims = func() (places [schema.NumRollups][]int) {
	for t := range schema.Rollups {
		for _, d := range schema.Rollups[t].Dims {
			places[t] = append(places[t], slices.IndexFunc(schema.FirstTexts,
				func(c *schema.Column[schema.SessionRow]) bool { return c.Name == d }))
		}
	}
	return places
}()

// numRolled is the number of a session's texts by which rollups are counted: these are the first ones.
var numRolled = func() (n int) {
	for _, places := range rollupDims {
		for _, at := range places {
			n = max(n, at+1)
		}
	}
	return n
}()

// texts are a session's dimensions one after the other, each with its length before it, as they are stored. In memory
// they are one text and not many, because the garbage collector visits everything that a session points to, in each of
// its cycles, for as long as the session is in memory.
type texts string

// noTexts are the texts of a session without a counted event.
var noTexts = texts(strings.Repeat("\x00", len(schema.FirstTexts)))

// textsOf returns the texts of an event. buf is memory that it may use.
func textsOf(it *event.Item, buf []byte) texts {
	for _, c := range firstTexts {
		buf = appendText(buf, c.Text(it))
	}
	return texts(buf)
}

// texts reads n texts as one piece.
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

// decoder returns a decoder that reads the texts one by one; they share the memory of t. Where t ends early, which no
// decoded session does, the texts are empty.
func (t texts) decoder() decoder {
	return decoder{b: unsafe.Slice(unsafe.StringData(string(t)), len(t)), alias: true}
}

// split fills dims with the first len(dims) texts.
func (t texts) split(dims []string) {
	d := t.decoder()
	for i := range dims {
		dims[i] = d.string()
	}
}

// rolled returns the first numRolled texts, truncated as rollups need them. Most often this is the beginning of t.
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
		b = appendText(b, event.CutText(one, maxRollupText))
	}
	return texts(b)
}
