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

// The commands against a node's answers: what is asked of it, what is shown, and the exit code of a refusal.
func TestPartitions(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
		switch {
		case r.URL.Path == "/api/v1/status":
			_, _ = io.WriteString(w, `{"conditions":[{"id":"partition-stopped","subject":"partition 3","text":"lost"}],
"shards":[{"shard":1,"partitions":[{"partition":1,"next_offset":7,"lag_records":0},
{"partition":3,"next_offset":5,"lag_records":null,"gap_count":1,"skipped_offsets":2,
"gaps":[{"from":1,"to":3,"at":"2026-11-22T12:00:00Z","by":"a","reason":"flipped bit"}],
"events_gap_count":1,"events_skipped_offsets":1,
"events_gaps":[{"from":4,"to":5,"at":"2026-11-22T12:00:00Z","by":"b","reason":"trimmed"}]}]}]}`)
		case strings.HasSuffix(r.URL.Path, "/add"):
			if strings.Contains(string(body), `"to":3`) { // all of them are read
				_, _ = io.WriteString(w, `{"dry_run":true,"from":3,"to":3,"whole":true}`)
				return
			}
			whole := !strings.Contains(string(body), `"to":7`) && !strings.Contains(string(body), `"from":3,"to":6`)
			to := map[bool]int{true: 5, false: 6}[whole]
			if strings.Contains(string(body), "dry_run") {
				whole = !strings.Contains(string(body), `"to":7`)
			}
			_, _ = fmt.Fprintf(w, `{"dry_run":%t,"from":3,"to":%d,"whole":%t,"shards":[{"shard":0,"have":2,
"added":[{"partition":4,"from_offset":7,"end_offset":9}]},{"shard":1,"have":1%s}],
"split":{"none":false,"partitioner":"murmur2","sessions":2,"named":["a","b"],"unknown":1,"whole":true}}`,
				strings.Contains(string(body), "dry_run"), to, whole,
				map[bool]string{false: `,"error":"no leader"`}[whole])
		case strings.Contains(string(body), `"partition":9`):
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"type":"urn:deckle:problem:refused","title":"Refused","status":409,
"detail":"refused: no","request":"0123456789abcdef"}`)
		default:
			_, _ = io.WriteString(w, `{"next_offset":9,"skipped_offsets":4}`)
		}
	}))
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "http://")
	for _, c := range []struct {
		line   string
		code   int
		stdout string
		asked  string
	}{
		{"status", exitOK, `PARTITION  SHARD  NEXT  LAG  GAPS  SKIPPED  STATE
1          1      7     0    0     0        
3          1      5     -    1     2        stopped

partition 3 is stopped: lost

partition 3, the last 1 of 1 gaps:
  offsets 1 to 3 (without it), 2026-11-22T12:00:00Z, asked of node a: "flipped bit"

partition 3, raw events that are not in table events, the last 1 of 1 gaps with 1 offsets:
  offsets 4 to 5 (without it), 2026-11-22T12:00:00Z, asked of node b: "trimmed"
`, "GET /api/v1/status"},
		// the next offset is what the operator was shown, so it goes along
		{"skip --partition 3 --to 9 --reason gone --yes", exitOK,
			"partition 3 goes on at offset 9; 4 offsets have been given up\n", "GET /api/v1/status, " +
				`POST /api/v1/partitions/skip {"from":5,"partition":3,"reason":"gone","to":9}`},
		{"skip --partition 3 --to 9", exitFailure, "", "GET /api/v1/status"}, // nobody says yes
		{"skip --partition 3 --to 4 --yes", exitUsage, "", "GET /api/v1/status"},
		{"skip --partition 8 --to 4 --yes", exitFailure, "", "GET /api/v1/status"},
		{"skip --partition 9 --from 1 --to 4 --yes", exitFailure, "",
			`POST /api/v1/partitions/skip {"from":1,"partition":9,"reason":"","to":4}`},
		// of raw events alone: the offsets are those that the condition names, nothing is filled in
		{"skip --sink events --partition 3 --from 1 --to 5 --reason trimmed --yes", exitOK,
			"raw events of partition 3 go on at offset 9; 4 offsets have been given up\n",
			`POST /api/v1/partitions/skip {"from":1,"partition":3,"reason":"trimmed","sink":"events","to":5}`},
		{"skip --sink events --partition 3 --from 1 --to 5 --yes --json", exitOK,
			`{"next_offset":9,"skipped_offsets":4}` + "\n",
			`POST /api/v1/partitions/skip {"from":1,"partition":3,"reason":"","sink":"events","to":5}`},
		{"skip --sink events --partition 3 --from 1 --to 5", exitFailure, "", ""}, // nobody says yes
		{"skip --sink events --partition 3 --to 5 --yes", exitUsage, "", ""},
		{"skip --sink events --partition 3 --from 5 --to 5 --yes", exitUsage, "", ""},
		{"skip --sink sessions --partition 3 --from 1 --to 5 --yes", exitUsage, "", ""},
		{"skip --partition 3 --to 9 --yes --json", exitOK, `{"next_offset":9,"skipped_offsets":4}` + "\n",
			"GET /api/v1/status, " + `POST /api/v1/partitions/skip {"from":5,"partition":3,"reason":"","to":9}`},
		{"resume --partition 3", exitOK, "partition 3 is tried again from offset 9 on\n",
			`POST /api/v1/partitions/resume {"partition":3}`},
		{"add --dry-run", exitOK, `5 partitions would be read, 3 before
PARTITION  SHARD  FROM  RECORDS
4          0      7     2
partition 4: Kafka has deleted its first 7 offsets, which are read by nobody
2 of the open sessions go on as a second row if their readers come back, since their keys went to another shard ` +
			"when the topic grew (by murmur2). Of 1 open sessions the key is not known. Some of them: a b\n",
			`POST /api/v1/partitions/add {"dry_run":true}`},
		{"add", exitFailure, "", `POST /api/v1/partitions/add {"dry_run":true}`}, // nobody says yes
		{"add --to 3 --yes", exitOK, "all 3 partitions are read; there is nothing to add\n",
			`POST /api/v1/partitions/add {"dry_run":true,"to":3}`},
		{"add --yes", exitOK, "5 partitions are read now, 3 before\nPARTITION  SHARD  FROM  RECORDS\n" +
			"4          0      7     2\npartition 4: Kafka has deleted its first 7 offsets, which are read by nobody\n",
			`POST /api/v1/partitions/add {"dry_run":true}, ` +
				`POST /api/v1/partitions/add {"from":3,"to":5}`},
		{"add --to 7 --yes", exitFailure, "", `POST /api/v1/partitions/add {"dry_run":true,"to":7}`}, // a shard cannot
		{"add --to 0", exitUsage, "", ""},
		{"resume --partition 9", exitFailure, "", `POST /api/v1/partitions/resume {"partition":9}`},
	} {
		asked = nil
		var stdout, stderr bytes.Buffer
		args := append([]string{"partitions", "--address", address}, strings.Fields(c.line)...)
		code := run(context.Background(), args, &stdout, &stderr)
		if code != c.code || stdout.String() != c.stdout || strings.Join(asked, ", ") != c.asked {
			t.Errorf("%s: exit %d\n%s%sasked %q", c.line, code, stdout.String(), stderr.String(), asked)
		}
	}
}
