package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// runHistory is what happened in a run, for those who read a failure: faults, ends and starts of nodes, and what the
// nodes logged as a warning or worse. It is bounded: the oldest lines go first.
type runHistory struct {
	mu     sync.Mutex
	began  time.Time
	lines  []string
	lost   int
	faults map[string]int // injected, by kind
	fails  []string
	failed func(failure string) // called with every failure, if set
}

const (
	maxHistory  = 4000
	maxFailures = 20
)

func newRunHistory(failed func(string)) *runHistory {
	return &runHistory{began: time.Now(), faults: map[string]int{}, failed: failed}
}

func (h *runHistory) add(who, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addLocked(who, fmt.Sprintf(format, args...))
}

func (h *runHistory) addLocked(who, text string) {
	if len(h.lines) >= maxHistory {
		h.lines, h.lost = slices.Delete(h.lines, 0, maxHistory/4), h.lost+maxHistory/4
	}
	h.lines = append(h.lines, fmt.Sprintf("%9.3f %-7s %s", time.Since(h.began).Seconds(), who, text))
}

// fault counts an injected fault.
func (h *runHistory) fault(kind, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults[kind]++
	h.addLocked("FAULT", kind+" "+fmt.Sprintf(format, args...))
}

// fail notes that an invariant does not hold.
func (h *runHistory) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	h.mu.Lock()
	h.addLocked("BROKEN", text)
	if len(h.fails) < maxFailures {
		h.fails = append(h.fails, text)
	}
	h.mu.Unlock()
	if h.failed != nil {
		h.failed(text)
	}
}

// broken notes what a reader of a table may never see; it is a history.Report.
func (h *runHistory) broken(table, format string, args ...any) {
	h.fail("I5, I7: %s: %s", table, fmt.Sprintf(format, args...))
}

func (h *runHistory) print(w io.Writer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost > 0 {
		_, _ = fmt.Fprintf(w, "(%d older lines are gone)\n", h.lost)
	}
	_, _ = io.WriteString(w, strings.Join(h.lines, "\n")+"\n")
}

// logger returns the log of one node. Only warnings and errors are kept, unless level says more.
func (h *runHistory) logger(who string, level slog.Level, hear func(message string)) *slog.Logger {
	return slog.New(&historyHandler{h: h, who: who, level: level, hear: hear})
}

type historyHandler struct {
	h     *runHistory
	who   string
	level slog.Level
	hear  func(message string) // of what is kept
	attrs string
}

// Enabled implements slog.Handler.
func (l *historyHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

// Handle implements slog.Handler.
func (l *historyHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Level.String() + " " + r.Message + l.attrs)
	r.Attrs(func(a slog.Attr) bool { b.WriteString(" " + a.String()); return true })
	l.h.add(l.who, "%s", b.String())
	l.hear(r.Message)
	return nil
}

// WithAttrs implements slog.Handler.
func (l *historyHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	for _, a := range attrs {
		if a.Key != "node" {
			c.attrs += " " + a.String()
		}
	}
	return &c
}

// WithGroup implements slog.Handler.
func (l *historyHandler) WithGroup(string) slog.Handler { return l }
