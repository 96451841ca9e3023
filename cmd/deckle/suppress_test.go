package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deckle/node/status"
)

// The commands against a node's answers: ids go in bodies, as many at once as a node takes, and what did not come to
// every shard is an exit code of 1 and named.
func TestSuppress(t *testing.T) {
	var asked []string
	busy := 1
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+string(body)))
		text := string(body)
		switch {
		case strings.Contains(text, "busy") && busy > 0:
			busy--
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"detail":"too soon"}`)
		case strings.Contains(text, "refused"):
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"detail":"refused: shard 1 has level 2"}`)
		case r.URL.String() == "/api/v1/suppressions?from=0":
			_, _ = io.WriteString(w, `{"number":3,"readers":2,"next":1,"listings":[{"kind":"user","hash":"aa",`+
				`"since":"2026-11-30T01:00:00Z","by":"local"}]}`)
		case r.URL.String() == "/api/v1/suppressions?from=1":
			_, _ = io.WriteString(w, `{"number":3,"readers":2,"next":null,"listings":[{"kind":"session","hash":"bb",`+
				`"since":"2026-11-30T02:00:00Z","by":"token:k3f9x2ab ops"}]}`)
		case strings.HasSuffix(r.URL.Path, "/check"):
			_, _ = io.WriteString(w, `{"ids":2,"whole":true,"open_sessions_whole":true,"found":[{"kind":"user",`+
				`"listed":true,"since":"2026-11-30T01:00:00Z","shards":[0,1],"shards_without":[2]},`+
				`{"kind":"user","shards":[],"shards_unknown":[2]}]}`)
		case strings.HasSuffix(r.URL.Path, "/repair"):
			_, _ = io.WriteString(w, `{"readers":5,"whole":true,`+
				`"shards":[{"shard":0},{"shard":1,"added":2,"removed":1}]}`)
		case strings.Contains(text, "half"):
			_, _ = io.WriteString(w, `{"ids":1,"changed":1,"readers":4,"open_sessions_whole":true,`+
				`"shards":[{"shard":0},{"shard":1,"error":"no leader"}]}`)
		default:
			var q struct {
				Users []string `json:"user_ids"`
			}
			_ = json.Unmarshal(body, &q)
			fmt.Fprintf(w, `{"ids":%d,"changed":1,"readers":4,"whole":true,"open_sessions":["s 1"],`+
				`"open_sessions_whole":true,"not_stopped":["Kafka"]}`, max(len(q.Users), 1))
		}
	}))
	defer srv.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	two, bad, none := file("two", "7\r\n\nx y\n"), file("bad", "7\n0\n"), file("none", "\n")
	many := file("many", strings.Repeat("7\n", status.MaxListIDs+1))
	const path = "POST /api/v1/suppressions/"
	for _, c := range []struct {
		line   string
		code   int
		stdout string
		asked  []string
	}{
		{"add --user 4711", exitOK, "1 ids: 1 were added, the others were on the list; it has 4 readers\n\n" +
			"open sessions of these users, which are written when they end:\n  \"s 1\"\n\nnot stopped:\n  - Kafka\n",
			[]string{path + `add {"user_ids":["4711"]}`}},
		{"remove --session half", exitFailure,
			"1 ids: 1 were removed, the others were not on the list; it has 4 readers\n",
			[]string{path + `remove {"session_ids":["half"]}`}},
		{"check --file " + two, exitOK, "user \"7\" is on the list since 2026-11-30T01:00:00Z, in shards [0 1], " +
			"and not in [2] (deckle suppress repair)\nuser \"x y\" is not on the list; shards [2] have not answered\n",
			[]string{path + `check {"user_ids":["7","x y"]}`}},
		{"add --json --session busy", exitOK, `{"ids":1,"hash":"","changed":1,"readers":4,"whole":true,` +
			`"at":"0001-01-01T00:00:00Z","shards":null,"open_sessions":["s 1"],"open_sessions_whole":true,` +
			`"not_stopped":["Kafka"]}` + "\n",
			[]string{path + `add {"session_ids":["busy"]}`, path + `add {"session_ids":["busy"]}`}},
		{"remove --file " + many, exitOK, "", nil},
		{"add --user refused", exitFailure, "", []string{path + `add {"user_ids":["refused"]}`}},
		{"add --user 0", exitUsage, "", nil},
		{"add --file " + bad, exitUsage, "", nil}, // before anything is sent
		{"add --file " + none, exitUsage, "", nil},
		{"add --file /nowhere", exitUsage, "", nil},
		{"add", exitUsage, "", nil},
		{"add --user 1 --session 2", exitUsage, "", nil},
		{"add --user 1 --sessions", exitUsage, "", nil},
		{"list", exitOK, "KIND  HASH  SINCE                 BY\nuser  aa    2026-11-30T01:00:00Z  local\n" +
			"session  bb  2026-11-30T02:00:00Z  token:k3f9x2ab ops\n",
			[]string{"GET /api/v1/suppressions?from=0", "GET /api/v1/suppressions?from=1"}},
		{"repair", exitOK, "shard 1: 2 added, 1 removed\nall shards have the same list, of 5 readers\n",
			[]string{path + "repair {}"}},
	} {
		asked = nil
		var stdout, stderr bytes.Buffer
		args := append([]string{"suppress", "--address", strings.TrimPrefix(srv.URL, "http://")},
			strings.Fields(c.line)...)
		code := run(context.Background(), args, &stdout, &stderr)
		if strings.Contains(c.line, many) {
			if len(asked) != 2 || code != c.code || !strings.Contains(stdout.String(), "801 ids: 2 were") {
				t.Errorf("%s: exit %d, %d requests\n%s%s", c.line, code, len(asked), stdout.String(), stderr.String())
			}
			continue
		}
		if code != c.code || stdout.String() != c.stdout || strings.Join(asked, ", ") != strings.Join(c.asked, ", ") {
			t.Errorf("%s: exit %d\n%q\n%sasked %q", c.line, code, stdout.String(), stderr.String(), asked)
		}
		if c.code != exitOK && stderr.Len() == 0 {
			t.Errorf("%s: it does not say why", c.line)
		}
	}
}
