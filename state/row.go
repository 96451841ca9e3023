package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"deckle/event"
	"deckle/schema"
)

// rowBuilder turns sessions into rows. It reuses its memory, and a row's texts share the memory of the builder and of
// the session: a row is valid until the next one is built.
type rowBuilder struct {
	noPages    bool   // rows need not have their pages
	gathered   []byte // events of the segments and of the image
	events     []pageEvent
	texts      [][]byte // the distinct ones of a column
	distinct   map[string]struct{}
	pages      []schema.PageRow // in the order of their first events
	order      []int            // indexes of pages, by article and type
	sorted     []schema.PageRow
	pageIndex  map[pageKey]int
	origin     []byte
	categories []byte
	articles   []byte
	titles     []byte
	text       []byte
	readable   []byte // the normalised text of an event
	row        schema.SessionRow
}

// maxLinear is the number of things up to which comparing them one by one is faster than a map.
const maxLinear = 32

type pageKey struct {
	article string
	typ     event.Type
	name    string // of type event.Other
}

// build fills a row from a session with at least one counted event. Its segments are read from r.
func (rb *rowBuilder) build(s *session, shard uint32, r pebble.Reader) (*schema.SessionRow, error) {
	if rb.distinct == nil {
		rb.distinct, rb.pageIndex = map[string]struct{}{}, map[pageKey]int{}
	}
	if err := rb.decode(s, r); err != nil {
		return nil, err
	}
	return rb.fill(s, shard), nil
}

// fill fills the row from the session and its events.
func (rb *rowBuilder) fill(s *session, shard uint32) *schema.SessionRow {
	r := &rb.row
	rb.origin = s.appendOrigin(rb.origin[:0])
	*r = schema.SessionRow{
		SessionID: s.id, Origin: aliased(rb.origin), OpeningBrand: s.opening.brand,
		UserID: s.userID, UserKey: s.userKey,
		Start: s.start, End: s.end, TotalEvents: s.total, Counts: s.counts,
		MaxScrollDepth: s.maxScroll, Status: s.status, Revision: s.revision, SessionDate: s.originDay,
		Epoch: s.imageEpoch, BatchID: schema.BatchID(shard, s.imageEpoch), CreatedAt: s.createdAt,
		FirstClosed: s.firstClosed, MaxReadProgress: s.maxProgress, ArticlesCompleted: s.completed,
		SeveralUsers: flags(s.several), FiguresKnown: s.real && !s.former,
		UsersKnown: s.real && (!s.former || s.several),
	}
	var room [maxTexts]string
	dims := room[:len(schema.FirstTexts)]
	s.texts.split(dims)
	for i, c := range schema.FirstTexts {
		c.SetText(r, dims[i])
	}
	for i, c := range schema.MeasureSums {
		c.SetNumber(r, s.sums[i])
	}
	rb.lists(r, s.former)
	r.UniqueCategories = rb.unique(func(e *pageEvent) []byte { return e.category })
	if rb.noPages {
		r.UniquePages = rb.unique(func(e *pageEvent) []byte { return e.article })
	} else {
		rb.pageRows(r)
	}
	return r
}

// decode reads the session's events and sorts them.
func (rb *rowBuilder) decode(s *session, r pebble.Reader) error {
	events := s.events
	if len(s.segments) > 0 {
		var err error
		rb.gathered = slices.Grow(rb.gathered[:0], min(int(s.sealed), 16<<20)+len(s.events))
		if rb.gathered, err = s.segments.read(rb.gathered, r, appendSegments(nil, s.id, s.origin)); err != nil {
			return err
		}
		rb.gathered = append(rb.gathered, s.events...)
		events = rb.gathered
	}
	rb.events = rb.events[:0]
	d, sorted := decoder{b: events}, true
	for d.err == nil && d.pos < len(d.b) {
		n := len(rb.events)
		rb.events = append(rb.events, pageEvent{})
		d.pageEvent(&rb.events[n])
		sorted = sorted && (n == 0 || rb.events[n-1].order.compare(rb.events[n].order) <= 0)
	}
	if d.err == nil && len(rb.events) != int(s.total) {
		d.fail("count of events")
	}
	if d.err != nil {
		return d.err
	}
	if !sorted {
		slices.SortFunc(rb.events, func(a, b pageEvent) int { return a.order.compare(b.order) })
	}
	return nil
}

// letGo frees the memory of the last row, which nobody may read any more, if the row was a large one.
func (rb *rowBuilder) letGo() {
	if cap(rb.gathered) > maxKept || cap(rb.text) > maxKept {
		*rb = rowBuilder{noPages: rb.noPages}
	}
}

// lists builds the JSON lists: categories, article ids and titles (without empty ones), and page events. former says
// that JSON texts may have been stored as they came, which not all readers take for the same value, or at all: what
// cannot be rewritten is left out, as what is too long is.
func (rb *rowBuilder) lists(r *schema.SessionRow, former bool) {
	b := append(rb.text[:0], '[')
	categories, articles := append(rb.categories[:0], '['), append(rb.articles[:0], '[')
	titles := append(rb.titles[:0], '[')
	for i := range rb.events {
		if i > 0 {
			b = append(b, ',')
		}
		e := &rb.events[i]
		if former && event.HasLongName(aliased(e.metrics)) {
			e.metrics, e.omitted = nil, true
		} else if former {
			if out, changed := event.NormalizeJSON(rb.readable[:0], aliased(e.metrics)); changed {
				rb.readable, e.metrics = out, out
			}
		}
		b = e.appendType(append(b, `{"event_type":`...))
		// What a page event says in JSON is copied to the lists, because copying costs less than escaping once more.
		b = append(b, `,"category":`...)
		from := len(b)
		if b = appendJSONText(b, e.category); len(e.category) > 0 {
			categories = appendElement(categories, b[from:])
		}
		b = append(b, `,"article_id":`...)
		from = len(b)
		if b = appendJSONText(b, e.article); len(e.article) > 0 {
			articles = appendElement(articles, b[from:])
			r.PagesVisited++
		}
		b = append(b, `,"article_title":`...)
		from = len(b)
		if b = appendJSONText(b, e.title); len(e.title) > 0 {
			titles = appendElement(titles, b[from:])
		}
		b = e.appendRest(b)
	}
	rb.text, rb.categories = append(b, ']'), append(categories, ']')
	rb.articles, rb.titles = append(articles, ']'), append(titles, ']')
	r.Categories, r.ArticleIDs = aliased(rb.categories), aliased(rb.articles)
	r.ArticleTitles, r.PageEvents = aliased(rb.titles), aliased(rb.text)
}

// appendElement appends an element to a JSON array that has not been closed.
func appendElement(list, element []byte) []byte {
	if len(list) > 1 {
		list = append(list, ',')
	}
	return append(list, element...)
}

func (e *pageEvent) appendType(b []byte) []byte {
	if e.typ == event.Other {
		return appendJSONText(b, e.name)
	}
	return append(append(append(b, '"'), e.typ.String()...), '"')
}

// appendRest appends what follows the title.
func (e *pageEvent) appendRest(b []byte) []byte {
	b = appendJSONText(append(b, `,"page_url":`...), e.url)
	b = strconv.AppendInt(append(b, `,"timestamp":`...), e.ts, 10)
	b = append(b, `,"engagement_metrics":`...)
	if len(e.metrics) == 0 {
		b = append(b, "null"...)
		if e.omitted {
			b = append(b, `,"engagement_metrics_omitted":true`...)
		}
	}
	return append(append(b, e.metrics...), '}')
}

// unique counts the distinct texts of the events, without empty ones.
func (rb *rowBuilder) unique(of func(*pageEvent) []byte) uint32 {
	rb.texts = rb.texts[:0]
	clear(rb.distinct)
	for i := range rb.events {
		t := of(&rb.events[i])
		if len(t) == 0 || rb.has(t) {
			continue
		}
		if len(rb.texts) >= maxLinear {
			rb.distinct[aliased(t)] = struct{}{}
		}
		rb.texts = append(rb.texts, t)
	}
	return uint32(len(rb.texts))
}

// has says whether a text is among texts. The latest ones come first, because an event most often repeats what the one
// before it has; those after the first maxLinear are found by a map.
func (rb *rowBuilder) has(t []byte) bool {
	if n := len(rb.texts); n > maxLinear {
		if _, ok := rb.distinct[string(t)]; ok {
			return true
		}
	}
	for i := min(len(rb.texts), maxLinear) - 1; i >= 0; i-- {
		if bytes.Equal(rb.texts[i], t) {
			return true
		}
	}
	return false
}

// pageRows counts the events of each type on each article, in the order of (article, type), and counts the articles.
func (rb *rowBuilder) pageRows(r *schema.SessionRow) {
	rb.pages = rb.pages[:0]
	clear(rb.pageIndex)
	for i := range rb.events {
		e := &rb.events[i]
		if len(e.article) == 0 {
			continue
		}
		p := rb.page(pageKey{aliased(e.article), e.typ, aliased(e.name)})
		if p.Count++; p.Count == 1 {
			p.ArticleTitle, p.Category = aliased(e.title), aliased(e.category)
		}
	}
	// Rows cost more to move than indexes, because they hold texts, about which the garbage collector must be told.
	rb.order = rb.order[:0]
	for i := range rb.pages {
		rb.order = append(rb.order, i)
	}
	slices.SortFunc(rb.order, func(i, j int) int {
		a, b := &rb.pages[i], &rb.pages[j]
		if c := strings.Compare(a.ArticleID, b.ArticleID); c != 0 {
			return c
		}
		if c := cmp.Compare(a.Type, b.Type); c != 0 {
			return c
		}
		return strings.Compare(a.TypeName, b.TypeName)
	})
	rb.sorted = rb.sorted[:0]
	for _, i := range rb.order {
		p := &rb.pages[i]
		if n := len(rb.sorted); n == 0 || rb.sorted[n-1].ArticleID != p.ArticleID {
			r.UniquePages++
		}
		rb.sorted = append(rb.sorted, *p)
	}
	r.Pages = rb.sorted
}

// page returns the page of a key, a new one if there is none. The first maxLinear pages are compared one by one, the
// others are found by a map.
func (rb *rowBuilder) page(k pageKey) *schema.PageRow {
	for i := min(len(rb.pages), maxLinear) - 1; i >= 0; i-- { // the latest first: see has
		if p := &rb.pages[i]; p.Type == k.typ && p.ArticleID == k.article && p.TypeName == k.name {
			return p
		}
	}
	if at, ok := rb.pageIndex[k]; ok {
		return &rb.pages[at]
	}
	at := len(rb.pages)
	if at >= maxLinear {
		rb.pageIndex[k] = at
	}
	rb.pages = append(rb.pages, schema.PageRow{ArticleID: k.article, Type: k.typ, TypeName: k.name})
	return &rb.pages[at]
}

const hexDigits = "0123456789abcdef"

// appendJSONText appends a JSON string. Its bytes are valid UTF-8, because package event refuses anything else.
func appendJSONText(dst []byte, s []byte) []byte {
	dst = append(dst, '"')
	for {
		n := plain(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		switch c := s[n]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		s = s[n+1:]
	}
}

// plain returns the number of bytes before the first one that a JSON string must escape: a control character, a quote
// or a backslash.
func plain(s []byte) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		if n := plain8(binary.LittleEndian.Uint64(s[i:])); n < 8 {
			return i + n
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' {
			return i
		}
	}
	return i
}

// plain8 does what plain does for eight bytes, of which the first is the lowest. In each term, the lowest bit that is
// set marks a byte below 0x20 (or below 1, after the xor). The borrow may set wrong bits above it, but only there.
func plain8(w uint64) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, slash := w^'"'*ones, w^'\\'*ones
	return bits.TrailingZeros64(((w-0x20*ones)&^w|(quote-ones)&^quote|(slash-ones)&^slash)&tops) / 8
}
