package config

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// A tail has the newest lines, whole and in order, and neither more of them nor more bytes than it may.
func TestLogTail(t *testing.T) {
	var tail LogTail
	if b := tail.Bytes(); len(b) != 0 {
		t.Fatalf("%q", b)
	}
	n := 0
	line := func(size int) string { return fmt.Sprintf("%06d %s\n", n, strings.Repeat("x", size)) }
	for _, phase := range []struct{ lines, size, want int }{
		{10, 100, 10}, {TailLines, 1, TailLines}, {3, 100_000, TailLines},
		{100, 100_000, TailBytes / len(line(100_000))}, {TailLines + 7, 1, TailLines}, {1, TailBytes - 20, 1},
	} {
		for range phase.lines {
			if k, err := tail.Write([]byte(line(phase.size))); err != nil || k == 0 {
				t.Fatal(k, err)
			}
			n++
		}
		got := bytes.Split(bytes.TrimSuffix(tail.Bytes(), []byte("\n")), []byte("\n"))
		if len(got) != phase.want && (phase.want != 1 || len(got) > 20) {
			t.Errorf("%+v: %d lines", phase, len(got))
		}
		for i := range got {
			if want := fmt.Sprintf("%06d ", n-len(got)+i); !bytes.HasPrefix(got[i], []byte(want)) {
				t.Fatalf("%+v: line %d is %.10q, want %s", phase, i, got[i], want)
			}
		}
		if size := len(tail.Bytes()); size > TailBytes || size != tail.bytes {
			t.Errorf("%+v: %d bytes, counted %d", phase, size, tail.bytes)
		}
	}
	_, _ = tail.Write(bytes.Repeat([]byte("y"), TailBytes+1))
	if b := tail.Bytes(); len(b) != TailBytes {
		t.Errorf("%d bytes of a line that is too long", len(b))
	}
}
