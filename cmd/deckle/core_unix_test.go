//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestCores: a process with keys leaves no core dump, in which they would stand. It goes for whatever this process
// does afterwards.
func TestCores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deckle.yaml")
	text := "node: a\ndata_dir: /nowhere/data\nencryption: {keys: [{file: /nowhere/key}]}\n" +
		"cluster: {nodes: [{name: a, address: \"127.0.0.1:1\"}]}\nkafka: {brokers: [\"127.0.0.1:1\"]}\n" +
		"delta: {path: /nowhere/lake}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"run", "--config", path}, &out, &errs)
	if code != exitFailure || !bytes.Contains(errs.Bytes(), []byte("encryption.keys[0]")) {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("core dumps may have %d bytes, %v", limit.Cur, err)
	}
}
