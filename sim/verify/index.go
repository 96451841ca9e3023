package verify

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"deckle/sim"
)

// digest represents a set of rows by their number and the sum of their hashes. The order of rows does not matter.
type digest struct {
	sum uint64
	n   uint32
}

func (d *digest) add(hash uint64) { d.sum, d.n = d.sum+hash, d.n+1 }

// entry is what the truth says about one session.
type entry struct {
	id                      string
	origins                 []sim.Origin // only if there are several
	first                   sim.Origin
	events, sessions, pages digest
}

func (e *entry) digest(k Kind) digest {
	switch k {
	case Events:
		return e.events
	case Sessions:
		return e.sessions
	default:
		return e.pages
	}
}

// index is the first pass over the truth.
type index struct {
	byID    map[string]int32
	entries []entry
	rollups rollups
	letters map[string][]string // rows by key
	sum     sim.Summary
	pages   int64
	// types are the applied records by event_type, for the sums of table events.
	types map[string]int64
}

func indexTruth(sources []sim.Source) (*index, error) {
	if len(sources) == 0 {
		return nil, errors.New("verify: no truth is given")
	}
	x := &index{byID: map[string]int32{}, rollups: rollups{}, letters: map[string][]string{}, types: map[string]int64{}}
	topic := ""
	for _, src := range sources {
		err := src.Each(func(l sim.Line) error {
			switch {
			case l.Header != nil:
				if topic != "" && topic != l.Header.Topic {
					return fmt.Errorf("truths of two topics, %q and %q", topic, l.Header.Topic)
				}
				topic = l.Header.Topic
			case l.Session != nil:
				return x.session(l.Session)
			case l.Dead != nil:
				row := []string{strconv.Itoa(int(l.Dead.Partition)), strconv.FormatInt(l.Dead.Offset, 10),
					l.Dead.Reason}
				x.letters[rowKey(row[:2])] = row
			case l.Summary != nil:
				x.sum.Add(l.Summary)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	if x.sum.Uncertain > 0 || x.sum.Mistaken > 0 {
		return nil, fmt.Errorf("%w: nobody knows if %d records were delivered, and %d had another outcome than meant",
			ErrInexact, x.sum.Uncertain, x.sum.Mistaken)
	}
	return x, nil
}

func (x *index) session(s *sim.Session) error {
	if _, ok := x.byID[s.SessionID]; ok {
		return fmt.Errorf("session %q stands in the truth twice: were two of these runs made with one seed?",
			s.SessionID)
	}
	e := entry{id: s.SessionID, first: s.Origins[0]}
	if len(s.Origins) > 1 {
		e.origins = s.Origins
	}
	for _, ev := range s.Events {
		e.events.add(ev.Mark.Hash())
	}
	if s.TotalEvents > 0 {
		e.sessions.add(sim.HashRow(s.Row()))
		for _, row := range s.PageRows() {
			e.pages.add(sim.HashRow(row))
		}
		x.pages += int64(e.pages.n)
		x.rollups.add(s)
		for t, n := range s.CountsByType() {
			x.types[t] += n
		}
	}
	x.types["session_end"] += int64(len(s.Events)) - s.TotalEvents
	x.byID[e.id] = int32(len(x.entries))
	x.entries = append(x.entries, e)
	return nil
}

// want returns the number of rows that a table must have.
func (x *index) want(t Table) (int64, error) {
	switch t.Kind {
	case Events:
		return x.sum.Applied, nil
	case Sessions:
		n := x.sum.Sessions
		for id := range t.Deleted {
			if i, ok := x.byID[id]; ok {
				n -= int64(x.entries[i].sessions.n)
			}
		}
		return n, nil
	case Pages:
		return x.pages, nil
	case Letters:
		return int64(len(x.letters)), nil
	case Rollups:
		if RollupColumns(t.View) == nil {
			return 0, fmt.Errorf("verify: table %q: there is no rollup %q", t.Name, t.View)
		}
		return int64(len(x.rollups[t.View])), nil
	}
	return 0, fmt.Errorf("verify: table %q has the unknown kind %d", t.Name, t.Kind)
}

// columns are the columns of a table's rows.
func columns(t Table) []string {
	switch t.Kind {
	case Events:
		return sim.EventColumns
	case Sessions:
		return sim.SessionColumns
	case Pages:
		return sim.PageColumns
	case Letters:
		return []string{"partition", "offset", "reason"}
	default:
		return RollupColumns(t.View)
	}
}

// Places of columns.
var (
	eventSession   = slices.Index(sim.EventColumns, "session_id")
	eventType      = slices.Index(sim.EventColumns, "event_type")
	eventPartition = slices.Index(sim.EventColumns, "kafka_partition")
	eventOffset    = slices.Index(sim.EventColumns, "kafka_offset")
)

// deleted returns the sums of the metric columns of the rows that others have deleted from a table.
func (x *index) deleted(t Table, truth []sim.Source) (map[string]int64, error) {
	s := newSums(t)
	for _, src := range truth {
		if len(t.Deleted) == 0 {
			break
		}
		if err := src.Each(func(l sim.Line) error {
			if l.Session != nil && l.Session.TotalEvents > 0 && t.Deleted[l.Session.SessionID] {
				s.add(l.Session.Row())
			}
			return nil
		}); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	return s.got, nil
}

// normal gives a row of a session with several possible origins the first of them, if it has one of them. It changes a
// copy of the row.
func (x *index) normal(k Kind, e *entry, row []string) []string {
	if e == nil || e.origins == nil || k == Events {
		return row
	}
	for _, o := range e.origins {
		switch {
		case k == Sessions && row[1] == o.Position && row[2] == o.Date && row[3] == o.Brand:
			row = slices.Clone(row)
			row[1], row[2], row[3] = e.first.Position, e.first.Date, e.first.Brand
			return row
		case k == Pages && row[1] == o.Position:
			row = slices.Clone(row)
			row[1] = e.first.Position
			return row
		}
	}
	return row
}

func sessionOf(k Kind, row []string) string {
	if k == Events {
		return row[eventSession]
	}
	return row[0]
}

func rowKey(cols []string) string { return strings.Join(cols, "\x00") }
