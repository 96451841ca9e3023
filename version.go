// Package deckle says which version of Deckle a binary is. The file VERSION has the number; whatever `go build` makes
// knows it, and `make build VERSION=…` may stamp another one.
package deckle

import (
	_ "embed"
	"runtime"
	"runtime/debug"
	"strings"
)

//go:embed VERSION
var file string

// stamped is set by the linker (-X deckle.stamped=1.2.3), or empty.
var stamped string

// BuildInfo is what a binary knows of its own build; its JSON is what `/version` and `deckle version --json` show.
type BuildInfo struct {
	Version  string `json:"version"`            // 1.2.3, or 1.2.3-dev between two releases
	Revision string `json:"revision,omitempty"` // Git commit; empty if it was built outside a repository or by `go run`
	Modified bool   `json:"modified,omitempty"` // the tree differed from that commit
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// Build returns the build of the running binary.
func Build() BuildInfo {
	b := BuildInfo{Version: stamped, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if b.Version == "" {
		b.Version = strings.TrimSpace(file)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String returns the line that `deckle --version` prints.
func (b BuildInfo) String() string {
	words := []string{"deckle", b.Version}
	if b.Revision != "" {
		words = append(words, b.Revision)
	}
	if b.Modified {
		words = append(words, "(modified)")
	}
	return strings.Join(append(words, b.Go, b.OS+"/"+b.Arch), " ")
}
