package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The commands against a node's answers: what is asked of it, what is shown, and the exit codes.
func TestUpgradeVerbs(t *testing.T) {
	var asked []string
	whole := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
		switch {
		case r.Method == http.MethodGet:
			_, _ = io.WriteString(w, `{"level":4,"level_highest":4,"level_newest":5,"way_back":true,
"holds":["version 1 of node b has level 4","cluster.finalize of node a is manual"],"nodes":[
{"node":"a","answers":true,"version":"2","level_has":5,"level_known":5,"manual":true},
{"node":"b","answers":true,"version":"1","level_has":4,"level_known":4},{"node":"c"}]}`)
		case whole:
			_, _ = io.WriteString(w, `{"whole":true,"shards":[{"shard":0,"from":4,"to":5}]}`)
		default:
			_, _ = io.WriteString(w, `{"whole":false,"shards":[{"shard":0,"from":4,"to":5},
{"shard":1,"from":4,"to":4,"error":"node c does not answer"}]}`)
		}
	}))
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "http://")
	const finalize = "POST /api/v1/upgrade/finalize {}"
	for _, c := range []struct {
		line           string
		whole          bool
		code           int
		stdout, stderr string // of stderr a part
		asked          string
	}{
		{"status", true, exitOK, `NODE  STATE  VERSION  LEVEL  ALLOWS  FINALIZE
a     up     2        5      5       manual
b     up     1        4      4       auto
c     DOWN   -        -      -       -

level of the shards  4, of the newest version 5
held down by         version 1 of node b has level 4
                     cluster.finalize of node a is manual
way back             open: versions of level 4 may take over
`, "", "GET /api/v1/upgrade"},
		{"finalize", true, exitFailure, "", "not confirmed", ""}, // nobody says yes
		{"finalize --yes", true, exitOK, "shard 0: level 5, it was 4\n", "", finalize},
		{"finalize --yes", false, exitFailure, "shard 0: level 5, it was 4\n", "shard 1: node c does not answer",
			finalize},
		{"finalize --yes --json", true, exitOK,
			`{"whole":true,"shards":[{"shard":0,"from":4,"to":5}]}` + "\n", "", finalize},
		{"finalize now", true, exitUsage, "", "", ""},
	} {
		asked, whole = nil, c.whole
		var stdout, stderr bytes.Buffer
		args := append([]string{"upgrade", "--address", address}, strings.Fields(c.line)...)
		code := run(context.Background(), args, &stdout, &stderr)
		if code != c.code || stdout.String() != c.stdout || !strings.Contains(stderr.String(), c.stderr) ||
			strings.Join(asked, ", ") != c.asked {
			t.Errorf("%s: exit %d\n%s%sasked %q", c.line, code, stdout.String(), stderr.String(), asked)
		}
	}
}
