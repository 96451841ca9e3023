package delta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
)

// sessionRow is a row of the table sessions as the files of a level hold it: one value per column. The columns of level
// 1 are required: an empty text is "". A row that was read from a file and is written again keeps its values as they
// are.
type sessionRow parquet.Row

// Places of the columns that the sinks read.
var (
	placeSession = sessionsTable.place("session_id")
	placeOrigin  = sessionsTable.place("origin")
	placeBrand   = sessionsTable.place("brand")
	placeBatch   = sessionsTable.place("batch_id")
)

// longTexts are the places of the texts whose length varies, so that rows differ in size.
var longTexts = func() (places []int) {
	for i := range declared.sessionColumns {
		c := &declared.sessionColumns[i]
		if c.Kind == schema.Text || c.Kind == schema.Repeated || c.Kind == schema.JSON {
			places = append(places, c.place)
		}
	}
	return places
}()

func (r sessionRow) epoch() uint64 {
	_, epoch := schema.SplitBatchID(uint64(r[placeBatch].Int64()))
	return epoch
}

func (r sessionRow) key() string {
	return schema.RowKey(textOf(r[placeSession]), textOf(r[placeOrigin]))
}

// size estimates the row's bytes in memory.
func (r sessionRow) size() int64 {
	n := 500
	for _, at := range longTexts {
		if at >= len(r) {
			break // a column of a later level
		}
		n += len(r[at].ByteArray())
	}
	return int64(n)
}

// clone copies the row with its texts, so that what r points to may change afterwards.
func (r sessionRow) clone() sessionRow {
	n := 0
	for _, v := range r {
		if v.Kind() == parquet.ByteArray {
			n += len(v.ByteArray())
		}
	}
	c := slices.Clone(r)
	all := make([]byte, 0, n)
	for i, v := range c {
		if v.Kind() == parquet.ByteArray {
			at := len(all)
			all = append(all, v.ByteArray()...)
			c[i] = parquet.ByteArrayValue(all[at:len(all):len(all)]).Level(0, v.DefinitionLevel(), i)
		}
	}
	return c
}

var errRange = errors.New("number exceeds a long")

// rowMemory is where rows lie, so that not every row is an allocation of its own. It is let go with the last of its
// rows.
type rowMemory struct {
	values []parquet.Value
	texts  []byte
}

const (
	valuesAtOnce = 2700 // of 24 bytes each
	textsAtOnce  = 256 << 10
)

// row returns a row of so many values, and room for so many bytes of its texts. Without memory the row is one of its
// own.
func (m *rowMemory) row(values, texts int) (r sessionRow, text []byte) {
	if m == nil {
		return make(sessionRow, values), make([]byte, 0, texts)
	}
	if len(m.values) < values {
		m.values = make([]parquet.Value, max(values, valuesAtOnce))
	}
	if len(m.texts) < texts {
		m.texts = make([]byte, max(texts, textsAtOnce))
	}
	r, m.values = sessionRow(m.values[:values:values]), m.values[values:]
	text, m.texts = m.texts[:0:texts], m.texts[texts:]
	return r, text
}

// sessionRow copies an image with its texts to m, so that the caller may reuse what s points to. It has the columns of
// the files of t.
func (y *layout) sessionRow(t *table, s *schema.SessionRow, m *rowMemory) (sessionRow, error) {
	columns := y.sessionColumns[:len(t.statOf)]
	n := 0
	for i := range columns {
		if c := &columns[i]; c.Kind.IsText() {
			n += len(c.Text(s))
		} else if v := c.Number(s); c.Kind == schema.Uint64 && !c.Signed && v > math.MaxInt64 {
			raw, err := json.Marshal(s)
			if err != nil {
				return nil, fmt.Errorf("delta: refused row: %w", err)
			}
			return nil, &sinks.RefusedError{RowKey: s.Key(), Row: raw, Err: fmt.Errorf("%w: %d", errRange, v),
				Brief: errRange.Error()}
		}
	}
	r, all := m.row(len(columns), n)
	for i := range columns {
		c := &columns[i]
		v := c.value(s)
		if c.Kind.IsText() && !v.IsNull() {
			at := len(all)
			all = append(all, v.ByteArray()...)
			v = parquet.ByteArrayValue(all[at:len(all):len(all)]).Level(0, v.DefinitionLevel(), i)
		}
		r[i] = v
	}
	return r, nil
}

// fit returns the row with the columns of the files of t. Those that it does not have get the value that older rows
// have.
func (y *layout) fit(t *table, r sessionRow) sessionRow {
	n := len(t.statOf)
	if len(r) >= n {
		return r[:n]
	}
	r = slices.Grow(r, n-len(r))
	for i := len(r); i < n; i++ {
		r = append(r, y.sessionColumns[i].older())
	}
	return r
}

// complete gives a row, as it was read from a file that does not have all columns, the values that older rows have.
func (y *layout) complete(r sessionRow) {
	for i := len(y.sessions[level.First].statOf); i < len(y.own(r)); i++ {
		if r[i].IsNull() {
			r[i] = y.sessionColumns[i].older()
		}
	}
}

// holding returns the table of the lowest level that has all columns of which one of the rows has a value, at least t.
func (y *layout) holding(t *table, rows []sessionRow) *table {
	for _, r := range rows {
		for i := len(y.own(r)) - 1; i >= len(t.statOf); i-- {
			if !r[i].IsNull() {
				t = y.sessions[y.sessionColumns[i].Since]
				break
			}
		}
	}
	return t
}

// image converts a row back, for readers. FirstClosed and Pages are not in the table and stay empty. The texts alias
// those of r.
func (y *layout) image(r sessionRow, in partition) schema.SessionRow {
	s := schema.SessionRow{SessionDate: in.date, OpeningBrand: in.brand, Epoch: r.epoch()}
	for i := range y.own(r) {
		y.sessionColumns[i].set(&s, r[i])
	}
	return s
}

// own is the row without the columns of others.
func (y *layout) own(r sessionRow) sessionRow { return r[:min(len(r), len(y.sessionColumns))] }

// sessionOrder are the places of the columns by which the files of sessions are sorted. Where the brand is in the
// partition, a file hardly has two.
func (y *layout) sessionOrder() []int {
	if y.sessions[level.Current].byBrand {
		return []int{placeSession, placeOrigin}
	}
	return []int{placeBrand, placeSession, placeOrigin}
}

// writeRows is how many rows go to the Parquet writer at once, as a call costs as much as some rows.
const writeRows = 64

// sortSessions sorts rows by y.sessionOrder. Within an epoch a plan has the sessions in order, so once the rows of each
// brand stand together, there is hardly anything left to sort.
func (y *layout) sortSessions(rows []sessionRow) {
	order := y.sessionOrder()
	compare := func(a, b sessionRow) int {
		for _, place := range order {
			if c := strings.Compare(textOf(a[place]), textOf(b[place])); c != 0 {
				return c
			}
		}
		return 0
	}
	if order[0] != placeBrand {
		slices.SortFunc(rows, compare)
		return
	}
	brands := map[string][]sessionRow{}
	for _, r := range rows {
		b := textOf(r[placeBrand])
		brands[b] = append(brands[b], r)
	}
	rows = rows[:0]
	for _, b := range slices.Sorted(maps.Keys(brands)) {
		rows = append(rows, brands[b]...)
	}
	slices.SortFunc(rows, compare)
}

// encodeSessions sorts the rows and encodes them as one file of the table's level, with the columns of others that the
// rows have behind those of this binary. It returns the statistics of the columns that have some.
func (y *layout) encodeSessions(t *table, rows []sessionRow, c compress.Codec, more *foreign) (data []byte,
	cols []deltalog.ColumnStats, err error) {
	y.sortSessions(rows)
	cols = t.newStats()
	statOf := t.statOf
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[any](&buf, append(fileOptions(c), more.schema(t.file))...)
	chunk := make([]parquet.Row, 0, min(len(rows), writeRows))
	for j, r := range rows {
		whole := r
		r = y.fit(t, r)
		for i, v := range r {
			if at := statOf[i]; at >= 0 {
				count(&cols[at], v)
			}
		}
		if more != nil {
			r = more.beside(r, whole[len(y.sessionColumns):])
		}
		if chunk = append(chunk, parquet.Row(r)); len(chunk) < writeRows && j < len(rows)-1 {
			continue
		}
		if _, err := w.WriteRows(chunk); err != nil {
			return nil, nil, fmt.Errorf("delta: encode sessions: %w", err)
		}
		chunk = chunk[:0]
	}
	if err := w.Close(); err != nil {
		return nil, nil, fmt.Errorf("delta: encode sessions: %w", err)
	}
	return buf.Bytes(), cols, nil
}

func fileOptions(c compress.Codec) []parquet.WriterOption {
	return []parquet.WriterOption{
		parquet.DataPageVersion(1), parquet.DefaultEncoding(&parquet.Plain), parquet.Compression(c),
		parquet.DictionaryMaxBytes(1 << 20), parquet.PageBufferSize(128 << 10), parquet.MaxRowsPerRowGroup(1 << 20),
		parquet.CreatedBy("deckle", "1", ""),
	}
}
