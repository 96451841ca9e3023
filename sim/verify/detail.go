package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"deckle/sim"
)

// expected is a row of the truth, looked up again: its columns, or, of table events, its mark.
type expected struct {
	row  []string
	mark sim.Mark
	at   sim.Position // of a mark
	id   string       // session
}

var errEnough = errors.New("enough rows")

// maxDetailRows limits how many rows of suspected sessions are kept.
const maxDetailRows = 200_000

// detail reads truth and table again and compares the rows of the suspected sessions one by one.
func (x *index) detail(ctx context.Context, t Table, r *result, truth []sim.Source, suspects map[string]bool) error {
	want := map[string]expected{}
	left := map[string]string{} // keys of rows that are rightly missing, and why
	for _, src := range truth {
		err := src.Each(func(l sim.Line) error {
			switch {
			case l.Session != nil && t.Deleted[l.Session.SessionID]:
				left[l.Session.SessionID] = "deleted by others"
			case l.Session != nil && suspects[l.Session.SessionID]:
				return rowsOf(t.Kind, l.Session, want)
			case l.Dead != nil && t.Kind == Events:
				left[positionKey(l.Dead.Position)] = "a dead letter, " + l.Dead.Reason
			case l.Duplicate != nil && t.Kind == Events:
				left[positionKey(*l.Duplicate)] = "a duplicate"
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	got := map[string][][]string{}
	held := 0
	err := checkedRows(ctx, t, func(row []string) error {
		id := sessionOf(t.Kind, row)
		key := keyOf(t.Kind, row)
		// A row of another session can stand at the position of a suspected one: its session_id was changed.
		if _, ok := want[key]; !ok && !suspects[id] {
			return nil
		}
		var e *entry
		if i, ok := x.byID[id]; ok {
			e = &x.entries[i]
		}
		row = slices.Clone(x.normal(t.Kind, e, row))
		for i := range row {
			row[i] = strings.Clone(row[i])
		}
		key = keyOf(t.Kind, row)
		got[key] = append(got[key], row)
		if held++; held == maxDetailRows {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		r.add(Difference{Kind: Extra, Key: "(all)", Want: fmt.Sprintf("at most %d rows of the sessions looked into",
			maxDetailRows), Got: "more"})
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if e := want[key]; e.mark != nil && len(got[key]) == 0 && r.gaps.has(e.at.Partition, e.at.Offset) {
			continue // given up
		}
		t.diffRow(r, want[key], got[key], shown(key))
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; ok {
			continue
		}
		for _, row := range got[key] {
			w := "no row"
			if why := left[key]; why != "" {
				w += ": it is " + why
			}
			r.add(Difference{Kind: Extra, Key: shown(key), Want: w, Got: short(strings.Join(row, " "))})
		}
	}
	return nil
}

// diffRow compares the rows of one key.
func (t Table) diffRow(r *result, w expected, rows [][]string, key string) {
	if t.Kind == Events {
		key += " of session " + w.id
	}
	switch len(rows) {
	case 0:
		r.add(Difference{Kind: Lost, Key: key, Want: "1 row", Got: "no row"})
		return
	case 1:
	default:
		r.add(Difference{Kind: Doubled, Key: key, Want: "1 row", Got: fmt.Sprintf("%d rows", len(rows))})
	}
	cols := columns(t)
	for _, row := range rows {
		if w.mark == nil {
			for i, c := range cols {
				if row[i] != w.row[i] {
					r.add(Difference{Kind: Changed, Key: key, Column: c, Want: w.row[i], Got: row[i]})
				}
			}
			continue
		}
		differs := w.mark.Differs(row)
		for _, i := range differs {
			r.add(Difference{Kind: Changed, Key: key, Column: cols[i], Want: w.mark.Column(i), Got: row[i]})
		}
		if len(differs) == 0 && w.mark.Hash() != sim.HashRow(row) {
			r.add(Difference{Kind: Changed, Key: key, Column: "(unknown)", Want: "another row",
				Got: short(strings.Join(row, " "))})
		}
	}
}

// rowsOf adds the rows of one session of the truth.
func rowsOf(k Kind, s *sim.Session, want map[string]expected) error {
	switch {
	case k == Events:
		for _, e := range s.Events {
			want[positionKey(e.Position)] = expected{mark: e.Mark, at: e.Position, id: s.SessionID}
		}
	case s.TotalEvents == 0:
	case k == Sessions:
		row := s.Row()
		want[keyOf(k, row)] = expected{row: row, id: s.SessionID}
	case k == Pages:
		for _, row := range s.PageRows() {
			want[keyOf(k, row)] = expected{row: row, id: s.SessionID}
		}
	}
	return nil
}

func positionKey(p sim.Position) string {
	return strconv.Itoa(int(p.Partition)) + "\x00" + strconv.FormatInt(p.Offset, 10)
}

// keyOf is the row's key. The origin of a session is not part of it, so that a wrong origin shows as a changed column;
// a second row of the same session then shows as doubled.
func keyOf(k Kind, row []string) string {
	switch k {
	case Events:
		return rowKey([]string{row[eventPartition], row[eventOffset]})
	case Pages:
		return rowKey([]string{row[0], row[2], row[3]})
	default:
		return row[0]
	}
}

func shown(key string) string { return strings.ReplaceAll(key, "\x00", "/") }
