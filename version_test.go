package deckle

import (
	"regexp"
	"runtime"
	"testing"
)

func TestBuild(t *testing.T) {
	b := Build()
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[a-z0-9.]+)?$`).MatchString(b.Version) {
		t.Errorf("version %q: the file VERSION must have one such as 1.2.3 or 1.2.3-dev", b.Version)
	}
	if b.Go != runtime.Version() {
		t.Errorf("go %q", b.Go)
	}
	stamped = "9.9.9"
	defer func() { stamped = "" }()
	if got := Build().Version; got != "9.9.9" {
		t.Errorf("stamped version %q", got)
	}
}

func TestString(t *testing.T) {
	for want, b := range map[string]BuildInfo{
		"deckle 1.2.3 go1.26.0 linux/amd64": {Version: "1.2.3", Go: "go1.26.0", OS: "linux", Arch: "amd64"},
		"deckle 1.2.3-dev abc (modified) go1.26.0 linux/arm64": {
			Version: "1.2.3-dev", Revision: "abc", Modified: true, Go: "go1.26.0", OS: "linux", Arch: "arm64"},
	} {
		if got := b.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
