package verify

import (
	"fmt"
	"io"
	"slices"
)

// Kinds of differences.
const (
	Lost    = "lost"    // a row of the truth that the table does not have
	Doubled = "doubled" // a row that the table has more than once
	Changed = "changed" // a column with another value
	Extra   = "extra"   // a row that does not follow from the truth
	Sum     = "sum"     // a sum or a count of the whole table
	Moving  = "moving"  // the table changed while it was being read
)

// Difference is one value or row that is not as it must be.
type Difference struct {
	Table  string `json:"table"`
	Kind   string `json:"kind"`
	Key    string `json:"key"`    // of the row
	Column string `json:"column"` // "" where the whole row is meant
	Want   string `json:"want"`   // of a column of events often only a hash, since the truth keeps no more
	Got    string `json:"got"`
}

// String is one line to be read by people.
func (d Difference) String() string {
	at := d.Table + " " + d.Key
	if d.Column != "" {
		at += " column " + d.Column
	}
	return fmt.Sprintf("%s: %s: want %s, got %s", at, d.Kind, short(d.Want), short(d.Got))
}

func short(s string) string {
	if s == "" {
		return `""`
	}
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

// TableReport is the result of one table.
type TableReport struct {
	Rows int64 `json:"rows"` // found
	Want int64 `json:"want"` // expected
	// sessions (for rollups and letters: rows) that are not as they must be; 0: the table is equal
	Different int64 `json:"different"`
	// GivenUp is how many of the expected rows are missing because operators have given up their offsets (Gaps): those
	// are no difference.
	GivenUp int64 `json:"given_up,omitempty"`
	Gaps    []Gap `json:"gaps,omitempty"`
}

// Gap is a range of offsets [From, To) that an operator has given up for table events: Kafka could not give their
// records again. Rows of them may be missing, and what is there must be right.
type Gap struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
}

// Report is the result. The JSON keys are the ones of deckle demo --json.
type Report struct {
	ProducedEvents     int64    `json:"produced_events"` // records acknowledged by the broker
	ProducedSessions   int64    `json:"produced_sessions"`
	AppliedEvents      int64    `json:"applied_events"` // rows of events, by the truth: counted events and session_ends
	Duplicates         int64    `json:"duplicates"`     // by the truth
	DeadLetters        int64    `json:"dead_letters"`   // by the truth
	DeltaEvents        *int64   `json:"delta_events"`   // rows found; null if there is no such table
	DeltaSessions      *int64   `json:"delta_sessions"`
	ClickHouseSessions *int64   `json:"clickhouse_sessions"` // null without ClickHouse
	Equal              bool     `json:"equal"`
	EventsPerSecond    float64  `json:"events_per_second"` // filled by the demo
	P99VisibleMS       *float64 `json:"p99_visible_ms"`    // filled by the demo

	DeadLettersByReason map[string]int64       `json:"dead_letters_by_reason"`
	Tables              map[string]TableReport `json:"tables"`
	Differences         []Difference           `json:"differences"`
	// More is how many differences were found and not listed. Only some sessions are looked into; Tables counts all
	// differences.
	More int64 `json:"more_differences"`
	// Waited says for how many seconds the tables were followed.
	Waited float64 `json:"waited_seconds"`
}

// Write prints the report for people to read.
func (r *Report) Write(w io.Writer) error {
	p := &printer{w: w}
	p.f("produced %d = applied %d + duplicates %d + dead letters %d; %d sessions\n",
		r.ProducedEvents, r.AppliedEvents, r.Duplicates, r.DeadLetters, r.ProducedSessions)
	names := make([]string, 0, len(r.Tables))
	for name := range r.Tables {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t := r.Tables[name]
		state := "equal"
		if t.Different > 0 {
			state = fmt.Sprintf("%d DIFFER", t.Different)
		}
		if t.GivenUp > 0 {
			state += fmt.Sprintf(", %d given up by operators", t.GivenUp)
		}
		p.f("  %-36s %10d rows of %10d  %s\n", name, t.Rows, t.Want, state)
		for _, g := range t.Gaps {
			p.f("    given up: partition %d, offsets %d to %d (without it)\n", g.Partition, g.From, g.To)
		}
	}
	for _, d := range r.Differences {
		p.f("  %s\n", d)
	}
	if r.More > 0 {
		p.f("  … and %d more\n", r.More)
	}
	if r.Equal {
		p.f("equal\n")
	} else {
		p.f("NOT EQUAL\n")
	}
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
