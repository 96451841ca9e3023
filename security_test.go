package deckle

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A promise on the page of security is worth what shows it: each row names a test or a make target that exists.
func TestSecurityPage(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	tests := allTests(t)
	name := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") || line == "| promise | shown by |" {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "|"), "|")
		names := name.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(names) == 0 {
			t.Errorf("nothing shows: %s", line)
		}
		for _, n := range names {
			target, isTarget := strings.CutPrefix(n[1], "make ")
			if isTarget && !strings.Contains(string(makefile), "\n"+target+":") {
				t.Errorf("there is no make target %s", target)
			}
			if !isTarget && !tests[n[1]] {
				t.Errorf("there is no test %s", n[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows were found: are the tables still tables?", rows)
	}
}

// allTests returns the names of all tests and fuzz targets of the tree.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	all, declared := map[string]bool{}, regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() != "." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		code, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(code, -1) {
			all[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
