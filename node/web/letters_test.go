package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"deckle/node/status"
)

// fakeLetters remembers what is asked of it.
type fakeLetters struct {
	err     error
	queries []status.LetterQuery
	shown   []status.LetterRef
	done    []status.LetterRequest
}

func (f *fakeLetters) Do(_ context.Context, q *status.LetterRequest) (*status.LetterOutcome, error) {
	f.done = append(f.done, *q)
	return &status.LetterOutcome{Done: len(q.Letters), Letters: []status.LetterResult{}}, f.err
}

func (f *fakeLetters) List(_ context.Context, q *status.LetterQuery) (*status.LetterPage, error) {
	f.queries = append(f.queries, *q)
	return &status.LetterPage{Letters: []status.Letter{}}, f.err
}

func (f *fakeLetters) Show(_ context.Context, ref status.LetterRef) (*status.Letter, error) {
	f.shown = append(f.shown, ref)
	return &status.Letter{Key: ref.Key}, f.err
}

// What is not understood is asked of nobody; what Kafka does not give is no answer without letters.
func TestLetters(t *testing.T) {
	f := &fakeLetters{}
	h := NewHandler(newFakeSource(), Options{Gate: patientGate(), Letters: f})
	for _, query := range []string{"from=yesterday", "reason=rude", "state=shut", "limit=0", "limit=10001",
		"partition=x", "colour=red", "limit=%zz"} {
		if w := ask(h, http.MethodGet, "/api/v1/letters?"+query, ""); w.Code != 400 || len(f.queries) > 0 {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	w := ask(h, http.MethodGet, "/api/v1/letters?from=2026-11-30T10:00:00Z&partition=3&reason=too_late&state=open"+
		"&place=1%2F7&limit=5", "")
	if w.Code != 200 || len(f.queries) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if q := f.queries[0]; q.From.Hour() != 10 || *q.Partition != 3 || q.Reason != "too_late" ||
		q.State != status.LetterOpen || q.Place != "1/7" || q.Limit != 5 {
		t.Errorf("%+v", q)
	}
	if w := ask(h, http.MethodGet, "/api/v1/letters/show", ""); w.Code != 400 {
		t.Errorf("no key: %d %s", w.Code, w.Body)
	}
	f.err = errors.New("the account lacks the right Read")
	for _, path := range []string{"/api/v1/letters", "/api/v1/letters/show?key=a"} {
		w := ask(h, http.MethodGet, path, "")
		if w.Code != 503 || !strings.Contains(w.Body.String(), "kafka-failing") ||
			!strings.Contains(w.Body.String(), "lacks the right") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	f.err = fmt.Errorf("%w: there is no letter", status.ErrRefused)
	if w := ask(h, http.MethodGet, "/api/v1/letters/show?key=a", ""); w.Code != 404 {
		t.Errorf("no letter: %d %s", w.Code, w.Body)
	}
}

// A verb that is not understood is carried out by nobody; one that is has its asker, and an audit line with keys.
func TestLetterVerbs(t *testing.T) {
	g := newGuarded(t)
	const replay, edit, purge = "/api/v1/letters/replay", "/api/v1/letters/edit", "/api/v1/letters/purge"
	many := strings.Repeat(`{"key":"a"},`, status.MaxReview) + `{"key":"a"}`
	for name, x := range map[string]struct{ path, body string }{
		"nothing":            {replay, `{}`},
		"no key":             {replay, `{"letters":[{"place":"0/1"}]}`},
		"too many":           {replay, `{"letters":[` + many + `]}`},
		"a value":            {replay, `{"letters":[{"key":"a"}],"value":"x"}`},
		"no value":           {edit, `{"letters":[{"key":"a"}]}`},
		"two to edit":        {edit, `{"letters":[{"key":"a"},{"key":"b"}],"value":"x"}`},
		"a purge once more":  {purge, `{"letters":[{"key":"a"}],"again":true}`},
		"an unknown element": {purge, `{"letters":[{"key":"a"}],"all":true}`},
	} {
		if w := g.as("operator", http.MethodPost, x.path, x.body); w.Code != 400 || len(g.letters.done) > 0 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	w := g.as("operator", http.MethodPost, edit, `{"letters":[{"key":"a","place":"0/1"}],"value":"{}","again":true}`)
	if w.Code != 200 || len(g.letters.done) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	q := g.letters.done[0]
	if q.Op != status.LetterEdit || string(q.Value) != "{}" || !q.Again || q.Asker.Principal == "" ||
		q.Letters[0].Place != "0/1" {
		t.Errorf("%+v", q)
	}
	for err, want := range map[error]int{fmt.Errorf("%w: no", status.ErrRefused): 409, errors.New("unknown"): 502} {
		g.letters.err = err
		if w := g.as("operator", http.MethodPost, purge, `{"letters":[{"key":"a"}]}`); w.Code != want {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
}
