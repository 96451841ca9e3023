package clickhouse

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/state"
	"deckle/state/statetest"
)

// wider are tables of level 2 that have, beside what package schema declares, a column of each kind that a level can
// add: a count, a text, and a number that nobody knows for older rows, in sessions, in pages and in the totals.
var wider = func() *layouts {
	known := schema.At(func(r *schema.SessionRow) *uint64 { return &r.FirstClosed })
	added := []schema.Column[schema.SessionRow]{
		{Name: "test_count", Kind: schema.Uint32, Comment: "A count", Since: level.Real,
			Field: schema.At(func(r *schema.SessionRow) *uint32 { return &r.Counts[event.SessionEnd] })},
		{Name: "test_text", Kind: schema.Text, Comment: "A text", Since: level.Real,
			Field: schema.At(func(r *schema.SessionRow) *string { return &r.Referrer })},
		{Name: "test_few", Kind: schema.Few, Comment: "One of a few texts", Since: level.Real,
			Field: schema.At(func(r *schema.SessionRow) *string { return &r.Browser })},
		{Name: "test_unknown", Kind: schema.Uint8, Comment: "A number that may be unknown", Since: level.Real,
			Known: &known, Field: schema.At(func(r *schema.SessionRow) *uint8 { return &r.MaxScrollDepth })},
		{Name: "test_words", Kind: schema.Few, Comment: "A text that may be unknown", Since: level.Real, Known: &known,
			Field: schema.At(func(r *schema.SessionRow) *string { return &r.Brand })},
	}
	all := schema.All()
	n := len(all.UpTo(level.Real).Sessions)
	all.Sessions = slices.Concat(all.Sessions[:n], added, all.Sessions[n:])
	all.Pages = slices.Concat(all.Pages, []schema.PageColumn{
		{Name: "test_text", Kind: schema.Text, Comment: "A text", Since: level.Real, Session: &added[1]},
		{Name: "test_unknown", Kind: schema.Uint8, Comment: "A number", Since: level.Real, Session: &added[3]}})
	all.Measures = slices.Concat(all.Measures, []schema.Measure{{Name: "test_sum", Comment: "A sum",
		View: "total_test_sum", ViewComment: "A sum", Since: level.Real, Of: schema.MeasureTotal,
		At: func(r *schema.RollupRow) *int64 { return &r.AdClicks }}})
	y := layoutsOf(all)
	return &y
}()

// atLevel returns the plan with another level and, from level 2 on, with values in the columns that it adds.
func atLevel(p *state.Plan, l level.Level) *state.Plan {
	rows := rowsOf(p)
	for i := range rows {
		if l > level.First {
			rows[i].Counts[event.SessionEnd] = 7
			rows[i].FirstClosed = uint64(i % 2) // every other one is known
		}
	}
	content := statetest.Content{Rows: rows}
	_ = p.Rollups(func(r *schema.RollupRow) error { content.Totals = append(content.Totals, *r); return nil })
	q := statetest.NewPlan(p.Config, p.Sink, p.A, p.B, p.Epochs, content)
	q.Level = l
	return q
}

// openAt opens a sink on the database of another one.
func openAt(t *testing.T, opts Options) *Sink {
	t.Helper()
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *Sink) write(t *testing.T, p *state.Plan) {
	t.Helper()
	if err := s.Write(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// columnsOf shows the columns of the stored tables and the views, in their order.
func (s *Sink) columnsOf(t *testing.T, table string) string {
	t.Helper()
	var names []string
	for _, r := range s.texts(t, 3, "SELECT table, name, type FROM system.columns WHERE database = %s AND table = %s",
		quoteText(s.opts.Database), quoteText(table)) {
		names = append(names, r[1]+" "+r[2])
	}
	return strings.Join(names, ", ")
}

// commentsOf shows the comments of a table's columns.
func (s *Sink) commentsOf(t *testing.T, table string) string {
	t.Helper()
	var all []string
	for _, r := range s.texts(t, 3, "SELECT table, name, comment FROM system.columns WHERE database = %s AND "+
		"table = %s", quoteText(s.opts.Database), quoteText(table)) {
		all = append(all, r[1]+": "+r[2])
	}
	return strings.Join(all, "\n")
}

func (s *Sink) read(t *testing.T, view string, columns ...string) (rows [][]string) {
	t.Helper()
	err := ReaderOf(s).Rows(t.Context(), view, columns, func(row []string) error {
		rows = append(rows, slices.Clone(row))
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", view, err)
	}
	return rows
}

// TestLevels is Levels on the engine.
func TestLevels(t *testing.T) { Levels(t, engineOptions(t)) }

// Levels: the tables change with the first plan of a level and not before, whoever writes it and however often; rows
// that are older say what is true of them; a sink that writes plans of the level before goes on beside it.
func Levels(t *testing.T, opts Options) {
	opts.layouts = wider
	a := openEngine(t, opts)
	b := openAt(t, opts)
	m := newModel(rand.New(rand.NewPCG(3, 1)), 2)
	old := m.advance(0, 1)
	a.write(t, old)
	for _, table := range newest().stored {
		var want []string
		for _, c := range declared[level.First].named(table.name).columns {
			want = append(want, c.name+" "+c.typ)
		}
		if got := a.columnsOf(t, table.name); got != strings.Join(want, ", ") {
			t.Errorf("%s has changed without a plan of level 2: %s", table.name, got)
		}
	}
	m.compare(t, ReaderOf(openAt(t, withLayouts(opts, &declared))), "level 1")

	rise := atLevel(m.advance(0, 1), level.Real)
	risen := map[string]bool{}
	for _, r := range rowsOf(rise) {
		risen[r.SessionID] = true
	}
	a.write(t, rise)
	m.risen = true
	fresh := openEngine(t, withDatabase(opts, level.Real))
	if err := fresh.EnsureSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	tables := []string{"session_metrics", "page_analytics", "brand_analytics", sessionsTable, pagesTable, rollupsTable}
	for _, table := range tables {
		got, want := a.columnsOf(t, table), fresh.columnsOf(t, table)
		if got != want || !strings.Contains(want, "test_") {
			t.Errorf("%s after the rise:\n got %s\nmade at the level: %s", table, got, want)
		}
		// A comment says what is true at the level, also in a table that is older.
		if got, want := a.commentsOf(t, table), fresh.commentsOf(t, table); got != want {
			t.Errorf("%s after the rise:\n got %s\nmade at the level: %s", table, got, want)
		}
	}
	seen := map[string]int{}
	for _, r := range a.read(t, "session_metrics", "session_id", "test_count", "test_text", "referrer", "test_few",
		"browser", "test_unknown", "max_scroll_depth", "test_words", "brand") {
		switch {
		case !risen[r[0]]:
			seen["old"]++
			if r[1] != "0" || r[2] != "" || r[4] != "" || r[6] != schema.Null || r[8] != "" {
				t.Fatalf("a row that is older than the columns: %q", r)
			}
		case r[1] != "7" || r[2] != r[3] || r[4] != r[5]:
			t.Fatalf("a new row: %q", r)
		case r[6] == schema.Null && r[8] == "":
			seen["unknown"]++
		case r[6] == r[7] && r[8] == r[9]:
			seen["known"]++
		default:
			t.Fatalf("a new row: %q", r)
		}
	}
	if seen["old"] == 0 || seen["known"] == 0 || seen["unknown"] == 0 {
		t.Errorf("nothing to compare: %v", seen)
	}
	if rows := a.read(t, "page_analytics", "session_id", "test_text", "test_unknown"); len(rows) == 0 {
		t.Error("no pages")
	}
	for _, r := range a.read(t, "brand_analytics", "total_test_sum", "total_ad_clicks") {
		if r[0] != "0" && r[0] != r[1] {
			t.Errorf("a total: %q", r)
		}
	}

	// Another shard is at level 1 still, and another node writes for it: it neither needs the columns nor takes the
	// views back. Then the same node writes at level 2, too.
	const views = "SELECT name, comment FROM system.tables WHERE database = %s AND engine = 'View' ORDER BY name"
	marks := a.texts(t, 2, views, quoteText(opts.Database))
	for _, p := range []*state.Plan{m.advance(1, 1), m.advance(1, 1)} {
		b.write(t, p)
		if err := b.EnsureSchema(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*state.Plan{atLevel(m.advance(1, 1), level.Real), atLevel(m.advance(0, 1), level.Real)} {
		b.write(t, p)
		a.write(t, p) // the ledger has it already
	}
	if got := a.texts(t, 2, views, quoteText(opts.Database)); !slices.EqualFunc(got, marks, slices.Equal) {
		t.Errorf("the views were replaced:\n%q\n%q", got, marks)
	}
	users, visitors := map[string]map[uint64]bool{}, map[string]int{}
	for _, r := range m.all() { // rows of both levels
		date := schema.DateText(schema.Day(r.Start))
		if users[date] == nil {
			users[date] = map[uint64]bool{}
		}
		if r.UserID == 0 {
			visitors[date]++
		} else {
			users[date][r.UserID] = true
		}
	}
	unknown := 0
	for _, r := range a.read(t, "session_summary", "date", "total_users", "total_visitors") {
		known, all := fmt.Sprint(len(users[r[0]])), fmt.Sprint(len(users[r[0]])+visitors[r[0]])
		if unknown += visitors[r[0]]; r[1] != known || r[2] != all {
			t.Errorf("users and visitors %q, want %s and %s", r, known, all)
		}
	}
	if unknown == 0 {
		t.Error("no session without a user")
	}
	m.compare(t, ReaderOf(openAt(t, withLayouts(opts, &declared))), "level 2, the columns of level 1")
}

func (y *layout) named(name string) *table {
	return y.stored[slices.IndexFunc(y.stored, func(t *table) bool { return t.name == name })]
}

func withLayouts(opts Options, y *layouts) Options {
	opts.layouts = y
	return opts
}

func withDatabase(opts Options, l level.Level) Options {
	opts.Database, opts.Level = opts.Database+"_new", l
	return opts
}

// TestLaterLevels is LaterLevels on the engine.
func TestLaterLevels(t *testing.T) { LaterLevels(t, engineOptions(t)) }

// LaterLevels: what an operator or a newer version has put there is not overwritten, and a column that is missing is
// added by the insert that meets it.
func LaterLevels(t *testing.T, opts Options) {
	opts.layouts = wider
	s := openEngine(t, opts)
	m := newModel(rand.New(rand.NewPCG(4, 1)), 1)
	s.write(t, m.advance(0, 1))

	// A version of tomorrow has made this view.
	v := wider[level.Real].views(opts.Database)[0]
	v.level = 9
	s.mustExec(t, "%s", v.ddl(replace, opts.Database))
	// The sink believes that the columns are there: the tables come from a backup.
	s.level.Store(uint32(level.Real))
	s.ensured.Store(uint32(level.Real))
	p := atLevel(m.advance(0, 1), level.Real)
	m.risen = true
	if err := s.Write(t.Context(), p); err == nil || classify(err) != classSchema {
		t.Errorf("an insert without its columns: %v", err)
	}
	s.write(t, p)
	m.compare(t, ReaderOf(openAt(t, withLayouts(opts, &declared))), "again")
	if got := s.texts(t, 1, "SELECT comment FROM system.tables WHERE database = %s AND name = %s",
		quoteText(opts.Database), quoteText(v.name)); got[0][0] != v.mark() {
		t.Errorf("a view of level 9 was replaced: %s", got)
	}
}

// TestForeignColumn is ForeignColumn on the engine.
func TestForeignColumn(t *testing.T) { ForeignColumn(t, engineOptions(t)) }

// ForeignColumn: an operator has added a column whose name a later level uses. It disturbs nobody before that level,
// and then the plans of that level alone.
func ForeignColumn(t *testing.T, opts Options) {
	opts.layouts = wider
	s := openEngine(t, opts)
	m := newModel(rand.New(rand.NewPCG(5, 1)), 2)
	s.write(t, m.advance(0, 1))
	s.mustExec(t, "ALTER TABLE %s ADD COLUMN test_count String", s.table(sessionsTable))
	s.ensured.Store(0)
	s.write(t, m.advance(0, 1))
	var stop *sinks.StopError
	err := s.Write(t.Context(), atLevel(m.advance(0, 1), level.Real))
	if !errors.As(err, &stop) || !strings.Contains(stop.Hint, "RENAME COLUMN `test_count`") {
		t.Errorf("got %v", err)
	}
	s.write(t, m.advance(1, 1))
}

func TestAlter(t *testing.T) {
	y := wider[level.Real]
	got := y.rollups.alter("a", []column{y.rollups.columns[slices.IndexFunc(y.rollups.columns, func(c column) bool {
		return c.name == "test_sum"
	})]})
	want := "ALTER TABLE `a`.`rollup_versions`\n" +
		"    ADD COLUMN IF NOT EXISTS `test_sum` Int64 COMMENT 'A sum' AFTER `ad_clicks`"
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for mark, want := range map[string]level.Level{"": 1, "x [deckle 0123456789abcdef]": 1,
		"x [deckle level 2 0123456789abcdef]": 2, "x [deckle level 12 0123456789abcdef]": 12,
		"x [deckle level 99999999999 0123456789abcdef]": 1<<32 - 1} {
		if got := levelOf(mark); got != want {
			t.Errorf("%q is of level %d, want %d", mark, got, want)
		}
	}
	// Level 3 changes nothing in the tables, so its views are those of level 2 and stay.
	for l, want := range map[level.Level]level.Level{1: 1, 2: 2, 3: 2} {
		for _, v := range wider[l].views("a") {
			if got := levelOf(v.mark()); got != want {
				t.Errorf("%s is marked with level %d, want %d", v.name, got, want)
			}
		}
	}
	row := testRow()
	if text, err := y.rowJSON(&row); err != nil || !strings.Contains(string(text), `,"test_unknown":null,`) ||
		!strings.Contains(string(text), fmt.Sprintf(`"test_text":%q`, row.Referrer)) {
		t.Errorf("%s, %v", text, err)
	}
}
