package delta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"deckle/schema"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
)

// sessionRow is a row of the table sessions as its files hold it: one value per column. Every column is required: an
// empty text is "". A row that was read from a file and is written again keeps its values as they are.
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
	for i := range sessionColumns {
		if c := &sessionColumns[i]; c.Kind == schema.Text || c.Kind == schema.Repeated || c.Kind == schema.JSON {
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
			c[i] = parquet.ByteArrayValue(all[at:len(all):len(all)]).Level(0, 0, i)
		}
	}
	return c
}

var errRange = errors.New("number exceeds a long")

// toSessionRow copies an image with its texts, so that the caller may reuse what s points to.
func toSessionRow(s *schema.SessionRow) (sessionRow, error) {
	n := 0
	for i := range sessionColumns {
		if c := &sessionColumns[i]; c.Kind.IsText() {
			n += len(c.Text(s))
		} else if v := c.Number(s); c.Kind == schema.Uint64 && v > math.MaxInt64 {
			raw, err := json.Marshal(s)
			if err != nil {
				return nil, fmt.Errorf("delta: refused row: %w", err)
			}
			return nil, &sinks.RefusedError{RowKey: s.Key(), Row: raw, Err: fmt.Errorf("%w: %d", errRange, v)}
		}
	}
	r := make(sessionRow, len(sessionColumns))
	var all strings.Builder // one piece of memory for all texts
	all.Grow(n)
	for i := range sessionColumns {
		c := &sessionColumns[i]
		if !c.Kind.IsText() {
			r[i] = c.value(s)
			continue
		}
		at := all.Len()
		all.WriteString(c.Text(s))
		r[i] = parquet.ByteArrayValue(alias(all.String()[at:])).Level(0, 0, i)
	}
	return r, nil
}

// image converts the row back, for readers. FirstClosed and Pages are not in the table and stay empty. The texts alias
// those of r.
func (r sessionRow) image(date int32) schema.SessionRow {
	s := schema.SessionRow{SessionDate: date, Epoch: r.epoch()}
	for i := range sessionColumns {
		sessionColumns[i].set(&s, r[i])
	}
	return s
}

func compareSessionRows(a, b sessionRow) int {
	for _, place := range [...]int{placeBrand, placeSession, placeOrigin} {
		if c := strings.Compare(textOf(a[place]), textOf(b[place])); c != 0 {
			return c
		}
	}
	return 0
}

// writeRows is how many rows go to the Parquet writer at once, as a call costs as much as some rows.
const writeRows = 64

// encodeSessions sorts the rows and encodes them as one file.
func encodeSessions(rows []sessionRow, c compress.Codec) (data []byte, stats string, err error) {
	slices.SortFunc(rows, compareSessionRows)
	cols, statOf := sessionsTable.newStats(), sessionsTable.statOf()
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[any](&buf, append(fileOptions(c), sessionsTable.file)...)
	chunk := make([]parquet.Row, 0, min(len(rows), writeRows))
	for j, r := range rows {
		for i, v := range r {
			if at := statOf[i]; at >= 0 {
				count(&cols[at], v)
			}
		}
		if chunk = append(chunk, parquet.Row(r)); len(chunk) < writeRows && j < len(rows)-1 {
			continue
		}
		if _, err := w.WriteRows(chunk); err != nil {
			return nil, "", fmt.Errorf("delta: encode sessions: %w", err)
		}
		chunk = chunk[:0]
	}
	if err := w.Close(); err != nil {
		return nil, "", fmt.Errorf("delta: encode sessions: %w", err)
	}
	return buf.Bytes(), deltalog.Stats(int64(len(rows)), cols), nil
}

func fileOptions(c compress.Codec) []parquet.WriterOption {
	return []parquet.WriterOption{
		parquet.DataPageVersion(1), parquet.DefaultEncoding(&parquet.Plain), parquet.Compression(c),
		parquet.DictionaryMaxBytes(1 << 20), parquet.PageBufferSize(128 << 10), parquet.MaxRowsPerRowGroup(1 << 20),
		parquet.CreatedBy("deckle", "1", ""),
	}
}
