package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"deckle"
	"deckle/node/config"
	"deckle/trust"
)

const (
	tracesPath   = "/v1/traces" // of OTLP over HTTP
	sendTracesIn = 10 * time.Second
	endTracesIn  = 2 * time.Second
)

// tracing sends the traces of a node's plans to a collector. A nil one sends none.
type tracing struct {
	provider *sdk.TracerProvider
}

// openTracing begins to send what is traced; nil if nothing is to be. Nothing waits for the collector: what it does not
// take in time is dropped, and said in the log.
func openTracing(ctx context.Context, cfg *config.Config, deps *Deps, files *trust.Files) (*tracing, error) {
	t := cfg.Tracing
	if t == nil {
		return nil, nil
	}
	target, err := url.Parse(t.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("node: tracing.endpoint: %w", err)
	}
	if target.Path == "" || target.Path == "/" {
		target.Path = tracesPath
	}
	way := &collector{}
	if way.tls, err = client(files, "tracing.tls", t.TLS); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	if t.Token.IsSet() {
		if way.token, err = password(files, "tracing.token", t.Token); err != nil {
			return nil, fmt.Errorf("node: %w", err)
		}
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(target.String()),
		otlptracehttp.WithHTTPClient(&http.Client{Transport: way, Timeout: sendTracesIn,
			// The token is for this host alone, and so are the spans.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}),
		otlptracehttp.WithTimeout(sendTracesIn))
	if err != nil {
		return nil, fmt.Errorf("node: tracing: %w", err)
	}
	of := resource.NewSchemaless(attribute.String("service.name", "deckle"),
		attribute.String("service.version", deckle.Build().Version),
		attribute.String("service.instance.id", cfg.Node),
		attribute.String("deckle.pipeline", cfg.Cluster.Pipeline))
	return &tracing{provider: sdk.NewTracerProvider(sdk.WithResource(of),
		sdk.WithSampler(sdk.TraceIDRatioBased(1/float64(t.Sample))),
		sdk.WithBatcher(&saying{SpanExporter: exporter, log: deps.Logger}))}, nil
}

// tracer is what takes traces, nil for none.
func (t *tracing) tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer("deckle/node/shard")
}

// close sends what waits, for a moment.
func (t *tracing) close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTracesIn)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // saying has said it
}

// collector is the way to a collector, by the certificates and the token that are in use then.
type collector struct {
	tls   func() *tls.Config // nil: those of the system
	token func() string      // nil: none
}

// RoundTrip implements http.RoundTripper.
func (c *collector) RoundTrip(r *http.Request) (*http.Response, error) {
	// A batch goes every few seconds at most, so no connection is kept: the next one is by the newest certificates.
	way := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	if c.tls != nil {
		way.TLSClientConfig = c.tls()
	}
	if c.token != nil {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+c.token())
	}
	return way.RoundTrip(r)
}

// saying says in the log when traces cannot be sent, and when they can again.
type saying struct {
	sdk.SpanExporter
	log    *slog.Logger
	failed atomic.Bool
}

// ExportSpans implements sdk.SpanExporter. What could not be sent is gone: it must not fill the memory.
func (s *saying) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	switch err := s.SpanExporter.ExportSpans(ctx, spans); {
	case err != nil && !s.failed.Swap(true):
		s.log.Warn("traces cannot be sent, and are dropped", "spans", len(spans), "error", err)
	case err == nil && s.failed.Swap(false):
		s.log.Info("traces are sent again")
	}
	return nil
}
