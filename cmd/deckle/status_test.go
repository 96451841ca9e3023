package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/condition"
	"deckle/node/status"
	"deckle/node/web"
)

// pretended is a cluster of which a test says how it is.
type pretended struct{ node status.Node }

func (p *pretended) Status() status.Node      { return p.node }
func (p *pretended) Store(uint32) web.Replica { return nil }

var statusNow = time.Date(2026, 11, 30, 7, 0, 0, 0, time.UTC)

// twoOfThree is a cluster one of whose nodes is down, and a second of which has told nothing yet.
func twoOfThree() *pretended {
	a := &status.Figures{Version: "1.2.3", Level: 3, Knows: 3, Started: statusNow.Add(-26 * time.Hour),
		Leads: []uint32{0, 1, 2, 4}, Follows: []uint32{3, 5}, LagRecords: new(int64(17)), LagSeconds: new(0.4),
		Disk: status.Fill{Used: 3 << 30, Limit: 50 << 30}, DiskFree: 1 << 40, Memory: 300 << 20,
		Files: status.Fill{Used: 88, Limit: 65536}, Certificates: []status.Certificate{
			{Key: "http.tls", NotAfter: statusNow.Add(90 * 24 * time.Hour)},
			{Key: "cluster.tls", NotAfter: statusNow.Add(5 * time.Hour)}}}
	c := *a
	c.Certificates = []status.Certificate{{Key: "cluster.tls", NotAfter: statusNow.Add(-time.Hour)}}
	return &pretended{status.Node{Node: "a", ClusterID: "c-1", Ready: true,
		Members: []status.Member{
			{Node: "a", Answers: true, UpToDate: true, Since: statusNow.Add(-time.Hour), Figures: a, At: statusNow},
			{Node: "b", Answers: true, Since: statusNow.Add(-time.Minute), Clock: new(-1500 * time.Millisecond)},
			{Node: "c", Since: statusNow.Add(-130 * time.Second), Figures: &c, At: statusNow.Add(-3 * time.Minute)},
		},
		CanLoseOne: new(false), Because: "1 of 3 are up to date: node c is away",
		Shards: []status.Shard{{Shard: 0, Leader: "a", IsLeader: true, Lag: status.Lag{Records: new(int64(17))}},
			{Shard: 1}},
		Conditions: []condition.Condition{{ID: condition.MemberDown, Severity: condition.Failing, Node: "a",
			Subject: "c", Since: statusNow.Add(-2 * time.Minute), Todo: "Start it.",
			Text: "it does not answer:\x1b[31m boo\nsecond line"}},
	}}
}

// serveStatus serves a cluster, and returns its address.
func serveStatus(t *testing.T, p *pretended) string {
	t.Helper()
	s := httptest.NewServer(web.NewHandler(p, web.Options{Gatherer: prometheus.NewRegistry(),
		Now: func() time.Time { return statusNow }}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func runStatus(args ...string) (code int, stdout, stderr string) {
	return runCommand(append([]string{"status"}, args...)...)
}

// The screen, word for word: who is down since when, whether one more may be lost, what to do. What a text has for a
// terminal is dropped.
func TestStatusScreen(t *testing.T) {
	code, got, stderr := runStatus("--address", serveStatus(t, twoOfThree()))
	want := `FAILING  cluster c-1, asked node a at 2026-11-30T07:00:00Z
One more node may be lost: no, because 1 of 3 are up to date: node c is away

NODE  STATE        VERSION  LEVEL  LEADS  FOLLOWS  LAG  DISK            MEMORY  FILES     CLOCK    CERTIFICATE
a     up 1d2h      1.2.3    3      0-2,4  3,5      17   3.0GiB/50.0GiB  300MiB  88/65536  -        5h0m (cluster.tls)
b     catching up  -        -      -      -        -    -               -       -         -1.500s  -
c     DOWN 2m      1.2.3    3      -      -        -    3.0GiB/50.0GiB  300MiB  88/65536  -        EXPIRED (cluster.tls)

shards  2, without a leader: 1
lag     - records

conditions (1), the gravest first
failing c: member-down, for 2m, found by node a
    it does not answer:[31m boo second line
    do: Start it.
`
	if code != statusDegraded || got != want || stderr != "" {
		t.Errorf("exit %d, stderr %q:\n%s\nwant:\n%s", code, stderr, got, want)
	}
}

// Scripts go by the exit code, whatever is printed.
func TestStatusCodes(t *testing.T) {
	for _, c := range []struct {
		name     string
		severity condition.Severity
		want     int
	}{{"well", 0, exitOK}, {"notice", condition.Notice, exitOK}, {"degraded", condition.Degraded, statusDegraded},
		{"failing", condition.Failing, statusDegraded}, {"stopped", condition.Stopped, statusStopped}} {
		p := twoOfThree()
		p.node.Conditions = nil
		if c.severity > 0 {
			p.node.Others = []condition.Condition{{ID: condition.DiskHigh, Severity: c.severity, Node: "b"}}
		}
		address := serveStatus(t, p)
		if code, _, stderr := runStatus("--address", address); code != c.want || stderr != "" {
			t.Errorf("%s: exit %d, want %d: %s", c.name, code, c.want, stderr)
		}
		code, out, _ := runStatus("--address", address, "--json")
		var answer clusterStatus
		if err := json.Unmarshal([]byte(out), &answer); code != c.want || err != nil || len(answer.Members) != 3 {
			t.Errorf("%s: exit %d, %v: %s", c.name, code, err, out)
		}
	}
	for _, args := range [][]string{{"--address", "127.0.0.1:1"}, {"--frob"}, {"x"}, {"--address", "nowhere"},
		{"--config", "/nowhere/deckle.yaml"}} {
		if code, out, stderr := runStatus(args...); code != statusUnknown || out != "" || stderr == "" {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", args, code, out, stderr)
		}
	}
	other := httptest.NewServer(nil)
	defer other.Close()
	if code, _, stderr := runStatus("--address", strings.TrimPrefix(other.URL, "http://")); code != statusUnknown {
		t.Errorf("another server: exit %d: %s", code, stderr)
	}
}

// Colours are for terminals, for who wants them; the words are the same.
func TestStatusColours(t *testing.T) {
	env := func(name, value string) func(string) string {
		return func(n string) string {
			if n == name {
				return value
			}
			return ""
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	if coloured(null, env("", "")) || coloured(new(bytes.Buffer), env("", "")) {
		t.Error("colours where there is no terminal")
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Logf("no terminal to try: %v", err)
	} else {
		defer func() { _ = terminal.Close() }()
		if !coloured(terminal, env("", "")) || coloured(terminal, env("NO_COLOR", "1")) ||
			coloured(terminal, env("TERM", "dumb")) {
			t.Error("a terminal has colours, unless NO_COLOR or TERM=dumb says no")
		}
	}
	var c clusterStatus
	_, text, _ := runStatus("--address", serveStatus(t, twoOfThree()), "--json")
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	painted := c.screen(&painter{colour: true})
	for _, s := range []string{"\x1b[1;31mFAILING\x1b[0m", "\x1b[1;31mc     DOWN", "\x1b[33mb     catching up",
		"\x1b[1;31mfailing\x1b[0m c:"} {
		if !strings.Contains(painted, s) {
			t.Errorf("%q lacks %q", painted, s)
		}
	}
	bare := painted
	for _, how := range []string{"0", bold, dim, red, green, yellow} {
		bare = strings.ReplaceAll(bare, "\x1b["+how+"m", "")
	}
	if want := c.screen(&painter{}); bare != want {
		t.Errorf("without its colours:\n%s\nwant:\n%s", bare, want)
	}
}
