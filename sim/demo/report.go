package demo

import (
	"encoding/json"
	"fmt"
	"io"

	"deckle/sim/verify"
)

// Report is what a demo ends with.
type Report struct {
	ProducedEvents     int64  `json:"produced_events"`   // records in the topic
	ProducedSessions   int64  `json:"produced_sessions"` // sessions that must have a row
	AppliedEvents      int64  `json:"applied_events"`    // counted events and session_ends
	Duplicates         int64  `json:"duplicates"`
	DeadLetters        int64  `json:"dead_letters"`
	Excluded           int64  `json:"excluded"`
	DeltaEvents        int64  `json:"delta_events"`
	DeltaSessions      int64  `json:"delta_sessions"`
	ClickHouseSessions *int64 `json:"clickhouse_sessions"` // null without ClickHouse
	Equal              bool   `json:"equal"`
	// EventsPerSecond is records by the time from the first one produced to the last one applied.
	EventsPerSecond float64 `json:"events_per_second"`
	// P99VisibleMS is from produce to readable in Delta's events, of the worst shard; null if nothing was measured.
	P99VisibleMS           *float64 `json:"p99_visible_ms"`
	P99VisibleClickHouseMS *float64 `json:"p99_visible_clickhouse_ms"`

	Nodes        int                 `json:"nodes"`
	Shards       int                 `json:"shards"`
	Seed         uint64              `json:"seed"`
	Dir          string              `json:"dir"`
	DrainSeconds float64             `json:"drain_seconds"`
	Remaining    string              `json:"remaining,omitempty"` // what the drain has left undone
	Checks       []Check             `json:"checks"`
	Differences  []verify.Difference `json:"differences"` // the first of them
}

// Check is one line of the reconciliation.
type Check struct {
	What  string `json:"what"`
	Truth int64  `json:"truth"`
	Found int64  `json:"found"`
	// Differences counts rows and values that differ; 0 with Truth and Found alike means equal.
	Differences int64 `json:"differences"`
}

// Equal says whether the line agrees.
func (c Check) Equal() bool { return c.Truth == c.Found && c.Differences == 0 }

// maxDifferences is how many differences of a table, or of a node's state, a report names; all are counted.
const maxDifferences = 20

// findings collects checks and differences.
type findings struct {
	checks      []Check
	differences []verify.Difference
	named       map[string]int // by table
}

// check adds a line; found differences of it are given by differ.
func (f *findings) check(what string, truth, found int64, differences int64) {
	f.checks = append(f.checks, Check{what, truth, found, differences})
}

// differ notes a difference; only the first ones are kept.
func (f *findings) differ(d verify.Difference) {
	if f.named == nil {
		f.named = map[string]int{}
	}
	if f.named[d.Table]++; f.named[d.Table] <= maxDifferences {
		f.differences = append(f.differences, d)
	}
}

func (f *findings) equal() bool {
	for _, c := range f.checks {
		if !c.Equal() {
			return false
		}
	}
	return len(f.checks) > 0 && len(f.differences) == 0
}

// Table writes the report for people.
func (r *Report) Table(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%-46s %12s %12s\n", "", "truth", "found"); err != nil {
		return err
	}
	for _, c := range r.Checks {
		verdict := "equal"
		if !c.Equal() {
			verdict = fmt.Sprintf("NOT EQUAL, %s differ", count(max(1, c.Differences)))
		}
		fmt.Fprintf(w, "%-46s %12s %12s  %s\n", c.What, count(c.Truth), count(c.Found), verdict)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(w, "  %s\n", d)
	}
	if r.Remaining != "" {
		fmt.Fprintf(w, "The drain did not come to its end: %s.\n", r.Remaining)
	}
	fmt.Fprintf(w, "%s records = %s applied + %s duplicates + %s dead letters + %s excluded; %s events per second",
		count(r.ProducedEvents), count(r.AppliedEvents), count(r.Duplicates), count(r.DeadLetters), count(r.Excluded),
		count(int64(r.EventsPerSecond)))
	if r.P99VisibleMS != nil {
		fmt.Fprintf(w, ".\np99 from produce to readable in Delta %s", duration(*r.P99VisibleMS))
	}
	if r.P99VisibleClickHouseMS != nil {
		fmt.Fprintf(w, ", in ClickHouse %s", duration(*r.P99VisibleClickHouseMS))
	}
	verdict := "All is equal."
	if !r.Equal {
		verdict = "NOT EQUAL."
	}
	_, err := fmt.Fprintf(w, ".\n%s Everything of this run: %s\n", verdict, r.Dir)
	return err
}

// JSON writes the report as one line.
func (r *Report) JSON(w io.Writer) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("demo: report: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
