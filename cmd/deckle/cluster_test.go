package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The commands against a node's answers: what is asked of it, what is shown, and the exit codes.
func TestClusterVerbs(t *testing.T) {
	var asked []string
	looks := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
		switch {
		case strings.Contains(string(body), `"z"`):
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"type":"urn:deckle:problem:refused","title":"Refused","status":409,
"detail":"refused: no","request":"0123456789abcdef"}`)
		case r.URL.Path == "/api/v1/cluster":
			looks++
			leads := []string{"[]", "[0]"}[looks%2] // the second look finds nothing
			_, _ = fmt.Fprintf(w, `{"health":"well","members":[{"node":"a","answers":true,"figures":{"drained":false}},
{"node":"b","answers":true,"figures":{"drained":%t,"shards_led":%s}}]}`, looks < 3, leads)
		case strings.HasSuffix(r.URL.Path, "transfer") && strings.Contains(string(body), `"all"`):
			_, _ = io.WriteString(w, `{"to":"c","whole":false,"shards":[{"shard":0,"from":"a"},{"shard":1,"from":"c"},
{"shard":2,"from":"b","error":"it has not caught up"}]}`)
		case strings.HasSuffix(r.URL.Path, "transfer"):
			_, _ = io.WriteString(w, `{"to":"c","whole":true,"shards":[{"shard":3,"from":"a"}]}`)
		case strings.HasSuffix(r.URL.Path, "undrain"):
			_, _ = io.WriteString(w, `{"node":"b","drained":false,"shards_led":[],"warnings":[]}`)
		default:
			_, _ = io.WriteString(w, `{"node":"b","drained":true,"shards_led":[0,1],"warnings":["node a is away"]}`)
		}
	}))
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "http://")
	for _, c := range []struct {
		line   string
		code   int
		stdout string
		stderr string // a part of it
		asked  string
	}{
		{"transfer --shard 3 --to c", exitOK, "shard 3: from node a to node c\n", "",
			`POST /api/v1/cluster/transfer {"shard":3,"to":"c"}`},
		{"transfer --all --to c", exitFailure,
			"shard 0: from node a to node c\nshard 1: node c leads it, and keeps it\n",
			"shard 2: it has not caught up", `POST /api/v1/cluster/transfer {"all":true,"to":"c"}`},
		{"transfer --shard 0 --to c --json", exitOK,
			`{"to":"c","whole":true,"shards":[{"shard":3,"from":"a"}]}` + "\n", "",
			`POST /api/v1/cluster/transfer {"shard":0,"to":"c"}`},
		{"transfer --shard 3 --to z", exitFailure, "", "refused: no",
			`POST /api/v1/cluster/transfer {"shard":3,"to":"z"}`},
		{"transfer --to c", exitUsage, "", "--shard", ""},
		{"transfer --shard 1 --all --to c", exitUsage, "", "--shard", ""},
		{"transfer --all", exitUsage, "", "--to", ""},
		{"drain b", exitOK, "node b is drained; it still leads shards 0,1, until other nodes take them\n",
			"warning: node a is away", `POST /api/v1/cluster/drain {"node":"b"}`},
		{"drain b --json --wait", exitOK,
			`{"node":"b","drained":true,"shards_led":[],"warnings":["node a is away"]}` + "\n", "",
			`POST /api/v1/cluster/drain {"node":"b"}, GET /api/v1/cluster, GET /api/v1/cluster`},
		{"drain b --wait --timeout 1ms", exitFailure, "", "waited for in vain",
			`POST /api/v1/cluster/drain {"node":"b"}, GET /api/v1/cluster`},
		{"drain z", exitFailure, "", "refused: no", `POST /api/v1/cluster/drain {"node":"z"}`},
		{"drain", exitUsage, "", "name one node", ""},
		{"undrain b", exitOK, "node b may lead shards\n", "", `POST /api/v1/cluster/undrain {"node":"b"}`},
		{"undrain b c", exitUsage, "", "name one node", ""},
	} {
		asked = nil
		var stdout, stderr bytes.Buffer
		args := append([]string{"cluster", "--address", address}, strings.Fields(c.line)...)
		code := run(context.Background(), args, &stdout, &stderr)
		if code != c.code || stdout.String() != c.stdout || !strings.Contains(stderr.String(), c.stderr) ||
			strings.Join(asked, ", ") != c.asked && !strings.Contains(c.line, "1ms") {
			t.Errorf("%s: exit %d\n%s%sasked %q", c.line, code, stdout.String(), stderr.String(), asked)
		}
	}
}
