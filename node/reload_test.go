package node

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"deckle/node/condition"
	"deckle/node/config"
)

// TestReload: a changed configuration is taken over where a node can follow, once; what it cannot follow is named for
// as long as it differs, and one that is not good changes nothing.
func TestReload(t *testing.T) {
	load := func(text string) *config.Config {
		t.Helper()
		c, err := config.Load("deckle.yaml", func(string) (string, bool) { return "", false },
			func(string) ([]byte, error) {
				return []byte("node: a\ndata_dir: /d\ncluster: {nodes: [{name: a, address: \"127.0.0.1:1\"}]}\n" +
					"kafka: {brokers: [\"127.0.0.1:2\"]}\n" + text), nil
			})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var logged bytes.Buffer
	var cfg *config.Config
	var broken error
	now := time.Unix(1_800_000_000, 0)
	deps := &Deps{Logger: slog.New(slog.NewTextHandler(&logged, nil)), LogLevel: new(slog.LevelVar),
		Reload: func() (*config.Config, error) { return cfg, broken }}
	start := load("delta: {path: /l}")
	cfg = start
	list := condition.New("a", func() time.Time { return now }, slog.New(slog.DiscardHandler))
	r := newReloader(start, deps, list)
	w := &fileWatch{cfg: start, deps: deps, list: list, reloads: r}
	look := func() {
		logged.Reset()
		w.lookConfiguration()
	}
	text := func(id condition.ID) string {
		for _, c := range list.Snapshot() {
			if c.ID == id && c.Subject == configuration {
				return c.Text
			}
		}
		return ""
	}
	if look(); logged.Len() > 0 || len(list.Snapshot()) > 0 {
		t.Fatalf("nothing has changed: %s, %v", logged.String(), list.Snapshot())
	}

	cfg = load("delta: {path: /l, compaction: {every: 1m}}\nlog: {level: debug}")
	look()
	if d := r.live.Load().Delta.Compaction.Every; d != time.Minute || deps.LogLevel.Level() != slog.LevelDebug {
		t.Errorf("taken over: %v, %v", d, deps.LogLevel.Level())
	}
	if s := logged.String(); !strings.Contains(s, "key=delta.compaction.every from=10m to=1m") ||
		!strings.Contains(s, "key=log.level from=info to=debug") || len(list.Snapshot()) > 0 {
		t.Errorf("log: %s, conditions %v", s, list.Snapshot())
	}
	if start.Delta.Compaction.Every != 10*time.Minute {
		t.Error("the configuration of the start has changed under those who hold it")
	}
	if look(); logged.Len() > 0 {
		t.Errorf("the same again: %s", logged.String())
	}

	cfg = load("delta: {path: /l, compaction: {every: 1m}}\nlog: {level: debug}\nflush: {interval: 20s}\n" +
		"debug: {listen: \"127.0.0.1:9\"}")
	look()
	for _, want := range []string{"flush.interval is 20s in the file, the node runs with 10s",
		`debug.listen is "127.0.0.1:9" in the file, the node runs with not set`} {
		if !strings.Contains(text(condition.RestartNeeded), want) ||
			!strings.Contains(logged.String(), "flush.interval") {
			t.Errorf("condition %q, log %s", text(condition.RestartNeeded), logged.String())
		}
	}
	if look(); logged.Len() > 0 || text(condition.RestartNeeded) == "" {
		t.Errorf("the same again: %s", logged.String())
	}

	broken = errors.New("line 3: unknown key")
	if look(); !strings.Contains(text(condition.FileUnusable), "line 3") || text(condition.RestartNeeded) == "" ||
		r.live.Load().Log.Level != "debug" {
		t.Errorf("not good: %v", list.Snapshot())
	}
	broken, cfg = nil, start
	if look(); len(list.Snapshot()) > 0 || deps.LogLevel.Level() != slog.LevelInfo ||
		r.live.Load().Delta.Compaction.Every != 10*time.Minute {
		t.Errorf("put back: %v, %+v", list.Snapshot(), r.live.Load().Delta.Compaction)
	}
}
