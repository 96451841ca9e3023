package clickhouse

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"deckle/schema"
)

// rowJSON returns the session in the form that a dead letter shows: an object of the columns in their order, with times
// as Unix seconds or milliseconds, dates as their midnight in the form of RFC 3339, and null for what nobody knows.
func (y *layout) rowJSON(r *schema.SessionRow) ([]byte, error) {
	b := []byte{'{'}
	for i := range y.declared.Sessions {
		c := &y.declared.Sessions[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, c.Name), ':')
		var value any
		switch {
		case !c.Has(r):
		case c.Kind.IsText():
			value = c.Text(r)
		case c.Kind == schema.Date:
			value = schema.DayTime(int32(c.Number(r)))
		case c.Kind == schema.Uint64:
			value = c.Number(r)
		case typeOf(c.Kind) == "UInt32":
			value = uint32(c.Number(r))
		default:
			value = int64(c.Number(r))
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		b = append(b, text...)
	}
	return append(b, '}'), nil
}

// These are the greatest values of the column types.
const (
	maxDays   = math.MaxUint16    // Date: 2149-06-06
	maxMillis = 9_904_550_399_000 // DateTime64: to the end of 2283, which every server version can store
)

// checkRow finds values that the columns cannot hold and that ClickHouse would silently wrap around.
func checkRow(r *schema.SessionRow) error {
	switch {
	case r.Start < 0 || r.Start > math.MaxUint32 || r.End < r.Start || r.End > math.MaxUint32:
		return &rowError{fmt.Errorf("session_start %d and session_end %d do not fit DateTime", r.Start, r.End)}
	case r.SessionDate < 0 || r.SessionDate > maxDays:
		return &rowError{fmt.Errorf("session_date %d does not fit Date", r.SessionDate)}
	case r.CreatedAt < 0 || r.CreatedAt > maxMillis:
		return &rowError{fmt.Errorf("created_at %d does not fit DateTime64(3)", r.CreatedAt)}
	case r.Status < schema.StatusOpen || r.Status > schema.StatusExpired:
		return &rowError{fmt.Errorf("status %s is not a value of the column", r.Status)}
	}
	return nil
}
