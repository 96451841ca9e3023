package config

import (
	"bytes"
	"sync"
)

// LogTail keeps the last lines that are written to it, for a support bundle. It is an io.Writer, safe for concurrent
// use, of which each Write is one line or several whole ones, as a logger makes them. The zero value keeps
// TailLines lines and TailBytes bytes at most.
type LogTail struct {
	mu    sync.Mutex
	lines [][]byte // a ring, once it has TailLines
	next  int      // where the oldest one is
	bytes int
}

// What a LogTail keeps at most.
const (
	TailLines = 5000
	TailBytes = 4 << 20
)

// Write implements io.Writer. It never fails.
func (t *LogTail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := bytes.Clone(p)
	if len(line) > TailBytes {
		line = line[len(line)-TailBytes:]
	}
	if len(t.lines) < TailLines {
		t.lines = append(t.lines, line)
	} else {
		t.bytes -= len(t.lines[t.next])
		t.lines[t.next] = line
		t.next = (t.next + 1) % TailLines
	}
	t.bytes += len(line)
	for i := t.next; t.bytes > TailBytes; i = (i + 1) % len(t.lines) { // the oldest ones; the newest is never reached
		t.bytes -= len(t.lines[i])
		t.lines[i] = nil
	}
	return len(p), nil
}

// Bytes returns what is kept, the oldest first.
func (t *LogTail) Bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b bytes.Buffer
	b.Grow(t.bytes)
	for i := range t.lines {
		b.Write(t.lines[(t.next+i)%len(t.lines)])
	}
	return b.Bytes()
}
