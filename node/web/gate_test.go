package web

import (
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/front"
)

// A page of somebody else's whose name points here (DNS rebinding) is the same origin for a browser as this node. It
// gets nothing, at no path, old or new, that there is or is not: no figures, no reader's history, no command.
func TestRebinding(t *testing.T) {
	h := commandHandler(nil)
	paths := []string{"/nothing", "/api/nothing", "/api/v1/nothing", "//"}
	for _, r := range routes {
		paths = append(paths, pathOf(r.path))
		if r.old != "" {
			paths = append(paths, pathOf(r.old))
		}
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS"} {
			r := httptest.NewRequest(method, path, strings.NewReader(`{"partition":3}`))
			r.Host, r.RemoteAddr = "rebound.example:8080", "127.0.0.1:40000"
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != 421 || strings.Contains(w.Body.String(), "shard") ||
				method == "GET" && !strings.Contains(w.Body.String(), "rebound.example") {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
}

// Who asks too often is told to wait, for the class of what it asks only; the page's address under a proxy's base path
// is one from which its relative addresses lead to the API; and the figures have the table's paths, never a client's.
func TestGate(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := front.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	now := testNow
	h := NewHandler(newFakeSource(), Options{Gatherer: reg, Gate: front.NewGate(front.GateOptions{
		Base: "/deckle", Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Metrics: m,
		Now: func() time.Time { return now }})})
	_, burst := front.Heavy.Limit()
	for range int(burst) {
		if w := ask(h, "GET", "/deckle/metrics", ""); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	w := ask(h, "GET", "/metrics", "")
	if p := decode[problem](t, w.Body.String()); w.Code != 429 || p.Type != "urn:deckle:problem:too-many-requests" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	wait, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if err != nil || wait < 1 {
		t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
	}
	if w := ask(h, "GET", "/readyz", ""); w.Code != 200 {
		t.Errorf("another class: %d", w.Code)
	}
	now = now.Add(time.Duration(wait) * time.Second)
	if w := ask(h, "GET", "/metrics", ""); w.Code != 200 ||
		!strings.Contains(w.Body.String(), `deckle_http_requests_total{code="200",route="/metrics"} 5`) {
		t.Errorf("after the wait: %d %s", w.Code, w.Body)
	}
	if w := ask(h, "GET", "/deckle", ""); w.Code != 308 || w.Header().Get("Location") != "/deckle/" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := ask(h, "GET", "/deckle/api/status", ""); w.Code != 200 ||
		!strings.HasPrefix(w.Header().Get("Link"), "</deckle/api/v1/status>") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := ask(h, "GET", "/deckle//livez", ""); w.Header().Get("Location") == "/livez" {
		t.Errorf("a redirect out of the base path: %d %v", w.Code, w.Header())
	}
	ask(h, "GET", "/<script>", "")
	ask(h, "GET", "/api/v1/sessions/secret", "")
	now = now.Add(time.Minute)
	text := ask(h, "GET", "/metrics", "").Body.String()
	for _, want := range []string{`code="404",route="other"`, `code="404",route="/api/v1/sessions/{id}"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "script") {
		t.Errorf("a client's text is in the figures: %s", text)
	}
}
