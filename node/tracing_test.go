package node

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	collect "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sim/testworld/clickhouse"
	"deckle/sim/testworld/objects"
)

// collected are the spans that a collector was sent.
type collected struct {
	mu      sync.Mutex
	spans   []*otlp.Span
	headers http.Header
	of      map[string]string // attributes of the resource
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	data, err := io.ReadAll(body)
	var req collect.ExportTraceServiceRequest
	if err = errors.Join(err, proto.Unmarshal(data, &req)); err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "no traces", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers, c.of = r.Header.Clone(), map[string]string{}
	for _, rs := range req.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			c.of[a.Key] = a.Value.GetStringValue()
		}
		for _, s := range rs.ScopeSpans {
			c.spans = append(c.spans, s.Spans...)
		}
	}
}

// find returns the first span that fits, with those below it.
func (c *collected) find(fits func(*otlp.Span, []*otlp.Span) bool) (found *otlp.Span, below []*otlp.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if len(s.ParentSpanId) > 0 {
			continue
		}
		below = nil
		for _, b := range c.spans {
			if bytes.Equal(b.ParentSpanId, s.SpanId) && bytes.Equal(b.TraceId, s.TraceId) {
				below = append(below, b)
			}
		}
		if fits(s, below) {
			return s, below
		}
	}
	return nil, nil
}

func named(spans []*otlp.Span, name string) (out []*otlp.Span) {
	for _, s := range spans {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

// The trace of a plan begins with its first cut and ends with its acknowledgement, has each attempt to write, and of
// what went wrong the class alone.
func TestTraces(t *testing.T) {
	t.Parallel()
	got := &collected{}
	srv := httptest.NewServer(got)
	t.Cleanup(srv.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := nodetest.NewBroker(t, 1)
	click := clickhouse.New(clickhouse.Options{})
	t.Cleanup(click.Close)
	var refused atomic.Bool
	click.SetHook(func(q clickhouse.Query) clickhouse.Fault {
		if q.Kind == clickhouse.Insert && strings.Contains(q.Table, "session") && !refused.Swap(true) {
			return clickhouse.Fault{Effect: clickhouse.Nothing, Answer: clickhouse.Fail, Code: 242}
		}
		return clickhouse.Fault{}
	})
	c := newCluster(t, b, 1, func(cfg *config.Config) {
		cfg.Delta = &config.Delta{RevisionInterval: 200 * time.Millisecond, Path: "/delta"}
		cfg.ClickHouse = &config.ClickHouse{Address: "clickhouse:9000"}
		cfg.Tracing = &config.Tracing{Endpoint: srv.URL, Token: config.Secret{File: token}}
	})
	c.realSinks = true
	c.adapt = func(d *Deps) { d.DeltaStore, d.ClickHouseDial = objects.NewMem(nil), click.Dial }
	c.start(0)
	b.Produce(nodetest.Record(0, "s1", 0), nodetest.Record(0, "s1", 1))
	nodetest.Until(t, "all is applied", func() bool { return c.sum(applied) == 2 })
	var events, rows *otlp.Span
	var attempts []*otlp.Span
	nodetest.Until(t, "both sinks have a trace", func() bool {
		events, _ = got.find(func(s *otlp.Span, below []*otlp.Span) bool {
			return s.Name == "flush events" && len(named(below, "plan")) == 1 && len(named(below, "write")) == 1 &&
				len(named(below, "ack")) == 1
		})
		rows, attempts = got.find(func(s *otlp.Span, below []*otlp.Span) bool {
			return s.Name == "flush clickhouse" && len(named(below, "write")) >= 2
		})
		return events != nil && rows != nil
	})
	for _, root := range []*otlp.Span{events, rows} {
		for _, s := range attempts {
			if root == rows && (s.StartTimeUnixNano < root.StartTimeUnixNano ||
				s.EndTimeUnixNano > root.EndTimeUnixNano || s.StartTimeUnixNano > s.EndTimeUnixNano) {
				t.Errorf("%s lies outside of %s", s, root)
			}
		}
		has := map[string]bool{}
		for _, a := range root.Attributes {
			has[a.Key] = true
		}
		if !has["deckle.shard"] || !has["deckle.sink"] || !has["deckle.epoch.last"] ||
			root.Status.GetCode() != otlp.Status_STATUS_CODE_UNSET {
			t.Errorf("%s", root)
		}
	}
	writes := named(attempts, "write")
	first, last := writes[0].Status, writes[len(writes)-1].Status
	if first.GetCode() != otlp.Status_STATUS_CODE_ERROR || first.Message != "answer" ||
		last.GetCode() != otlp.Status_STATUS_CODE_UNSET {
		t.Errorf("attempts: %s", writes)
	}
	// The cut comes before the plan.
	plan := named(attempts, "plan")
	if len(plan) != 1 || plan[0].StartTimeUnixNano < rows.StartTimeUnixNano {
		t.Errorf("%s: plan %s", rows, plan)
	}
	c.stop(0)
	got.mu.Lock()
	defer got.mu.Unlock()
	if got.headers.Get("Authorization") != "Bearer open sesame" || got.of["service.name"] != "deckle" ||
		got.of["service.instance.id"] != "n0" {
		t.Errorf("%v, %v", got.headers, got.of)
	}
}

// A collector that sends its clients elsewhere is not followed: neither token nor spans are for others.
func TestTracesGoNowhereElse(t *testing.T) {
	var others atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { others.Add(1) }))
	t.Cleanup(other.Close)
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(srv.Close)
	deps := Deps{Logger: nodetest.Log(t)}
	deps.complete()
	cfg := &config.Config{Node: "a", Tracing: &config.Tracing{Endpoint: srv.URL, Sample: 1,
		Token: config.SecretValue("open sesame")}}
	x, err := openTracing(t.Context(), cfg, &deps, openFiles(cfg, &deps))
	if err != nil {
		t.Fatal(err)
	}
	_, span := x.tracer().Start(t.Context(), "flush events")
	span.End()
	if err := x.provider.ForceFlush(t.Context()); err != nil { // close would wait for a moment only
		t.Fatal(err)
	}
	x.close()
	if asked.Load() == 0 || others.Load() != 0 {
		t.Errorf("the collector was asked %d times, another host %d times", asked.Load(), others.Load())
	}
}

// exporter fails as it is told.
type exporter struct{ err error }

func (e *exporter) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return e.err }
func (*exporter) Shutdown(context.Context) error                          { return nil }

// A collector that takes nothing costs a line of the log, and one when it takes something again.
func TestTracesAreDropped(t *testing.T) {
	var log bytes.Buffer
	e := &exporter{err: errors.New("refused")}
	s := &saying{SpanExporter: e, log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, err := range []error{e.err, e.err, nil, nil, e.err} {
		e.err = err
		if err := s.ExportSpans(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	lost, again := strings.Count(log.String(), "cannot be sent"), strings.Count(log.String(), "sent again")
	if lost != 2 || again != 1 {
		t.Errorf("%s", &log)
	}
}
