package sim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
)

// Truth collects what was produced and acknowledged, and works out what must be in the tables. Its methods are safe
// for concurrent use.
type Truth struct {
	mu     sync.Mutex
	header Header
	open   map[string]*openSession
	sum    Summary
	err    error
	closed bool

	lines []Line // in memory

	suppressed []Suppressed // see Suppressed

	keep bool   // see KeepRecords
	kept []kept // what is over

	path string // on disk
	file *os.File
	w    *bufio.Writer
	buf  bytes.Buffer
}

// openSession are the records of a session that is not over.
type openSession struct {
	records  []acked
	expected []Kind // of each record
	inFlight int
	last     bool
}

// NewTruth returns a truth that is kept in memory.
func NewTruth() *Truth { return &Truth{open: map[string]*openSession{}} }

// kept is a session that is over, or a record that belongs to none.
type kept struct {
	id       string
	expected []Kind // of each record
	alone    *Record
	records  []acked
}

// KeepRecords keeps the records, for By. It is called once, before any record.
func (t *Truth) KeepRecords() { t.keep = true }

// By returns the truth of the same records, decided by what held for each one's position. The truth must be closed and
// have kept its records; the one that is returned is closed, and in memory.
func (t *Truth) By(held func(partition int32, offset int64) Held) (*Truth, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		return nil, ErrUnfinished
	}
	by := NewTruth()
	by.Begin(t.header)
	for _, k := range t.kept {
		for i := range k.records {
			r := &k.records[i]
			r.held = held(r.partition, r.offset)
			if k.alone == nil {
				by.produced(r.partition, r.offset)
			}
		}
		if k.alone != nil {
			by.alone(k.alone, k.records[0])
		} else {
			by.finish(k.id, &openSession{records: k.records, expected: k.expected})
		}
	}
	by.sum.Uncertain = t.sum.Uncertain
	_, err := by.Close()
	return by, err
}

// CreateTruth returns a truth that is written to a new file. An old file is replaced.
func CreateTruth(path string) (*Truth, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("sim: create the truth: %w", err)
	}
	t := NewTruth()
	t.path, t.file, t.w = path, file, bufio.NewWriterSize(file, 1<<20)
	return t, nil
}

// Begin sets the header; it is called once, before any record.
func (t *Truth) Begin(h Header) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.Version = Version
	t.header = h
	t.sum.init()
	t.write(Line{Header: &h})
}

// Sent notes that a record is about to be produced.
func (t *Truth) Sent(rec *Record) {
	if rec.SessionID == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.open[rec.SessionID]
	if s == nil {
		s = &openSession{}
		t.open[rec.SessionID] = s
	}
	s.inFlight++
	s.last = s.last || rec.Last
}

// Acked notes that a record that was Sent is in the topic.
func (t *Truth) Acked(rec *Record, partition int32, offset, kafkaMillis int64) {
	a := acked{partition: partition, offset: offset, kafkaTime: kafkaMillis, key: rec.Key, value: rec.Value,
		keyless: t.header.Sharded && len(rec.Key) == 0}
	if rec.SessionID == "" {
		t.alone(rec, a)
		return
	}
	t.mu.Lock()
	t.produced(partition, offset)
	s := t.open[rec.SessionID]
	s.records = append(s.records, a)
	s.expected = append(s.expected, rec.Kind)
	done := t.settled(rec.SessionID, s)
	t.mu.Unlock()
	if done {
		t.finish(rec.SessionID, s)
	}
}

// Failed notes that a record that was Sent is not in the topic, or, if it may be, that the truth is not exact.
func (t *Truth) Failed(rec *Record, notProduced bool) {
	t.mu.Lock()
	if !notProduced {
		t.sum.Uncertain++
	}
	s, done := t.open[rec.SessionID], false
	if rec.SessionID != "" {
		done = t.settled(rec.SessionID, s)
	}
	t.mu.Unlock()
	if done {
		t.finish(rec.SessionID, s)
	}
}

// settled notes that the outcome of a record in flight is known, and says whether its session is over; the session is
// then forgotten.
func (t *Truth) settled(id string, s *openSession) bool {
	s.inFlight--
	if s.last && s.inFlight == 0 {
		delete(t.open, id)
		return true
	}
	return false
}

func (t *Truth) produced(partition int32, offset int64) {
	t.sum.init()
	t.sum.Produced++
	p, ok := t.sum.Partitions[partition]
	if !ok {
		p = Span{From: offset, To: offset + 1}
	}
	t.sum.Partitions[partition] = Span{min(p.From, offset), max(p.To, offset+1), p.Records + 1}
}

// alone judges a record that belongs to no session of the generator.
func (t *Truth) alone(rec *Record, a acked) {
	v := fold("", []acked{a}, true)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keep {
		t.kept = append(t.kept, kept{alone: rec, records: []acked{a}})
	}
	t.produced(a.partition, a.offset)
	switch t.suppress(v.suppressed); {
	case len(v.suppressed) > 0:
	case v.excluded > 0:
		t.sum.Excluded += v.excluded
		if rec.Kind != KindExcluded {
			t.sum.Mistaken++
		}
	case len(v.dead) != 1 || v.dead[0].Reason != rec.Reason:
		t.sum.Mistaken++
	}
	t.deadLetters(v.dead)
}

func (t *Truth) deadLetters(dead []Dead) {
	for _, d := range dead {
		t.sum.DeadLetters[d.Reason]++
		t.write(Line{Dead: &d})
	}
}

func (t *Truth) suppress(who []Suppressed) {
	t.sum.Suppressed += int64(len(who))
	t.suppressed = append(t.suppressed, who...)
}

// Suppressed returns the records of suppressed readers, in no order. Only a truth of By knows of any.
func (t *Truth) Suppressed() []Suppressed {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.suppressed
}

// finish works out a session that is over. Only the bookkeeping is done under the lock, so that sessions of several
// producers are worked out side by side.
func (t *Truth) finish(id string, s *openSession) {
	duplicates := int64(0)
	for _, k := range s.expected {
		if k == KindDuplicate {
			duplicates++
		}
	}
	v := fold(id, s.records, t.header.Keyed)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keep {
		t.kept = append(t.kept, kept{id: id, expected: s.expected, records: s.records})
	}
	full := 0
	for _, d := range v.dead {
		if d.Reason == "session_full" {
			full++
		}
	}
	t.suppress(v.suppressed)
	// Of a suppressed reader's records nobody knows which were duplicates.
	whole := full == 0 && len(v.suppressed) == 0
	if full < len(v.dead) || whole && duplicates != int64(len(v.duplicates)) {
		t.sum.Mistaken++
	}
	t.sum.Duplicates += int64(len(v.duplicates))
	t.sum.KeysDiffer += v.keysDiffer
	t.deadLetters(v.dead)
	for _, p := range v.duplicates {
		t.write(Line{Duplicate: &p})
	}
	if v.session == nil {
		return
	}
	t.sum.Applied += int64(len(v.session.Events))
	if v.session.TotalEvents > 0 {
		t.sum.addSession(v.session)
	}
	t.write(Line{Session: v.session})
}

func (t *Truth) write(l Line) {
	if t.err != nil {
		return
	}
	if t.w == nil {
		t.lines = append(t.lines, l)
		return
	}
	t.buf.Reset()
	if t.err = l.encode(&t.buf); t.err == nil {
		if _, err := t.w.Write(t.buf.Bytes()); err != nil {
			t.err = fmt.Errorf("sim: write the truth: %w", err)
		}
	}
}

// Summary returns the totals so far; sessions that are not over count only as produced.
func (t *Truth) Summary() Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	var s Summary
	s.Add(&t.sum)
	return s
}

// Close works out the sessions that are not over (there are none after an orderly Run), writes the summary and closes
// the file. The error is the first one of the whole truth. Closing twice returns the same.
func (t *Truth) Close() (Summary, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return t.Summary(), t.err
	}
	t.closed = true
	open := t.open
	t.open = map[string]*openSession{}
	ids := make([]string, 0, len(open))
	for id, s := range open {
		ids = append(ids, id)
		t.sum.Uncertain += int64(s.inFlight)
	}
	slices.Sort(ids)
	t.mu.Unlock()
	for _, id := range ids {
		t.finish(id, open[id])
	}
	sum := t.Summary()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.write(Line{Summary: &sum})
	if t.file != nil {
		t.err = errors.Join(t.err, t.w.Flush(), t.file.Sync(), t.file.Close())
	}
	return sum, t.err
}

// Each implements Source, for a closed truth. One that is kept in a file is read from there.
func (t *Truth) Each(yield func(Line) error) error {
	t.mu.Lock()
	closed, lines := t.closed, t.lines
	t.mu.Unlock()
	if !closed {
		return ErrUnfinished
	}
	if t.path != "" {
		return TruthFile(t.path).Each(yield)
	}
	for _, l := range lines {
		if err := yield(l); err != nil {
			return err
		}
	}
	return nil
}
