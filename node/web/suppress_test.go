package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"deckle/node/status"
)

// fakeList remembers what is asked of it.
type fakeList struct {
	done []status.ListRequest
	from []int
	err  error
}

func (f *fakeList) Hash(*status.ListRequest) string { return "9f" }

func (f *fakeList) Do(_ context.Context, q *status.ListRequest) (*status.ListOutcome, error) {
	f.done = append(f.done, *q)
	return &status.ListOutcome{IDs: q.Len(), Hash: "9f", Whole: true}, f.err
}

func (f *fakeList) Page(from, n int) (*status.ListPage, error) {
	f.from = append(f.from, from, n)
	return &status.ListPage{From: from, Listings: []status.ListedReader{}}, f.err
}

// What is not understood does nothing, and no answer and no line shows an id: they come in the body, and go no further
// than to the list.
func TestSuppressionBodies(t *testing.T) {
	g := newGuarded(t)
	const add = "/api/v1/suppressions/add"
	many := strings.Repeat(`"secret",`, status.MaxListIDs) + `"secret"`
	for name, x := range map[string]struct {
		path, body string
		want       int
	}{
		"nothing":         {add, `{}`, 400},
		"numbers":         {add, `{"user_ids":[4711]}`, 400},
		"one text":        {add, `{"user_ids":"secret"}`, 400},
		"another field":   {add, `{"users":["secret"]}`, 400},
		"a name":          {add, `{"user_ids":["secret"],"secret":1}`, 400},
		"what follows":    {add, `{"user_ids":["secret"]} secret`, 400},
		"cut":             {add, `{"user_ids":["secret`, 400},
		"too many":        {add, `{"user_ids":[` + many + `]}`, 400},
		"too large":       {add, `{"user_ids":["` + strings.Repeat("secret", maxListBody/6) + `"]}`, 413},
		"ids to a repair": {"/api/v1/suppressions/repair", `{"user_ids":["secret"]}`, 400},
	} {
		w := g.as("admin", http.MethodPost, x.path, x.body)
		if w.Code != x.want || strings.Contains(w.Body.String(), "secret") || len(g.list.done) > 0 {
			t.Errorf("%s: %d %s, %d done", name, w.Code, w.Body, len(g.list.done))
		}
	}
	if w := g.as("admin", http.MethodPost, add, `{"user_ids":["secret"]}`, func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}); w.Code != http.StatusForbidden || len(g.list.done) > 0 {
		t.Errorf("from a browser: %d %s", w.Code, w.Body)
	}
	w := g.as("admin", http.MethodPost, add, `{"user_ids":["secret","b"],"session_ids":["secret"]}`)
	if w.Code != http.StatusOK || len(g.list.done) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	q := g.list.done[0]
	if q.Op != status.ListAdd || !slices.Equal(q.Users, []string{"secret", "b"}) || len(q.Sessions) != 1 ||
		q.Asker.Role != "admin" || q.Asker.Name != "admin" || len(q.Asker.Request) != 16 {
		t.Errorf("%+v", q)
	}
	g.list.err = fmt.Errorf("%w: no", status.ErrRefused)
	if w := g.as("admin", http.MethodPost, add, `{"user_ids":["secret"]}`); w.Code != http.StatusConflict {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	g.list.err = errors.New("away")
	if w := g.as("admin", http.MethodPost, add, `{"user_ids":["secret"]}`); w.Code != http.StatusBadGateway {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	var got []string
	for _, l := range g.lines(t) {
		if text := fmt.Sprint(l); strings.Contains(text, "secret") {
			t.Errorf("the audit log has %s", text)
		}
		if l.Verb == "suppressions.add" {
			got = append(got, fmt.Sprint(l.Result, " ", l.Args["ids"], " ", l.Args["hash"]))
		}
	}
	want := []string{"begun 3 9f", "ok 3 9f", "begun 1 9f", "refused 1 9f", "begun 1 9f", "unknown 1 9f"}
	if !slices.Equal(got, want) {
		t.Errorf("the audit log has %q, want %q", got, want)
	}
}

// The list is read in pages, by an administrator, and who has read it is written down.
func TestSuppressionPages(t *testing.T) {
	g := newGuarded(t)
	ask := func(query string) *httptest.ResponseRecorder {
		return g.as("admin", http.MethodGet, "/api/v1/suppressions"+query, "")
	}
	for _, bad := range []string{"?from=-1", "?from=x", "?limit=0", "?limit=1001", "?from=%zz"} {
		if w := ask(bad); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
	ask("")
	w := ask("?from=2000&limit=10")
	if w.Code != http.StatusOK || !slices.Equal(g.list.from, []int{0, 1000, 2000, 10}) {
		t.Errorf("%d %s, asked %v", w.Code, w.Body, g.list.from)
	}
	lines := g.lines(t)
	if l := lines[len(lines)-1]; l.Verb != "suppressions.list" || l.Args["from"] != 2000.0 {
		t.Errorf("%+v", l)
	}
	g.list.err = errors.New("open /var/lib/deckle: denied")
	if w := ask(""); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "/var/lib") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
