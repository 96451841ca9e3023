package clickhouse

import (
	"fmt"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema"
)

// block is the input of one INSERT: columns that are filled row by row and reused for the next INSERT.
type block struct {
	table *table
	input proto.Input
	rows  int
	bytes int // estimated size before compression
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

// intern returns a copy of s that outlives the row, one per distinct text of the block, and counts its bytes.
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

// sessionBlock is a block of session_metrics_versions.
type sessionBlock struct {
	block
	layout  *layout
	cells   []cell[schema.SessionRow]
	shard   proto.ColUInt32
	version proto.ColUInt64
}

func newSessionBlock(y *layout) *sessionBlock {
	b := &sessionBlock{block: newBlock(&y.sessions), layout: y}
	for i := range y.declared.Sessions {
		input, cell := newCell(&b.block, &y.declared.Sessions[i])
		b.add(input)
		b.cells = append(b.cells, cell)
	}
	b.add(&b.shard)
	b.add(&b.version)
	return b
}

// fixedSessionBytes is the total width of the columns of a session that are no texts, at level 1.
const fixedSessionBytes = 190

func (y *layout) sessionBytes(r *schema.SessionRow) int {
	n := y.width
	for _, c := range y.texts {
		n += len(c.Text(r))
	}
	return n
}

func (b *sessionBlock) append(ord int, shard uint32, r *schema.SessionRow) error {
	if err := checkRow(r); err != nil {
		return err
	}
	for _, c := range b.cells {
		c.append(r)
	}
	b.shard.Append(shard)
	b.version.Append(r.Epoch)
	b.count(ord, 1, b.layout.sessionBytes(r))
	return nil
}

// pageBlock is a block of page_analytics_versions. A session's pages are never split over two blocks.
type pageBlock struct {
	block
	session []cell[schema.SessionRow] // the columns that a page takes from its session
	page    []cell[schema.PageRow]
	shard   proto.ColUInt32
	version proto.ColUInt64
}

func newPageBlock(y *layout) *pageBlock {
	b := &pageBlock{block: newBlock(&y.pages)}
	for i := range y.declared.Pages {
		var input proto.ColInput
		if c := &y.declared.Pages[i]; c.Session != nil {
			var of cell[schema.SessionRow]
			input, of = newCell(&b.block, c.Session)
			b.session = append(b.session, of)
		} else {
			var of cell[schema.PageRow]
			input, of = newCell(&b.block, c.Page)
			b.page = append(b.page, of)
		}
		b.add(input)
	}
	b.add(&b.shard)
	b.add(&b.version)
	return b
}

func pageBytes(r *schema.SessionRow) int {
	n := 0
	for i := range r.Pages {
		p := &r.Pages[i]
		n += 36 + len(r.SessionID) + len(r.Origin) + len(p.ArticleID) + len(p.ArticleTitle) + len(p.Category)
	}
	return n
}

func (b *pageBlock) append(ord int, shard uint32, r *schema.SessionRow) error {
	if err := checkRow(r); err != nil {
		return err
	}
	for i := range r.Pages {
		for _, c := range b.session {
			c.append(r)
		}
		for _, c := range b.page {
			c.append(&r.Pages[i])
		}
		b.shard.Append(shard)
		b.version.Append(r.Epoch)
	}
	b.count(ord, len(r.Pages), pageBytes(r))
	return nil
}

// rollupBlock is a block of rollup_versions.
type rollupBlock struct {
	block
	measures []schema.Measure
	name     *proto.ColLowCardinality[string]
	date     proto.ColDate
	dims     []proto.ColStr
	sums     []proto.ColInt64
	shard    proto.ColUInt32
	version  proto.ColUInt64
}

func newRollupBlock(y *layout) *rollupBlock {
	measures := y.declared.Measures
	b := &rollupBlock{block: newBlock(&y.rollups), measures: measures, name: lowCardinality(),
		dims: make([]proto.ColStr, schema.MaxDims), sums: make([]proto.ColInt64, len(measures))}
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

func (b *rollupBlock) append(shard uint32, r *schema.RollupRow) error {
	switch {
	case r.Table >= schema.NumRollups || len(r.Dims) != r.Table.NumDims():
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
	for i := range b.sums {
		b.sums[i].Append(*b.measures[i].At(r))
	}
	b.shard.Append(shard)
	b.version.Append(r.Epoch)
	b.count(0, 1, size)
	return nil
}
