package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/access"
	"deckle/node/status"
)

// FuzzHTTP: whatever bytes a client sends, the answer is well formed and one of those that the handler documents.
func FuzzHTTP(f *testing.F) {
	for _, r := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /api/session/s%2F1 HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /api/session/%00%ff HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /api/session/" + strings.Repeat("x", 256) + " HTTP/1.0\r\n\r\n",
		"GET /api/status?x=%zz HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /api/analytics HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
		"HEAD /readyz HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: h\r\nAccept: application/openmetrics-text;version=9\r\nAccept-Encoding: " +
			"gzip, zstd\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "GET /api/../api/session/..%2f..%2f HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET //livez HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /api/v1/sessions/s%2F1 HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /api/v1/sessions?id=a;b HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /api/v1/status HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer dkl_k3f9x2ab_x\r\n\r\n",
		"GET /api/v1/status HTTP/1.1\r\nHost: h\r\nCookie: deckle=dkl_k3f9x2ab_x; deckle=\r\n\r\n",
		"POST /api/v1/login HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n" +
			`{"token":"x"}`,
		"DELETE /api/v1/status HTTP/1.1\r\nHost: h\r\n\r\n", "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /api/v1/partitions/skip HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
			"Content-Length: 2\r\n\r\n{}",
	} {
		f.Add([]byte(r))
	}
	src := newFakeSource()
	h := NewHandler(src, Options{Gate: patientGate("h"), Gatherer: prometheus.NewRegistry(),
		Now: func() time.Time { return testNow },
		Command: func(context.Context, status.Command) (status.Outcome, error) {
			return status.Outcome{}, status.ErrRefused
		}})
	before := NewHandler(src, Options{Gate: patientGate("h"), Gatherer: prometheus.NewRegistry(),
		Now: func() time.Time { return testNow }, Access: access.New(access.Options{Tokens: true}),
		Open: func() []string { return []string{"readyz"} },
		Command: func(context.Context, status.Command) (status.Outcome, error) {
			panic("a command of nobody's")
		}})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return // the standard library's server refuses it
		}
		// Where one has to say who one is, and there is no token: nobody gets anything but what is everybody's.
		out := httptest.NewRecorder()
		before.ServeHTTP(out, r)
		text := out.Body.String()
		if out.Code < 400 && (strings.Contains(text, "shard") && !strings.HasPrefix(text, "<") ||
			strings.Contains(text, "deckle_http")) {
			t.Fatalf("%q: nobody is told %s", b, text)
		}
		if r, err = http.ReadRequest(bufio.NewReader(bytes.NewReader(b))); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 200, 400, 403, 404, 405, 301, 307, 308, 406, 409, 413, 415, 421:
		default:
			t.Fatalf("%q: status %d: %s", b, w.Code, w.Body)
		}
		if strings.HasSuffix(w.Header().Get("Content-Type"), "json") && r.Method == http.MethodGet {
			if !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%q: not JSON: %s", b, w.Body)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Fatalf("%q: headers %v", b, w.Header())
			}
		}
		for _, base := range []string{"/api/session/", "/api/v1/sessions/"} {
			if id, ok := strings.CutPrefix(r.URL.Path, base); ok && w.Code == 200 && r.Method == http.MethodGet &&
				id != "s/1" && r.URL.RawPath == "" {
				t.Fatalf("%q: session %q found: %s", b, id, w.Body)
			}
		}
		if p := r.URL.Path; strings.HasPrefix(p, "/api/v1/") && w.Code >= 400 &&
			w.Header().Get("Content-Type") != "application/problem+json" {
			t.Fatalf("%q: %d is no problem: %s", b, w.Code, w.Body)
		}
		if _, err := io.Copy(io.Discard, w.Result().Body); err != nil {
			t.Fatal(err)
		}
	})
}
