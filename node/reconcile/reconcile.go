package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/kafka"
	"deckle/sinks/delta"
)

// Log reads the topics; kafka.Client is one.
type Log interface {
	Between(ctx context.Context, topic string, from, to time.Time) ([]kafka.Stretch, error)
	ReadStretches(ctx context.Context, topic string, s []kafka.Stretch, yield func(*kgo.Record) error) error
}

// Views reads the views of ClickHouse; clickhouse.Reader is one.
type Views interface {
	Dates(ctx context.Context, from, to int32) ([]int32, error)
	SessionsOf(ctx context.Context, date int32, columns []string, yield func(row []string) error) error
	Rows(ctx context.Context, view string, columns []string, yield func(row []string) error) error
}

// Position is that of a record.
type Position struct {
	Partition int32
	Offset    int64
}

// Options say what is compared.
type Options struct {
	// From and To bound the stretch by Kafka's time. Letters of its records are looked for to the end of their topic.
	From, To time.Time
	Log      Log
	// Topic is that of the records, LettersTopic that of dead letters, and ReviewTopic that of what was decided about
	// them under the same keys, which stays when a letter is purged; "" for none.
	Topic, LettersTopic, ReviewTopic string
	// Decoder judges records by the present rules.
	Decoder *event.Decoder
	// Events and Sessions are the Delta tables, the former opened with bounds; nil: there is none.
	Events, Sessions *delta.Table
	// ClickHouse reads its views; nil: there is none.
	ClickHouse Views
	// Suppressed, if set, says which of the records at these positions, at most mostAsked, are those of suppressed
	// readers. An error makes a note of the report.
	Suppressed func(ctx context.Context, at []Position) (map[Position]bool, error)
	// Settle is the age from which on a row must be in every table. Default 10 minutes.
	Settle time.Duration
	// Limit is how many findings of each kind are listed. Default 100.
	Limit int
	// Progress, if set, is told what is going on.
	Progress func(text string)
	// Now is the clock; default time.Now. Pause waits between two looks at totals that differ, and must be set.
	Now   func() time.Time
	Pause func(context.Context, time.Duration) error
}

// mostAsked is of how many records at most Options.Suppressed is asked.
const mostAsked = 1000

// mostCandidates bounds the records without row and letter that are kept, some 40 bytes each.
const mostCandidates = 50_000_000

// ErrTooMany says that more records have neither row nor letter than are kept.
var ErrTooMany = errors.New("too many records without a row: take a shorter stretch")

type run struct {
	Options
	report *Report
}

// Compare compares. It returns an error if it could not: Kafka, a table or a letter cannot be read, or ctx ends. What
// differs is no error: Report.Equal says so.
func Compare(ctx context.Context, o Options) (*Report, error) {
	if !o.From.Before(o.To) {
		return nil, fmt.Errorf("reconcile: the stretch begins at %s and ends at %s", o.From.UTC().Format(time.RFC3339),
			o.To.UTC().Format(time.RFC3339))
	}
	o.Limit = cmp.Or(o.Limit, 100)
	o.Settle = cmp.Or(o.Settle, 10*time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	r := &run{Options: o, report: &Report{From: o.From, To: o.To, Found: map[Kind]int64{}, EventsVersion: -1,
		SessionsVersion: -1, Findings: []Finding{}, Partitions: []Partition{}, Dates: []Date{}}}
	letters, err := r.letters(ctx)
	if err != nil {
		return nil, fmt.Errorf("reconcile: dead letters: %w", err)
	}
	if err := r.offsets(ctx, letters); err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	if err := r.sessions(ctx, letters); err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	slices.SortStableFunc(r.report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Partition, b.Partition),
			cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Date, b.Date))
	})
	r.report.Equal = len(r.report.Found) == 0
	return r.report, nil
}

func (r *run) find(f Finding) {
	if r.report.Found[f.Kind]++; r.report.Found[f.Kind] <= int64(r.Limit) {
		r.report.Findings = append(r.report.Findings, f)
	}
}

func (r *run) note(format string, args ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, args...))
}
