package event

import (
	"encoding/binary"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"

	"deckle/schema/level"
)

// AppendBatch appends the encoding of b at level l to dst and returns the result. Equal batches have equal encodings.
// It does not carry ArticleType, Metadata, Extra, EventID and engagement metrics that are too long (MetricsOmitted):
// sessions do not need them, and they reach the events table from the leader's memory or from Kafka. At level.First it
// also leaves out the batch's Seen, Rules and Counts, and of an item Progress, Complete, MetricsOmitted and Key.
//
// b must pass Check; otherwise AppendBatch panics, because an entry that no replica could decode must not reach the
// log. Texts need not be valid UTF-8. It is safe for concurrent use.
func AppendBatch(dst []byte, b *Batch, l level.Level) []byte {
	if err := b.Check(l); err != nil {
		panic(err)
	}
	e := encoders.Get().(*batchEncoder)
	dst = e.append(dst, b, level.Batch.At(l))
	e.release()
	encoders.Put(e)
	return dst
}

var encoders = sync.Pool{New: func() any { return new(batchEncoder) }}

// batchEncoder is the memory of one encoding.
type batchEncoder struct {
	version  byte
	out      []byte // the columns
	tail     []byte // bytes that no compression makes smaller
	packed   []byte
	ids      []uint32
	firstIDs []uint32
	session  []uint32 // item → session
	first    []uint32 // session → its first item
	sessions dict
	columns  [len(textColumns)]dict
	textIDs  []uint32 // of all columns
	texts    dict     // the texts of one column at a time
	shapes   dict
	splitter splitter
}

// maxKept is how many bytes of columns an encoder or a BatchScratch keeps for the next batch.
const maxKept = 4 << 20

func (e *batchEncoder) release() {
	if cap(e.out) > maxKept {
		*e = batchEncoder{}
		return
	}
	e.sessions.reset()
	for c := range e.columns {
		e.columns[c].reset()
	}
	e.texts.reset()
	e.shapes.reset()
	e.splitter.undo(0, 0)
}

func (e *batchEncoder) append(dst []byte, b *Batch, version byte) []byte {
	e.version = version
	e.splitter.slots = slotScroll
	if version >= batchReal {
		e.splitter.slots = slotProgress
	}
	e.out, e.tail = e.out[:0], e.tail[:0]
	e.header(b)
	if version >= batchReal {
		e.realHeader(b)
	}
	e.items(b)
	e.rejects(b)
	e.packed = s2.Encode(e.packed[:cap(e.packed)], e.out)
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, uint64(len(e.packed)))
	dst = append(dst, e.packed...)
	return append(dst, e.tail...)
}

func (e *batchEncoder) uint(n uint64) { e.out = binary.AppendUvarint(e.out, n) }
func (e *batchEncoder) int(n int64)   { e.out = binary.AppendVarint(e.out, n) }

func (e *batchEncoder) header(b *Batch) {
	e.uint(uint64(len(b.Ranges)))
	e.uint(uint64(b.Nulls))
	items, rejects, last := b.Items, b.Rejects, int32(-1)
	for i := range b.Ranges {
		r := &b.Ranges[i]
		e.uint(uint64(r.Partition - last - 1))
		last = r.Partition
		e.uint(uint64(r.From))
		e.uint(uint64(r.To - r.From))
		e.uint(uint64(int64(r.LeaderEpoch) + 1))
		n := 0
		for n < len(items) && items[n].Partition == r.Partition {
			n++
		}
		e.uint(uint64(n))
		items = items[n:]
		for n = 0; n < len(rejects) && rejects[n].Partition == r.Partition; n++ {
		}
		e.uint(uint64(n))
		rejects = rejects[n:]
	}
}

func (e *batchEncoder) items(b *Batch) {
	items := b.Items
	n := len(items)
	if n == 0 {
		return
	}
	gaps := gapsOf(b.Ranges)
	for i := range items {
		e.uint(gaps.next(items[i].Partition, items[i].Offset))
	}
	last := int64(0)
	for i := range items {
		e.int(items[i].KafkaTimestamp - last)
		last = items[i].KafkaTimestamp
	}
	for i := range items {
		e.int(items[i].Timestamp - items[i].KafkaTimestamp/1000)
	}
	ids := e.grow(n)
	for i := range items {
		ids[i] = uint32(items[i].Type)
		e.tail = append(e.tail, items[i].ID[:]...)
	}
	e.out = appendPacked(e.out, ids, typeWidth)
	e.sessionColumn(items)
	e.userColumn(items)
	e.textColumns(items)
	e.measureColumns(items)
	e.metricsColumn(items)
	if e.version >= batchReal {
		e.realColumns(items)
	}
}

func (e *batchEncoder) grow(n int) []uint32 { return room(&e.ids, n) }

// room sets the length of s to n and returns it; its content is undefined.
func room(s *[]uint32, n int) []uint32 {
	if cap(*s) < n {
		*s = make([]uint32, n+n/4)
	}
	*s = (*s)[:n]
	return *s
}

func (e *batchEncoder) sessionColumn(items []Item) {
	e.sessions.reset()
	e.session, e.first = e.session[:0], e.first[:0]
	for i := range items {
		id := e.sessions.id(items[i].SessionID)
		if int(id) == len(e.first) {
			e.first = append(e.first, uint32(i))
		}
		e.session = append(e.session, id)
	}
	k := len(e.first)
	e.uint(uint64(k))
	e.out = appendPacked(e.out, e.session, widthOf(k))
	kinds := e.grow(k)
	for s, text := range e.sessions.texts {
		kinds[s] = 0
		if id, ok := lowerID(text); ok {
			kinds[s] = 1
			e.tail = append(e.tail, id[:]...)
		}
	}
	e.out = appendPacked(e.out, kinds, 1)
	for s, text := range e.sessions.texts {
		if kinds[s] == 0 {
			e.uint(uint64(len(text)))
			e.out = append(e.out, text...)
		}
	}
}

// userColumn writes the numbers of users. Those who have a key follow from it, and are 0 here.
func (e *batchEncoder) userColumn(items []Item) {
	for i := range items {
		if items[i].UserID != items[e.first[e.session[i]]].UserID {
			e.out = append(e.out, perItem)
			for j := range items {
				e.user(&items[j])
			}
			return
		}
	}
	e.out = append(e.out, perSession)
	for _, i := range e.first {
		e.user(&items[i])
	}
}

func (e *batchEncoder) user(it *Item) {
	if it.UserKey != "" {
		e.uint(0)
		return
	}
	e.uint(it.UserID)
}

// textColumns numbers the texts item by item, because the texts of one item lie together in memory, and then writes
// them column by column.
func (e *batchEncoder) textColumns(items []Item) {
	n := len(items)
	all := room(&e.textIDs, n*(len(textColumns)+1))
	suffixed := all[:n]
	var ids [len(textColumns)][]uint32
	var differ [len(textColumns)]bool // within a session
	for c := range ids {
		ids[c] = all[(c+1)*n : (c+2)*n]
		e.columns[c].reset()
	}
	for i := range items {
		it, first := &items[i], int(e.first[e.session[i]])
		suffixed[i] = 0
		for c, f := range textColumns {
			s := *it.text(f)
			switch {
			case f == fieldPageURL:
				if a := it.ArticleID; a != "" && strings.HasSuffix(s, a) {
					suffixed[i] = 1
					s = s[:len(s)-len(a)]
				}
			case first != i && s == *items[first].text(f):
				ids[c][i] = ids[c][first]
				continue
			}
			id := e.columns[c].id(s)
			ids[c][i] = id
			differ[c] = differ[c] || id != ids[c][first]
		}
	}
	for c, f := range textColumns {
		if f == fieldPageURL {
			e.out = appendPacked(e.out, suffixed, 1)
		}
		e.dict(&e.columns[c])
		e.numbers(ids[c], differ[c], len(e.columns[c].texts))
	}
}

// numbers writes the layout of a text column and its numbers, which are below n: one per item if they differ within a
// session, otherwise one per session.
func (e *batchEncoder) numbers(ids []uint32, differ bool, n int) {
	if differ {
		e.out = append(e.out, perItem)
	} else {
		e.out = append(e.out, perSession)
		e.firstIDs = e.firstIDs[:0]
		for _, i := range e.first {
			e.firstIDs = append(e.firstIDs, ids[i])
		}
		ids = e.firstIDs
	}
	e.out = appendPacked(e.out, ids, widthOf(n))
}

func (e *batchEncoder) dict(d *dict) {
	e.uint(uint64(len(d.texts)))
	for _, s := range d.texts {
		e.uint(uint64(len(s)))
	}
	for _, s := range d.texts {
		e.out = append(e.out, s...)
	}
}

func (e *batchEncoder) measureColumns(items []Item) {
	ids := e.grow(len(items))
	real := e.version >= batchReal
	for i := range items {
		it := &items[i]
		ids[i] = 0
		if it.Measure != 0 {
			ids[i] = hasMeasure
		}
		if it.Scroll != 0 {
			ids[i] |= hasScroll
		}
		if real && it.Progress != 0 {
			ids[i] |= hasProgress
		}
		if real && it.Complete {
			ids[i] |= isComplete
		}
	}
	e.out = appendPacked(e.out, ids, measureWidth(e.version))
	for i := range items {
		if items[i].Measure != 0 {
			e.uint(items[i].Measure)
		}
	}
	for i := range items {
		if items[i].Scroll != 0 {
			e.out = append(e.out, items[i].Scroll)
		}
	}
	for i := range items {
		if ids[i]&hasProgress != 0 {
			e.out = append(e.out, items[i].Progress)
		}
	}
}

func (e *batchEncoder) metricsColumn(items []Item) {
	ids := e.grow(len(items))
	e.shapes.reset()
	c := &e.splitter
	c.undo(0, 0)
	for i := range items {
		it := &items[i]
		ints, tokens, text := len(c.ints), len(c.tokens), it.EngagementMetrics
		if it.MetricsOmitted && e.version >= batchReal {
			text = ""
		}
		if c.split(text, it) {
			if id, ok := e.shapes.find(alias(c.shape)); ok {
				ids[i] = id
				continue
			}
			if len(e.shapes.texts) < maxShapes-1 {
				ids[i] = e.shapes.id(string(c.shape))
				continue
			}
			c.undo(ints, tokens)
		}
		ids[i] = e.shapes.id(rawShape)
		c.tokens = append(c.tokens, text)
	}
	e.dict(&e.shapes)
	e.out = appendPacked(e.out, ids, widthOf(len(e.shapes.texts)))
	for _, n := range c.ints {
		e.uint(n)
	}
	ids = e.grow(len(c.tokens))
	e.texts.reset()
	for i, s := range c.tokens {
		ids[i] = e.texts.id(s)
	}
	e.dict(&e.texts)
	e.out = appendPacked(e.out, ids, widthOf(len(e.texts.texts)))
}

func (e *batchEncoder) rejects(b *Batch) {
	if len(b.Rejects) == 0 {
		return
	}
	gaps := gapsOf(b.Ranges)
	last := int64(0)
	ids := e.grow(len(b.Rejects))
	e.texts.reset()
	for i := range b.Rejects {
		r := &b.Rejects[i]
		e.uint(gaps.next(r.Partition, r.Offset))
		e.int(r.KafkaTimestamp - last)
		last = r.KafkaTimestamp
		e.out = append(e.out, byte(r.Reason))
		e.uint(uint64(r.Length))
		ids[i] = e.texts.id(r.Detail)
		e.tail = append(e.tail, r.SHA256[:]...)
	}
	e.dict(&e.texts)
	e.out = appendPacked(e.out, ids, widthOf(len(e.texts.texts)))
	if e.version >= batchGuarded {
		e.withheldColumn(b.Rejects)
	}
}

// gaps turns ascending positions into the number of offsets skipped before each.
type gaps struct {
	ranges []Range
	at     int // index of the present range
	offset int64
}

func gapsOf(ranges []Range) gaps { return gaps{ranges: ranges, offset: ranges[0].From} }

func (g *gaps) next(partition int32, offset int64) uint64 {
	for g.ranges[g.at].Partition != partition {
		g.at++
		g.offset = g.ranges[g.at].From
	}
	gap := offset - g.offset
	g.offset = offset + 1
	return uint64(gap)
}
