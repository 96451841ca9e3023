package event

import (
	"encoding/binary"
	"math"
	"slices"
)

// This file has what batchReal adds to batchFirst: writing and reading of each column stand together.

// measureWidth is the number of bits of an item in the column that says which measures it has.
func measureWidth(version byte) uint {
	if version >= batchReal {
		return measureWidthReal
	}
	return measureWidthFirst
}

func (e *batchEncoder) realHeader(b *Batch) {
	c := &b.Counts
	e.uint(uint64(b.Rules))
	e.uint(uint64(c.Skipped))
	e.uint(uint64(c.KafkaTimes))
	for _, n := range c.Zeroed {
		e.uint(uint64(n))
	}
	e.uint(uint64(len(c.Excluded)))
	for _, n := range c.Excluded {
		e.uint(uint64(n))
	}
	if e.version >= batchGuarded {
		e.uint(uint64(c.Unconsented))
		e.suppressed(b)
	}
	if !e.has(len(b.Seen) > 0) {
		return
	}
	last := int64(0)
	for i := range b.Seen {
		s := &b.Seen[i]
		var flags byte
		if s.AtHead {
			flags |= seenAtHead
		}
		if s.KafkaTime != NoKafkaTime {
			flags |= seenTime
		}
		if s.LastHash != 0 {
			flags |= seenLast
		}
		e.out = append(e.out, flags)
		if s.KafkaTime != NoKafkaTime {
			e.int(s.KafkaTime - last)
			last = s.KafkaTime
		}
		if s.LastHash != 0 {
			e.uint(uint64(b.Ranges[i].To - 1 - s.LastOffset))
			e.out = binary.LittleEndian.AppendUint64(e.out, s.LastHash)
		}
	}
}

func (r *reader) realHeader(b *Batch) {
	c := &b.Counts
	b.Rules = uint32(r.count(math.MaxUint32, "number of the rules"))
	c.Skipped = int64(r.uint("number of skipped records"))
	c.KafkaTimes = int64(r.uint("number of Kafka times"))
	for k := range c.Zeroed {
		c.Zeroed[k] = int64(r.uint("number of zeroed values"))
	}
	for range r.count(MaxExclude, "number of exclude rules") {
		c.Excluded = append(c.Excluded, int64(r.uint("number of excluded records")))
	}
	if r.version >= batchGuarded {
		c.Unconsented = int64(r.uint("number of records without consent"))
		r.suppressed(b)
	}
	if !r.has("what was seen of the ranges") {
		return
	}
	if len(b.Ranges) == 0 {
		r.fail("seen of no range")
	}
	last := int64(0)
	for i := range b.Ranges {
		var s Seen
		flags := r.count(seenAtHead|seenTime|seenLast, "flags of a range")
		s.AtHead = flags&seenAtHead != 0
		if flags&seenTime != 0 {
			last += r.int("Kafka time of a range")
			if s.KafkaTime = last; last == NoKafkaTime {
				r.fail("Kafka time of a range")
			}
		}
		if flags&seenLast != 0 {
			s.LastOffset = b.Ranges[i].To - 1 - int64(r.uint("last record of a range"))
			if p := r.bytes(8, "last record of a range"); r.err == nil {
				s.LastHash = binary.LittleEndian.Uint64(p)
			}
			if s.LastHash == 0 {
				r.fail("last record of a range")
			}
		}
		if r.err != nil {
			return
		}
		b.Seen = append(b.Seen, s)
	}
}

func (e *batchEncoder) realColumns(items []Item) {
	e.omittedColumn(items)
	e.typeNameColumn(items)
	e.userKeyColumn(items)
	e.keyColumn(items)
}

func (r *reader) realColumns(items []Item) {
	r.omittedColumn(items)
	r.typeNameColumn(items)
	r.userKeyColumn(items)
	if r.err == nil {
		r.keyColumn(items)
	}
}

// has writes whether a column follows.
func (e *batchEncoder) has(column bool) bool {
	if column {
		e.out = append(e.out, hasColumn)
	} else {
		e.out = append(e.out, noColumn)
	}
	return column
}

func (r *reader) has(what string) bool { return r.count(hasColumn, what) == hasColumn }

// bits writes a column with a bit for each of n, if any is set.
func (e *batchEncoder) bits(n int, set func(i int) bool) {
	ids, any := e.grow(n), false
	for i := range ids {
		ids[i] = 0
		if set(i) {
			ids[i], any = 1, true
		}
	}
	if e.has(any) {
		e.out = appendPacked(e.out, ids, 1)
	}
}

// bits reads what batchEncoder.bits has written: none if no bit is set.
func (r *reader) bits(n int, what string) []uint32 {
	if !r.has(what) {
		return nil
	}
	r.s.ids = r.packed(r.s.ids, n, 1, 2, what)
	if r.err != nil {
		return nil
	}
	if !slices.Contains(r.s.ids, 1) {
		r.fail(what)
	}
	return r.s.ids
}

func (e *batchEncoder) omittedColumn(items []Item) {
	e.bits(len(items), func(i int) bool { return items[i].MetricsOmitted })
}

func (r *reader) omittedColumn(items []Item) {
	const what = "omitted engagement metrics"
	for i, id := range r.bits(len(items), what) {
		if items[i].MetricsOmitted = id == 1; id == 1 && items[i].EngagementMetrics != "" {
			r.fail(what)
			return
		}
	}
}

// typeNameColumn has the names of the items of type Other only.
func (e *batchEncoder) typeNameColumn(items []Item) {
	ids := e.grow(len(items))[:0]
	e.texts.reset()
	for i := range items {
		if items[i].Type == Other {
			ids = append(ids, e.texts.id(items[i].TypeName))
		}
	}
	if e.has(len(ids) > 0) {
		e.dict(&e.texts)
		e.out = appendPacked(e.out, ids, widthOf(len(e.texts.texts)))
	}
}

func (r *reader) typeNameColumn(items []Item) {
	const what = "name of a type"
	if !r.has(what) || r.err != nil {
		return
	}
	n := 0
	for i := range items {
		if items[i].Type == Other {
			n++
		}
	}
	texts := r.dict(n, what)
	ids := r.packed(r.s.ids, n, widthOf(len(texts)), len(texts), what)
	if r.s.ids = ids; r.err != nil {
		return
	}
	if n == 0 {
		r.fail(what)
	}
	for i := range items {
		if items[i].Type == Other {
			items[i].TypeName, ids = texts[ids[0]], ids[1:]
		}
	}
}

// userKeyColumn has the keys of users; the column of user ids has 0 for each that has one.
func (e *batchEncoder) userKeyColumn(items []Item) {
	ids, any, differ := e.grow(len(items)), false, false
	e.texts.reset()
	for i := range items {
		ids[i] = e.texts.id(items[i].UserKey)
		any = any || items[i].UserKey != ""
		differ = differ || ids[i] != ids[e.first[e.session[i]]]
	}
	if !e.has(any) {
		return
	}
	e.dict(&e.texts)
	e.numbers(ids, differ, len(e.texts.texts))
}

func (r *reader) userKeyColumn(items []Item) {
	const what = "user key"
	if !r.has(what) || r.err != nil {
		return
	}
	s := r.s
	texts := r.dict(len(items), what)
	session, n := r.mode(items, what)
	s.ids = r.packed(s.ids, n, widthOf(len(texts)), len(texts), what)
	if r.err != nil {
		return
	}
	known := false
	for i := range items {
		at := i
		if session {
			at = int(s.session[i])
		}
		key := texts[s.ids[at]]
		if key == "" {
			continue
		}
		if items[i].UserID != 0 {
			r.fail("user id beside a key")
			return
		}
		items[i].UserKey, items[i].UserID, known = key, UserHash(key), true
	}
	if !known {
		r.fail(what)
	}
}

// keyWidth are the bits of a KeyClass.
const keyWidth = 2

// keyColumn has the class of the records' keys, and then the hashes of those of class KeyOther.
func (e *batchEncoder) keyColumn(items []Item) {
	any, differ := false, false
	for i := range items {
		it, first := &items[i], &items[e.first[e.session[i]]]
		any = any || it.Key != KeyNone
		differ = differ || it.Key != first.Key || it.KeyHash != first.KeyHash
	}
	if !e.has(any) {
		return
	}
	n := len(e.first)
	if differ {
		n = len(items)
		e.out = append(e.out, perItem)
	} else {
		e.out = append(e.out, perSession)
	}
	of := func(i int) *Item {
		if differ {
			return &items[i]
		}
		return &items[e.first[i]]
	}
	ids := e.grow(n)
	for i := range ids {
		ids[i] = uint32(of(i).Key)
	}
	e.out = appendPacked(e.out, ids, keyWidth)
	for i := range n {
		if it := of(i); it.Key == KeyOther {
			e.out = binary.LittleEndian.AppendUint32(e.out, it.KeyHash)
		}
	}
}

func (r *reader) keyColumn(items []Item) {
	const what = "keys"
	if !r.has(what) {
		return
	}
	s := r.s
	session, n := r.mode(items, what)
	s.ids = r.packed(s.ids, n, keyWidth, int(numKeyClasses), what)
	s.tokenIDs = append(s.tokenIDs[:0], make([]uint32, n)...)
	hashes := s.tokenIDs
	for i, k := range s.ids {
		if KeyClass(k) == KeyOther {
			p := r.bytes(4, what)
			if r.err != nil {
				return
			}
			hashes[i] = binary.LittleEndian.Uint32(p)
		}
	}
	if r.err != nil {
		return
	}
	for i := range items {
		at := i
		if session {
			at = int(s.session[i])
		}
		items[i].Key, items[i].KeyHash = KeyClass(s.ids[at]), hashes[at]
	}
}
