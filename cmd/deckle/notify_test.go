//go:build unix

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A node tells the service manager that it runs, that it is alive, how it is, and that it ends.
func TestNotify(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raft := ln.Addr().String()
	_ = ln.Close()
	dir, err := os.MkdirTemp("", "n") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	t.Setenv("NOTIFY_SOCKET", socket)
	file := filepath.Join(dir, "deckle.yaml")
	if err := os.WriteFile(file, []byte(`
node: a
data_dir: `+dir+`/data
cluster: {nodes: [{name: a, address: "`+raft+`"}]}
kafka: {brokers: ["127.0.0.1:1"]}
delta: {path: `+dir+`/delta}
http: {listen: "127.0.0.1:0"}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, "run", "--config", file)
	await := func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		for {
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			n, err := c.Read(b)
			if err != nil {
				t.Fatalf("no %s: %v", want, err)
			}
			if strings.Contains(string(b[:n]), want) {
				return
			}
		}
	}
	await("READY=1")
	await("WATCHDOG=1")
	await("not ready: ") // there is no broker
	p.signal(syscall.SIGTERM)
	await("STOPPING=1")
	p.wantEnd(exitOK)
}
