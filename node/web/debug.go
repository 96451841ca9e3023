package web

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"deckle/node/front"
)

// debugConnections bounds those who profile at a time.
const debugConnections = 8

// ServeDebug answers on ln, which must be a loopback address, with the profiles of this process at /debug/pprof/ until
// ctx ends. A page of another host cannot read them under a name that it has pointed here.
func ServeDebug(ctx context.Context, ln net.Listener, log *slog.Logger) error {
	ln = front.Limit(ln, front.Limits{Connections: debugConnections})
	return front.Serve(ctx, ln, front.Server{Handler: debugHandler(), Logger: log,
		Answer: 2 * time.Minute}) // enough for a profile over one minute
}

func debugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := foreign(r); why != "" {
			http.Error(w, why, http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
