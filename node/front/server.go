package front

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Server is what Serve needs besides a listener.
type Server struct {
	Handler http.Handler
	TLS     *tls.Config // nil: plain HTTP. HTTP/2 is offered; NextProtos is set in it
	Logger  *slog.Logger
	// How long a client may take, at most: for the handshake of TLS and for the header of a request (default 5 s), for
	// header and body (10 s), until it has read the answer (30 s), and between two requests (30 s).
	Header, Body, Answer, Idle time.Duration
}

const (
	headerMax  = 64 << 10 // bytes of a request's header
	streamsMax = 32       // requests at a time on one HTTP/2 connection
)

// stopTime is how long what has begun may go on when Serve is to end.
const stopTime = 2 * time.Second

// Serve answers the requests that come to ln until ctx ends. Then it finishes those that have begun, within two
// seconds. It closes ln.
func Serve(ctx context.Context, ln net.Listener, s Server) error {
	s.Header, s.Body = cmp.Or(s.Header, 5*time.Second), cmp.Or(s.Body, 10*time.Second)
	s.Answer, s.Idle = cmp.Or(s.Answer, 30*time.Second), cmp.Or(s.Idle, 30*time.Second)
	srv := &http.Server{
		Handler:           s.Handler,
		ReadHeaderTimeout: s.Header,
		ReadTimeout:       s.Body,
		WriteTimeout:      s.Answer,
		IdleTimeout:       s.Idle,
		MaxHeaderBytes:    headerMax,
		// A client of HTTP/2 that neither reads nor answers holds its connection no longer than one of HTTP/1.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streamsMax, SendPingTimeout: s.Idle, PingTimeout: s.Header,
			WriteByteTimeout: s.Body},
		ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		err := srv.Shutdown(bounded)
		if err != nil {
			err = srv.Close()
		}
		stopped <- err
	})
	var err error
	if s.TLS != nil {
		s.TLS.NextProtos = []string{"h2", "http/1.1"}
		srv.TLSConfig = s.TLS
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if stop() { // it ended before ctx did
		return fmt.Errorf("http: %w", err)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http: %w", err)
	}
	return <-stopped
}
