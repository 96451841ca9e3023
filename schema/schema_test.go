package schema

import (
	"reflect"
	"slices"
	"testing"

	"deckle/event"
	"deckle/schema/level"
)

// notOptional are the texts of an event that have no optional column of their own name.
var notOptional = []string{"SessionID", "EventID", "UserKey", "TypeName"}

// TestFields reads and writes each column of sessions through its declaration: no two columns share a place, and every
// field of the row is a column, except those that the test names.
func TestFields(t *testing.T) {
	var r SessionRow
	for i := range Sessions {
		c := &Sessions[i]
		if c.Known != nil {
			c.Known.SetNumber(&r, 1)
		}
		switch {
		case c.Kind == StatusName:
			c.SetText(&r, "closed")
		case c.Kind.IsText():
			c.SetText(&r, c.Name)
		default:
			c.SetNumber(&r, uint64(i+1))
		}
	}
	for i := range Sessions {
		c := &Sessions[i]
		switch {
		case c.Kind == StatusName:
			if c.Text(&r) != "closed" || c.Number(&r) != uint64(StatusClosed) {
				t.Errorf("status %s, %d", c.Text(&r), c.Number(&r))
			}
		case c.Kind.IsText():
			if c.Text(&r) != c.Name {
				t.Errorf("%s is %q", c.Name, c.Text(&r))
			}
		case c.Name == "session_duration_sec":
			if c.Number(&r) != uint64(r.End-r.Start) {
				t.Errorf("duration %d", c.Number(&r))
			}
		default:
			if c.Number(&r) != uint64(i+1) {
				t.Errorf("%s is %d, want %d", c.Name, c.Number(&r), i+1)
			}
		}
	}
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).IsZero() != slices.Contains([]string{"Epoch", "FirstClosed", "Stands", "Pages"}, name) {
			t.Errorf("the field %s is no column", name)
		}
	}
	if n := testing.AllocsPerRun(10, func() {
		for i := range Sessions {
			if c := &Sessions[i]; c.Kind.IsText() {
				_ = c.Text(&r)
			} else {
				_ = c.Number(&r)
			}
		}
	}); n > 0 {
		t.Errorf("reading a row allocates %v times", n)
	}
}

// TestEvents: every text of an event is a column of events; every text of a session's first event is one as well, and a
// batch carries it; every type that counts has a column, and a type whose measure is summed has one sum.
func TestEvents(t *testing.T) {
	var it event.Item
	for i := range Events {
		if c := &Events[i]; c.Optional && !Later(c.Since) { // a user_key must fit its user_id
			c.SetText(&it, c.Name)
		}
	}
	v := reflect.ValueOf(it.Event)
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String && f.IsZero() &&
			!slices.Contains(notOptional, v.Type().Field(i).Name) {
			t.Errorf("the text %s of an event is no column of events: schema/event.go", v.Type().Field(i).Name)
		}
	}
	it.SessionID, it.Type, it.Partition = "s", event.ArticleView, 1
	b := event.Batch{Ranges: []event.Range{{Partition: 1, To: 1, LeaderEpoch: -1}}, Items: []event.Item{it}}
	var back event.Batch
	if err := event.DecodeBatch(event.AppendBatch(nil, &b, level.Current), &back, new(event.BatchScratch)); err != nil {
		t.Fatal(err)
	}
	for _, c := range FirstTexts {
		if e := Named(Events, c.Name); e == nil {
			t.Errorf("%s is no text of an event: schema/event.go", c.Name)
		} else if e.Text(&back.Items[0]) != c.Name {
			t.Errorf("a batch does not carry %s: event/format.go", c.Name)
		}
	}
	var decoded event.Event
	for i := range Events {
		if c := &Events[i]; c.Optional && c.Kind != JSON && !Later(c.Since) {
			value := []byte(`{"event_id":"00000000-0000-0000-0000-000000000001","session_id":"s","user_id":1,` +
				`"event_type":"search","timestamp":1700000000,"` + c.Name + `":"x"}`)
			reason, detail := new(event.Decoder).Decode(value, 1_700_000_000_000, &decoded)
			if reason != event.ReasonNone {
				t.Fatal(reason, detail)
			}
			if got := c.Text(&event.Item{Event: decoded}); got != "x" {
				t.Errorf("the decoder does not know the field %s: event/event.go", c.Name)
			}
		}
	}
	columns := map[event.Type]int{}
	for _, c := range EventCounts {
		columns[c.Source.Type]++
	}
	for _, typ := range event.Counted {
		if columns[typ] != 1 {
			t.Errorf("%d columns count %s: schema/session.go", columns[typ], typ)
		}
		delete(columns, typ)
	}
	for typ := range columns {
		t.Errorf("a column counts %s, which does not count", typ)
	}
	sums := map[event.Type]bool{}
	for _, c := range MeasureSums {
		if sums[c.Source.Type] {
			t.Errorf("two sums of the measure of %s", c.Source.Type)
		}
		sums[c.Source.Type] = true
	}
	for _, typ := range event.Measured() {
		if !sums[typ] {
			t.Errorf("nothing sums the measure of %s: schema/session.go", typ)
		}
		delete(sums, typ)
	}
	for typ := range sums {
		t.Errorf("a column sums the measure of %s, which has none: event/measure.go", typ)
	}
}

func TestRollups(t *testing.T) {
	for i := range Rollups {
		for _, d := range Rollups[i].Dims {
			if c := Named(Sessions, d); c == nil || c.Source.From != FirstText {
				t.Errorf("%s: %s is no text of the first event", Rollups[i].Name, d)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	if shard, epoch := SplitBatchID(BatchID(7, 1<<39)); shard != 7 || epoch != 1<<39 {
		t.Errorf("shard %d, epoch %d", shard, epoch)
	}
	for _, unix := range []int64{-1, 0, 86_399, 86_400, -86_400, -86_401} {
		day := Day(unix)
		if from := DayTime(day).Unix(); unix < from || unix >= from+86_400 {
			t.Errorf("%d is not on day %d", unix, day)
		}
		if back, err := ParseDate(DateText(day)); err != nil || back != day {
			t.Errorf("%d is read as %d, %v", day, back, err)
		}
	}
}

// TestLevels: what a level adds stands behind everything of the levels before, because the tables of a level are the
// beginning of the lists (H4). The values of the levels that were released are known here: v0.1.0 compares its tables
// column by column, and stops at one that it does not know.
func TestLevels(t *testing.T) {
	all := All()
	ascend := func(what string, n int, since func(int) level.Level) {
		for i := 1; i < n; i++ {
			if since(i) < since(i-1) {
				t.Errorf("%s: number %d is of level %d, the one before it of level %d", what, i, since(i), since(i-1))
			}
		}
		if n > 0 && since(n-1) > level.Current {
			t.Errorf("%s: level %d is not one of this binary's", what, since(n-1))
		}
	}
	ascend("sessions", len(all.Sessions), func(i int) level.Level { return all.Sessions[i].Since })
	ascend("pages", len(all.Pages), func(i int) level.Level { return all.Pages[i].Since })
	ascend("events", len(all.Events), func(i int) level.Level { return all.Events[i].Since })
	ascend("measures", len(all.Measures), func(i int) level.Level { return all.Measures[i].Since })
	first := all.UpTo(level.First)
	if got := [...]int{len(first.Sessions), len(first.Pages), len(first.Events), len(first.Measures)}; got !=
		[...]int{41, 9, 26, 7} {
		t.Errorf("the tables of level 1 have %v columns", got)
	}
	now := all.UpTo(level.Current)
	if len(now.Sessions) != len(all.Sessions) || len(now.Pages) != len(all.Pages) ||
		len(now.Events) != len(all.Events) || len(now.Measures) != len(all.Measures) {
		t.Error("the newest level does not have everything")
	}
	for i := range all.Sessions {
		if c := &all.Sessions[i]; c.Known != nil && !Later(c.Since) {
			t.Errorf("%s: every row has had a value since level 1", c.Name)
		}
	}
}

// TestUpTo takes the beginning of a list, and nothing can be appended over what follows.
func TestUpTo(t *testing.T) {
	s := Set{Measures: []Measure{{Name: "a"}, {Name: "b", Since: level.First}, {Name: "c", Since: level.Real}}}
	for l, want := range map[level.Level]int{level.First: 2, level.Real: 3, level.Real + 1: 3} {
		if got := s.UpTo(l).Measures; len(got) != want || cap(got) != want {
			t.Errorf("level %d: %d measures, room for %d, want %d", l, len(got), cap(got), want)
		}
	}
}

// TestKnown: a value that nobody knows is no 0.
func TestKnown(t *testing.T) {
	type row struct {
		Progress uint8
		Known    bool
	}
	known := At(func(r *row) *bool { return &r.Known })
	c := Column[row]{Name: "progress", Kind: Uint8, Since: level.Real, Known: &known,
		Field: At(func(r *row) *uint8 { return &r.Progress })}
	r := row{}
	if c.Has(&r) || c.String(&r) != Null {
		t.Errorf("unknown is %q", c.String(&r))
	}
	c.Known.SetNumber(&r, 1)
	if !c.Has(&r) || c.String(&r) != "0" || !r.Known {
		t.Errorf("0 is %q, %+v", c.String(&r), r)
	}
}
