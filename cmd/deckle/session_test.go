package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/status"
	"deckle/node/web"
	"deckle/schema"
)

// withSession is a cluster that has one session.
type withSession struct{ row *schema.SessionRow }

func (s withSession) Status() status.Node {
	return status.Node{Node: "a", Shards: []status.Shard{{Shard: 3}}}
}

func (s withSession) Store(uint32) web.Replica { return s }

func (s withSession) Rollups(func(*schema.RollupRow) error) error { return nil }

func (s withSession) Session(id string) (*schema.SessionRow, bool, error) {
	return s.row, id == s.row.SessionID, nil
}

// A session is shown by its fields, in their order, whatever its id has in it, and without what a terminal would obey.
func TestSession(t *testing.T) {
	const id = "a/b?c=d&e \x1b[31m"
	h := web.NewHandler(withSession{&schema.SessionRow{SessionID: id, Brand: "we\x1blt", UserID: 1 << 60,
		Start: 1_650_000_000, End: 1_650_000_060, TotalEvents: 2, Status: schema.StatusClosed,
		Categories: `["sport","politik"]`, PageEvents: `[{"event_type":"search","n":1}]`}},
		web.Options{Gatherer: prometheus.NewRegistry()})
	s := httptest.NewServer(http.HandlerFunc(h.ServeHTTP))
	t.Cleanup(s.Close)
	address := strings.TrimPrefix(s.URL, "http://")

	code, stdout, stderr := runCommand("session", id, "--address", address)
	var lines []string
	for line := range strings.Lines(stdout) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{"user_id 1152921504606846976", "brand we", "politik",
		`page_events {"event_type":"search","n":1}`, "session_start 2022-04-15T05:20:00Z", "status closed"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if code != 0 || stderr != "" || strings.ContainsRune(stdout, 0x1b) || !strings.HasPrefix(text, "shard 3\n") ||
		strings.Contains(text, "null") || t.Failed() {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if i, j := strings.Index(text, "\nsession_id "), strings.Index(text, "\npage_events "); i < 0 || i > j {
		t.Error("the fields are in another order")
	}
	if code, stdout, _ := runCommand("session", id, "--address", address, "--json"); code != 0 ||
		!strings.Contains(stdout, `"user_id": "1152921504606846976"`) {
		t.Errorf("%d, %s", code, stdout)
	}
	if code, _, stderr := runCommand("session", "other", "--address", address); code != 1 ||
		!strings.Contains(stderr, "no such session") {
		t.Errorf("%d, %s", code, stderr)
	}
	for _, args := range [][]string{{"session"}, {"session", ""}, {"session", "a", "b"}} {
		if code, _, _ := runCommand(append(args, "--address", address)...); code != 2 {
			t.Errorf("%q: %d", args, code)
		}
	}
}
