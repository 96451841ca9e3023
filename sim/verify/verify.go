package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"deckle/sim"
)

// Reader reads the tables of one sink by name.
type Reader interface {
	// Count returns how many rows the table shows; it should be cheap, because it is called again and again while
	// waiting.
	Count(ctx context.Context, table string) (int64, error)
	// Rows calls yield for every row that a plain SELECT shows, in any order, in the form that the kind of the table
	// has. A row is valid only during the call.
	Rows(ctx context.Context, table string, yield func(row []string) error) error
}

// Kind is the shape of a table's rows; see the package comment.
type Kind uint8

// The kinds of tables.
const (
	Events Kind = iota
	Sessions
	Pages
	Rollups // Table.View says which
	Letters
)

// Table is one table to be compared.
type Table struct {
	Name   string // in the report
	Kind   Kind
	View   string // of Rollups: session_summary, brand_analytics, …
	Source string // name in the Reader; default Name
	Reader Reader
	// Deleted are the sessions, by id, whose rows others have deleted from this table of Sessions: they must not be
	// there.
	Deleted map[string]bool
}

// Names of the tables that Options.Delta and Options.ClickHouse stand for, in the report.
const (
	DeltaEvents        = "delta.events"
	DeltaSessions      = "delta.sessions"
	ClickHouseSessions = "clickhouse.session_metrics"
	ClickHousePages    = "clickhouse.page_analytics"
	clickHousePrefix   = "clickhouse."
)

// Options say what is compared with what.
type Options struct {
	// Truth are the truths that together describe the whole topic, at least one.
	Truth []sim.Source
	// Delta has the tables events and sessions; nil if there is none.
	Delta Reader
	// NoEvents says that Delta keeps no raw events.
	NoEvents bool
	// Deleted is Table.Deleted of Delta's sessions.
	Deleted map[string]bool
	// ClickHouse has session_metrics, page_analytics and the five rollup views; nil if there is none.
	ClickHouse Reader
	// More tables, such as replicas of the state or the dead letter queue.
	More []Table

	// Wait is how long the tables are followed until they are equal; 0: they are compared once.
	Wait time.Duration
	// Quiet ends the wait early, when nothing has changed for this long. Default 90 s, because a revision may take a
	// minute.
	Quiet time.Duration
	// Poll is the pause between two looks; default 1 s.
	Poll time.Duration
	// Limit is how many differences of each table are listed; default 100.
	Limit int
	// Progress, if set, is called to report what is going on.
	Progress func(Progress)
}

// Progress is one look at the tables.
type Progress struct {
	Waited time.Duration
	// Phase is "truth", "waiting" or "comparing".
	Phase string
	// Rows and Want are the rows of each table as of the last count.
	Rows, Want map[string]int64
}

// ErrInexact says that nothing can be compared with a truth, because it does not know whether some records were
// delivered.
var ErrInexact = errors.New("verify: the truth is not exact")

func (o Options) tables() []Table {
	var ts []Table
	if o.Delta != nil {
		if !o.NoEvents {
			ts = append(ts, Table{Name: DeltaEvents, Source: "events", Kind: Events, Reader: o.Delta})
		}
		ts = append(ts, Table{Name: DeltaSessions, Source: "sessions", Kind: Sessions, Reader: o.Delta,
			Deleted: o.Deleted})
	}
	if o.ClickHouse != nil {
		ts = append(ts,
			Table{Name: ClickHouseSessions, Source: "session_metrics", Kind: Sessions, Reader: o.ClickHouse},
			Table{Name: ClickHousePages, Source: "page_analytics", Kind: Pages, Reader: o.ClickHouse})
		for _, v := range sim.Rollups {
			ts = append(ts, Table{Name: clickHousePrefix + v.Name, Source: v.Name, Kind: Rollups, View: v.Name,
				Reader: o.ClickHouse})
		}
	}
	for _, t := range o.More {
		if t.Source == "" {
			t.Source = t.Name
		}
		ts = append(ts, t)
	}
	return ts
}

// Verify compares the tables with the truth. It returns an error if it could not compare: the truth cannot be used, a
// reader fails, or ctx ends. Tables that differ are no error: Report.Equal says so. If ctx ends it returns the last
// report, if there is one.
func Verify(ctx context.Context, o Options) (*Report, error) {
	if o.Limit <= 0 {
		o.Limit = 100
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.Quiet <= 0 {
		o.Quiet = 90 * time.Second
	}
	v := &verifier{o: o, tables: o.tables(), began: time.Now(), rows: map[string]int64{}, want: map[string]int64{}}
	v.progress("truth")
	x, err := indexTruth(o.Truth)
	if err != nil {
		return nil, err
	}
	v.x = x
	for _, t := range v.tables {
		if v.want[t.Name], err = x.want(t); err != nil {
			return nil, err
		}
	}
	return v.follow(ctx)
}

type verifier struct {
	o      Options
	tables []Table
	x      *index
	began  time.Time

	rows, want map[string]int64
}

// follow compares until everything is equal, the time is over, or nothing has changed for long enough.
func (v *verifier) follow(ctx context.Context) (*Report, error) {
	var seen uint64
	still := time.Now() // since when nothing has changed
	for {
		// Counting is cheap and comparing is not. So it only counts as long as rows are missing and the counts change.
		for {
			moved, reached, err := v.count(ctx)
			if err != nil {
				return nil, err
			}
			v.progress("waiting")
			if moved {
				still = time.Now()
			}
			if reached || v.over(still) {
				break
			}
			if err := sim.Pause(ctx, v.o.Poll); err != nil {
				return nil, err
			}
		}
		v.progress("comparing")
		began := time.Now()
		r, content, err := v.compare(ctx)
		if err != nil {
			return nil, err
		}
		if content != seen {
			still = began
		}
		seen = content
		if r.Equal || v.over(still) {
			return r, nil
		}
		if err := sim.Pause(ctx, max(v.o.Poll, time.Since(began))); err != nil {
			return r, err
		}
	}
}

func (v *verifier) over(still time.Time) bool {
	return time.Since(v.began) >= v.o.Wait || time.Since(still) >= v.o.Quiet
}

// count asks every table for its number of rows: whether any number has changed, and whether all have reached what
// they must become.
func (v *verifier) count(ctx context.Context) (moved, reached bool, err error) {
	reached = true
	for _, t := range v.tables {
		n, err := t.Reader.Count(ctx, t.Source)
		if err != nil {
			return false, false, fmt.Errorf("verify: count %s: %w", t.Name, err)
		}
		moved = moved || n != v.rows[t.Name]
		v.rows[t.Name] = n
		g, err := gapsOf(ctx, t)
		if err != nil {
			return false, false, fmt.Errorf("verify: gaps of %s: %w", t.Name, err)
		}
		reached = reached && n >= v.want[t.Name]-g.offsets()
	}
	return moved, reached, nil
}

func (v *verifier) progress(phase string) {
	if v.o.Progress == nil {
		return
	}
	p := Progress{Waited: time.Since(v.began), Phase: phase, Rows: map[string]int64{}, Want: map[string]int64{}}
	maps.Copy(p.Rows, v.rows)
	maps.Copy(p.Want, v.want)
	v.o.Progress(p)
}

// compare looks at every table once. content is a hash of all that was read.
func (v *verifier) compare(ctx context.Context) (r *Report, content uint64, err error) {
	s := &v.x.sum
	r = &Report{
		ProducedEvents: s.Produced, ProducedSessions: s.Sessions, AppliedEvents: s.Applied, Duplicates: s.Duplicates,
		DeadLetters: s.Dead(), DeadLettersByReason: s.DeadLetters, Tables: map[string]TableReport{},
		Differences: []Difference{},
	}
	equal := true
	if sum := s.Applied + s.Duplicates + s.Excluded + s.Suppressed + s.Dead(); s.Produced != sum {
		equal = false
		r.Differences = append(r.Differences, Difference{Table: "truth", Kind: Sum, Key: "produced",
			Want: fmt.Sprint(sum), Got: fmt.Sprint(s.Produced)})
	}
	for _, t := range v.tables {
		res, err := v.x.compare(ctx, t, v.o.Truth, v.o.Limit)
		if err != nil {
			return nil, 0, fmt.Errorf("verify: %s: %w", t.Name, err)
		}
		v.rows[t.Name] = res.rows
		content = content*1099511628211 + res.content
		r.Tables[t.Name] = TableReport{Rows: res.rows, Want: v.want[t.Name], Different: res.different,
			GivenUp: res.givenUp, Gaps: res.gaps}
		r.Differences = append(r.Differences, res.diffs...)
		r.More += res.more
		equal = equal && res.different == 0 && len(res.diffs) == 0
		switch t.Name {
		case DeltaEvents:
			r.DeltaEvents = &res.rows
		case DeltaSessions:
			r.DeltaSessions = &res.rows
		case ClickHouseSessions:
			r.ClickHouseSessions = &res.rows
		}
	}
	r.Equal = equal && len(v.tables) > 0
	r.Waited = time.Since(v.began).Seconds()
	return r, content, nil
}
