package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/front"
	"deckle/node/status"
	"deckle/node/tap"
)

// ask is a request from this machine, as a command is, with a body where the method takes one.
func ask(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "127.0.0.1:8080", "127.0.0.1:40000"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func commandHandler(err error) http.Handler {
	return NewHandler(newFakeSource(), Options{Gatherer: prometheus.NewRegistry(), Gate: patientGate(),
		Now:        func() time.Time { return testNow },
		Mover:      &fakeMover{err: err},
		Encryption: noKeys, Config: noConfig, Letters: &fakeLetters{err: err},
		Tap: tap.NewBoard(time.Now), Suppressions: &fakeList{err: err},
		AddPartitions: func(_ context.Context, q status.AddPartitions) (*status.PartitionsAdded, error) {
			return &status.PartitionsAdded{To: q.To}, err
		},
		Tables: func(context.Context, *status.TableRequest) (*status.TableOutcome, error) {
			return &status.TableOutcome{Table: "events"}, err
		},
		Command: func(_ context.Context, c status.Command) (status.Outcome, error) {
			return status.Outcome{Next: c.To}, err
		}})
}

func noKeys() (any, error) { return map[string]any{"keys": []any{}}, nil }

// What each row of the table is asked with to answer well.
var bodies = map[string]string{
	"/api/v1/partitions/skip":   `{"partition":3,"from":5,"to":9,"reason":"lost"}`,
	"/api/v1/partitions/resume": `{"partition":3}`,
	"/api/v1/partitions/add":    `{"to":9,"from":6}`,
	"/api/v1/logout":            `{}`,

	"/api/v1/cluster/transfer": `{"shard":0,"to":"b"}`,
	"/api/v1/cluster/drain":    `{"node":"b"}`,
	"/api/v1/cluster/undrain":  `{"node":"b"}`,
	"/api/v1/upgrade/finalize": `{}`,

	"/api/v1/tables/restore":     `{"table":"events","version":3,"rows":"gone"}`,
	"/api/v1/tables/forget-gaps": `{"table":"sessions"}`,

	"/api/v1/letters/replay": `{"letters":[{"key":"web_clicks/3/17","place":"0/5"}],"dry_run":true}`,
	"/api/v1/letters/edit":   `{"letters":[{"key":"web_clicks/3/17"}],"value":"{}"}`,
	"/api/v1/letters/purge":  `{"letters":[{"key":"web_clicks/3/17"}]}`,

	"/api/v1/suppressions/add":    `{"user_ids":["7"],"session_ids":["s"]}`,
	"/api/v1/suppressions/remove": `{"user_ids":["7"]}`,
	"/api/v1/suppressions/check":  `{"session_ids":["s"]}`,
	"/api/v1/suppressions/repair": `{}`,
}

func noConfig() (values any, yaml string) { return []string{}, "" }

func pathOf(path string) string {
	if path == "/api/v1/letters/show" {
		return path + "?key=web_clicks%2F3%2F17"
	}
	if path == "/api/v1/tap" {
		return path + "?stage=source&for=100ms"
	}
	if path == "/api/v1/sessions" || path == "/api/session" {
		return path + "?id=s%2F1"
	}
	return strings.ReplaceAll(path, rest, "s%2F1")
}

// Every row of the table answers under its path. Under the one from before /api/v1 it gives the same, byte by byte, and
// says which one has come in its place: whoever read it yesterday goes on.
func TestEveryRoute(t *testing.T) {
	h := commandHandler(nil)
	for _, r := range routes {
		if r.login { // there is nothing to log in to
			if code := ask(h, r.method, pathOf(r.path), bodies[r.path]).Code; code != http.StatusNotFound {
				t.Errorf("without authentication %s: %d", r.path, code)
			}
			continue
		}
		got := ask(h, r.method, pathOf(r.path), bodies[r.path])
		if got.Code != http.StatusOK || got.Header().Get("Deprecation") != "" {
			t.Errorf("%s %s: %d %s, %v", r.method, r.path, got.Code, got.Body, got.Header())
		}
		for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FROB"} {
			code := ask(h, m, pathOf(r.path), bodies[r.path]).Code
			if own := m == r.method || m == "HEAD" && r.method == "GET"; own != (code == 200) ||
				!own && code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", m, r.path, code)
			}
		}
		if r.old == "" {
			continue
		}
		was := ask(h, r.method, pathOf(r.old), bodies[r.path])
		if was.Code != http.StatusOK || was.Body.String() != got.Body.String() ||
			was.Header().Get("Content-Type") != got.Header().Get("Content-Type") {
			t.Errorf("%s %s: %d %s\nwant %s", r.method, r.old, was.Code, was.Body, got.Body)
		}
		successor := "<" + strings.TrimSuffix(r.path, "/"+rest) + `>; rel="successor-version"`
		if was.Header().Get("Deprecation") != "true" || was.Header().Get("Link") != successor {
			t.Errorf("%s: %v, want a link to %s", r.old, was.Header(), successor)
		}
		bad := ask(h, "DELETE", pathOf(r.old), "")
		if e := decode[oldProblem](t, bad.Body.String()); bad.Code != http.StatusMethodNotAllowed || e.Error == "" ||
			bad.Header().Get("Deprecation") != "true" || bad.Header().Get("Content-Type") != "application/json" {
			t.Errorf("DELETE %s: %d %s", r.old, bad.Code, bad.Body)
		}
	}
	// Without somebody who carries commands out, or looks at keys, there are none.
	for _, r := range routes {
		code := ask(testHandler(newFakeSource()), r.method, pathOf(r.path), bodies[r.path]).Code
		absent := r.command || r.keys || r.login || r.list || r.tables || r.config || r.letters ||
			r.taps || r.cluster ||
			r.adds
		if absent != (code == http.StatusNotFound) {
			t.Errorf("without commands %s: %d", r.path, code)
		}
	}
}

// What is wrong is told in the form of RFC 9457, so that a client needs to know one form, and the log and the client
// know the request by one name. The older paths tell it as they did.
func TestProblems(t *testing.T) {
	const skip, good = "/partitions/skip", `{"partition":3,"from":5,"to":9}`
	long := strings.Repeat("x", 256)
	seen := map[string]bool{}
	ids := map[string]bool{}
	for _, c := range []struct {
		id, method, path, old, body string
		err                         error
		want, wantOld               int
		detail                      string
	}{
		{"bad-request", "GET", "/api/v1/sessions/" + long, "/api/session/" + long, "", nil, 400, 400, "1 to 255 bytes"},
		{"bad-request", "GET", "/api/v1/sessions", "/api/session", "", nil, 400, 400, "one id is needed"},
		{"not-found", "GET", "/api/v1/sessions/x", "/api/session/x", "", nil, 404, 404, "no such session"},
		{"not-found", "GET", "/api/v1/x", "/api/x", "", nil, 404, 404, "no such path"},
		{"method", "PUT", "/api/v1/status", "/api/status", "", nil, 405, 405, "only GET, HEAD"},
		{"bad-request", "POST", "/api/v1" + skip, "/api" + skip, "{}", nil, 400, 400, `"partition" is missing`},
		{"too-large", "POST", "/api/v1" + skip, "/api" + skip, `{"reason":"` + strings.Repeat("x", maxCommand) + `"}`,
			nil, 413, 400, "too large"},
		{"refused", "POST", "/api/v1" + skip, "/api" + skip, good, fmt.Errorf("%w: no", status.ErrRefused), 409, 409,
			"refused: no"},
		{"no-leader", "POST", "/api/v1" + skip, "/api" + skip, good, fmt.Errorf("%w: ask again", status.ErrNoLeader),
			503, 409, "refused: ask again"},
		{"outcome-unknown", "POST", "/api/v1" + skip, "/api" + skip, good, context.DeadlineExceeded, 502, 502,
			"deadline exceeded"},
	} {
		h := commandHandler(c.err)
		w := ask(h, c.method, c.path, c.body)
		p := decode[problem](t, w.Body.String())
		if w.Code != c.want || p.Status != c.want || p.Type != "urn:deckle:problem:"+c.id || p.Title == "" ||
			!strings.Contains(p.Detail, c.detail) || !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(p.Request) ||
			ids[p.Request] || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %.60s: %d %s", c.method, c.path, w.Code, w.Body)
		}
		seen[c.id], ids[p.Request] = true, true
		w = ask(h, c.method, c.old, c.body)
		if o := decode[oldProblem](t, w.Body.String()); w.Code != c.wantOld || !strings.Contains(o.Error, c.detail) ||
			strings.Contains(w.Body.String(), "urn:") || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %.60s: %d %s", c.method, c.old, w.Code, w.Body)
		}
	}
	h := commandHandler(nil)
	r := httptest.NewRequest(http.MethodPost, "/api/v1"+skip, strings.NewReader(good))
	r.Host, r.RemoteAddr = "127.0.0.1", "127.0.0.1:1"
	for id, change := range map[string]func(){
		"media-type": func() {},
		"forbidden":  func() { r.Header.Set("Origin", "null") },
	} {
		change()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if p := decode[problem](t, w.Body.String()); p.Status != problems[id].status || w.Code != p.Status {
			t.Errorf("%s: %s", id, w.Body)
		}
		r.Header.Del("Origin")
		seen[id] = true
	}
	src := newFakeSource()
	src.replicas[0].err = context.Canceled
	if p := decode[problem](t, ask(testHandler(src), "GET", "/api/v1/analytics", "").Body.String()); p.Status != 500 ||
		p.Type != "urn:deckle:problem:internal" || strings.Contains(p.Detail, "canceled") {
		t.Errorf("%+v", p)
	}
	seen["internal"] = true
	h = NewHandler(newFakeSource(), Options{Gate: patientGate(), Encryption: func() (any, error) {
		return nil, errors.New("open /var/lib/deckle/1.sst: denied")
	}})
	if p := decode[problem](t, ask(h, "GET", "/api/v1/encryption", "").Body.String()); p.Status != 500 ||
		strings.Contains(p.Detail, "/var/lib") {
		t.Errorf("%+v", p)
	}
	seen["kafka-failing"] = true                                            // TestLetters
	seen["host-unknown"], seen["too-many-requests"] = true, true            // TestGate
	seen["unauthenticated"], seen["role"], seen["brand"] = true, true, true // TestEveryRole
	seen["audit-unavailable"], seen["issuer-away"] = true, true             // TestAuditUnavailable, TestIssuer
	for id := range problems {
		if !seen[id] {
			t.Errorf("nothing shows %s", id)
		}
	}
}

// docs/operations.md has the tables of routes and of problems, word for word. DECKLE_WRITE_DOCS=1 writes them there.
func TestRoutesPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("| method | path | before /api/v1 | role | if held to brands | class | in the audit log | what |\n" +
		"|---|---|---|---|---|---|---|---|\n")
	for _, r := range routes {
		old := ""
		if r.old != "" {
			old = "`" + r.old + "`"
		}
		verb := r.verb
		if verb != "" {
			verb = "`" + verb + "`"
		}
		role := r.need().String()
		for name, path := range keyOpen {
			if path == r.path {
				role += ", unless `http.open` has `" + name + "`"
			}
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s | %s | %s |\n", r.method, r.path, old, role, r.brands, r.class,
			verb, r.about)
	}
	writeTable(t, "| method | path |", b.String())
	b.Reset()
	b.WriteString("| class | per second | at once |\n|---|---|---|\n")
	for c := front.Probe; c <= front.Login; c++ {
		perSecond, burst := c.Limit()
		fmt.Fprintf(&b, "| %s | %v | %v |\n", c, perSecond, burst)
	}
	writeTable(t, "| class | per second |", b.String())
	b.Reset()
	b.WriteString("| problem | status | what it says |\n|---|---|---|\n")
	ids := make([]string, 0, len(problems))
	for id := range problems {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		if d := problems[a].status - problems[b].status; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, id := range ids {
		fmt.Fprintf(&b, "| `%s` | %d | %s |\n", id, problems[id].status, problems[id].title)
	}
	writeTable(t, "| problem | status |", b.String())
}

// writeTable compares the table of docs/operations.md that begins with head, and writes it if it is asked to.
func writeTable(t *testing.T, head, table string) {
	t.Helper()
	const page = "../../docs/operations.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), head)
	_, after, ok2 := strings.Cut(head+rest, "\n\n")
	if !ok || !ok2 {
		t.Fatalf("%s has no table %q", page, head)
	}
	want := before + table + "\n" + after
	if want == string(text) {
		return
	}
	if os.Getenv("DECKLE_WRITE_DOCS") == "" {
		t.Errorf("%s differs from the table; DECKLE_WRITE_DOCS=1 go test ./node/web writes it. Want:\n%s", page, table)
	} else if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The page's policy lets its own style and script run, and nothing else: no inline handler, no style attribute, no
// eval. Its hashes are those of what is served, and what the script writes into the page needs no exception.
func TestPagePolicy(t *testing.T) {
	w := ask(testHandler(newFakeSource()), "GET", "/", "")
	policy, body := w.Header().Get("Content-Security-Policy"), w.Body.String()
	for _, bad := range []string{"unsafe", "*", "http:", "https:", "script-src 'self'"} {
		if strings.Contains(policy, bad) {
			t.Errorf("%s in %s", bad, policy)
		}
	}
	for _, element := range []string{"style", "script"} {
		if strings.Count(body, "<"+element) != 1 || strings.Count(body, "<"+element+">") != 1 ||
			strings.Count(body, "</"+element+">") != 1 {
			t.Errorf("the page must have one <%s> without attributes: the policy has its hash", element)
		}
		if want := element + "-src " + hashOf(page, element) + ";"; !strings.Contains(policy, want) {
			t.Errorf("%s lacks %s", policy, want)
		}
	}
	a, b := hashOf([]byte("<style>a</style>"), "style"), "'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"
	if a != b {
		t.Errorf("hash of a: %s, want %s", a, b)
	}
	for _, bad := range []string{`style=`, "javascript:", "eval(", "new Function", "document.write"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if m := regexp.MustCompile(`<[a-z]+[^>]* on[a-z]+=`).FindString(body); m != "" {
		t.Errorf("the page has an inline handler: %s", m)
	}
	for _, api := range regexp.MustCompile(`(?:get|fetch|send)\('(api[^'?]*)`).FindAllStringSubmatch(body, -1) {
		if !slices.ContainsFunc(routes, func(r route) bool { return r.path == "/"+api[1] }) {
			t.Errorf("the page asks for %s, which is no path of the table", api[1])
		}
	}
}
