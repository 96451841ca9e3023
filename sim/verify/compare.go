package verify

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"deckle/sim"
)

// result is the comparison of one table.
type result struct {
	rows      int64
	different int64 // sessions, or rows of rollups and letters
	content   uint64
	diffs     []Difference
	more      int64
	limit     int
	table     string
	gaps      gaps
	givenUp   int64                 // rows of the truth that lie in the gaps, and that the table does not have
	present   map[sim.Position]bool // rows of the table that lie in the gaps
}

func (r *result) add(d Difference) {
	if d.Table = r.table; len(r.diffs) < r.limit {
		r.diffs = append(r.diffs, d)
	} else {
		r.more++
	}
}

func (x *index) compare(ctx context.Context, t Table, truth []sim.Source, limit int) (*result, error) {
	r := &result{table: t.Name, limit: limit}
	var err error
	switch t.Kind {
	case Rollups:
		want := map[string][]string{}
		for k, v := range x.rollups[t.View] {
			want[k] = v.row(t.View)
		}
		err = compareWhole(ctx, t, r, want, len(columns(t))-len(measuresOf(t.View)))
	case Letters:
		err = compareWhole(ctx, t, r, x.letters, 2)
	default:
		err = x.compareBySession(ctx, t, r, truth)
	}
	return r, err
}

func measuresOf(view string) []string {
	if view == "subscription_analytics" {
		return append(slices.Clone(measures), "conversion_rate")
	}
	return measures
}

// checkedRows reads a table and refuses rows of a wrong length, which are an error of the reader.
func checkedRows(ctx context.Context, t Table, yield func(row []string) error) error {
	n := len(columns(t))
	return t.Reader.Rows(ctx, t.Source, func(row []string) error {
		if len(row) != n {
			return fmt.Errorf("a row of %d columns, not %d: %q", len(row), n, row)
		}
		return yield(row)
	})
}

// compareWhole compares a small table, whose truth is kept as a whole. The first keyColumns of a row are its key.
func compareWhole(ctx context.Context, t Table, r *result, want map[string][]string, keyColumns int) error {
	got := map[string]int{}
	cols := columns(t)
	err := checkedRows(ctx, t, func(row []string) error {
		r.rows++
		r.content += sim.HashRow(row)
		k := rowKey(row[:keyColumns])
		shown := strings.Join(row[:keyColumns], "/")
		got[k]++
		w, ok := want[k]
		switch {
		case !ok:
			r.different++
			r.add(Difference{Kind: Extra, Key: shown, Want: "no row", Got: strings.Join(row, " ")})
			return nil
		case got[k] == 2:
			r.different++
			r.add(Difference{Kind: Doubled, Key: shown, Want: "1 row", Got: "2 rows or more"})
		}
		changed := false
		for i, c := range cols {
			if row[i] != w[i] && !(isAverage[c] && sameNumber(row[i], w[i])) {
				changed = true
				r.add(Difference{Kind: Changed, Key: shown, Column: c, Want: w[i], Got: row[i]})
			}
		}
		if changed {
			r.different++
		}
		return nil
	})
	if err != nil {
		return err
	}
	lost := []string{}
	for k := range want {
		if got[k] == 0 {
			lost = append(lost, k)
		}
	}
	slices.Sort(lost)
	for _, k := range lost {
		r.different++
		r.add(Difference{Kind: Lost, Key: strings.Join(want[k][:keyColumns], "/"), Want: "1 row", Got: "no row"})
	}
	return nil
}

// compareBySession compares a table of whose truth only digests are kept, and looks again at the sessions that differ.
func (x *index) compareBySession(ctx context.Context, t Table, r *result, truth []sim.Source) error {
	seen := make([]digest, len(x.entries))
	foreign := map[string]int64{} // rows of sessions that the truth does not know, up to the limit
	sums := newSums(t)
	var err error
	if r.gaps, err = gapsOf(ctx, t); err != nil {
		return err
	}
	r.present = map[sim.Position]bool{}
	err = checkedRows(ctx, t, func(row []string) error {
		r.rows++
		sums.add(row)
		i, ok := x.byID[sessionOf(t.Kind, row)]
		if !ok {
			r.content += sim.HashRow(row)
			if id := sessionOf(t.Kind, row); foreign[id] > 0 || len(foreign) < r.limit {
				foreign[strings.Clone(id)]++
			} else {
				r.different++
			}
			return nil
		}
		if at, ok := r.gaps.hasRow(row); ok {
			r.present[at] = true
		}
		h := sim.HashRow(x.normal(t.Kind, &x.entries[i], row))
		r.content += h
		seen[i].add(h)
		return nil
	})
	if err != nil {
		return err
	}
	var missing map[int32]digest
	if missing, r.givenUp, err = x.missing(r.gaps, truth, r.present); err != nil {
		return err
	}
	suspects := map[string]bool{}
	for id := range foreign {
		suspects[id] = true
		r.different++
	}
	for i := range x.entries {
		e := &x.entries[i]
		want, gone := e.digest(t.Kind), missing[int32(i)]
		if t.Deleted[e.id] {
			want = digest{}
		}
		if seen[i] != (digest{want.sum - gone.sum, want.n - gone.n}) {
			r.different++
			if len(suspects) < 2*r.limit {
				suspects[e.id] = true
			}
		}
	}
	if len(suspects) > 0 {
		if err := x.detail(ctx, t, r, truth, suspects); err != nil {
			return err
		}
		if len(r.diffs) == 0 {
			r.add(Difference{Kind: Moving, Key: fmt.Sprintf("%d sessions", len(suspects)), Want: "a table at rest",
				Got: "other rows at the second look"})
		}
	}
	if r.givenUp == 0 { // the truth does not say of which type what is missing was; the rows have been compared
		less, err := x.deleted(t, truth)
		if err != nil {
			return err
		}
		sums.compare(x, t, less, r)
	}
	return nil
}

// sums are the sums of a table's metric columns; of events the number of rows of each event_type.
type sums struct {
	kind   Kind
	got    map[string]int64
	metric []int // places
}

func newSums(t Table) *sums {
	s := &sums{kind: t.Kind, got: map[string]int64{}}
	if t.Kind == Sessions {
		for _, c := range sim.MetricColumns {
			s.metric = append(s.metric, slices.Index(sim.SessionColumns, c))
		}
	}
	return s
}

func (s *sums) add(row []string) {
	switch s.kind {
	case Events:
		s.got[strings.Clone(sim.CountedAs(row[eventType]))]++
	case Pages:
		n, _ := strconv.ParseInt(row[4], 10, 64) // a text that is no number differs from the row of the truth anyway
		s.got["visit_count"] += n
	case Sessions:
		for i, at := range s.metric {
			n, _ := strconv.ParseInt(row[at], 10, 64)
			s.got[sim.MetricColumns[i]] += n
		}
	}
}

// compare compares the sums with those of the truth, which less are to be taken from.
func (s *sums) compare(x *index, t Table, less map[string]int64, r *result) {
	want, what := x.types, "rows of event_type "
	switch t.Kind {
	case Sessions:
		want, what = x.sum.Sums, "sum of "
	case Pages:
		want, what = map[string]int64{"visit_count": x.sum.Sums["pages_visited_count"]}, "sum of "
	}
	names := map[string]bool{}
	for n := range want {
		names[n] = true
	}
	for n := range s.got {
		names[n] = true
	}
	for _, n := range slices.Sorted(func(yield func(string) bool) {
		for n := range names {
			if !yield(n) {
				return
			}
		}
	}) {
		if want := want[n] - less[n]; want != s.got[n] {
			// Sums are always listed: they are few.
			r.diffs = append(r.diffs, Difference{Table: r.table, Kind: Sum, Key: what + n, Column: n,
				Want: strconv.FormatInt(want, 10), Got: strconv.FormatInt(s.got[n], 10)})
		}
	}
}
