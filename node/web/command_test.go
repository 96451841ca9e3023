package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"deckle/node/status"
)

// Commands lose records for good, so they are taken from an operator at this machine only: not from a page in a
// browser, not under a name that somebody else has pointed here, not from the network. What is not understood does
// nothing.
func TestCommands(t *testing.T) {
	t.Run("v1", func(t *testing.T) { testCommands(t, "/api/v1", http.StatusUnsupportedMediaType) })
	t.Run("old", func(t *testing.T) { testCommands(t, "/api", http.StatusBadRequest) })
}

// testCommands tests them under a base; form is the answer to a body that is not JSON.
func testCommands(t *testing.T, base string, form int) {
	var got []status.Command
	var err error
	do := func(_ context.Context, c status.Command) (status.Outcome, error) {
		if c.Asker.Principal != "none" || c.Asker.Role != "admin" || len(c.Asker.Request) != 16 {
			t.Errorf("asked by %+v", c.Asker)
		}
		c.Asker = status.Asker{}
		got = append(got, c)
		return status.Outcome{Next: c.To, Skipped: c.To - c.From}, err
	}
	h := NewHandler(newFakeSource(), Options{Command: do, Gate: patientGate()})
	skip, resume := base+"/partitions/skip", base+"/partitions/resume"
	ask := func(path, body string, change func(*http.Request)) (int, string) {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Host, r.RemoteAddr = "127.0.0.1:8080", "127.0.0.1:40000"
		r.Header.Set("Content-Type", "application/json")
		if change != nil {
			change(r)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const good = `{"partition":3,"from":5,"to":9,"reason":"lost"}`
	for _, host := range []string{"localhost:8080", "[::1]:8080", "127.0.0.1"} {
		code, body := ask(skip, good, func(r *http.Request) { r.Host = host })
		if code != 200 || !strings.Contains(body, `"skipped_offsets": 4`) {
			t.Errorf("%s: %d %s", host, code, body)
		}
	}
	// A node that listens at one address, which is not loopback, has nobody else to take commands from.
	at := func(own, from string) func(*http.Request) {
		return func(r *http.Request) {
			r.Host, r.RemoteAddr = "localhost", from
			*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey,
				net.Addr(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(own)))))
		}
	}
	for own, from := range map[string]string{"10.0.0.5:8080": "10.0.0.5:40000", "[fd00::5]:8080": "[fd00::5]:40000"} {
		if code, body := ask(skip, good, at(own, from)); code != 200 {
			t.Errorf("%s from %s: %d %s", own, from, code, body)
		}
		got = got[:len(got)-1]
	}
	if code, _ := ask(resume, `{"partition":3}`, nil); code != 200 {
		t.Errorf("resume: %d", code)
	}
	if code, _ := ask(skip, `{"partition":3,"sink":"events","from":5,"to":9,"reason":"lost"}`, nil); code != 200 {
		t.Errorf("of raw events: %d", code)
	}
	want := "[{3 false  5 9 lost  {   }} {3 false  5 9 lost  {   }} {3 false  5 9 lost  {   }} " +
		"{3 true  0 0   {   }} {3 false events 5 9 lost  {   }}]"
	if fmt.Sprint(got) != want {
		t.Fatalf("%v, want %s", got, want)
	}
	for name, change := range map[string]func(*http.Request){
		"origin":       func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:8080") },
		"null origin":  func(r *http.Request) { r.Header.Set("Origin", "null") },
		"browser":      func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") },
		"other name":   func(r *http.Request) { r.Host = "rebound.example:8080" },
		"other host":   func(r *http.Request) { r.Host = "10.0.0.7:8080" },
		"a proxy":      func(r *http.Request) { r.Header.Set("X-Forwarded-For", "127.0.0.1") },
		"the network":  func(r *http.Request) { r.RemoteAddr = "10.0.0.7:40000" },
		"no such host": func(r *http.Request) { r.Host = "" },
		"a neighbour":  at("10.0.0.5:8080", "10.0.0.7:40000"),
	} {
		// Under a foreign name nobody gets anything at all.
		want := http.StatusForbidden
		if name == "other name" || name == "other host" {
			want = http.StatusMisdirectedRequest
		}
		if code, _ := ask(skip, good, change); code != want {
			t.Errorf("%s: %d", name, code)
		}
	}
	for _, body := range []string{``, `null`, `{}`, `[]`, `{"partition":3}`, `{"partition":3,"to":9}`,
		`{"partition":3,"from":5}`, `{"from":5,"to":9}`, `{"partition":3,"from":5,"to":9,"too":9}`,
		`{"partition":3,"from":5,"to":9} {}`, `{"partition":4294967299,"from":5,"to":9}`} {
		if code, _ := ask(skip, body, nil); code != http.StatusBadRequest {
			t.Errorf("%.60s: %d", body, code)
		}
	}
	if code, _ := ask(skip, good, func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}); code != form {
		t.Errorf("a form: %d", code)
	}
	large := http.StatusBadRequest
	if form == http.StatusUnsupportedMediaType {
		large = http.StatusRequestEntityTooLarge
	}
	if code, _ := ask(skip, `{"partition":3,"from":5,"to":9,"reason":"`+strings.Repeat("x", maxCommand)+`"}`,
		nil); code != large {
		t.Errorf("a large body: %d", code)
	}
	if code, _ := ask(resume, good, nil); code != http.StatusBadRequest {
		t.Error("resume takes offsets")
	}
	r := httptest.NewRequest(http.MethodGet, skip, nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
	if code, _ := ask(resume, `{"partition":3,"sink":"events"}`, nil); code != http.StatusBadRequest {
		t.Error("resume takes a sink")
	}
	if len(got) != 5 {
		t.Fatalf("commands that were refused were carried out: %v", got)
	}
	err = fmt.Errorf("%w: no", status.ErrRefused)
	if code, body := ask(skip, good, nil); code != http.StatusConflict || !strings.Contains(body, "refused: no") {
		t.Errorf("refused: %d %s", code, body)
	}
	err = errors.New("unknown")
	if code, _ := ask(skip, good, nil); code != http.StatusBadGateway {
		t.Errorf("unknown: %d", code)
	}
}
