package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"deckle/node/config"
	"deckle/node/front"
)

// httpSide is what a node answers over HTTP with.
type httpSide struct {
	gate     *front.Gate
	metrics  *front.Metrics
	refusals refusals
}

// openHTTP registers the figures of the HTTP side. It does not listen.
func openHTTP(cfg *config.Config, deps *Deps) (h *httpSide, err error) {
	h = &httpSide{}
	if h.metrics, err = front.NewMetrics(deps.Registerer); err != nil {
		return nil, fmt.Errorf("node: metrics: %w", err)
	}
	names := append([]string{cfg.HTTP.Listen}, cfg.HTTP.Hosts...)
	for _, p := range cfg.Cluster.Nodes {
		if p.Name == cfg.Node {
			names = append(names, p.Address)
		}
	}
	h.gate = front.NewGate(front.GateOptions{Names: names, Base: cfg.HTTP.BasePath,
		Proxies: cfg.HTTP.Proxies(), Now: deps.Now, Metrics: h.metrics})
	return h, nil
}

// serve answers on ln with handler until ctx ends, on at most that many connections at a time. One client has a
// quarter of them, a trusted proxy all.
func (h *httpSide) serve(ctx context.Context, ln net.Listener, connections int, handler http.Handler,
	log *slog.Logger) error {
	limited := front.Limit(ln, front.Limits{Connections: connections, PerAddress: max(connections/4, 4),
		Whole: h.gate.Trusted, Refused: h.metrics.Refused})
	h.metrics.Watch(limited)
	return front.Serve(ctx, limited, front.Server{Handler: handler, Logger: log})
}

// refusals says when connections have been refused for so long that somebody should know.
type refusals struct {
	seen        int64
	since, last time.Time // of refusals that have not ceased for refusalsPause
}

const (
	refusalsLast  = time.Minute
	refusalsPause = 30 * time.Second
)

// judge takes the number of refusals so far.
func (r *refusals) judge(total int64, now time.Time) string {
	if total > r.seen {
		if r.last.IsZero() || now.Sub(r.last) > refusalsPause {
			r.since = now
		}
		r.seen, r.last = total, now
	}
	if r.last.IsZero() || now.Sub(r.last) > refusalsPause || r.last.Sub(r.since) < refusalsLast {
		return ""
	}
	return "connections have been closed for more than a minute, because too many are open, of everybody or of one " +
		"address; deckle_http_refused_total says which"
}
