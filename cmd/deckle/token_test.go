package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"deckle/node/access"
)

// What token makes is what a node takes, and what it takes back a node does not take any more. The secret is told once,
// on standard output alone, so that it can be piped; the file is its user's alone and does not have it.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	a := access.New(access.Options{Tokens: true})
	role := func(token string) access.Role {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.SetTokens(text); err != nil {
			t.Fatal(err)
		}
		p, err := a.Login(t.Context(), token, access.From{})
		if err != nil {
			return access.Nobody
		}
		return p.Role
	}
	create := func(args string) string {
		t.Helper()
		code, out, err := deckleRun(strings.Fields("token create --file " + file + " " + args)...)
		if code != exitOK || strings.Count(out, "\n") != 1 || strings.Contains(err, strings.TrimSpace(out)) {
			t.Fatalf("%s: exit %d, %s%s", args, code, out, err)
		}
		return strings.TrimSpace(out)
	}
	admin := create("--role admin --ttl 8h --name x")
	held := create("--role analyst --brand welt --brand bild")
	if role(admin) != access.Admin || role(held) != access.Analyst {
		t.Errorf("%s, %s", role(admin), role(held))
	}
	text, _ := os.ReadFile(file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 ||
		strings.Contains(string(text), admin[13:]) || strings.Contains(string(text), held[13:]) {
		t.Errorf("%v %v: %s", info.Mode(), err, text)
	}
	list, err := access.ParseTokens(text)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %d tokens", err, len(list))
	}
	if d := list[0].Expires.Sub(list[0].Created); d != 8*time.Hour {
		t.Errorf("it lives for %v", d)
	}
	if d := list[1].Expires.Sub(list[1].Created); d != access.DefaultTTL ||
		strings.Join(list[1].Brands, " ") != "welt bild" {
		t.Errorf("it lives for %v, %v", d, list[1].Brands)
	}
	code, out, _ := deckleRun("token", "list", "--file", file)
	if code != exitOK || !strings.Contains(out, list[0].ID) || !strings.Contains(out, `["welt" "bild"]`) ||
		strings.Contains(out, list[0].Hash) {
		t.Errorf("exit %d: %s", code, out)
	}
	code, out, _ = deckleRun("token", "list", "--file", file, "--json")
	var shown []map[string]any
	if err := json.Unmarshal([]byte(out), &shown); err != nil || code != exitOK || len(shown) != 2 ||
		shown[1]["role"] != "analyst" || strings.Contains(out, list[0].Hash) {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	// Those who may read the file stay those whom an operator has let, and a link to it stays one.
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if code, out, err := deckleRun("token", "revoke", list[0].ID, "--file", link); code != exitOK {
		t.Fatalf("exit %d, %s%s", code, out, err)
	}
	if role(admin) != access.Nobody || role(held) != access.Analyst {
		t.Errorf("after it was revoked: %s, %s", role(admin), role(held))
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	before, _ := os.ReadFile(file)
	for line, want := range map[string]int{
		"create --file F":                              exitUsage, // no role
		"create --file F --role root":                  exitUsage,
		"create --file F --role none":                  exitUsage,
		"create --file F --role viewer --ttl 0d":       exitUsage,
		"create --file F --role viewer --ttl 3651d":    exitUsage,
		"create --file F --role viewer --ttl -1h":      exitUsage,
		"create --file F --role viewer --ttl soon":     exitUsage,
		"create --file F --role admin --brand welt":    exitUsage,
		"create --role admin":                          exitUsage,
		"create --file " + dir + "/no/f --role viewer": exitFailure,
		"list --file " + dir + "/no":                   exitFailure,
		"list":                                         exitUsage,
		"revoke --file F":                              exitUsage,
		"revoke k3f9x2ab --file F":                     exitFailure,
	} {
		args := strings.Fields("token " + strings.ReplaceAll(line, " F", " "+file))
		if code, out, err := deckleRun(args...); code != want || out != "" || err == "" {
			t.Errorf("%s: exit %d, want %d; %s%s", line, code, want, out, err)
		}
	}
	if after, _ := os.ReadFile(file); string(after) != string(before) {
		t.Error("a command that failed has changed the file")
	}
	left, _ := filepath.Glob(filepath.Join(dir, "tokens.*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, err := deckleRun("token", "create", "--file", file, "--role", "viewer"); code != exitFailure ||
		!strings.Contains(err, "line 1") {
		t.Errorf("a file that is none: exit %d, %s", code, err)
	}
}

// Of several commands at once on one file, which does not even exist yet, none undoes what another one has done: a
// token that was printed counts, and one that was revoked does not.
func TestTokensAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	const workers, each = 8, 6
	var all sync.WaitGroup
	var mu sync.Mutex
	want := map[string]bool{}
	for range workers {
		all.Go(func() {
			for i := range each {
				code, out, err := deckleRun("token", "create", "--file", file, "--role", "viewer")
				if code != exitOK {
					t.Errorf("exit %d: %s", code, err)
					return
				}
				id := strings.TrimPrefix(out, "dkl_")[:8]
				if i%2 == 1 {
					if code, _, err := deckleRun("token", "revoke", id, "--file", file); code != exitOK {
						t.Errorf("exit %d: %s", code, err)
					}
					continue
				}
				mu.Lock()
				want[id] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	list, err := readTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if !want[k.ID] {
			t.Errorf("%s was revoked, and is there", k.ID)
		}
		delete(want, k.ID)
	}
	if len(want) > 0 {
		t.Errorf("lost: %v", want)
	}
	if left, _ := filepath.Glob(file + "?*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// Whoever has the lock, for example an older command that hangs, is waited for.
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := tryLock(f); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	before, _ := os.ReadFile(file)
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	err = changeTokens(ctx, file, true, func([]*access.Token) ([]*access.Token, error) { return nil, nil })
	if after, _ := os.ReadFile(file); !errors.Is(err, context.DeadlineExceeded) || string(after) != string(before) {
		t.Errorf("under the lock of another one: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if code, _, err := deckleRun("token", "create", "--file", file, "--role", "viewer"); code != exitOK {
		t.Errorf("afterwards: exit %d, %s", code, err)
	}
}
