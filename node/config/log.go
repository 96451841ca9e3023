package config

import (
	"io"
	"log/slog"
)

// NewLogger returns the logger that the configuration asks for. It writes to w what is of the given level or above.
func (c Log) NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// Least is the level below which nothing is logged.
func (c Log) Least() slog.Level {
	return map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}[c.Level]
}
