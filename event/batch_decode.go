package event

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/klauspost/compress/s2"

	"deckle/schema/level"
)

// BatchScratch holds the texts of a decoded batch and the working memory of the decoding. The zero value is ready for
// use. It is reused for one batch after the other.
type BatchScratch struct {
	columns  []byte // decompressed; most texts point into it
	arena    arena  // texts that are assembled from parts
	ids      []uint32
	session  []uint32 // item → session
	sessions []string
	users    []uint64
	texts    []string // of one dictionary
	tokenIDs []uint32
	ints     []uint64
	bounds   []int32 // of shape i: pieces[bounds[i]:bounds[i+1]]
	pieces   []piece
	text     []byte
}

// Sessions returns, for each item of the batch that was decoded last, the number of its session, and how many sessions
// the batch has. Items of one number have one session id. It is valid until the next call of DecodeBatch.
func (s *BatchScratch) Sessions() (of []uint32, n int) { return s.session, len(s.sessions) }

// DecodeBatch decodes what AppendBatch wrote into b, whose memory it reuses. Texts of b point into scratch and are
// valid until the next call with it; src may be changed as soon as the call has returned. ArticleType, Metadata and
// Extra are empty.
//
// What a version above that of level.Current begins is refused with a *level.TooNewError, any other input with a
// *CorruptError, and b is then empty; what is accepted passes Check at the level of its version. Whatever src holds,
// memory stays below some 200 MiB; for a batch of ordinary events it is about one kilobyte per event.
func DecodeBatch(src []byte, b *Batch, scratch *BatchScratch) error {
	b.Reset()
	err := decodeBatch(src, b, scratch)
	if err == nil {
		if bad := b.check(src[0]); bad != nil {
			err = &CorruptError{What: bad.Error()}
		}
	}
	if err != nil {
		b.Reset()
		return err
	}
	return nil
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	counts := b.Counts
	counts.Reset()
	*b = Batch{Ranges: b.Ranges[:0], Seen: b.Seen[:0], Items: b.Items[:0], Rejects: b.Rejects[:0], Counts: counts,
		Suppressed: b.Suppressed[:0]}
}

func decodeBatch(src []byte, b *Batch, s *BatchScratch) error {
	if len(src) == 0 {
		return &CorruptError{What: "empty"}
	}
	version := src[0]
	if version == 0 {
		return &CorruptError{What: "unknown version"}
	}
	if err := level.Batch.Check(int(version)); err != nil {
		return err
	}
	size, n := binary.Uvarint(src[1:])
	if n <= 0 || size > uint64(len(src)-1-n) {
		return &CorruptError{Offset: 1, What: "length of the columns"}
	}
	packed, tail := src[1+n:1+n+int(size)], src[1+n+int(size):]
	length, err := s2.DecodedLen(packed)
	if err != nil || length > maxColumns {
		return &CorruptError{Offset: 1 + n, What: "length of the decompressed columns"}
	}
	s.reset()
	if cap(s.columns) < length {
		s.columns = make([]byte, length+length/4)
	}
	if s.columns, err = s2.Decode(s.columns[:cap(s.columns)], packed); err != nil {
		return &CorruptError{Offset: 1 + n, What: "columns do not decompress: " + err.Error()}
	}
	r := &reader{src: s.columns, tail: tail, budget: MaxBatchBytes, version: version, s: s}
	items, rejects := r.header(b)
	if r.err == nil && version >= batchReal {
		r.realHeader(b)
	}
	if r.err == nil && len(tail) < items*len(ID{})+rejects*sha {
		return &CorruptError{Offset: len(src), What: "ends early"}
	}
	if r.err == nil {
		r.items(b, items)
	}
	if r.err == nil {
		r.rejects(b, rejects)
	}
	switch {
	case r.err != nil:
		return r.err
	case r.at < len(r.src):
		return &CorruptError{Offset: r.at, InColumns: true, What: "columns go on after the last"}
	case len(r.tail) > 0:
		return &CorruptError{Offset: len(src) - len(r.tail), What: "goes on after the last identifier"}
	}
	return nil
}

const sha = 32 // bytes of a SHA-256

func (s *BatchScratch) reset() {
	if cap(s.columns) > maxKept {
		*s = BatchScratch{}
	}
	s.arena.reset()
	s.pieces, s.bounds, s.session, s.sessions = s.pieces[:0], s.bounds[:0], s.session[:0], s.sessions[:0]
}

// reader reads columns. After the first error every read returns zero.
type reader struct {
	src     []byte
	at      int
	tail    []byte
	budget  int // bytes of text that may still be assembled
	version byte
	err     *CorruptError
	s       *BatchScratch
	counts  []rangeCount
}

// rangeCount is how many items and rejects a range has.
type rangeCount struct{ items, rejects int }

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = &CorruptError{Offset: r.at, InColumns: true, What: what}
		r.src, r.tail = r.src[:r.at], nil
	}
}

func (r *reader) uint(what string) uint64 {
	if r.at < len(r.src) && r.src[r.at] < 0x80 {
		r.at++
		return uint64(r.src[r.at-1])
	}
	v, n := binary.Uvarint(r.src[r.at:])
	if n <= 0 {
		r.fail(what)
		return 0
	}
	r.at += n
	return v
}

func (r *reader) int(what string) int64 {
	v := r.uint(what)
	return int64(v>>1) ^ -int64(v&1)
}

// count reads a number of at most limit.
func (r *reader) count(limit int, what string) int {
	v := r.uint(what)
	if v > uint64(limit) {
		r.fail(what)
		return 0
	}
	return int(v)
}

func (r *reader) bytes(n int, what string) []byte {
	if n > len(r.src)-r.at {
		r.fail(what)
		return nil
	}
	r.at += n
	return r.src[r.at-n : r.at : r.at]
}

func (r *reader) fromTail(n int, what string) []byte {
	if n > len(r.tail) {
		r.fail(what + " missing after the columns")
		return nil
	}
	p := r.tail[:n]
	r.tail = r.tail[n:]
	return p
}

// packed reads n numbers below limit into the memory of dst.
func (r *reader) packed(dst []uint32, n int, width uint, limit int, what string) []uint32 {
	if cap(dst) < n {
		dst = make([]uint32, n+n/4)
	}
	dst = dst[:n]
	p := r.bytes(packedLen(n, width), what)
	if r.err != nil {
		clear(dst)
		return dst
	}
	if greatest := unpack(dst, p, width); n > 0 && int(greatest) >= limit {
		r.fail(what)
		clear(dst)
	}
	return dst
}

// dict reads a dictionary of at most limit texts into the memory of s.texts.
func (r *reader) dict(limit int, what string) []string {
	n := r.count(min(limit, len(r.src)-r.at), what)
	at := r.at
	total := 0
	for range n {
		total += r.count(len(r.src), what)
	}
	texts := r.s.texts[:0]
	p := r.bytes(total, what)
	if r.err != nil {
		return texts
	}
	lengths := reader{src: r.src, at: at}
	all := alias(p)
	for range n {
		k := int(lengths.uint(what))
		texts = append(texts, all[:k])
		all = all[k:]
	}
	r.s.texts = texts
	return texts
}

func (r *reader) spend(n int) bool {
	if r.budget -= n; r.budget < 0 {
		r.fail("more than MaxBatchBytes of text")
		return false
	}
	return true
}

func (r *reader) header(b *Batch) (items, rejects int) {
	n := r.count(MaxBatchRanges, "number of ranges")
	b.Nulls = int64(r.uint("number of null records"))
	last := int64(-1)
	for range n {
		last += 1 + int64(r.count(math.MaxInt32, "partition"))
		from := int64(r.uint("offset"))
		size := int64(r.uint("length of a range"))
		epoch := int64(r.count(math.MaxInt32+1, "leader epoch")) - 1
		c := rangeCount{r.count(MaxBatchRecords, "number of items"), r.count(MaxBatchRecords, "number of rejects")}
		items, rejects = items+c.items, rejects+c.rejects
		if last > math.MaxInt32 || from < 0 || size <= 0 || from+size < from || items+rejects > MaxBatchRecords {
			r.fail("range")
		}
		if r.err != nil {
			return 0, 0
		}
		b.Ranges = append(b.Ranges, Range{Partition: int32(last), From: from, To: from + size,
			LeaderEpoch: int32(epoch)})
		r.counts = append(r.counts, c)
	}
	return items, rejects
}

func (r *reader) items(b *Batch, n int) {
	if n == 0 {
		return
	}
	s := r.s
	b.Items = slices.Grow(b.Items[:0], n)[:n]
	items := b.Items
	clear(items)
	at := 0
	for i, c := range r.counts {
		next := b.Ranges[i].From
		for range c.items {
			items[at].Partition = b.Ranges[i].Partition
			items[at].Offset = next + int64(r.uint("offset"))
			next = items[at].Offset + 1
			at++
		}
	}
	last := int64(0)
	for i := range items {
		last += r.int("Kafka timestamp")
		items[i].KafkaTimestamp = last
	}
	for i := range items {
		items[i].Timestamp = items[i].KafkaTimestamp/1000 + r.int("timestamp")
	}
	s.ids = r.packed(s.ids, n, typeWidth, int(NumTypes), "event type")
	ids := r.fromTail(n*len(ID{}), "event ids")
	if r.err != nil {
		return
	}
	for i := range items {
		items[i].Type = Type(s.ids[i])
		items[i].ID = ID(ids[i*len(ID{}):])
	}
	r.sessionColumn(items)
	r.userColumn(items)
	for _, f := range textColumns[:batchTexts[r.version]] {
		r.textColumn(items, f)
	}
	r.measureColumns(items)
	if r.err == nil {
		r.metricsColumn(items)
	}
	if r.err == nil && r.version >= batchReal {
		r.realColumns(items)
	}
}

func (r *reader) sessionColumn(items []Item) {
	s := r.s
	k := r.count(len(items), "number of sessions")
	s.session = r.packed(s.session, len(items), widthOf(k), k, "session")
	s.ids = r.packed(s.ids, k, 1, 2, "form of a session id")
	for _, isUUID := range s.ids {
		var text string
		if isUUID == 1 {
			p := r.fromTail(len(ID{}), "session ids")
			if r.err != nil {
				return
			}
			q := s.arena.alloc(uuidLen)
			ID(p).put((*[uuidLen]byte)(q))
			text = alias(q)
		} else {
			text = alias(r.bytes(r.count(MaxSessionID, "session id"), "session id"))
		}
		s.sessions = append(s.sessions, text)
	}
	if r.err != nil {
		return
	}
	for i := range items {
		items[i].SessionID = s.sessions[s.session[i]]
	}
}

// mode reads whether a column has one value per item or one per session, and returns the number of values.
func (r *reader) mode(items []Item, what string) (session bool, n int) {
	if r.count(perSession, what) == perSession {
		return true, len(r.s.sessions)
	}
	return false, len(items)
}

func (r *reader) userColumn(items []Item) {
	s := r.s
	session, n := r.mode(items, "layout of user ids")
	s.users = s.users[:0]
	for range n {
		s.users = append(s.users, r.uint("user id"))
	}
	if r.err != nil {
		return
	}
	for i := range items {
		if session {
			items[i].UserID = s.users[s.session[i]]
		} else {
			items[i].UserID = s.users[i]
		}
	}
}

func (r *reader) textColumn(items []Item, f field) {
	s, what := r.s, fields[f].name
	if f == fieldPageURL {
		s.tokenIDs = r.packed(s.tokenIDs, len(items), 1, 2, what)
	}
	texts := r.dict(len(items), what)
	session, n := r.mode(items, what)
	s.ids = r.packed(s.ids, n, widthOf(len(texts)), len(texts), what)
	if r.err != nil {
		return
	}
	if session {
		for i := range items {
			*items[i].text(f) = texts[s.ids[s.session[i]]]
		}
	} else {
		for i := range items {
			*items[i].text(f) = texts[s.ids[i]]
		}
	}
	if f != fieldPageURL {
		return
	}
	for i := range items { // ArticleID stands before PageURL in textColumns
		if s.tokenIDs[i] == 1 {
			prefix, article := items[i].PageURL, items[i].ArticleID
			n := len(prefix) + len(article)
			if !r.spend(n) {
				return
			}
			p := s.arena.alloc(n)
			copy(p[copy(p, prefix):], article)
			items[i].PageURL = alias(p)
		}
	}
}

func (r *reader) measureColumns(items []Item) {
	s := r.s
	width := measureWidth(r.version)
	s.ids = r.packed(s.ids, len(items), width, 1<<width, "measures")
	for i := range items {
		if s.ids[i]&hasMeasure != 0 {
			items[i].Measure = r.uint("measure")
		}
	}
	for i := range items {
		if s.ids[i]&hasScroll != 0 {
			items[i].Scroll = uint8(r.count(maxScroll, "scroll depth"))
		}
	}
	if r.version < batchReal {
		return
	}
	for i := range items {
		if s.ids[i]&hasProgress != 0 {
			items[i].Progress = uint8(r.count(maxScroll, "read progress"))
		}
		items[i].Complete = s.ids[i]&isComplete != 0
	}
}

func (r *reader) metricsColumn(items []Item) {
	const what = "engagement metrics"
	s := r.s
	nInts, nTokens := 0, 0
	shapes := r.dict(min(len(items), maxShapes), what)
	slots := byte(slotScroll)
	if r.version >= batchReal {
		slots = slotProgress
	}
	s.bounds = append(s.bounds, 0)
	for _, shape := range shapes {
		before := len(s.pieces)
		s.pieces = pieces(s.pieces, shape, slots)
		if len(s.pieces)-before > maxSlots+1 {
			r.fail("shape of engagement metrics with too many values")
			return
		}
		s.bounds = append(s.bounds, int32(len(s.pieces)))
	}
	s.ids = r.packed(s.ids, len(items), widthOf(len(shapes)), len(shapes), what)
	if r.err != nil {
		return
	}
	for _, id := range s.ids {
		for _, p := range s.pieces[s.bounds[id]:s.bounds[id+1]] {
			switch p.slot {
			case slotInt:
				nInts++
			case slotToken:
				nTokens++
			}
		}
	}
	s.ints = s.ints[:0]
	if nInts > len(r.src)-r.at {
		r.fail(what)
		return
	}
	for range nInts {
		s.ints = append(s.ints, r.uint(what))
	}
	tokens := r.dict(nTokens, what)
	s.tokenIDs = r.packed(s.tokenIDs, nTokens, widthOf(len(tokens)), len(tokens), what)
	if r.err != nil {
		return
	}
	ints, tokenIDs := s.ints, s.tokenIDs
	for i := range items {
		ps := s.pieces[s.bounds[s.ids[i]]:s.bounds[s.ids[i]+1]]
		if len(ps) == 1 { // no value: all events share the text
			items[i].EngagementMetrics = ps[0].literal
			continue
		}
		if len(ps) == 2 && ps[0].literal == "" && ps[1].literal == "" && ps[0].slot == slotToken { // rawShape
			items[i].EngagementMetrics = tokens[tokenIDs[0]]
			tokenIDs = tokenIDs[1:]
			continue
		}
		text := s.text[:0]
		for _, p := range ps {
			text = append(text, p.literal...)
			switch p.slot {
			case slotInt:
				text = appendUint(text, ints[0])
				ints = ints[1:]
			case slotToken:
				text = append(text, tokens[tokenIDs[0]]...)
				tokenIDs = tokenIDs[1:]
			case slotMeasure:
				text = appendUint(text, items[i].Measure)
			case slotScroll:
				text = appendUint(text, uint64(items[i].Scroll))
			case slotProgress:
				text = appendUint(text, uint64(items[i].Progress))
			}
		}
		if s.text = text; !r.spend(len(text)) {
			return
		}
		items[i].EngagementMetrics = s.arena.text(text)
	}
}

func (r *reader) rejects(b *Batch, n int) {
	if n == 0 {
		return
	}
	s := r.s
	b.Rejects = slices.Grow(b.Rejects[:0], n)[:n]
	at, last := 0, int64(0)
	for i, c := range r.counts {
		next := b.Ranges[i].From
		for range c.rejects {
			x := &b.Rejects[at]
			*x = Reject{Partition: b.Ranges[i].Partition} // the memory may be another batch's
			x.Offset = next + int64(r.uint("offset"))
			next = x.Offset + 1
			last += r.int("Kafka timestamp")
			x.KafkaTimestamp = last
			x.Reason = Reason(r.count(int(numReasons)-1, "reason"))
			x.Length = int64(r.uint("length of a record"))
			copy(x.SHA256[:], r.fromTail(sha, "SHA-256"))
			at++
		}
	}
	details := r.dict(n, "detail")
	s.ids = r.packed(s.ids, n, widthOf(len(details)), len(details), "detail")
	if r.err != nil {
		return
	}
	for i := range b.Rejects {
		b.Rejects[i].Detail = details[s.ids[i]]
	}
	if r.version >= batchGuarded {
		r.withheldColumn(b.Rejects)
	}
}
