package reconcile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/kafka"
	"deckle/schema"
	"deckle/sinks/delta"
)

// marks are a bit for each offset of a stretch.
type marks struct {
	from, to int64
	bits     []uint64
}

func newMarks(from, to int64) *marks { return &marks{from, to, make([]uint64, (to-from+63)/64)} }

func (m *marks) at(offset int64) (word *uint64, bit uint64) {
	i := offset - m.from
	return &m.bits[i/64], 1 << (i % 64)
}

func (m *marks) within(offset int64) bool { return offset >= m.from && offset < m.to }

// set marks an offset of the stretch; false if it was marked already.
func (m *marks) set(offset int64) bool {
	word, bit := m.at(offset)
	first := *word&bit == 0
	*word |= bit
	return first
}

// take removes the mark of an offset; false if it had none.
func (m *marks) take(offset int64) bool {
	word, bit := m.at(offset)
	had := *word&bit != 0
	*word &^= bit
	return had
}

// each calls yield for every marked offset, ascending.
func (m *marks) each(yield func(offset int64)) {
	for i, w := range m.bits {
		for ; w != 0; w &= w - 1 {
			yield(m.from + int64(i)*64 + int64(bits.TrailingZeros64(w)))
		}
	}
}

// part is a partition while its offsets are accounted for.
type part struct {
	Partition
	start   int64 // where Kafka's log begins
	rows    *marks
	letters *marks
	records int64
}

// key names what may be a duplicate: 128 bits of session and event id.
type key [16]byte

func keyOf(session string, id event.ID) (k key) {
	h := sha256.Sum256(append([]byte(session), id[:]...))
	copy(k[:], h[:])
	return k
}

// candidate is a record without row and letter. It is a duplicate if table events has its key at another offset.
type candidate struct {
	at     Position
	reason event.Reason // by the present rules; ReasonNone: they accept it
}

// lettersOf are the dead letters: of records, and by row key those of rows that a sink has refused.
type lettersOf struct {
	records map[int32][]int64
	rows    map[string]bool // sink/session id/origin
}

// letterMargin is how much older than its record a letter may be by its own time, which is a shard's clock.
const letterMargin = 24 * time.Hour

// letters reads the topic of dead letters, and that of reviews, from the stretch's beginning to their ends.
func (r *run) letters(ctx context.Context) (*lettersOf, error) {
	r.Progress("reading dead letters")
	all := &lettersOf{records: map[int32][]int64{}, rows: map[string]bool{}}
	for _, topic := range []string{r.LettersTopic, r.ReviewTopic} {
		if topic == "" {
			continue
		}
		s, err := r.Log.Between(ctx, topic, r.From.Add(-letterMargin), r.Now().Add(letterMargin))
		if err != nil {
			return nil, err
		}
		err = r.Log.ReadStretches(ctx, topic, s, func(rec *kgo.Record) error {
			all.add(string(rec.Key), r.Topic)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// add takes the key of a letter.
func (l *lettersOf) add(name, topic string) {
	if rest, ok := strings.CutPrefix(name, "sink/"); ok {
		if p := strings.SplitN(rest, "/", 4); len(p) == 4 { // sink, shard, epoch, row
			l.rows[p[0]+"/"+p[3]] = true
		}
		return
	}
	rest, ok := strings.CutPrefix(name, topic+"/")
	partition, offset, _ := strings.Cut(rest, "/")
	p, err1 := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	if ok && err1 == nil && err2 == nil {
		l.records[int32(p)] = append(l.records[int32(p)], o)
	}
}

// offsets accounts for every offset of the stretch.
func (r *run) offsets(ctx context.Context, letters *lettersOf) error {
	if r.Events == nil {
		r.note("offsets were not looked at: there is no table of raw events")
		return nil
	}
	stretches, err := r.Log.Between(ctx, r.Topic, r.From, r.To)
	if err != nil {
		return err
	}
	parts := map[int32]*part{}
	var order []*part
	for _, s := range stretches {
		p := &part{Partition: Partition{Partition: s.Partition, From: s.From, To: s.To, LeftOut: map[string]int64{}},
			start: s.Start, rows: newMarks(s.From, s.To), letters: newMarks(s.From, s.To)}
		for _, o := range letters.records[s.Partition] {
			if p.letters.within(o) {
				p.letters.set(o)
			}
		}
		parts[s.Partition], order = p, append(order, p)
	}
	given, err := r.readRows(ctx, order, parts)
	if err != nil {
		return err
	}
	j := &judge{run: r, parts: parts, given: given, open: map[key][]candidate{}}
	r.Progress("reading Kafka")
	if err := r.Log.ReadStretches(ctx, r.Topic, stretches, j.record); err != nil {
		return err
	}
	if err := j.duplicates(ctx); err != nil {
		return err
	}
	if err := j.suppressed(ctx); err != nil {
		return err
	}
	for _, c := range j.left {
		p := parts[c.at.Partition]
		p.Missing++
		f := Finding{Kind: RowMissing, Partition: c.at.Partition, Offset: c.at.Offset,
			Text: fmt.Sprintf("%d/%d has no row in events, no letter, and is no duplicate", c.at.Partition,
				c.at.Offset)}
		if c.reason != event.ReasonNone {
			f.Kind = LetterMissing
			f.Text = fmt.Sprintf("%d/%d has neither row nor letter; the present rules refuse it: %s", c.at.Partition,
				c.at.Offset, c.reason)
		}
		r.find(f)
	}
	r.strangers(stretches, parts)
	for _, p := range order {
		begin := min(max(p.From, p.start), p.To)
		p.NotChecked = begin - p.From
		p.NoRecord = p.To - begin - p.records
		r.report.Partitions = append(r.report.Partitions, p.Partition)
	}
	return nil
}

// strangers finds the rows whose offsets Kafka has no record at, although its log has that stretch.
func (r *run) strangers(stretches []kafka.Stretch, parts map[int32]*part) {
	for _, s := range stretches {
		parts[s.Partition].rows.each(func(o int64) {
			if o >= s.Start {
				r.find(Finding{Kind: RowUnknown, Partition: s.Partition, Offset: o,
					Text: fmt.Sprintf("events has a row of %d/%d, where Kafka has no record", s.Partition, o)})
			}
		})
	}
}

// readRows marks the offsets that table events has a row of, and returns those that operators have given up.
func (r *run) readRows(ctx context.Context, order []*part, parts map[int32]*part) ([]event.Range, error) {
	if err := r.Events.Refresh(ctx); err != nil {
		return nil, err
	}
	snapshot := r.Events.Snapshot()
	r.report.EventsVersion = snapshot.Version
	least, most, offsets := int64(0), int64(-1), int64(0)
	for _, p := range order {
		if p.From == p.To {
			continue
		}
		if offsets == 0 {
			least = p.From
		}
		least, most, offsets = min(least, p.From), max(most, p.To-1), offsets+p.To-p.From
	}
	if offsets == 0 {
		return snapshot.Given(), nil
	}
	files := snapshot.Within("kafka_offset", least, most)
	for i, f := range files {
		r.Progress(fmt.Sprintf("reading events: file %d of %d", i+1, len(files)))
		err := r.Events.ReadColumns(ctx, f, []string{"kafka_partition", "kafka_offset"}, func(v []parquet.Value) error {
			o := v[1].Int64()
			p := parts[int32(v[0].Int64())]
			if p != nil && p.rows.within(o) && !p.rows.set(o) {
				r.find(Finding{Kind: RowDoubled, Partition: p.Partition.Partition, Offset: o,
					Text: fmt.Sprintf("events has two rows of %d/%d", p.Partition.Partition, o)})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return snapshot.Given(), nil
}

// judge takes the records of the stretch.
type judge struct {
	*run
	parts map[int32]*part
	given []event.Range
	ev    event.Event

	open        map[key][]candidate // accepted by the rules, and without a row
	left        []candidate         // what nothing explains
	kept        int
	first, last int32 // days since 1970 of the events in open
}

// record accounts for one record, or keeps it as a candidate.
func (j *judge) record(rec *kgo.Record) error {
	p := j.parts[rec.Partition]
	p.records++
	switch {
	case p.rows.take(rec.Offset):
		p.Rows++
		return nil
	case p.letters.take(rec.Offset):
		p.Letters++
		return nil
	case j.isGiven(rec):
		p.GivenUp++
		return nil
	case rec.Value == nil:
		p.Empty++
		return nil
	}
	reason, detail := j.Decoder.Decode(rec.Value, rec.Timestamp.UnixMilli(), &j.ev)
	defer j.Decoder.Reset()
	c := candidate{Position{rec.Partition, rec.Offset}, reason}
	switch reason {
	case event.Excluded, event.Suppressed:
		p.LeftOut[detail]++
		return nil
	case event.ReasonNone:
		day := schema.Day(j.ev.Timestamp)
		if len(j.open) == 0 {
			j.first, j.last = day, day
		}
		j.first, j.last = min(j.first, day), max(j.last, day)
		k := keyOf(j.ev.SessionID, j.ev.ID)
		j.open[k] = append(j.open[k], c)
	default:
		j.left = append(j.left, c)
	}
	if j.kept++; j.kept > mostCandidates {
		return ErrTooMany
	}
	return nil
}

func (j *judge) isGiven(rec *kgo.Record) bool {
	for _, g := range j.given {
		if g.Partition == rec.Partition && g.From <= rec.Offset && rec.Offset < g.To {
			return true
		}
	}
	return false
}

// duplicates looks for rows with the keys of candidates. What has none is left.
func (j *judge) duplicates(ctx context.Context) error {
	if len(j.open) == 0 {
		return nil
	}
	snapshot := j.Events.Snapshot()
	var files []*delta.File
	for _, f := range snapshot.Files {
		day, err := time.Parse(time.DateOnly, j.Events.PartitionValues(f)["event_date"])
		if err != nil {
			return fmt.Errorf("a file of events without a date: %w", err)
		}
		if d := schema.Day(day.Unix()); d >= j.first-1 && d <= j.last+1 {
			files = append(files, f)
		}
	}
	found := map[key]bool{}
	for i, f := range files {
		j.Progress(fmt.Sprintf("looking for duplicates' first records: file %d of %d", i+1, len(files)))
		err := j.Events.ReadColumns(ctx, f, []string{"session_id", "event_id"}, func(v []parquet.Value) error {
			text := v[1].ByteArray()
			id, ok := event.ParseID(string(text))
			if !ok {
				id = event.HashID(string(text))
			}
			if k := keyOf(string(v[0].ByteArray()), id); j.open[k] != nil {
				found[k] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for k, all := range j.open {
		for _, c := range all {
			if found[k] {
				j.parts[c.at.Partition].Duplicates++
			} else {
				j.left = append(j.left, c)
			}
		}
	}
	return nil
}

// suppressed asks whether what is left are records of readers who have objected.
func (j *judge) suppressed(ctx context.Context) error {
	if len(j.left) == 0 || j.Suppressed == nil {
		return nil
	}
	if len(j.left) > mostAsked {
		j.note("%d records have neither row nor letter; whether they are of suppressed readers was not asked: that is "+
			"done for %d at most", len(j.left), mostAsked)
		return nil
	}
	at := make([]Position, len(j.left))
	for i, c := range j.left {
		at[i] = c.at
	}
	j.Progress("asking for suppressed readers")
	theirs, err := j.Suppressed(ctx, at)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		j.note("whether records without row and letter are of suppressed readers could not be found out: %v", err)
	}
	left := j.left[:0]
	for _, c := range j.left {
		if theirs[c.at] {
			j.parts[c.at.Partition].Suppressed++
		} else {
			left = append(left, c)
		}
	}
	j.left = left
	return nil
}
