package access

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func auditLines(t *testing.T, path string) (out []Line) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var l Line
		if err := json.Unmarshal(line, &l); err != nil {
			t.Logf("no line: %q", line)
			continue
		}
		out = append(out, l)
	}
	return out
}

// Lines are whole, in order, under the user's own eyes alone, and go on after a restart that has left half a line.
func TestAudit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit", "audit.jsonl")
	now := testNow
	o := AuditOptions{File: path, Node: "a", MaxBytes: 1 << 20, Keep: 2, Now: func() time.Time { return now }}
	a, err := OpenAudit(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Write(Line{Request: "1", Verb: "partitions.skip", Args: map[string]any{"to": 9}}, true); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"time":"2026`) // a crash
	_ = f.Close()
	if a, err = OpenAudit(o); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Write(Line{Request: "2", Target: "a\nb\u2028"}, false); err != nil {
		t.Fatal(err)
	}
	got := auditLines(t, path)
	if len(got) != 2 || got[0].Request != "1" || got[1].Target != "a\nb\u2028" || got[1].Node != "a" ||
		!got[1].Time.Equal(testNow) {
		t.Errorf("%+v", got)
	}
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
}

// Its size is bounded, and only its own files are taken away.
func TestAuditRotates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	other := filepath.Join(dir, "audit-keep.jsonl")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	now := testNow
	a, err := OpenAudit(AuditOptions{File: path, MaxBytes: 1000, Keep: 2, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for range 40 {
		now = now.Add(time.Millisecond)
		if err := a.Write(Line{Detail: strings.Repeat("x", 200)}, false); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "audit-2*.jsonl"))
	if len(files) != 2 {
		t.Errorf("%d files were put aside: %v", len(files), files)
	}
	for _, f := range append(files, path) {
		if info, err := os.Stat(f); err != nil || info.Size() > 1000 {
			t.Errorf("%s: %+v, %v", f, info, err)
		}
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("another file is gone: %v", err)
	}
}

// Strangers who are refused cannot fill the disk, and how many there were is told.
func TestAuditOfRefusals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	now := testNow
	a, err := OpenAudit(AuditOptions{File: path, MaxBytes: 1 << 20, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for range 1000 {
		a.Refused(Line{Status: 401})
	}
	now = now.Add(time.Second)
	a.Refused(Line{Status: 403})
	got := auditLines(t, path)
	if len(got) != refusalsPerSecond+1 || got[refusalsPerSecond].Args["refusals_without_a_line"] != 990.0 {
		t.Errorf("%d lines, the last %+v", len(got), got[len(got)-1])
	}
}

// What cannot be written is an error, the log says so, and it goes on once it can be written.
func TestAuditFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	path := filepath.Join(dir, "audit.jsonl")
	a, err := OpenAudit(AuditOptions{File: path, MaxBytes: 1 << 20, Now: func() time.Time { return testNow }})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	_ = a.file.Close() // as a disk that has gone
	if err := a.Write(Line{Request: "1"}, true); err == nil || a.Failing() == nil {
		t.Fatalf("no error, failing %v", a.Failing())
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(Line{Request: "2"}, true); err == nil {
		t.Error("no error without the folder")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(Line{Request: "3"}, true); err != nil || a.Failing() != nil {
		t.Errorf("%v, failing %v", err, a.Failing())
	}
	if got := auditLines(t, path); len(got) != 1 || got[0].Request != "3" {
		t.Errorf("%+v", got)
	}
}
