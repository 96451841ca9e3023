package clickhouse

import (
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"deckle/event"
	"deckle/state"
)

// block is the input of one INSERT: columns that are filled row by row and used again.
type block struct {
	table *table
	input proto.Input
	rows  int
	bytes int // estimate, before compression
	// from and to are the ordinals, in the plan, of the sessions whose rows are in the block: [from, to).
	from, to int

	pool map[string]string // texts of the LowCardinality columns, which keep references
}

func newBlock(t *table) block { return block{table: t, pool: map[string]string{}} }

// add appends a column; blocks list theirs in the order of the table.
func (b *block) add(c proto.ColInput) {
	b.input = append(b.input, proto.InputColumn{Name: b.table.columns[len(b.input)].name, Data: c})
}

func (b *block) reset() {
	b.input.Reset()
	b.rows, b.bytes, b.from, b.to = 0, 0, 0, 0
	clear(b.pool)
}

// intern returns a copy of s that outlives the row, one for each distinct text of the block, and
// counts its bytes.
func (b *block) intern(s string) string {
	if t, ok := b.pool[s]; ok {
		return t
	}
	t := strings.Clone(s)
	b.pool[t] = t
	b.bytes += len(t)
	return t
}

// count notes a row of session number ord.
func (b *block) count(ord, rows, bytes int) {
	if b.rows == 0 {
		b.from = ord
	}
	b.rows += rows
	b.bytes += bytes
	b.to = ord + 1
}

func lowCardinality() *proto.ColLowCardinality[string] { return new(proto.ColStr).LowCardinality() }

// sessionBlock is a block of session_metrics_versions.
type sessionBlock struct {
	block
	str    [9]proto.ColStr // session_id, city, referrer, categories, ids, titles, page_events, origin
	low    [8]*proto.ColLowCardinality[string]
	start  proto.ColDateTime
	end    proto.ColDateTime
	u32    [16]proto.ColUInt32
	u64    [6]proto.ColUInt64
	scroll proto.ColUInt8
	status proto.ColEnum
	date   proto.ColDate
	create proto.ColDateTime64
}

func newSessionBlock() *sessionBlock {
	b := &sessionBlock{block: newBlock(&sessions)}
	for i := range b.low {
		b.low[i] = lowCardinality()
	}
	b.start.Location, b.end.Location = time.UTC, time.UTC
	b.create.WithPrecision(proto.PrecisionMilli).WithLocation(time.UTC)
	if err := b.status.Infer(statuses); err != nil {
		panic(err) // a constant of this package
	}
	var str, low, u32, u64 int
	for _, c := range sessions.columns {
		switch c.typ {
		case text:
			b.add(&b.str[str])
			str++
		case lowText:
			b.add(b.low[low])
			low++
		case "UInt32":
			b.add(&b.u32[u32])
			u32++
		case "UInt64":
			b.add(&b.u64[u64])
			u64++
		case "UInt8":
			b.add(&b.scroll)
		case "Date":
			b.add(&b.date)
		case millis:
			b.add(&b.create)
		case statuses:
			b.add(&b.status)
		case seconds:
			if c.name == "session_start" {
				b.add(&b.start)
			} else {
				b.add(&b.end)
			}
		}
	}
	return b
}

// fixedSessionBytes is the width of a session's columns that are no texts.
const fixedSessionBytes = 190

func sessionBytes(r *state.SessionRow) int {
	return fixedSessionBytes + len(r.SessionID) + len(r.City) + len(r.Referrer) + len(r.Categories) + len(r.ArticleIDs) +
		len(r.ArticleTitles) + len(r.PageEvents) + len(r.Origin)
}

// append adds the session. The values are listed by type, in the order of the table's columns of that type.
func (b *sessionBlock) append(ord int, shard uint32, r *state.SessionRow) error {
	if err := checkRow(r); err != nil {
		return err
	}
	for i, v := range [...]string{r.SessionID, r.City, r.Referrer, r.Categories, r.ArticleIDs, r.ArticleTitles, r.PageEvents, r.Origin} {
		b.str[i].Append(v)
	}
	for i, v := range [...]string{r.Brand, r.Country, r.DeviceType, r.DeviceOS, r.Browser, r.SubscriptionTier, r.UserSegment, r.Timezone} {
		b.low[i].Append(b.intern(v))
	}
	c := &r.Counts
	for i, v := range [...]uint32{
		uint32(r.End - r.Start), r.TotalEvents, c[event.ArticleView], c[event.ArticleClick], c[event.VideoPlay],
		c[event.NewsletterSignup], c[event.AdClick], c[event.Search], c[event.SubscriptionPrompt], c[event.Navigation],
		r.PagesVisited, r.UniquePages, r.UniqueCategories, r.Revision, shard,
	} {
		b.u32[i].Append(v)
	}
	for i, v := range [...]uint64{r.UserID, r.TimeOnPageSec, r.VideoWatchSec, r.AdRevenueMicros, r.BatchID, r.Epoch} {
		b.u64[i].Append(v)
	}
	b.start.AppendRaw(proto.DateTime(r.Start))
	b.end.AppendRaw(proto.DateTime(r.End))
	b.scroll.Append(r.MaxScrollDepth)
	b.status.Append(r.Status.String())
	b.date = append(b.date, proto.Date(r.SessionDate))
	b.create.AppendRaw(proto.DateTime64(r.CreatedAt))
	b.count(ord, 1, sessionBytes(r))
	return nil
}

// pageBlock is a block of page_analytics_versions. A session's pages are never split over two blocks.
type pageBlock struct {
	block
	session, origin, article, title proto.ColStr
	typ, category                   *proto.ColLowCardinality[string]
	visits, shard                   proto.ColUInt32
	user, version                   proto.ColUInt64
	date                            proto.ColDate
}

func newPageBlock() *pageBlock {
	b := &pageBlock{block: newBlock(&pages), typ: lowCardinality(), category: lowCardinality()}
	for _, c := range []proto.ColInput{
		&b.session, &b.origin, &b.article, b.typ, &b.visits, &b.user, &b.title, b.category, &b.date, &b.shard, &b.version,
	} {
		b.add(c)
	}
	return b
}

func pageBytes(r *state.SessionRow) int {
	n := 0
	for i := range r.Pages {
		p := &r.Pages[i]
		n += 36 + len(r.SessionID) + len(r.Origin) + len(p.ArticleID) + len(p.ArticleTitle) + len(p.Category)
	}
	return n
}

func (b *pageBlock) append(ord int, shard uint32, r *state.SessionRow) error {
	if err := checkRow(r); err != nil {
		return err
	}
	for i := range r.Pages {
		p := &r.Pages[i]
		b.session.Append(r.SessionID)
		b.origin.Append(r.Origin)
		b.article.Append(p.ArticleID)
		b.typ.Append(p.Type.String())
		b.visits.Append(p.Count)
		b.user.Append(r.UserID)
		b.title.Append(p.ArticleTitle)
		b.category.Append(b.intern(p.Category))
		b.date = append(b.date, proto.Date(r.SessionDate))
		b.shard.Append(shard)
		b.version.Append(r.Epoch)
	}
	b.count(ord, len(r.Pages), pageBytes(r))
	return nil
}

// rollupBlock is a block of rollup_versions.
type rollupBlock struct {
	block
	name    *proto.ColLowCardinality[string]
	date    proto.ColDate
	dims    [3]proto.ColStr
	sums    [7]proto.ColInt64
	shard   proto.ColUInt32
	version proto.ColUInt64
}

func newRollupBlock() *rollupBlock {
	b := &rollupBlock{block: newBlock(&rollups), name: lowCardinality()}
	b.add(b.name)
	b.add(&b.date)
	for i := range b.dims {
		b.add(&b.dims[i])
	}
	for i := range b.sums {
		b.add(&b.sums[i])
	}
	b.add(&b.shard)
	b.add(&b.version)
	return b
}

func (b *rollupBlock) append(shard uint32, r *state.RollupRow) error {
	switch {
	case r.Table >= state.NumRollups || len(r.Dims) != state.RollupDims[r.Table]:
		return &rowError{fmt.Errorf("rollup %s with %d dimensions", r.Table, len(r.Dims))}
	case r.Date < 0 || r.Date > maxDays:
		return &rowError{fmt.Errorf("date %d does not fit Date", r.Date)}
	}
	size := 85
	b.name.Append(r.Table.String())
	b.date = append(b.date, proto.Date(r.Date))
	for i := range b.dims {
		d := ""
		if i < len(r.Dims) {
			d = r.Dims[i]
		}
		b.dims[i].Append(d)
		size += len(d)
	}
	for i, v := range [...]int64{r.Sessions, r.Duration, r.Events, r.Views, r.Plays, r.Signups, r.AdClicks} {
		b.sums[i].Append(v)
	}
	b.shard.Append(shard)
	b.version.Append(r.Epoch)
	b.count(0, 1, size)
	return nil
}
