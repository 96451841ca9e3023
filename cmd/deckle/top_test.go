package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/cockroachdb/datadriven"
)

// topCluster and topNode are what a node answers: one node down, one sink behind, a shard that has stopped, and texts
// of others that a terminal would take for commands.
const (
	topCluster = `{"node":"a","cluster_id":"c-1","now":"2026-11-30T07:00:00Z","health":"stopped","can_lose_one":false,
"because":"1 of 3 are up to date: node c is away","lag_records":1217,"lag_seconds":3.25,
"members":[{"node":"a","answers":true,"up_to_date":true,"figures":{"shards_led":[0,1],"lag_records":17,
"disk_bytes":32212254720,"disk_limit_bytes":53687091200,"memory_bytes":314572800,"session_memory_bytes":1048576,
"session_memory_limit_bytes":268435456,"open_files":60000,"open_files_limit":65536}},
{"node":"b\u001b]0;x\u0007","answers":true,"up_to_date":false},
{"node":"c","answers":false,"figures":{"shards_led":[2],"lag_records":5,"disk_bytes":1,"memory_bytes":1}}],
"sinks":[{"sink":"events","epochs_behind":0,"visible_p50_ms":812,"visible_p99_ms":2100},
{"sink":"clickhouse","epochs_behind":42}],
"conditions":[{"id":"sink-stopped","severity":"stopped","subject":"shard 1, clickhouse","since":"2026-11-30T06:00:00Z",
"text":"refused:\u001b[31m boo\nsecond line","nodes":["a"]},
{"id":"member-down","severity":"failing","subject":"c","since":"2026-11-30T06:57:00Z","text":"it does not answer",
"nodes":["a","b"]},
{"id":"topic-create-time","severity":"notice","subject":"topic clicks","since":"2026-11-29T06:57:00Z","text":"one",
"nodes":["a"]},{"id":"shards-idle","severity":"notice","subject":"topic clicks","since":"2026-11-29T06:57:00Z",
"text":"two","nodes":["a"]}]}`
	topNode = `{"totals":{"applied_events":1000,"dead_letters":7,"live_sessions":12},"shards":[
{"shard":0,"leader":"a","last_closed_epoch":100,"acked_epochs":{"events":100,"clickhouse":99},"live_sessions":5,
"lag_records":17,"lag_seconds":0.4,"partitions":[{"partition":0,"next_offset":500,"lag_records":17},
{"partition":2,"next_offset":7,"idle":true,"lag_records":0}]},
{"shard":1,"leader":"a","last_closed_epoch":142,"acked_epochs":{"events":142,"clickhouse":100},"live_sessions":7,
"lag_records":1200,"lag_seconds":3.25,"paused":"disk: the data folder is full","partitions":[
{"partition":1,"next_offset":90,"lag_records":1200},{"partition":3,"next_offset":null,"unread":true}]},
{"shard":2,"leader":"","last_closed_epoch":9,"acked_epochs":{},"stopped":{"events":"lost\u001b[2J"},
"partitions":[{"partition":5,"next_offset":1}]}]}`
)

func frameOf(t *testing.T, cluster, node string) *topFrame {
	t.Helper()
	f := &topFrame{}
	if err := errors.Join(json.Unmarshal([]byte(cluster), &f.cluster),
		json.Unmarshal([]byte(node), &f.status)); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestTop runs testdata/top: each command goes on with the same screen.
func TestTop(t *testing.T) {
	m := &topModel{width: topWidth, height: topHeight, every: time.Second,
		ask: func() (*topFrame, error) { return nil, errors.New("not here") }}
	datadriven.RunTest(t, "testdata/top", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "answer":
			later := strings.NewReplacer("07:00:00Z", "07:00:02Z", `"applied_events":1000`, `"applied_events":6000`)
			cluster, node := topCluster, topNode
			if m.frame != nil {
				cluster, node = later.Replace(cluster), later.Replace(node)
			}
			m.Update(topAnswer{asked: m.asked, frame: frameOf(t, cluster, node)})
		case "fails":
			m.Update(topAnswer{asked: m.asked, err: errors.New("connection refused\x1b[2J")})
		case "keys":
			for key := range strings.FieldsSeq(d.Input) {
				m.key(key)
			}
		case "size":
			m.Update(tea.WindowSizeMsg{Width: 60, Height: 10})
		case "all":
			return m.all() + "\n"
		}
		text := m.View().Content
		for line := range strings.SplitSeq(text, "\n") {
			if n := len([]rune(line)); n > m.width {
				t.Errorf("a line has %d characters: %s", n, line)
			}
		}
		if n := strings.Count(text, "\n") + 1; n > m.height {
			t.Errorf("%d lines", n)
		}
		return strings.ReplaceAll(text, "\n\n", "\n.\n") + "\n"
	})
}

// Nothing of others reaches the terminal as a command, and colours change nothing but colours.
func TestTopForeignText(t *testing.T) {
	m := &topModel{paint: painter{colour: true}}
	m.took(frameOf(t, topCluster, topNode), nil)
	painted := m.all()
	for _, how := range []string{bold, dim, red, green, yellow, "0"} {
		painted = strings.ReplaceAll(painted, "\x1b["+how+"m", "")
	}
	m.paint.colour = false
	if plain := m.all(); painted != plain || strings.ContainsAny(plain, "\x1b\x07") {
		t.Errorf("%q\n%q", painted, plain)
	}
	m.took(nil, errors.New("a proxy says \x1b[2J"))
	if text := m.screen(); strings.ContainsRune(text, '\x1b') {
		t.Errorf("%q", text)
	}
}

// A look that is answered late changes nothing any more, and one that stands still asks nobody.
func TestTopLooks(t *testing.T) {
	m := &topModel{every: time.Second, ask: func() (*topFrame, error) { return nil, errors.New("not here") }}
	first := m.Init()
	if _, next := m.Update(topTick{}); next != nil {
		t.Error("it asks twice at a time")
	}
	if _, next := m.Update(first()); next == nil || m.err == nil {
		t.Errorf("after an answer it asks no more, or the error is not shown: %v", m.err)
	}
	m.Update(tea.KeyPressMsg{Code: tea.KeySpace, Text: " "})
	if _, next := m.Update(topTick{}); next != nil || !m.still {
		t.Error("it does not stand still")
	}
	_, next := m.Update(tea.KeyPressMsg{Code: tea.KeySpace, Text: " "})
	if next == nil || m.asked != 2 {
		t.Fatalf("it does not go on: %d", m.asked)
	}
	m.Update(topAnswer{asked: 1, frame: frameOf(t, topCluster, topNode)})
	if m.frame != nil {
		t.Error("an answer to the look before counts")
	}
	if quit := m.key("q"); quit == nil || quit() != (tea.QuitMsg{}) {
		t.Error("q does not end it")
	}
}

// The command asks the two routes; what is no terminal has one frame, or is refused.
func TestTopOnce(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := topNode
		if r.URL.Path == "/api/v1/cluster" {
			text = topCluster
		}
		_, _ = w.Write([]byte(text))
	}))
	defer s.Close()
	address := strings.TrimPrefix(s.URL, "http://")
	code, out, text := deckleRun("top", "--address", address, "--once")
	if code != exitOK || !strings.Contains(out, "NO LEADER") || strings.ContainsRune(out, '\x1b') {
		t.Errorf("exit %d: %s%s", code, out, text)
	}
	if code, _, text = deckleRun("top", "--address", address); code != exitUsage || !strings.Contains(text, "--once") {
		t.Errorf("exit %d: %s", code, text)
	}
	if code, _, _ = deckleRun("top", "--address", address, "--once", "--every", "1ms"); code != exitUsage {
		t.Errorf("exit %d", code)
	}
	// What a node really answers is what is read.
	code, out, text = deckleRun("top", "--address", serveStatus(t, twoOfThree()), "--once")
	if code != exitOK || !strings.Contains(out, "FAILING  cluster c-1") || !strings.Contains(out, "[.....] 6%") {
		t.Errorf("exit %d: %s%s", code, out, text)
	}
}
