package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"deckle"
	"deckle/node/config"
	"deckle/node/web"
)

// stopping tells a service manager that the node ends. From here on nothing feeds its watchdog, and closing has bounds
// of its own: it is given more time than those together.
var stopping = fmt.Sprintf("STOPPING=1\nWATCHDOG_USEC=%d", (3 * time.Minute).Microseconds())

// Run runs one node until ctx ends and then closes it in order. It returns nil after that, or the error that made the
// node give up. It is the whole of "deckle run" except for flags and signals.
func Run(ctx context.Context, cfg *config.Config, deps Deps) error {
	deps.complete()
	log := deps.Logger
	connections, err := checkFiles(cfg, log)
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("http: %w (http.listen names another address)", err)
	}
	var debug net.Listener
	if cfg.Debug.Listen != "" {
		if debug, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Debug.Listen); err != nil {
			_ = ln.Close()
			return fmt.Errorf("debug: %w (debug.listen names another address)", err)
		}
	}
	deaf := func() {
		_ = ln.Close()
		if debug != nil {
			_ = debug.Close()
		}
	}
	n, err := Open(ctx, cfg, deps)
	if err != nil {
		deaf()
		return err
	}
	if err := n.http.openRecords(cfg, deps.Now); err != nil {
		deaf()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		return errors.Join(err, n.Close(bounded))
	}
	log.Info("node runs", "node", cfg.Node, "http", n.http.scheme()+"://"+ln.Addr().String(), "version",
		deckle.Build().Version)

	deps.Notify("READY=1")
	served := make(chan error, 1)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	go func() { served <- n.http.serve(serving, ln, connections, n.Handler(), log) }()
	debugged := make(chan error, 1)
	if debug != nil {
		log.Info("profiles can be read", "debug", "http://"+debug.Addr().String()+"/debug/pprof/")
		go func() { debugged <- web.ServeDebug(serving, debug, log) }()
	} else {
		debugged <- nil
	}
	waited := make(chan error, 1)
	go func() { waited <- n.Wait() }()

	var cause error
	var httpEnded bool
	select {
	case <-ctx.Done():
		log.Info("node ends", "node", cfg.Node)
	case cause = <-waited:
		waited <- nil
	case cause = <-served:
		httpEnded = true
	}
	deps.Notify(stopping)
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	closeErr := n.Close(bounded)
	if cause == nil {
		cause = <-waited // a fatal error during Close is returned, too
	}
	stopServing()
	if !httpEnded {
		cause = errors.Join(cause, <-served)
	}
	cause = errors.Join(cause, <-debugged)
	return errors.Join(cause, closeErr, n.http.closeRecords())
}
