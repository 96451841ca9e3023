package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// closeTimeout bounds an orderly end: intake stops, leadership is handed over, the disk is closed.
const closeTimeout = 20 * time.Second

// Run runs one node until ctx ends, then ends it in order; it returns nil after that, or the error that made the node
// give up. It is the whole of "deckle run" but for flags and signals.
func Run(ctx context.Context, cfg *Config, deps Deps) error {
	deps.complete()
	log := deps.Logger
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("http: %w (http.listen names another address)", err)
	}
	for _, name := range cfg.insecure() {
		log.Warn("certificates are not verified: anyone between could read and change everything", "key", name+".insecure_skip_verify")
	}
	n, err := Open(ctx, cfg, deps)
	if err != nil {
		_ = ln.Close()
		return err
	}
	log.Info("node runs", "node", cfg.Node, "http", "http://"+ln.Addr().String(), "version", Version().Version)

	served := make(chan error, 1)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	go func() { served <- Serve(serving, ln, n.Handler(), log) }()
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
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	closeErr := n.Close(bounded)
	if cause == nil {
		cause = <-waited // a fatal error on the way out is told too
	}
	stopServing()
	if !httpEnded {
		cause = errors.Join(cause, <-served)
	}
	return errors.Join(cause, closeErr)
}

// insecure names the TLS blocks that do not verify certificates.
func (c *Config) insecure() []string {
	var out []string
	add := func(key string, t *TLSConfig) {
		if t != nil && t.InsecureSkipVerify {
			out = append(out, key)
		}
	}
	add("cluster.tls", c.Cluster.TLS)
	add("kafka.tls", c.Kafka.TLS)
	if c.Delta != nil && c.Delta.S3 != nil {
		add("delta.s3.tls", c.Delta.S3.TLS)
	}
	if c.ClickHouse != nil {
		add("clickhouse.tls", c.ClickHouse.TLS)
	}
	return out
}

// NewLogger returns the logger that the configuration asks for.
func (c LogConfig) NewLogger(w io.Writer) *slog.Logger {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}[c.Level]
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}
