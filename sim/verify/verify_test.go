package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"deckle/event"
	"deckle/schema"
	"deckle/sim"
)

// world is a truth and tables that agree with it.
type world struct {
	truth  *sim.Truth
	tables fake
}

// fake is a Reader over rows in memory.
type fake map[string][][]string

func (f fake) Count(_ context.Context, table string) (int64, error) {
	rows, ok := f[table]
	if !ok {
		return 0, fmt.Errorf("no table %s", table)
	}
	return int64(len(rows)), nil
}

func (f fake) Rows(_ context.Context, table string, yield func([]string) error) error {
	buf := []string{}
	for _, row := range f[table] {
		buf = append(buf[:0], row...) // a row is valid only during the call
		if err := yield(buf); err != nil {
			return err
		}
		clear(buf)
	}
	return nil
}

// build puts the records of a generator into a topic of three partitions and derives the tables: events from the
// records, the others from the truth.
func build(t *testing.T, keyed bool) *world {
	t.Helper()
	g, err := sim.NewGenerator(sim.Options{Seed: 3, Start: time.Date(2026, 11, 22, 23, 59, 0, 0, time.UTC), Rate: 100,
		Sessions: 15, Unkeyed: !keyed,
		Faults: sim.Faults{Duplicates: 0.03, Late: 0.03, OutOfOrder: 0.03, Malformed: 0.02, Odd: 0.1}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{truth: sim.NewTruth(), tables: fake{}}
	w.truth.Begin(sim.Header{Topic: "web_clicks", Keyed: keyed})
	values := map[sim.Position]*sim.Record{}
	var next [3]int64
	for {
		if g.Made() == 800 {
			g.Finish()
		}
		r, ok := g.Next()
		if !ok {
			break
		}
		spread := r.Key
		if !keyed {
			spread = r.Value
		}
		p := int32(0)
		for _, c := range spread {
			p = (p*31 + int32(c)) % 3
		}
		pos := sim.Position{Partition: p, Offset: next[p]}
		next[p]++
		values[pos] = r
		w.truth.Sent(r)
		w.truth.Acked(r, pos.Partition, pos.Offset, r.Time.UnixMilli())
	}
	sum, err := w.truth.Close()
	if err != nil || sum.Uncertain+sum.Mistaken > 0 {
		t.Fatalf("%+v, %v", sum, err)
	}
	x, err := indexTruth([]sim.Source{w.truth})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.truth.Each(func(l sim.Line) error {
		switch {
		case l.Dead != nil:
			w.tables["dlq"] = append(w.tables["dlq"], []string{strconv.Itoa(int(l.Dead.Partition)),
				strconv.FormatInt(l.Dead.Offset, 10), l.Dead.Reason})
		case l.Session != nil:
			for _, e := range l.Session.Events {
				w.tables["events"] = append(w.tables["events"], eventRow(t, values[e.Position], e.Position))
			}
			if l.Session.TotalEvents > 0 {
				w.tables["sessions"] = append(w.tables["sessions"], l.Session.Row())
				w.tables["session_metrics"] = append(w.tables["session_metrics"], l.Session.Row())
				w.tables["page_analytics"] = append(w.tables["page_analytics"], l.Session.PageRows()...)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, v := range sim.Rollups {
		for _, k := range slices.Sorted(maps.Keys(x.rollups[v.Name])) {
			w.tables[v.Name] = append(w.tables[v.Name], x.rollups[v.Name][k].row(v.Name))
		}
	}
	return w
}

// eventRow reads a record as a node does.
func eventRow(t *testing.T, r *sim.Record, at sim.Position) []string {
	t.Helper()
	rules := event.DefaultRules()
	it := event.Item{Partition: at.Partition, Offset: at.Offset, KafkaTimestamp: r.Time.UnixMilli()}
	dec := event.Decoder{Rules: &rules}
	if reason, detail := dec.Decode(r.Value, it.KafkaTimestamp, &it.Event); reason != event.ReasonNone {
		t.Fatal(reason, detail)
	}
	row := make([]string, 0, len(sim.EventColumns))
	for _, c := range sim.EventColumns {
		if c == "event_date" {
			row = append(row, time.Unix(it.Timestamp, 0).UTC().Format(time.DateOnly))
			continue
		}
		row = append(row, sim.Canonical(c, schema.Named(schema.Events, c).String(&it)))
	}
	return row
}

func (w *world) verify(t *testing.T, limit int) *Report {
	t.Helper()
	r, err := Verify(t.Context(), Options{Truth: []sim.Source{w.truth}, Delta: w.tables, ClickHouse: w.tables,
		Limit: limit,
		More:  []Table{{Name: "dlq", Kind: Letters, Reader: w.tables}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEqual(t *testing.T) {
	for _, keyed := range []bool{true, false} {
		w := build(t, keyed)
		r := w.verify(t, 10)
		if !r.Equal || len(r.Differences) > 0 || *r.DeltaEvents != r.AppliedEvents ||
			*r.ClickHouseSessions != r.ProducedSessions || len(r.Tables) != 10 {
			t.Fatalf("keyed %t: %+v", keyed, r)
		}
		if r.DeadLetters == 0 || r.Duplicates == 0 || r.ProducedEvents != r.AppliedEvents+r.Duplicates+r.DeadLetters {
			t.Errorf("%+v", r)
		}
		if !keyed {
			w.otherOrigins(t)
		}
	}
}

// otherOrigins gives every session its last possible origin: without keys it is as right as the first one.
func (w *world) otherOrigins(t *testing.T) {
	t.Helper()
	last, several := map[string]sim.Origin{}, 0
	if err := w.truth.Each(func(l sim.Line) error {
		if l.Session != nil {
			last[l.Session.SessionID] = l.Session.Origins[len(l.Session.Origins)-1]
			several += min(1, len(l.Session.Origins)-1)
		}
		return nil
	}); err != nil || several == 0 {
		t.Fatal(err, several)
	}
	for _, table := range []string{"sessions", "session_metrics", "page_analytics"} {
		for i, row := range w.tables[table] {
			row = slices.Clone(row)
			row[1] = last[row[0]].Position
			if table != "page_analytics" {
				row[2] = last[row[0]].Date
			}
			w.tables[table][i] = row
		}
	}
	if r := w.verify(t, 10); !r.Equal {
		t.Errorf("another possible origin: %v", r.Differences)
	}
	w.tables["sessions"][0][1] = "9/9"
	r := w.verify(t, 10)
	if r.Equal || r.Differences[0].Column != "origin" {
		t.Errorf("an impossible origin: %v", r.Differences)
	}
}

// planted is how one fault in one table must be named in the report.
type planted struct {
	table, kind, key, column string
}

// find says whether the report names it, and whether it names any other table.
func (p planted) find(r *Report) error {
	if r.Equal {
		return errors.New("the report says equal")
	}
	named := false
	for _, d := range r.Differences {
		if !strings.HasSuffix(d.Table, p.table) {
			return fmt.Errorf("another table is named: %v", d)
		}
		if d.Kind == p.kind && strings.Contains(d.Key, p.key) && d.Column == p.column {
			named = true
		} else if d.Kind != Sum {
			return fmt.Errorf("named besides: %v", d)
		}
	}
	if !named {
		return fmt.Errorf("not named: %+v in %v", p, r.Differences)
	}
	if r.Tables[r.Differences[0].Table].Different == 0 {
		return fmt.Errorf("counted nowhere: %+v", r.Tables)
	}
	return nil
}

// keyOfRow is what the key of a difference must contain.
func keyOfRow(table string, row []string) string {
	switch table {
	case "events":
		return row[eventPartition] + "/" + row[eventOffset]
	case "sessions", "session_metrics":
		return row[0]
	case "page_analytics":
		return row[0] + "/" + row[2] + "/" + row[3]
	case "dlq":
		return row[0] + "/" + row[1]
	}
	n := len(row) - len(measuresOf(table))
	return strings.Join(row[:n], "/")
}

// A row that others have deleted must not be there, and nothing else may be missing.
func TestDeletedByOthers(t *testing.T) {
	w := build(t, true)
	whole := w.tables["sessions"]
	gone, beside := whole[3], whole[4]
	deleted := map[string]bool{gone[0]: true}
	compare := func(rows [][]string) *Report {
		t.Helper()
		w.tables["sessions"] = rows
		r, err := Verify(t.Context(), Options{Truth: []sim.Source{w.truth}, Delta: w.tables, Deleted: deleted})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	without := func(row []string) [][]string {
		return slices.DeleteFunc(slices.Clone(whole), func(r []string) bool { return r[0] == row[0] })
	}
	if r := compare(without(gone)); !r.Equal || r.Tables[DeltaSessions].Want != int64(len(whole)-1) {
		t.Errorf("without the row: %+v", r)
	}
	if err := (planted{"sessions", Extra, gone[0], ""}).find(compare(whole)); err != nil {
		t.Errorf("with the row: %v", err)
	}
	if r := compare(without(beside)); r.Equal || r.Tables[DeltaSessions].Different != 2 {
		t.Errorf("without another row: %+v", r)
	}
}

// In every table of both sinks: one lost row, one doubled row, one changed value in each column.
func TestPlanted(t *testing.T) {
	w := build(t, true)
	cols := map[string][]string{"events": sim.EventColumns, "sessions": sim.SessionColumns,
		"session_metrics": sim.SessionColumns,
		"page_analytics":  sim.PageColumns, "dlq": {"partition", "offset", "reason"}}
	for _, v := range sim.Rollups {
		cols[v.Name] = RollupColumns(v.Name)
	}
	for _, table := range slices.Sorted(maps.Keys(cols)) {
		t.Run(table, func(t *testing.T) {
			whole := w.tables[table]
			defer func() { w.tables[table] = whole }()
			n := len(whole) / 2
			key := keyOfRow(table, whole[n])

			w.tables[table] = slices.Delete(slices.Clone(whole), n, n+1)
			if err := (planted{table, Lost, key, ""}).find(w.verify(t, 10)); err != nil {
				t.Errorf("lost: %v", err)
			}
			w.tables[table] = append(slices.Clone(whole), whole[n])
			if err := (planted{table, Doubled, key, ""}).find(w.verify(t, 10)); err != nil {
				t.Errorf("doubled: %v", err)
			}
			for i, c := range cols[table] {
				changed := slices.Clone(whole)
				changed[n] = slices.Clone(whole[n])
				if changed[n][i] += "1"; isAverage[c] { // another number, date or text
					changed[n][i] = "1" + whole[n][i]
				}
				w.tables[table] = changed
				r := w.verify(t, 10)
				if k := keyOfRow(table, changed[n]); k != key {
					// A changed key is a lost row and an extra one.
					if r.Equal || !slices.ContainsFunc(r.Differences, func(d Difference) bool {
						return d.Kind == Lost &&
							strings.Contains(d.Key, key)
					}) ||
						!slices.ContainsFunc(r.Differences, func(d Difference) bool {
							return d.Kind == Extra &&
								strings.Contains(d.Key, k)
						}) {
						t.Errorf("changed %s: %v", c, r.Differences)
					}
					continue
				}
				if err := (planted{table, Changed, key, c}).find(r); err != nil {
					t.Errorf("changed %s: %v", c, err)
				}
			}
		})
	}
}

// A row at the position of a duplicate is named as that.
func TestDuplicateInEvents(t *testing.T) {
	w := build(t, true)
	var dup sim.Position
	if err := w.truth.Each(func(l sim.Line) error {
		if l.Duplicate != nil {
			dup = *l.Duplicate
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	row := slices.Clone(w.tables["events"][0])
	row[eventPartition], row[eventOffset] = strconv.Itoa(int(dup.Partition)), strconv.FormatInt(dup.Offset, 10)
	w.tables["events"] = append(w.tables["events"], row)
	r := w.verify(t, 10)
	if r.Equal || !slices.ContainsFunc(r.Differences, func(d Difference) bool {
		return d.Kind == Extra &&
			strings.Contains(d.Want, "a duplicate")
	}) {
		t.Errorf("%v", r.Differences)
	}
}

// Two errors that cancel in every sum are found.
func TestCancellingErrors(t *testing.T) {
	w := build(t, true)
	i := slices.Index(sim.SessionColumns, "article_views")
	a, b := slices.Clone(w.tables["sessions"][0]), slices.Clone(w.tables["sessions"][1])
	a[i], b[i] = b[i]+"0", a[i]+"0"
	w.tables["sessions"][0], w.tables["sessions"][1] = a, b
	r := w.verify(t, 10)
	if r.Equal || r.Tables[DeltaSessions].Different != 2 || r.Tables[ClickHouseSessions].Different != 0 {
		t.Errorf("%+v", r)
	}
}

func TestLimit(t *testing.T) {
	w := build(t, true)
	w.tables["sessions"] = nil
	r := w.verify(t, 5)
	lost := 0
	for _, d := range r.Differences {
		if d.Kind == Lost {
			lost++
		}
	}
	if lost != 5 || r.More == 0 || r.Tables[DeltaSessions].Different != r.ProducedSessions {
		t.Errorf("%d lost, %d more, %+v", lost, r.More, r.Tables)
	}
	var b strings.Builder
	if err := r.Write(&b); err != nil || !strings.Contains(b.String(), "NOT EQUAL") {
		t.Errorf("%s %v", b.String(), err)
	}
}

// slow is a table that gets its last rows while it is watched.
type slow struct {
	fake
	looks, hidden int
}

func (s *slow) Count(ctx context.Context, table string) (int64, error) {
	if table == "sessions" {
		if s.looks++; s.looks == 5 {
			s.hidden = 0
		}
		return int64(len(s.fake[table]) - s.hidden), nil
	}
	return s.fake.Count(ctx, table)
}

func (s *slow) Rows(ctx context.Context, table string, yield func([]string) error) error {
	rows := s.fake[table]
	if table == "sessions" {
		rows = rows[:len(rows)-s.hidden]
	}
	return fake{table: rows}.Rows(ctx, table, yield)
}

func TestWaits(t *testing.T) {
	w := build(t, true)
	s := &slow{fake: w.tables, hidden: 3}
	var phases []string
	r, err := Verify(t.Context(), Options{Truth: []sim.Source{w.truth}, Delta: s, Wait: time.Minute,
		Poll:     time.Millisecond,
		Progress: func(p Progress) { phases = append(phases, p.Phase) }})
	if err != nil || !r.Equal || s.looks < 5 || phases[0] != "truth" || phases[len(phases)-1] != "comparing" {
		t.Fatalf("%+v %v %v", r, err, phases)
	}
	// Nothing changes any more: Quiet ends it long before Wait.
	s = &slow{fake: w.tables, hidden: 3, looks: 5}
	r, err = Verify(t.Context(), Options{Truth: []sim.Source{w.truth}, Delta: s, Wait: time.Hour,
		Quiet: 20 * time.Millisecond, Poll: time.Millisecond})
	if err != nil || r.Equal || r.Tables[DeltaSessions].Different != 3 {
		t.Fatalf("%+v %v", r, err)
	}
}

type source []sim.Line

func (s source) Each(yield func(sim.Line) error) error {
	for _, l := range s {
		if err := yield(l); err != nil {
			return err
		}
	}
	return nil
}

func TestTruthsThatCannotBeUsed(t *testing.T) {
	w := build(t, true)
	open := sim.NewTruth()
	for name, sources := range map[string][]sim.Source{
		"none":       nil,
		"twice":      {w.truth, w.truth},
		"unfinished": {open},
		"inexact":    {source{{Summary: &sim.Summary{Uncertain: 1}}}},
		"two topics": {w.truth, source{{Header: &sim.Header{Topic: "other"}}}},
	} {
		if r, err := Verify(t.Context(), Options{Truth: sources, Delta: w.tables}); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// Arithmetic of the truth itself.
	r, err := Verify(t.Context(), Options{Truth: []sim.Source{w.truth, source{{Summary: &sim.Summary{Produced: 1}}}},
		Delta: w.tables})
	if err != nil || r.Equal || r.Differences[0].Table != "truth" {
		t.Errorf("%+v %v", r, err)
	}
	// A report that has compared nothing is not equal.
	if r, err := Verify(t.Context(), Options{Truth: []sim.Source{w.truth}}); err != nil || r.Equal {
		t.Errorf("%+v %v", r, err)
	}
}

func TestAverages(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{{"12.5", "12.50000000001", true}, {"12.5", "12.5001", false}, {"0", "0", true}, {"x", "1", false}, {"1e3", "1000",
		true}} {
		if sameNumber(c.a, c.b) != c.same {
			t.Errorf("%s and %s", c.a, c.b)
		}
	}
	if shorten(strings.Repeat("ü", 200)) != strings.Repeat("ü", 128) ||
		shorten("a"+strings.Repeat("ü", 200)) != "a"+strings.Repeat("ü", 127) {
		t.Error("texts are cut in the middle of a character")
	}
}
