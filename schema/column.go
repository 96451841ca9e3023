package schema

import (
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"deckle/event"
	"deckle/schema/level"
)

// Kind says what the values of a column are. The sinks derive the types of their columns from it, and the API derives
// the form in JSON.
type Kind uint8

// The kinds of columns. Texts are read with Column.Text, all others with Column.Number.
const (
	// Text is a text that is hardly ever the same in two rows.
	Text Kind = iota
	// Repeated is a text that many rows share but that has many values: a dictionary per file is worth its cost, one
	// per table is not.
	Repeated
	// Few is a text of which a table has few distinct values.
	Few
	// JSON is a JSON text.
	JSON
	// StatusName is the name of a Status. The number is the status itself.
	StatusName
	// UUID is the text form of a UUID. It has no SetText: readers parse it themselves, because it may be damaged.
	UUID
	// Uint8, Uint32 and Uint64 are counts and sums.
	Uint8
	Uint32
	Uint64
	// Small is a count that fits 31 bits.
	Small
	// Int32 and Int64 are places in Kafka.
	Int32
	Int64
	// Seconds and Millis are Unix times that Deckle sets itself or holds to a range.
	Seconds
	Millis
	// KafkaMillis is a Unix time in milliseconds that a producer may have set to any value.
	KafkaMillis
	// Date is a UTC day, in days since 1970-01-01.
	Date
)

// IsText says whether values of the kind are read with Column.Text.
func (k Kind) IsText() bool { return k <= UUID }

// Column is one column of a table whose rows are made of values of R.
type Column[R any] struct {
	Name string
	Kind Kind
	// Rule is the sentence of docs/schema.md. Columns that share a line there have the same rule.
	Rule string
	// Comment is the comment that ClickHouse shows for the column.
	Comment string
	// Reworded takes the place of Comment from level.Real on, if the column's rule is another one since then.
	Reworded string
	// Optional says that an empty text means no value, in sinks that can tell the two apart.
	Optional bool
	// Signed says of a column of kind Uint64 that a value above 2^63-1, which only a hash is, stands in a sink without
	// unsigned numbers as the same 64 bits.
	Signed bool
	// Since is the level from which on the tables have the column; 0 is level.First. Rows that were written before have
	// the value 0 or "", unless Known is set.
	Since level.Level
	// Known is where the row says, by a number that is not 0, that it has a value. It is set for a column whose value
	// nobody knows for rows that were written before it existed: null, because a 0 would be false. It is nil if every
	// row has a value.
	Known *Field[R]
	// KnownSince is the level from which on Known holds, for a column that has existed before with a value in each row.
	KnownSince level.Level
	Source     Source
	Field[R]
}

// CommentAt is the comment of the column in tables of a level.
func (c *Column[R]) CommentAt(l level.Level) string {
	if l >= level.Real && c.Reworded != "" {
		return c.Reworded
	}
	return c.Comment
}

// Has tells whether the row has a value of the column.
func (c *Column[R]) Has(r *R) bool { return c.Known == nil || c.Known.Number(r) != 0 }

// MayBeNull tells whether a row of a table of the level may have no value of the column.
func (c *Column[R]) MayBeNull(l level.Level) bool {
	return c.Optional || Later(c.Since) || c.Known != nil && l >= c.KnownSince
}

// Null is what String returns for a value that nobody knows.
const Null = "NULL"

// Source says how the state makes a column of sessions out of their events.
type Source struct {
	From From
	Type event.Type // of EventCount and MeasureSum
}

// From is the rule by which a column follows from the events.
type From uint8

// The rules. A column that follows from none of them alone has a rule of its own in the state.
const (
	OwnRule From = iota
	// FirstText is the text field of the same name of the session's first event.
	FirstText
	// EventCount is the number of counted events of a type.
	EventCount
	// MeasureSum is the sum of Event.Measure over the counted events of a type.
	MeasureSum
)

// Field is where a column's value stands in R. It is compiled once: reading a value costs one load at an offset, or,
// for a derived value, one call.
type Field[R any] struct {
	offset  uintptr
	form    form
	text    func(*R) string
	setText func(*R, string)
	number  func(*R) uint64
}

// form is how the value is stored.
type form uint8

const (
	derived form = iota
	formText
	form8
	form32
	formSigned32
	form64
)

// At returns the field of a text or a number that stands in R itself.
func At[R, V any](at func(*R) *V) Field[R] {
	row := new(R)
	p := at(row)
	f := Field[R]{offset: uintptr(unsafe.Pointer(p)) - uintptr(unsafe.Pointer(row))}
	if f.offset+unsafe.Sizeof(*p) > unsafe.Sizeof(*row) {
		panic("schema: a field outside its row")
	}
	switch any(*p).(type) {
	case string:
		f.form = formText
	case uint8, Status, bool:
		f.form = form8
	case uint32:
		f.form = form32
	case int32:
		f.form = formSigned32
	case uint64, int64:
		f.form = form64
	default:
		panic(fmt.Sprintf("schema: a field of type %T", *p))
	}
	return f
}

// Text returns the value of a column of texts. It aliases the row.
func (f *Field[R]) Text(r *R) string {
	if f.form == formText {
		return *(*string)(unsafe.Add(unsafe.Pointer(r), f.offset))
	}
	return f.text(r)
}

// Number returns the value of a column of numbers, negative ones in two's complement.
func (f *Field[R]) Number(r *R) uint64 {
	p := unsafe.Add(unsafe.Pointer(r), f.offset)
	switch f.form {
	case form8:
		return uint64(*(*uint8)(p))
	case form32:
		return uint64(*(*uint32)(p))
	case formSigned32:
		return uint64(*(*int32)(p))
	case form64:
		return *(*uint64)(p)
	}
	return f.number(r)
}

// SetText is the inverse of Text, for readers. It does nothing for a derived value that has no inverse.
func (f *Field[R]) SetText(r *R, v string) {
	if f.form == formText {
		*(*string)(unsafe.Add(unsafe.Pointer(r), f.offset)) = v
	} else if f.setText != nil {
		f.setText(r, v)
	}
}

// SetNumber is the inverse of Number, for readers. It does nothing for a derived value.
func (f *Field[R]) SetNumber(r *R, v uint64) {
	p := unsafe.Add(unsafe.Pointer(r), f.offset)
	switch f.form {
	case form8:
		*(*uint8)(p) = uint8(v)
	case form32, formSigned32:
		*(*uint32)(p) = uint32(v)
	case form64:
		*(*uint64)(p) = v
	}
}

// String returns the value as a person reads it: numbers and Unix times in decimal, dates as 2006-01-02, and Null for a
// value that nobody knows.
func (c *Column[R]) String(r *R) string {
	switch {
	case !c.Has(r):
		return Null
	case c.Kind.IsText():
		return c.Text(r)
	case c.Kind == Date:
		return DateText(int32(c.Number(r)))
	case c.Kind == Uint64:
		return strconv.FormatUint(c.Number(r), 10)
	}
	return strconv.FormatInt(int64(c.Number(r)), 10)
}

// Named returns the column of that name, or nil if there is none.
func Named[R any](columns []Column[R], name string) *Column[R] {
	for i := range columns {
		if columns[i].Name == name {
			return &columns[i]
		}
	}
	return nil
}

const secondsPerDay = 24 * 60 * 60

// Day is the UTC day of Unix seconds, in days since 1970-01-01.
func Day(unix int64) int32 {
	d := unix / secondsPerDay
	if unix%secondsPerDay < 0 {
		d--
	}
	return int32(d)
}

// DayTime is the midnight (UTC) with which a day begins.
func DayTime(day int32) time.Time { return time.Unix(int64(day)*secondsPerDay, 0).UTC() }

// DateText renders a day as 2006-01-02.
func DateText(day int32) string { return DayTime(day).Format(time.DateOnly) }

// ParseDate reads what DateText writes.
func ParseDate(s string) (int32, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, err
	}
	return int32(t.Unix() / secondsPerDay), nil
}
