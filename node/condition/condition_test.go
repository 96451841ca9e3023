package condition

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// clock is a clock that a test moves.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time { return c.at }

// lines returns a logger, and what it has written so far, one line each without time.
func lines() (*slog.Logger, func() []string) {
	var b bytes.Buffer
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "todo" {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(h), func() []string {
		return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	}
}

// An outage of an hour with a retry each second is two lines of the log: a beginning and an end. What changes in
// between is the text, never the time at which it began.
func TestBeginsAndEndsOnce(t *testing.T) {
	c := newClock()
	log, written := lines()
	r := New("a", c.now, log)
	began := c.at
	r.Clear(SinkFailing, "events of shard 0") // does not hold: no line
	for i := range 3600 {
		r.Set(SinkFailing, "events of shard 0", 0, fmt.Sprint("attempt ", i), "")
		c.at = c.at.Add(time.Second)
	}
	got := r.Snapshot()
	want := Condition{SinkFailing, Failing, "a", "events of shard 0", began, "attempt 3599", Of(SinkFailing).Todo}
	if len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	r.Clear(SinkFailing, "events of shard 0")
	r.Clear(SinkFailing, "events of shard 0")
	if got := r.Snapshot(); len(got) != 0 {
		t.Errorf("after its end: %+v", got)
	}
	wantLog := []string{
		`level=WARN msg="condition begins" id=sink-failing severity=failing subject="events of shard 0" ` +
			`text="attempt 0"`,
		`level=INFO msg="condition ends" id=sink-failing severity=failing subject="events of shard 0" ` +
			`text="attempt 3599" seconds=3600`,
	}
	if !slices.Equal(written(), wantLog) {
		t.Errorf("log:\n%s\nwant:\n%s", strings.Join(written(), "\n"), strings.Join(wantLog, "\n"))
	}
	r.Set(SinkFailing, "events of shard 0", 0, "again", "")
	if got := r.Snapshot(); got[0].Since != c.at {
		t.Errorf("a new beginning has the old time: %+v", got)
	}
}

// Each time the leader of a partition becomes another one, it cannot be read for some seconds. That is nothing that
// somebody has to know, in no list and in no log, until it has lasted; then it says since when it has. Who retries it,
// and the status of its shard, know it at once.
func TestWhatMustLast(t *testing.T) {
	const short = FailingLasts - time.Second
	for _, id := range []ID{SourceFailing, PartitionFailing} {
		c := newClock()
		log, written := lines()
		r := New("a", c.now, log)
		reg := prometheus.NewRegistry()
		reg.MustRegister(r)
		s := r.Scope()
		shown := func() bool {
			listed := len(r.Snapshot()) == 1
			none := fmt.Sprintf(`{id="%s",severity="failing"} 0`, id)
			if in := !strings.Contains(exposition(t, reg), none); in != listed {
				t.Errorf("%s: listed %v, in the metrics %v", id, listed, in)
			}
			return listed
		}
		known := func() bool {
			_, ok := s.Get(id, "x")
			if len(s.Snapshot()) == 1 != ok {
				t.Errorf("%s: known %v, in the scope's list %v", id, ok, !ok)
			}
			return ok
		}
		for range 3 { // it passes, again and again: each time counts for itself
			s.Set(id, "x", 0, "moved", "")
			c.at = c.at.Add(short)
			if r.Ripen(); shown() || !known() {
				t.Errorf("%s: shown %v, known %v after %v", id, shown(), known(), short)
			}
			s.Clear(id, "x")
			if known() {
				t.Errorf("%s: known after its end", id)
			}
		}
		s.Set(id, "x", 0, "moved", "")
		s.End("over") // a leadership that ends takes with it what has not begun
		c.at = c.at.Add(time.Hour)
		if r.Ripen(); shown() || written()[0] != "" {
			t.Errorf("%s: shown %v, log %q", id, shown(), written())
		}
		s = r.Scope()
		began := c.at
		s.Set(id, "x", 0, "moved", "")
		c.at = c.at.Add(short)
		s.Set(id, "x", 0, "disk offline", "")
		c.at = c.at.Add(time.Second)
		r.Ripen()
		if got := written(); len(got) != 1 || !strings.Contains(got[0], `"condition begins" id=`+string(id)) ||
			!strings.Contains(got[0], "disk offline") {
			t.Errorf("%s: log %q", id, got)
		}
		if got := r.Snapshot(); len(got) != 1 || got[0].Since != began || got[0].Text != "disk offline" || !shown() ||
			!known() {
			t.Errorf("%s: %+v", id, got)
		}
		s.Clear(id, "x")
		if got := written(); len(got) != 2 || !strings.Contains(got[1], "seconds=20") || shown() || known() {
			t.Errorf("%s: after its end: log %q", id, got)
		}
		// Whoever looks sees it in time, although nobody has said anything since.
		s.Set(id, "x", 0, "moved", "")
		if c.at = c.at.Add(FailingLasts); !shown() {
			t.Errorf("%s: not shown after %v", id, FailingLasts)
		}
	}
	for _, spec := range Table() { // what must last says so
		text := fmt.Sprintf("for %.0f seconds", lasts(spec.ID).Seconds())
		if lasts(spec.ID) > 0 != strings.Contains(spec.Threshold, text) {
			t.Errorf("%s must last for %v: %s", spec.ID, lasts(spec.ID), spec.Threshold)
		}
	}
}

// A severity that changes is news, without being a new beginning: the loss of one more member is not possible any more.
func TestSeverityChanges(t *testing.T) {
	log, written := lines()
	r := New("a", newClock().now, log)
	r.Set(MemberDown, "b", 0, "one more can be lost", "")
	r.Set(MemberDown, "b", Failing, "none can be lost", "call somebody")
	r.Set(MemberDown, "b", Failing, "none can be lost", "call somebody")
	if got := r.Snapshot(); len(got) != 1 || got[0].Severity != Failing || got[0].Todo != "call somebody" {
		t.Errorf("%+v", got)
	}
	if got := written(); len(got) != 2 || !strings.Contains(got[1], `"condition changes"`) ||
		!strings.Contains(got[1], "before=degraded") {
		t.Errorf("log: %q", got)
	}
}

// Same kind, other subject: one list entry each, the gravest and oldest first.
func TestOrderAndSubjects(t *testing.T) {
	c := newClock()
	r := New("a", c.now, slog.New(slog.DiscardHandler))
	for _, s := range []struct {
		id      ID
		subject string
	}{
		{PartitionPaused, "partition 0"}, {SinkBehind, "events of shard 0"}, {PartitionStopped, "partition 2"},
		{PartitionStopped, "partition 1"}, {SourceFailing, "shard 0"},
	} {
		r.Set(s.id, s.subject, 0, "x", "")
		c.at = c.at.Add(time.Second)
	}
	c.at = c.at.Add(FailingLasts)
	var got []string
	for _, c := range r.Snapshot() {
		got = append(got, c.String())
	}
	want := []string{"partition 2 stopped: x", "partition 1 stopped: x", "shard 0 failing: x",
		"events of shard 0 degraded: x", "partition 0 notice: x"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(r)
	const series = `deckle_condition{id="partition-stopped",severity="stopped"} 2`
	if text := exposition(t, reg); !strings.Contains(text, series) || strings.Count(text, "\n") != len(Table()) ||
		!strings.Contains(text, `deckle_condition{id="member-down",severity="degraded"} 0`) {
		t.Errorf("%s", text)
	}
}

func exposition(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			fmt.Fprintf(&b, "%s{%s} %v\n", f.GetName(), strings.Join(labels, ","), m.GetGauge().GetValue())
		}
	}
	return b.String()
}

// The end of a leadership ends what it found, and nothing else; what it says late does not count.
func TestScopeEnds(t *testing.T) {
	log, written := lines()
	r := New("a", newClock().now, log)
	r.Set(DiskHigh, "node", 0, "full", "")
	s := r.Scope()
	s.Set(SinkFailing, "shard 0", 0, "no broker", "")
	s.Keep(PartitionPaused, "partition 0", "ahead")
	s.Keep(PartitionPaused, "partition 1", "ahead")
	s.Keep(PartitionPaused, "partition 1", "")
	s.Clear(DiskHigh, "node") // is not its own
	if got := s.Snapshot(); len(got) != 2 || got[0].ID != SinkFailing {
		t.Errorf("%+v", got)
	}
	if c, ok := s.Get(PartitionPaused, "partition 0"); !ok || c.Text != "ahead" {
		t.Errorf("%+v %v", c, ok)
	}
	s.End("the leadership is over")
	s.Set(SinkFailing, "shard 0", 0, "late", "")
	s.Keep(SinkFailing, "shard 0", "late")
	if got := r.Snapshot(); len(got) != 1 || got[0].ID != DiskHigh {
		t.Errorf("%+v", got)
	}
	if got := strings.Join(written(), "\n"); strings.Count(got, `because="the leadership is over"`) != 2 {
		t.Errorf("log: %s", got)
	}
}

// Many write and read at once; for the race detector. Each begins and ends as often as the other.
func TestConcurrent(t *testing.T) {
	log, written := lines()
	r := New("a", newClock().now, log)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			s := r.Scope()
			for i := range 200 {
				r.Set(SinkFailing, fmt.Sprint("events of shard ", i%3), 0, fmt.Sprint(g, i), "")
				s.Set(PartitionStopped, fmt.Sprint("partition ", g, "-", i%5), 0, "x", "")
				_, _ = r.Snapshot(), s.Snapshot()
				r.Clear(SinkFailing, fmt.Sprint("events of shard ", i%3))
			}
			s.End("done")
		})
	}
	all.Wait()
	if got := r.Snapshot(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	open := map[string]int{}
	for _, l := range written() {
		_, subject, _ := strings.Cut(l, "subject=")
		subject, _, _ = strings.Cut(subject, " text=")
		if strings.Contains(l, "condition begins") {
			open[subject]++
		} else {
			open[subject]--
		}
		if n := open[subject]; n < 0 || n > 1 {
			t.Fatalf("%s begins and ends out of order", subject)
		}
	}
}

// A text is bounded, and stays valid UTF-8: other nodes ask for the list.
func TestTextIsBounded(t *testing.T) {
	r := New("a", newClock().now, slog.New(slog.DiscardHandler))
	r.Set(SinkFailing, "shard 0", 0, "x"+strings.Repeat("ü", maxText), "")
	if got := r.Snapshot()[0].Text; len(got) > maxText+3 || strings.ContainsRune(got, '�') ||
		!strings.HasSuffix(got, "ü…") {
		t.Errorf("%d bytes: …%q", len(got), got[len(got)-8:])
	}
}

// A node may learn of a severity that it does not know from a newer one.
func TestSeverityText(t *testing.T) {
	for _, s := range Severities() {
		text, _ := s.MarshalText()
		var back Severity
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%s is read as %s: %v", s, back, err)
		}
	}
	var s Severity
	if err := s.UnmarshalText([]byte("grave")); err != nil || s != Degraded {
		t.Errorf("%s, %v", s, err)
	}
}

var effects = map[Unready]string{Never: "stays 200", AtOnce: "503 at once", AfterPatience: "503 after 3 intervals"}

// docs/operations.md begins with the table, and has a section for each id; word for word. DECKLE_WRITE_DOCS=1 writes
// both there.
func TestOperationsPage(t *testing.T) {
	var b, runbook strings.Builder
	b.WriteString("| id | severity | concerns | `/readyz` |\n|---|---|---|---|\n")
	runbook.WriteString(runbookHead + "\n")
	seen := map[ID]bool{}
	for _, s := range Table() {
		if s.Severity < Notice || s.Severity > Stopped || s.Subject == "" || s.Threshold == "" || s.Todo == "" ||
			seen[s.ID] || Look(s.ID) == "" {
			t.Errorf("%+v", s)
		}
		seen[s.ID] = true
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %s |\n", s.ID, s.ID, s.Severity, s.Subject, effects[s.Unready])
		fmt.Fprintf(&runbook, "### %s\n\n%s. %s of %s. `/readyz` %s.\n\n- **Look**: %s\n- **Do**: %s\n\n", s.ID,
			strings.ToUpper(s.Threshold[:1])+s.Threshold[1:], strings.ToUpper(s.Severity.String()[:1])+
				s.Severity.String()[1:], s.Subject, effects[s.Unready], Look(s.ID), s.Todo)
	}
	if len(look) != len(seen) {
		t.Errorf("%d ids have a place to look, and %d are in the table", len(look), len(seen))
	}
	const page = "../../docs/operations.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), "| id |")
	_, after, ok2 := strings.Cut("| id |"+rest, "\n\n")
	middle, rest, ok3 := strings.Cut(after, runbookHead)
	_, after, ok4 := strings.Cut(rest, "\n## ")
	if !ok || !ok2 || !ok3 || !ok4 {
		t.Fatalf("%s has no table of conditions, or no %q", page, runbookHead)
	}
	want := before + b.String() + "\n" + middle + runbook.String() + "## " + after
	if want == string(text) {
		return
	}
	if os.Getenv("DECKLE_WRITE_DOCS") != "" {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s differs from the table; DECKLE_WRITE_DOCS=1 go test ./node/condition writes it. Want:\n%s\n%s", page,
		b.String(), runbook.String())
}

const runbookHead = "## Conditions, one by one\n"
