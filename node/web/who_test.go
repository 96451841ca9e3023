package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/access"
	"deckle/node/front"
	"deckle/node/status"
	"deckle/node/tap"
)

// guarded is a handler with a token for each role, and for two that are held to the brand welt.
type guarded struct {
	http.Handler
	tokens  map[string]string // by role, with "/welt" behind it for those that are held
	audit   string
	done    []status.Command
	added   []status.AddPartitions
	tables  []*status.TableRequest
	list    *fakeList
	letters *fakeLetters
	mover   *fakeMover
	local   string // the token of this machine
}

func newGuarded(t *testing.T, open ...string) *guarded {
	t.Helper()
	g := &guarded{tokens: map[string]string{}, audit: filepath.Join(t.TempDir(), "audit.jsonl")}
	var list []*access.Token
	add := func(name string, role access.Role, brands []string) {
		tok, secret, err := access.NewToken(role, brands, name, testNow, 100*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		list, g.tokens[name] = append(list, tok), secret
	}
	for r := access.Viewer; r <= access.Admin; r++ {
		add(r.String(), r, nil)
	}
	add("viewer/welt", access.Viewer, []string{"welt"})
	add("analyst/welt", access.Analyst, []string{"welt"})
	text, err := access.FormatTokens(list)
	if err != nil {
		t.Fatal(err)
	}
	now, ticks := func() time.Time { return testNow }, 0
	a := access.New(access.Options{Tokens: true, Now: now})
	if err := a.SetTokens(text); err != nil {
		t.Fatal(err)
	}
	g.local = a.NewLocal()
	audit, err := access.OpenAudit(access.AuditOptions{File: g.audit, Node: "a", MaxBytes: 64 << 20,
		Now: func() time.Time { // so slow that each refusal has its line
			ticks++
			return testNow.Add(time.Duration(ticks) * time.Second)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = audit.Close() })
	g.list, g.letters, g.mover = &fakeList{}, &fakeLetters{}, &fakeMover{}
	g.Handler = NewHandler(newFakeSource(), Options{Gatherer: prometheus.NewRegistry(), Now: now, Gate: patientGate(),
		Access: a, Audit: audit, Open: func() []string { return open }, Encryption: noKeys, Suppressions: g.list,
		Config: noConfig, Letters: g.letters, Tap: tap.NewBoard(now), Mover: g.mover,
		AddPartitions: func(_ context.Context, q status.AddPartitions) (*status.PartitionsAdded, error) {
			g.added = append(g.added, q)
			return &status.PartitionsAdded{To: q.To}, nil
		},
		Tables: func(_ context.Context, q *status.TableRequest) (*status.TableOutcome, error) {
			g.tables = append(g.tables, q)
			return &status.TableOutcome{}, nil
		},
		Command: func(_ context.Context, c status.Command) (status.Outcome, error) {
			g.done = append(g.done, c)
			return status.Outcome{}, nil
		}})
	return g
}

// as asks in a role, "" for nobody, from another machine.
func (g *guarded) as(role, method, path, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "localhost", "10.0.0.7:40000"
	r.Header.Set("Content-Type", "application/json")
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+g.tokens[role])
	}
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

// did is how many verbs were carried out.
func (g *guarded) did() int {
	return len(g.done) + len(g.added) + len(g.list.done) + len(g.tables) + len(g.letters.done) + len(g.mover.moved) +
		len(g.mover.drained) + g.mover.finalized
}

func (g *guarded) lines(t *testing.T) (out []access.Line) {
	t.Helper()
	text, err := os.ReadFile(g.audit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var l access.Line
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, l)
	}
	return out
}

// count is the number of lines in the audit log.
func (g *guarded) count(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(g.audit)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// Every row of the table, old path and new, as every role, with and without brands, with every key that leaves
// something open: who may not is told so and gets nothing, and nothing is done.
func TestEveryRole(t *testing.T) {
	for _, to := range routes {
		// A row that somebody has added in haste must not be open to everybody by having left something out.
		if to.public == (to.role > access.Nobody) {
			t.Errorf("%s %s: say either which role it takes or that it is public", to.method, to.path)
		}
		if changes := to.method != http.MethodGet; changes && !to.public &&
			(to.role < access.Operator || to.brands != closed || to.verb == "") {
			t.Errorf("%s %s changes something: that takes an operator, and a line in the audit log", to.method, to.path)
		}
		if to.class == front.Person && (to.role < access.Analyst || to.verb == "") {
			t.Errorf("%s %s shows a person: that takes an analyst, and a line in the audit log", to.method, to.path)
		}
	}
	if r := (&route{path: "/new"}); r.need() != access.Admin || r.brands != closed {
		t.Errorf("a row that says nothing takes %s", r.need())
	}
	for _, open := range [][]string{{}, {"livez", "readyz"}, {"livez", "readyz", "metrics"}} {
		g := newGuarded(t, open...)
		roles := []string{""}
		for name := range g.tokens {
			roles = append(roles, name)
		}
		for _, to := range routes {
			for _, path := range []string{to.path, to.old} {
				if path == "" {
					continue
				}
				for _, name := range roles {
					isOpen := slices.ContainsFunc(open, func(k string) bool { return keyOpen[k] == to.path })
					roleName, _, held := strings.Cut(name, "/")
					role, _ := access.ParseRole(roleName)
					want := http.StatusOK
					switch {
					case to.public || isOpen:
					case name == "":
						want = http.StatusUnauthorized
					case role < to.role || held && to.brands == closed:
						want = http.StatusForbidden
					case held && strings.Contains(to.path, "/sessions"):
						want = http.StatusNotFound // the session is of another brand
					}
					body := bodies[to.path]
					if to.path == "/api/v1/login" {
						body = `{"token":"` + g.tokens["viewer"] + `"}`
					}
					changes := to.command || to.adds || to.tables || to.cluster ||
						(to.list || to.letters) && to.method == http.MethodPost
					before, lines := g.did(), g.count(t)
					w := g.as(name, to.method, pathOf(path), body)
					if w.Code != want {
						t.Errorf("open %v: %s %s as %q: %d %s, want %d", open, to.method, path, name, w.Code, w.Body,
							want)
					}
					did := g.did() - before
					if verb := changes && want == http.StatusOK; did > 0 != verb {
						t.Errorf("%s as %q: %d verbs are carried out", path, name, did)
					}
					// Each request that changes something or shows a person, and each that is refused, has its lines.
					wrote, wantLines := g.count(t)-lines, 0
					switch {
					case changes && want == http.StatusOK:
						wantLines = 2
					case to.verb != "" || want == http.StatusUnauthorized || want == http.StatusForbidden:
						wantLines = 1
					}
					if wrote != wantLines {
						t.Errorf("%s %s as %q: %d lines in the audit log, want %d", to.method, path, name, wrote,
							wantLines)
					}
					if want == http.StatusForbidden || want == http.StatusUnauthorized {
						if strings.Contains(w.Body.String(), "shard") || strings.Contains(w.Body.String(), "deckle_") {
							t.Errorf("%s as %q shows %s", path, name, w.Body)
						}
					}
					if w.Code == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") != "Bearer" {
						t.Errorf("%s: %v", path, w.Header())
					}
				}
			}
		}
		// What is left open shows no reasons to those who have not said who they are.
		ready := g.as("", "GET", "/readyz", "").Body.String()
		if len(open) > 0 && (strings.Contains(ready, "reasons") || !strings.Contains(ready, `"ready": true`)) {
			t.Errorf("/readyz of nobody: %s", ready)
		}
		if w := g.as("viewer", "GET", "/readyz", ""); !strings.Contains(w.Body.String(), "reasons") {
			t.Errorf("/readyz of a viewer: %s", w.Body)
		}
		if w := g.as("viewer", "GET", "/readyz", "", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer x")
		}); w.Code != http.StatusUnauthorized {
			t.Errorf("a wrong token where nobody needs one: %d", w.Code)
		}
	}
}

// A role that is held to a brand gets what is of that brand: its figures and their sum, and nothing that has no brand.
func TestBrands(t *testing.T) {
	g := newGuarded(t)
	a := decode[Analytics](t, g.as("viewer/welt", "GET", "/api/v1/analytics", "").Body.String())
	if len(a.Today.Brands) != 1 || a.Today.Brands[0].Key != "welt" || a.Today.Total != a.Today.Brands[0].Measures ||
		a.Today.Total.Sessions != 5 || a.All.Total.Sessions != 10 || a.Today.Devices != nil || a.All.Cities != nil {
		t.Errorf("%+v", a)
	}
	text := g.as("viewer/welt", "GET", "/api/v1/analytics", "").Body.String()
	if !strings.Contains(text, `"devices": null`) || strings.Contains(text, "bild") {
		t.Errorf("%s", text)
	}
	a = decode[Analytics](t, g.as("viewer", "GET", "/api/v1/analytics", "").Body.String())
	if a.Today.Total.Sessions != 11 {
		t.Errorf("a held role has changed what others get: %+v", a.Today.Total)
	}
	none := g.as("analyst/welt", "GET", "/api/v1/sessions/nothing", "")
	other := g.as("analyst/welt", "GET", "/api/v1/sessions/s%2F1", "")
	p, q := decode[problem](t, none.Body.String()), decode[problem](t, other.Body.String())
	if p.Request, q.Request = "", ""; p != q || none.Code != http.StatusNotFound {
		t.Errorf("a session of another brand: %+v; one that is not there: %+v", q, p)
	}
}

// Who looked at whom, who did what, and who was turned away stands in the audit log, with the outcome, and no secret.
func TestAuditLines(t *testing.T) {
	g := newGuarded(t)
	g.as("analyst", "GET", "/api/v1/sessions/s%2F1", "")
	g.as("operator", "POST", "/api/v1/partitions/skip", bodies["/api/v1/partitions/skip"])
	g.as("viewer", "POST", "/api/v1/partitions/skip", bodies["/api/v1/partitions/skip"])
	g.as("", "GET", "/api/v1/status", "", func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+g.tokens["admin"]+"x")
	})
	g.as("", "POST", "/api/v1/login", `{"token":"`+g.tokens["admin"][:20]+`"}`)
	g.as("viewer", "GET", "/api/v1/status", "") // figures have no line
	g.as("", "POST", "/api/v1/login", `{"token":"`+g.tokens["viewer"]+`"}`)
	g.as("admin", "GET", "/api/v1/status", "", func(r *http.Request) { r.Host = "rebound.example" })
	var got []string
	for _, l := range g.lines(t) {
		if l.Node != "a" || l.From != "10.0.0.7" || len(l.Request) != 16 {
			t.Errorf("%+v", l)
		}
		who, _, _ := strings.Cut(l.Who, ":")
		got = append(got, fmt.Sprintf("%s %s %s %s %d %s", who, l.Role, l.Verb, l.Target, l.Status, l.Result))
	}
	want := []string{
		"token analyst session.read s/1 200 ok",
		"token operator partitions.skip partition 3 0 begun",
		"token operator partitions.skip partition 3 200 ok",
		"token viewer POST /api/v1/partitions/skip  403 denied",
		"nobody none GET /api/v1/status  401 denied",
		"nobody none POST /api/v1/login  401 denied",
		"token viewer login  200 ok",
		"nobody none GET other  421 denied",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	text, _ := os.ReadFile(g.audit)
	for role, token := range g.tokens {
		if strings.Contains(string(text), token[13:]) || strings.Contains(string(text), token[:20]) {
			t.Errorf("the log has the token of %s", role)
		}
	}
}

// Without a log that can be written nobody looks at a person, and no verb is carried out; figures go on.
func TestAuditUnavailable(t *testing.T) {
	now := func() time.Time { return testNow }
	file := filepath.Join(t.TempDir(), "audit", "a.jsonl")
	audit, err := access.OpenAudit(access.AuditOptions{File: file, Now: now, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	_ = audit.Close()
	done := 0
	h := NewHandler(newFakeSource(), Options{Gatherer: prometheus.NewRegistry(), Now: now, Gate: patientGate(),
		Audit: audit, Command: func(context.Context, status.Command) (status.Outcome, error) {
			done++
			return status.Outcome{}, nil
		}})
	if w := ask(h, "GET", "/api/v1/sessions/s%2F1", ""); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body) // a closed log is opened again
	}
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	_ = audit.Close()
	for path, body := range map[string]string{"/api/v1/sessions/s%2F1": "", "/api/v1/sessions/none": "",
		"/api/v1/partitions/resume": `{"partition":3}`} {
		method := "GET"
		if body != "" {
			method = "POST"
		}
		w := ask(h, method, path, body)
		if p := decode[problem](t, w.Body.String()); w.Code != 503 || p.Type != problemType+"audit-unavailable" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(h, "GET", "/api/v1/analytics", ""); w.Code != 200 || done != 0 {
		t.Errorf("figures: %d; %d verbs", w.Code, done)
	}
}

// The page's cookie is the token, for reading alone, and no script has it.
func TestLoginCookie(t *testing.T) {
	g := newGuarded(t)
	w := g.as("", "POST", "/api/v1/login", `{"token":"`+g.tokens["operator"]+`"}`)
	cookies := w.Result().Cookies()
	if w.Code != 200 || len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode ||
		cookies[0].Path != "/" || cookies[0].Name != "deckle" {
		t.Fatalf("%d %s %v", w.Code, w.Body, cookies)
	}
	with := func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookies[0].Name, Value: cookies[0].Value}) }
	if w := g.as("", "GET", "/api/v1/whoami", "", with); w.Code != 200 ||
		!strings.Contains(w.Body.String(), `"operator"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := g.as("", "POST", "/api/v1/partitions/resume", `{"partition":3}`, with); w.Code != 401 || len(g.done) > 0 {
		t.Errorf("a cookie carries out a verb: %d %s", w.Code, w.Body)
	}
	if w := g.as("operator", "POST", "/api/v1/partitions/resume", `{"partition":3}`, func(r *http.Request) {
		r.Header.Set("Origin", "http://localhost")
	}); w.Code != 403 || len(g.done) > 0 {
		t.Errorf("a page carries out a verb: %d %s", w.Code, w.Body)
	}
	for _, body := range []string{`{"token":"x"}`, `{}`, `x`, ``, `{"token":"` + strings.Repeat("x", 4000) + `"}`} {
		if w := g.as("", "POST", "/api/v1/login", body); w.Code != 401 && w.Code != 400 ||
			len(w.Result().Cookies()) > 0 {
			t.Errorf("%.20s: %d", body, w.Code)
		}
	}
	if w := g.as("", "POST", "/api/v1/logout", "{}", with, func(r *http.Request) {
		r.Header.Set("Content-Type", "text/plain") // what a form of another host's page can send
	}); w.Code != 415 || len(w.Result().Cookies()) > 0 {
		t.Errorf("a form logs somebody out: %d %s", w.Code, w.Body)
	}
	w = g.as("", "POST", "/api/v1/logout", "{}", with)
	if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("%v", c)
	}
}

// The token of this machine's own commands counts from this machine: over loopback, or from the address that took the
// connection, and not through a proxy, which brings the world's requests over loopback.
func TestLocalToken(t *testing.T) {
	g := newGuarded(t)
	for _, c := range []struct {
		from, own, header string
		want              int
	}{
		{"127.0.0.1:40000", "127.0.0.1:8080", "", 200},
		{"[::1]:40000", "[::1]:8080", "", 200},
		{"10.0.0.1:40000", "10.0.0.1:8080", "", 200},
		{"10.0.0.7:40000", "10.0.0.1:8080", "", 401},
		{"10.0.0.7:40000", "", "", 401},
		{"127.0.0.1:40000", "127.0.0.1:8080", "X-Forwarded-For", 401},
		{"127.0.0.1:40000", "127.0.0.1:8080", "Forwarded", 401},
	} {
		w := g.as("", "GET", "/api/v1/status", "", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+g.local)
			r.RemoteAddr = c.from
			if c.own != "" {
				own := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.own))
				*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, own))
			}
			if c.header != "" {
				r.Header.Set(c.header, "for=10.0.0.9")
			}
		})
		if w.Code != c.want {
			t.Errorf("from %s at %s, %s: %d %s", c.from, c.own, c.header, w.Code, w.Body)
		}
	}
}

// Without authentication loopback is an administrator, and a proxy that nobody has named would make the world that.
func TestProxyWithoutAuthentication(t *testing.T) {
	for _, header := range []string{"X-Forwarded-For", "Forwarded"} {
		for path, want := range map[string]int{"/api/v1/status": 403, "/readyz": 403, "/": 403} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host, r.RemoteAddr = "localhost", "127.0.0.1:1"
			r.Header.Set(header, "for=198.51.100.1")
			w := httptest.NewRecorder()
			testHandler(newFakeSource()).ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s %s: %d", header, path, w.Code)
			}
			w = httptest.NewRecorder()
			NewHandler(newFakeSource(), Options{Insecure: true, Gate: patientGate()}).ServeHTTP(w, r)
			if w.Code != 200 {
				t.Errorf("%s %s, insecure: %d", header, path, w.Code)
			}
		}
	}
}
