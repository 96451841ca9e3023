package raftstore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// repeatAfter is how long a warning of a group is not repeated: a dead peer makes Raft complain many times a second.
const repeatAfter = 30 * time.Second

// raftLogger gives Raft's messages to slog: reports of progress at level debug, errors, all of which Raft retries, as
// warnings. A repeated warning is logged at level debug.
func raftLogger(l *slog.Logger, shard uint32) hclog.Logger {
	out := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	out.RegisterSink(&slogSink{l: l.With("shard", shard), next: map[string]time.Time{}})
	return out
}

type slogSink struct {
	l    *slog.Logger
	mu   sync.Mutex
	next map[string]time.Time
}

func (s *slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Warn {
		to = slog.LevelWarn
	}
	ctx := context.Background()
	if !s.l.Enabled(ctx, to) {
		return
	}
	if to > slog.LevelDebug {
		now := time.Now()
		s.mu.Lock()
		held := now.Before(s.next[msg])
		if !held {
			s.next[msg] = now.Add(repeatAfter)
		}
		s.mu.Unlock()
		if held {
			to = slog.LevelDebug
		}
	}
	attrs := make([]any, 0, len(args))
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if text, ok := f[0].(string); ok {
				a = fmt.Sprintf(text, f[1:]...)
			}
		}
		if _, ok := a.(string); !ok && i%2 == 0 {
			a = fmt.Sprint(a)
		}
		attrs = append(attrs, a)
	}
	s.l.Log(ctx, to, "raft: "+msg, attrs...)
}
