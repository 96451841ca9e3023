package config

import (
	"os"
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestTake: what a running node takes over is what has the tag, wherever it stands, and nothing else changes; neither
// configuration is written to.
func TestTake(t *testing.T) {
	load := func(more string) *Config {
		t.Helper()
		text := "node: a\ndata_dir: /d\ncluster: {nodes: [{name: a, address: \"127.0.0.1:1\"}]}\n" +
			"kafka: {brokers: [\"127.0.0.1:2\"]}\nclickhouse: {address: \"127.0.0.1:3\"}\n" + more
		c, err := Load("deckle.yaml", os.LookupEnv, func(string) ([]byte, error) { return []byte(text), nil })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	running := load("delta: {path: /l}\nhttp: {open: [livez]}\n")
	before := running.Values()
	other := load("delta: {path: /m, compaction: {every: 1m, rate_bytes: 1MiB}, vacuum: {every: 1h, retain: 72h}}\n" +
		"http: {open: [livez, metrics]}\nlog: {level: debug, format: text}\nflush: {interval: 20s, max_events: 5}\n" +
		"limits: {disk_bytes: 1GiB, entry_bytes: 32KiB, unflushed_epochs: 7, cache_bytes: 64MiB}\n")
	otherBefore := other.Values()
	taken := running.Take(other)
	var changed, left []string
	for _, c := range Diff(before, taken.Values()) {
		changed = append(changed, c.Key)
	}
	for _, c := range Diff(taken.Values(), other.Values()) {
		left = append(left, c.Key)
	}
	want := []string{"delta.compaction.every", "delta.compaction.rate_bytes", "delta.vacuum.every",
		"delta.vacuum.retain", "flush.max_events", "http.open", "limits.disk_bytes", "limits.entry_bytes",
		"limits.unflushed_epochs", "log.level"}
	if slices.Sort(changed); !slices.Equal(changed, want) {
		t.Errorf("taken over: %q, want %q", changed, want)
	}
	want = []string{"delta.path", "flush.interval", "limits.cache_bytes", "log.format"}
	if slices.Sort(left); !slices.Equal(left, want) {
		t.Errorf("left: %q", left)
	}
	if len(Diff(before, running.Values())) > 0 || len(Diff(otherBefore, other.Values())) > 0 {
		t.Error("Take has changed what it was given")
	}
	if taken.Delta.Compaction.Every != time.Minute || taken.Kafka.Brokers[0] != "127.0.0.1:2" {
		t.Errorf("%+v", taken.Delta.Compaction)
	}
	without := load("")
	if got := without.Take(other); got.Delta != nil || got.Log.Level != "debug" {
		t.Errorf("a block that was not there: %+v", got.Delta)
	}
	if got := running.Take(without); got.Delta.Path != "/l" {
		t.Errorf("a block that is not there any more: %+v", got.Delta)
	}
}

// TestReloadable agrees with the tags for every key.
func TestReloadable(t *testing.T) {
	n := 0
	eachKey(reflect.TypeFor[Config](), "", func(key string, f reflect.StructField) {
		if reloadable(f) {
			n++
		}
		if Reloadable(key) != reloadable(f) {
			t.Errorf("%s: %t, its tag says %t", key, Reloadable(key), reloadable(f))
		}
	})
	if n < 6 || Reloadable("cluster.nodes[0].name") || Reloadable("no.such") || Reloadable("") {
		t.Errorf("%d keys are taken over", n)
	}
}
