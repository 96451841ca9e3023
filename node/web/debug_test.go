package web

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Profiles show what a process is about, so they have an address of their own, on loopback, under no name that somebody
// else has pointed here, and from no page in a browser.
func TestDebug(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ServeDebug(ctx, ln, slog.New(slog.DiscardHandler)) }()
	get := func(path string, change func(*http.Request)) int {
		r, err := http.NewRequest(http.MethodGet, "http://"+ln.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(r)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for path, want := range map[string]int{"/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200,
		"/debug/pprof/heap": 200, "/debug/pprof/cmdline": 200, "/": 404, "/api/v1/status": 404} {
		if code := get(path, nil); code != want {
			t.Errorf("%s: %d", path, code)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"other name": func(r *http.Request) { r.Host = "rebound.example" },
		"browser":    func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"a proxy":    func(r *http.Request) { r.Header.Set("X-Forwarded-For", "127.0.0.1") },
	} {
		if code := get("/debug/pprof/heap", change); code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/debug/pprof/heap", nil)
	r.Host, r.RemoteAddr = "localhost", "127.0.0.1:1"
	w := httptest.NewRecorder()
	debugHandler().ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
