package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/tap"
	"deckle/node/web"
	"deckle/schema"
)

// The lines of a tap go to standard output as they are, and what the node says of the tap to standard error.
func TestTap(t *testing.T) {
	b := tap.NewBoard(time.Now)
	h := web.NewHandler(withSession{&schema.SessionRow{}}, web.Options{Gatherer: prometheus.NewRegistry(), Tap: b})
	s := httptest.NewServer(http.HandlerFunc(h.ServeHTTP))
	t.Cleanup(s.Close)
	address := strings.TrimPrefix(s.URL, "http://")
	passing := func(pass func(i int)) (stop func()) {
		end, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				case <-time.After(time.Millisecond):
					pass(i)
				}
			}
		}()
		return func() { close(end); <-ended }
	}
	stop := passing(func(i int) {
		b.Offer(tap.Source, &tap.Offer{Partition: int32(i % 2), Line: func(clear bool) []byte {
			return fmt.Appendf(nil, `{"partition":%d,"clear":%t}`, i%2, clear)
		}})
	})
	code, stdout, stderr := runCommand("tap", "--stage", "source", "--partition", "1", "--count", "3", "--clear",
		"--for", "10m", "--address", address)
	if code != 0 || stdout != strings.Repeat("{\"partition\":1,\"clear\":true}\n", 3) ||
		!strings.Contains(stderr, "Node a leads 0 of 1 shards []") {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	code, stdout, stderr = runCommand("tap", "--stage", "source", "--for", "2s", "--address", address)
	stop()
	if lines := strings.Count(stdout, "\n"); code != 0 || lines == 0 ||
		!strings.Contains(stderr, "its time is over: ") ||
		!strings.Contains(stderr, fmt.Sprintf(" %d shown, ", lines)) {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	for _, args := range [][]string{{}, {"--stage", "source", "--for", "11m"}, {"--stage", "source", "--sample", "0"},
		{"--stage", "source", "--partition", "-1"}} {
		if code, _, _ := runCommand(append(append([]string{"tap"}, args...), "--address", address)...); code != 2 {
			t.Errorf("%q: %d", args, code)
		}
	}
	if code, _, stderr := runCommand("tap", "--stage", "pebble", "--address", address); code != 1 ||
		!strings.Contains(stderr, "the stages are") {
		t.Errorf("%d %s", code, stderr)
	}
	b.Close()
	if code, _, stderr := runCommand("tap", "--stage", "row", "--address", address); code != 1 ||
		!strings.Contains(stderr, "the node ends") {
		t.Errorf("%d %s", code, stderr)
	}
}
