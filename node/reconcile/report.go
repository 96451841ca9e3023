package reconcile

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is what a comparison has come to.
type Report struct {
	From time.Time `json:"from"` // of the stretch, Kafka's time
	To   time.Time `json:"to"`   // exclusive
	// Equal says that nothing was found. What could not be judged does not count.
	Equal bool `json:"equal"`
	// EventsVersion and SessionsVersion are the versions of the Delta tables that were read; -1: there is no table.
	EventsVersion   int64       `json:"events_version"`
	SessionsVersion int64       `json:"sessions_version"`
	Partitions      []Partition `json:"partitions"`
	Dates           []Date      `json:"dates"`
	// Findings are ascending by partition and offset, then by date: up to Options.Limit of each kind.
	Findings []Finding `json:"findings"`
	// Found counts findings by kind, those that are not listed included.
	Found map[Kind]int64 `json:"found"`
	// Notes say what was not compared, and why.
	Notes []string `json:"notes,omitempty"`
}

// Partition accounts for the offsets [From, To) of a partition.
type Partition struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
	// Rows to NotChecked are the offsets by what became of them; with Missing they add up to To − From.
	Rows       int64            `json:"rows"` // in table events
	Letters    int64            `json:"letters"`
	Empty      int64            `json:"empty"`    // records without a value
	LeftOut    map[string]int64 `json:"left_out"` // by the rule that leaves them out
	Suppressed int64            `json:"suppressed"`
	Duplicates int64            `json:"duplicates"`
	GivenUp    int64            `json:"given_up"`    // by an operator
	NoRecord   int64            `json:"no_record"`   // markers of transactions, what was aborted or compacted
	NotChecked int64            `json:"not_checked"` // Kafka has deleted them
	Missing    int64            `json:"missing"`
}

func (p *Partition) leftOut() (n int64) {
	for _, k := range p.LeftOut {
		n += k
	}
	return n
}

// Date compares the sessions of one session_date.
type Date struct {
	Date       string `json:"date"`
	Delta      int64  `json:"delta"`      // rows
	ClickHouse int64  `json:"clickhouse"` // rows, open sessions included
	Open       int64  `json:"open"`       // rows of ClickHouse that are of open sessions, which Delta does not have
	Equal      int64  `json:"equal"`      // rows that are the same in both
	NotJudged  int64  `json:"not_judged"` // rows that have changed too recently
	Refused    int64  `json:"refused"`    // rows that a sink has refused, and that are letters
	Different  int64  `json:"different"`
	// Missing are rows that one table has and the other has not; Doubled those that a table has twice.
	MissingInDelta      int64 `json:"missing_in_delta"`
	MissingInClickHouse int64 `json:"missing_in_clickhouse"`
	Doubled             int64 `json:"doubled"`
	// Totals says whether session_summary agrees with the rows of session_metrics: "equal", "different", "moving" (it
	// changes too fast to be judged), or "" if it was not looked at.
	Totals string `json:"totals"`
}

// Kind is what a finding is about.
type Kind string

// The kinds of findings.
const (
	RowMissing    Kind = "row_missing"    // a record that the rules accept has neither row nor letter
	LetterMissing Kind = "letter_missing" // a record that the rules refuse has neither row nor letter
	RowDoubled    Kind = "row_doubled"    // two rows of events have one offset
	RowUnknown    Kind = "row_unknown"    // a row of events has an offset at which Kafka has no record
	Session       Kind = "session"        // a row of a session differs, or one table lacks it or has it twice
	Totals        Kind = "totals"         // session_summary differs from session_metrics
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind      Kind   `json:"kind"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"` // −1: it is about no offset
	Date      string `json:"date,omitempty"`
	Text      string `json:"text"`
}

// Write writes the report for people.
func (r *Report) Write(w io.Writer) error {
	const layout = "2006-01-02 15:04:05"
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s to %s (UTC, Kafka's time)\n", r.From.UTC().Format(layout), r.To.UTC().Format(layout))
	if len(r.Partitions) > 0 {
		fmt.Fprintf(t, "partition\toffsets\trows\tletters\tduplicates\tleft out\tsuppressed\tempty\tgiven up\t"+
			"no record\tnot checked\tmissing\t\n")
		for i := range r.Partitions {
			p := &r.Partitions[i]
			fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", p.Partition, p.To-p.From, p.Rows,
				p.Letters, p.Duplicates, p.leftOut(), p.Suppressed, p.Empty, p.GivenUp, p.NoRecord, p.NotChecked,
				p.Missing)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(r.Dates) > 0 {
		fmt.Fprintf(t, "session_date\tDelta\tClickHouse\topen\tequal\tnot judged\trefused\tdifferent\t"+
			"missing in Delta\tin ClickHouse\tdoubled\ttotals\t\n")
		for _, d := range r.Dates {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", d.Date, d.Delta, d.ClickHouse, d.Open,
				d.Equal, d.NotJudged, d.Refused, d.Different, d.MissingInDelta, d.MissingInClickHouse, d.Doubled,
				d.Totals)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	listed := map[Kind]int64{}
	for _, f := range r.Findings {
		listed[f.Kind]++
		fmt.Fprintf(w, "%s: %s\n", f.Kind, f.Text)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Found)) {
		if more := r.Found[k] - listed[k]; more > 0 {
			fmt.Fprintf(w, "%s: and %d more\n", k, more)
		}
	}
	verdict := "all is accounted for"
	if !r.Equal {
		verdict = "NOT all is accounted for"
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}
