package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"deckle"
	"deckle/node/condition"
	"deckle/node/status"
	"deckle/schema"
)

// Source is where the handler gets its figures: one node, or several in one process. Its methods are safe
// for concurrent use.
type Source interface {
	Status() status.Node
	// Store returns a replica of the shard, nil while this process has none.
	Store(shard uint32) Replica
}

// Replica is the part of a shard's state that the handler reads; *state.Store is one.
type Replica interface {
	Rollups(yield func(*schema.RollupRow) error) error
	Session(id string) (*schema.SessionRow, bool, error)
}

// Options are the other things that a handler uses. Each may be left out.
type Options struct {
	Gatherer prometheus.Gatherer // the metrics that /metrics shows; by default those of the process
	Now      func() time.Time    // default time.Now
	Logger   *slog.Logger
	Command  Commander // without it there are no commands
}

// NewHandler returns health, metrics, API and page:
//
//	GET /                  the page
//	GET /livez             200 as long as the process serves
//	GET /readyz            200 or 503, with reasons and warnings
//	GET /metrics           Prometheus
//	GET /version           build
//	GET /api/status        cluster, shards, sinks
//	GET /api/analytics     brands, devices, countries, subscriptions: for the day, and for all days in the state
//	GET /api/session/{id}  one session in its present state; /api/session?id= for clients that rewrite paths. An id
//	                       is any text of up to 255 bytes, escaped as part of a URL; slashes and dots may stand
//	GET /debug/pprof/      profiles
//	POST /api/partitions/skip    {"partition": 3, "from": 500, "to": 501, "reason": "…"}: give up offsets,
//	                             with "sink": "events" those of raw events alone
//	POST /api/partitions/resume  {"partition": 3}: try a partition again
//
// Nothing but the last two changes anything: they are taken from this machine only, and from no browser.
// There is no authentication: the address must be on the loopback interface or in an operators' network.
func NewHandler(src Source, opts Options) http.Handler {
	h := &handler{src: src, now: opts.Now, log: opts.Logger}
	if h.now == nil {
		h.now = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.start = h.now()
	h.analytics.read = h.readAnalytics
	gatherer := opts.Gatherer
	if gatherer == nil {
		gatherer = prometheus.DefaultGatherer
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", h.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		h.reply(w, http.StatusOK, deckle.Build())
	})
	mux.HandleFunc("GET /api/status", h.serveStatus)
	mux.HandleFunc("GET /api/analytics", h.serveAnalytics)
	mux.HandleFunc("GET /api/session", h.serveSessionQuery)
	if opts.Command != nil {
		mux.HandleFunc("POST /api/partitions/skip", serveCommand(h, opts.Command, false))
		mux.HandleFunc("POST /api/partitions/resume", serveCommand(h, opts.Command, true))
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return h.withSessions(mux)
}

// Serve answers requests on ln with h until ctx ends. Then it finishes those that have begun, for two seconds at most.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // enough for a profile over one minute
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		err := srv.Shutdown(bounded)
		if err != nil {
			err = srv.Close()
		}
		stopped <- err
	})
	err := srv.Serve(ln)
	if stop() { // Serve ended before ctx did
		return fmt.Errorf("http: %w", err)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http: %w", err)
	}
	return <-stopped
}

type handler struct {
	src       Source
	now       func() time.Time
	log       *slog.Logger
	start     time.Time
	analytics cached[*Analytics]
}

func (h *handler) reply(w http.ResponseWriter, code int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		h.log.Error("http answer cannot be encoded", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}

type problem struct {
	Error string `json:"error"`
}

// ready is the answer of /readyz.
type ready struct {
	Node    string   `json:"node"`
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	// Warnings are all conditions of this node, in one line each; Conditions are the same in full.
	Warnings   []string              `json:"warnings"`
	Conditions []condition.Condition `json:"conditions"`
}

func (h *handler) serveReady(w http.ResponseWriter, _ *http.Request) {
	st := h.src.Status()
	code := http.StatusOK
	if !st.Ready {
		code = http.StatusServiceUnavailable
	}
	h.reply(w, code, ready{Node: st.Node, Ready: st.Ready, Reasons: list(st.Reasons), Warnings: list(warnings(&st)),
		Conditions: list(st.Conditions)})
}

// warnings returns what an operator should look at, whether the node is ready or not.
func warnings(st *status.Node) []string {
	var out []string
	for i := range st.Conditions {
		out = append(out, st.Conditions[i].String())
	}
	return out
}

func (h *handler) serveStatus(w http.ResponseWriter, _ *http.Request) {
	st := h.src.Status()
	h.reply(w, http.StatusOK, newAPIStatus(&st, h.now(), h.start))
}

// list returns s, or an empty list for nil, so that JSON shows [] and not null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
