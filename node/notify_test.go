package node

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"deckle/node/condition"
)

// What a service manager shows is one line, whatever a condition's text has.
func TestAlive(t *testing.T) {
	now := time.Unix(1e6, 0)
	list := condition.New("a", func() time.Time { return now }, slog.New(slog.DiscardHandler))
	if got := alive(list.Snapshot(), now, time.Second); got != "WATCHDOG=1\nSTATUS=ready" {
		t.Errorf("%q", got)
	}
	list.Set(condition.NodeNotRunning, subjectNode, 0, "fatal: a\nREADY=1\t"+strings.Repeat("x", 2*statusLength), "")
	got := alive(list.Snapshot(), now, time.Second)
	if !strings.HasPrefix(got, "WATCHDOG=1\nSTATUS=not ready: ") || strings.Count(got, "\n") != 1 ||
		len(got) != len("WATCHDOG=1\nSTATUS=")+statusLength {
		t.Errorf("%q", got)
	}
}
