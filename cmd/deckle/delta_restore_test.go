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

// The commands that change tables through a node: nothing is done that nobody has confirmed, and it is shown before.
func TestDeltaRestore(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, strings.TrimPrefix(r.URL.Path, "/api/v1/tables/")+" "+string(body))
		done := "7"
		switch {
		case strings.Contains(string(body), `"version":9`):
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"detail":"refused: vacuumed"}`)
			return
		case strings.Contains(string(body), `"version":6`):
			_, _ = io.WriteString(w, `{"table":"sessions","committed_version":null,"version":6}`)
			return
		case strings.Contains(string(body), `"dry_run":true`):
			done = "null"
		}
		_, _ = io.WriteString(w, `{"table":"sessions","committed_version":`+done+`,"version":6,"restored_version":3,`+
			`"files_restored":1,"files_removed":2,"rows_restored":10,"rows_removed":null,"versions_undone":[5,6]}`)
	}))
	defer srv.Close()
	const look = `restore {"dry_run":true,"rows":"again","table":"sessions","version":3}`
	for _, c := range []struct {
		line           string
		code           int
		stdout, stderr string
		asked          string
	}{
		{"restore sessions --version 3 --rows=again --yes", exitOK,
			"table sessions: version 7 has restored version 3\n",
			"2 files with an unknown number of rows are taken away, and 1 files with 10 rows come back. Undone are 2 " +
				"versions, the first is 5, the last 6.",
			look + ", " + strings.Replace(look, "true", "false", 1)},
		{"restore sessions --version 3 --rows=again", exitFailure, "", "not confirmed", look},
		{"restore sessions --version 3 --rows=again --dry-run", exitOK, "", "is restored to version 3", look},
		{"restore sessions --version 6 --rows=gone", exitOK, "", "nothing to do",
			`restore {"dry_run":true,"rows":"gone","table":"sessions","version":6}`},
		{"restore sessions --version 9 --rows=gone --yes", exitFailure, "", "refused: vacuumed",
			`restore {"dry_run":true,"rows":"gone","table":"sessions","version":9}`},
		{"restore events --timestamp 2026-11-29 --rows=gone --dry-run --json", exitOK,
			`{"table":"sessions","committed_version":null,"version":6,"restored_version":3,"files_restored":1,` +
				`"files_removed":2,"rows_restored":10,"rows_removed":null,"versions_undone":[5,6]}` + "\n", "",
			`restore {"dry_run":true,"rows":"gone","table":"events","timestamp":"2026-11-29T00:00:00Z"}`},
		{"restore sessions --version 3", exitUsage, "", "--rows is missing", ""},
		{"restore sessions --version 3 --rows=maybe", exitUsage, "", "--rows is missing", ""},
		{"restore sessions --rows=gone", exitUsage, "", "--version N or --timestamp T is missing", ""},
		{"restore sessions --rows=gone --version -1", exitUsage, "", "--version N or --timestamp T is missing", ""},
		{"restore sessions --rows=gone --version 1 --timestamp 2026-11-29", exitUsage, "", "two answers", ""},
		{"restore --rows=gone --version 1", exitUsage, "", "name one table", ""},
		{"restore sessions --version 3 --rows=gone --url /lake", exitUsage, "", "--url: a running node does it", ""},
		{"forget-gaps sessions --yes", exitOK, "table sessions: version 7 says so\n", "accepted as gone",
			`forget-gaps {"table":"sessions"}`},
		{"forget-gaps sessions", exitFailure, "", "not confirmed", ""},
	} {
		asked = nil
		var stdout, stderr bytes.Buffer
		args := append([]string{"delta"}, strings.Fields(c.line)...)
		code := run(context.Background(), append(args, "--address", strings.TrimPrefix(srv.URL, "http://")), &stdout,
			&stderr)
		if code != c.code || stdout.String() != c.stdout || !strings.Contains(stderr.String(), c.stderr) ||
			strings.Join(asked, ", ") != c.asked {
			t.Errorf("%s: exit %d\n%s%sasked %q", c.line, code, stdout.String(), stderr.String(), asked)
		}
	}
}
