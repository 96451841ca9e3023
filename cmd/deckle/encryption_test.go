package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestEncryption goes the operator's way: a key for a folder that was in use, another key, and the way back.
func TestEncryption(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(path(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	call := func(want int, line string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(context.Background(), strings.Fields(line), &out, &errs); code != want {
			t.Fatalf("%s: exit %d, want %d: %s", line, code, want, errs.String())
		}
		return out.String(), errs.String()
	}
	configure := func(encryption string) string {
		write("deckle.yaml", "node: a\ndata_dir: "+path("data")+`
cluster: {nodes: [{name: a, address: "127.0.0.1:1"}]}
kafka: {brokers: ["127.0.0.1:1"]}
delta: {path: `+path("lake")+"}\n"+encryption)
		return " --config " + path("deckle.yaml")
	}
	matches := func(text, pattern string) {
		t.Helper()
		if !regexp.MustCompile(pattern).MatchString(text) {
			t.Errorf("%q does not match %s", text, pattern)
		}
	}
	id1, _ := call(0, "encryption keygen --out "+path("key1"))
	id2, _ := call(0, "encryption keygen --out "+path("key2"))
	id1, id2 = strings.TrimSpace(id1), strings.TrimSpace(id2)
	if info, err := os.Stat(path("key1")); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("the key file: %v, %v", info.Mode(), err)
	}
	write("data/identity", "{}\n")
	write("data/wal/0000000000000001.wal", "DECKLWAL")
	write("data/wal/LOCK", "")
	write("data/snapshots/send-0-1/OPTIONS-000001", "[Version]")
	write("data/lost", "something else")

	out, _ := call(0, "encryption status"+configure(""))
	matches(out, `^KEY +USE +FILES +BYTES\nplain +3 +20\nother +1 +14\n$`)
	_, text := call(2, "encryption rewrite"+configure(""))
	matches(text, "has no encryption.keys")

	given := configure("encryption: {keys: [{file: " + path("key1") + "}]}\n")
	_, text = call(1, "encryption rewrite"+given)
	matches(text, "a file is not sealed: .*identity, and 3 in all. Nothing was changed.*--accept-plain")
	out, _ = call(0, "encryption status"+given)
	matches(out, id1+` +new files +0 +0\nplain +3 .*\nother .*\n\n3 files do not have the first key`)
	out, _ = call(0, "encryption rewrite --accept-plain"+given)
	matches(out, `^[34] files were rewritten, \d+ bytes\n$`)
	out, _ = call(0, "encryption status"+given)
	matches(out, `^KEY .*\n`+id1+` +new files +3 .*\nplain +0 +0\n$`)

	given = configure("encryption: {keys: [{file: " + path("key2") + "}]}\n")
	_, text = call(1, "encryption rewrite"+given)
	matches(text, "wrong or missing key.*needed "+id1+".*given "+id2)
	given = configure("encryption: {keys: [{file: " + path("key2") + "}, {file: " + path("key1") + "}]}\n")
	out, _ = call(0, "encryption rewrite --json"+given)
	var done struct{ Files, Bytes int }
	if err := json.Unmarshal([]byte(out), &done); err != nil || done.Files != 3 || done.Bytes == 0 {
		t.Errorf("%s: %v", out, err)
	}
	given = configure("encryption: {keys: [{file: " + path("key2") + "}], new_files: plain}\n")
	out, _ = call(0, "encryption rewrite"+given)
	matches(out, "^3 files")
	if b, err := os.ReadFile(path("data/identity")); string(b) != "{}\n" {
		t.Errorf("the way back has left %q, %v", b, err)
	}
	out, _ = call(0, "encryption status --json"+configure(""))
	var keys struct {
		Keys  []struct{ ID, Use string }
		Plain struct{ Files int }
	}
	if err := json.Unmarshal([]byte(out), &keys); err != nil || len(keys.Keys) != 0 || keys.Plain.Files != 2 {
		t.Errorf("%s: %v", out, err)
	}
}
