package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"deckle/node/tap"
)

// What a tap cannot be asked for is refused before anything is opened.
func TestTapQueries(t *testing.T) {
	b := tap.NewBoard(time.Now)
	h := NewHandler(newFakeSource(), Options{Gate: patientGate(), Tap: b})
	for _, query := range []string{"", "stage=pebble", "stage=row&partition=1", "stage=letter&session=a",
		"stage=source&for=0s", "stage=source&for=11m", "stage=source&for=x", "stage=source&sample=0",
		"stage=source&sample=x",
		"stage=source&partition=-1", "stage=source&partition=x", "stage=source&session=", "stage=source&clear=perhaps",
		"stage=source&colour=red", "stage=%zz"} {
		if w := ask(h, http.MethodGet, "/api/v1/tap?"+query, ""); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	if b.Watched(tap.Stages...) {
		t.Error("a tap stands open")
	}
}

// A tap begins with who shows it, ends when its time is over, and says how much has passed. It is on record before
// anything is shown; only an administrator sees records as they came.
func TestTapRoles(t *testing.T) {
	g := newGuarded(t)
	lines := func(text string) (out []map[string]any) {
		for line := range strings.Lines(text) {
			var l map[string]any
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			out = append(out, l)
		}
		return out
	}
	for _, x := range []struct {
		role, query string
		code        int
	}{
		{"viewer", "stage=source&for=100ms", http.StatusForbidden},
		{"analyst/welt", "stage=source&for=100ms", http.StatusForbidden},
		{"analyst", "stage=source&for=100ms", http.StatusOK},
		{"operator", "stage=source&for=100ms&clear=true", http.StatusForbidden},
		{"admin", "stage=session&for=100ms&clear=true", http.StatusOK},
	} {
		w := g.as(x.role, http.MethodGet, "/api/v1/tap?"+x.query, "")
		if w.Code != x.code {
			t.Errorf("%s %s: %d %s", x.role, x.query, w.Code, w.Body)
			continue
		}
		last := g.lines(t)[g.count(t)-1]
		if x.code != http.StatusOK {
			if last.Result != "denied" {
				t.Errorf("%s %s: %+v", x.role, x.query, last)
			}
			continue
		}
		if args, _ := json.Marshal(last.Args); last.Verb != verbTap || last.Result != "ok" ||
			!strings.Contains(string(args), "for=100ms") {
			t.Errorf("%s %s: %+v", x.role, x.query, last)
		}
		got := lines(w.Body.String())
		head, _ := got[0]["tap"].(map[string]any)
		end, _ := got[len(got)-1]["tap"].(map[string]any)
		if head["stage"] == nil || head["leads"] == nil || end["ends"] != "its time is over" ||
			end["seen"] != float64(0) {
			t.Errorf("%s", w.Body)
		}
	}
}
