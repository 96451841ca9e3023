package state

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// The limits of one session.
const (
	maxCounted     = 2000 // counted events; one more is a dead letter, session_full
	maxSessionEnds = 100  // session_ends; they are not counted, but their ids must be remembered
	linearIDs      = 64   // up to this number of ids, a duplicate is looked for one by one
)

// order is the order of events within a session, wherever order matters: (timestamp, partition, offset).
type order struct {
	ts  int64
	pos Position
}

func (a order) compare(b order) int {
	if c := cmp.Compare(a.ts, b.ts); c != 0 {
		return c
	}
	return comparePositions(a.pos, b.pos)
}

// session is one session in memory. encode writes the session's value; the other fields are bookkeeping of this
// replica.
type session struct {
	id        string
	origin    Position
	originDay int32 // session_date
	userID    uint64
	texts     texts
	first     order // of the first counted event; valid if total > 0
	key       firstKey
	opening   opening
	visit

	start, end int64 // Unix seconds, of counted events
	counts     schema.Counts
	total      uint32
	sums       [schema.NumSums]uint64 // in the order of schema.MeasureSums
	maxScroll  uint8

	status      schema.Status
	closing     bool   // a session_end has come, and the grace runs
	revision    uint32 // published changes since the first closed image that has a row
	revised     uint64 // the epoch for which the last revision was counted
	firstClosed uint64 // epoch of the first closed image that has a row; 0 before it
	imageEpoch  uint64 // epoch of the last closed image; 0 before the first
	createdAt   int64  // clock of the Cut that made that image, Unix milliseconds
	last        int64  // greatest timestamp of an accepted record, session_end included
	touched     int64  // when a record was last accepted, by meta.touched; untouched at level 1
	deadline    int64  // when its timer fires, Unix seconds
	purged      bool
	rolled      contribution

	ids    []event.ID            // of the counted events and session_ends, in order of arrival
	idSet  map[event.ID]struct{} // the set of ids, once there are more than linearIDs
	ends   int                   // the number of session_ends among ids
	events []byte                // counted events, encoded, in order of arrival: those after the segments
	// segments are the events before those, and sealed their size (level 2).
	segments segments
	sealed   int64

	// Bookkeeping, not part of the session's value.
	changed     bool  // since the last Cut: the session is in Store.changed
	dirty       bool  // since the last checkpoint
	storedTimer int64 // deadline of its timer key in Pebble; 0 for none
	storedKind  timerKind
	armed       int64 // deadline of its earliest timer entry, in the heap or in Pebble; 0 for none
	armedKind   timerKind
	charged     int64 // bytes that Store.memory counts for it
}

// contribution is what a session adds to its rollups, and to which ones.
type contribution struct {
	counted bool
	date    int32
	texts   texts // the first numRolled texts, truncated to maxRollupText
	totals  totals
}

func (s *session) has(id event.ID) bool {
	if s.idSet != nil {
		_, ok := s.idSet[id]
		return ok
	}
	// The first half tells nearly all ids apart.
	half := binary.LittleEndian.Uint64(id[:])
	for i := range s.ids {
		if binary.LittleEndian.Uint64(s.ids[i][:]) == half && s.ids[i] == id {
			return true
		}
	}
	return false
}

func (s *session) remember(id event.ID) {
	s.ids = append(s.ids, id)
	if s.idSet != nil {
		s.idSet[id] = struct{}{}
	} else if len(s.ids) > linearIDs {
		s.index()
	}
}

func (s *session) index() {
	s.idSet = make(map[event.ID]struct{}, 2*len(s.ids))
	for _, id := range s.ids {
		s.idSet[id] = struct{}{}
	}
}

// sumOf is the place of the sum that a type's Event.Measure goes to, -1 for none.
var sumOf = func() (of [event.NumTypes]int8) {
	for t := range of {
		of[t] = -1
	}
	for i, c := range schema.MeasureSums {
		of[c.Source.Type] = int8(i)
	}
	return of
}()

// fold adds a counted event. buf is memory that it may use for the texts.
func (s *session) fold(it *event.Item, buf []byte) {
	o := order{it.Timestamp, Position{it.Partition, it.Offset}}
	if s.total == 0 || o.compare(s.first) < 0 {
		s.first, s.texts = o, textsOf(it, buf)
		if !s.real {
			s.userID = it.UserID
		}
	}
	if s.real {
		s.see(it, o)
	}
	if s.total == 0 {
		s.start, s.end = it.Timestamp, it.Timestamp
	}
	s.start, s.end = min(s.start, it.Timestamp), max(s.end, it.Timestamp)
	s.last = max(s.last, it.Timestamp)
	s.total++
	s.counts[it.Type]++
	if i := sumOf[it.Type]; i >= 0 {
		s.sums[i] += it.Measure
	}
	if it.Type == event.ArticleView {
		s.maxScroll = max(s.maxScroll, it.Scroll)
	}
	s.remember(it.ID)
	s.appendEvent(it)
}

// metricsOmitted is set in the byte of an event's type if its engagement_metrics were too long for a session (level 2).
const metricsOmitted = 0x80

// appendEvent encodes what page_events and page_analytics need of a counted event.
func (s *session) appendEvent(it *event.Item) {
	b := binary.AppendVarint(s.room(it), it.Timestamp)
	b = binary.AppendUvarint(b, uint64(it.Partition))
	b = binary.AppendUvarint(b, uint64(it.Offset))
	typ := byte(it.Type)
	if it.MetricsOmitted {
		typ |= metricsOmitted
	}
	b = append(b, typ)
	b = appendText(b, it.Category)
	b = appendText(b, it.ArticleID)
	b = appendText(b, it.ArticleTitle)
	b = appendText(b, it.PageURL)
	b = appendText(b, it.EngagementMetrics)
	if it.Type == event.Other {
		b = appendText(b, it.TypeName)
	}
	s.events = b
}

// room returns the events with room for one more. They grow by three events and by three quarters at least, where
// append would grow them by a quarter and so copy each byte some four times.
func (s *session) room(it *event.Item) []byte {
	const fixed = 10 + 5 + 10 + 1 + 6*3 // time, partition, offset, type, and lengths of ordinary texts
	need := fixed + len(it.Category) + len(it.ArticleID) + len(it.ArticleTitle) + len(it.PageURL) +
		len(it.EngagementMetrics) + len(it.TypeName)
	if need <= cap(s.events)-len(s.events) {
		return s.events
	}
	return slices.Grow(s.events, max(3*need, need+len(s.events)/4*3))
}

// eventBytes is the size of the session's encoded events, in its image and in its segments.
func (s *session) eventBytes() int64 { return s.sealed + int64(len(s.events)) }

// seal makes a segment of the events.
func (s *session) seal() {
	s.sealed += int64(len(s.events))
	s.segments, s.events = s.segments.seal(s.events), nil
}

// pageEvent is one counted event as a session's image holds it. Its texts share the memory of the image.
type pageEvent struct {
	order
	typ                                    event.Type
	omitted                                bool // its engagement_metrics were too long
	category, article, title, url, metrics []byte
	name                                   []byte // of type event.Other
}

// pageEvent decodes a counted event into e, which is zero.
func (d *decoder) pageEvent(e *pageEvent) {
	e.ts = d.varint()
	e.pos = Position{int32(d.uvarint()), int64(d.uvarint())}
	typ := d.byte()
	e.omitted = typ&metricsOmitted != 0
	if e.typ = event.Type(typ &^ metricsOmitted); d.err == nil && !e.typ.Counts() {
		d.fail("event type")
	}
	e.category, e.article, e.title, e.url, e.metrics = d.text(), d.text(), d.text(), d.text(), d.text()
	if e.typ == event.Other {
		e.name = d.text()
	}
}

// encode appends the session's value, as an epoch of the level holds it.
func (s *session) encode(dst []byte, l level.Level) []byte {
	dst = s.encodeHead(dst, l)
	n := len(dst)
	dst = slices.Grow(dst, s.restBytes())[:n+s.restBytes()]
	s.copyRest(dst[n:])
	return dst
}

// restBytes is how many bytes of the session's value follow what encodeHead appends.
func (s *session) restBytes() int { return len(event.ID{})*len(s.ids) + len(s.events) }

// copyRest writes the rest of the session's value to dst, which has restBytes.
func (s *session) copyRest(dst []byte) {
	ids := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s.ids))), len(event.ID{})*len(s.ids))
	copy(dst[copy(dst, ids):], s.events)
}

// encodeHead appends the session's value up to the number of its ids.
func (s *session) encodeHead(dst []byte, l level.Level) []byte {
	version := level.Session.At(max(l, level.First))
	shape := imageShapes[version]
	dst = append(dst, version, byte(s.status),
		flags(s.closing, s.purged, s.rolled.counted)|s.visit.flags(shape, s.first, s.userID)|
			s.opening.flags(shape, s.texts))
	dst = appendText(dst, s.id)
	dst = appendOrigin(dst, s.origin)
	dst = binary.AppendVarint(dst, int64(s.originDay))
	dst = s.encodeUser(dst, shape)
	dst = append(dst, cmp.Or(s.texts, noTexts)...)
	dst = s.opening.encode(dst, shape, s.texts)
	dst = binary.AppendVarint(dst, s.first.ts)
	dst = appendOrigin(dst, s.first.pos)
	dst = binary.AppendVarint(dst, s.start)
	dst = binary.AppendVarint(dst, s.end-s.start)
	dst = binary.AppendVarint(dst, s.last-s.end)
	dst = binary.AppendVarint(dst, s.deadline-s.last)
	dst = append(dst, s.maxScroll)
	if shape.real {
		dst = append(dst, s.maxProgress)
		dst = binary.AppendUvarint(dst, uint64(s.completed))
	}
	dst = binary.AppendUvarint(dst, uint64(s.total))
	for _, v := range s.sums[:shape.sums] {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, v := range [...]uint64{
		uint64(s.revision), s.revised, s.firstClosed, s.imageEpoch, uint64(s.createdAt), uint64(s.ends),
	} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, t := range event.Counted[:shape.counts] {
		dst = binary.AppendUvarint(dst, uint64(s.counts[t]))
	}
	if s.rolled.counted {
		dst = binary.AppendVarint(dst, int64(s.rolled.date))
		dst = append(dst, s.rolled.texts...)
		for _, v := range s.rolled.totals {
			dst = binary.AppendVarint(dst, v)
		}
	}
	if shape.real {
		dst = binary.AppendVarint(dst, s.touched-s.last)
		dst = s.key.encode(dst)
		dst = s.segments.encode(dst)
	}
	return binary.AppendUvarint(dst, uint64(len(s.ids)))
}

func flags(bits ...bool) (f byte) {
	for i, b := range bits {
		if b {
			f |= 1 << i
		}
	}
	return f
}

// decodeSession decodes a session's value. Texts are copied; events share the memory of b.
func decodeSession(b []byte) (*session, error) {
	s := new(session)
	d := decoder{b: b}
	n, err := s.decode(&d)
	if err != nil {
		return nil, err
	}
	s.ids = make([]event.ID, n)
	for i := range s.ids {
		copy(s.ids[i][:], d.bytes(len(event.ID{})))
	}
	s.events = b[d.pos:len(b):len(b)]
	if n > linearIDs {
		s.index()
	}
	return s, nil
}

// view decodes what a row is made of. All texts share the memory of b, and the ids are passed over.
func (s *session) view(b []byte) error {
	*s = session{segments: s.segments[:0]}
	d := decoder{b: b, alias: true}
	n, err := s.decode(&d)
	if err != nil {
		return err
	}
	s.events = b[d.pos+n*len(event.ID{}) : len(b) : len(b)]
	return nil
}

// decode reads everything except ids and events, and returns the number of ids that follow.
func (s *session) decode(d *decoder) (ids int, err error) {
	shape := d.imageShape()
	s.status = schema.Status(d.byte())
	f := d.byte()
	s.closing, s.purged, s.rolled.counted = f&1 != 0, f&2 != 0, f&4 != 0
	if d.err == nil && (s.status < schema.StatusOpen || s.status > schema.StatusExpired) {
		d.fail("status")
	}
	s.id = d.string()
	if o := d.bytes(originSize); o != nil {
		s.origin = decodeOrigin(o)
	}
	s.originDay = int32(d.varint())
	s.decodeUser(d, shape, f)
	s.texts = d.texts(shape.texts)
	if missing := len(schema.FirstTexts) - shape.texts; missing > 0 && d.err == nil {
		s.texts += noTexts[:missing]
	}
	s.opening = d.opening(shape, s.texts, f)
	s.first.ts = d.varint()
	if o := d.bytes(originSize); o != nil {
		s.first.pos = decodeOrigin(o)
	}
	if f&flagUserFirst != 0 && s.userID != 0 {
		s.userAt = s.first
	}
	s.start = d.varint()
	s.end = s.start + d.varint()
	s.last = s.end + d.varint()
	s.deadline = s.last + d.varint()
	s.maxScroll = d.byte()
	if shape.real {
		s.maxProgress, s.completed = d.byte(), uint32(d.uvarint())
	}
	s.total = uint32(d.uvarint())
	for i := range s.sums[:shape.sums] {
		s.sums[i] = d.uvarint()
	}
	s.revision = uint32(d.uvarint())
	s.revised, s.firstClosed, s.imageEpoch = d.uvarint(), d.uvarint(), d.uvarint()
	s.createdAt = int64(d.uvarint())
	s.ends = int(d.uvarint())
	for _, t := range event.Counted[:shape.counts] {
		s.counts[t] = uint32(d.uvarint())
	}
	if s.rolled.counted {
		s.rolled.date = int32(d.varint())
		if s.rolled.texts = d.texts(numRolled); strings.HasPrefix(string(s.texts), string(s.rolled.texts)) {
			s.rolled.texts = s.texts[:len(s.rolled.texts)] // one piece of memory for both
		}
		for i := range s.rolled.totals {
			s.rolled.totals[i] = d.varint()
		}
	}
	s.touched = untouched
	if shape.real {
		s.touched = s.last + d.varint()
		s.key = d.firstKey()
		s.segments, s.sealed = d.segments(s.segments)
	}
	n := d.length(len(event.ID{}))
	if d.err == nil && (n != int(s.total)+s.ends || n > maxCounted+maxSessionEnds) {
		d.fail("count of ids")
	}
	return n, d.err
}

// size estimates the bytes of memory that the session takes.
func (s *session) size() int64 {
	n := 490 + len(s.id) + len(s.userKey) + len(s.texts) + len(s.opening.brand) + len(s.events) + 16*len(s.ids) +
		40*len(s.segments) + s.segments.unwritten()
	if s.idSet != nil {
		n += 48 * len(s.ids)
	}
	return int64(n)
}

// maxRollupText is the length in bytes to which texts of rollup keys are truncated (docs/schema.md).
const maxRollupText = 256

// contribution is what the session adds to its rollups now.
func (s *session) contribution() contribution {
	if s.total == 0 {
		return contribution{}
	}
	c := contribution{counted: true, date: schema.Day(s.start), texts: s.texts.rolled()}
	c.totals = s.contributed()
	return c
}

func (s *session) timerKind() timerKind {
	if s.status == schema.StatusOpen {
		return timerClose
	}
	return timerPurge
}

// rowKey is schema.SessionRow.Key of its row.
func (s *session) rowKey() string { return schema.RowKey(s.id, string(s.appendOrigin(nil))) }

// appendOrigin appends the origin as the tables show it.
func (s *session) appendOrigin(dst []byte) []byte {
	dst = append(strconv.AppendInt(dst, int64(s.origin.Partition), 10), '/')
	return strconv.AppendInt(dst, s.origin.Offset, 10)
}
