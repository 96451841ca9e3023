package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// files are what is written, by path below deploy.
func files() map[string][]byte {
	return map[string][]byte{
		"prometheus/deckle.rules.yml": rulesFile(alerts()),
		"grafana/deckle.json":         dashboardFile(),
	}
}

func main() {
	dir := flag.String("dir", "deploy", "folder to write to")
	flag.Parse()
	for name, text := range files() {
		path := filepath.Join(*dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			fail(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "dashboards:", err)
	os.Exit(1)
}
