package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/status"
	"deckle/node/web"
)

// someLetters are open letters of a node; the third of each ten cannot be replayed.
type someLetters struct {
	n    int
	done []string
	last status.LetterRequest
}

func (s *someLetters) List(_ context.Context, q *status.LetterQuery) (*status.LetterPage, error) {
	from, _ := strconv.Atoi(q.Place)
	page := &status.LetterPage{Letters: []status.Letter{}}
	for i := from; i < s.n; i++ {
		if len(page.Letters) == 400 || q.Limit > 0 && len(page.Letters) == q.Limit {
			page.Next = strconv.Itoa(i)
			break
		}
		at := time.Unix(1_790_000_000, 0).UTC()
		page.Letters = append(page.Letters, status.Letter{Key: "t/0/" + strconv.Itoa(i), Place: "0/" + strconv.Itoa(i),
			Reason: "too_late", Detail: "\x1b[31mred", RejectedAt: &at, Shown: "whole", State: status.LetterOpen})
	}
	return page, nil
}

func (s *someLetters) Show(_ context.Context, ref status.LetterRef) (*status.Letter, error) {
	value := "{\"a\":\"\x1b\"}"
	return &status.Letter{Key: ref.Key, Reason: "too_late", Value: &value, State: status.LetterOpen}, nil
}

func (s *someLetters) Do(_ context.Context, q *status.LetterRequest) (*status.LetterOutcome, error) {
	s.last = *q
	out := &status.LetterOutcome{DryRun: q.DryRun, Letters: []status.LetterResult{}}
	for i, l := range q.Letters {
		x := status.LetterResult{Key: l.Key, Outcome: status.LetterDone}
		switch {
		case strings.HasSuffix(l.Key, "3"):
			x.Outcome, x.Why = status.LetterRefused, "it would be too late again"
			out.Refused++
		case !q.DryRun && i >= 300:
			x.Outcome = status.LetterLeft
			out.Left++
		default:
			out.Done++
			if !q.DryRun {
				s.done = append(s.done, l.Key+" "+l.Place)
			}
		}
		out.Letters = append(out.Letters, x)
	}
	return out, nil
}

func withLetters(t *testing.T, s *someLetters) string {
	t.Helper()
	h := web.NewHandler(withSession{}, web.Options{Gatherer: prometheus.NewRegistry(), Letters: s})
	server := httptest.NewServer(http.HandlerFunc(h.ServeHTTP))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// Letters are listed and shown without what a terminal would obey; a value comes byte by byte if it is asked for.
func TestDLQList(t *testing.T) {
	s := &someLetters{n: 900}
	address := withLetters(t, s)
	code, stdout, stderr := runCommand("dlq", "list", "--address", address, "--limit", "700")
	if code != 0 || strings.Count(stdout, "\n") != 701 || strings.ContainsRune(stdout, 0x1b) ||
		!strings.Contains(stderr, "there may be more") {
		t.Errorf("%d, %d lines, %s", code, strings.Count(stdout, "\n"), stderr)
	}
	code, stdout, _ = runCommand("dlq", "show", "t/0/1", "--address", address)
	if code != 0 || strings.ContainsRune(stdout, 0x1b) || !strings.Contains(stdout, "t/0/1") {
		t.Errorf("%d %q", code, stdout)
	}
	if code, stdout, _ := runCommand("dlq", "show", "t/0/1", "--address", address, "--value"); code != 0 ||
		stdout != "{\"a\":\"\x1b\"}" {
		t.Errorf("%d %q", code, stdout)
	}
	for _, args := range [][]string{{"list", "--limit", "0"}, {"list", "--from", "then"}, {"show"}, {"replay"},
		{"replay", "a", "--reason", "too_late"}, {"purge"}, {"edit", "a"}, {"edit", "a", "--file", "/nowhere"},
		{"edit", "a", "--file", "-"}} {
		if code, _, stderr := runCommand(append(append([]string{"dlq"}, args...), "--address", address)...); code != 2 {
			t.Errorf("%v: %d %s", args, code, stderr)
		}
	}
}

// A verb shows what would become of each letter, asks, and does what it has shown: nothing without a yes, all with it.
func TestDLQReplay(t *testing.T) {
	s := &someLetters{n: 1200}
	address := withLetters(t, s)
	choose := []string{"dlq", "replay", "--reason", "too_late", "--address", address}
	code, _, stderr := runCommand(append(choose, "--dry-run")...)
	if code != 0 || len(s.done) > 0 || !strings.Contains(stderr, "again: 1080. Decided") ||
		!strings.Contains(stderr, "t/0/3: refused: it would be too late again") ||
		!strings.Contains(stderr, "and 100 more") {
		t.Errorf("dry run: %d %s", code, stderr)
	}
	if code, _, stderr := runCommand(choose...); code != 1 || len(s.done) > 0 ||
		!strings.Contains(stderr, "not confirmed") {
		t.Errorf("not confirmed: %d %s", code, stderr)
	}
	code, stdout, stderr := runCommand(append(choose, "--yes")...)
	slices.Sort(s.done)
	if code != 0 || len(s.done) != 1080 || len(slices.Compact(s.done)) != 1080 ||
		!strings.Contains(stdout, "replayed: 1080;") || s.done[0] != "t/0/0 0/0" {
		t.Errorf("%d, %d done, %s%s", code, len(s.done), stdout, stderr)
	}
	if code, _, stderr := runCommand("dlq", "purge", "t/0/3", "--address", address, "--yes"); code != 1 ||
		!strings.Contains(stderr, "nothing has changed") {
		t.Errorf("refused: %d %s", code, stderr)
	}
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("{\"a\":1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runCommand("dlq", "edit", "t/0/5", "--address", address, "--yes", "--file",
		file); code != 0 || string(s.last.Value) != `{"a":1}` || s.last.DryRun {
		t.Errorf("edit: %d %s, %+v", code, stderr, s.last)
	}
}
