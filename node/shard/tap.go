package shard

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/tap"
	"deckle/schema"
	"deckle/state"
)

// tapLine returns a line of a tap. What cannot be encoded is told in the line.
func tapLine(v any) []byte {
	line, err := json.Marshal(v)
	if err != nil {
		line, _ = json.Marshal(map[string]string{"error": err.Error()}) // a text can always be encoded
	}
	return line
}

// fields are columns of a row as an object of JSON, in their order; those without a value are left out.
type fields[R any] struct {
	columns []schema.Column[R]
	row     *R
}

// MarshalJSON implements json.Marshaler.
func (f fields[R]) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i := range f.columns {
		c := &f.columns[i]
		if !c.Has(f.row) || c.Kind.IsText() && c.Text(f.row) == "" {
			continue
		}
		v, err := json.Marshal(c.JSON(f.row))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(fmt.Appendf(b, "%q:", c.Name), v...)
	}
	return append(b, '}'), nil
}

// tapPlace is where a record stands.
type tapPlace struct {
	Shard     uint32 `json:"shard"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// tapSource is a line of the stage source.
type tapSource struct {
	tapPlace
	KafkaTime time.Time `json:"kafka_time"`
	// Verdict is accepted, excluded, suppressed, empty, marker, or the reason of a dead letter, which Detail explains.
	Verdict string `json:"verdict"`
	Detail  string `json:"detail,omitempty"`
	Bytes   int    `json:"bytes"`
	// Shown says how much of key and value is shown: whole, masked (types and lengths), rules (as privacy rules change
	// it) or none. The key stands only beside a whole value.
	Shown string `json:"shown"`
	Key   string `json:"key,omitempty"`
	// Value is the JSON of the record, or, if it is none, its text.
	Value any `json:"value,omitempty"`
}

// tapRecord shows the record that was added to a batch last.
func tapRecord(board *tap.Board, shard uint32, rules *event.Rules, b *batchBuf, r *kgo.Record) {
	line := tapSource{tapPlace: tapPlace{shard, r.Partition, r.Offset}, KafkaTime: r.Timestamp.UTC(),
		Bytes: len(r.Value), Verdict: event.Excluded.String()}
	p := b.part(r.Partition, r.Offset)
	var it *event.Item
	withheld := false
	switch {
	case r.Attrs.IsControl():
		line.Verdict, withheld = "marker", true
	case r.Value == nil:
		line.Verdict = "empty"
	default:
		if n := len(p.items); n > 0 && p.items[n-1].Offset == r.Offset {
			it, line.Verdict = &p.items[n-1], "accepted"
		} else if n := len(p.rejects); n > 0 && p.rejects[n-1].Offset == r.Offset {
			j := &p.rejects[n-1]
			line.Verdict, line.Detail, withheld = j.Reason.String(), j.Detail, j.Withheld
		} else if n := len(p.left); n > 0 && p.left[n-1].Offset == r.Offset {
			line.Verdict, withheld = event.Suppressed.String(), true
		} else { // excluded: it may be of somebody who has not agreed, or of whom nobody knows who it is
			withheld = b.dec.Withheld() || rules.Consent != nil
		}
	}
	o := &tap.Offer{Partition: r.Partition}
	if it != nil {
		o.Session = it.SessionID
		o.Line = func(bool) []byte {
			return tapLine(struct {
				tapPlace
				Event fields[event.Item] `json:"event"`
			}{line.tapPlace, fields[event.Item]{schema.Events, it}})
		}
		board.Offer(tap.Decoded, o)
	}
	o.Line = func(clear bool) []byte {
		shown := line
		shown.show(rules, b.dec.Key, r, clear, withheld)
		return tapLine(&shown)
	}
	board.Offer(tap.Source, o)
}

// show fills in what the line may show of a record: what a dead letter of it would, or all of it.
func (line *tapSource) show(rules *event.Rules, key []byte, r *kgo.Record, clear, withheld bool) {
	value, shown := r.Value, event.ShownWhole
	switch {
	case withheld, len(value) > event.MaxRecord:
		shown = event.ShownNone
	case !clear:
		value, shown = event.NewRedactor(rules, key).Value(r.Value)
	}
	line.Shown = shown.String()
	switch shown {
	case event.ShownNone:
		return
	case event.ShownWhole:
		line.Shown = "whole" // which letters say by saying nothing
		// A key is most often a session's or a user's id, of which privacy rules may show the hash alone.
		if clear || len(rules.Privacy) == 0 && rules.Consent == nil {
			line.Key = strings.ToValidUTF8(string(r.Key), "\uFFFD")
		}
	}
	switch {
	case json.Valid(value):
		line.Value = json.RawMessage(value)
	case len(value) > 0:
		line.Value = strings.ToValidUTF8(string(value), "\uFFFD")
	}
}

// tapSessions shows the sessions of a batch that was applied, once for each record that counts.
func tapSessions(board *tap.Board, shard uint32, store *state.Store, buf *batchBuf, left []state.Position) {
	for i := range buf.batch.Items {
		it := &buf.batch.Items[i]
		if _, is := slices.BinarySearchFunc(left, it, func(p state.Position, it *event.Item) int {
			if p.Partition != it.Partition {
				return int(p.Partition) - int(it.Partition)
			}
			return int(p.Offset - it.Offset)
		}); is {
			continue
		}
		board.Offer(tap.Session, &tap.Offer{Session: it.SessionID, Partition: it.Partition, Line: func(bool) []byte {
			row, has, err := store.Session(it.SessionID)
			switch {
			case err != nil:
				return tapLine(map[string]string{"error": err.Error()})
			case !has: // purged since
				return tapLine(tapPlace{shard, it.Partition, it.Offset})
			}
			return tapLine(struct {
				tapPlace
				Session fields[schema.SessionRow] `json:"session"`
			}{tapPlace{shard, it.Partition, it.Offset}, fields[schema.SessionRow]{schema.Sessions, row}})
		}})
	}
}

// tapRow is a line of the stage row.
type tapRow struct {
	Shard uint32 `json:"shard"`
	Sink  string `json:"sink"`
	// From and Epoch say of which epochs the plan was: of those after From, up to Epoch.
	From  uint64 `json:"from"`
	Epoch uint64 `json:"epoch"`
	// Session or Total is the row, and View is where Total is seen. Of raw events there are Ranges of offsets, and how
	// many Rows they are: the stage decoded has shown each.
	Session *fields[schema.SessionRow] `json:"session,omitempty"`
	View    string                     `json:"view,omitempty"`
	Total   map[string]any             `json:"total,omitempty"`
	Ranges  []tapRange                 `json:"ranges,omitempty"`
	Rows    int64                      `json:"rows,omitempty"`
}

// tapRange are the offsets of a partition from From to the one before To.
type tapRange struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
}

// show fills in a row of totals.
func (l *tapRow) show(r *schema.RollupRow) {
	rollup := &schema.Rollups[r.Table]
	l.View, l.Total = rollup.Name, map[string]any{"date": schema.DateText(r.Date)}
	for i, dim := range rollup.Dims {
		l.Total[dim] = r.Dims[i]
	}
	for i := range schema.Measures {
		m := &schema.Measures[i]
		l.Total[m.Name] = *m.At(r)
	}
}

// tapLetter is a line of the stage letter. "deckle dlq show KEY" shows the rest.
type tapLetter struct {
	tapPlace
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
	Epoch  uint64 `json:"epoch"`
	// Sink and RowKey are of a row that a sink has refused.
	Sink   string `json:"sink,omitempty"`
	RowKey string `json:"row_key,omitempty"`
}

// tapPlan shows what a plan that was acknowledged has brought to its sink.
func tapPlan(board *tap.Board, shard uint32, p *state.Plan) error {
	sinkReads := p.Sink.Spec().Reads
	base := tapRow{Shard: shard, Sink: p.Sink.String(), From: p.A, Epoch: p.B}
	row := func(session string, fill func(*tapRow)) {
		board.Offer(tap.Row, &tap.Offer{Session: session, Partition: tap.NoPartition, Line: func(bool) []byte {
			line := base
			fill(&line)
			return tapLine(&line)
		}})
	}
	var err error
	if board.Watched(tap.Row) {
		switch reads := sinkReads; {
		case reads&state.ReadsEvents != 0:
			row("", func(l *tapRow) {
				for _, r := range p.Ranges() {
					l.Ranges = append(l.Ranges, tapRange{r.Partition, r.From, r.To})
				}
				_, l.Rows = p.Rows()
			})
		case reads&state.ReadsLetters == 0:
			err = p.Sessions(func(s *schema.SessionRow) error {
				row(s.SessionID, func(l *tapRow) { l.Session = &fields[schema.SessionRow]{schema.Sessions, s} })
				return nil
			})
		}
		if err == nil && sinkReads&state.ReadsRollups != 0 {
			err = p.Rollups(func(r *schema.RollupRow) error {
				row("", func(l *tapRow) { l.show(r) })
				return nil
			})
		}
	}
	if err == nil && board.Watched(tap.Letter) && sinkReads&state.ReadsLetters != 0 {
		err = p.DeadLetters(func(d *state.DeadLetter) error {
			board.Offer(tap.Letter, &tap.Offer{Partition: d.Partition, Line: func(bool) []byte {
				line := tapLetter{tapPlace: tapPlace{shard, d.Partition, d.Offset}, Reason: d.Reason.String(),
					Detail: d.Detail, Epoch: d.Epoch}
				if d.Reason == event.SinkRejected {
					line.Sink, line.RowKey = d.Sink.String(), strings.ReplaceAll(d.RowKey, "\x00", "/")
				}
				return tapLine(&line)
			}})
			return nil
		})
	}
	return err
}
