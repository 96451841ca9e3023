//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A node's log and state are its user's alone, whatever the umask of the shell and whoever in the process makes a file;
// what an earlier version has left open to others is tightened at the start.
func TestRunKeepsItsFilesToItself(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raft := ln.Addr().String()
	_ = ln.Close()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	for path, mode := range map[string]fs.FileMode{data: 0o755, data + "/other": 0o775} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	loose := filepath.Join(data, "other", "file")
	if err := os.WriteFile(loose, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "deckle.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
node: a
data_dir: %s
cluster: {nodes: [{name: a, address: %q}]}
kafka: {brokers: ["127.0.0.1:1"]}
delta: {path: %s/delta}
http: {listen: "127.0.0.1:0"}
`, data, raft, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	before := syscall.Umask(0) // which the process inherits
	p := startProcess(t, "run", "--config", config)
	syscall.Umask(before)
	p.await("user's alone now")
	p.await("node runs")
	n := 0
	if err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has gone meanwhile
		}
		if info, err := d.Info(); err == nil {
			n++
			if info.Mode()&0o077 != 0 {
				t.Errorf("%s: %v", path, info.Mode())
			}
		}
		return nil
	}); err != nil || n < 6 {
		t.Errorf("%d files: %v", n, err)
	}
	p.signal(syscall.SIGTERM)
	p.wantEnd(exitOK)
}
