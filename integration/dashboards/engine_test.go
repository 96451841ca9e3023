package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// memory is series in memory, which Prometheus's engine reads.
type memory struct{ series map[string]*series }

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

func newMemory() *memory { return &memory{map[string]*series{}} }

// add appends a sample; those of one series come in the order of their times.
func (m *memory) add(l labels.Labels, at time.Time, value float64) {
	s := m.series[l.String()]
	if s == nil {
		s = &series{labels: l}
		m.series[l.String()] = s
	}
	s.samples = append(s.samples, sample{at.UnixMilli(), value})
}

// scrape adds what a node answers at /metrics, with the labels that Prometheus gives it.
func (m *memory) scrape(t *testing.T, text []byte, instance string, at time.Time) {
	t.Helper()
	p, err := textparse.New(text, "text/plain; version=0.0.4", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var l labels.Labels
		p.Labels(&l)
		_, _, value := p.Series()
		b := labels.NewBuilder(l)
		b.Set("instance", instance)
		b.Set("job", "deckle")
		m.add(b.Labels(), at, value)
	}
	m.add(labels.FromStrings("__name__", "up", "instance", instance, "job", "deckle"), at, 1)
}

// write adds series in the notation of promtool, one sample a minute from start on.
func (m *memory) write(t *testing.T, start time.Time, lines ...string) {
	t.Helper()
	for _, line := range lines {
		l, values, err := newParser().ParseSeriesDesc(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for i, v := range values {
			if !v.Omitted {
				m.add(l, start.Add(time.Duration(i)*time.Minute), v.Value)
			}
		}
	}
}

// Querier implements storage.Queryable.
func (m *memory) Querier(from, to int64) (storage.Querier, error) { return &querier{m, from, to}, nil }

type querier struct {
	m        *memory
	from, to int64
}

// Select implements storage.Querier.
func (q *querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	set := &seriesSet{at: -1}
	for _, s := range q.m.series {
		if slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			continue
		}
		var in []chunks.Sample
		for _, x := range s.samples {
			if x.T() >= q.from && x.T() <= q.to {
				in = append(in, x)
			}
		}
		set.list = append(set.list, storage.NewListSeries(s.labels, in))
	}
	slices.SortFunc(set.list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return set
}

// LabelValues implements storage.Querier.
func (q *querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string,
	annotations.Annotations, error) {
	return nil, nil, errors.New("not needed")
}

// LabelNames implements storage.Querier.
func (q *querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string,
	annotations.Annotations, error) {
	return nil, nil, errors.New("not needed")
}

// Close implements storage.Querier.
func (q *querier) Close() error { return nil }

type seriesSet struct {
	list []storage.Series
	at   int
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at < len(s.list) }
func (s *seriesSet) At() storage.Series                { return s.list[s.at] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// sample is one value at a time in milliseconds.
type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                      { return s.at }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.value }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

// newEngine is Prometheus's engine, with its defaults.
func newEngine(t *testing.T) *promql.Engine {
	e := promql.NewEngine(promql.EngineOpts{Logger: slog.New(slog.DiscardHandler), MaxSamples: 5e6,
		Timeout: time.Minute, LookbackDelta: 5 * time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
		Parser: newParser()})
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// evaluate returns how many series an expression has at a time.
func evaluate(t *testing.T, e *promql.Engine, m *memory, query string, at time.Time) promql.Vector {
	t.Helper()
	q, err := e.NewInstantQuery(t.Context(), m, nil, query, at)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return slices.Clone(v)
}
